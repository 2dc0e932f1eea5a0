"""LearnedGainPlugin: a learning-rate gain that adapts itself to lower a held-out loss."""

from __future__ import annotations

import math
from types import MappingProxyType

from ..context import OccamContext
from .base import OccamPlugin, Param


class LearnedGainPlugin(OccamPlugin):
    """lr ← lr·gain, and gain ← clip(gain·exp(−rate·s), low, high) by the slope s of the probe loss; needs a probe.

    s = ⟨∇L_probe(θ_t), Δθ⟩ / (‖∇L_probe‖·‖Δθ‖) in [−1, 1], Δθ the update that led to θ_t: the hypergradient of the learning
    rate, freed of scale. s < 0: the probe loss still falls along the update, which was too short, and the gain rises; s > 0: it
    was too long. The slope is asked for in the first iteration and `interval` after each that was found; an iteration
    that does not update gives none, so the next asks again.

    Costs a forward and a backward of the probe and, in that iteration, a copy of the weights. The rule looks one step ahead: with
    a noisy gradient it prefers smaller steps than those best in the long run (Wu et al. 2018, arXiv:1803.02021).
    Source: Baydin et al. 2018 (arXiv:1703.04782), multiplicative rule; the slope on held-out data in place of the next batch.
    """

    name = "learned_gain"
    PARAMS = (
        Param("rate", 0.2, "speed: the logarithm of the gain moves by at most this at a time", low=0),
        Param("interval", 10, "iterations between measurements", int, low=1),
        Param("low", 0.1, "least gain", low=1e-6, high=1),
        Param("high", 10.0, "largest gain", low=1),
    )
    STATE = ("gain", "wait", "has_asked")
    WRITES = MappingProxyType({"learning_rate": "scales", "requests.probe_slope": "raises"})

    rate: float
    interval: int
    low: float
    high: float

    def reset(self) -> None:
        self.gain = 1.0
        self.wait = 0  # iterations until the next request
        self.has_asked = False

    def on_batch_start(self, ctx: OccamContext) -> OccamContext:
        if self.has_asked and "slope" in ctx.probes:
            self._learn(ctx, ctx.probes["slope"])
        elif self.wait:
            self.wait -= 1
        if not self.wait:
            ctx.requests.probe_slope = self.has_asked = True
        ctx.learning_rate *= self.gain
        ctx.metrics[f"{self.name}/gain"] = self.gain
        return ctx

    def _learn(self, ctx: OccamContext, slope: float) -> None:
        self.gain = min(max(self.gain * math.exp(-self.rate * slope), self.low), self.high)
        self.wait, self.has_asked = self.interval - 1, False
        ctx.metrics[f"{self.name}/slope"] = slope
        ctx.metrics[f"{self.name}/probe_loss"] = ctx.probes["loss"]
