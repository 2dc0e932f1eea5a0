"""What `ockham memory` does with a run's snapshots: look, take one out, go back to one, weigh models against each other."""

from __future__ import annotations

import importlib
import json
import shutil
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .. import checkpoint, journal
from ..errors import CheckpointError, UsageError, WorldError
from ..memory import ModelSnapshot, OckhamMemory
from ..quotient import Footprint, performance, roi_percent

UNDO = "before-rollback"
REPLACED = ("last.pt", "ckpt.pt", "journal.jsonl", "decisions.jsonl", "memory/index.json")


def open_kept(run: Path) -> OckhamMemory:
    """The memory of a run. Raises WorldError where it has none."""
    if not (run / "memory" / "index.json").is_file():
        what = "kept no state yet" if (run / "decisions.jsonl").is_file() else "has no memory"
        raise WorldError(f"{run} {what}: train with --memory.enabled=True, or with a preset that has a memory")
    return OckhamMemory.open(run / "memory")


def verdicts(run: Path) -> Counter[str]:
    """How often each reason code was given."""
    path = run / "decisions.jsonl"
    return Counter(line["reason_code"] for line in journal.read(path)) if path.is_file() else Counter()


def pick(memory: OckhamMemory, name: str) -> ModelSnapshot:
    """The snapshot of an id, or of the words best and latest. Raises CheckpointError naming those that are kept."""
    if name == "best":
        found = memory.select_best()
        if found is None:
            raise CheckpointError("the memory is empty")
        return found
    return memory.snapshots[-1] if name == "latest" and memory.snapshots else memory.find(name)


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
    """Write a snapshot as a checkpoint for sample.py and --init_from. Raises UsageError where there is something already."""
    if out.exists():
        raise UsageError(f"{out} exists; choose another --out")
    checkpoint.save(for_inference(memory.load(snapshot), snapshot.loss), out)


def roll_back(run: Path, memory: OckhamMemory, snapshot: ModelSnapshot) -> None:
    """Let the run go on from a snapshot: its state becomes last.pt, its weights ckpt.pt. What they replace is set aside.

    Later snapshots are set aside with them, for `undo`. Only the newest rollback can be undone.
    """
    state = {**memory.load(snapshot)}
    earlier = [s for s in memory.snapshots if s.created <= snapshot.created]
    aside = run / "memory" / UNDO
    shutil.rmtree(aside, ignore_errors=True)
    (aside / "memory").mkdir(parents=True)
    for name in REPLACED:
        if (run / name).is_file():
            shutil.copy2(run / name, aside / name)
    for later in (s for s in memory.snapshots if s not in earlier and s.path and s.path.is_file()):
        shutil.copy2(str(later.path), aside / "memory")
    kept = {**(state["loop"]["memory"] or memory.state_dict()), "latest": snapshot.record()}
    state["loop"] = {**state["loop"], "memory": {**kept, "snapshots": [s.record() for s in earlier]}}
    checkpoint.save(for_inference(state, snapshot.loss), run / "ckpt.pt")
    checkpoint.save(state, run / "last.pt")


def undo(run: Path) -> None:
    """Put back what the newest rollback set aside. Raises WorldError when there is nothing."""
    aside = run / "memory" / UNDO
    if not (aside / "last.pt").is_file():
        raise WorldError(f"no rollback to undo in {run}")
    for path in [p for p in aside.rglob("*") if p.is_file()]:
        shutil.copy2(path, run / path.relative_to(aside))
    shutil.rmtree(aside)


@dataclass(frozen=True)
class Weighed:
    """One model on the scales."""

    name: str
    loss: float  # nats/token
    source: str  # where the loss is from
    corpus: str
    footprint: Footprint

    @property
    def quotient(self) -> float:
        """Its Occam Quotient."""
        return self.footprint.quotient(self.loss)

    def row(self, first: Weighed) -> dict[str, Any]:
        """Its figures, and in per cent what it gains on the first one."""
        return {
            "model": self.name,
            "loss": self.loss,
            "loss_from": self.source,
            "corpus": self.corpus,
            "params": self.footprint.params,
            "memory_mb": self.footprint.memory_mb,
            "flops": self.footprint.flops,
            "performance": performance(self.loss),
            "occam_quotient": self.quotient,
            "roi_percent": roi_percent(first.quotient, self.quotient),
        }


def weigh(names: Sequence[str]) -> list[Weighed]:
    """Models by run folder, checkpoint file, or RUN:ID of a snapshot, all measured on the same number of tokens.

    Raises CheckpointError for what is none of these, WorldError for one whose loss is unknown.
    """
    import torch

    gpt = importlib.import_module("model").GPT
    loaded = [_load(name) for name in names]
    tokens = torch.zeros(1, min(int(state["model_args"]["block_size"]) for _, state, _, _ in loaded), dtype=torch.long)
    weighed = []
    for name, state, loss, source in loaded:
        shown = {**state, "model": state.get("evaluated") or state["model"]}
        corpus = str(state.get("config", {}).get("dataset", "unknown"))
        weighed.append(Weighed(name, loss, source, corpus, Footprint.measure(gpt.from_checkpoint(shown), tokens)))
    return weighed


def _load(name: str) -> tuple[str, Mapping[str, Any], float, str]:
    path = Path(name)
    if path.is_dir():
        state, summary = checkpoint.load_checkpoint(path / "ckpt.pt"), path / "summary.json"
        figures = json.loads(summary.read_text(encoding="utf-8")) if summary.is_file() else {}
        best = state.get("best_val_loss")
        if figures.get("best_val_loss") is not None and not figures["best_is_estimate"]:
            return name, state, figures["best_val_loss"], "best, full val split"
        return name, state, _known(name, best), "best evaluation"
    if path.is_file():
        state = checkpoint.load_checkpoint(path)
        return name, state, _known(name, state.get("best_val_loss", state.get("loop", {}).get("best_val_loss"))), "checkpoint"
    run, colon, id = name.rpartition(":")
    if not colon or not Path(run).is_dir():
        raise CheckpointError(f"{name} is neither a run folder, nor a checkpoint, nor RUN:ID of a snapshot")
    memory = open_kept(Path(run))
    snapshot = pick(memory, id)
    return name, memory.load(snapshot), snapshot.loss, "evaluation"


def _known(name: str, loss: Any) -> float:
    if loss is None:
        raise WorldError(f"{name} has no val loss; evaluate it first: --init_from={name} --eval_only")
    return float(loss)
