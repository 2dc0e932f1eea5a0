"""The runs of a scenario, measured: each checkpoint on every corpus, once, whatever is resumed."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from ..data import Corpus, open_corpus
from ..distributed import Ranks
from ..errors import CheckpointError
from ..evaluation import whole_val_loss
from ..files import write_text
from ..sources import sha256_of
from .ab_plan import Plan
from .ab_runs import Ended
from .ab_verdict import Values, figure, is_done
from .corpora import identity
from .jobs import Outcome, read_json
from .matrix import Matrix, Retention, figures_of
from .stages import SHARED, Course
from .sweep import say
from .weighed import Weights

CACHE = "matrix.json"  # in a run's folder: its losses, and what they were measured on
CHECKPOINT = "ckpt.pt"
Measured = Mapping[tuple[str, int], Retention]  # (variant, seed)


def measure_all(plan: Plan, ended: Ended) -> dict[tuple[str, int], Retention]:
    """Every run of a scenario that came to its end; {} without a scenario. Raises CheckpointError, CorpusError."""
    course = plan.course
    if course is None:
        return {}
    corpora = {source: open_corpus(course.prepared.of(source)) for source in course.scenario.sources}
    found = {}
    for (name, seed), outcome in ended.runs.items():
        chain = chain_of(plan, ended, name, seed) if is_done(outcome) else None
        if chain:
            found[name, seed] = measured(course, corpora, chain)
    return found


def chain_of(plan: Plan, ended: Ended, name: str, seed: int) -> list[Outcome] | None:
    """The runs that led to a variant's run, and it, stage by stage; None where one is missing."""
    course = plan.course
    assert course is not None
    chain = []
    for stage in range(course.last):
        shared = course.scenario.stages[stage].is_shared
        chain.append(ended.stages.get((stage, SHARED if shared else course.trained_by(stage, plan[name]), seed)))
    whole = [outcome for outcome in (*chain, ended.runs[name, seed]) if outcome is not None]
    return whole if len(whole) == len(chain) + 1 else None


def measured(course: Course, corpora: Mapping[str, Corpus], chain: Sequence[Outcome]) -> Retention:
    """A run's matrix and figures, the losses of each checkpoint by its cache where they are there."""
    rows: list[tuple[float, ...]] = []
    drift = None
    for place, outcome in enumerate(chain):
        before = Path(chain[place - 1].out_dir) if place else None
        known = losses_of(Path(outcome.out_dir), before, corpora)
        rows.append(tuple(known["losses"][source] for source in course.scenario.sources))
        drift = known["drift"]
    units = [figure(outcome, "compute_units") for outcome in chain]
    matrix: Matrix = tuple(rows)
    return figures_of(course.scenario, matrix, math.log(course.prepared.vocab_size), drift, units)


def losses_of(run: Path, before: Path | None, corpora: Mapping[str, Corpus]) -> dict[str, Any]:
    """{"losses": {corpus: nats/token}, "drift": …} of a run's checkpoint, from matrix.json where that is of the same."""
    key = {
        "checkpoint": hash_of(run),
        "before": hash_of(before) if before else None,
        "corpora": {source: identity(corpus)[1] for source, corpus in corpora.items()},
    }
    cached = read_json(run / CACHE)
    if cached.get("of") == key:
        return cached
    weights = Weights.read(str(run), run / CHECKPOINT)
    losses = {source: val_loss(weights, corpus) for source, corpus in corpora.items()}
    drift = drift_between(weights, Weights.read(str(before), before / CHECKPOINT)) if before else None
    found = {"of": key, "losses": losses, "drift": drift}
    write_text(run / CACHE, json.dumps(found, indent=2) + "\n")
    say(f"{run.name}: " + ", ".join(f"{source} {loss:.4f}" for source, loss in losses.items()))
    return found


def hash_of(run: Path) -> str:
    """The hash of a run's checkpoint. Raises CheckpointError where it is gone."""
    if not (run / CHECKPOINT).is_file():
        raise CheckpointError(f"{run / CHECKPOINT} is gone, so that its losses cannot be measured; delete {run} and run ab again")
    return sha256_of(run / CHECKPOINT)


def val_loss(weights: Weights, corpus: Corpus) -> float:
    """The loss of a checkpoint on a whole val split, nats/token, in float32, on the accelerator where there is one."""
    device = torch.accelerator.current_accelerator() if torch.accelerator.is_available() else None
    model, place = weights.model, device or torch.device("cpu")
    return whole_val_loss(model.to(place), corpus, model.config.block_size, Ranks(place))


def drift_between(after: Weights, before: Weights) -> float:
    """Σ‖θ − θ₀‖² / Σ‖θ₀‖² over all weights, tied ones once; dimensionless."""
    moved = norm = 0.0
    start = dict(before.model.cpu().named_parameters())
    for name, weight in after.model.cpu().named_parameters():
        theta, theta0 = weight.detach().double(), start[name].detach().double()[: len(weight)]  # positions may be cropped
        moved += float((theta - theta0).square().sum())
        norm += float(theta0.square().sum())
    return moved / norm


def measures_of(plan: Plan, found: Measured) -> dict[str, Values]:
    """What the verdicts are about: new loss, forgetting and average loss where something is old, else the final val loss."""
    if plan.course is None or not plan.course.scenario.old:
        return {}
    columns = {"new loss": "new", "forgetting": "forgetting", "average loss": "average"}
    return {name: {key: getattr(run, field) for key, run in found.items()} for name, field in columns.items()}
