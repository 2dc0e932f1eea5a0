"""Layers of configuration: all that one source says, sorted; and who said what about every key.

Nothing here knows argv or Hydra, and nothing decides what holds: that is done in `stack`.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from ..typed import coerce
from .keys import GROUPS, choice_name, is_known, real_key, unknown
from .rack import Patch


@dataclass(frozen=True)
class Source:
    """One layer's word on a key: its value, where it was said, and by what kind of layer."""

    value: Any
    where: str
    kind: str = "default"  # default, policy, group, run, file, preset, macro, flag


class Provenance(dict[str, list[Source]]):
    """Key -> its sources, low to high; the last one holds. `notes` are printed before the run, `argv` is what was typed."""

    def __init__(self) -> None:
        super().__init__()
        self.notes: list[str] = []
        self.argv: list[str] = []

    def value(self, key: str) -> Any:
        """What holds for a key."""
        return self[key][-1].value

    def say(self, key: str, value: Any, where: str, kind: str) -> None:
        """A layer's word on a key; its later word replaces its earlier one."""
        history = self.setdefault(key, [])
        if history and (history[-1].where, history[-1].kind) == (where, kind):
            history.pop()
        history.append(Source(value, where, kind))


@dataclass(frozen=True)
class Item:
    """One assignment: the key as it was written, the real key, an index into a list, the value."""

    written: str
    key: str
    index: int | None
    value: Any


@dataclass
class Layer:
    """All that one source says, sorted by what has to happen to it."""

    kind: str
    where: str
    choices: dict[str, str] = field(default_factory=dict)  # group -> name
    decay: bool | None = None  # nanoGPT's decay_lr
    items: list[Item] = field(default_factory=list)
    rack: list[dict[str, Any]] | None = None  # a whole rack, resolved
    patches: list[Patch] = field(default_factory=list)
    swept: list[str] = field(default_factory=list)  # keys that a file gives several values, one for each job

    def get(self, key: str) -> Item | None:
        """The last assignment of a real key."""
        return next((item for item in reversed(self.items) if item.key == key), None)

    def says(self, key: str) -> bool:
        """Whether the layer gives a real key a value other than 0 or none."""
        item = self.get(key)
        return item is not None and (bool(item.value) or key == "max_iters")

    @property
    def is_whole(self) -> bool:
        """Whether the layer is a run's whole config, which alone states a rack."""
        return self.rack is not None


def make_layer(kind: str, where: str, values: Iterable[tuple[str, Any]]) -> Layer:
    """Sort a source's assignments. Raises ConfigError for unknown keys; types are judged when the layer is laid."""
    layer = Layer(kind, where)
    for written, value in flattened(values):
        group = written.removesuffix(".name")
        if group in GROUPS:
            layer.choices[group] = choice_name(group, value, where)
        elif written == "decay_lr":
            layer.decay = coerce(value, bool, f"{where}: decay_lr")
        elif written == "rack":
            layer.rack = [dict(spec) for spec in coerce(value, tuple[Mapping[str, Any], ...], f"{where}: rack")]
        elif written.startswith("rack."):
            layer.patches.append(Patch.parse(written, value, where, kind))
        elif not is_known(written):
            raise unknown(written, where)
        else:
            layer.items.append(Item(written, *real_key(written), value))
    return layer


def flattened(values: Iterable[tuple[str, Any]], prefix: str = "") -> Iterable[tuple[str, Any]]:
    """Nested mappings as dotted keys."""
    for key, value in values:
        if isinstance(value, Mapping) and value:
            yield from flattened(value.items(), f"{prefix}{key}.")
        else:
            yield prefix + str(key), value


def chosen(layers: Iterable[Layer], group: str) -> list[Source]:
    """The group members that the layers choose, low to high; none = the default."""
    found: list[Source] = []
    for layer in layers:
        name = layer.choices.get(group)
        if name is None and group == "scheduler" and layer.decay is not None:
            if not layer.decay:
                name = "none"
            elif found and found[-1].value == "none":
                name = "cosine"
        if name is not None:
            found.append(Source(name, layer.where, layer.kind))
    return found


def last_said(layers: list[Layer], key: str, default: Any) -> tuple[Any, Layer | None]:
    """The highest layer's value of a key, before anything is laid, and that layer."""
    for layer in reversed(layers):
        item = layer.get(key)
        if item:
            return item.value, layer
    return default, None


def is_interpolation(item: Item) -> bool:
    """Whether an item's value refers to other keys, or holds an escaped `${`."""
    return isinstance(item.value, str) and "${" in item.value


def interpolated(text: str, tree: dict[str, Any]) -> Any:
    """A text with every `${key}` replaced by that key's value, and `\\${` by `${`."""
    from omegaconf import OmegaConf

    literal = {key: escaped(value) for key, value in tree.items()}
    return OmegaConf.create({**literal, "text to interpolate": text})["text to interpolate"]


def escaped(value: Any) -> Any:
    """A plain value whose strings OmegaConf takes as they are."""
    if isinstance(value, str):
        return re.sub(r"(\\*)\$\{", r"\1\1\\${", value)
    if isinstance(value, Mapping):
        return {key: escaped(inner) for key, inner in value.items()}
    return [escaped(inner) for inner in value] if isinstance(value, list) else value
