"""Snapshots of a model, and their Pareto frontier: those that no other betters in loss, complexity cost or parameters without
losing in another of the three.

A folder of snapshots holds `ID.pt`, one checkpoint each, and `index.json`, their records.
"""

from __future__ import annotations

import dataclasses
import json
import math
import operator
import re
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .context import OccamContext
from .errors import CheckpointError, TrainingError
from .files import write_text
from .quotient import performance

VERSION = 1  # of a record and of the index
ID = re.compile(r"iter-\d{6,}(-\d+)?")
Figures = tuple[float, float, float]


@dataclass(frozen=True)
class Metrics:
    """What was measured when a snapshot was taken."""

    occam_quotient: float
    inference_flops: float
    memory_footprint_mb: float
    grad_norm: float
    update_rate: float
    others: Mapping[str, float]  # the plugins' own, finite ones

    @classmethod
    def of(cls, ctx: OccamContext) -> Metrics:
        """The context's figures."""
        others = {name: float(value) for name, value in ctx.metrics.items() if math.isfinite(value)}
        oq = ctx.compute_occam_quotient(performance(ctx.task_loss))
        return cls(oq, ctx.inference_flops, ctx.memory_footprint_mb, ctx.grad_norm, ctx.update_rate, others)


@dataclass(frozen=True)
class ModelSnapshot:
    """A state that was kept. `state` is None where it lies in the file `path`; `OckhamMemory.load` reads both."""

    id: str
    iter_num: int
    loss: float
    complexity_cost: float
    params: int
    metrics: Metrics
    bytes: int  # of its tensors, shared storage once
    created: float  # seconds since 1970
    path: Path | None = dataclasses.field(default=None, compare=False)
    state: Mapping[str, Any] | None = dataclasses.field(default=None, compare=False, repr=False)

    @classmethod
    def of(cls, ctx: OccamContext, **others: Any) -> ModelSnapshot:
        """The figures of a context, taken now; `others` are the remaining fields."""
        judged = {"iter_num": ctx.iter_num, "loss": ctx.task_loss, "complexity_cost": ctx.complexity_cost}
        return cls(**{**others, **judged, "metrics": Metrics.of(ctx), "created": time.time()})

    def record(self) -> dict[str, Any]:
        """All but the state, as plain values; what is not finite as text."""
        plain = dataclasses.asdict(dataclasses.replace(self, path=None, state=None))
        metrics = {k: str(v) if isinstance(v, float) and not math.isfinite(v) else v for k, v in plain["metrics"].items()}
        return {k: v for k, v in plain.items() if k not in ("path", "state")} | {"metrics": metrics}

    @classmethod
    def from_record(cls, record: Mapping[str, Any], folder: Path | None) -> ModelSnapshot:
        """The snapshot of a record in this folder. Raises KeyError, TypeError or ValueError for what is no record."""
        if not ID.fullmatch(record["id"]):
            raise ValueError(f"{record['id']!r} is no snapshot's id")
        metrics = Metrics(**{k: v if k == "others" else float(v) for k, v in record["metrics"].items()})  # type: ignore[arg-type]
        return cls(**{**record, "metrics": metrics}, path=folder / f"{record['id']}.pt" if folder else None)

    @property
    def is_available(self) -> bool:
        """Whether its state is there, in memory or as a file."""
        return self.state is not None or (self.path is not None and self.path.is_file())


def read_index(folder: Path) -> list[ModelSnapshot]:
    """The records in a folder, oldest first; a snapshot whose file is missing is among them, and not `is_available`.

    Raises CheckpointError when there is no index or it cannot be read.
    """
    path = folder / "index.json"
    if not path.is_file():
        raise CheckpointError(f"no snapshots in {folder}: {path.name} is missing")
    try:
        index = json.loads(path.read_text(encoding="utf-8"))
        if index["v"] == VERSION:
            return [ModelSnapshot.from_record(record, folder) for record in index["snapshots"]]
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise CheckpointError(f"{path} is damaged ({type(error).__name__}: {error}); its .pt files can be read singly") from error
    raise CheckpointError(f"{path} has version {index['v']!r}, this program reads {VERSION}")


def write_index(folder: Path, snapshots: Sequence[ModelSnapshot]) -> None:
    """The records, to index.json. Raises TrainingError when the disk refuses."""
    index = {"v": VERSION, "snapshots": [s.record() for s in snapshots]}
    try:
        folder.mkdir(parents=True, exist_ok=True)
        write_text(folder / "index.json", json.dumps(index, indent=1, allow_nan=False) + "\n")
    except OSError as error:
        raise TrainingError(f"cannot write {folder}: {error}; free some space or choose another --out_dir") from error


def figures(snapshot: ModelSnapshot) -> Figures:
    """(loss, complexity cost, parameters)."""
    return snapshot.loss, snapshot.complexity_cost, float(snapshot.params)


def dominates(a: ModelSnapshot, b: ModelSnapshot) -> bool:
    """Whether `a` is nowhere worse than `b` and somewhere better. Equals do not dominate one another."""
    return figures(a) != figures(b) and all(map(operator.le, figures(a), figures(b)))


def frontier(points: Sequence[ModelSnapshot]) -> list[ModelSnapshot]:
    """The points that none dominates, in the order given. Those with the same three figures are all on it, or none is."""
    return [p for p in points if not any(dominates(other, p) for other in points)]


def choose(points: Sequence[ModelSnapshot], weights: Figures, limits: Figures) -> ModelSnapshot | None:
    """The best point of the frontier within `limits` (each at most): the least weighted sum of the three figures, each
    scaled to [0, 1] over the points in question (all 0 where they are equal).

    Ties go to the least loss, then complexity, then parameters, then to the earliest. None where nothing is within.
    """
    within = [p for p in frontier(points) if all(map(operator.le, figures(p), limits))]
    if not within:
        return None
    columns = list(zip(*map(figures, within), strict=True))
    lows, spans = [min(c) for c in columns], [max(c) - min(c) or 1.0 for c in columns]

    def score(snapshot: ModelSnapshot) -> tuple[float, Figures]:
        scaled = ((x - low) / span for x, low, span in zip(figures(snapshot), lows, spans, strict=True))
        return sum(w * x for w, x in zip(weights, scaled, strict=True)), figures(snapshot)

    return min(within, key=score)


def first_to_go(points: Sequence[ModelSnapshot]) -> ModelSnapshot:
    """Which of two or more points, oldest first, is given up next: the oldest off the frontier, else the oldest on it; never
    the newest."""
    on = {id(p) for p in frontier(points)}
    older = points[:-1]
    return next((p for p in older if id(p) not in on), older[0])
