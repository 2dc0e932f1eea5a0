"""Learning-rate schedules: pure functions of the clock, without state, so a change in mid-run bends nothing behind it.

A tick is one step of the clock, int or float: a clock may stand between two ticks. Lengths are in ticks, rates in lr.
"""

from __future__ import annotations

import math
from collections.abc import Callable

from ..config import RunConfig

UNITS_PER_TICK = 3  # of the compute clock: what a batch costs that is learned
Schedule = Callable[[float], float]
Anneal = Callable[[float, float, float], float]


def cosine_anneal(start: float, end: float, s: float) -> float:
    """end + (start − end)·(1 + cos πs)/2, s in [0, 1]. Source: Loshchilov & Hutter 2017 (arXiv:1608.03983)."""
    return end + (start - end) * (1 + math.cos(math.pi * s)) / 2


def linear_anneal(start: float, end: float, s: float) -> float:
    """start − (start − end)·s, s in [0, 1]."""
    return start - (start - end) * s


ANNEALS: dict[str, Anneal] = {"cosine": cosine_anneal, "linear": linear_anneal}


def progress(tick: float, start: float, end: float) -> float:
    """How far a piece from tick `start` to tick `end` has come: 0 up to its start, 1 from its end on (also when it is empty)."""
    if tick >= end:
        return 1.0
    return (tick - start) / (end - start) if tick > start else 0.0


def warmed_up(schedule: Schedule, peak: float, warmup_steps: int) -> Schedule:
    """lr = peak·(tick + 1)/(warmup_steps + 1) for the first `warmup_steps` ticks, never 0; then `schedule`."""
    return lambda tick: peak * (tick + 1) / (warmup_steps + 1) if tick < warmup_steps else schedule(tick)


def decay(peak: float, min_lr: float, start: float, end: float, anneal: Anneal) -> Schedule:
    """lr = peak up to tick `start`, annealed to `min_lr` at tick `end`, then min_lr."""
    return lambda tick: anneal(peak, min_lr, progress(tick, start, end))


def onecycle(first: float, peak: float, last: float, rise_steps: float, decay_steps: int, anneal: Anneal) -> Schedule:
    """lr rises from `first` at tick 0 to `peak` at rise_steps − 1, falls to `last` at decay_steps − 1, then stays.

    torch's OneCycleLR of two phases, whose ticks count from 0: hence the − 1. A rise of one tick or less starts at or past
    the peak; a rise as long as decay_steps never falls.
    Source: Smith & Topin 2018 (arXiv:1708.07120).
    """
    top, final = rise_steps - 1, decay_steps - 1

    def lr(tick: float) -> float:
        now = min(tick, final)
        if now <= top:
            return anneal(first, peak, progress(now, 0, top))
        return anneal(peak, last, progress(now, top, final))

    return lr


def horizon(config: RunConfig) -> int:
    """Where the decay ends, in ticks: scheduler.decay_steps, else what max_units pays on the compute clock, else max_iters."""
    ticks = config.max_iters
    if config.max_units and config.scheduler.clock == "compute":
        ticks = min(ticks, round(config.max_units / (UNITS_PER_TICK * config.optimizer.accumulate_steps)))
    return config.scheduler.decay_steps or max(1, ticks)


def build_constant(config: RunConfig) -> Schedule:
    """Warm-up, then the peak."""
    peak = config.optimizer.lr
    return warmed_up(lambda tick: peak, peak, config.warmup_steps)


def build_decay(config: RunConfig, anneal: str, stable_steps: float = 0) -> Schedule:
    """Warm-up, the peak until tick `stable_steps`, then down to min_lr at the horizon."""
    peak, warmup = config.optimizer.lr, config.warmup_steps
    law = decay(peak, config.min_lr, max(warmup, stable_steps), horizon(config), ANNEALS[anneal])
    return warmed_up(law, peak, warmup)


def build_wsd(config: RunConfig) -> Schedule:
    """Warm-up, stable, decay: the fall takes the last `decay_fraction` of the horizon, or what the warm-up left of it.

    Source: MiniCPM, Hu et al. 2024 (arXiv:2404.06395); the fall is linear or cosine here, exponential there.
    """
    given = config.scheduler
    return build_decay(config, given.anneal, (1 - given.decay_fraction) * horizon(config))


def cycle_rise(config: RunConfig) -> float:
    """onecycle's rise in ticks: `warmup_steps` (at most the horizon) where they are given, else pct_start of the horizon."""
    end = horizon(config)
    return min(config.warmup_steps, end) or config.scheduler.pct_start * end


def build_onecycle(config: RunConfig) -> Schedule:
    """One cycle from a low rate over the peak to a lower one."""
    given, peak, end = config.scheduler, config.optimizer.lr, horizon(config)
    first = peak / given.div_factor
    last = first / given.final_div_factor if given.min_lr is None else given.min_lr
    return onecycle(first, peak, last, cycle_rise(config), end, ANNEALS[given.anneal])


def reaches_end(config: RunConfig) -> bool:
    """Whether a schedule that falls comes to its last lr: its rise is over before the horizon."""
    rise = cycle_rise(config) if config.scheduler.name == "onecycle" else config.warmup_steps
    return rise < horizon(config)


SCHEDULES: dict[str, Callable[[RunConfig], Schedule]] = {
    "none": lambda config: lambda tick: config.optimizer.lr,
    "constant": build_constant,
    "linear": lambda config: build_decay(config, "linear"),
    "cosine": lambda config: build_decay(config, "cosine"),
    "onecycle": build_onecycle,
    "wsd": build_wsd,
}


def build_schedule(config: RunConfig) -> Schedule:
    """The run's schedule lr(tick). `none`, or an optimizer without its scheduler_hook, is the bare peak without warm-up."""
    return SCHEDULES[config.scheduler.name if config.optimizer.scheduler_hook else "none"](config)
