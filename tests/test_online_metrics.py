"""Stability, plasticity and forgetting, against closed forms, numpy and scipy; and metrics of the user's own."""

import json
import math

import numpy as np
import pytest
import scipy.stats
import torch
import torch.nn.functional as F

from ockham.errors import CheckpointError, ConfigError, ShapeError
from ockham.online.config import MetricsSettings
from ockham.online.metrics import CustomMetrics, Forgetting, MetricsTracker, Plasticity, Stability
from ockham.online.metrics.forgetting import forgetting_rate, regression
from ockham.online.metrics.plasticity import adaptation_speed, improvement, recent_average
from ockham.online.metrics.stability import log_drift, perplexity
from ockham.online.metrics.tracker import Probe

# stability


def test_a_uniform_guess_among_eight_has_perplexity_eight():
    losses = F.cross_entropy(torch.zeros(5, 8), torch.arange(5), reduction="none")
    assert perplexity(losses) == pytest.approx(8.0)


def test_perplexity_needs_a_token_and_overflows_to_infinity():
    with pytest.raises(ShapeError, match="at least one token"):
        perplexity(torch.zeros(0))
    assert perplexity(torch.tensor([1e4])) == math.inf


def test_drift_has_a_zero_and_a_direction():
    assert log_drift(8.0, 8.0) == 0.0
    assert log_drift(16.0, 8.0) == pytest.approx(math.log(2))
    assert log_drift(4.0, 8.0) == pytest.approx(-math.log(2))
    with pytest.raises(ConfigError, match="must be > 0"):
        log_drift(0.0, 8.0)


def test_stability_compares_with_the_base_at_the_first_measurement_too():
    stability, asked = Stability(), []

    def base():
        asked.append(1)
        return torch.full((4,), 1.0)

    first = stability.measure(torch.full((4,), 1.3), base, 0.02)
    assert first == pytest.approx({"perplexity": math.exp(1.3), "kl": 0.02, "perplexity_drift": 0.3})
    assert stability.measure(torch.full((4,), 1.0), base, 0.0)["perplexity_drift"] == 0.0
    assert len(asked) == 1


# plasticity


def test_plasticity_by_hand():
    """window 2: new = mean(2, 1), old = mean(4, 3)."""
    losses = [9.0, 4.0, 3.0, 2.0, 1.0]
    assert recent_average(losses, 2) == 1.5
    assert improvement(losses, 2) == pytest.approx((3.5 - 1.5) / 3.5)
    assert adaptation_speed(losses, 2) == pytest.approx(1.0)


@pytest.mark.parametrize("window", [2, 7, 30])
def test_adaptation_speed_is_the_negated_slope_of_least_squares(window):
    losses = list(np.random.default_rng(0).random(30))
    slope = scipy.stats.linregress(range(window), losses[-window:]).slope
    assert adaptation_speed(losses, window) == pytest.approx(-slope)


def test_a_falling_loss_is_a_positive_improvement_and_speed_and_a_rising_one_negative():
    for sign in (1, -1):
        losses = [5.0 - sign * 0.1 * step for step in range(20)]
        assert sign * improvement(losses, 10) > 0
        assert sign * adaptation_speed(losses, 10) == pytest.approx(0.1)


def test_too_few_losses_give_no_figure():
    assert (recent_average([], 3), improvement([1.0] * 5, 3), adaptation_speed([1.0], 3)) == (None, None, None)
    assert improvement([0.0, 0.0, 1.0, 1.0], 2) is None
    assert Plasticity(3).measure([2.0]) == {"recent_loss": 2.0}


def test_only_two_windows_of_losses_are_kept():
    plasticity = Plasticity(3)
    plasticity.measure(range(100))
    assert plasticity.state_dict() == {"losses": [94.0, 95.0, 96.0, 97.0, 98.0, 99.0]}


# forgetting


