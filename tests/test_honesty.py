"""The tool that compares tells the truth: no difference where there is none, and those that it says it can show."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest
from scipy import stats

from ockham.errors import UsageError, WorldError
from ockham.experiment import honesty
from ockham.experiment.honesty import Rate, judged, read_losses, resampled, simulate, simulated
from ockham.experiment.statistics import among, paired, shown_difference, shown_effect, smallest_difference

PAIRS = ([1.91, 1.88, 1.95, 1.90, 1.87, 1.93], [1.89, 1.89, 1.91, 1.88, 1.86, 1.90])


def holds(rate: Rate, share: float) -> bool:
    """Whether the true share may be this one."""
    return rate.interval[0] <= share <= rate.interval[1]


def test_a_null_variant_is_called_different_in_a_twentieth_of_experiments():
    assert holds(simulate(600), 0.05)


def test_holm_keeps_a_family_of_nulls_at_a_twentieth():
    rate = simulate(400, variants=5)
    assert rate.share < 0.08
    assert rate.hits > 0  # the witness that it can be wrong at all


def test_without_holm_the_same_family_would_be_called_different_far_more_often():
    generator, draw, wrong = np.random.default_rng(0), simulated(), 0
    for _ in range(400):
        losses = draw(generator, 6, 6)
        wrong += min(stats.ttest_rel(row, losses[0]).pvalue for row in losses[1:]) < 0.05
    assert wrong / 400 > 0.12


@pytest.mark.parametrize("variants", [1, 5])
def test_twice_the_stated_smallest_difference_is_found_in_over_four_fifths(variants):
    assert simulate(200, variants=variants, effect=2.0).interval[0] > 0.8


def test_the_stated_smallest_difference_is_found_in_four_fifths_though_its_spread_was_estimated():
    assert holds(simulate(600, effect=1.0), 0.8)


def test_a_planted_loss_of_the_wrong_sign_is_no_find():
    assert simulate(50, effect=-2.0).share < 0.05


@pytest.mark.parametrize("spread", [1e-4, 0.1])
def test_the_rates_do_not_depend_on_the_unit(spread):
    assert simulate(50, spread=spread, draw=simulated(spread, 2.5 * spread)).hits == simulate(50).hits


def test_seeds_that_share_their_luck_do_not_hide_a_difference():
    """What pairing is for: the seed's effect, ten times chance's, drops out."""
    assert simulate(100, effect=2.0, draw=simulated(0.004, 0.04)).share > 0.85


@pytest.mark.parametrize("shape", ["heavy tails", "unequal seeds"])
def test_chance_that_is_not_normal_makes_it_call_fewer_differences_rather_than_more(shape):
    def draw(generator, runs, seeds):
        if shape == "heavy tails":
            return 1.9 + 0.004 * generator.standard_t(3, (runs, seeds))
        return 1.9 + 0.004 * np.exp(generator.normal(size=(1, seeds))) * generator.normal(size=(runs, seeds))

    assert simulate(400, draw=draw).share < 0.07


def test_labels_of_real_runs_that_mean_nothing_are_called_different_in_a_twentieth():
    pool = np.random.default_rng(1).choice([2.95, 3.05, 3.12], 48) + np.random.default_rng(2).normal(0, 0.02, 48)
    assert holds(simulate(400, draw=resampled(pool)), 0.05)


def test_one_run_is_never_in_two_variants():
    losses = resampled(range(12))(np.random.default_rng(0), 2, 6)
    assert sorted(losses.ravel()) == list(range(12))
    with pytest.raises(UsageError, match="3 variants of 6 seeds need 18 runs, got 12"):
        resampled(range(12))(np.random.default_rng(0), 3, 6)


def test_the_verdicts_are_those_of_ab():
    left, right = PAIRS
    (comparison,) = judged(np.array([right, left]))
    assert comparison.paired == paired(left, right)
    assert comparison.p_holm == pytest.approx(stats.ttest_rel(left, right).pvalue)


def test_runs_that_are_equal_to_the_last_digit_are_never_different():
    (comparison,) = judged(np.array([PAIRS[0], PAIRS[0]]))
    assert not comparison.is_different


def test_the_same_rng_seed_gives_the_same_experiments():
    assert simulate(20, effect=1.0, rng_seed=3) == simulate(20, effect=1.0, rng_seed=3)


def test_the_interval_is_the_exact_binomial_one():
    low, high = Rate(10, 200).interval
    assert stats.binom.sf(9, 200, low) == pytest.approx(0.025)
    assert stats.binom.cdf(10, 200, high) == pytest.approx(0.025)
    assert Rate(0, 200).interval[0] == 0


@pytest.mark.parametrize(("n", "alpha"), [(3, 0.05), (6, 0.05), (6, 0.01)])
def test_the_stated_effect_is_shown_in_eighty_of_hundred_experiments_each_with_its_own_estimate(n, alpha):
    generator = np.random.default_rng(n)
    estimates = generator.normal(size=(40_000, n)).std(axis=1, ddof=1)  # of an earlier experiment
    later = generator.normal(size=(40_000, n)) + (shown_effect(n, alpha) * estimates)[:, None]
    t = later.mean(axis=1) / (later.std(axis=1, ddof=1) / math.sqrt(n))
    assert np.mean(t > stats.t.ppf(1 - alpha / 2, n - 1)) == pytest.approx(0.8, abs=0.01)


def test_an_estimated_spread_and_further_comparisons_make_the_smallest_difference_larger():
    known, alone, of_five = smallest_difference(0.01, 6), shown_difference(0.01, 6), shown_difference(0.01, 6, 5)
    assert known < alone < of_five
    assert shown_difference(0.01, 500) == pytest.approx(smallest_difference(0.01, 500), rel=0.01)
    found = paired(*PAIRS)
    assert among(found, 1) == found
    assert among(found, 5).smallest == pytest.approx(found.smallest * of_five / alone)
    assert math.isnan(shown_difference(0.01, 1))


def test_losses_are_read_from_finished_runs_and_the_page_has_both_figures(tmp_path, capsys, monkeypatch):
    for i in range(12):
        (tmp_path / f"{i}").mkdir()
        loss = None if i == 11 else 3 + i / 100  # the last one was stopped
        (tmp_path / f"{i}" / "summary.json").write_text(json.dumps({"val_loss": loss}))
    assert len(read_losses(tmp_path)) == 11
    (tmp_path / "11" / "summary.json").write_text(json.dumps({"val_loss": 3.2}))
    monkeypatch.setattr(honesty, "EXPERIMENTS", 5)
    assert honesty.main([str(tmp_path)]) == 0
    said = capsys.readouterr().out
    assert said.count("none differs, yet a difference is called in") == 3  # simulated for 1 and 5 variants, real for 1
    assert "12 runs of" in said
    with pytest.raises(WorldError, match="holds no finished runs"):
        read_losses(tmp_path / "nowhere")
