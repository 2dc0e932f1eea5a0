"""KLWatchdogPlugin: how far the model's predictions have gone from the anchor's."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from ..context import OccamContext
from .base import OccamPlugin, Param


class KLWatchdogPlugin(OccamPlugin):
    """Watches KL(anchor‖model) on the learner's probe batch, in nats/token; needs a probe.

    Asks for it in its first iteration and every `interval` after; the learner measures when that iteration is done, and the
    figure is in the next context. A KL over the threshold, or one that is not a number, is said once per crossing. 'rollback'
    and 'stop' set ctx.requests.rollback or .stop to the reason, at every measurement that is over: the program that trains
    reads them from the context that the learner's step returns (the batch at hand is still learned). While no anchor is in
    force nothing is measured.

    Costs one forward of the probe, and one more whenever the anchor has moved since the last.
    """

    name = "kl_watchdog"
    PARAMS = (
        Param("threshold", 0.5, "largest KL, nats/token", low=0),
        Param("interval", 100, "iterations between measurements", int, low=1),
        Param("action", "log", "what a KL over the threshold leads to", str, choices=("log", "rollback", "stop")),
    )
    STATE = ("iterations", "is_over", "kl")
    WRITES = MappingProxyType({"requests.probe_kl": "raises", "requests.rollback": "raises", "requests.stop": "raises"})

    threshold: float
    interval: int
    action: str

    def reset(self) -> None:
        self.iterations = 0
        self.is_over = False
        self.kl: float | None = None  # the last measured

    def writes(self) -> Mapping[str, str]:
        return {field: how for field, how in self.WRITES.items() if field in ("requests.probe_kl", f"requests.{self.action}")}

    def on_batch_start(self, ctx: OccamContext) -> OccamContext:
        if "kl" in ctx.probes:
            self._judge(ctx, ctx.probes["kl"])
        if self.iterations % self.interval == 0:
            ctx.requests.probe_kl = True
        self.iterations += 1
        return ctx

    def _judge(self, ctx: OccamContext, kl: float) -> None:
        was_over, self.is_over, self.kl = self.is_over, not kl <= self.threshold, kl
        ctx.metrics[f"{self.name}/kl"] = kl
        ctx.metrics[f"{self.name}/on"] = float(self.is_over)
        if not self.is_over:
            return
        reason = f"{self.name}: KL(anchor‖model) is {kl:.3g} nats/token, over its threshold {self.threshold:g}"
        if not was_over:
            ctx.notices.append(f"{reason}; action: {self.action}")
        if self.action == "rollback":
            ctx.requests.rollback = ctx.requests.rollback or reason
        elif self.action == "stop":
            ctx.requests.stop = ctx.requests.stop or reason
