"""CompressorPlugin: too much drift, or too high a loss, lowers the learning rate; drift also raises its own price."""

from __future__ import annotations

import math
from collections.abc import Mapping
from types import MappingProxyType

from ..context import OccamContext
from .base import OccamPlugin, Param, ParameterError

SMOOTHING = 0.1  # one-pole rate of the detector on complexity_cost


class CompressorPlugin(OccamPlugin):
    """Squeezes the learning rate down while what it detects is over the threshold, and, for drift, λ up.

    `detector: complexity`: over while the smoothed complexity_cost is. Over: scale_λ moves to ratio and scale_lr to 1/ratio, by
    `attack` of the way in each iteration. Else: scale_λ moves to 1 and scale_lr to makeup_gain, by `release`. Then
    λ ← clamp(λ·scale_λ, min_lambda, max_lambda), lr ← lr·scale_lr. From rest, n attacks give
    scale_λ = ratio − (ratio − 1)(1 − attack)ⁿ. λ = 0 stays 0: who charges nothing for drift is not made to. A consolidation sets
    the detector to 0, for the drift it followed is gone. Until an anchor is in force the plugin waits: it neither moves its
    scales nor touches the context.

    `detector: loss`: over while this batch's task_loss is, in nats/token and not smoothed, with or without an anchor, learned or
    not. scale_lr moves as above, λ is left alone. It dampens learning while the model is unstable. From rest, n attacks give
    scale_lr = 1/ratio + (1 − 1/ratio)(1 − attack)ⁿ.

    The ratio divides the learning rate in both; where it is meant as a factor, such as 0.5, give its reciprocal, 2.
    """

    name = "compressor"
    PARAMS = (
        Param("threshold", 0.1, "complexity_cost, or loss in nats/token, that starts compression", low=0),
        Param("ratio", 2.0, "how far lr is divided and, on drift, λ raised", low=1),
        Param("attack", 0.1, "share of the way to compression, per iteration", low=0, high=1),
        Param("release", 0.05, "share of the way back, per iteration", low=0, high=1),
        Param("makeup_gain", 1.0, "learning-rate factor at rest", low=0),
        Param("min_lambda", 0.0, "least λ", low=0),
        Param("max_lambda", 1.0, "largest λ", low=0),
        Param("detector", "complexity", "what is compared with the threshold", str, choices=("complexity", "loss")),
    )
    STATE = ("level", "lambda_scale", "lr_scale")
    WRITES = MappingProxyType({"learning_rate": "scales", "lambda_ockham": "clamps"})

    threshold: float
    ratio: float
    attack: float
    release: float
    makeup_gain: float
    min_lambda: float
    max_lambda: float
    detector: str

    def check(self) -> None:
        if self.min_lambda > self.max_lambda:
            message = f"{self.name}.min_lambda must be <= max_lambda ({self.max_lambda:g}), got {self.min_lambda:g}"
            raise ParameterError(message, ("min_lambda",))

    def reset(self) -> None:
        self.level: float | None = None  # smoothed complexity_cost, or the last loss; None until the first
        self.lambda_scale, self.lr_scale = 1.0, 1.0

    def writes(self) -> Mapping[str, str]:
        return {"learning_rate": "scales"} if self.detector == "loss" else self.WRITES

    def on_batch_start(self, ctx: OccamContext) -> OccamContext:
        by_loss = self.detector == "loss"
        acts = math.isfinite(ctx.task_loss) if by_loss else ctx.anchor_available
        is_over = acts and self._follow(ctx)
        if acts:
            ctx.learning_rate *= self.lr_scale
        if acts and not by_loss and ctx.lambda_ockham > 0:
            ctx.lambda_ockham = min(max(ctx.lambda_ockham * self.lambda_scale, self.min_lambda), self.max_lambda)
        ctx.metrics[f"{self.name}/lambda_factor"] = self.lambda_scale
        ctx.metrics[f"{self.name}/lr_factor"] = self.lr_scale
        ctx.metrics[f"{self.name}/on"] = float(is_over)
        return ctx

    def on_consolidate(self, ctx: OccamContext) -> None:
        if self.detector == "complexity":
            self.level = 0.0

    def _follow(self, ctx: OccamContext) -> bool:
        """Moves detector and scales by one iteration; returns whether the level is over the threshold."""
        cost = ctx.complexity_cost
        if self.detector == "loss":
            self.level = ctx.task_loss
        else:
            self.level = cost if self.level is None else self.level + SMOOTHING * (cost - self.level)
        is_over = self.level > self.threshold
        rate = self.attack if is_over else self.release
        self.lr_scale += rate * ((1 / self.ratio if is_over else self.makeup_gain) - self.lr_scale)
        if self.detector == "complexity":
            self.lambda_scale += rate * ((self.ratio if is_over else 1.0) - self.lambda_scale)
        return is_over
