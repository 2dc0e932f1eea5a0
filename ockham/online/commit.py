"""The commit gate: a lesson is kept whole, kept in part, or taken back. The judge is OckhamMemory, with its reason codes."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from torch import Tensor

from ..context import OccamContext
from ..memory import REJECTED_QUALITY, OckhamMemory
from .adapter import Adapter
from .config import CommitSettings


@dataclass(frozen=True)
class Commit:
    """What became of a lesson."""

    accepted: bool
    reason_code: str  # of OckhamMemory
    scale: float  # the share of the update that was kept; 0 = rolled back
    prob: float  # p(answer), of the least known form
    kl: float  # on the anchor prompts, nats/token


class CommitGate:
    """Tries the update at each scale in turn: quality is −ln p(answer), complexity the KL on the anchor prompts.

    A lesson whose answer is not likely enough at its full size is rolled back at once: a smaller step would know it less.
    """

    def __init__(self, settings: CommitSettings):
        self.scales = settings.scales
        least = None if settings.min_prob == 0 else -math.log(settings.min_prob)
        self.memory = OckhamMemory(quality_threshold=least, complexity_threshold=settings.kl_budget, min_oq_improvement=None)

    def settle(
        self,
        adapter: Adapter,
        before: Mapping[str, Tensor],
        learned: float,
        prob: Callable[[], float],
        kl: Callable[[], float],
        turn: int,
    ) -> Commit:
        """Leaves the adapter at the largest scale that passes, or bit for bit as it was `before`.

        `learned` is p(answer) of the update at its full size; `prob` and `kl` measure the adapter as it is when they are called.
        """
        after, first = adapter.state(), ""
        for scale in self.scales:
            if scale != 1:
                adapter.load(after)
                adapter.scale_towards(before, scale)
            found, cost = learned if scale == 1 else prob(), kl()
            ctx = OccamContext(turn, -math.log(max(found, 1e-300)), complexity_cost=cost)
            accepted, reason = self.memory.should_accept_update(ctx, None)
            if accepted:
                return Commit(True, reason, scale, found, cost)
            first = first or reason  # what was wrong with all of it: a part of it knows less in any case
            if reason == REJECTED_QUALITY:
                break
        adapter.load(before)
        return Commit(False, first, 0.0, prob(), kl())
