"""OckhamGatePlugin, the surprise gate: learn only what surprises."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Mapping
from statistics import NormalDist
from types import MappingProxyType
from typing import Any

from ..context import OccamContext
from .base import OccamPlugin, Param, ParameterError

SKIPPED = "SKIPPED_SURPRISE"  # reason_code
BASE = "base"  # follow the context's surprise_threshold
MEDIAN_GAIN = 1.2  # the adaptive threshold seeks 1.2 × the median
WINDOW = 100  # losses of the running median
RATE = 0.05  # of the running mean, the deviation and z
FLAT = 1e-9  # deviation relative to the mean below which losses count as equal
BAND = 20  # losses whose quartiles make the band: few, for it must keep up with a loss that falls
FEW = 10  # losses before the band acts
PATIENCE = 500  # batches without a closing before the gate says so


class OckhamGatePlugin(OccamPlugin):
    """Opens iff task_loss >= τ; a closed gate skips the update (reason_code SKIPPED_SURPRISE).

    Fixed: τ = surprise_threshold. Adaptive: τ starts there and moves to 1.2 × the median of the last 100 losses at
    adaptation_rate. With target_update_rate r the gate opens at min(τ, q), where q = μ + z·d follows the (1−r) quantile of
    recent losses: μ and d are running mean and absolute deviation, z ← z + 0.05·(1[loss >= q] − r). A loss is judged by the q
    of the losses before it and then absorbed. The share of losses at or over q is r + (z_end − z_start)/(0.05·n) and z stays
    bounded: in the long run r, whatever the losses' distribution or trend. So r is the least that is learned.

    μ and d average equally until they have seen 20 losses, z starts at the normal distribution's quantile, and the first
    loss is its own q: the gate opens. Losses that are not finite are judged but not absorbed.

    A band, where one is asked for, closes the gate besides. Over ceiling_ratio × the lower quartile of the last 20 losses that
    the band let in, a batch is taken for noise; under floor_ratio × the upper quartile of those of the last 20 losses that are
    not over the ceiling, for something known by heart. What the band shuts out does not move q. When it has shut out 100 batches
    in a row, the data are others: it begins anew.

    `surprise: excess` judges loss − reference loss in place of the loss: what a reference model (the run's `reference`, else the
    anchor, one forward more) does not know either is no surprise, whatever its loss. RHO-loss, Mindermann et al. 2022
    (arXiv:2206.07137), is this with a reference trained on held-out data.

    τ is what an earlier plugin set in this iteration, else surprise_threshold, else ("base", the default) the context's value,
    2.0 unless set. None = no absolute threshold: the rate alone, or always open where that is None too.
    """

    name = "gate"
    PARAMS = (
        Param("surprise_threshold", BASE, "least loss that is learned, nats/token", float | None, low=0, words=(BASE,)),
        Param("adaptive", False, "move the threshold towards 1.2 × the running median", bool),
        Param("adaptation_rate", 0.01, "speed of that, per batch", low=0, high=1),
        Param("target_update_rate", None, "fraction of batches to learn at least", float | None, low=0, high=1),
        Param("surprise", "loss", "what is judged: the loss, or its excess over a reference's", str, choices=("loss", "excess")),
        Param("floor_ratio", None, "band: least loss / upper quartile of the recent ones", float | None, low=0, high=1),
        Param("ceiling_ratio", None, "band: largest loss / lower quartile of the recent ones", float | None, low=1),
    )
    STATE = (
        "adapted", "losses", "let_in", "mean", "deviation", "z", "seen", "open_run", "is_noticed", "notice",
        "threshold", "quantile",
    )  # fmt: skip
    WRITES = MappingProxyType({"updated": "sets", "surprise_threshold": "sets"})

    surprise_threshold: float | str | None
    adaptive: bool
    adaptation_rate: float
    target_update_rate: float | None
    surprise: str
    floor_ratio: float | None
    ceiling_ratio: float | None

    def check(self) -> None:
        for name in ("floor_ratio", "ceiling_ratio"):
            if self.surprise == "excess" and getattr(self, name) is not None:
                raise ParameterError(
                    f"{self.name}.{name} must be null with surprise=excess, got {getattr(self, name):g}: an excess may be below"
                    " 0, and has no ratio",
                    (name,),
                )

    def reset(self) -> None:
        self.adapted: float | None = None  # the adaptive τ, once it has started
        self.losses: deque[float] = deque(maxlen=WINDOW)
        self.let_in: deque[float] = deque(maxlen=BAND)  # losses that the band let in
        self.mean, self.deviation, self.seen = 0.0, 0.0, 0
        share = 1 - min(max(self.target_update_rate or 0.5, 0.001), 0.999)
        self.z = NormalDist().inv_cdf(share) * math.sqrt(math.pi / 2)  # σ = √(π/2) mean absolute deviations
        self.open_run, self.is_noticed = 0, False
        self.notice: str | None = None  # waits for the next context
        self.threshold: float | None = None  # of the last verdict; None = always open
        self.quantile: float | None = None

    def verdict(self, loss: float, threshold: float | None = OccamContext.surprise_threshold) -> bool:
        """Whether to learn a batch of this loss; moves the running statistics.

        `threshold` is the base value, for a gate without its own. The learner calls this for each micro-batch under gradient
        accumulation; otherwise on_batch_start does.
        """
        return self._judge(loss, self._own(threshold))

    def on_batch_start(self, ctx: OccamContext) -> OccamContext:
        if ctx.verdicts:
            is_open = any(ctx.verdicts)
        elif any(change[1] == "surprise_threshold" for change in ctx.changes):
            is_open = self._judge(self._judged(ctx), ctx.surprise_threshold)
        else:
            is_open = self.verdict(self._judged(ctx), ctx.surprise_threshold)
        ctx.updated, ctx.surprise_threshold = is_open, self.threshold
        if not is_open:
            ctx.reason_code = SKIPPED
        elif ctx.reason_code == SKIPPED:
            ctx.reason_code = ""
        ctx.metrics[f"{self.name}/open"] = float(is_open)
        if self.surprise == "excess" and ctx.reference_loss is not None:
            ctx.metrics[f"{self.name}/excess"] = self._judged(ctx)
        if self.threshold is not None:
            ctx.metrics[f"{self.name}/threshold"] = self.threshold
        if self.quantile is not None:
            ctx.metrics[f"{self.name}/quantile"] = self.quantile
        if self.notice is not None:
            ctx.notices.append(self.notice)
            self.notice = None
        return ctx

    def _judged(self, ctx: OccamContext) -> float:
        is_excess = self.surprise == "excess" and ctx.reference_loss is not None
        return ctx.task_loss - ctx.reference_loss if is_excess and ctx.reference_loss is not None else ctx.task_loss

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        super().load_state_dict({"let_in": [], **state})  # version 0.3.0 had no band

    def _own(self, base: float | None) -> float | None:
        """τ by the gate's own parameter, moved where it is adaptive."""
        start = base if isinstance(self.surprise_threshold, str) else self.surprise_threshold
        if not self.adaptive or start is None:
            return start
        if self.adapted is None:
            self.adapted = start
        return self.adapted

    def _judge(self, loss: float, tau: float | None) -> bool:
        is_finite, is_in_band = math.isfinite(loss), self._is_in_band(loss)
        self.quantile = None
        if self.target_update_rate is not None and (self.seen or is_finite):
            self.quantile = self.mean + self.z * self.deviation if self.seen else loss
        limits = [limit for limit in (tau, self.quantile) if limit is not None]
        self.threshold = min(limits) if limits else None
        is_open = is_in_band and (self.threshold is None or loss >= self.threshold)
        if is_finite:
            self._absorb(loss, is_in_band)
        before = self.open_run
        self._watch(is_open, loss, tau)
        if not is_in_band:
            self._count_shut(before)
        return is_open

    def _is_in_band(self, loss: float) -> bool:
        """By the losses before this one; open until there are some."""
        if len(self.let_in) < FEW or not math.isfinite(loss):
            return True
        let_in = sorted(self.let_in)
        ceiling = math.inf if self.ceiling_ratio is None else self.ceiling_ratio * let_in[len(let_in) // 4]
        likely = sorted(value for value in list(self.losses)[-BAND:] if value <= ceiling)
        floor = self.floor_ratio * likely[3 * len(likely) // 4] if self.floor_ratio is not None and likely else 0.0
        return floor <= loss <= ceiling

    def _count_shut(self, run: int) -> None:
        """Counts batches that the band shuts out in a row, as a run of openings below 0; after so many it forgets its losses."""
        self.open_run = min(0, run) - 1
        if self.open_run <= -WINDOW:
            self.let_in.clear()
            self.open_run = 0

    def _absorb(self, loss: float, is_in_band: bool) -> None:
        has_band = self.floor_ratio is not None or self.ceiling_ratio is not None
        if has_band and is_in_band:
            self.let_in.append(loss)
        if has_band or self.adaptive:
            self.losses.append(loss)
            if self.adapted is not None:
                self.adapted += self.adaptation_rate * (MEDIAN_GAIN * _median(self.losses) - self.adapted)
        rate = self.target_update_rate
        if rate is None or self.quantile is None or not is_in_band:
            return
        if self.deviation > FLAT * abs(self.mean):  # among equal losses every quantile is the same: z would only wind up
            self.z += RATE * ((loss >= self.quantile) - rate)
        self.seen += 1
        step = max(RATE, 1 / self.seen)
        self.deviation += step * (abs(loss - self.mean if self.seen > 1 else 0.0) - self.deviation)
        self.mean += step * (loss - self.mean)

    def _watch(self, is_open: bool, loss: float, tau: float | None) -> None:
        """Says once that the gate does nothing because the loss stays above τ."""
        self.open_run = max(0, self.open_run) + 1 if is_open else 0
        if self.open_run < PATIENCE or self.is_noticed or tau is None or self.target_update_rate == 1 or not loss >= tau:
            return
        self.is_noticed = True
        rate = self.target_update_rate
        more = "" if rate is not None else ", with target_update_rate such as 0.6"
        self.notice = (
            f"{self.name} has not closed for {PATIENCE} batches: the loss ({loss:.3g}) stays above surprise_threshold"
            f" {tau:.3g}; to skip by rate alone set surprise_threshold=null{more}, or raise surprise_threshold"
        )


def _median(values: deque[float]) -> float:
    ordered, half = sorted(values), len(values) // 2
    return ordered[half] if len(values) % 2 else (ordered[half - 1] + ordered[half]) / 2
