"""What a run will cost, from a few real steps held in memory: parameters, FLOPs, memory, time. Writes nothing."""

from __future__ import annotations

import resource
import sys
import time
from typing import Any, Protocol

import torch

from .config import RunConfig
from .console import Screen
from .data import Batch
from .learner import OckhamLearner
from .plugins import PluginHost

TIMED_STEPS, TIMED_SECONDS = 8, 3.0  # whichever comes first, after one step of warm-up


class Sized(Protocol):
    """A model that knows its size."""

    def num_params(self) -> int:
        """Parameters without position embeddings."""

    def flops_per_token(self) -> float:
        """Forward and backward FLOPs of one token."""


def bytes_of(value: Any) -> int:
    """Bytes of all tensors in nested dicts, lists and tuples."""
    if isinstance(value, torch.Tensor):
        return value.numel() * value.element_size()
    if isinstance(value, dict):
        return sum(bytes_of(v) for v in value.values())
    return sum(bytes_of(v) for v in value) if isinstance(value, (list, tuple)) else 0


def seconds_per_step(learner: OckhamLearner, batches: list[Batch]) -> float:
    """Median time of a full update, over a few steps; the learner is used up by it."""
    learner.host = PluginHost([])  # an open gate: the dearest step there is
    learner.step(batches)
    times: list[float] = []
    while len(times) < TIMED_STEPS and sum(times) < TIMED_SECONDS:
        began = time.perf_counter()
        learner.step(batches)
        times.append(time.perf_counter() - began)
    return sorted(times)[len(times) // 2]


def print_estimate(config: RunConfig, model: Sized, learner: OckhamLearner, batches: list[Batch], screen: Screen) -> int:
    """Measure and print; the exit code."""
    seconds = seconds_per_step(learner, batches)
    tokens = sum(y.numel() for _, y in batches) * learner.ranks.world
    weights = bytes_of(list(learner.parameters))
    device = learner.ranks.device
    if device.type == "cuda":
        peak = torch.cuda.max_memory_allocated(device)
    else:
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)
    mib = 2**20
    for label, value in (
        ("parameters", f"{model.num_params():,} (position embeddings left out)"),
        ("tokens per iteration", f"{tokens:,}"),
        ("FLOPs per iteration", f"{model.flops_per_token() * tokens:.3e}"),
        ("weights + gradients", f"{2 * weights / mib:.1f} MiB"),
        ("optimizer state", f"{bytes_of(learner.optimizer.state_dict()) / mib:.1f} MiB"),
        ("anchor", f"{bytes_of(learner.anchor.weights) / mib:.1f} MiB"),
        ("peak memory of this process", f"{peak / mib:.0f} MiB"),
        ("time per iteration", f"{seconds * 1e3:.1f} ms when every batch is learned"),
        ("time for all iterations", f"{seconds * config.max_iters / 60:.1f} min, evaluation not counted"),
    ):
        screen.say(f"{label:28s} {value}")
    screen.say("dry run: nothing was written")
    return 0
