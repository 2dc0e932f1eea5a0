"""The figures of two runs, before and after a change, that a decision record's constraints ask for."""

from __future__ import annotations

import json
import math
from functools import cache, cached_property
from pathlib import Path
from typing import Any

import torch
import yaml

from .. import memory
from ..constraints import Measured
from ..errors import ShapeError, WorldError
from ..memory import OckhamMemory
from ..quotient import Footprint
from .kept import check_not_rolled_back
from .weighed import WHOLE, Weights, footprints

FROM_CHECKPOINT = ("params", "added_params", "memory_mb", "oq", "revert_ms")  # the other metrics are in summary.json
ON_THE_CORPUS = ("val_loss", "best_val_loss", "oq")


class RunPair:
    """Two run folders; `measure(metric)` reads or measures no more than that metric needs, and once."""

    def __init__(self, before: Path, after: Path):
        self.before, self.after = Run(before), Run(after)
        self.measure = cache(self._measure)
        self.notes: list[str] = []  # what the reader should know about the figures

    def _measure(self, metric: str) -> Measured:
        """The metric of both. Raises WorldError where a run cannot give it."""
        if metric in ON_THE_CORPUS:
            self._same_corpus()
        if metric == "best_val_loss":
            self._note_estimates()
        if metric not in FROM_CHECKPOINT:
            return Measured(self.before.figure(metric), self.after.figure(metric))
        if metric == "revert_ms":
            return Measured(None, self._revert_ms())
        before, after = self._footprints
        if metric == "added_params":
            return Measured(None, 100 * (after.params - before.params) / before.params)
        if metric == "oq":
            return Measured(before.quotient(self._own_loss(self.before)), after.quotient(self._own_loss(self.after)))
        return Measured(getattr(before, metric), getattr(after, metric))

    @cached_property
    def _footprints(self) -> list[Footprint]:
        """What both cost to run, on the same number of tokens."""
        return footprints([self.before.weights, self.after.weights])

    def _revert_ms(self) -> float:
        """Inf where the memory cannot go back from the one model to the other."""
        try:
            return revert_ms(self.before.weights.model, self.after.weights.model)
        except ShapeError as error:
            self._note(f"revert_ms: a rollback cannot go from {self.after.path} to {self.before.path}: {error}")
            return math.inf

    def _own_loss(self, run: Run) -> float:
        """The val loss of ckpt.pt's own weights."""
        loss = run.weights.loss
        if loss.source != WHOLE:
            self._note(f"oq: the val loss of {run.path}/ckpt.pt, {loss.value:.4f}, is not of the full val split: {loss.source}")
        return loss.value

    def _same_corpus(self) -> None:
        names = [run.dataset for run in (self.before, self.after)]
        if names[0] != names[1]:
            raise WorldError(
                f"{self.before.path} was evaluated on {names[0]}, {self.after.path} on {names[1]}: "
                f"their losses cannot be compared; give two runs of one dataset"
            )

    def _note_estimates(self) -> None:
        for run in (self.before, self.after):
            if run.summary.get("best_is_estimate"):
                self._note(
                    f"best_val_loss of {run.path} is an estimate; train with eval_iters=0 and no eval_max_tokens for exact ones"
                )

    def _note(self, note: str) -> None:
        if note not in self.notes:
            self.notes.append(note)


class Run:
    """A finished run's folder; its files are read when they are needed."""

    def __init__(self, path: Path):
        self.path = path
        if not (path / "summary.json").is_file():
            state = "is no folder" if not path.is_dir() else "holds no finished run: summary.json is missing"
            raise WorldError(f"{path} {state}; give the out_dir of a run that has ended")

    @cached_property
    def summary(self) -> dict[str, Any]:
        """summary.json. Raises WorldError where the run was rolled back since: it then is of another state."""
        path = self.path / "summary.json"
        try:
            found = json.loads(path.read_text(encoding="utf-8"))
        except ValueError as error:
            raise WorldError(f"{path} is no JSON: {error}") from error
        if not isinstance(found, dict):
            raise WorldError(f"{path} is no summary: it must be a JSON object, got {type(found).__name__}")
        check_not_rolled_back(self.path, found.get("iters"))
        return found

    def figure(self, name: str) -> float:
        """A number of summary.json. Raises WorldError where it has none."""
        value = self.summary.get(name)
        if not isinstance(value, (int, float)):
            raise WorldError(f"{self.path}/summary.json has no {name} (got {value!r}); was the run ended before an evaluation?")
        return float(value)

    @cached_property
    def dataset(self) -> str:
        """The corpus's name, by config.yaml."""
        path = self.path / "config.yaml"
        if not path.is_file():
            raise WorldError(f"{path} is missing: it is not known which dataset the losses are of")
        try:
            config = yaml.safe_load(path.read_text(encoding="utf-8"))
        except yaml.YAMLError as error:
            raise WorldError(f"{path} is no YAML: {str(error).splitlines()[0]}") from error
        return str(config.get("dataset") if isinstance(config, dict) else None)

    @cached_property
    def weights(self) -> Weights:
        """ckpt.pt. Raises CheckpointError."""
        return Weights.read(str(self.path), self.path / "ckpt.pt")


def revert_ms(before: torch.nn.Module, after: torch.nn.Module) -> float:
    """Milliseconds to go back from `after` to `before`'s weights, held in memory, as OckhamMemory does it; median of 20.

    Both models are as they were when it returns. Raises ShapeError where one has a tensor that the other has not.
    """
    held = OckhamMemory()
    snapshot = held.add_candidate(before, loss=0.0)
    held.rollback(snapshot, after)  # from here on `after` is the model that the memory goes back with
    held.undo_rollback()
    return memory.revert_ms(held, snapshot)
