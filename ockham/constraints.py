"""Constraints of an Occam Decision Record: `val_loss improves > 2 %`, read, and held against the figures of two runs."""

from __future__ import annotations

import math
import re
import sys
from dataclasses import dataclass

from .errors import UsageError, nearest

NUMBER, SHARE, OWN = "number", "share", "own"
LOWER, HIGHER = "lower", "higher"


@dataclass(frozen=True)
class Metric:
    """What can be constrained: its kind, which way is better ("" = neither), the units it takes beside none, and what it is.

    Kinds: a NUMBER in % is its change against the before-run; a SHARE in % is itself × 100, its gain in points; a figure of
    its OWN is of both runs already.
    """

    kind: str
    better: str
    units: tuple[str, ...]  # the first is what the figure is shown in, where the line names none
    help: str

    @property
    def operators(self) -> tuple[str, ...]:
        """The operators that make sense for it."""
        return (*SIGNS, *(f"improves {sign}" for sign in SIGNS if self.better and ">" in sign))


SIGNS = ("<", "<=", ">", ">=")
METRICS = {
    "val_loss": Metric(NUMBER, LOWER, ("", "%"), "final val loss, full split, nats/token (summary.json)"),
    "best_val_loss": Metric(
        NUMBER, LOWER, ("", "%"), "lowest val loss of all evaluations in training, nats/token (summary.json)"
    ),
    "added_params": Metric(OWN, "", ("%",), "non-zero parameters that the after-run has more, % of the before-run's"),
    "params": Metric(NUMBER, LOWER, ("", "%"), "non-zero parameters of ckpt.pt, tied ones once"),
    "memory_mb": Metric(NUMBER, LOWER, ("MB", "", "%"), "parameters and buffers of ckpt.pt, 10⁶ bytes"),
    "compute_units": Metric(NUMBER, LOWER, ("", "%"), "compute spent; 1 = a forward of one batch (summary.json)"),
    "compute_saved": Metric(SHARE, HIGHER, ("", "%"), "share of compute saved against learning every batch (summary.json)"),
    "update_rate": Metric(SHARE, "", ("", "%"), "learned batches / batches (summary.json)"),
    "complexity_cost": Metric(NUMBER, LOWER, ("", "%"), "relative drift from the anchor (summary.json)"),
    "tokens_per_s": Metric(NUMBER, HIGHER, ("", "%"), "training speed (summary.json)"),
    "wall_s": Metric(NUMBER, LOWER, ("", "%"), "seconds in all (summary.json)"),
    "train_s": Metric(NUMBER, LOWER, ("", "%"), "seconds of training alone (summary.json)"),
    "oq": Metric(NUMBER, HIGHER, ("", "%"), "Occam Quotient of ckpt.pt at the val loss of its own weights"),
    "revert_ms": Metric(OWN, "", ("ms", ""), "ms to roll back to the before-run's weights, held in memory; median of 20"),
}
# architecture_v2.md's own words: "Can revert in < 10ms", "Added params < 5% of base", "Val loss improves by > 2%".
WORDS = {"can_revert_in": "revert_ms"}

PARTS = re.compile(r"(?P<words>[^<>=!≤≥]*?)\s*(?P<sign>[<>=!≤≥]+)\s*(?P<rest>.*)")
AMOUNT = re.compile(r"(?P<number>[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?)\s*(?P<unit>[^\d\s.,]*)(\s+of base)?")


@dataclass(frozen=True)
class Measured:
    """A metric of the two runs; `before` is None where the figure is of both."""

    before: float | None
    after: float


@dataclass(frozen=True)
class Constraint:
    """A metric, whether its improvement is meant, a comparison, a limit and a unit ("" = none)."""

    metric: str
    improves: bool
    sign: str
    limit: float
    unit: str

    def figure(self, measured: Measured) -> float:
        """What is compared with the limit, in the constraint's unit. Inf for a change from 0."""
        metric, before, after = METRICS[self.metric], measured.before, measured.after
        percent = 100.0 if self.unit == "%" else 1.0
        if metric.kind == OWN or before is None:
            return after
        gain = (before - after) if self.improves and metric.better == LOWER else (after - before)
        if metric.kind == SHARE:
            return percent * (gain if self.improves else after)
        if self.unit == "%":
            return percent * (gain / abs(before) if before else math.copysign(math.inf, gain) if gain else 0.0)
        return gain if self.improves else after

    def holds(self, figure: float) -> bool:
        """Whether the figure keeps the limit; NaN never does."""
        compared = {"<": figure < self.limit, "<=": figure <= self.limit, ">": figure > self.limit, ">=": figure >= self.limit}
        return compared[self.sign]

    def show(self, figure: float) -> str:
        """The figure with its unit, as it is written into the record."""
        unit = self.unit or METRICS[self.metric].units[0]
        return f"{figure:.4g} {unit}".rstrip()

    def __str__(self) -> str:
        operator = f"improves {self.sign}" if self.improves else self.sign
        return f"{self.metric} {operator} {self.limit:g} {self.unit}".rstrip()


def parse(text: str) -> Constraint:
    """`val_loss improves > 2 %`: metric, operator, number, unit. Raises UsageError, which names what is near."""
    parts = PARTS.fullmatch(text.strip())
    if parts is None:
        operators = ", ".join((*SIGNS, "improves >", "improves >="))
        raise UsageError(f"a constraint is `metric operator number unit`, with an operator of {operators}; got {text.strip()!r}")
    words = re.sub(r"\W+", " ", parts["words"].lower()).split()
    name, verb = _metric(words)
    metric = METRICS[name]
    operator = f"{verb} {parts['sign']}".strip()
    if operator not in metric.operators:
        hint = nearest(operator, metric.operators)
        raise UsageError(f"{name} cannot be compared by {operator!r}{hint}; allowed: {', '.join(metric.operators)}")
    number, unit = _amount(name, metric, parts["rest"].strip())
    return Constraint(name, bool(verb), parts["sign"], number, unit)


def _metric(words: list[str]) -> tuple[str, str]:
    """The metric of the words before the sign, and the verb behind it, "" for none. Raises UsageError."""
    if words[-1:] == ["by"]:
        words = words[:-1]
    for end in range(len(words), 0, -1):
        name = "_".join(words[:end])
        name = WORDS.get(name, name)
        if name in METRICS:
            return name, " ".join(words[end:])
    got = " ".join(words[:-1] if words[-1:] == ["improves"] else words)
    hint = nearest(got.replace(" ", "_"), METRICS)
    raise UsageError(f"there is no metric {got!r}{hint}; known: {', '.join(METRICS)}")


def _amount(name: str, metric: Metric, rest: str) -> tuple[float, str]:
    amount = AMOUNT.fullmatch(rest)
    if amount is None:
        raise UsageError(f"{name} needs one number, such as 2 or 0.5, and its unit, got {rest!r}")
    unit = amount["unit"]
    if unit not in metric.units:
        close = {known.lower(): known for known in metric.units}.get(unit.lower())
        hint = f" (did you mean {close}?)" if close else nearest(unit, metric.units)
        allowed = " or ".join(known or "no unit" for known in metric.units)
        raise UsageError(f"{name} takes {allowed}, got {unit or 'no unit'}{hint}")
    limit = float(amount["number"])
    if not math.isfinite(limit):
        raise UsageError(f"{name} needs a number that is not larger than {sys.float_info.max:.0e}, got {amount['number']}")
    if metric.kind == SHARE and not unit and abs(limit) > 1:
        raise UsageError(f"{name} is a share: without % its limit is from -1 to 1, got {limit:g} (did you mean {limit:g} %?)")
    return limit, unit
