"""Whole layers that a name stands for: a run to be resumed, a preset, a macro, a policy, Lookahead over another optimizer."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

from ..errors import CheckpointError, ConfigError
from ..macros import MACROS
from ..typed import check_range, coerce
from .files import CONFIG_DIR, read_yaml
from .keys import LEAVES, check_policy, choice_name, group_choices, is_known
from .layers import Item, Layer, flattened, last_said, make_layer
from .rack import preset_specs

# Of a run's saved config, what belonged to that start of it alone.
NOT_RESUMED = ("init_from", "overwrite", "dry_run", "debug", "eval_only", "out_dir")
NOT_IN_POLICIES = ("policy", "preset", "macro", "rack", "plugin_state", "init_from", "out_dir", "dataset")
DIGITS = 12  # of a macro's values
WRAPPER = "lookahead"  # the member of config/optimizer/ that goes over another one


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
    specs, values = preset_specs(str(name))
    layer = make_layer("preset", f"preset {name}", values.items())
    layer.rack = specs
    return [layer]


def macro_layers(given: list[Layer]) -> list[Layer]:
    """A layer for each macro that files or flags give, with the values that it stands for; they lie over the preset.

    The values are what a person would type for them: 0.0703, where the formula gives 0.07029999999999999. A run's own config
    holds them already, and what was said over them. Raises ConfigError for two macros that set one value differently, unless the
    last of `given`, the command line, sets it.
    """
    found: list[Layer] = []
    for name, formula in MACROS.items():
        key = f"macro.{name}"
        written, by = last_said(given, key, None)
        if by is None or written is None or has_acted(by, name):
            continue
        try:
            value = coerce(written, LEAVES[key].kind, key)
            check_range(value, LEAVES[key].field, key)
        except ConfigError as error:
            raise ConfigError(f"{error} ({by.where})") from error
        values = {set_key: round(number, DIGITS) for set_key, number in formula(value).items()}
        found.append(make_layer("macro", f"macro {name}={value:.{DIGITS}g}", values.items()))
    check_agreement(found, [layer for layer in given if layer.kind == "flag"])
    return found


def has_acted(layer: Layer, name: str) -> bool:
    """Whether a layer is a run's own config, in which a macro's values stand beside the macro."""
    return layer.is_whole and all(layer.get(key) for key in MACROS[name](0.0))


def check_agreement(macros: Sequence[Layer], flags: Sequence[Layer]) -> None:
    """Raises ConfigError for a value that two macros set differently and the command line does not."""
    for lower, upper in itertools.combinations(macros, 2):
        for item in upper.items:
            other = lower.get(item.key)
            if other and not any(flag.get(item.key) for flag in flags) and other.value != item.value:
                raise ConfigError(
                    f"{lower.where} makes {item.key} {other.value}, {upper.where} makes it {item.value}; "
                    f"say which: --{item.key}=VALUE, or leave one of the two out"
                )


def outdated_macros(layers: Sequence[Layer]) -> Iterator[tuple[str, Layer]]:
    """The macros of a run's own config whose values a preset chosen after it replaces, with that preset's layer."""
    for preset in [layer for layer in layers if layer.kind == "preset"]:
        for name in MACROS:
            value, by = last_said(list(layers), f"macro.{name}", None)
            if by and value is not None and has_acted(by, name):
                yield f"macro.{name}", preset


def policy_layer(given: list[Layer]) -> list[Layer]:
    """The layer of the policy that files or flags ask for: below the files, so that a recipe's own words hold.

    Raises ConfigError for a policy that is not there, or that says what is not a policy's.
    """
    name, by = last_said(given, "policy", None)
    if by is None or by.is_whole or name == "none":
        return []
    check_policy(name, by.where)
    values = read_yaml(CONFIG_DIR / "policy" / f"{name}.yaml")
    for key in values:
        if key.split(".")[0] in NOT_IN_POLICIES:
            raise ConfigError(f"config/policy/{name}.yaml: {key} is not a policy's to choose; give it on the command line")
    return [make_layer("policy", f"policy {name}", values.items())]


def lookahead_layers(layers: Sequence[Layer]) -> list[Layer]:
    """The layers with `optimizer=lookahead` taken apart: its file as the lowest layer, and `optimizer.base` as the choice.

    That Lookahead is on is the choosing layer's word, over whatever lies below it: a run to be resumed, a recipe.
    `optimizer.base` without that choice is left to fail as a key that the optimizer does not have.
    """
    found = [index for index, layer in enumerate(layers) if "optimizer" in layer.choices]
    if not found or layers[found[-1]].choices["optimizer"] != WRAPPER:
        return list(layers)
    own = group_choices("optimizer")[WRAPPER]
    base, by = last_said(list(layers), "optimizer.base", own["base"])
    where = by.where if by else f"config/optimizer/{WRAPPER}.yaml"
    if choice_name("optimizer", base, f"optimizer.base, {where}") == WRAPPER:
        raise ConfigError(f"optimizer.base must be the optimizer that Lookahead goes over, not {WRAPPER} itself ({where})")
    chooser = layers[found[-1]]
    is_on = Item("optimizer", "optimizer.lookahead.enabled", None, True)
    opened = replace(chooser, choices={**chooser.choices, "optimizer": base}, items=[is_on, *chooser.items])
    stated = [(key, value) for key, value in flattened({"optimizer": own}.items()) if key != "optimizer.base"]
    wrapper = make_layer("group", f"config/optimizer/{WRAPPER}.yaml", stated)
    others = [opened if layer is chooser else layer for layer in layers]
    return [wrapper, *(replace(layer, items=[i for i in layer.items if i.key != "optimizer.base"]) for layer in others)]
