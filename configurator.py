"""From argv to one typed, frozen config: nanoGPT's and Hydra's grammar, one table of names, one story for every error.

    python train_ockham.py [config/FILE.py|.yaml ...] [--key=value ...] [group=name ...] [a.b=value ...] [-m ...]

argv is translated to Hydra's grammar and given to `hydra.main`; inside each job the layers are laid (ockham.configuration.layers)
and the program is called with the result. With dashes a value is one value, typed by its key; without, it is Hydra's, so that
`-m seed=1,2,3` sweeps. Nothing here imports torch: help and errors come at once.
"""

from __future__ import annotations

import copy
import os
import re
import sys
import tempfile
import traceback
import typing
from collections.abc import Callable, Iterator, Mapping
from contextlib import nullcontext
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

from ockham import __version__
from ockham.config import RunConfig
from ockham.configuration.files import CONFIG_DIR, SUFFIXES, read_config
from ockham.configuration.grammar import (
    COMMAND_LINE,
    dashed,
    in_hydra,
    members,
    parse_override,
    parse_value,
    typed_text,
    undashed,
)
from ockham.configuration.keys import ALIASES, real_key
from ockham.configuration.layers import Layer, Provenance, Resolved, last_said, lay, make_layer
from ockham.configuration.sweep import Rehearsal, can_rehearse, job_folder
from ockham.configuration.text import config_as_yaml, explain_key, help_text, section_as_yaml, table
from ockham.errors import ConfigError, OckhamError, UsageError, nearest
from ockham.typed import from_mapping, leaves, to_mapping

__all__ = ["Provenance", "Resolved", "config_as_yaml", "explain", "flat", "parse_flags", "resolve", "run", "run_program"]

# Hydra's own flags: those with a value after them, what --info takes, and those for which Hydra gets argv as it is.
HYDRA_VALUED = ("--cfg", "-c", "--package", "-p")
HYDRA_INFO = ("all", "config", "defaults", "defaults-tree", "plugins", "searchpath")
HYDRA_ALONE = ("--hydra-help", "--shell-completion", "-sc")
HYDRA_FLAGS = ("--multirun", "-m", "--run", "-r", "--resolve", "--info", "-i", *HYDRA_VALUED, *HYDRA_ALONE)
INTERRUPTED = 130
BROKEN_PIPE = 141  # as the shell says of a program that SIGPIPE ended


@dataclass
class CommandLine:
    """argv, sorted: config files, Hydra's flags and overrides, and what we do ourselves."""

    files: list[str] = field(default_factory=list)
    flags: list[str] = field(default_factory=list)
    overrides: list[str] = field(default_factory=list)
    show: str | None = None
    package: str | None = None
    info: str | None = None
    is_multirun: bool = False
    wants_help: bool = False
    wants_version: bool = False


def run(main: Callable[[RunConfig, Provenance], int | None], argv: list[str] | None = None) -> int:
    """Resolve argv and call `main(config, provenance)`, once or, under -m, for every job; the exit code.

    Errors become one line on stderr: 2 for what is written wrong, 1 for what the world lacks or broke, 130 for Ctrl-C.
    """
    given = sys.argv[1:] if argv is None else list(argv)
    return run_program(lambda: _run(main, given), wants_debug(given))


def resolve(argv: list[str]) -> Resolved:
    """The config that argv would run, with its provenance; nothing is run or written."""
    command = translate(argv)
    if command.is_multirun:
        raise ConfigError("a sweep (-m) has no single config: leave -m out and give one value to each key")
    return lay(read_files(command), flags_layer(command.overrides), _compose)


def explain(key: str, argv: list[str]) -> str:
    """A key's value under argv, and what each layer said of it. Raises ConfigError naming the nearest key."""
    return explain_key(key, resolve(argv).provenance)


def flat(config: RunConfig) -> dict[str, Any]:
    """The config as ckpt.pt keeps it: nanoGPT's flat names where it has them, the other keys as nested plain values."""
    nested = to_mapping(config)
    values = {key: value for key, value in nested.items() if not isinstance(value, Mapping)}
    for alias in ALIASES:
        key, index = real_key(alias)
        room, leaf = key.split(".")
        value = nested[room].get(leaf)
        values[alias] = value if index is None or value is None else value[index]
    values |= {"warmup_iters": config.warmup_steps, "min_lr": config.min_lr, "decay_lr": config.scheduler.name != "none"}
    values["lr_decay_iters"] = config.scheduler.decay_steps or config.max_iters
    return values


def run_program(main: Callable[[], int | None], debug: bool) -> int:
    """Call `main` and turn whatever it raises into one line on stderr (with `debug` the traceback too) and an exit code.

    A reader that goes away (`| head`) ends the program without a word.
    """
    try:
        code = _guarded(main, debug)
        sys.stdout.flush()  # here, where a reader that went away can still be dealt with
        return code
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # else Python's own last flush complains
        return BROKEN_PIPE


