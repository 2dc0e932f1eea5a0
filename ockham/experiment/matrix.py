"""What was learned, kept and lost: the loss of every corpus after every stage, and the figures that are read off it.

R[s][c] is the loss on the whole val split of corpus c after stage s, nats/token.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from .scenario import Scenario

Matrix = tuple[tuple[float, ...], ...]  # (stages, corpora), the corpora in the order of Scenario.sources


@dataclass(frozen=True)
class Retention:
    """One run of a scenario, measured. Losses in nats/token; None where there is nothing to measure."""

    matrix: Matrix
    new: float  # mean loss at the end on the corpora of the last stage
    average: float  # mean loss at the end on all corpora
    forgetting: float | None  # mean over the old corpora; positive = worse
    forgotten: dict[str, float]  # of each old corpus
    backward: float | None  # positive = better
    forward: float | None  # positive = better
    drift: float | None  # of the last stage: Σ‖θ − θ₀‖² / Σ‖θ₀‖², θ₀ the weights with which it began
    units: float | None  # compute units of the last stage
    units_all: float | None  # of all stages


def figures_of(
    scenario: Scenario, matrix: Matrix, ln_vocab: float, drift: float | None, units: Sequence[float | None]
) -> Retention:
    """The figures of one run; `units` are those of its stages, in order.

    forgetting of an old corpus: its final loss − its lowest loss over the ends of the earlier stages; Chaudhry et al.,
    Riemannian Walk (ECCV 2018), with losses in place of accuracies, so that positive is worse.
    backward transfer: mean over the old corpora of the loss at the end of the last stage that learned it − its final loss;
    positive is better. Lopez-Paz & Ranzato, Gradient Episodic Memory (NIPS 2017).
    forward transfer: mean over the corpora that are first learned in a later stage of ln(vocabulary) − the loss just before;
    ln(vocabulary) is the loss of a model that knows nothing, as a new one's is to within a few hundredths. Positive is better.
    """
    column = {source: place for place, source in enumerate(scenario.sources)}
    final, before = matrix[-1], matrix[:-1]
    learned = {s: [n for n, stage in enumerate(scenario.stages) if s in stage.sources] for s in scenario.sources}
    forgotten = {s: final[column[s]] - min(row[column[s]] for row in before) for s in scenario.old}
    backward = [matrix[learned[s][-1]][column[s]] - final[column[s]] for s in scenario.old]
    forward = [ln_vocab - matrix[learned[s][0] - 1][column[s]] for s in scenario.sources if learned[s][0]]
    known = [u for u in units if u is not None]
    return Retention(
        matrix=matrix,
        new=mean([final[column[source]] for source in scenario.new]),
        average=mean(final),
        forgetting=mean(list(forgotten.values())) if forgotten else None,
        forgotten=forgotten,
        backward=mean(backward) if backward else None,
        forward=mean(forward) if forward else None,
        drift=drift,
        units=units[-1],
        units_all=sum(known) if len(known) == len(units) else None,
    )


def mean(values: Sequence[float]) -> float:
    """The plain mean of one value or more."""
    return sum(values) / len(values)
