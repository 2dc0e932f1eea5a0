"""What a run brings along besides weights: the states that plugins ended another run with, and a batch that is never learned."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import torch

from . import checkpoint
from .data import Batch, Corpus, to_device
from .errors import CorpusError
from .plugins import OccamPlugin, PluginHost

PROBE_ROWS = 8
LARGEST_SHARE = 0.1  # of the training split that may be held out


def carry_plugin_state(host: PluginHost, plugin_state: str) -> list[str]:
    """Let plugins begin with the states that they ended a run with: `plugin_state` is from:RUN. What was done, a line each.

    A plugin is the same where name and type are. Raises CheckpointError when RUN has no last.pt, or a state does not fit.
    """
    run = Path(plugin_state.removeprefix("from:"))
    saved = checkpoint.load_complete(run)
    types = {spec["name"]: spec["type"] for spec in saved["config"].get("rack", ())}
    states = saved["learner"]["plugins"]["plugins"]
    carried: list[str] = []
    fresh: list[str] = []
    for plugin in host:
        is_same = plugin.name in states and types.get(plugin.name) == type(plugin).__name__
        if is_same:
            plugin.load_state_dict(states[plugin.name])
        (carried if is_same else fresh).append(plugin.name)
    lines = [f"plugin states from {run}: {', '.join(carried) or 'none'}"]
    return lines + ([f"begin anew, as {run} had no such plugins: {', '.join(fresh)}"] if fresh else [])


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
