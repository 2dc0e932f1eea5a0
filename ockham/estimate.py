"""What a run will cost, from a few real steps held in memory: parameters, FLOPs, memory, time. Writes nothing."""

from __future__ import annotations

import sys
import time
from typing import Any, Protocol

import torch

from .config import RunConfig
from .console import Screen
from .learner import OckhamLearner
from .objective import Rows
from .plugins import PluginHost

TIMED_STEPS, TIMED_SECONDS = 8, 3.0  # whichever comes first


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


def seconds_per_batch(learner: OckhamLearner, batch: Rows) -> float:
    """Median time of one learned micro-batch, over a few; the first warms up unless it is slow. The learner is used up by it."""
    learner.host = PluginHost([])  # an open gate: the dearest step there is
    times: list[float] = []
    while not learner.ranks.any(len(times) > TIMED_STEPS or sum(times) >= TIMED_SECONDS):  # clocks of ranks differ
        began = time.perf_counter()
        learner.step(batch)
        times.append(time.perf_counter() - began)
    return sorted(times[1:] or times)[len(times[1:] or times) // 2]


def peak_bytes(device: torch.device) -> int | None:
    """The most memory that this process has had, on its CUDA card or in all; None where the system does not say."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    try:
        import resource
    except ImportError:  # Windows
        return None
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)


def print_estimate(config: RunConfig, model: Sized, learner: OckhamLearner, batches: list[Rows], screen: Screen) -> int:
    """Print what arithmetic knows, then what a few micro-batches take; the exit code."""
    tokens = sum(rows.y.numel() for rows in batches) * learner.ranks.world
    mib, weights = 2**20, bytes_of(list(learner.parameters))

    def say(label: str, value: str) -> None:
        screen.say(f"{label:28s} {value}")

    say("parameters", f"{model.num_params():,} (position embeddings left out)")
    say("tokens per iteration", f"{tokens:,}")
    say("FLOPs per iteration", f"{model.flops_per_token() * tokens:.3e}")
    say("weights + gradients", f"{2 * weights / mib:.1f} MiB")
    say("anchor", f"{bytes_of(learner.anchor.weights) / mib:.1f} MiB")
    seconds = seconds_per_batch(learner, batches[0]) * len(batches)
    peak = peak_bytes(learner.ranks.device)
    say("optimizer state", f"{bytes_of(learner.optimizer.state_dict()) / mib:.1f} MiB")
    say("peak memory of this process", "n/a" if peak is None else f"{peak / mib:.0f} MiB")
    say("time per iteration", f"{seconds * 1e3:.1f} ms when every batch is learned")
    say("time for all iterations", f"{seconds * config.max_iters / 60:.1f} min, evaluation not counted")
    screen.say("dry run: nothing was written")
    learner.ranks.close()
    return 0
