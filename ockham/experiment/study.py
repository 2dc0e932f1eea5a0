"""What a study of `ockham tune` looks for, and what it found: the plan, its trials, how they ended."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..config import RunConfig
from ..configuration.layers import flattened
from ..typed import to_mapping
from .jobs import Outcome
from .space import Space

NOT_COMPARED = ("out_dir", "debug")  # of the base config: they do not change a trial


@dataclass(frozen=True)
class Plan:
    """What is looked for, from where, and how hard. `argv` and `config` are the base run, without the spaces."""

    argv: tuple[str, ...]
    config: RunConfig
    spaces: tuple[Space, ...]
    start: dict[str, Any] | None  # the base run's own tokens; None where it lies outside the spaces
    folder: Path
    trials: int = 20
    tune_seed: int = 0
    prunes: bool = True
    max_s: float = math.inf  # no trial starts once all trials together took so long

    @property
    def identity(self) -> dict[str, Any]:
        """What makes a study this one: another one must not be gone on with."""
        base = {k: v for k, v in flattened(to_mapping(self.config).items()) if k not in NOT_COMPARED}
        spaces = {f"space of {space.key}": space.described for space in self.spaces}
        own = {"--tune_seed": self.tune_seed, "pruning": self.prunes}
        plain: dict[str, Any] = json.loads(json.dumps({**spaces, **own, **base}, default=str))
        return plain

    def assignments(self, tokens: dict[str, Any]) -> list[str]:
        """A trial's parameters as arguments."""
        return [space.assignment(tokens[space.key]) for space in self.spaces]


@dataclass(frozen=True)
class Trial:
    """A finished trial. `value` is the val loss over the whole split, nats/token; a pruned one's is the last it reported."""

    ordinal: int
    state: str  # complete, pruned, failed
    value: float | None
    tokens: dict[str, Any]
    seconds: float  # of all its sessions
    error: str = ""
    reached: int = 0  # iteration of its last evaluation

    @property
    def name(self) -> str:
        """Its folder's name."""
        return f"trial_{self.ordinal:03d}"


def verdict(outcome: Outcome) -> tuple[float | None, str]:
    """A run's val loss over the whole split, or None and why there is none."""
    value = outcome.summary.get("val_loss")
    if outcome.exit_code == 0 and value is not None and math.isfinite(float(value)):
        return float(value), ""
    return None, outcome.error or f"{outcome.status}, val loss {value}"


def short(token: Any) -> str:
    """A token for a line on the screen."""
    return f"{token:.4g}" if isinstance(token, float) else str(token)


def ending(trial: Trial, best: Trial | None) -> str:
    """How a trial ended, in a few words."""
    if trial.state == "failed":
        return f"failed after {trial.seconds:.1f} s: {trial.error}"
    so_far = "the best so far" if trial == best else f"best so far {best.value:.4f}, {best.name}" if best else "none complete"
    verb = f"pruned at iteration {trial.reached}, " if trial.state == "pruned" else ""
    return f"{verb}val loss {trial.value:.4f} nats/token, {trial.seconds:.1f} s ({so_far})"
