"""Learning-rate schedules: pure functions of the clock, without state, so a change in mid-run bends nothing behind it."""

from __future__ import annotations

import math
from collections.abc import Callable

from ..config import RunConfig

Schedule = Callable[[int], float]


def warmed_up(schedule: Schedule, peak: float, warmup_steps: int) -> Schedule:
    """lr rises linearly to `peak` over the first `warmup_steps` ticks, never starting at 0; then `schedule`."""
    return lambda tick: peak * (tick + 1) / (warmup_steps + 1) if tick < warmup_steps else schedule(tick)


def progress(tick: int, warmup_steps: int, decay_steps: int) -> float:
    """How far the decay has come at a tick: 0 at the end of the warm-up, 1 from `decay_steps` on."""
    if tick >= decay_steps:
        return 1.0
    return max(0, tick - warmup_steps) / max(1, decay_steps - warmup_steps)


def cosine(peak: float, min_lr: float, warmup_steps: int, decay_steps: int) -> Schedule:
    """lr = min + (peak − min)·(1 + cos πs)/2, s the progress. Source: Loshchilov & Hutter 2017 (arXiv:1608.03983)."""
    return lambda tick: min_lr + (peak - min_lr) * (1 + math.cos(math.pi * progress(tick, warmup_steps, decay_steps))) / 2


def linear(peak: float, min_lr: float, warmup_steps: int, decay_steps: int) -> Schedule:
    """lr = peak − (peak − min)·s, s the progress."""
    return lambda tick: peak - (peak - min_lr) * progress(tick, warmup_steps, decay_steps)


def constant(peak: float, min_lr: float, warmup_steps: int, decay_steps: int) -> Schedule:
    """lr = peak, after the warm-up."""
    return lambda tick: peak


SCHEDULES = {"cosine": cosine, "linear": linear, "constant": constant}


def build_schedule(config: RunConfig) -> Schedule:
    """The run's schedule. `none`, or an optimizer without its scheduler_hook, is the bare peak without warm-up."""
    peak = config.optimizer.lr
    if config.scheduler.name == "none" or not config.optimizer.scheduler_hook:
        return lambda tick: peak
    decay_steps = config.scheduler.decay_steps or max(1, config.max_iters)
    law = SCHEDULES[config.scheduler.name](peak, config.min_lr, config.warmup_steps, decay_steps)
    return warmed_up(law, peak, config.warmup_steps)
