"""What `ockham memory` does with a run's snapshots: look, take one out, weigh models against each other."""

from __future__ import annotations

import filecmp
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from .. import checkpoint, journal
from ..errors import CheckpointError, UsageError, WorldError
from ..files import check_target
from ..memory import REJECTED_COMPLEXITY, REJECTED_OQ_INSUFFICIENT, REJECTED_QUALITY, ModelSnapshot, OckhamMemory
from .weighed import Weighed, Weights, weigh_all

UNDO = "before-rollback"  # in a run's memory folder: what the newest rollback set aside
LOOSEN = {
    REJECTED_QUALITY: "memory.quality_threshold",
    REJECTED_COMPLEXITY: "memory.complexity_threshold",
    REJECTED_OQ_INSUFFICIENT: "memory.min_oq_improvement",
}


def open_kept(run: Path, or_empty: bool = False) -> OckhamMemory:
    """The memory of a run. Raises WorldError where it has none, or has kept nothing, unless that may be: `or_empty`."""
    if not run.is_dir():
        raise WorldError(f"there is no folder {run}; give the out_dir of a run")
    folder, counts = run / "memory", verdicts(run)
    memory = OckhamMemory.open(folder)
    if (folder / "index.json").is_file() or (or_empty and counts):
        return memory
    if counts:
        raise WorldError(f"{run} kept no state: {rejected(counts)}")
    if (run / "decisions.jsonl").is_file():
        raise WorldError(f"{run} kept no state yet: its memory judges at the first evaluation")
    raise WorldError(f"{run} has no memory: train with --memory.enabled=True, or with a preset that has a memory")


def rejected(counts: Counter[str]) -> str:
    """Why nothing was kept, and what to change, where every state was rejected."""
    if any(code.startswith("ACCEPTED") for code in counts):
        return "some were accepted, but memory/index.json is gone"
    listed = ", ".join(f"{code} {n}" for code, n in counts.most_common())
    return f"all {counts.total()} rejected: {listed}; loosen {LOOSEN.get(counts.most_common(1)[0][0], 'the thresholds')}"


def verdicts(run: Path) -> Counter[str]:
    """How often each reason code was given."""
    path = run / "decisions.jsonl"
    return Counter(line["reason_code"] for line in journal.read(path)) if path.is_file() else Counter()


def rolled_back_to(run: Path) -> int | None:
    """The iteration at which a run stands since a rollback after which it has not gone on; None where there was none.

    Its journal and summary then still tell of the state that was given up. Raises CheckpointError for a damaged last.pt.
    """
    now, then = (folder / "journal.jsonl" for folder in (run, run / "memory" / UNDO))
    if not now.is_file() or not then.is_file() or not filecmp.cmp(now, then, shallow=False):
        return None
    return stands_at(run)


def stands_at(run: Path) -> int | None:
    """The iteration of last.pt where the run was ever rolled back, else None. Raises CheckpointError for a damaged last.pt."""
    if not (run / "memory" / UNDO).is_dir():
        return None
    return Weights.read(str(run), run / "last.pt").iteration


def check_not_rolled_back(run: Path, iters: Any) -> None:
    """Raises WorldError where the run was rolled back since its summary.json, which is of iteration `iters`, was written."""
    now = stands_at(run)
    if now is not None and now != iters:
        raise WorldError(
            f"{run}/summary.json is of iteration {iters}, and the run was rolled back to {now} since; "
            f"let it go on to its end (--init_from=resume), or ockham memory rollback {run} --undo"
        )


def pick(memory: OckhamMemory, name: str) -> ModelSnapshot:
    """The snapshot of an id, or of the words best and latest, which are among those whose state is there.

    Raises CheckpointError naming those that are kept.
    """
    if name not in ("best", "latest"):
        return memory.find(name)
    there = [s for s in memory.snapshots if s.is_available]
    found = memory.select_best() if name == "best" else next(reversed(there), None)
    if found is None:
        gone = ", ".join(s.id for s in memory.snapshots)
        raise CheckpointError(f"there is no state to take: the files of {gone} are gone" if gone else "the memory is empty")
    return found


def for_inference(state: Mapping[str, Any], loss: float) -> dict[str, Any]:
    """A complete state as a ckpt.pt, with the weights that were evaluated."""
    return checkpoint.inference_checkpoint(
        state.get("evaluated") or state["model"],
        state["learner"]["optimizer"],
        state["model_args"],
        state["learner"]["counters"]["iter_num"],
        loss,
        state["config"],
    )


def export(memory: OckhamMemory, snapshot: ModelSnapshot, out: Path) -> None:
    """Write a snapshot as a checkpoint for sample.py and --init_from.

    Raises UsageError where there is something already, WorldError where nothing can be written.
    """
    if out.exists():
        raise UsageError(f"{out} exists; choose another --out")
    check_target("--out", out)
    checkpoint.save(for_inference(memory.load(snapshot), snapshot.loss), out)


def weigh(names: Sequence[str]) -> list[Weighed]:
    """Models by run folder (its ckpt.pt), checkpoint file, or RUN:ID of a snapshot, all measured on the same number of tokens.

    Raises CheckpointError for what is none of these, WorldError for one whose weights were not evaluated.
    """
    return weigh_all([_weights(name) for name in names])


def _weights(name: str) -> Weights:
    path = Path(name)
    if path.exists():
        return Weights.read(name, path / "ckpt.pt" if path.is_dir() else path)
    run, colon, id = name.rpartition(":")
    if not colon or not Path(run).is_dir():
        raise CheckpointError(f"{name} is neither a run folder, nor a checkpoint, nor RUN:ID of a snapshot")
    memory = open_kept(Path(run))
    snapshot = pick(memory, id)
    return Weights(name, Path(run) / "memory" / f"{snapshot.id}.pt", memory.load(snapshot))
