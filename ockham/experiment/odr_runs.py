"""The figures of two runs, before and after a change, that a decision record's constraints ask for."""

from __future__ import annotations

import importlib
import json
import statistics
import time
from functools import cache, cached_property
from pathlib import Path
from typing import Any

import torch
import yaml

from ..checkpoint import load_checkpoint
from ..constraints import Measured
from ..errors import CheckpointError, ShapeError, WorldError
from ..quotient import Footprint

FROM_CHECKPOINT = ("params", "added_params", "memory_mb", "oq", "revert_ms")  # the other metrics are in summary.json
ON_THE_CORPUS = ("val_loss", "best_val_loss", "oq")
REPEATS = 20


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
        if metric in ("best_val_loss", "oq"):
            self._note_estimates()
        if metric not in FROM_CHECKPOINT:
            return Measured(self.before.figure(metric), self.after.figure(metric))
        if metric == "revert_ms":
            return Measured(None, revert_ms(self.before.model, self.after.model))
        before, after = self._footprints
        if metric == "added_params":
            return Measured(None, 100 * (after.params - before.params) / before.params)
        if metric == "oq":
            losses = (run.figure("best_val_loss") for run in (self.before, self.after))
            return Measured(*(footprint.quotient(loss) for footprint, loss in zip((before, after), losses, strict=True)))
        return Measured(getattr(before, metric), getattr(after, metric))

    @cached_property
    def _footprints(self) -> tuple[Footprint, Footprint]:
        """What both cost to run, on the same number of tokens."""
        length = min(run.model.config.block_size for run in (self.before, self.after))
        tokens = torch.zeros(1, length, dtype=torch.long)  # (1, T)
        return Footprint.measure(self.before.model, tokens), Footprint.measure(self.after.model, tokens)

    def _same_corpus(self) -> None:
        names = [run.dataset for run in (self.before, self.after)]
        if names[0] != names[1]:
            raise WorldError(
                f"{self.before.path} was evaluated on {names[0]}, {self.after.path} on {names[1]}: "
                f"their losses cannot be compared; give two runs of one dataset"
            )

    def _note_estimates(self) -> None:
        for run in (self.before, self.after):
            note = f"best_val_loss of {run.path} is an estimate; train with eval_iters=0 and no eval_max_tokens for exact ones"
            if run.summary.get("best_is_estimate") and note not in self.notes:
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
        """summary.json."""
        path = self.path / "summary.json"
        try:
            found = json.loads(path.read_text(encoding="utf-8"))
        except ValueError as error:
            raise WorldError(f"{path} is no JSON: {error}") from error
        if not isinstance(found, dict):
            raise WorldError(f"{path} is no summary: it must be a JSON object, got {type(found).__name__}")
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
    def model(self) -> Any:
        """The GPT of ckpt.pt, on the CPU. Raises CheckpointError."""
        loaded = load_checkpoint(self.path / "ckpt.pt")
        try:
            return importlib.import_module("model").GPT.from_checkpoint(loaded)
        except ValueError as error:
            raise CheckpointError(f"{self.path}/ckpt.pt cannot be built: {error}") from error


@torch.no_grad()
def revert_ms(before: torch.nn.Module, after: torch.nn.Module) -> float:
    """Median of 20 times, in ms, of one thread copying `before`'s weights, held in memory, over `after`'s; neither is changed.

    Weights that only `after` has are left: a revert takes them off. Raises ShapeError where a weight of `before` has no
    place of its shape in `after`.
    """
    present = dict(after.named_parameters())
    for name, weight in before.named_parameters():
        if name not in present or present[name].shape != weight.shape:
            has = f"shape {tuple(present[name].shape)}" if name in present else "none"
            raise ShapeError(f"revert_ms: {name} has shape {tuple(weight.shape)} before and {has} after; no copy can revert that")
    held = [weight.detach().clone() for weight in before.parameters()]
    live = [present[name].detach().clone() for name, _ in before.named_parameters()]
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # on a busy machine several threads wait for one another, many times the copy's own time
    try:
        return 1e3 * statistics.median(_seconds(live, held) for _ in range(REPEATS))
    finally:
        torch.set_num_threads(threads)


def _seconds(live: list[torch.Tensor], held: list[torch.Tensor]) -> float:
    start = time.perf_counter()
    torch._foreach_copy_(live, held)
    return time.perf_counter() - start
