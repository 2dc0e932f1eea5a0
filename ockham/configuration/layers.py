"""Layers of configuration, laid one on another: who said what about every key, and what holds in the end.

Low to high: defaults, groups (config/optimizer/, config/scheduler/), on resume the run's own config.yaml, config files in
their order, the preset, the command line. Nothing here knows argv or Hydra.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from ..config import RunConfig
from ..errors import CheckpointError, ConfigError
from ..typed import check_range, coerce, from_mapping, plain
from .checks import check_init_from, iterations_hold_over_epochs
from .files import read_yaml
from .keys import ALIASES, GROUPS, LEAVES, SHARED, choice_name, group_choices, is_known, owners, real_key, unknown
from .rack import Patch, add_gate, checked, patch_rack, preset_specs

# What a recipe's or a preset's author tuned for Adam, and where Muon's AdamW part keeps it.
FOR_ADAM = {
    "optimizer.lr": "optimizer.adamw_lr",
    "optimizer.weight_decay": "optimizer.adamw_weight_decay",
    "optimizer.betas": "optimizer.betas",
    "scheduler.min_lr": None,
}
ADAM_TYPES = ("Adam", "AdamW")
PER_PLUGIN = ("lambda_ockham", "surprise_threshold", "target_update_rate", "consolidate_interval")
# Of a run's saved config, what belonged to that start of it alone.
NOT_RESUMED = ("init_from", "overwrite", "dry_run", "debug", "eval_only", "out_dir")

Compose = Callable[[list[str]], dict[str, Any]]  # group choices -> defaults and groups, composed


@dataclass(frozen=True)
class Source:
    """One layer's word on a key: its value, where it was said, and by what kind of layer."""

    value: Any
    where: str
    kind: str = "default"  # default, group, run, file, preset, flag


class Provenance(dict[str, list[Source]]):
    """Key -> its sources, low to high; the last one holds. `notes` are the lines to print before the run."""

    def __init__(self) -> None:
        super().__init__()
        self.notes: list[str] = []

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
class Resolved:
    """A run's configuration, and where each of its values came from."""

    config: RunConfig
    provenance: Provenance


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


def lay(files: list[Layer], flags: Layer, compose: Compose, subdir: str = "") -> Resolved:
    """Lay all layers and check the result. `subdir` is a sweep job's own folder in out_dir.

    Raises ConfigError or PresetError for whatever cannot be used, naming its source; CheckpointError for a run to be resumed
    that has lost its config.
    """
    given = [*files, flags]
    below: list[Layer] = []
    if last_said(given, "init_from", "scratch")[0] == "resume":
        below = saved_run(Path(str(last_said(given, "out_dir", LEAVES["out_dir"].field.default)[0])) / subdir)
    layers = [*below, *files, *preset_layer(given), flags]
    stack = Stack(compose, {group: chosen(layers, group) for group in GROUPS})
    for layer in layers:
        stack.put(layer)
    said = stack.provenance
    holds = iterations_hold_over_epochs(layers, said.value("epochs"))
    if holds:
        said.say("epochs", 0.0, f"{holds.where}, as it gives max_iters", holds.kind)
    check_init_from(said.value("init_from"), said["init_from"][-1].where)
    if subdir:
        said.say("out_dir", str(Path(said.value("out_dir")) / subdir), "this job of the sweep", "flag")
    return stack.finish()


def saved_run(out_dir: Path) -> list[Layer]:
    """The layer of a run that is resumed, from its config.yaml; none when there is no run.

    Raises CheckpointError when the run's config alone is gone: other values would go on with another run.
    """
    path = out_dir / "config.yaml"
    if not path.is_file():
        if (out_dir / "last.pt").exists():
            raise CheckpointError(
                f"{path} is missing, without which {out_dir}/last.pt cannot be resumed as the run it was; put it back, or start "
                f"a new run from its weights: --init_from={out_dir}/ckpt.pt --out_dir=ANOTHER"
            )
        return []
    values = [(k, v) for k, v in flattened(read_yaml(path).items()) if k not in NOT_RESUMED and is_known(k)]
    return [make_layer("run", f"the run in {out_dir}", values)]


def preset_layer(given: list[Layer]) -> list[Layer]:
    """The layer of the preset that files or flags ask for; a file with a whole rack has its preset in it already."""
    name, by = last_said(given, "preset", None)
    if by is None or by.rack is not None:
        return []
    if name == "none":
        return [Layer("preset", "preset none", rack=[])]
    specs, hyperparameters = preset_specs(str(name))
    layer = make_layer("preset", f"preset {name}", hyperparameters.items())
    layer.rack = specs
    return [layer]