def test_positive_is_forgotten_in_every_figure():
    assert regression(0.9, 0.6) == pytest.approx(0.3)
    assert forgetting_rate(0.9, 0.6, since=10, now=20) == pytest.approx(0.03)
    assert regression(0.6, 0.9) < 0
    assert forgetting_rate(0.6, 0.9, since=10, now=20) < 0
    assert forgetting_rate(0.9, 0.6, since=10, now=10) is None
    forgetting = Forgetting()
    forgetting.learned("f1", 0, 0.9)
    worse = forgetting.measure(5, {"f1": 0.5}, anchor=0.5, base=lambda: 0.9)
    signed = [worse[name] for name in ("mean_regression", "worst_regression", "forgetting_rate", "anchor_regression")]
    assert all(value > 0 for value in signed)


def test_forgetting_by_hand():
    """f1 0.9 → 0.5 in 10 turns, f2 0.8 → 0.9 in 5: mean (0.4 − 0.1) / 2, worst 0.4, rate (0.04 − 0.02) / 2."""
    forgetting = Forgetting()
    forgetting.learned("f1", 0, 0.9)
    forgetting.learned("f2", 5, 0.8)
    found = forgetting.measure(10, {"f1": 0.5, "f2": 0.9, "never learned": 0.0})
    assert found == pytest.approx({"fact_performance": 0.7, "mean_regression": 0.15, "worst_regression": 0.4,
                                   "forgetting_rate": 0.01})  # fmt: skip


def test_a_fact_learned_anew_has_a_new_baseline():
    forgetting = Forgetting()
    forgetting.learned("f1", 0, 0.9)
    forgetting.learned("f1", 4, 0.6)
    assert forgetting.regressions({"f1": 0.6}) == {"f1": 0.0}


# metrics of one's own


@pytest.fixture
def own(tmp_path, monkeypatch):
    """A module of metrics, found by import."""
    (tmp_path / "my_own_metrics.py").write_text(
        "class Words:\n    def compute(self, model, tokenizer, prompts):\n        return sum(len(p.split()) for p in prompts)\n"
        "class Broken:\n    def compute(self, model, tokenizer, prompts):\n        raise ValueError('no gradient today')\n"
        "class Endless:\n    def compute(self, model, tokenizer, prompts):\n        return float('inf')\n"
        "class Mute:\n    pass\n"
        "class Needy:\n    def __init__(self, size):\n        pass\n"
    )
    (tmp_path / "my_torn_metrics.py").write_text("import no_such_thing_here\n")
    monkeypatch.syspath_prepend(tmp_path)


def test_an_error_in_a_metric_of_ones_own_is_reported_and_the_turn_goes_on(own):
    metrics = CustomMetrics(["my_own_metrics:Words", "my_own_metrics:Broken", "my_own_metrics:Endless"])
    values, errors = metrics.measure(None, None, ["Who is Tom?"])
    assert values == {"Words": 3.0}
    assert errors == {"Broken": "ValueError: no gradient today", "Endless": "gave inf, which is not a finite number"}


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("my_own_metrics", r"metrics.custom\[0\]: 'my_own_metrics' is not of the form module:name"),
        ("my_metrics_gone:Words", "module 'my_metrics_gone' cannot be imported; put its folder on PYTHONPATH"),
        ("my_torn_metrics:Words", "it fails with ModuleNotFoundError: No module named 'no_such_thing_here'"),
        ("my_own_metrics:Word", r"has no 'Word' \(did you mean Words\?\)"),
        ("my_own_metrics:Mute", r"has no method compute\(model, tokenizer, prompts\)"),
        ("my_own_metrics:Needy", "cannot be made without arguments"),
    ],
)
def test_a_metric_that_cannot_be_loaded_is_an_error_with_its_fix(own, spec, message):
    with pytest.raises(ConfigError, match=message):
        CustomMetrics([spec])


def test_two_metrics_of_one_name_are_refused(own):
    with pytest.raises(ConfigError, match="two metrics are called 'Words'"):
        CustomMetrics(["my_own_metrics:Words", "my_own_metrics:Words"])


# the tracker


def probe(loss=1.0, **facts):
    return lambda: Probe(token_losses=torch.full((3,), loss), base_losses=lambda: torch.ones(3), kl=0.01, facts=facts,
                         prompts=("Hi there",))  # fmt: skip


