"""Learning rates by context: the specification's formula and caps, on a torch optimizer."""

import pytest
import torch

from ockham.errors import ConfigError
from ockham.online.config import AdaptiveOptimizerSettings
from ockham.online.contexts import AdaptiveOptimizer, Contexts


@pytest.mark.parametrize(("context", "expected"), [("fact", 5.0), ("question", 2.0), ("regular", 1.0), ("replay", 0.5)])
def test_contexts_multiply_as_the_table_says(context, expected):
    assert Contexts(AdaptiveOptimizerSettings()).multiplier(context) == expected


@pytest.mark.parametrize(("count", "expected"), [(1, 5.0), (2, 5.6), (3, 6.2), (10, 10.0)])
def test_repetition_follows_the_formula_not_the_table(count, expected):
    """5 · (1 + (2 − 1) · 0.1 · 1.2) = 5.6, where the specification's table has 6.0; the tenth, 10.4, is cut at 10."""
    assert Contexts(AdaptiveOptimizerSettings()).multiplier("fact", count) == pytest.approx(expected)


def test_the_lower_cap_holds():
    settings = AdaptiveOptimizerSettings(min_lr_multiplier=0.8)
    assert Contexts(settings).multiplier("replay") == 0.8


def test_disabled_is_one_everywhere_but_still_knows_its_contexts():
    contexts = Contexts(AdaptiveOptimizerSettings(enabled=False))
    assert contexts.multiplier("fact", 7) == 1.0
    with pytest.raises(ConfigError, match="fcat"):
        contexts.multiplier("fcat")


def test_an_unknown_context_names_the_nearest():
    with pytest.raises(ConfigError, match=r"unknown context 'questions' \(did you mean question\?\)"):
        Contexts(AdaptiveOptimizerSettings()).multiplier("questions")


def test_a_context_of_ones_own_is_a_line_of_config():
    contexts = Contexts(AdaptiveOptimizerSettings(custom={"correction": 3}))
    assert contexts.multiplier("correction") == 3.0
    assert contexts.multiplier("correction", 2) == pytest.approx(3 * 1.12)
    with pytest.raises(ConfigError, match="fact is a context already; set fact_lr_multiplier"):
        Contexts(AdaptiveOptimizerSettings(custom={"fact": 3}))
    with pytest.raises(ConfigError, match="soon"):
        Contexts(AdaptiveOptimizerSettings(custom={"correction": "soon"}))


def test_a_count_below_one_is_an_error():
    with pytest.raises(ConfigError, match="repetition_count must be >= 1, got 0"):
        Contexts(AdaptiveOptimizerSettings()).multiplier("fact", 0)


def two_groups():
    weights = [torch.nn.Parameter(torch.zeros(2)) for _ in range(2)]
    return weights, torch.optim.SGD([{"params": [weights[0]], "lr": 0.1}, {"params": [weights[1]], "lr": 0.01}])


def test_every_group_is_scaled_from_its_own_base():
    _, sgd = two_groups()
    adaptive = AdaptiveOptimizer(sgd, AdaptiveOptimizerSettings())
    adaptive.set_context("question").set_context("fact", repetition_count=2)
    assert [g["lr"] for g in sgd.param_groups] == pytest.approx([0.56, 0.056])
    assert adaptive.multiplier == pytest.approx(5.6)
    adaptive.reset_to_base()
    assert [g["lr"] for g in sgd.param_groups] == [0.1, 0.01]
    assert adaptive.multiplier == 1.0


def test_a_base_lr_replaces_that_of_the_groups():
    _, sgd = two_groups()
    AdaptiveOptimizer(sgd, AdaptiveOptimizerSettings(), base_lr=1e-6).set_context("fact")
    assert [g["lr"] for g in sgd.param_groups] == pytest.approx([5e-6, 5e-6])


def test_the_context_scales_the_step_and_ends_with_the_block_even_after_an_error():
    weights, sgd = two_groups()
    adaptive = AdaptiveOptimizer(sgd, AdaptiveOptimizerSettings(), base_lr=0.1)

    def train():
        with adaptive.set_context("fact"):
            sgd.zero_grad()
            (weights[0].sum() + weights[1].sum()).backward()
            adaptive.step()
            raise RuntimeError("stop")

    with pytest.raises(RuntimeError, match="stop"):
        train()
    assert weights[0].tolist() == pytest.approx([-0.5, -0.5])  # 0.1 · 5 · gradient 1
    assert sgd.param_groups[0]["lr"] == 0.1


def test_an_unknown_context_changes_nothing():
    _, sgd = two_groups()
    adaptive = AdaptiveOptimizer(sgd, AdaptiveOptimizerSettings()).set_context("fact")
    with pytest.raises(ConfigError):
        adaptive.set_context("nothing")
    assert (adaptive.multiplier, sgd.param_groups[0]["lr"]) == (5.0, 0.5)
