"""`ockham check PRESET`: what a rack does, in order, and what about it may be a mistake."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Any

from ..errors import PresetError


def add_check(verbs: Any) -> None:
    """The verb `check`."""
    parser = verbs.add_parser("check", help="what a preset's plugins may change, where they conflict, likely mistakes")
    parser.add_argument("preset", metavar="PRESET", help="a preset's name, or the path of its file")
    parser.set_defaults(do=check, parser=parser)


def find_preset(name_or_path: str) -> Any:
    """The preset of a name; of a path where the text has a slash, or is a file here. Raises PresetError."""
    from ..presets import load_preset, load_preset_file

    if name_or_path == "none":
        raise PresetError("none means no rack: there is nothing to show; ockham preset list has the presets")
    is_path = "/" in name_or_path or (name_or_path.endswith((".yaml", ".yml")) and Path(name_or_path).is_file())
    return load_preset_file(name_or_path) if is_path else load_preset(name_or_path)


def warn_if_changed(preset: Any) -> None:
    """A line on stderr for a packed preset that is not what it was when it was packed."""
    from ..document import Document
    from ..sharing import check_hash

    try:
        if preset.package:
            check_hash(Document(preset.path))
    except PresetError as error:
        print(f"warning: {error}", file=sys.stderr)


def check(options: argparse.Namespace) -> int:
    """Print order, changes, conflicts, costs and likely mistakes. Raises PresetError for a preset that cannot be used."""
    from ..check import conflicts, devices, in_all, protections
    from ..mistakes import mistakes

    preset = find_preset(options.preset)
    warn_if_changed(preset)
    rack = devices(preset)
    print(f"{preset.title} ({preset.name}): usable, {len(rack)} plugin{'s' * (len(rack) != 1)} in this order")
    print(*(f"  {place}. {device.line}" for place, device in enumerate(rack, 1)), sep="\n", end="\n" if rack else "")
    print(in_all(rack))
    if kept := protections(preset):
        _section("against forgetting", kept)
    _section("fields that several plugins write", [conflict.line for conflict in conflicts(rack)])
    _section("likely mistakes", mistakes(preset))
    return 0


def _section(title: str, lines: list[str]) -> None:
    print(f"{title}:{'' if lines else ' none'}")
    print(*(f"  {line}" for line in lines), sep="\n", end="\n" if lines else "")
