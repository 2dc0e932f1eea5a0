"""LossBrakePlugin: a loss far above its running mean lowers the learning rate of that iteration."""

from __future__ import annotations

import math
from types import MappingProxyType

from ockham.plugins import OccamContext, OccamPlugin, Param

SMOOTHING = 0.05  # one-pole rate of the running mean


class LossBrakePlugin(OccamPlugin):
    """lr ← lr·brake where task_loss > tolerance × its running mean; the mean then follows the loss.

    The first loss is its own mean, so the first iteration is never braked. Losses that are not finite are left out.
    """

    name = "loss_brake"
    PARAMS = (
        Param("tolerance", 1.5, "loss over its running mean from which the brake acts", low=1),
        Param("brake", 0.5, "learning-rate factor of a braked iteration", low=0, high=1),
    )
    STATE = ("mean",)  # what a checkpoint keeps
    WRITES = MappingProxyType({"learning_rate": "scales"})  # what `ockham check` says

    tolerance: float
    brake: float

    def reset(self) -> None:
        self.mean: float | None = None

    def on_batch_start(self, ctx: OccamContext) -> OccamContext:
        is_jump = self.mean is not None and ctx.task_loss > self.tolerance * self.mean
        if is_jump:
            ctx.learning_rate *= self.brake
        if math.isfinite(ctx.task_loss):
            self.mean = ctx.task_loss if self.mean is None else self.mean + SMOOTHING * (ctx.task_loss - self.mean)
        ctx.metrics[f"{self.name}/on"] = float(is_jump)
        return ctx
