"""The settings of `ockham chat` from YAML files and the command line, each value checked where it is given.

Low to high: config/online/default.yaml, a preset (config/online/NAME.yaml), a file of your own, overrides `a.b=value`. A list
or a mapping that is given replaces the one below it.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..configuration.files import CONFIG_DIR
from ..configuration.grammar import COMMAND_LINE, members, parse_value
from ..document import Document, shown
from ..errors import ConfigError, PresetError, nearest
from ..typed import Leaf, check_range, coerce, from_mapping, leaves
from .config import OnlineConfig
from .regex_time import check_times

PRESETS = CONFIG_DIR / "online"
DEFAULT = "default"
# What people write for a key's last name, where that is not like it.
SHORT = {"lr": "learning_rate", "wd": "weight_decay", "clip": "gradient_clip_norm", "steps": "iterations_per_fact",
         "temp": "temperature", "base": "base_model_name"}  # fmt: skip
CLOSE = 0.85  # how like a key of the same group must be; both begin with the group's name
LEAVES: dict[str, Leaf] = leaves(OnlineConfig)
ROOMS = frozenset(key[:at] for key in LEAVES for at, character in enumerate(key) if character == ".")


@dataclass(frozen=True)
class Said:
    """A value and where it was given."""

    value: Any
    document: Document | None = None  # None: the command line
    path: tuple[Any, ...] = ()

    def where(self, index: int | None = None) -> str:
        """'FILE:LINE' of the value, or of one item of it; 'command line'."""
        if self.document is None:
            return COMMAND_LINE
        return self.document.where(self.path if index is None else (*self.path, index))


def load_settings(preset: str | None = None, file: Path | None = None, overrides: Sequence[str] = ()) -> OnlineConfig:
    """The settings: default.yaml < preset < file < overrides (`training.learning_rate=1e-4`, with leading `--` or without).

    Raises ConfigError that names key, value, what is allowed, and file and line; for an unknown key, the nearest.
    """
    paths = [preset_path(DEFAULT), *([] if preset in (None, DEFAULT) else [preset_path(str(preset))]), *([file] if file else [])]
    said: dict[str, Said] = {}
    for path in paths:
        said |= read_file(path)
    for override in overrides:
        said |= read_override(override, said)
    own = {key for key, word in said.items() if word.document is None or word.document.path == file}
    try:
        config = from_mapping(OnlineConfig, nested({key: word.value for key, word in said.items()}))
        check_times({at: regex for at, regex in expressions(config).items() if re.split(r"[\[ ]", at)[0] in own})
        return config
    except ConfigError as error:
        raise ConfigError(located(str(error), said)) from error


def expressions(config: OnlineConfig) -> dict[str, str]:
    """Every regular expression of the settings, by its key and place."""
    detection, safety = config.fact_detection, config.safety
    found = {f"{key}.pattern ({entry['name']})": entry["pattern"] for key, entry in detection.all_patterns()}
    lists = {f"fact_detection.{name}": getattr(detection, name) for name in ("question_indicators", "ignored", "lead_ins")}
    lists["safety.instruction_patterns"] = safety.instruction_patterns
    found |= {f"{key}[{i}]": regex for key, regexes in lists.items() for i, regex in enumerate(regexes)}
    return found | {f"safety.personal_patterns ({name})": regex for name, regex in safety.personal_patterns.items()}


def preset_names() -> list[str]:
    """The presets in config/online/; `default` lies under all of them."""
    return sorted(path.stem for path in PRESETS.glob("*.yaml"))


def preset_path(name: str) -> Path:
    """The file of a preset. Raises ConfigError naming the nearest one and all of them."""
    stem = name.removesuffix(".yaml")
    if stem not in preset_names():
        known = preset_names()
        fix = "; a file of your own is given as a file" if "/" in name else ""
        raise ConfigError(f"no preset {name!r}{nearest(stem, known)}; {shown(PRESETS)}/ has {', '.join(known)}{fix}")
    return PRESETS / f"{stem}.yaml"


# ------------------------------------------------------------------------------------------------------------------- files


def read_file(path: Path) -> dict[str, Said]:
    """Every value of a YAML file, its type and range checked. Raises ConfigError with file and line."""
    try:
        document = Document(path)
        return dict(_values(document, ()))
    except PresetError as error:
        raise ConfigError(_reworded(str(error))) from error


def _reworded(message: str) -> str:
    """A document's message, with what it calls a preset called by its name."""
    for said, meant in (("a readable preset", "a readable settings file"), ("a preset is", "a settings file is"),
                        ("cannot read preset", "cannot read the settings file"),
                        ("the most a preset may", "the most a settings file may")):  # fmt: skip
        message = message.replace(said, meant)
    return re.sub(r"^preset ", "settings file ", message)


