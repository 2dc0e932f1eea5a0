"""What a running trial has reached: the evaluations of its journal, handed to Optuna, which may end it early."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from ..config import RunConfig


@dataclass
class Watch:
    """Reports a run's evaluations to its trial as they come; called between polls, True = stop the run.

    What is decided depends on the journal alone, not on when it was looked at. The last evaluation is the result, and the
    first is that of random weights, so neither is judged.
    """

    folder: Path
    trial: Any  # optuna.Trial
    prunes: bool
    last: Callable[[], float]  # the run's last iteration
    offset: int = 0
    reported: set[int] = field(default_factory=set)
    is_pruned: bool = False

    def __call__(self) -> bool:
        for event in self.new_events():
            step, loss = event["iter"], float(event["val_loss"])
            if self.is_pruned:
                break
            if step in self.reported:
                continue
            self.reported.add(step)
            self.trial.report(loss, step)
            self.is_pruned = self.prunes and 0 < step < self.last() and self.trial.should_prune()
        return self.is_pruned

    def new_events(self) -> list[dict[str, Any]]:
        """The eval events written since the last look: a journal can be long, and polls are many."""
        path = self.folder / "journal.jsonl"
        size = path.stat().st_size if path.is_file() else 0
        if size < self.offset:  # a resumed run cut it back
            self.offset = 0
        if size == self.offset:
            return []
        with open(path, "rb") as file:
            file.seek(self.offset)
            whole, newline, _ = file.read().rpartition(b"\n")
        self.offset += len(whole) + len(newline)
        return [json.loads(line) for line in whole.splitlines() if b'"event": "eval"' in line and line.startswith(b"{")]

    def finish(self) -> None:
        """Look once more, from the beginning, now that nothing will be written any more."""
        self.offset = 0
        self()


def last_iteration(config: RunConfig, folder: Path) -> float:
    """A run's max_iters; where epochs are given, the run alone knows, and has written it down."""
    if not config.epochs:
        return config.max_iters
    path = folder / "config.yaml"
    return float(yaml.safe_load(path.read_text(encoding="utf-8"))["max_iters"]) if path.is_file() else math.inf
