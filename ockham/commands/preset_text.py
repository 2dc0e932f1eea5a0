"""Two presets side by side, and a new preset as commented YAML."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import yaml

from ..plugins import Param
from ..presets import HYPERPARAMETERS, ROOMS, Preset, plugin_class

ROOM_HELP = {"memory": "what an accepted snapshot must show", "anchor": "what resists drift", "replay": "what is learned again"}


def differences(a: Preset, b: Preset) -> list[str]:
    """What is other in `b`: a line each; [] when only names and descriptions differ."""
    found = [*_values("hyperparameters.", a.hyperparameters, b.hyperparameters)]
    for room in ROOMS:
        found += _values(f"{room}.", getattr(a, room) or {}, getattr(b, room) or {})
    ours, theirs = ({spec["name"]: spec for spec in preset.specs} for preset in (a, b))
    found += [f"- plugin {name} ({ours[name]['type']})" for name in ours if name not in theirs]
    found += [
        f"+ plugin {name} ({theirs[name]['type']}), place {list(theirs).index(name) + 1}" for name in theirs if name not in ours
    ]
    common = [name for name in ours if name in theirs]
    if common != (order := [name for name in theirs if name in ours]):
        found.append(f"~ order: {', '.join(common)} -> {', '.join(order)}")
    for name in common:
        keys = ("type", "enabled")
        found += _values(f"{name}.", {k: ours[name][k] for k in keys}, {k: theirs[name][k] for k in keys})
        found += _values(f"{name}.", ours[name]["params"], theirs[name]["params"])
    return found


def _values(prefix: str, a: dict[str, Any], b: dict[str, Any]) -> Iterator[str]:
    for key in [*a, *(key for key in b if key not in a)]:
        if isinstance(a.get(key), dict) and isinstance(b.get(key), dict):
            yield from _values(f"{prefix}{key}.", a[key], b[key])
        elif key not in b:
            yield f"- {prefix}{key} = {_scalar(a[key])}"
        elif key not in a:
            yield f"+ {prefix}{key} = {_scalar(b[key])}"
        elif a[key] != b[key]:
            yield f"~ {prefix}{key}: {_scalar(a[key])} -> {_scalar(b[key])}"


def commented(name: str, source: Preset) -> str:
    """A preset file like `source`, every value with what it means and what is allowed; plugins last, so more can be appended."""
    about = f"copy of {source.name}" + (f": {source.description}" if source.description else "")
    lines = [
        f"# Made from {source.name}. ockham check {name} tells what it does; --preset={name} uses it.",
        f"name: {_scalar(name)}",
        f"description: {_scalar(about)}",
        f"tags: {_scalar(list(source.tags))}",
        "",
        "hyperparameters:",
        *_block(HYPERPARAMETERS, source.hyperparameters, "  "),
        "",
    ]
    for room, allowed in ROOMS.items():
        if (values := getattr(source, room)) is not None:
            lines += [f"{room}:  # {ROOM_HELP[room]}", *_block(allowed, values, "  "), ""]
    lines.append("plugins:  # in this order" if source.specs else "plugins: []  # take the brackets away to add one below")
    for spec in source.specs:
        cls = plugin_class(spec["type"])
        lines += [f"  - type: {spec['type']}", f"    name: {_scalar(spec['name'])}"]
        lines += [] if spec["enabled"] else ["    enabled: false"]
        lines += ["    params:", *_block(cls.PARAMS, spec["params"], "      "), ""] if spec["params"] else [""]
    return "\n".join(lines).rstrip() + "\n"


def _block(params: tuple[Param, ...], values: dict[str, Any], indent: str) -> list[str]:
    known = {param.name: param for param in params}
    pairs = [(f"{indent}{key}: {_scalar(value)}", known[key]) for key, value in values.items()]
    width = min(40, max((len(text) for text, _ in pairs), default=0))
    return [f"{text:{width}s}  # {param.help}; {param.allowed}" for text, param in pairs] or [f"{indent}{{}}"]


def _scalar(value: Any) -> str:
    """A value as YAML on one line."""
    return (
        yaml.safe_dump(value, default_flow_style=True, width=10**6, allow_unicode=True).removesuffix("\n").removesuffix("\n...")
    )