def _values(document: Document, path: tuple[str, ...]) -> Iterator[tuple[str, Said]]:
    room = document.at(path)
    if room is None:  # `safety:` with every line below it commented out
        return
    if not isinstance(room, dict):
        document.fail(path, f"{'.'.join(path) or 'a settings file'} must be a mapping of keys to values, got {room!r}")
    for name, value in room.items():
        here = (*path, name)
        key = ".".join(here)
        if key in ROOMS:
            yield from _values(document, here)
        elif key in LEAVES:
            yield key, Said(_checked_in(document, here, key, value), document, here)
        else:
            document.fail(here, unknown(key))


def _checked_in(document: Document, path: tuple[str, ...], key: str, value: Any) -> Any:
    try:
        return checked(key, value)
    except ConfigError as error:
        document.fail(path, str(error))


def checked(key: str, value: Any) -> Any:
    """The value as the key's type, within its range. Raises ConfigError."""
    made = coerce(value, LEAVES[key].kind, key)
    check_range(made, LEAVES[key].field, key)
    return made


def unknown(key: str) -> str:
    """What to say of a key that there is not: those of the same last name, the nearest, or what its room holds."""
    if key in ROOMS:
        return f"{key} is a group of keys, it holds {_held(key)}; give one of them"
    room, _, name = key.rpartition(".")
    everything = [*LEAVES, *ROOMS]
    same = [known for known in everything if known.rpartition(".")[2] in (name, SHORT.get(name))]
    if not same:
        beside = [known for known in everything if room and known.startswith(f"{room}.")]
        same = difflib.get_close_matches(f"{room}.{name}", beside, n=1, cutoff=CLOSE)
    if not same:
        same = difflib.get_close_matches(name, [known.rpartition(".")[2] for known in everything], n=1)
        same = [known for word in same for known in everything if known.rpartition(".")[2] == word]
    here = [known for known in same if known.rpartition(".")[0] == room]
    hint = f" (did you mean {' or '.join(sorted(here or same))}?)" if same else ""
    return f"unknown key {key}{hint or (f'; {room} holds {_held(room)}' if room in ROOMS else '')}"


def _held(room: str) -> str:
    return ", ".join(key.removeprefix(f"{room}.") for key in LEAVES if key.startswith(f"{room}."))


# ------------------------------------------------------------------------------------------------------------ command line


def read_override(text: str, said: Mapping[str, Said]) -> dict[str, Said]:
    """`a.b=value`, or `a.b.name=value` for one name of a mapping, laid over what was `said`.

    Values are typed as on the trainer's command line: numbers, True or true, null, [lists], {mappings}; a text as it stands.
    Raises ConfigError.
    """
    key, equals, value = text.removeprefix("--").partition("=")
    key = key.strip()
    if key not in LEAVES:
        room, _, name = key.rpartition(".")
        if room in LEAVES and equals and isinstance(said[room].value, Mapping):
            return {room: Said({**said[room].value, name: parse_value(value, Any)})}
        raise ConfigError(f"{unknown(key)} ({COMMAND_LINE})")
    kind = LEAVES[key].kind
    if not equals and bool not in members(kind):
        raise ConfigError(f"{key} needs a value: write {key}=VALUE ({COMMAND_LINE})")
    try:
        return {key: Said(checked(key, parse_value(value, kind) if equals else True))}
    except ConfigError as error:
        raise ConfigError(f"{error} ({COMMAND_LINE})") from error


# --------------------------------------------------------------------------------------------------------------- all of it


def nested(values: Mapping[str, Any]) -> dict[str, Any]:
    """Dotted keys as mappings in mappings."""
    tree: dict[str, Any] = {}
    for key, value in values.items():
        *rooms, name = key.split(".")
        place = tree
        for room in rooms:
            place = place.setdefault(room, {})
        place[name] = value
    return tree


def located(message: str, said: Mapping[str, Said]) -> str:
    """The message, and behind it where each key that it names was given."""
    places: dict[str, None] = {}
    for match in re.finditer(r"([a-z]\w*(?:\.\w+)+)(?:\[(\d+)\])?", message):
        if match[1] in said:
            places[said[match[1]].where(int(match[2]) if match[2] else None)] = None
    return f"{message} ({', '.join(places)})" if places else message
