"""What the command line and config files say to the rack: whole presets, single parameters, a gate of its own."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from .. import presets
from ..errors import ConfigError, PresetError, nearest

Spec = dict[str, Any]  # type, name, enabled, params: a plugin as plain data
GATE_KEYS = ("surprise_threshold", "target_update_rate")
ASKING = ("file", "macro", "flag")  # kinds of layers whose plain keys also reach the plugins
GATES = ("OckhamGatePlugin", "OccamGatePlugin")


class Said(Protocol):
    """A value with the layer that gave it."""

    @property
    def value(self) -> Any: ...
    @property
    def where(self) -> str: ...
    @property
    def kind(self) -> str: ...


@dataclass(frozen=True)
class Patch:
    """One parameter of one plugin, or, with plugin None, of every plugin that has it. `param` may be dotted, as bands.easy."""

    plugin: str | None
    param: str
    value: Any
    where: str
    kind: str

    @classmethod
    def parse(cls, written: str, value: Any, where: str, kind: str) -> Patch:
        """From `rack.PLUGIN.PARAMETER`. Raises ConfigError for any other form."""
        parts = written.split(".", 2)
        if len(parts) < 3 or not all(parts):
            raise ConfigError(f"{written} ({where}): a plugin's parameter is written rack.PLUGIN.PARAMETER=value")
        return cls(parts[1], parts[2], value, where, kind)


def preset_specs(name: str) -> tuple[list[Spec], dict[str, Any]]:
    """A preset's plugins, and what it says to plain keys: hyperparameters, anchor, replay, and a memory's thresholds, which turn
    it on.

    Raises PresetError.
    """
    preset = presets.load_preset(name)
    values = dict(preset.hyperparameters)
    if preset.memory is not None:
        values["memory.enabled"] = True
    for room in presets.ROOMS:
        values |= {f"{room}.{key}": value for key, value in (getattr(preset, room) or {}).items()}
    return [dict(spec) for spec in preset.specs], values


def add_gate(rack: list[Spec], said: Mapping[str, Said]) -> tuple[list[Spec], list[str]]:
    """The rack, with a gate in front when plain keys or a macro ask for one and the rack has none; and the note of it."""
    asked = {key: said[key] for key in GATE_KEYS if said[key].kind in ASKING and said[key].value is not None}
    if not asked or any(spec["type"] in GATES for spec in rack):
        return rack, []
    params = {key: said[key].value for key in GATE_KEYS}
    gate = {"type": "OckhamGatePlugin", "name": presets.PLUGINS["OckhamGatePlugin"].name, "enabled": True, "params": params}
    words = ", ".join(f"{key} = {source.value} ({source.where})" for key, source in asked.items())
    return [checked(gate, "added"), *rack], [f"Rack: added an OckhamGatePlugin for {words}"]


def patch_rack(rack: list[Spec], patches: list[Patch], preset: str) -> Iterator[tuple[str, Patch]]:
    """Set parameters in place, in order; yields the key of each one set. Raises ConfigError naming the nearest plugin.

    A plugin is judged when all is said: a value that another one belongs to may come before it.
    """
    names = [spec["name"] for spec in rack]
    wrong: dict[int, ConfigError | PresetError] = {}
    for patch in patches:
        if patch.plugin is not None and patch.plugin not in names:
            has = f"it has {', '.join(names)}" if names else "it is empty: choose a preset"
            written = f"rack.{patch.plugin}.{patch.param}"
            raise ConfigError(
                f"{written} ({patch.where}): the rack of preset {preset} has no plugin {patch.plugin!r}"
                f"{nearest(patch.plugin, names)}; {has}"
            )
        for index, spec in enumerate(rack):
            if spec["name"] == patch.plugin or (patch.plugin is None and patch.param in spec["params"]):
                rack[index] = patched(spec, patch)
                try:
                    rack[index] = checked(rack[index], patch.where)
                    wrong.pop(index, None)
                except (ConfigError, PresetError) as error:
                    wrong.setdefault(index, error)
                yield f"rack.{spec['name']}.{patch.param}", patch
    for first in wrong.values():
        raise first


def patched(spec: Spec, patch: Patch) -> Spec:
    """A plugin with one parameter changed, not yet checked."""
    if patch.param == "enabled":
        if not isinstance(patch.value, bool):
            raise ConfigError(f"rack.{spec['name']}.enabled must be true or false, got {patch.value!r} ({patch.where})")
        return {**spec, "enabled": patch.value}
    param, *inner = patch.param.split(".")
    value = patch.value
    for key in reversed(inner):
        value = {key: value}
    if inner and isinstance(spec["params"].get(param), Mapping):
        value = {**spec["params"][param], **value}
    return {**spec, "params": {**spec["params"], param: value}}


def checked(spec: Spec, where: str) -> Spec:
    """A plugin's spec with every parameter resolved. Raises ConfigError or PresetError with the source in the message."""
    try:
        plugin = presets.build_plugins([spec])[0]
    except (ConfigError, PresetError) as error:
        raise type(error)(f"{error} ({where})") from error
    return {"type": spec["type"], "name": plugin.name, "enabled": plugin.enabled, "params": plugin.params()}
