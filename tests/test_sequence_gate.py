"""Sequences inside a batch: chosen or weighed by surprise, charged as they cost, alike on all ranks."""

import math

import pytest
import torch

from ockham import OckhamLearner, PluginHost
from ockham.anchor import Anchor
from ockham.errors import ConfigError
from ockham.objective import Rows
from ockham.plugins import OckhamGatePlugin, SequenceGatePlugin


def test_select_takes_the_most_surprising_share():
    assert SequenceGatePlugin(share=0.5).weigh([1.0, 3.0, 2.0, 0.5]) == [0, 1, 1, 0]
    assert SequenceGatePlugin(share=0.0).weigh([1.0, 3.0]) == [0, 1], "at least one"


def test_soft_weights_follow_exp_and_have_mean_one():
    weights = SequenceGatePlugin(mode="soft", temperature=2.0).weigh([1.0, 2.0, 3.0])
    assert sum(weights) == pytest.approx(3)
    assert weights[2] / weights[0] == pytest.approx(math.exp(1.0))


def test_soft_weights_are_cut():
    weights = SequenceGatePlugin(mode="soft", temperature=0.1, largest=2.0).weigh([0.0, 0.0, 0.0, 9.0])
    assert max(weights) == 2.0


def test_losses_that_are_not_finite_choose_nothing():
    assert SequenceGatePlugin().weigh([1.0, math.nan]) == [1, 1]


def test_without_new_sequences_there_is_nothing_to_weigh():
    for mode in ("select", "soft", "random"):
        assert SequenceGatePlugin(mode=mode).weigh([]) == []


def learner_of(model, plugin, **options):
    return OckhamLearner(
        model, torch.optim.SGD(model.parameters(), lr=0.1), PluginHost([plugin]), lambda_ockham=0.0, clip_grad_norm=0, **options
    )


def test_what_is_chosen_is_learned_alone_and_charged_so(tiny_model, batch):
    x, y = batch(0)
    reference, model = tiny_model(), tiny_model()
    losses = torch.stack([reference(x[i : i + 1], y[i : i + 1])[1] for i in range(len(x))])
    count = max(1, round(0.25 * len(x)))
    top = losses.topk(count).indices
    reference(x[top], y[top])[1].backward()
    learner = learner_of(model, SequenceGatePlugin(share=0.25))
    learner.step((x, y))
    for ours, theirs in zip(model.parameters(), reference.parameters(), strict=True):
        assert torch.allclose(ours.grad, theirs.grad, atol=1e-6)
    assert learner.ledger.units == pytest.approx(1 + 3 * count / len(x))


def test_soft_weights_weigh_the_gradient(tiny_model, batch):
    x, y = batch(0)
    reference, model = tiny_model(), tiny_model()
    losses = torch.stack([reference(x[i : i + 1], y[i : i + 1])[1] for i in range(len(x))])
    weights = torch.tensor(SequenceGatePlugin(mode="soft").weigh(losses.tolist()))
    ((weights * losses).sum() / weights.sum()).backward()
    learner = learner_of(model, SequenceGatePlugin(mode="soft"))
    learner.step((x, y))
    for ours, theirs in zip(model.parameters(), reference.parameters(), strict=True):
        assert torch.allclose(ours.grad, theirs.grad, atol=1e-6)
    assert learner.ledger.units == 3


def test_micro_batches_choose_each_for_itself(tiny_model, batch):
    learner = learner_of(tiny_model(), SequenceGatePlugin(share=0.25))
    micros = [batch(0), batch(1)]
    learner.step(micros)
    rows = len(micros[0][0])
    share = max(1, round(0.25 * rows)) / rows
    assert learner.ledger.units == pytest.approx(2 * (1 + 3 * share))


def test_excess_over_a_reference_is_what_is_judged(tiny_model, batch):
    x, y = batch(0)
    model = tiny_model()
    with torch.no_grad():
        losses = torch.stack([model(x[i : i + 1], y[i : i + 1])[1] for i in range(len(x))])
    reference = losses.clone()
    reference[2] -= 1.0  # only sequence 2 has something to learn
    seen = []
    plugin = SequenceGatePlugin(share=0.0, surprise="excess")
    weigh = plugin.weigh
    plugin.weigh = lambda surprise: seen.append(surprise) or weigh(surprise)
    learner_of(model, plugin).step(Rows(x, y, None, reference))
    assert seen[0][2] == pytest.approx(1.0, abs=1e-5)
    assert max(abs(value) for i, value in enumerate(seen[0]) if i != 2) < 1e-5


