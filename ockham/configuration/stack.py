"""Layers of configuration, laid one on another: what holds in the end.

Low to high: defaults, groups (config/optimizer/, config/scheduler/), the policy, on resume the run's own config.yaml, config
files in their order, the preset, macros, the command line.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any

from ..config import RunConfig
from ..errors import ConfigError
from ..typed import check_range, coerce, from_mapping, plain
from .bundles import lookahead_layers, macro_layers, outdated_macros, policy_layer, preset_layer, saved_run
from .checks import check_init_from, check_plugin_state, check_same_optimizer, check_type, iterations_hold_over_epochs
from .files import CONFIG_DIR, read_yaml
from .keys import ALIASES, GROUPS, LEAVES, SHARED, check_member, group_choices, owners, unknown
from .layers import Item, Layer, Provenance, Source, chosen, flattened, interpolated, is_interpolation, last_said
from .notes import all_notes, odd_schedule
from .rack import ASKING, Patch, add_gate, checked, patch_rack

# What a recipe's or a preset's author tuned for Adam, and where Muon's AdamW part keeps it.
FOR_ADAM = {
    "optimizer.lr": "optimizer.adamw_lr",
    "optimizer.weight_decay": "optimizer.adamw_weight_decay",
    "optimizer.betas": "optimizer.betas",
    "scheduler.min_lr": None,
}
ADAM_TYPES = ("Adam", "AdamW")
PER_PLUGIN = ("lambda_ockham", "surprise_threshold", "target_update_rate", "consolidate_interval")
Compose = Callable[[list[str]], dict[str, Any]]  # group choices -> defaults and groups, composed


@dataclass(frozen=True)
class Resolved:
    """A run's configuration, and where each of its values came from."""

    config: RunConfig
    provenance: Provenance


def lay(files: list[Layer], flags: Layer, compose: Compose, subdir: str = "") -> Resolved:
    """Lay all layers and check the result. `subdir` is a sweep job's own folder in out_dir.

    Raises ConfigError or PresetError for whatever cannot be used, naming its source; CheckpointError for a run to be resumed
    that has lost its config.
    """
    given = [*files, flags]
    below: list[Layer] = []
    if last_said(given, "init_from", "scratch")[0] == "resume":
        below = saved_run(Path(str(last_said(given, "out_dir", LEAVES["out_dir"].field.default)[0])) / subdir)
    stated = [layer for layer in files if layer.kind != "flag"]
    swept = [layer for layer in files if layer.kind == "flag"]  # a file's sweep says what the command line would
    bundles = [*preset_layer(given), *macro_layers(given)]
    layers = lookahead_layers([*policy_layer(given), *below, *stated, *bundles, *swept, flags])
    stack = Stack(compose, {group: chosen(layers, group) for group in GROUPS})
    for layer in layers:
        stack.put(layer)
    said = stack.provenance
    holds = iterations_hold_over_epochs(layers, said.value("epochs"))
    if holds:
        said.say("epochs", 0.0, f"{holds.where}, as it gives max_iters", holds.kind)
    for key, preset in outdated_macros(layers):
        said.say(key, None, preset.where, preset.kind)
    check_plugin_state(said.value("plugin_state"), said["plugin_state"][-1].where)
    check_init_from(said.value("init_from"), said["init_from"][-1].where)
    if subdir:
        said.say("out_dir", str(Path(said.value("out_dir")) / subdir), "this job of the sweep", "flag")
    resolved = stack.finish()
    check_same_optimizer(below, resolved.config)
    return resolved


