"""What a run brings along besides weights: the states that plugins ended another run with, and a batch that is never learned."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import torch

from . import checkpoint
from .data import Batch, Corpus, to_device
from .errors import CheckpointError, CorpusError, PresetError
from .plugins import OccamPlugin, PluginHost
from .presets import plugin_class

PROBE_ROWS = 8
LARGEST_SHARE = 0.1  # of the training split that may be held out


def carry_plugin_state(host: PluginHost, plugin_state: str) -> list[str]:
    """Let plugins begin with the states that they ended a run with: `plugin_state` is from:RUN. What was done, a line each.

    A plugin is the same where its name is, and the type that RUN's config gives stands for its class. Raises CheckpointError
    when RUN has no last.pt, or a state does not fit.
    """
    run = Path(plugin_state.removeprefix("from:"))
    saved = _finished(run)
    types = {spec["name"]: spec["type"] for spec in saved["config"].get("rack", ())}
    states = saved["learner"]["plugins"]["plugins"]
    carried: list[str] = []
    fresh: list[str] = []
    for plugin in host:
        is_same = plugin.name in states and _stands_for(types.get(plugin.name), type(plugin))
        if is_same:
            plugin.load_state_dict(states[plugin.name])
        (carried if is_same else fresh).append(plugin.name)
    lines = [f"plugin states from {run}: {', '.join(carried) or 'none'}"]
    return lines + ([f"begin anew, as {run} had no such plugins: {', '.join(fresh)}"] if fresh else [])


def _finished(run: Path) -> dict[str, Any]:
    """last.pt of the run that states come from."""
    if not (path := run / "last.pt").is_file():
        what = f"{path} is missing" if run.is_dir() else f"there is no folder {run}"
        raise CheckpointError(f"no plugin states to begin with: {what}; give plugin_state=from:RUN a run with last.pt, or none")
    return checkpoint.load_complete(run)


def _stands_for(kind: str | None, cls: type[OccamPlugin]) -> bool:
    """Whether a rack's type is the class; its name need not be the class's, as an entry point may be called anything."""
    try:
        return kind is not None and plugin_class(kind) is cls
    except PresetError:  # its package is no longer there, so the plugin at hand is another one
        return False


def wants_probe(host: PluginHost) -> bool:
    """Whether a plugin of the rack measures on a batch that is never learned."""
    return any(field.startswith("requests.probe") for plugin in host for field in writes_of(plugin))


def writes_of(plugin: OccamPlugin) -> list[str]:
    """The fields that a plugin says it writes; none where it does not say."""
    return list(plugin.writes() or ())


def hold_out_probe(corpus: Corpus, block_size: int, device: torch.device) -> tuple[Corpus, Batch]:
    """The corpus without the end of its training split, and that end as a batch (x, y), each (B, T), B ≤ PROBE_ROWS.

    The val split stays unseen: what a plugin tunes on it would no longer be a fair judge. Raises CorpusError when the
    training split is too short to give up as much.
    """
    train = corpus.train
    rows = min(PROBE_ROWS, int(train.tokens * LARGEST_SHARE) // (block_size + 1))
    if not rows:
        raise CorpusError(
            f"{train.path} has {train.tokens} tokens: too few to hold one window of {block_size + 1} out for the plugins' probe; "
            f"lower --block_size, or take the plugins that probe out of the rack"
        )
    kept = train.tokens - rows * (block_size + 1)
    window = train.windows(kept + np.arange(rows) * (block_size + 1), block_size + 1)  # (B, T + 1)
    shorter = dataclasses.replace(train, tokens=kept, held=None if train.held is None else train.held[:kept])
    return dataclasses.replace(corpus, train=shorter), to_device(window, device)
