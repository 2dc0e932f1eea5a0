"""argv, sorted and translated to Hydra's grammar: config files, overrides, Hydra's flags, and what we do ourselves."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from ..errors import ConfigError, nearest
from .files import SUFFIXES
from .grammar import dashed, undashed

# Hydra's own flags: those with a value after them, what --info takes, and those for which Hydra gets argv as it is.
HYDRA_VALUED = ("--cfg", "-c", "--package", "-p")
HYDRA_INFO = ("all", "config", "defaults", "defaults-tree", "plugins", "searchpath")
HYDRA_ALONE = ("--hydra-help", "--shell-completion", "-sc")
HYDRA_FLAGS = ("--multirun", "-m", "--run", "-r", "--resolve", "--info", "-i", *HYDRA_VALUED, *HYDRA_ALONE)


@dataclass
class CommandLine:
    """argv, sorted: config files, Hydra's flags and overrides, and what we do ourselves."""

    files: list[str] = field(default_factory=list)
    flags: list[str] = field(default_factory=list)
    overrides: list[str] = field(default_factory=list)
    bare: list[str] = field(default_factory=list)  # of the overrides, the keys that were written without dashes
    show: str | None = None
    package: str | None = None
    info: str | None = None
    is_multirun: bool = False
    wants_help: bool = False
    wants_version: bool = False


def translate(argv: list[str]) -> CommandLine:
    """Sort and translate argv. Raises ConfigError with the fix for whatever is not of the grammar, and for unknown keys."""
    command, rest = CommandLine(), list(argv)
    if any(arg in HYDRA_ALONE for arg in rest):
        command.flags = rest
        return command
    command.is_multirun = bool({"-m", "--multirun"} & set(rest))
    previous = ""
    while rest:
        arg = rest.pop(0)
        name, eq, value = arg.partition("=")
        if arg in ("--help", "-h"):
            command.wants_help = True
        elif arg == "--version":
            command.wants_version = True
        elif name in HYDRA_FLAGS:
            _take_flag(command, name, value if eq else None, rest)
        elif arg.endswith(SUFFIXES) and (not eq or Path(arg).is_file()):
            command.files.append(arg)
        elif arg.startswith("--") and len(name) > 2:
            command.overrides.append(dashed(name[2:], value if eq else None, rest[:1]))
        elif arg.startswith("-"):
            raise ConfigError(f"unknown flag {arg}{nearest(arg, HYDRA_FLAGS)}; options are --key=value")
        elif eq:
            command.overrides.append(undashed(arg, command.is_multirun))
            command.bare.append(name.lstrip("+"))
        elif previous.startswith("--") and "=" not in previous:
            raise ConfigError(f"unexpected argument {arg!r}: write {previous}={arg}")
        else:
            command.files.append(arg)  # reading it will say what is wrong
        previous = arg
    if command.package and not command.show:
        raise ConfigError(f"--package goes with --cfg: write --cfg job --package {command.package}")
    return command


def _take_flag(command: CommandLine, name: str, value: str | None, rest: list[str]) -> None:
    if name in HYDRA_VALUED and value is None:
        if not rest:
            raise ConfigError(f"{name} needs a value")
        value = rest.pop(0)
    if name in ("--cfg", "-c"):
        if value not in ("job", "hydra", "all"):
            raise ConfigError(f"{name} must be job, hydra or all, got {value!r}")
        command.show = value
    elif name in ("--package", "-p"):
        command.package = value
    elif name in ("--info", "-i"):
        command.info = value or (rest.pop(0) if rest[:1] and rest[0] in HYDRA_INFO else "all")
        if command.info not in HYDRA_INFO:
            raise ConfigError(f"{name} must be one of {', '.join(HYDRA_INFO)}, got {value!r}{nearest(command.info, HYDRA_INFO)}")
    elif name != "--resolve":
        command.flags += [name] if value is None else [name, value]
