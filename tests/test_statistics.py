"""Paired statistics against scipy, hand-worked cases, brute force and simulation."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
from scipy import stats

from ockham.experiment.statistics import (
    FEWEST,
    holm,
    mean_and_sd,
    paired,
    paired_t,
    power,
    sign_flip,
    smallest_difference,
    t_interval,
)

LEFT, RIGHT = [1.91, 1.88, 1.95, 1.90, 1.87, 1.93], [1.89, 1.89, 1.91, 1.88, 1.86, 1.90]


def test_the_paired_t_test_is_scipys():
    found, reference = paired(LEFT, RIGHT), stats.ttest_rel(LEFT, RIGHT)
    assert found.p == pytest.approx(reference.pvalue)
    interval = reference.confidence_interval(0.95)
    assert (found.low, found.high) == pytest.approx((interval.low, interval.high))
    assert found.mean == pytest.approx(np.mean(LEFT) - np.mean(RIGHT))


def test_the_interval_is_of_the_asked_confidence():
    differences = list(np.random.default_rng(1).normal(size=8))
    reference = stats.ttest_1samp(differences, 0.0).confidence_interval(0.8)
    assert t_interval(differences, 0.8) == pytest.approx((reference.low, reference.high))


@pytest.mark.parametrize("n", [1, 2, 5, 9])
def test_the_sign_flip_p_is_that_of_all_signs_tried_by_hand(n):
    values = np.random.default_rng(n).normal(0.4, 1, n)
    sums = [abs(sum(s * v for s, v in zip(signs, values, strict=True))) for signs in itertools.product((1, -1), repeat=n)]
    assert sign_flip(list(values)) == pytest.approx(np.mean(np.array(sums) >= abs(values.sum()) - 1e-12))


def test_the_sign_flip_p_is_scipys_permutation_test():
    reference = stats.permutation_test((LEFT, RIGHT), lambda a, b: np.mean(a - b), permutation_type="samples")
    assert paired(LEFT, RIGHT).p_signs == pytest.approx(reference.pvalue)


def test_equal_signs_give_the_least_sign_flip_p_and_six_seeds_are_the_fewest_below_a_twentieth():
    assert sign_flip([0.1, 0.2, 0.3]) == 2 / 2**3
    fewest, fewer = sign_flip([1.0] * FEWEST), sign_flip([1.0] * (FEWEST - 1))
    assert fewest is not None
    assert fewer is not None
    assert fewest < 0.05 <= fewer


def test_ties_that_differ_by_rounding_count_as_ties():
    assert sign_flip([0.1, 0.2, -0.3]) == 1.0  # |Σ d| is 0 but for rounding


def test_too_many_seeds_for_all_signs_have_no_sign_flip_p():
    assert sign_flip([1.0] * 21) is None
    assert paired([1.0] * 21, [0.0] * 21).p == 0.0


def test_holm_is_the_hand_worked_case():
    # 0.01·4, 0.02·3 = 0.06, 0.03·2 = 0.06, 0.04·1 < 0.06
    assert holm([0.04, 0.01, 0.03, 0.02]) == pytest.approx([0.06, 0.04, 0.06, 0.06])
    assert holm([0.5, 0.9]) == [1.0, 1.0]
    assert holm([0.03]) == [0.03]
    assert holm([]) == []


def test_holm_errs_in_a_twentieth_of_families_without_any_effect():
    generator = np.random.default_rng(0)
    wrong = np.mean([min(holm(list(generator.random(5)))) < 0.05 for _ in range(4000)])
    assert wrong == pytest.approx(0.05, abs=0.012)


@pytest.mark.parametrize(("effect", "n"), [(0.5, 6), (1.0, 6), (1.5, 8), (0.0, 6)])
def test_power_is_how_often_simulated_tests_find_it(effect, n):
    draws = np.random.default_rng(3).normal(effect, 1, (20_000, n))
    found = np.mean(stats.ttest_1samp(draws, 0.0, axis=1).pvalue < 0.05)
    assert power(effect, n) == pytest.approx(found, abs=0.012)


@pytest.mark.parametrize("n", [2, 3, 6, 12])
def test_the_smallest_difference_has_eighty_per_cent_power_and_grows_with_the_spread(n):
    assert power(smallest_difference(1.0, n), n) == pytest.approx(0.8, abs=1e-4)
    assert smallest_difference(0.01, n) == pytest.approx(0.01 * smallest_difference(1.0, n))


def test_twice_the_smallest_difference_is_nearly_always_found():
    generator, found = np.random.default_rng(4), 0
    effect = 2 * smallest_difference(1.0, 6)
    for _ in range(300):
        found += paired_t(list(generator.normal(effect, 1, 6))) < 0.05
    assert found > 0.95 * 300


def test_a_null_variant_is_called_different_in_a_twentieth_of_experiments():
    generator = np.random.default_rng(5)
    ps = [paired_t(list(generator.normal(2, 0.1, 6) - generator.normal(2, 0.1, 6))) for _ in range(2000)]
    assert np.mean(np.array(ps) < 0.05) == pytest.approx(0.05, abs=0.015)


def test_identical_runs_are_no_evidence_and_equal_gaps_leave_no_doubt():
    same = paired(LEFT, LEFT)
    assert (same.mean, same.low, same.high, same.p, same.p_signs, same.smallest) == (0, 0, 0, 1, 1, 0)
    assert paired_t([0.25] * 6) == 0.0
    assert mean_and_sd([0.1] * 7) == (0.1, 0.0)


def test_a_single_pair_has_a_difference_and_nothing_else():
    one = paired([1.0], [1.5])
    assert one.mean == -0.5
    assert math.isnan(one.p)
    assert math.isnan(one.low)
    assert math.isnan(one.smallest)
    assert not one.is_enough


def test_pairs_that_do_not_match_are_an_error():
    with pytest.raises(ValueError, match="no pairs"):
        paired([], [])
    with pytest.raises(ValueError, match="zip"):
        paired([1.0, 2.0], [1.0])
