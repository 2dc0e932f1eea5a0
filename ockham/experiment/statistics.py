"""Whether two variants differ, by their differences under the same seeds.

Everything here is about paired differences d_1 … d_n, one a seed, in the unit of what was measured. scipy.stats is loaded on
first use.
"""

from __future__ import annotations

import dataclasses
import functools
import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

ALPHA = 0.05  # two-sided
CONFIDENCE = 0.95
POWER = 0.8
FEWEST = 6  # seeds: below, not even the exact sign-flip p of n equal signs, 2/2^n, is under 0.05
MOST_FLIPPED = 20  # seeds whose 2^n signs are all tried
NODES = 200  # equally likely values over which a power is averaged
FAR = 5.0  # standard errors from 0, at which a difference of the other sign is not found any more


def mean_and_sd(differences: Sequence[float]) -> tuple[float, float]:
    """Mean and sample standard deviation (n − 1 in the denominator). Differences that are all equal have 0 exactly."""
    values = np.asarray(differences, dtype=float)
    if len(values) > 1 and (values == values[0]).all():
        return float(values[0]), 0.0
    return float(values.mean()), float(values.std(ddof=1)) if len(values) > 1 else math.nan


def t_interval(differences: Sequence[float], confidence: float = CONFIDENCE) -> tuple[float, float]:
    """The interval of Student's t for the mean difference; (nan, nan) for a single one."""
    from scipy import stats

    mean, sd = mean_and_sd(differences)
    n = len(differences)
    if n < 2:
        return math.nan, math.nan
    half = float(stats.t.ppf((1 + confidence) / 2, n - 1)) * sd / math.sqrt(n)
    return mean - half, mean + half


def paired_t(differences: Sequence[float]) -> float:
    """The two-sided p of the paired t test that the mean difference is 0; nan for a single one.

    Differences that are all 0 are no evidence: 1. Those that are all equal and not 0 leave no doubt: 0.
    """
    from scipy import stats

    mean, sd = mean_and_sd(differences)
    n = len(differences)
    if n < 2:
        return math.nan
    if sd == 0:
        return 1.0 if mean == 0 else 0.0
    return float(2 * stats.t.sf(abs(mean) / (sd / math.sqrt(n)), n - 1))


def sign_flip(differences: Sequence[float]) -> float | None:
    """The exact two-sided p of the sign-flip test: the share of all 2^n signs for which |Σ ±d| is at least |Σ d|.

    It assumes no normal distribution, only that under no effect d and −d are as likely. None above 20 seeds. Never below 2/2^n.
    Source: Fisher, The Design of Experiments (1935), §21.
    """
    if len(differences) > MOST_FLIPPED:
        return None
    values = np.asarray(differences, dtype=float)
    sums = np.zeros(1)
    for value in values:
        sums = np.concatenate([sums + value, sums - value])
    tolerance = 1e-9 * float(np.abs(values).sum())  # sums that are equal but for rounding count as equal
    return float(np.mean(np.abs(sums) >= abs(float(values.sum())) - tolerance))


def holm(ps: Sequence[float]) -> list[float]:
    """Holm's adjusted p values, in the order given: comparing each with α errs in any of them with probability α at most.

    p_(k) · (m − k + 1) of the k-th least, never below the one before it, at most 1.
    Source: Holm, A simple sequentially rejective multiple test procedure (Scandinavian Journal of Statistics, 1979).
    """
    adjusted, largest = [0.0] * len(ps), 0.0
    for k, index in enumerate(sorted(range(len(ps)), key=lambda i: ps[i])):
        largest = max(largest, min(1.0, ps[index] * (len(ps) - k)))
        adjusted[index] = largest
    return adjusted


def power(effect: float, n: int, alpha: float = ALPHA) -> float:
    """How often the two-sided paired t test of n differences finds a true mean of `effect` standard deviations."""
    from scipy import stats

    limit = stats.t.ppf(1 - alpha / 2, n - 1)
    centre = effect * math.sqrt(n)
    wrong_way = float(stats.nct.cdf(-limit, n - 1, centre)) if centre < FAR else 0.0  # scipy has nan for it far out
    return float(stats.nct.sf(limit, n - 1, centre)) + wrong_way