def _guarded(main: Callable[[], int | None], debug: bool) -> int:
    try:
        return main() or 0
    except BrokenPipeError:
        raise
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return INTERRUPTED
    except SystemExit as stop:
        return stop.code if isinstance(stop.code, int) else 0 if stop.code is None else 1
    except Exception as error:
        if debug:
            traceback.print_exc()
        message, code = story_of(error)
        if not (isinstance(error, UsageError) and os.environ.get("RANK", "0") != "0"):  # every rank would say the same
            print(f"error: {message}", file=sys.stderr)
        return code


def story_of(error: Exception) -> tuple[str, int]:
    """An error in one line, and its exit code."""
    if isinstance(error, OckhamError):
        return one_line(str(error)), error.exit_code
    if type(error).__module__.split(".")[0] in ("hydra", "omegaconf", "antlr4"):
        text = re.sub(r"\s*See https://hydra\.cc\S*( for details)?", "", str(error))
        return one_line(text), UsageError.exit_code
    if isinstance(error, OSError):
        path = f": {error.filename}" if error.filename else ""
        return one_line(f"{error.strerror or error}{path}"), 1
    return one_line(f"{type(error).__name__}: {error} (--debug=True shows where)"), 1


def told(error: Exception) -> tuple[str, type[Exception]]:
    """An error's message, and the class of our own that has its exit code."""
    message, code = story_of(error)
    return message, type(error) if isinstance(error, OckhamError) else ConfigError if code == 2 else OckhamError


def one_line(text: str) -> str:
    """Text with its line breaks turned into spaces."""
    return " ".join(text.split())


def wants_debug(argv: list[str]) -> bool:
    """Whether argv asks for tracebacks; needed before it can be read in full."""
    return any(re.fullmatch(r"(--)?debug=(true|1)|--debug", arg, re.IGNORECASE) for arg in argv)


# ------------------------------------------------------------------------------------------------ argv -> Hydra's grammar


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


# ----------------------------------------------------------------------------------------------------------- into Hydra


def read_files(command: CommandLine) -> list[Layer]:
    """The layers of the config files, in order."""
    return [make_layer("file", name, read_config(name).items()) for name in command.files]


def flags_layer(overrides: list[str]) -> Layer:
    """The layer of a job's overrides."""
    values: list[tuple[str, Any]] = []
    for text in overrides:
        override = parse_override(text)
        if override.is_hydra_override() or override.is_sweep_override():
            continue
        if override.package is not None:
            raise ConfigError(f"{text}: packages (@) are not used here")
        values.append((override.key_or_group, typed_text(override)))
    return make_layer("flag", COMMAND_LINE, values)


def _register() -> None:
    """The defaults, under a name that config.yaml's defaults list can give."""
    from hydra.core.config_store import ConfigStore

    defaults = to_mapping(RunConfig())
    del defaults["rack"]  # resolved from the preset; `rack.plugin.param=` must not meet a list
    ConfigStore.instance().store(name="base_run", node=defaults)


def _compose(choices: list[str]) -> dict[str, Any]:
    """Defaults and groups, composed by Hydra."""
    return copy.deepcopy(_composed(tuple(choices)))


@cache
def _composed(choices: tuple[str, ...]) -> dict[str, Any]:
    from hydra import compose, initialize_config_dir
    from hydra.core.global_hydra import GlobalHydra
    from omegaconf import OmegaConf

    _register()
    is_in_job = GlobalHydra.instance().is_initialized()
    with nullcontext() if is_in_job else initialize_config_dir(str(CONFIG_DIR), version_base="1.3"):
        composed = OmegaConf.to_container(compose("config", overrides=list(choices)))
    return typing.cast(dict[str, Any], composed)


def _run(main: Callable[[RunConfig, Provenance], int | None], argv: list[str]) -> int:
    command = translate(argv)
    if command.wants_help:
        print(help_text())
        return 0
    if command.wants_version:
        print(version_text())
        return 0
    if any(flag in HYDRA_ALONE for flag in command.flags):
        return _hydra_main(lambda _: None, command.flags)
    if command.show == "job":
        return _show(argv, command)
    if command.info:
        return _hydra_main(lambda _: None, [f"--info={command.info}", *command.flags, *command.overrides])
    if command.show:
        package = ["--package", command.package] if command.package else []
        return _hydra_main(lambda _: None, ["--cfg", command.show, *package, *command.flags, *command.overrides])
    if command.is_multirun and int(os.environ.get("WORLD_SIZE", "1")) > 1:
        raise ConfigError("-m does not work under torchrun: start one torchrun for each combination")
    return _jobs(main, command, read_files(command), wants_debug(argv))


def version_text() -> str:
    """Our version and Hydra's."""
    import hydra

    return f"nanoGPT-Ockham {__version__} (Hydra {hydra.__version__})"


def _show(argv: list[str], command: CommandLine) -> int:
    resolved = resolve(argv)
    for note in resolved.provenance.notes:
        print(note, file=sys.stderr)
    if command.package and command.package != "_global_":
        text = section_as_yaml(resolved.config, resolved.provenance, command.package)
    else:
        text = config_as_yaml(resolved.config, resolved.provenance)
    sys.stdout.write(text)
    return 0


