"""EQPlugin: a learning-rate gain for easy, medium and hard batches, or for the corpus's own bands."""

from __future__ import annotations

import dataclasses
import math
from bisect import bisect_left, bisect_right
from collections import deque
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

from ..context import OccamContext
from ..errors import ConfigError, nearest
from .base import OccamPlugin, Param, ParameterError

BY = ("difficulty", "domain")
BANDS = ("easy", "medium", "hard")
WINDOW = 100  # losses that a batch is ranked among
MIN_LOSSES = 10  # with fewer, every batch is medium
EASY_BELOW, HARD_FROM = 0.33, 0.67


class Gains(Param):
    """A mapping of any names to numbers; which names are allowed depends on other parameters."""

    def check(self, value: Any, owner: str) -> Any:
        keys = tuple(value) if isinstance(value, Mapping) else ()
        return Param.check(dataclasses.replace(self, keys=keys or self.keys), value, owner)


class EQPlugin(OccamPlugin):
    """Curriculum: lr ← lr·(1 + (gain − 1)·a), the gain by the batch's band, a rising from 0 to 1.

    `by: difficulty`: the band is by the loss's percentile among the last 100 losses before it, ties counting half: easy below
    0.33, hard from 0.67, else medium; medium too while fewer than 10 losses are known. Losses of skipped batches are ranked
    and remembered like any other: a batch is as hard as it is, learned or not.

    `by: domain`: `bands` names parts of the training data, as the corpus's meta.json lists them, and the gain is the mean of
    theirs, weighted by the share of the batch's tokens in each (ctx.domains): 1 + Σ share·(gain − 1). The shares are those of the
    whole batch, of all ranks and micro-batches, whatever the gate makes of single ones.

    After n iterations a = 1 − (1 − adaptation_rate)ⁿ, so the first batch is left as it is. A band that `bands` leaves out has
    gain 1. Raises ConfigError where domains are wanted and the learner was given none.
    """

    name = "eq"
    PARAMS = (
        Gains("bands", {"easy": 0.5, "medium": 1.0, "hard": 1.5}, "learning-rate gain of each band", low=0, keys=BANDS),
        Param("adaptation_rate", 0.01, "share of the way to the full gain, per iteration", low=0, high=1),
        Param("by", "difficulty", "whether a band is a range of losses or a part of the corpus", str, choices=BY),
    )
    STATE = ("losses", "amount")
    WRITES = MappingProxyType({"learning_rate": "scales"})

    bands: dict[str, float]
    adaptation_rate: float
    by: str

    def check(self) -> None:
        unknown = [key for key in self.bands if key not in BANDS]
        if unknown and self.by == "difficulty":
            raise ParameterError(
                f"{self.name}.bands has no {unknown[0]!r}{nearest(str(unknown[0]), BANDS)}; allowed: {', '.join(BANDS)}"
                f" (a corpus's own bands need by: domain)",
                ("bands", unknown[0]),
            )

    def reset(self) -> None:
        self.losses: deque[float] = deque(maxlen=WINDOW)
        self.amount = 0.0  # a

    def on_batch_start(self, ctx: OccamContext) -> OccamContext:
        gain = self._gain_by_domain(ctx) if self.by == "domain" else self._gain_by_difficulty(ctx)
        factor = 1 + (gain - 1) * self.amount
        ctx.learning_rate *= factor
        ctx.metrics[f"{self.name}/lr_factor"] = factor
        self.amount += self.adaptation_rate * (1 - self.amount)
        return ctx

    def _gain_by_domain(self, ctx: OccamContext) -> float:
        """The mean gain over the batch's tokens."""
        if not ctx.domains:
            raise ConfigError(
                f"{self.name}.by is domain, but no domains were given; call learner.step(batch, domains={{name: share}}),"
                f" or use by: difficulty"
            )
        for band in self.bands:
            ctx.metrics[f"{self.name}/{band}"] = ctx.domains.get(band, 0.0)
        return 1 + sum(share * (self.bands.get(name, 1.0) - 1) for name, share in ctx.domains.items())

    def _gain_by_difficulty(self, ctx: OccamContext) -> float:
        """The gain of the loss's band; then the loss is one of those known."""
        band = self._band(ctx.task_loss)
        ctx.metrics[f"{self.name}/band"] = float(band)
        if math.isfinite(ctx.task_loss):
            self.losses.append(ctx.task_loss)
        return self.bands.get(BANDS[band], 1.0)

    def _band(self, loss: float) -> int:
        """0 easy, 1 medium, 2 hard."""
        if len(self.losses) < MIN_LOSSES or not math.isfinite(loss):
            return 1
        ordered = sorted(self.losses)
        percentile = (bisect_left(ordered, loss) + bisect_right(ordered, loss)) / (2 * len(ordered))
        return 0 if percentile < EASY_BELOW else 2 if percentile >= HARD_FROM else 1
