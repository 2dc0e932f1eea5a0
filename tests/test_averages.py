"""Lookahead by hand, the running average by its closed form, and what evaluation and ckpt.pt see of them."""

import copy

import pytest
import torch

import train_ockham
from configurator import run
from ockham.anchor import Anchor
from ockham.config import EmaConfig, LookaheadConfig, OptimizerConfig
from ockham.learner import OckhamLearner
from ockham.optim import build_average, build_optimizer, kind_of
from ockham.plugins import PluginHost

CPU = torch.device("cpu")
ALPHA, K = 0.3, 4


class Slope(torch.nn.Module):
    """A loss whose gradient is 1 everywhere, so that SGD moves each weight by -lr."""

    def __init__(self):
        super().__init__()
        self.weight = torch.nn.Parameter(torch.tensor([1.0, -2.0], dtype=torch.float64))

    def forward(self, x, y):
        return x, self.weight.sum()


def learner_of(model, *, lookahead=False, decay=None, type="SGD", lr=0.1):
    config = OptimizerConfig(
        name="sgd", type=type, lr=lr, lookahead=LookaheadConfig(enabled=lookahead, alpha=ALPHA, k=K), ema=EmaConfig(decay=decay)
    )
    optimizer, _ = build_optimizer(model, config, CPU)
    return OckhamLearner(
        model,
        optimizer,
        PluginHost([]),
        anchor=Anchor(model.parameters(), "never"),
        average=build_average(model, decay),
        clip_grad_norm=None,
    )


def shown(learner):
    with learner.evaluated_weights():
        return learner.parameters[0].detach().clone()


TOKENS = torch.zeros(1, 2, dtype=torch.long)


def test_lookahead_is_the_papers_update_over_three_cycles():
    """Algorithm 1 of Zhang et al. 2019: k inner steps θ, then φ ← φ + α(θ − φ), and θ starts again from φ."""
    model = Slope()
    learner = learner_of(model, lookahead=True)
    slow = model.weight.detach().clone()
    for _ in range(3):
        fast = slow.clone()
        for inner in range(K):
            assert torch.allclose(shown(learner), slow, rtol=0, atol=1e-15)
            learner.step((TOKENS, TOKENS))
            fast = fast - 0.1
            if inner < K - 1:
                assert torch.allclose(model.weight.detach(), fast, rtol=0, atol=1e-15)
        slow = slow + ALPHA * (fast - slow)
        assert torch.allclose(model.weight.detach(), slow, rtol=0, atol=1e-15)
    assert torch.allclose(slow, torch.tensor([1.0, -2.0], dtype=torch.float64) - 3 * ALPHA * K * 0.1)


def test_average_is_its_closed_form_and_stands_in_only_while_evaluating():
    model, decay = Slope(), 0.9
    learner = learner_of(model, decay=decay)
    assert torch.equal(shown(learner), model.weight.detach())  # nothing is averaged before the first update
    average = None
    for _ in range(7):
        learner.step((TOKENS, TOKENS))
        now = model.weight.detach().clone()
        average = now if average is None else decay * average + (1 - decay) * now
        assert torch.allclose(shown(learner), average, rtol=0, atol=1e-12)
        assert torch.equal(model.weight.detach(), now)
    assert (average > now).all()  # it lags behind


def test_average_wins_over_slow_weights():
    learner = learner_of(Slope(), lookahead=True, decay=0.5)
    learner.step((TOKENS, TOKENS))
    assert torch.equal(shown(learner), learner.parameters[0].detach())  # the average of one state; the slow one is older


def test_weights_come_back_when_evaluation_fails():
    learner = learner_of(Slope(), lookahead=True)
    learner.step((TOKENS, TOKENS))
    before = learner.parameters[0].detach().clone()
    with pytest.raises(ZeroDivisionError), learner.evaluated_weights():
        raise ZeroDivisionError
    assert torch.equal(learner.parameters[0], before)


def test_skipped_batches_move_neither():
    from ockham.plugins import OckhamGatePlugin

    learner = learner_of(Slope(), lookahead=True, decay=0.9)
    learner.host = PluginHost([OckhamGatePlugin(surprise_threshold=1e9)])
    state = copy.deepcopy(learner.optimizer.state_dict())
    for _ in range(K + 1):
        learner.step((TOKENS, TOKENS))
    assert learner.average.n_averaged == 0
    assert str(learner.optimizer.state_dict()) == str(state)


def test_kind_names_what_is_inside(tiny_model):
    muon = OptimizerConfig(name="muon", type="Muon", lr=0.02, lookahead=LookaheadConfig(enabled=True))
    assert kind_of(build_optimizer(tiny_model(), muon, CPU)[0]) == "Lookahead(Muon + AdamW)"
    assert kind_of(build_optimizer(tiny_model(), OptimizerConfig(), CPU)[0]) == "AdamW"


@pytest.mark.parametrize("more", ["optimizer.lookahead.enabled=true", "optimizer.ema.decay=0.9"])
def test_ckpt_holds_the_evaluated_weights_and_last_both(corpus, tmp_path, more):
    out_dir = tmp_path / "run"
    argv = [
        f"--data_dir={corpus.parent}", f"--dataset={corpus.name}", f"--out_dir={out_dir}", "--device=cpu", "--compile=False",
        "--block_size=16", "--n_layer=1", "--n_head=2", "--n_embd=16", "--batch_size=4", "--max_iters=9", "--eval_interval=9",
        "--log_interval=100", "--learning_rate=3e-3", more,
    ]  # fmt: skip
    assert run(train_ockham.main, argv) == 0
    shown, raw = (torch.load(out_dir / name, weights_only=True) for name in ("ckpt.pt", "last.pt"))
    name = "transformer.h.0.mlp.c_fc.weight"
    assert not torch.equal(shown["model"][name], raw["model"][name])
    if "ema" in more:
        assert torch.equal(shown["model"][name], raw["learner"]["average"][f"module.{name}"])
    else:
        slow = [s["slow_params"] for s in raw["learner"]["optimizer"]["lookahead_state"].values()]
        assert any(torch.equal(shown["model"][name], s) for s in slow if s.shape == raw["model"][name].shape)
    again = [a for a in argv if "out_dir" not in a and "lookahead" not in a and "ema" not in a]
    assert run(train_ockham.main, [*again, f"--out_dir={tmp_path / 'b'}", f"--init_from={out_dir}/ckpt.pt", "--eval_only"]) == 0
