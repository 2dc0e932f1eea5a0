"""The ledger: what a run paid in compute units, and what it saved.

A unit is one forward of one batch; its backward costs two. Forwards of skipped batches, of scoring, of the anchor and of
teachers are charged too. Saved is against every batch updated: a skipped batch saves 2 of 3.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field
from typing import Any

FORWARD, BACKWARD = 1.0, 2.0
RECENT = 1000  # batches in update_rate_recent


@dataclass
class Ledger:
    """Counts of batches (micro-batches singly), updates and units."""

    batches: int = 0
    updates: int = 0
    forwards: float = 0.0
    backwards: float = 0.0
    tokens: int = 0  # tokens of training batches seen, over all ranks
    recent: deque[bool] = field(default_factory=lambda: deque(maxlen=RECENT))

    def forward(self, count: float = 1) -> None:
        """Charge forwards, whatever they were for."""
        self.forwards += count

    def backward(self, count: float = 1) -> None:
        """Charge backwards, also those whose gradients were dropped."""
        self.backwards += count

    def verdict(self, updated: bool, tokens: int) -> None:
        """Count one batch and whether it was learned."""
        self.batches += 1
        self.updates += updated
        self.tokens += tokens
        self.recent.append(bool(updated))

    @property
    def units(self) -> float:
        """Compute units spent."""
        return FORWARD * self.forwards + BACKWARD * self.backwards

    @property
    def saved(self) -> float:
        """1 − units / (3 × batches): the share saved against updating on every batch; negative when extra forwards cost more."""
        return 1 - self.units / ((FORWARD + BACKWARD) * self.batches) if self.batches else 0.0

    @property
    def update_rate(self) -> float:
        """Updates / batches so far; 1 before any."""
        return self.updates / self.batches if self.batches else 1.0

    @property
    def update_rate_recent(self) -> float:
        """Updates / batches over the last 1,000; 1 before any."""
        return sum(self.recent) / len(self.recent) if self.recent else 1.0

    def state_dict(self) -> dict[str, Any]:
        """Plain values for a checkpoint."""
        return {
            "batches": self.batches,
            "updates": self.updates,
            "forwards": self.forwards,
            "backwards": self.backwards,
            "tokens": self.tokens,
            "recent": list(self.recent),
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue from a checkpoint's values."""
        self.batches, self.updates, self.tokens = state["batches"], state["updates"], state["tokens"]
        self.forwards, self.backwards = state["forwards"], state["backwards"]
        self.recent = deque(state["recent"], maxlen=RECENT)
