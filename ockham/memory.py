"""OckhamMemory: three gates that say whether a state of the model is worth keeping, and the states that were.

Losses are in nats/token; complexity_cost is the relative drift Σ‖θ−θ*‖²/Σ‖θ*‖²; sizes are bytes of tensors.
"""

from __future__ import annotations

import copy
import dataclasses
import math
import statistics
import time
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from torch import nn

from . import checkpoint, pareto
from .context import OccamContext
from .errors import CheckpointError, ConfigError, OckhamError, nearest
from .keeper import Keeper, ModelKeeper
from .pareto import VERSION, ModelSnapshot, read_index, write_index
from .quotient import MB, active_parameters, performance, relative_improvement, storage_bytes

ACCEPTED_FIRST_VALID = "ACCEPTED_FIRST_VALID"
ACCEPTED_OQ_IMPROVEMENT = "ACCEPTED_OQ_IMPROVEMENT"
REJECTED_QUALITY = "REJECTED_QUALITY"
REJECTED_COMPLEXITY = "REJECTED_COMPLEXITY"
REJECTED_OQ_INSUFFICIENT = "REJECTED_OQ_INSUFFICIENT"
REASONS = (ACCEPTED_FIRST_VALID, ACCEPTED_OQ_IMPROVEMENT, REJECTED_QUALITY, REJECTED_COMPLEXITY, REJECTED_OQ_INSUFFICIENT)


@dataclass(frozen=True)
class Verdict:
    """One decision and the figures behind it."""

    accepted: bool
    reason_code: str
    iter_num: int
    loss: float
    complexity_cost: float
    occam_quotient: float
    value: float  # the figure that decided: loss, complexity cost, relative OQ improvement, or the first one's OQ
    threshold: float | None  # what it was held against; None where that gate is off
    previous: str | None = None  # the snapshot compared with
    previous_oq: float | None = None
    improvement: float | None = None  # relative: 0.05 is 5 % better

    def to_dict(self) -> dict[str, Any]:
        """Plain values, for the journal."""
        return dataclasses.asdict(self)


