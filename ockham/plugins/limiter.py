"""LimiterPlugin: a ceiling on drift, on the gradient, or on how far one update moves the weights."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from ..context import OccamContext
from .base import OccamPlugin, Param, ParameterError

LIMIT_TYPES = ("complexity_cost", "grad_norm", "delta_theta")
# limit_type -> the request that carries it out
REQUESTS = {"grad_norm": "gradient_ceiling", "delta_theta": "update_ceiling"}


class LimiterPlugin(OccamPlugin):
    """Holds what `limit_type` names under its ceiling, and counts the hits: how often it was over.

    'complexity_cost': after each step, a complexity_cost over the ceiling is a hit, and with force_consolidate sets
    ctx.consolidating, on which the learner moves the anchor to the weights. Without an anchor in force the drift is not looked
    at.
    'grad_norm': asks the learner to scale the gradient to g·min(1, ceiling/‖g‖), that of the penalty, echo and noise included;
    the run's own clipping stays, and the lower of the two holds. The anchor is never moved.
    'delta_theta': asks the learner to scale what the optimizer did to Δθ·min(1, ceiling·‖θ‖/‖Δθ‖). The ceiling is relative,
    ‖θ_{t+1} − θ_t‖/‖θ_t‖, as an absolute one means something else for every model. The learner holds the weights of before the
    update for it: two copies of them while the step is scaled, none between iterations.

    `ceiling` null = complexity_ceiling or grad_norm_ceiling; delta_theta has none to fall back on. In every type a grad_norm
    over grad_norm_ceiling in a learned batch is counted too, as grad_hits, for information. Of several limiters of one type the
    lowest ceiling holds.
    """

    name = "limiter"
    PARAMS = (
        Param("complexity_ceiling", 0.2, "largest complexity_cost", low=0),
        Param("grad_norm_ceiling", 1.0, "gradient norm over which a step is counted", low=0),
        Param("force_consolidate", True, "consolidate when the drift is over its ceiling", bool),
        Param("limit_type", "complexity_cost", "what is limited", str, choices=LIMIT_TYPES),
        Param("ceiling", None, "largest value of what is limited; null = the ceiling named after it", float | None, low=0),
    )
    STATE = ("hits", "grad_hits")
    WRITES = MappingProxyType(
        {"consolidating": "raises", "requests.gradient_ceiling": "lowers", "requests.update_ceiling": "lowers"}
    )

    complexity_ceiling: float
    grad_norm_ceiling: float
    force_consolidate: bool
    limit_type: str
    ceiling: float | None

    def check(self) -> None:
        if self.limit_type == "delta_theta" and self.ceiling is None:
            needed = "the largest ‖Δθ‖/‖θ‖ of an update, such as 0.001"
            raise ParameterError(f"{self.name}.limit_type delta_theta needs a ceiling: {needed}", ("limit_type",))

    def reset(self) -> None:
        self.hits, self.grad_hits = 0, 0

    @property
    def limit(self) -> float:
        """The ceiling that holds."""
        fallback = self.grad_norm_ceiling if self.limit_type == "grad_norm" else self.complexity_ceiling
        return fallback if self.ceiling is None else self.ceiling

    def writes(self) -> Mapping[str, str]:
        if self.limit_type in REQUESTS:
            return {f"requests.{REQUESTS[self.limit_type]}": "lowers"}
        return {"consolidating": "raises"} if self.force_consolidate else {}

    def on_batch_start(self, ctx: OccamContext) -> OccamContext:
        if self.limit_type in REQUESTS:
            field = REQUESTS[self.limit_type]
            asked = getattr(ctx.requests, field)
            setattr(ctx.requests, field, self.limit if asked is None else min(asked, self.limit))
        return ctx

    def on_batch_end(self, ctx: OccamContext) -> None:
        is_over = self._is_over(ctx)
        self.hits += is_over
        self.grad_hits += ctx.updated and ctx.grad_norm > self.grad_norm_ceiling
        if is_over and self.limit_type == "complexity_cost" and self.force_consolidate:
            ctx.consolidating = True
        ctx.metrics[f"{self.name}/on"] = float(is_over)
        ctx.metrics[f"{self.name}/hits"] = float(self.hits)
        ctx.metrics[f"{self.name}/grad_hits"] = float(self.grad_hits)
        if self.limit_type == "delta_theta":
            ctx.metrics[f"{self.name}/relative_step"] = ctx.relative_step

    def _is_over(self, ctx: OccamContext) -> bool:
        """Whether what is limited was over its ceiling in this iteration."""
        if self.limit_type == "complexity_cost":
            return ctx.anchor_available and ctx.complexity_cost > self.limit
        return ctx.updated and (ctx.grad_norm if self.limit_type == "grad_norm" else ctx.relative_step) > self.limit