class Stack:
    """The layers laid so far."""

    def __init__(self, compose: Compose, choices: dict[str, list[Source]]):
        composed = compose([f"{group}={by[-1].value}" for group, by in choices.items() if by])
        self.provenance = Provenance()
        self.rack: list[dict[str, Any]] = []
        self.patches: list[Patch] = []
        self.left_out: dict[tuple[str, str], list[str]] = {}  # (where, meant for) -> keys
        self.moved: dict[str, list[str]] = {}
        self.names = default_choices() | {group: by[-1].value for group, by in choices.items() if by}
        self.stated = {group: dict(flattened(group_choices(group)[name].items())) for group, name in self.names.items()}
        for group, by in choices.items():
            if by:
                check_member(group, by[-1].value)
        for key, leaf in LEAVES.items():
            self.provenance.say(key, plain(leaf.default), "default", "default")
        for key, value in flattened(composed.items()):
            self._put_composed(key, value)
        for group, by in choices.items():
            for source in by:
                self.provenance.say(f"{group}.name", source.value, source.where, source.kind)

    def _put_composed(self, key: str, value: Any) -> None:
        """A composed value is a group file's word where that states it, and config.yaml's where it differs from what was said."""
        group, _, leaf = key.partition(".")
        stated = self.stated.get(group, {})
        if leaf in stated:
            self.provenance.say(key, stated[leaf], f"config/{group}/{self.names[group]}.yaml", "group")
        elif key not in LEAVES:
            raise unknown(key, "config/config.yaml")
        if self.provenance.value(key) != value:
            self.provenance.say(key, value, "config/config.yaml", "group")

    def put(self, layer: Layer) -> None:
        """Lay one layer on top."""
        if layer.rack is not None:
            self._put_rack(layer)
        for item in sorted(layer.items, key=turn):
            key = self.target(layer, item)
            if key is None:
                continue
            if key not in self.provenance and not self.is_taken(key):
                raise self.misfit(layer, item)
            if layer.kind == "flag" and is_interpolation(item):
                item = replace(item, value=interpolated(item.value, self.nested()))
            self.provenance.say(key, self.typed(item, key, layer.where), layer.where, layer.kind)
            if key in PER_PLUGIN and layer.kind in ASKING:
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
        if layer.kind == "run" and item.key not in self.provenance and not self.is_taken(item.key):
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

    def is_taken(self, key: str) -> bool:
        """Whether a leaf of `optimizer` that its file does not state is an argument of its class; its default is then laid."""
        from ..optim.classes import arguments_of  # torch: only where somebody asks for such a leaf

        room, _, leaf = key.partition(".")
        if room != "optimizer" or "." in leaf:
            return False
        kind = self.provenance.value("optimizer.type")
        taken = arguments_of(kind)
        if leaf in taken:
            self.provenance.say(key, plain(taken[leaf]), f"{kind}'s own default", "default")
        return leaf in taken

    def misfit(self, layer: Layer, item: Item) -> ConfigError:
        """The error for a leaf of `optimizer` that this run's optimizer does not have."""
        from ..optim.classes import classes_taking

        leaf = item.key.removeprefix("optimizer.")
        having = owners(leaf) or classes_taking(leaf)
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
            value = plain(coerce(value, self.kind_of_option(key, below), item.written))
            if isinstance(below, list) and isinstance(value, list) and len(value) != len(below):
                raise ConfigError(f"{item.written} must be a list of {len(below)}, as {below} is, got {value}")
            return value
        except ConfigError as error:
            raise ConfigError(f"{error} ({where})") from error

    def kind_of_option(self, key: str, below: Any) -> Any:
        """The type of an optimizer's own option: that of the value it has, else, as null has none, its class's word."""
        if below is not None:
            return like(below)
        from ..optim.classes import arguments_of, kind_of_argument

        kind, leaf = self.provenance.value("optimizer.type"), key.removeprefix("optimizer.")
        return kind_of_argument(kind, leaf) if leaf in arguments_of(kind) else Any

    def finish(self) -> Resolved:
        """The checked config, with the notes that have to be printed."""
        said = self.provenance
        self.rack, added = add_gate(self.rack, {key: said[key][-1] for key in PER_PLUGIN})
        patches, left_out = self._fitting(self.patches)
        for key, patch in patch_rack(self.rack, patches, said.value("preset")):
            said.say(key, patch.value, patch.where, patch.kind)
        config = from_mapping(RunConfig, {**self.nested(), "rack": self.rack})
        check_type(config.optimizer, self.stated["optimizer"], said["optimizer.type"][-1].where)
        said.notes = [*self._optimizer_notes(), *added, *left_out, *all_notes(said), *odd_schedule(config)]
        return Resolved(config, said)

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


@cache
def default_choices() -> dict[str, str]:
    """The member of each group that config.yaml's defaults list names."""
    listed = read_yaml(CONFIG_DIR / "config.yaml")["defaults"]
    named = {key: name for entry in listed if isinstance(entry, dict) for key, name in entry.items()}
    return {group: named[group] for group in GROUPS}


def turn(item: Item) -> int:
    """When an item is laid: the optimizer's class first, as it decides on the others; references last, as they look at them."""
    return 2 if is_interpolation(item) else 0 if item.key == "optimizer.type" else 1


def like(value: Any) -> Any:
    """The type that an optimizer's own option has, judged by the value its group file states."""
    if isinstance(value, (list, tuple)):
        numbers = all(v is None or isinstance(v, (int, float)) for v in value)
        return tuple[float | None, ...] if None in value and numbers else tuple[float, ...] if numbers else tuple[str, ...]
    return type(value)