class OckhamMemory:
    """Judges states by three gates, in this order, and keeps those that are saved.

    quality: loss ≤ quality_threshold. complexity: complexity_cost ≤ complexity_threshold. efficiency: the relative
    improvement of the Occam Quotient over the previous snapshot ≥ min_oq_improvement. None turns a gate off; a loss or
    complexity cost that is no finite number ≥ 0 never passes.

    With `folder` snapshots are files, else they are held in memory. Over `max_snapshots` or `max_mb` (10⁶ bytes of tensors;
    0 = no cap) the oldest off the Pareto frontier goes first, then the oldest on it, never the newest. Under several ranks all
    make the same calls and decide alike; only the one with `writes` touches the disk. `consolidate_on_accept` is for the
    training program: an accepted state becomes the anchor. A preset's memory block fits as it is:
    OckhamMemory(**load_preset(name).memory). Raises ConfigError for values out of range, and for a folder that is a file.
    """

    def __init__(
        self,
        quality_threshold: float | None = None,
        complexity_threshold: float | None = None,
        min_oq_improvement: float | None = 0.0,
        *,
        folder: Path | None = None,
        max_snapshots: int = 5,
        max_mb: float = 0.0,
        consolidate_on_accept: bool = False,
        keeper: Keeper | None = None,
        writes: bool = True,
    ):
        self.quality_threshold = _checked("quality_threshold", quality_threshold, 0)
        self.complexity_threshold = _checked("complexity_threshold", complexity_threshold, 0)
        self.min_oq_improvement = _checked("min_oq_improvement", min_oq_improvement, -math.inf)
        self.folder = None if folder is None else _folder(folder)
        if self.folder and writes and (self.folder / "index.json").exists():
            raise ConfigError(f"{folder} holds snapshots already; OckhamMemory.open(folder) goes on with them")
        self.max_snapshots = _checked("max_snapshots", max_snapshots, 1, (int,))
        self.max_mb = _checked("max_mb", max_mb, 0, (int, float))
        self.consolidate_on_accept, self.keeper, self.writes = consolidate_on_accept, keeper, writes
        self.snapshots: list[ModelSnapshot] = []  # oldest first
        self.latest: ModelSnapshot | None = None  # the last one saved: what the next decision is compared with
        self.last: Verdict | None = None
        self.counts = dict.fromkeys(REASONS, 0)
        self._bare: ModelKeeper | None = None  # around the model that was saved last
        self._before: tuple[Keeper, Mapping[str, Any]] | None = None

    @classmethod
    def open(cls, folder: Path, **options: Any) -> OckhamMemory:
        """The memory whose snapshots lie in `folder`, empty where there are none. Raises CheckpointError; see `read_index`."""
        memory = cls(**options)
        memory.folder = _folder(folder)
        if (memory.folder / "index.json").exists():
            memory.snapshots = read_index(memory.folder)
            memory.latest = memory.snapshots[-1] if memory.snapshots else None
        return memory

    # decide

    def should_accept_update(self, ctx: OccamContext, prev_snapshot: ModelSnapshot | None) -> tuple[bool, str]:
        """Whether the state that gave `ctx` is worth keeping, and the reason code. One call is one evaluation in the
        statistics; the figures are in `last`."""
        self.last = self.judge(ctx, prev_snapshot)
        self.counts[self.last.reason_code] += 1
        return self.last.accepted, self.last.reason_code

    def judge(self, ctx: OccamContext, prev_snapshot: ModelSnapshot | None) -> Verdict:
        """The verdict alone; changes nothing.

        Where a cost is not known (a quotient of 0) the two costs are taken as equal, and the losses decide.
        """
        loss, cost, prev = ctx.task_loss, ctx.complexity_cost, prev_snapshot
        oq = ctx.compute_occam_quotient(performance(loss))
        verdict = partial(Verdict, iter_num=ctx.iter_num, loss=loss, complexity_cost=cost, occam_quotient=oq)
        if not _passes(loss, self.quality_threshold):
            return verdict(False, REJECTED_QUALITY, value=loss, threshold=self.quality_threshold)
        if not _passes(cost, self.complexity_threshold):
            return verdict(False, REJECTED_COMPLEXITY, value=cost, threshold=self.complexity_threshold)
        if prev is None:
            return verdict(True, ACCEPTED_FIRST_VALID, value=oq, threshold=None)
        before = prev.metrics.occam_quotient
        is_known = oq > 0 and before > 0
        gain = relative_improvement(oq, before) if is_known else relative_improvement(performance(loss), performance(prev.loss))
        least = self.min_oq_improvement
        accepted = least is None or gain >= least
        reason = ACCEPTED_OQ_IMPROVEMENT if accepted else REJECTED_OQ_INSUFFICIENT
        return verdict(accepted, reason, value=gain, threshold=least, previous=prev.id, previous_oq=before, improvement=gain)

    @property
    def statistics(self) -> dict[str, int | float]:
        """Evaluations, accepted, rejected by gate, and accepted / evaluations (0 before the first)."""
        evaluations = sum(self.counts.values())
        accepted = self.counts[ACCEPTED_FIRST_VALID] + self.counts[ACCEPTED_OQ_IMPROVEMENT]
        return {
            "evaluations": evaluations,
            "accepted": accepted,
            "rejected_quality": self.counts[REJECTED_QUALITY],
            "rejected_complexity": self.counts[REJECTED_COMPLEXITY],
            "rejected_oq": self.counts[REJECTED_OQ_INSUFFICIENT],
            "accept_rate": accepted / evaluations if evaluations else 0.0,
        }

    def reset_statistics(self) -> None:
        """Count from 0 again."""
        self.counts = dict.fromkeys(REASONS, 0)

    # keep

    def save_checkpoint(self, model: nn.Module, ctx: OccamContext) -> ModelSnapshot:
        """Keep the state now, whatever the gates say. Raises TrainingError when the disk refuses, ConfigError for figures
        that cannot be compared."""
        for name, value in (("task_loss", ctx.task_loss), ("complexity_cost", ctx.complexity_cost)):
            if not _passes(value, None):
                raise ConfigError(f"a snapshot's {name} must be a finite number >= 0, got {value!r}; judge it before saving")
        keeper = self._keeper(model)
        state = {**keeper.capture(), **({} if self.keeper else {"iter_num": ctx.iter_num})}
        id = self._new_id(ctx.iter_num)
        path = self.folder / f"{id}.pt" if self.folder else None
        if path is None:
            state = copy.deepcopy(state)
        if path is None and isinstance(keeper, ModelKeeper):
            keeper.prepare()
        figures = {"params": ctx.model_params or active_parameters(model), "bytes": storage_bytes(state)}
        snapshot = ModelSnapshot.of(ctx, id=id, path=path, state=None if path else state, **figures)
        before = self.snapshots, self.latest
        self.snapshots, self.latest = [*self.snapshots, snapshot], snapshot
        gone = self._over_the_caps()
        state["memory"] = self.state_dict()  # with this snapshot in it: who goes back to it knows what was known then
        try:
            self._put_down(state, path)
        except OckhamError:
            self.snapshots, self.latest = before
            raise
        self._drop(gone)
        return snapshot

    def is_over_cap(self, bytes: int) -> bool:
        """Whether that many are more than `max_mb` allows."""
        return 0 < round(self.max_mb * MB) < bytes

    def add_candidate(
        self, model: nn.Module, loss: float, complexity_cost: float = 0.0, params: int = 0, iter_num: int = 0
    ) -> ModelSnapshot:
        """Keep a state by its three figures, without gates; `params` 0 = those of the model that are not zero."""
        params = params or active_parameters(model)
        return self.save_checkpoint(model, OccamContext(iter_num, loss, complexity_cost=complexity_cost, model_params=params))

    def select_best(
        self,
        weights: tuple[float, float, float] = (1.0, 0.0, 0.0),
        max_loss: float = math.inf,
        max_complexity: float = math.inf,
        max_params: float = math.inf,
    ) -> ModelSnapshot | None:
        """The best snapshot within the limits, on the Pareto frontier of those whose state is there: the least loss, or the
        least sum of (loss, complexity cost, parameters) under `weights`; see `pareto.choose`. None where nothing is within."""
        there = [s for s in self.snapshots if s.is_available]
        return pareto.choose(there, weights, (max_loss, max_complexity, max_params))

    def frontier(self) -> list[ModelSnapshot]:
        """The snapshots that no other dominates, oldest first."""
        return pareto.frontier(self.snapshots)

    # go back

    def find(self, id: str) -> ModelSnapshot:
        """The snapshot of this id. Raises CheckpointError naming those that are kept."""
        known = {s.id: s for s in self.snapshots}
        if id not in known:
            kept = ", ".join(known) or "none"
            raise CheckpointError(f"no snapshot {id!r} (unknown, or evicted since){nearest(id, known)}; kept: {kept}")
        return known[id]

    def load(self, snapshot: ModelSnapshot | str) -> Mapping[str, Any]:
        """A snapshot's state, from memory or, verified, from its file. Raises CheckpointError: evicted, missing, damaged."""
        mine = self.find(snapshot if isinstance(snapshot, str) else snapshot.id)
        if isinstance(snapshot, ModelSnapshot) and snapshot != mine:
            raise CheckpointError(f"snapshot {snapshot.id} is of another memory; this one's was taken at {mine.created:.0f}")
        if mine.state is not None:
            return mine.state
        if not mine.is_available or mine.path is None:
            others = ", ".join(s.id for s in self.snapshots if s.is_available) or "none"
            raise CheckpointError(
                f"the state of snapshot {mine.id} is gone ({mine.path or 'it was held in memory'}); left: {others}"
            )
        checkpoint.check(mine.path)
        return checkpoint.load_checkpoint(mine.path)

    def rollback(self, snapshot: ModelSnapshot | str, model: nn.Module | None = None) -> None:
        """Go back to a snapshot: all that the keeper keeps, or the weights of the model that was saved (or is given).

        Whole or not at all; `undo_rollback` takes it back. Raises CheckpointError as `load` does, ShapeError for weights of
        another model.
        """
        keeper, state = self._keeper(model), self.load(snapshot)
        if isinstance(keeper, ModelKeeper):
            before: Mapping[str, Any] = keeper.exchange(state)
        else:
            before = copy.deepcopy(keeper.capture())
            try:
                keeper.restore(state if self.folder else copy.deepcopy(state))
            except Exception:
                keeper.restore(before)
                raise
        self._before = keeper, before

    def undo_rollback(self) -> None:
        """Put back, bit for bit, what the last rollback replaced, once. Raises CheckpointError when there is nothing to undo."""
        if self._before is None:
            raise CheckpointError("no rollback to undo")
        (keeper, before), self._before = self._before, None
        keeper.restore(before)

    # go on

    def state_dict(self) -> dict[str, Any]:
        """Statistics and records, in plain types; the states themselves stay where they are."""
        return {
            "v": VERSION,
            "counts": dict(self.counts),
            "snapshots": [s.record() for s in self.snapshots],
            "latest": self.latest.record() if self.latest else None,
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Be as at `state_dict`: later snapshots are dropped, files and all; those evicted since are only on record."""
        if state.get("v") != VERSION:
            raise CheckpointError(f"the memory's state has version {state.get('v')!r}, this program reads {VERSION}")
        self.counts = {**dict.fromkeys(REASONS, 0), **state["counts"]}
        held = {s.id: s for s in self.snapshots}
        wanted = [ModelSnapshot.from_record(record, self.folder) for record in state["snapshots"]]
        self.snapshots = [held[s.id] if held.get(s.id) == s else s for s in wanted]
        self.latest = ModelSnapshot.from_record(state["latest"], self.folder) if state["latest"] else None
        self._drop([s for id, s in held.items() if id not in {w.id for w in wanted}])

    # inside

    def _keeper(self, model: nn.Module | None) -> Keeper:
        """Who captures and restores: the keeper that was given, else one around the model."""
        if self.keeper is not None:
            return self.keeper
        if model is not None and (self._bare is None or self._bare.model is not model):
            self._bare = ModelKeeper(model)
        if self._bare is None:
            raise ConfigError("rollback needs to know the model: rollback(snapshot, model), or OckhamMemory(keeper=...)")
        return self._bare

    def _new_id(self, iter_num: int) -> str:
        base, taken = f"iter-{iter_num:06d}", {s.id for s in self.snapshots}
        again = next(n for n in range(1, len(taken) + 2) if (base if n == 1 else f"{base}-{n}") not in taken)
        return base if again == 1 else f"{base}-{again}"

    def _put_down(self, state: dict[str, Any], path: Path | None) -> None:
        """Write the state, where it is to be a file."""
        if path is None:
            return
        missing = [key for key in ("model", "model_args") if key not in state]
        if missing:
            raise ConfigError(f"the keeper's state needs 'model' and 'model_args' to be a file, it lacks {', '.join(missing)}")
        if self.writes:
            checkpoint.save(state, path)

    def _over_the_caps(self) -> list[ModelSnapshot]:
        """Take from the list what is too many or too large."""
        gone: list[ModelSnapshot] = []
        while len(self.snapshots) > 1 and (
            len(self.snapshots) > self.max_snapshots or self.is_over_cap(sum(s.bytes for s in self.snapshots))
        ):
            gone.append(pareto.first_to_go(self.snapshots))
            self.snapshots = [s for s in self.snapshots if s is not gone[-1]]
        return gone

    def _drop(self, gone: list[ModelSnapshot]) -> None:
        """Write the index, and only then remove the files that it no longer names."""
        if self.folder is None or not self.writes:
            return
        write_index(self.folder, self.snapshots)
        for snapshot in gone:
            if snapshot.path is not None:
                snapshot.path.unlink(missing_ok=True)


OckhamMemoryV2 = OckhamMemory


def revert_ms(memory: OckhamMemory, snapshot: ModelSnapshot, repeats: int = 20) -> float:
    """Milliseconds of one rollback, the median of `repeats`; each is undone."""
    taken = []
    for _ in range(repeats):
        began = time.perf_counter()
        memory.rollback(snapshot)
        taken.append(1e3 * (time.perf_counter() - began))
        memory.undo_rollback()
    return statistics.median(taken)


def _folder(path: Path) -> Path:
    if Path(path).exists() and not Path(path).is_dir():
        raise ConfigError(f"snapshots go into a folder, and {path} is a file; move it away, or choose another place")
    return Path(path)


def _passes(value: float, threshold: float | None) -> bool:
    return math.isfinite(value) and 0 <= value <= (math.inf if threshold is None else threshold)


def _checked(name: str, value: Any, low: float, kind: tuple[type, ...] = (int, float, type(None))) -> Any:
    is_right = isinstance(value, kind) and not isinstance(value, bool)
    if is_right and (value is None or (math.isfinite(value) and value >= low)):
        return value
    wanted = {3: "a finite number, or None for no gate", 2: "a finite number", 1: "a whole number"}[len(kind)]
    raise ConfigError(f"{name} must be {wanted}{'' if low == -math.inf else f', >= {low}'}, got {value!r}")
