"""RandomSkipPlugin: batches are skipped by lot, at the rate that was asked for, whatever their loss."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from ockham.context import OccamContext
from ockham.errors import ConfigError
from ockham.learner import OckhamLearner
from ockham.plugins import PluginHost, RandomSkipPlugin


def verdicts(plugin: RandomSkipPlugin, n: int, loss: float = 1.0) -> list[bool]:
    return [plugin.verdict(loss) for _ in range(n)]


@pytest.mark.parametrize("rate", [0.0, 0.1, 0.37, 0.6, 1.0])
def test_after_any_number_of_batches_the_share_learned_is_the_rate(rate):
    learned = np.cumsum(verdicts(RandomSkipPlugin(update_rate=rate), 3_000))
    assert np.abs(learned - rate * np.arange(1, 3_001)).max() < 10
    assert learned[-1] == pytest.approx(3_000 * rate, abs=1)


def test_every_place_of_a_block_is_learned_equally_often():
    table = np.array(verdicts(RandomSkipPlugin(update_rate=0.3), 20_000)).reshape(-1, 10)
    assert table.mean(0) == pytest.approx(np.full(10, 0.3), abs=0.04)  # 2.7 standard errors of 2,000 draws at most
    assert len({tuple(row) for row in table}) == 120  # all the ways to choose 3 of 10


def test_the_loss_has_no_say():
    easy, hard = RandomSkipPlugin(seed=4), RandomSkipPlugin(seed=4)
    assert verdicts(easy, 200, 0.1) == verdicts(hard, 200, float("inf"))


def test_seeds_decide_and_the_same_seed_gives_the_same_lots():
    first, same, other = (verdicts(RandomSkipPlugin(seed=seed), 100) for seed in (1, 1, 2))
    assert first == same != other


def test_state_goes_on_inside_a_block():
    plugin = RandomSkipPlugin(update_rate=0.35, seed=2)
    verdicts(plugin, 17)
    copy = RandomSkipPlugin(update_rate=0.35, seed=3)
    copy.load_state_dict(plugin.state_dict())
    assert verdicts(copy, 100) == verdicts(plugin, 100)


def test_a_skipped_batch_says_why_and_leaves_the_weights(tiny_model, batch):
    learner = OckhamLearner(tiny_model(), host=PluginHost([RandomSkipPlugin(update_rate=0.5, seed=1)]), lambda_ockham=0.0)
    seen = set()
    for i in range(20):
        before = [p.detach().clone() for p in learner.parameters]
        ctx = learner.step(batch(i))
        is_same = all(torch.equal(a, b) for a, b in zip(before, learner.parameters, strict=True))
        assert is_same is not ctx.updated
        assert ctx.reason_code == ("UPDATED" if ctx.updated else "SKIPPED_RANDOM")
        seen.add(ctx.updated)
    assert seen == {True, False}
    assert learner.updates == 10


def test_under_accumulation_every_micro_batch_is_drawn(tiny_model, batch):
    learner = OckhamLearner(tiny_model(), host=PluginHost([RandomSkipPlugin(update_rate=0.25)]), lambda_ockham=0.0)
    rows = [learner.step([batch(4 * i + j) for j in range(4)]).verdicts for i in range(20)]
    drawn = [verdict for row in rows for verdict in row]
    assert drawn == verdicts(RandomSkipPlugin(update_rate=0.25), 80)
    assert learner.ledger.update_rate == pytest.approx(0.25, abs=0.02)


def test_it_undoes_only_its_own_reason():
    plugin, ctx = RandomSkipPlugin(update_rate=1.0), OccamContext(iter_num=0, task_loss=1.0)
    ctx.reason_code = "SKIPPED_RANDOM"
    assert plugin.on_batch_start(ctx).reason_code == ""
    ctx.reason_code = "SOMETHING"
    assert plugin.on_batch_start(ctx).reason_code == "SOMETHING"


@pytest.mark.parametrize("rate", [-0.1, 1.1])
def test_a_rate_is_a_share(rate):
    with pytest.raises(ConfigError, match="update_rate"):
        RandomSkipPlugin(update_rate=rate)
