"""SaturationPlugin: a little noise on the learning rate, the gradient, both, or the token embedding."""

from __future__ import annotations

import math
import random
from collections.abc import Mapping
from types import MappingProxyType

from ..context import OccamContext
from .base import Param, SeededPlugin

# noise_type -> the fields that it works on
TARGETS = {
    "learning_rate": ("learning_rate",),
    "gradient": ("requests.gradient_noise",),
    "both": ("learning_rate", "requests.gradient_noise"),
    "embedding": ("requests.embedding_noise",),
}


class SaturationPlugin(SeededPlugin):
    """Noise whose strength ramps up: drive_n = drive·min(1, n/warmup_iters) in the plugin's n-th iteration, n from 0.

    'learning_rate': lr ← lr·max(0, 1 + drive_n·N(0, 1)). 'gradient': asks the learner for Gaussian gradient noise of
    σ = drive_n × the gradient's rms, added in quadrature to what other plugins asked for. 'both': these two. 'embedding': asks
    for Gaussian noise of σ = drive_n × the rms of the token embedding's output, added to that output in the next iteration's
    training forward, in quadrature too; never in evaluation, and not on positions. The task_loss there, which the gate judges,
    is measured under it.

    The learning rate's generator is the plugin's own, seeded by `seed`, drawn from once in every iteration, learned or not, and
    equal on every rank. The learner draws the other two kinds from the run's seed: the gradient's noise by iteration, the
    embedding's by iteration, micro-batch and rank.
    """

    name = "saturation"
    PARAMS = (
        Param("drive", 0.01, "relative strength of the noise", low=0),
        Param("noise_type", "learning_rate", "where the noise goes", str, choices=tuple(TARGETS)),
        Param("warmup_iters", 100, "iterations to full strength", int, low=0),
        Param("seed", None, "seed of the learning-rate noise; null = the run's", int | None, low=0),
    )
    STATE = ("iterations", "generator")
    WRITES = MappingProxyType({"learning_rate": "scales", "requests.gradient_noise": "adds", "requests.embedding_noise": "adds"})

    drive: float
    noise_type: str
    warmup_iters: int

    def reset(self) -> None:
        self.iterations = 0
        self.random = random.Random(self.own_seed)

    def writes(self) -> Mapping[str, str]:
        return {field: self.WRITES[field] for field in TARGETS[self.noise_type]}

    def on_batch_start(self, ctx: OccamContext) -> OccamContext:
        ramp = min(1.0, self.iterations / self.warmup_iters) if self.warmup_iters else 1.0
        drive, factor = self.drive * ramp, 1.0
        if self.noise_type in ("learning_rate", "both"):
            factor = max(0.0, 1 + drive * self.random.gauss())
            ctx.learning_rate *= factor
        if self.noise_type in ("gradient", "both"):
            ctx.requests.gradient_noise = math.hypot(ctx.requests.gradient_noise, drive)
        if self.noise_type == "embedding":
            ctx.requests.embedding_noise = math.hypot(ctx.requests.embedding_noise, drive)
        ctx.metrics[f"{self.name}/lr_factor"] = factor
        ctx.metrics[f"{self.name}/drive"] = drive
        self.iterations += 1
        return ctx
