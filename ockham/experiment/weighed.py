"""Models on the scales: the weights of a checkpoint, the val loss of those very weights, and what they cost to run."""

from __future__ import annotations

import importlib
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from .. import checkpoint, journal
from ..errors import CheckpointError, WorldError
from ..pareto import ModelSnapshot, read_index
from ..quotient import Footprint, performance, roi_percent

WHOLE, ESTIMATE, OWN_WORD = "full val split", "estimate", "as the checkpoint says (its best)"
OF_A_RUN = ("ckpt.pt", "last.pt", "start.pt")  # the names beside which a journal is their own


@dataclass(frozen=True)
class Loss:
    """A val loss in nats/token, and which evaluation gave it: WHOLE, ESTIMATE or OWN_WORD."""

    value: float
    source: str


@dataclass(frozen=True)
class Weights:
    """A checkpoint that has been read: ckpt.pt, last.pt, a snapshot, or any file with a model in it."""

    name: str  # as the user gave it
    path: Path
    state: Mapping[str, Any]

    @classmethod
    def read(cls, name: str, path: Path) -> Weights:
        """The checkpoint at `path`. Raises CheckpointError."""
        return cls(name, path, checkpoint.load_checkpoint(path))

    @property
    def config(self) -> Mapping[str, Any]:
        """The flat config that it carries; {} where it has none."""
        found: Mapping[str, Any] = self.state.get("config") or {}
        return found

    @property
    def corpus(self) -> str:
        """The name of the dataset."""
        return str(self.config.get("dataset", "unknown"))

    @property
    def iteration(self) -> int | None:
        """After how many iterations these weights were; None where nobody says."""
        counters = self.state.get("learner", {}).get("counters", self.state)
        found: int | None = counters.get("iter_num")
        return found

    @cached_property
    def model(self) -> Any:
        """The GPT on the CPU, with the weights that are evaluated. Raises CheckpointError."""
        shown = {**self.state, "model": self.state.get("evaluated") or self.state["model"]}
        try:
            return importlib.import_module("model").GPT.from_checkpoint(shown)
        except ValueError as error:
            raise CheckpointError(f"{self.path} cannot be built: {error}") from error

    @cached_property
    def loss(self) -> Loss:
        """The val loss of these weights; see `loss_of`."""
        found = loss_of(self)
        if not math.isfinite(found.value):
            raise WorldError(f"{self.name} has no val loss to weigh: it is {found.value}")
        return found


# ---------------------------------------------------------------------------------------------------- which loss is theirs


def loss_of(weights: Weights) -> Loss:
    """The val loss of the weights at hand, not the best one of their run: `always_save_checkpoint` writes ckpt.pt anew at
    every evaluation, and last.pt goes on between them.

    A snapshot's is in its index; that of a run's own file in the journal, at its iteration; any other file is taken by its
    word. Raises WorldError for weights that were not evaluated.
    """
    snapshot = snapshot_at(weights.path)
    if snapshot is not None:
        events = [e for e in evaluations(weights, weights.path.parent.parent) if float(e["val_loss"]) == snapshot.loss]
        return Loss(snapshot.loss, kind_of(events[-1] if events else None, weights.config))
    if weights.path.name not in OF_A_RUN or not (weights.path.parent / "journal.jsonl").is_file():
        return own_word(weights)
    events = evaluations(weights, weights.path.parent)
    if is_a_best(weights) and own_word(weights).value not in [float(event["val_loss"]) for event in events]:
        return own_word(weights)  # written by a session whose journal was cut back since
    if not events:
        raise WorldError(
            f"{weights.name} holds iteration {weights.iteration}, at which there was no evaluation; "
            f"give a run's folder, RUN:ID of a snapshot, or resume the run to its next evaluation"
        )
    event = max(events, key=lambda event: event["tokens"])
    return Loss(float(event["val_loss"]), kind_of(event, weights.config))


def snapshot_at(path: Path) -> ModelSnapshot | None:
    """The record of a memory's file; None for a file that is none. Raises CheckpointError for a damaged index."""
    if not (path.parent / "index.json").is_file():
        return None
    return next((snapshot for snapshot in read_index(path.parent) if snapshot.id == path.stem), None)


def evaluations(weights: Weights, run: Path) -> list[dict[str, Any]]:
    """The run's evaluations at the iteration of these weights; none where it has no journal."""
    path = run / "journal.jsonl"
    if not path.is_file():
        return []
    return [event for event in journal.read(path, "eval") if event["iter"] == weights.iteration]


def is_a_best(weights: Weights) -> bool:
    """Whether this ckpt.pt was written because it was the best: its best_val_loss then is its own."""
    return weights.path.name == "ckpt.pt" and weights.config.get("always_save_checkpoint") is False


def kind_of(event: Mapping[str, Any] | None, config: Mapping[str, Any]) -> str:
    """WHOLE, or ESTIMATE where the evaluation saw as many tokens as random batches or a capped sweep come to."""
    block, batches, cap = (config.get(key, 0) for key in ("block_size", "eval_iters", "eval_max_tokens"))
    if not batches and not cap:
        return WHOLE
    drawn = batches * config["batch_size"] * block if batches else max(1, cap // block) * block
    return ESTIMATE if event is None or event["tokens"] == drawn else WHOLE


def own_word(weights: Weights) -> Loss:
    """The best val loss that the file carries. Raises WorldError where it carries none."""
    best = weights.state.get("best_val_loss", weights.state.get("loop", {}).get("best_val_loss"))
    if best is None:
        raise WorldError(f"{weights.name} says no val loss; give the folder of the run that it is from")
    return Loss(float(best), OWN_WORD)


# -------------------------------------------------------------------------------------------------------------- the scales


@dataclass(frozen=True)
class Weighed:
    """One model on the scales."""

    name: str
    loss: float  # nats/token
    source: str  # which evaluation the loss is from
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


def footprints(models: Sequence[Weights]) -> list[Footprint]:
    """What each costs to run, all measured on as many tokens as the shortest block holds."""
    import torch

    tokens = torch.zeros(1, min(weights.model.config.block_size for weights in models), dtype=torch.long)  # (1, T)
    return [Footprint.measure(weights.model, tokens) for weights in models]


def weigh_all(models: Sequence[Weights]) -> list[Weighed]:
    """Every model with its own loss. Raises WorldError for one whose weights were not evaluated."""
    losses = [weights.loss for weights in models]
    return [
        Weighed(weights.name, loss.value, loss.source, weights.corpus, footprint)
        for weights, loss, footprint in zip(models, losses, footprints(models), strict=True)
    ]