def smallest_difference(sd: float, n: int, wanted: float = POWER, alpha: float = ALPHA) -> float:
    """The least true mean difference that n pairs of this standard deviation show with probability `wanted`; unit of `sd`.

    Of one test at `alpha`, before Holm, with `sd` known rather than estimated from those pairs. nan for n < 2.
    """
    if n < 2 or not math.isfinite(sd):
        return math.nan
    return sd * smallest_effect(n, wanted, alpha)


@functools.cache
def smallest_effect(n: int, wanted: float, alpha: float) -> float:
    """The same in standard deviations."""
    from scipy import optimize

    high = 1.0
    while power(high, n, alpha) < wanted:
        high *= 2
    return float(optimize.brentq(lambda effect: power(effect, n, alpha) - wanted, 0.0, high, xtol=1e-6))


def shown_difference(sd: float, n: int, comparisons: int = 1) -> float:
    """The least true mean difference that may be said to be shown with 80 % power, where n pairs themselves gave `sd`; its unit.

    Such an `sd` is by chance too low as often as too high, so `smallest_difference` of it is shown less often than it says: over
    many experiments of 6 seeds in 70 %. And of several comparisons Holm asks the first to have p < α / comparisons.
    nan for n < 2.
    """
    if n < 2 or not math.isfinite(sd):
        return math.nan
    return sd * shown_effect(n, ALPHA / comparisons)


@functools.cache
def shown_effect(n: int, alpha: float = ALPHA, wanted: float = POWER) -> float:
    """The c for which a true mean difference of c times the estimated standard deviation is found with probability `wanted`.

    The power is averaged over what n pairs estimate of a standard deviation of 1: √(χ²/(n − 1)), n − 1 degrees of freedom.
    """
    from scipy import optimize, stats

    estimates = np.sqrt(stats.chi2.ppf((np.arange(NODES) + 0.5) / NODES, n - 1) / (n - 1))
    limit = stats.t.ppf(1 - alpha / 2, n - 1)

    def surplus(effect: float) -> float:
        return float(stats.nct.sf(limit, n - 1, effect * estimates * math.sqrt(n)).mean()) - wanted

    high = 1.0
    while surplus(high) < 0:
        high *= 2
    return float(optimize.brentq(surplus, 0.0, high, xtol=1e-6))


@dataclass(frozen=True)
class Paired:
    """What n pairs say. Differences are left minus right: below 0 the left one is lower."""

    differences: tuple[float, ...]
    mean: float
    low: float  # of the 95 % t interval
    high: float
    p: float  # paired t, two-sided
    p_signs: float | None  # exact sign flips
    smallest: float  # true difference that so many seeds show with 80 % power, see `shown_difference`

    @property
    def n(self) -> int:
        """Pairs."""
        return len(self.differences)

    @property
    def is_enough(self) -> bool:
        """Whether there are seeds enough for a verdict."""
        return self.n >= FEWEST


def paired(left: Sequence[float], right: Sequence[float]) -> Paired:
    """Compare two variants' figures, the i-th of both from the same seed. Raises ValueError for none, or unequal numbers."""
    if not left:
        raise ValueError("no pairs")
    found = tuple(a - b for a, b in zip(left, right, strict=True))
    low, high = t_interval(found)
    mean, sd = mean_and_sd(found)
    return Paired(found, mean, low, high, paired_t(found), sign_flip(found), shown_difference(sd, len(found)))


def among(found: Paired, comparisons: int) -> Paired:
    """The same as one of several comparisons that share an α by Holm: the smallest difference that can be shown is larger."""
    return dataclasses.replace(found, smallest=shown_difference(mean_and_sd(found.differences)[1], found.n, comparisons))