def _jobs(main: Callable[[RunConfig, Provenance], int | None], command: CommandLine, files: list[Layer], debug: bool) -> int:
    """The run, or every job of the sweep, inside hydra.main; the first exit code that is not 0.

    A sweep is gone through twice: the first time its jobs are only looked at, so that a mistake in the last costs nothing.
    """
    codes: list[int] = []
    rehearsal: Rehearsal | None = None
    swept = [o.key_or_group for o in map(parse_override, command.overrides) if o.is_sweep_override()]

    def job(_: Any) -> None:
        from hydra.core.hydra_config import HydraConfig
        from omegaconf import OmegaConf

        hydra = HydraConfig.get()
        overrides = typing.cast(list[str], OmegaConf.to_container(hydra.overrides.task, resolve=False))
        subdir = job_folder(hydra.job.num, overrides, swept) if command.is_multirun and "out_dir" not in swept else ""

        def resolved_job() -> Resolved:
            return lay(files, flags_layer(overrides), _compose, subdir)

        if rehearsal:
            name = subdir or job_folder(hydra.job.num, overrides, swept)
            return rehearsal.look_at(name, lambda: resolved_job().config, told)

        def program() -> int | None:
            resolved = resolved_job()
            if os.environ.get("RANK", "0") == "0":
                print(*resolved.provenance.notes, sep="\n", end="\n" * bool(resolved.provenance.notes), flush=True)
            return main(resolved.config, resolved.provenance)

        if subdir:
            print(f"job {subdir}", flush=True)
        codes.append(run_program(program, debug))  # here, because Hydra would print more than a line
        if codes[-1] >= INTERRUPTED:
            raise SystemExit(codes[-1])  # no further jobs

    sweep_dir = []
    if command.is_multirun and can_rehearse(command.overrides):
        rehearsal = Rehearsal()
        with tempfile.TemporaryDirectory() as nowhere:
            _hydra_main(job, [*command.flags, *command.overrides, f"hydra.sweep.dir={in_hydra(nowhere)}"])
        if rehearsal.mistake:
            raise rehearsal.mistake
        rehearsal = None
    if command.is_multirun:
        out_dir = last_said([*files, flags_layer(command.overrides)], "out_dir", RunConfig().out_dir)[0]
        sweep_dir = [] if "${" in str(out_dir) or "out_dir" in swept else [f"hydra.sweep.dir={in_hydra(str(out_dir))}"]
    _hydra_main(job, [*command.flags, *sweep_dir, *command.overrides])
    return next((code for code in codes if code), 0)


def _hydra_main(job: Callable[[Any], None], argv: list[str]) -> int:
    """Hand translated argv to hydra.main. HYDRA_FULL_ERROR makes it raise, so that the errors are told by us."""
    import hydra
    from hydra.core.utils import env_override

    _register()

    def task(config: Any) -> None:
        job(config)

    before = sys.argv
    sys.argv = [before[0], *argv]
    try:
        with env_override({"HYDRA_FULL_ERROR": "1"}):
            hydra.main(str(CONFIG_DIR), "config", version_base="1.3")(task)()
    finally:
        sys.argv = before
    return 0


# --------------------------------------------------------------------------------------------------- programs without Hydra


def parse_flags(cls: type, argv: list[str], usage: str = "") -> Any:
    """An instance of a frozen config dataclass from config files and `--key=value` or `key=value`.

    `--help` prints `usage` and the keys, and exits with 0. Raises ConfigError for whatever cannot be used, naming the nearest
    key.
    """
    known, values = leaves(cls), dict[str, Any]()
    if "--help" in argv or "-h" in argv:
        print("\n".join(part for part in (usage, table((cls.__doc__ or "").strip(), cls, "--")) if part))
        raise SystemExit(0)
    for previous, arg, following in zip(["", *argv], argv, [*argv[1:], "-"], strict=False):
        key, eq, text = arg.removeprefix("--").partition("=")
        if not eq and not arg.startswith("-"):
            if previous.startswith("--") and "=" not in previous and not arg.endswith(SUFFIXES):
                raise ConfigError(f"unexpected argument {arg!r}: write {previous}={arg}")
            values |= dict(_file_values(arg, known))
            continue
        if key not in known:
            raise ConfigError(f"unknown key {key} ({COMMAND_LINE}){nearest(key, known)}; --help lists them")
        if not eq and bool not in members(known[key].kind):
            raise ConfigError(f"--{key} needs a value: write --{key}={'VALUE' if following.startswith('-') else following}")
        values[key] = parse_value(text if eq else "True", known[key].kind)
    return from_mapping(cls, values)


def _file_values(name: str, known: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    for key, value in read_config(name).items():
        if key not in known:
            raise ConfigError(f"unknown key {key} ({name}){nearest(key, known)}")
        yield key, value
