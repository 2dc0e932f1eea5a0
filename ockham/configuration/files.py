"""Config files as plain values: recipes in Python (trusted code), YAML (data only), and the config.yaml of a run."""

from __future__ import annotations

import re
import runpy
import traceback
import types
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from ..errors import ConfigError, nearest

ROOT = Path(__file__).resolve().parents[2]
CONFIG_DIR = ROOT / "config"
MAX_BYTES = 1_000_000  # no config is longer; a cap keeps a wrong file from filling memory
SUFFIXES = (".py", ".yaml", ".yml")


class PlainLoader(yaml.SafeLoader):
    """safe_load without aliases or repeated keys, and with 1e-3 read as the number it looks like."""

    def compose_node(self, parent: Any, index: Any) -> Any:
        if self.check_event(yaml.events.AliasEvent):
            raise yaml.composer.ComposerError(None, None, "aliases are not allowed", self.peek_event().start_mark)
        return super().compose_node(parent, index)

    def construct_mapping(self, node: Any, deep: bool = False) -> dict[Any, Any]:
        seen: set[str] = set()
        for key, _ in node.value:
            if str(key.value) in seen:
                raise yaml.constructor.ConstructorError(None, None, f"{key.value} is given twice", key.start_mark)
            seen.add(str(key.value))
        return super().construct_mapping(node, deep)


# YAML 1.1, which PyYAML follows, wants a point in every float; people and Python write 1e-3.
PlainLoader.add_implicit_resolver(
    "tag:yaml.org,2002:float", re.compile(r"^[-+]?[0-9]+(\.[0-9]*)?[eE][-+]?[0-9]+$"), list("-+0123456789")
)


def parse_yaml(text: str, name: str) -> Any:
    """YAML as plain values. Raises ConfigError with the name and the line."""
    try:
        return yaml.load(text, PlainLoader)
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        where = f"{name}:{mark.line + 1}" if mark else name
        raise ConfigError(f"{where}: not valid YAML: {getattr(error, 'problem', None) or error}") from error


def read_text(path: Path) -> str:
    """A config file's text, UTF-8 and no longer than MAX_BYTES."""
    if path.stat().st_size > MAX_BYTES:
        raise ConfigError(f"{path} is longer than a config can be ({path.stat().st_size} > {MAX_BYTES} bytes)")
    try:
        return path.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise ConfigError(f"{path} is not UTF-8 text ({error.reason} at byte {error.start})") from error


def read_yaml(path: Path, name: str | None = None) -> dict[str, Any]:
    """A YAML file whose top is a mapping; an empty one is an empty mapping."""
    values = parse_yaml(read_text(path), name or str(path))
    if not isinstance(values or {}, Mapping):
        raise ConfigError(f"{name or path} must hold key: value lines, got a {type(values).__name__}")
    return {str(key): value for key, value in (values or {}).items()}


def read_python(path: Path, name: str | None = None) -> dict[str, Any]:
    """The simple values a recipe assigns, after running it in a namespace of its own.

    Modules, functions, classes and names with a leading underscore are the recipe's own business. Raises ConfigError with
    file and line for whatever goes wrong in it, and for a value that is not plain data.
    """
    name = name or str(path)
    read_text(path)
    try:
        names = runpy.run_path(str(path))
    except SyntaxError as error:
        raise ConfigError(f"{name}:{error.lineno}: {error.msg}") from error
    except (Exception, SystemExit) as error:
        lines = [f.lineno for f in traceback.extract_tb(error.__traceback__) if f.filename == str(path)]
        raise ConfigError(f"{name}:{lines[-1] if lines else 1}: {type(error).__name__}: {error}") from error
    found = {}
    for key, value in names.items():
        if key.startswith("_") or isinstance(value, (types.ModuleType, type)) or callable(value):
            continue
        if not is_simple(value):
            raise ConfigError(
                f"{name}: {key} must be a number, string, boolean, None, list or dict, got a {type(value).__name__}; "
                f"begin a helper's name with an underscore"
            )
        found[key] = value
    return found


def is_simple(value: Any) -> bool:
    """Whether a value is plain data, all the way down."""
    if isinstance(value, dict):
        return all(isinstance(k, str) and is_simple(v) for k, v in value.items())
    if isinstance(value, (list, tuple)):
        return all(map(is_simple, value))
    return value is None or type(value) in (bool, int, float, str)


def find_config(name: str) -> Path:
    """The path of a config file: as given, else below this checkout. Raises ConfigError naming the nearest recipe."""
    if not name.endswith(SUFFIXES):
        match = CONFIG_DIR / f"{Path(name).name}.py"
        fix = f": write config/{match.name}" if match.is_file() else ": options are --key=value, config files end in .py or .yaml"
        raise ConfigError(f"unexpected argument {name!r}{fix}")
    for path in (Path(name), ROOT / name):
        if path.is_file():
            return path
    recipes = {p.name: p for p in CONFIG_DIR.iterdir() if p.suffix in SUFFIXES}
    raise ConfigError(f"config file {name} does not exist{nearest(Path(name).name, recipes)}")


def read_config(name: str) -> dict[str, Any]:
    """A config file's values, by its suffix."""
    path = find_config(name)
    return read_python(path, name) if path.suffix == ".py" else read_yaml(path, name)
