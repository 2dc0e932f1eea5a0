"""What an A/B experiment may say: comparisons paired by seed, and a sentence for each that does not flatter."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from .jobs import Outcome
from .statistics import ALPHA, FEWEST, Paired, holm, paired
from .variants import ABLATION, RANDOM, SHORTER, Variant

Runs = Mapping[tuple[str, int], Outcome]  # (variant, seed) -> how its run ended

SETTINGS = {  # what a variant is held against -> in words
    "baseline": "the baseline",
    RANDOM: "the same run that skips as many batches at random",
    SHORTER: "a shorter plain run of the same compute units",
    ABLATION: "the whole rack",
}


@dataclass(frozen=True)
class Comparison:
    """Final val losses of `left` minus those of `right`, nats/token, paired by seed."""

    left: str
    right: str
    against: str  # a key of SETTINGS
    seeds: tuple[int, ...]  # of the pairs
    paired: Paired | None  # None without any pair
    failed: tuple[str, ...]  # runs of either side that did not come to their end
    p_holm: float | None = None  # among all comparisons that have a verdict

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
        names = f"{self.left} against {self.right} ({SETTINGS[self.against]})"
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
            return f"{names}: the same val loss to the last digit in all {found.n} pairs."
        range_of = f"95 % interval {found.low:+.4f} to {found.high:+.4f}"
        if self.is_different:
            word = "lower (better)" if found.mean < 0 else "higher (worse)"
            ps = f"{said_p(self.p_holm)} after Holm" + (f"; by sign flips {said_p(found.p_signs)}" if found.p_signs else "")
            return f"{names}: val loss is {word} by {abs(found.mean):.4f} nats/token ({range_of}; {ps})."
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


def compare(variants: Sequence[Variant], baseline: str, seeds: Sequence[int], runs: Runs) -> list[Comparison]:
    """Every comparison of an experiment, with Holm's correction over all that have a verdict."""
    found = []
    for variant in variants:
        if variant.kind in (RANDOM, SHORTER):  # what is asked is whether the gated variant beats it
            found.append(one(variant.parent, variant.name, variant.kind, seeds, runs))
        elif variant.kind == ABLATION:
            found.append(one(variant.name, variant.parent, ABLATION, seeds, runs))
        elif variant.name != baseline:
            found.append(one(variant.name, baseline, "baseline", seeds, runs))
    return corrected(found)


def corrected(comparisons: Sequence[Comparison]) -> list[Comparison]:
    """The comparisons with Holm-adjusted p values where there may be a verdict."""
    adjusted = iter(holm([c.paired.p for c in comparisons if c.paired is not None and c.has_verdict]))
    return [dataclasses.replace(c, p_holm=next(adjusted)) if c.has_verdict else c for c in comparisons]


def one(left: str, right: str, against: str, seeds: Sequence[int], runs: Runs) -> Comparison:
    """One comparison, not yet corrected."""
    failed = tuple(f"{name}_seed{seed}" for name in (left, right) for seed in seeds if val_loss(runs.get((name, seed))) is None)
    pairs = [
        (seed, a, b)
        for seed in seeds
        if (a := val_loss(runs.get((left, seed)))) is not None and (b := val_loss(runs.get((right, seed)))) is not None
    ]
    figures = paired([a for _, a, _ in pairs], [b for _, _, b in pairs]) if pairs else None
    return Comparison(left, right, against, tuple(seed for seed, _, _ in pairs), figures, failed)


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
