"""Forgetting: what has become of facts that were learned, against how well they were known right after.

One sign for all of it: **positive = forgotten, negative = better known than at first.** The names say the same: a regression and
a rate of forgetting are bad when they are large. Source of the convention: Chaudhry et al. 2018 (arXiv:1801.10112), who take
what a task's accuracy was at best less what it is now.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from statistics import fmean
from typing import Any


def regression(baseline: float, current: float) -> float:
    """baseline − current, in units of the performance; positive = forgotten."""
    return baseline - current


def forgetting_rate(baseline: float, current: float, since: int, now: int) -> float | None:
    """(baseline − current) / (now − since), a turn; positive = forgotten. None where no turn has passed."""
    return regression(baseline, current) / (now - since) if now > since else None


class Forgetting:
    """Baselines of facts by id, and of the anchors: the base's. Performance is p(answer), or a share of right answers: higher =
    better.
    """

    def __init__(self) -> None:
        self.baselines: dict[str, tuple[int, float]] = {}  # id -> (turn, performance)
        self.base: float | None = None  # its performance on the anchors

    def learned(self, id: str, turn: int, performance: float) -> None:
        """A fact was just learned, or learned anew: what comes later is compared with this."""
        self.baselines[id] = (turn, float(performance))

    def regressions(self, performance: Mapping[str, float]) -> dict[str, float]:
        """Of each fact that has a baseline, by id; positive = forgotten."""
        return {id: regression(self.baselines[id][1], now) for id, now in performance.items() if id in self.baselines}

    def measure(
        self, turn: int, performance: Mapping[str, float], anchor: float | None = None, base: Callable[[], float] | None = None
    ) -> dict[str, float]:
        """Figures of one measurement: `performance` of the facts by id, `anchor` that on the anchor prompts, `base` what the base
        alone has there; it is asked for once.

        `fact_performance` (mean; higher = better), `mean_regression`, `worst_regression`, `forgetting_rate` (mean over the facts;
        a turn), `anchor_performance` (higher = better), `anchor_regression`. What has no baseline is left out.
        """
        lost = self.regressions(performance)
        found: dict[str, float] = {}
        if lost:
            found = {"fact_performance": fmean(performance[id] for id in lost), "mean_regression": fmean(lost.values()),
                     "worst_regression": max(lost.values())}  # fmt: skip
        rates = [forgetting_rate(self.baselines[id][1], performance[id], self.baselines[id][0], turn) for id in lost]
        if known := [rate for rate in rates if rate is not None]:
            found["forgetting_rate"] = fmean(known)
        if anchor is not None:
            found["anchor_performance"] = float(anchor)
            if self.base is None and base is not None:
                self.base = float(base())
            if self.base is not None:
                found["anchor_regression"] = regression(self.base, anchor)
        return found

    def state_dict(self) -> dict[str, Any]:
        """The baselines, in JSON's own types."""
        return {"facts": {id: list(pair) for id, pair in self.baselines.items()}, "base": self.base}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Becomes what `state_dict` gave."""
        self.baselines = {id: (int(turn), float(value)) for id, (turn, value) in state["facts"].items()}
        base = state.get("base")  # None = not measured yet
        self.base = None if base is None else float(base)
