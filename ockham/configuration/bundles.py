"""Whole layers that a name stands for: a run to be resumed, a preset, a policy, Lookahead over another optimizer."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from ..errors import CheckpointError, ConfigError, nearest
from .files import CONFIG_DIR, read_yaml
from .keys import choice_name, group_choices, is_known, policies
from .layers import Layer, flattened, last_said, make_layer
from .rack import preset_specs

# Of a run's saved config, what belonged to that start of it alone.
NOT_RESUMED = ("init_from", "overwrite", "dry_run", "debug", "eval_only", "out_dir")
NOT_IN_POLICIES = ("policy", "preset", "rack", "init_from", "out_dir", "dataset")
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
    specs, hyperparameters = preset_specs(str(name))
    layer = make_layer("preset", f"preset {name}", hyperparameters.items())
    layer.rack = specs
    return [layer]


def policy_layer(given: list[Layer]) -> list[Layer]:
    """The layer of the policy that files or flags ask for: below the files, so that a recipe's own words hold.

    Raises ConfigError for a policy that is not there, or that says what is not a policy's.
    """
    name, by = last_said(given, "policy", None)
    if by is None or by.is_whole or name == "none":
        return []
    if name not in policies():
        known = ", ".join(["none", *policies()])
        raise ConfigError(f"policy must be one of {known}, got {name!r} ({by.where}){nearest(str(name), policies())}")
    values = read_yaml(CONFIG_DIR / "policy" / f"{name}.yaml")
    for key in values:
        if key.split(".")[0] in NOT_IN_POLICIES:
            raise ConfigError(f"config/policy/{name}.yaml: {key} is not a policy's to choose; give it on the command line")
    return [make_layer("policy", f"policy {name}", values.items())]


def lookahead_layers(layers: Sequence[Layer]) -> list[Layer]:
    """The layers with `optimizer=lookahead` taken apart: its file as the lowest layer, and `optimizer.base` as the choice.

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
    opened = replace(chooser, choices={**chooser.choices, "optimizer": base})
    stated = [(key, value) for key, value in flattened({"optimizer": own}.items()) if key != "optimizer.base"]
    wrapper = make_layer("group", f"config/optimizer/{WRAPPER}.yaml", stated)
    others = [opened if layer is chooser else layer for layer in layers]
    return [wrapper, *(replace(layer, items=[i for i in layer.items if i.key != "optimizer.base"]) for layer in others)]
