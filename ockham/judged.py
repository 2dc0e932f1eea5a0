"""Judged: the memory's part in a run. It judges each evaluated state, writes down why, and keeps what passes."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from .config import MemoryConfig
from .context import OccamContext
from .journal import DecisionLog
from .learner import OckhamLearner
from .memory import OckhamMemory, Verdict
from .quotient import MB


class Judged:
    """A run's memory, if it has one, and decisions.jsonl.

    Where a run is resumed with its memory off, what the memory knew and how far the log goes are carried on as they were.
    """

    def __init__(self, memory: OckhamMemory | None):
        self.memory = memory
        self.log = DecisionLog(None)
        self.off: dict[str, Any] = {"decisions_bytes": 0, "memory": None}
        self.has_told_size = False

    def open(self, path: Path | None, loop: Mapping[str, Any]) -> None:
        """Go on as at the `state_dict` that is among `loop`; with an empty one begin. `path` None: this rank writes nothing."""
        self.off = {"decisions_bytes": loop.get("decisions_bytes", 0), "memory": loop.get("memory")}
        if self.memory:
            self.log = DecisionLog(path, self.off["decisions_bytes"])
        if self.memory and self.off["memory"]:
            self.memory.load_state_dict(self.off["memory"])

    def state_dict(self) -> dict[str, Any]:
        """The log's length and what the memory knows."""
        return {"decisions_bytes": self.log.flush(), "memory": self.memory.state_dict()} if self.memory else self.off

    def judge(self, ctx: OccamContext) -> Verdict | None:
        """The verdict on an evaluated state, logged; None without a memory."""
        if self.memory is None:
            return None
        self.memory.should_accept_update(ctx, self.memory.latest)
        verdict = self.memory.last
        assert verdict is not None
        self.log.decision(ctx, verdict.reason_code, figures(verdict))
        return verdict

    def oversize(self, bytes: int) -> str:
        """What to say, once, of a single snapshot that is larger than the cap; '' where there is nothing to say."""
        if self.memory is None or self.has_told_size or not self.memory.is_over_cap(bytes):
            return ""
        self.has_told_size = True
        return (
            f"one snapshot takes {bytes / MB:.1f} MB, over memory.max_mb={self.memory.max_mb:g}: only the newest is kept, "
            f"and it is over the cap"
        )


def figures(verdict: Verdict) -> dict[str, Any]:
    """The figures behind a verdict, for a line that has the iteration already."""
    return {name: value for name, value in verdict.to_dict().items() if name != "iter_num"}


def waiting(config: MemoryConfig, penalize: str, learner: OckhamLearner) -> Iterator[str]:
    """What of the memory does nothing, or nothing yet, as no anchor is in force and complexity_cost is 0 then.

    `penalize` is anchor.penalize as it was asked for.
    """
    asked = [name for name in ("complexity_threshold", "consolidate_on_accept") if getattr(config, name) not in (None, False)]
    keys = " and ".join(f"memory.{name}" for name in asked)
    if not config.enabled or not keys or learner.anchor.in_force:
        return
    if learner.anchor.penalize == "never":
        why = "" if penalize == "never" else ", as lambda_ockham is 0 and the rack is empty"
        yield f"no effect: {keys}, as anchor.penalize=never{why}"
    else:
        yield f"waiting: {keys}, as no anchor is in force yet (anchor.penalize=auto, from scratch)"