def test_the_gate_judges_excess_by_the_anchor(tiny_model, batch):
    model = tiny_model()
    gate = OckhamGatePlugin(surprise_threshold=0.01, surprise="excess")
    learner = learner_of(model, gate, anchor=Anchor(model.parameters()))
    ctx = learner.step(batch(0))
    assert ctx.reference_loss == pytest.approx(ctx.task_loss), "the anchor is where the weights are"
    assert not ctx.updated
    assert learner.ledger.units == 2, "the model's forward and the anchor's"


def test_excess_without_a_reference_says_what_to_give(tiny_model, batch):
    model = tiny_model()
    learner = learner_of(model, OckhamGatePlugin(surprise="excess"), anchor=Anchor(model.parameters(), "never"))
    with pytest.raises(ConfigError, match="--reference"):
        learner.step(batch(0))


def judged(gate, losses):
    return [gate.verdict(loss, None) for loss in losses]


def test_the_band_shuts_out_noise_bursts():
    gate = OckhamGatePlugin(surprise_threshold=None, ceiling_ratio=1.5)
    losses = [2.0] * 40 + [5.0] * 20 + [2.0] * 20 + [5.0] * 20
    assert judged(gate, losses) == [loss == 2.0 for loss in losses]


def test_the_band_shuts_out_what_is_known_by_heart():
    gate = OckhamGatePlugin(surprise_threshold=None, floor_ratio=0.5)
    losses = [2.0, 0.3] * 60
    verdicts = judged(gate, losses)
    assert verdicts[10:] == [loss == 2.0 for loss in losses[10:]]


def test_the_floor_is_not_raised_by_noise():
    gate = OckhamGatePlugin(surprise_threshold=None, floor_ratio=0.8, ceiling_ratio=1.5)
    losses = [2.0, 5.0] * 60
    assert judged(gate, losses)[20:] == [loss == 2.0 for loss in losses[20:]]


def test_the_ceiling_stays_where_the_clean_losses_are_among_repeats():
    gate = OckhamGatePlugin(surprise_threshold=None, floor_ratio=0.8, ceiling_ratio=1.3)
    repeats = [2.0 - 0.01 * i for i in range(120)]  # a pool that is learned by heart, as far as it is learned
    losses = [value for pair in zip([2.0] * 120, repeats, strict=True) for value in pair]
    verdicts = judged(gate, losses)
    assert all(verdicts[0::2]), "the clean ones, also when the pool is far below"
    assert not any(verdicts[121::2])


def test_data_of_another_kind_open_the_band_again():
    gate = OckhamGatePlugin(surprise_threshold=None, ceiling_ratio=1.3)
    verdicts = judged(gate, [2.0] * 50 + [4.0] * 150)
    assert not any(verdicts[50:150]), "taken for noise"
    assert all(verdicts[150:])
    again = OckhamGatePlugin(surprise_threshold=None, ceiling_ratio=1.3)
    judged(again, [2.0] * 50 + [4.0] * 60)
    loaded = OckhamGatePlugin(surprise_threshold=None, ceiling_ratio=1.3)
    loaded.load_state_dict(again.state_dict())
    assert judged(loaded, [4.0] * 90) == verdicts[110:200], "the run of shut batches is in the state"


def test_a_band_of_excess_is_refused():
    with pytest.raises(ConfigError, match="floor_ratio must be null with surprise=excess"):
        OckhamGatePlugin(surprise="excess", floor_ratio=0.5)


def test_random_chooses_as_many_by_lot_and_goes_on_where_it_was_saved():
    plugin, again = SequenceGatePlugin(mode="random", share=0.5), SequenceGatePlugin(mode="random", share=0.5)
    losses = [float(i) for i in range(8)]
    drawn = [plugin.weigh(losses) for _ in range(20)]
    assert all(sum(weights) == 4 for weights in drawn)
    assert len({tuple(weights) for weights in drawn}) > 10
    again.load_state_dict(plugin.state_dict())
    assert again.weigh(losses) == plugin.weigh(losses)