class Stack:
    """The layers laid so far."""

    def __init__(self, compose: Compose, choices: dict[str, list[Source]]):
        composed = compose([f"{group}={by[-1].value}" for group, by in choices.items() if by])
        self.provenance = Provenance()
        self.rack: list[dict[str, Any]] = []
        self.patches: list[Patch] = []
        self.left_out: dict[tuple[str, str], list[str]] = {}  # (where, meant for) -> keys
        self.moved: dict[str, list[str]] = {}
        self.names = {group: composed[group]["name"] for group in GROUPS}
        for key, leaf in LEAVES.items():
            self.provenance.say(key, plain(leaf.default), "default", "default")
        for key, value in flattened(composed.items()):
            self._put_composed(key, value)
        for group, by in choices.items():
            for source in by:
                self.provenance.say(f"{group}.name", source.value, source.where, source.kind)

    def _put_composed(self, key: str, value: Any) -> None:
        """A composed value is a group's word if the group states it, config.yaml's if it differs from the default."""
        group, _, leaf = key.partition(".")
        name = self.names.get(group, "")
        if leaf.split(".")[0] in (group_choices(group)[name] if group in GROUPS else ()):
            self.provenance.say(key, value, f"config/{group}/{name}.yaml", "group")
        elif key not in LEAVES:
            raise unknown(key, "config/config.yaml")
        elif self.provenance.value(key) != value:
            self.provenance.say(key, value, "config/config.yaml", "group")

    def put(self, layer: Layer) -> None:
        """Lay one layer on top."""
        if layer.rack is not None:
            self._put_rack(layer)
        for item in sorted(layer.items, key=is_interpolation):  # those last: they look at the others
            key = self.target(layer, item)
            if key is None:
                continue
            if key not in self.provenance:
                raise self.misfit(layer, item)
            if layer.kind == "flag" and is_interpolation(item):
                item = replace(item, value=interpolated(item.value, self.nested()))
            self.provenance.say(key, self.typed(item, key, layer.where), layer.where, layer.kind)
            if key in PER_PLUGIN and layer.kind in ("file", "flag"):
                self.patches.append(Patch(None, key, self.provenance.value(key), layer.where, layer.kind))
        self.patches.extend(layer.patches)

    def _put_rack(self, layer: Layer) -> None:
        """A whole rack: it replaces the one below, with what was said to its plugins by the plain keys."""
        self.rack = [checked(spec, layer.where) for spec in layer.rack or []]
        self.patches = [patch for patch in self.patches if patch.plugin]
        names = {spec["name"] for spec in self.rack}
        for key in [k for k in self.provenance if k.startswith("rack.") and k.split(".")[1] not in names]:
            del self.provenance[key]
        for spec in self.rack:
            for param, value in flattened({"enabled": spec["enabled"], **spec["params"]}.items()):
                self.provenance.say(f"rack.{spec['name']}.{param}", value, layer.where, layer.kind)

    def target(self, layer: Layer, item: Item) -> str | None:
        """The key that an item sets with this run's optimizer; None = it is left out, and that will be said."""
        if layer.kind == "flag" or not (item.key.startswith("optimizer.") or item.key in FOR_ADAM):
            return item.key
        own_choice = layer.choices.get("optimizer") if item.written not in ALIASES else None
        if own_choice == self.names["optimizer"]:
            return item.key
        leaf = item.key.removeprefix("optimizer.")
        if own_choice and (item.key in FOR_ADAM or leaf == "type" or leaf.split(".")[0] not in SHARED):
            self._leave_out(layer, item, own_choice)  # a higher layer chose another one
            return None
        if layer.kind == "run" and item.key not in self.provenance:
            self._leave_out(layer, item, "another version")
            return None
        if item.key not in FOR_ADAM or self.provenance.value("optimizer.type") in ADAM_TYPES:
            return item.key
        adamw_part = FOR_ADAM[item.key]
        if adamw_part is None or "optimizer.adamw_lr" not in self.provenance:
            self._leave_out(layer, item, "Adam")
            return None
        if adamw_part != item.key:
            self.moved.setdefault(layer.where, []).append(f"{adamw_part} = {item.value}")
        return adamw_part

    def _leave_out(self, layer: Layer, item: Item, meant_for: str) -> None:
        self.left_out.setdefault((layer.where, meant_for), []).append(item.written)

    def misfit(self, layer: Layer, item: Item) -> ConfigError:
        """The error for a leaf of `optimizer` that this run's optimizer does not have."""
        having = owners(item.key.removeprefix("optimizer."))
        if not having:
            return unknown(item.written, layer.where)
        name = item.written.removeprefix("optimizer.")
        return ConfigError(f"{name} belongs to {', '.join(having)}; the optimizer is {self.names['optimizer']} ({layer.where})")

    def typed(self, item: Item, key: str, where: str) -> Any:
        """An item's value as its key's type, merged into the list where it is one element's."""
        value, below = item.value, self.provenance.value(key)
        try:
            if item.index is not None:
                if not isinstance(below, list) or item.index >= len(below):
                    raise ConfigError(f"{item.written}: {key} = {below} has no element {item.index}")
                merged = list(below)
                merged[item.index] = coerce(value, float, item.written)
                return merged
            if key in LEAVES:
                value = coerce(value, LEAVES[key].kind, item.written)
                check_range(value, LEAVES[key].field, item.written)
                return plain(value)
            return plain(coerce(value, like(below), item.written))
        except ConfigError as error:
            raise ConfigError(f"{error} ({where})") from error

    def finish(self) -> Resolved:
        """The checked config, with the notes that have to be printed."""
        said = self.provenance
        notes = [*self._optimizer_notes()]
        self.rack, note = add_gate(self.rack, {key: said[key][-1] for key in PER_PLUGIN})
        notes += note
        patches, note = self._fitting(self.patches)
        notes += note
        for key, patch in patch_rack(self.rack, patches, said.value("preset")):
            said.say(key, patch.value, patch.where, patch.kind)
        said.notes = [*notes, *self._overriding()]
        return Resolved(from_mapping(RunConfig, {**self.nested(), "rack": self.rack}), said)

    def _fitting(self, patches: list[Patch]) -> tuple[list[Patch], list[str]]:
        """The patches without those that a file made for another preset than the command line chose; and the note of it."""
        names = {spec["name"] for spec in self.rack}
        chosen_above = self.provenance["preset"][-1].kind == "flag"
        misfits = [p for p in patches if chosen_above and p.kind == "file" and p.plugin and p.plugin not in names]
        preset = self.provenance.value("preset")
        notes = [f"{p.where}: not used with preset {preset}: rack.{p.plugin}.{p.param} = {p.value}" for p in misfits]
        return [p for p in patches if p not in misfits], notes

    def nested(self) -> dict[str, Any]:
        """What holds so far, as nested plain values; without the rack."""
        values: dict[str, Any] = {}
        for key in self.provenance:
            if key != "rack" and not key.startswith("rack."):
                *rooms, leaf = key.split(".")
                inner = values
                for room in rooms:
                    inner = inner.setdefault(room, {})
                inner[leaf] = self.provenance.value(key)
        return values

    def _optimizer_notes(self) -> Iterable[str]:
        name, said = self.names["optimizer"], self.provenance
        for where, lines in self.moved.items():
            yield f"{where}: {', '.join(lines)} ({name}'s AdamW part; its matrices: optimizer.lr = {said.value('optimizer.lr')})"
        for (where, meant_for), written in self.left_out.items():
            yield (
                f"{where}: not used with {name}, as meant for {meant_for}: {', '.join(written)}; "
                f"optimizer.lr = {said.value('optimizer.lr')} ({said['optimizer.lr'][-1].where})"
            )

    def _overriding(self) -> Iterable[str]:
        """What a preset or flag changed of a file or preset, and whatever changed of a resumed run."""
        plain_keys = {key: history for key, history in self.provenance.items() if not self._echoes(key)}
        for key, history in plain_keys.items():
            top, run = history[-1], next((s for s in history if s.kind == "run"), None)
            below = next((s for s in reversed(history[:-1]) if s.kind in ("file", "preset")), None)
            if run and top.kind in ("file", "preset", "flag") and top.value != run.value:
                yield f"Resume: {key} = {top.value} ({top.where}; the run had {run.value})"
            elif below and top.kind in ("preset", "flag") and top.value != below.value:
                yield f"Overriding: {key} = {top.value} ({top.where}; {below.where} said {below.value})"

    def _echoes(self, key: str) -> bool:
        """Whether a plugin's parameter only repeats a plain key that says the same."""
        param = key.rpartition(".")[2]
        return key.startswith("rack.") and param in PER_PLUGIN and self.provenance[key][-1] == self.provenance[param][-1]


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


def like(value: Any) -> Any:
    """The type that an optimizer's own option has, judged by the value its group file states."""
    if isinstance(value, (list, tuple)):
        return tuple[float, ...] if all(isinstance(v, (int, float)) for v in value) else tuple[str, ...]
    return Any if value is None else type(value)
