"""DelayPlugin: the anchor follows the weights at a distance in time."""

from __future__ import annotations

from types import MappingProxyType

from ..context import OccamContext
from .base import OccamPlugin, Param


class DelayPlugin(OccamPlugin):
    """A memory horizon: the anchor is an exponential average of the weights, of half-life `horizon` iterations.

    After each update, while an anchor is in force: θ* ← θ* + r·(θ − θ*), r = 1 − 0.5^(n/horizon), n the iterations since the
    anchor last followed. So the half-life counts iterations: a skipped one leaves the anchor where it is, and the next
    update makes up for it. Iterations whose loss is not finite do not count. Against weights that stand still, the drift
    after t iterations is 4^(−t/horizon) of what it was. Several requests act as if one after the other,
    r = 1 − (1 − r₁)(1 − r₂): their 1/horizon add up.

    A consolidation still moves the anchor all the way, and the count begins anew.
    """

    name = "delay"
    PARAMS = (Param("horizon", 1000.0, "half-life of the anchor's memory, iterations", low=1),)
    STATE = ("iterations",)
    WRITES = MappingProxyType({"requests.anchor_follow": "adds"})

    horizon: float

    def reset(self) -> None:
        self.iterations = 0  # since the anchor last followed

    def on_batch_start(self, ctx: OccamContext) -> OccamContext:
        rate = 0.0
        if ctx.anchor_available:
            self.iterations += 1
            rate = 1 - 0.5 ** (self.iterations / self.horizon)
            ctx.requests.anchor_follow = 1 - (1 - ctx.requests.anchor_follow) * (1 - rate)
        ctx.metrics[f"{self.name}/rate"] = rate
        return ctx

    def on_batch_end(self, ctx: OccamContext) -> None:
        if ctx.updated:
            self.iterations = 0

    def on_consolidate(self, ctx: OccamContext) -> None:
        self.iterations = 0
