"""Returns: which earlier state a run goes back to when a plugin asks for it, and how often."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from . import checkpoint
from .context import OccamContext
from .errors import TrainingError
from .memory import OckhamMemory

MAX_RETURNS = 3  # in a row without progress


class Returns:
    """The first return is to the state that the memory accepted last; each one after it without progress goes one older, as the
    state before was no better. Without a memory, or with an empty one, all are to last.pt.

    Progress is a KL measured on the probe at which no plugin asks to go back.
    """

    def __init__(self) -> None:
        self.in_a_row = 0
        self.created: float | None = None  # when the snapshot was taken that was gone back to last

    def heard(self, ctx: OccamContext) -> None:
        """Hear a step: progress ends the row."""
        if "kl" in ctx.probes and not ctx.requests.rollback:
            self.in_a_row, self.created = 0, None

    def next_state(self, memory: OckhamMemory | None, out_dir: Path, reason: str) -> Mapping[str, Any]:
        """The complete state to go back to. Raises TrainingError after MAX_RETURNS in a row: one more would help no better."""
        if self.in_a_row >= MAX_RETURNS:
            raise TrainingError(
                f"{reason}; gone back {MAX_RETURNS} times already, and no measurement since was better; lower the learning rate, "
                f"raise lambda_ockham, or raise the plugin's threshold"
            )
        self.in_a_row += 1
        kept = [s for s in memory.snapshots if s.is_available] if memory else []
        if memory is None or not kept:
            return checkpoint.load_complete(out_dir)
        older = [s for s in kept if self.created is None or s.created < self.created]
        snapshot = older[-1] if older else kept[0]
        self.created = snapshot.created
        return memory.load(snapshot)

    def state_dict(self) -> dict[str, Any]:
        """Plain values for last.pt."""
        return {"in_a_row": self.in_a_row, "created": self.created}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on as at `state_dict`."""
        self.in_a_row, self.created = state["in_a_row"], state["created"]