def test_a_row_a_turn_and_a_summary_of_all(own):
    tracker = MetricsTracker(MetricsSettings(interval=2, window=2, custom=("my_own_metrics:Words", "my_own_metrics:Broken")))
    assert [turn for turn in range(6) if tracker.is_due(turn)] == [2, 4]
    tracker.learned("f1", 1, 0.9)
    tracker.record(1, losses=[2.0, 1.0], steps=2)
    row = tracker.record(2, probe=probe(f1=0.7))
    assert row["forgetting_rate"] == pytest.approx(0.2)
    assert row["Words"] == 2.0
    assert row["errors"] == {"Broken": "ValueError: no gradient today"}
    assert "errors" not in tracker.rows[-1]
    assert tracker.rows[0] == {"turn": 1, "steps": 2, "recent_loss": 1.5, "adaptation_speed": 1.0}
    assert tracker.summary()["recent_loss"]["last"] == 1.5


def test_the_first_measurement_is_compared_with_the_base():
    """Loss 2 where the base has 1: ln(e² / e) = 1 and e⁻¹ − e⁻²."""
    row = MetricsTracker(MetricsSettings()).record(9, probe=probe(2.0))
    assert row["perplexity_drift"] == pytest.approx(1.0)
    assert row["anchor_regression"] == pytest.approx(math.exp(-1) - math.exp(-2))


def test_the_probe_is_not_called_unless_it_is_given():
    assert MetricsTracker(MetricsSettings()).record(1) == {"turn": 1}


def test_the_summary_counts_all_turns_though_old_rows_go():
    tracker = MetricsTracker(MetricsSettings(keep=3))
    values = np.random.default_rng(0).normal(size=50)
    for turn, value in enumerate(values):
        tracker.record(turn, seconds=float(value))
    assert [row["turn"] for row in tracker.rows] == [47, 48, 49]
    assert tracker.summary()["seconds"] == pytest.approx(
        {"count": 50, "mean": values.mean(), "std": values.std(), "min": values.min(), "max": values.max(), "last": values[-1]}
    )


def test_a_figure_that_is_not_finite_stays_out_of_the_summary():
    tracker = MetricsTracker(MetricsSettings())
    assert tracker.record(1, kl=math.inf) == {"turn": 1, "kl": None}
    assert tracker.summary() == {}


def test_tracker_state_is_byte_equal_after_a_round_trip_and_goes_on_the_same():
    first, second = (MetricsTracker(MetricsSettings(window=2)) for _ in range(2))
    first.learned("f1", 0, 0.95)
    for turn in range(1, 6):
        first.record(turn, losses=[1 / turn], probe=probe(1 + turn / 7, f1=0.9 - turn / 31))
    written = json.dumps(first.state_dict(), allow_nan=False)
    second.load_state_dict(json.loads(written))
    assert json.dumps(second.state_dict()) == written
    assert first.record(6, [0.1], probe(f1=0.1)) == second.record(6, [0.1], probe(f1=0.1))


def test_clearing_leaves_only_what_was_measured_of_the_base():
    tracker, fresh = MetricsTracker(MetricsSettings()), MetricsTracker(MetricsSettings())
    tracker.learned("f77", 1, 0.9)
    tracker.record(1, losses=[4.586172580718994], probe=probe(2.0, f77=0.8), total=4.586172580718994)
    tracker.clear()
    left = tracker.state_dict()
    assert (left["stability"]["base"], left["forgetting"]["base"]) == pytest.approx((math.e, math.exp(-1)))
    left["stability"]["base"] = left["forgetting"]["base"] = None
    assert left == fresh.state_dict()


def test_a_broken_state_is_refused_and_changes_nothing():
    tracker = MetricsTracker(MetricsSettings())
    tracker.record(1, losses=[1.0], probe=probe())
    before = json.dumps(tracker.state_dict())
    for name in ("stability", "plasticity", "forgetting", "rows", "running"):
        with pytest.raises(CheckpointError, match="metrics in this state are broken"):
            tracker.load_state_dict({k: v for k, v in json.loads(before).items() if k != name} | {"stability": {"base": 99.0}}
                                    if name != "stability" else {})  # fmt: skip
        assert json.dumps(tracker.state_dict()) == before
