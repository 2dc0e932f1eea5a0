"""What only the layers together can show to be wrong: a length said twice, weights that are nowhere."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

from ..config import OptimizerConfig, RunConfig
from ..errors import ConfigError, nearest
from .keys import group_choices
from .layers import Layer, last_said

START_WORDS = ("scratch", "resume", "gpt2", "gpt2-medium", "gpt2-large", "gpt2-xl")


class Spoken(Protocol):
    """A layer, as far as it is looked at here."""

    @property
    def kind(self) -> str: ...
    @property
    def where(self) -> str: ...
    @property
    def is_whole(self) -> bool: ...
    def says(self, key: str) -> bool: ...


def iterations_hold_over_epochs(layers: Sequence[Spoken], epochs: float) -> Spoken | None:
    """The layer whose max_iters holds over `epochs`, those of a layer below it; None where epochs hold, or there are none.

    A whole config, as a run wrote it, states both, and its epochs are what was said. Raises ConfigError for any other layer
    that gives both.
    """
    if not epochs:
        return None
    for layer in reversed(layers):
        if layer.says("epochs"):
            if layer.says("max_iters") and not layer.is_whole:
                raise ConfigError(f"give epochs or max_iters, not both ({layer.where})")
            return None
        if layer.says("max_iters"):
            return layer
    return None


def check_init_from(init_from: str, where: str) -> None:
    """Raises ConfigError for a word that is neither known nor a path, naming the nearest one and all of them."""
    looks_like_path = any(mark in init_from for mark in {os.sep, "/", "."}) or Path(init_from).exists()
    if init_from not in START_WORDS and not looks_like_path:
        raise ConfigError(
            f"init_from must be one of {', '.join(START_WORDS)}, or a checkpoint, run folder or Hugging Face folder that is "
            f"there, got {init_from!r} ({where}){nearest(init_from, START_WORDS)}"
        )


def check_plugin_state(plugin_state: str, where: str) -> None:
    """Raises ConfigError for anything but none or from:RUN."""
    prefix, _, run = plugin_state.partition(":")
    if plugin_state != "none" and not (prefix == "from" and run.strip()):
        raise ConfigError(f"plugin_state must be none or from:RUN, RUN being a run's folder, got {plugin_state!r} ({where})")


def check_same_optimizer(below: Sequence[Layer], config: RunConfig) -> None:
    """Raises ConfigError where a run is resumed with another class of optimizer: none could go on with the state of another."""
    was = last_said(list(below), "optimizer.type", None)[0]
    if was and was != config.optimizer.type and not config.eval_only and (Path(config.out_dir) / "last.pt").exists():
        raise ConfigError(
            f"the run in {config.out_dir} was trained with {was}, and {config.optimizer.type} cannot go on with its state: leave "
            f"the optimizer out, or start a new run from the weights: --init_from={config.out_dir}/ckpt.pt --out_dir=NEW"
        )


def check_type(config: OptimizerConfig, stated: Mapping[str, Any], where: str) -> None:
    """Raises ConfigError where `optimizer.type` puts another class than its file's under that file's options, and they misfit.

    `stated` is the file of config.name. Other classes' files are the remedy.
    """
    if config.type == stated.get("type"):
        return
    from ..optim.build import keyword_arguments  # torch: only where somebody chooses a class by hand

    try:
        keyword_arguments(config)
    except ConfigError as error:
        own = [name for name, other in group_choices("optimizer").items() if other.get("type") == config.type]
        fix = f"optimizer={own[0]} has its own options" if own else "docs/how-to/add-an-optimizer.md: give it a file of its own"
        raise ConfigError(
            f"optimizer.type = {config.type} ({where}) has the options of config/optimizer/{config.name}.yaml: {error}; {fix}"
        ) from error
