"""EQPlugin: a learning-rate gain for easy, medium and hard batches."""

from __future__ import annotations

import math
from bisect import bisect_left, bisect_right
from collections import deque
from types import MappingProxyType

from ..context import OccamContext
from .base import OccamPlugin, Param

BANDS = ("easy", "medium", "hard")
WINDOW = 100  # losses that a batch is ranked among
MIN_LOSSES = 10  # with fewer, every batch is medium
EASY_BELOW, HARD_FROM = 0.33, 0.67


class EQPlugin(OccamPlugin):
    """Curriculum: lr ← lr·(1 + (gain − 1)·a), the gain by the batch's band, a rising from 0 to 1.

    The band is by the loss's percentile among the last 100 losses before it, ties counting half: easy below 0.33, hard from
    0.67, else medium; medium too while fewer than 10 losses are known. After n iterations a = 1 − (1 − adaptation_rate)ⁿ, so
    the first batch is left as it is. A band that `bands` leaves out has gain 1. Losses of skipped batches are ranked
    and remembered like any other: a batch is as hard as it is, learned or not.
    """

    name = "eq"
    PARAMS = (
        Param("bands", {"easy": 0.5, "medium": 1.0, "hard": 1.5}, "learning-rate gain of each band", low=0, keys=BANDS),
        Param("adaptation_rate", 0.01, "share of the way to the full gain, per iteration", low=0, high=1),
    )
    STATE = ("losses", "amount")
    WRITES = MappingProxyType({"learning_rate": "scales"})

    bands: dict[str, float]
    adaptation_rate: float

    def reset(self) -> None:
        self.losses: deque[float] = deque(maxlen=WINDOW)
        self.amount = 0.0  # a

    def on_batch_start(self, ctx: OccamContext) -> OccamContext:
        band = self._band(ctx.task_loss)
        factor = 1 + (self.bands.get(BANDS[band], 1.0) - 1) * self.amount
        ctx.learning_rate *= factor
        ctx.metrics[f"{self.name}/lr_factor"] = factor
        ctx.metrics[f"{self.name}/band"] = float(band)
        self.amount += self.adaptation_rate * (1 - self.amount)
        if math.isfinite(ctx.task_loss):
            self.losses.append(ctx.task_loss)
        return ctx

    def _band(self, loss: float) -> int:
        """0 easy, 1 medium, 2 hard."""
        if len(self.losses) < MIN_LOSSES or not math.isfinite(loss):
            return 1
        ordered = sorted(self.losses)
        percentile = (bisect_left(ordered, loss) + bisect_right(ordered, loss)) / (2 * len(ordered))
        return 0 if percentile < EASY_BELOW else 2 if percentile >= HARD_FROM else 1
