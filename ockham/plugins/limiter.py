"""LimiterPlugin: a ceiling on drift."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from ..context import OccamContext
from .base import OccamPlugin, Param


class LimiterPlugin(OccamPlugin):
    """Asks for consolidation when the drift passes its ceiling, and counts large gradients.

    After each step: complexity_cost > complexity_ceiling is a hit, and with force_consolidate sets ctx.consolidating, on which
    the learner moves the anchor to the weights. grad_norm > grad_norm_ceiling in a learned batch is counted, for
    information: clipping is the optimizer's. Without an anchor in force the drift is not looked at.
    """

    name = "limiter"
    PARAMS = (
        Param("complexity_ceiling", 0.2, "largest complexity_cost", low=0),
        Param("grad_norm_ceiling", 1.0, "gradient norm over which a step is counted", low=0),
        Param("force_consolidate", True, "consolidate when the drift is over its ceiling", bool),
    )
    STATE = ("hits", "grad_hits")
    WRITES = MappingProxyType({"consolidating": "raises"})

    complexity_ceiling: float
    grad_norm_ceiling: float
    force_consolidate: bool

    def reset(self) -> None:
        self.hits, self.grad_hits = 0, 0

    def writes(self) -> Mapping[str, str]:
        return self.WRITES if self.force_consolidate else {}

    def on_batch_start(self, ctx: OccamContext) -> OccamContext:
        return ctx

    def on_batch_end(self, ctx: OccamContext) -> None:
        is_over = ctx.anchor_available and ctx.complexity_cost > self.complexity_ceiling
        self.hits += is_over
        self.grad_hits += ctx.updated and ctx.grad_norm > self.grad_norm_ceiling
        if is_over and self.force_consolidate:
            ctx.consolidating = True
        ctx.metrics[f"{self.name}/on"] = float(is_over)
        ctx.metrics[f"{self.name}/hits"] = float(self.hits)
        ctx.metrics[f"{self.name}/grad_hits"] = float(self.grad_hits)
