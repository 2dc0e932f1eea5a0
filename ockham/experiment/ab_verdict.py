"""What an A/B experiment may say: comparisons paired by seed, and a sentence for each that does not flatter."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from .jobs import Outcome
from .statistics import ALPHA, FEWEST, Paired, among, holm, paired
from .variants import ABLATION, RANDOM, SHORTER, Variant

Runs = Mapping[tuple[str, int], Outcome]  # (variant, seed) -> how its run ended
Values = Mapping[tuple[str, int], float]  # (variant, seed) -> a figure of its run; none for one that did not come to its end
VAL_LOSS = "val loss"

SETTINGS = {  # what a variant is held against -> in words
    "baseline": "the baseline",
    RANDOM: "the same run that leaves out as many by lot",
    SHORTER: "a shorter plain run of the same compute units",
    ABLATION: "the whole rack",
}


@dataclass(frozen=True)
class Comparison:
    """A figure of `left`'s runs minus that of `right`'s, nats/token, paired by seed; lower is better."""

    left: str
    right: str
    against: str  # a key of SETTINGS
    seeds: tuple[int, ...]  # of the pairs
    paired: Paired | None  # None without any pair
    failed: tuple[str, ...]  # runs of either side that did not come to their end
    p_holm: float | None = None  # among all comparisons that have a verdict
    measure: str = VAL_LOSS  # what is compared: the final val loss, or a figure of a scenario

    @property
    def has_verdict(self) -> bool:
        """Whether there are seeds enough and every run came to its end."""
        return self.paired is not None and self.paired.is_enough and not self.failed

    @property
    def is_different(self) -> bool:
        """Whether the verdict is that the two differ."""
        return self.p_holm is not None and self.p_holm < ALPHA

    @property
    def sentence(self) -> str:
        """The verdict in plain words."""
        names = f"{self.left} against {self.right} ({SETTINGS[self.against]})" + f", {self.measure}" * (self.measure != VAL_LOSS)
        if self.failed:
            runs = "runs" if len(self.failed) > 1 else "a run"
            return f"{names}: no verdict, because {runs} did not come to the end: {', '.join(self.failed)}."
        if self.paired is None:
            return f"{names}: no verdict, because there is no pair of runs."
        found = self.paired
        if not found.is_enough:
            return (
                f"{names}: not enough seeds for a verdict ({found.n} of at least {FEWEST}); so far {found.mean:+.4f} nats/token."
            )
        if not any(found.differences):
            return f"{names}: the same {self.measure} to the last digit in all {found.n} pairs."
        range_of = f"95 % interval {found.low:+.4f} to {found.high:+.4f}"
        if self.is_different:
            word = "lower (better)" if found.mean < 0 else "higher (worse)"
            ps = f"{said_p(self.p_holm)} after Holm" + (f"; by sign flips {said_p(found.p_signs)}" if found.p_signs else "")
            return f"{names}: {self.measure} is {word} by {abs(found.mean):.4f} nats/token ({range_of}; {ps})."
        return (
            f"{names}: no difference was shown: {found.mean:+.4f} nats/token ({range_of}; "
            f"{said_p(self.p_holm)} after Holm). {self.power_line}"
        )

    @property
    def power_line(self) -> str:
        """The smallest difference that the seeds could have shown."""
        if self.paired is None or self.paired.n < 2:
            return ""
        return (
            f"So many seeds ({self.paired.n}) show a true difference of {self.paired.smallest:.4f} in 80 of 100 experiments, "
            "smaller ones less often."
        )


def compare(
    variants: Sequence[Variant],
    baseline: str,
    seeds: Sequence[int],
    runs: Runs,
    measures: Mapping[str, Values] | None = None,
) -> list[Comparison]:
    """Every comparison of an experiment, with Holm's correction over all that have a verdict.

    `measures`: what to compare, by name; without any, the final val loss.
    """
    found = []
    for measure, values in (measures or {VAL_LOSS: val_losses(runs)}).items():
        for variant in variants:
            if variant.kind in (RANDOM, SHORTER):  # what is asked is whether the gated variant beats it
                found.append(one(variant.parent, variant.name, variant.kind, seeds, values, measure))
            elif variant.kind == ABLATION:
                found.append(one(variant.name, variant.parent, ABLATION, seeds, values, measure))
            elif variant.name != baseline:
                found.append(one(variant.name, baseline, "baseline", seeds, values, measure))
    return corrected(found)


def val_losses(runs: Runs) -> dict[tuple[str, int], float]:
    """The final val losses of the runs that came to their end."""
    return {key: loss for key, outcome in runs.items() if (loss := val_loss(outcome)) is not None}


def corrected(comparisons: Sequence[Comparison]) -> list[Comparison]:
    """The comparisons with Holm-adjusted p values, and the smallest difference that so many could show, where there may be a
    verdict."""
    judged = [c.paired for c in comparisons if c.paired is not None and c.has_verdict]
    adjusted = iter(holm([found.p for found in judged]))
    return [
        dataclasses.replace(c, p_holm=next(adjusted), paired=among(c.paired, len(judged))) if c.has_verdict and c.paired else c
        for c in comparisons
    ]


def one(left: str, right: str, against: str, seeds: Sequence[int], values: Values, measure: str = VAL_LOSS) -> Comparison:
    """One comparison, not yet corrected."""
    failed = tuple(f"{name}_seed{seed}" for name in (left, right) for seed in seeds if (name, seed) not in values)
    pairs = [seed for seed in seeds if (left, seed) in values and (right, seed) in values]
    figures = paired([values[left, seed] for seed in pairs], [values[right, seed] for seed in pairs]) if pairs else None
    return Comparison(left, right, against, tuple(pairs), figures, failed, measure=measure)


def is_done(outcome: Outcome | None) -> bool:
    """Whether a run came to its end, with a val loss."""
    return outcome is not None and outcome.status == "done" and figure(outcome, "val_loss") is not None


def val_loss(outcome: Outcome | None) -> float | None:
    """The final loss over the whole val split, nats/token; None for a run that did not come to its end."""
    return figure(outcome, "val_loss") if outcome is not None and is_done(outcome) else None


def figure(outcome: Outcome, key: str) -> float | None:
    """A finite number of a run's summary."""
    value = outcome.summary.get(key)
    return float(value) if isinstance(value, (int, float)) and math.isfinite(value) else None


def mean_of(outcomes: Sequence[Outcome], key: str) -> float | None:
    """The mean of a figure over the runs that came to their end; None without any."""
    values = [value for outcome in outcomes if is_done(outcome) and (value := figure(outcome, key)) is not None]
    return sum(values) / len(values) if values else None


def shown_p(p: float | None) -> str:
    """A p value as it is read: never 0."""
    return "" if p is None else "< 0.0001" if p < 1e-4 else f"{p:.4f}"


def said_p(p: float | None) -> str:
    """'p = 0.0312'."""
    return f"p {'' if shown_p(p).startswith('<') else '= '}{shown_p(p)}"
