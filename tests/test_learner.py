"""One iteration: what changes weights, what must not, and against which reference."""

import copy
import math

import pytest
import torch

from ockham import OckhamLearner, PluginHost
from ockham.anchor import Anchor
from ockham.plugins import OccamPlugin, OckhamGatePlugin, SaturationPlugin
from ockham.precision import Precision


def state(learner):
    return {k: v.clone() for k, v in learner.model.state_dict().items()}


def same(a, b):
    return all(torch.equal(a[k], b[k]) for k in a)


def adamw(model, lr=1e-2):
    return torch.optim.AdamW(model.parameters(), lr=lr)


def test_open_gate_without_penalty_is_bit_equal_to_a_plain_loop(tiny_model, batch):
    reference, model = tiny_model(), tiny_model()
    optimizer = adamw(reference)
    learner = OckhamLearner(model, adamw(model), PluginHost([]), lambda_ockham=0.0, clip_grad_norm=0.5)
    for i in range(8):
        optimizer.zero_grad()
        reference(*batch(i))[1].backward()
        torch.nn.utils.clip_grad_norm_(reference.parameters(), 0.5)
        optimizer.step()
        learner.step(batch(i))
    assert same(reference.state_dict(), state(learner))


def test_closed_gate_leaves_weights_and_optimizer_untouched(tiny_model, batch):
    learner = OckhamLearner(tiny_model(), surprise_threshold=2.0)
    learner.step(batch(0))
    weights, optimizer = state(learner), copy.deepcopy(learner.optimizer.state_dict())
    learner.host.gate.surprise_threshold = 99.0
    ctx = learner.step(batch(1))
    assert (ctx.updated, ctx.reason_code) == (False, "SKIPPED_SURPRISE")
    assert same(weights, state(learner))
    for index, saved in optimizer["state"].items():
        now = learner.optimizer.state_dict()["state"][index]
        assert all(torch.equal(saved[k], now[k]) for k in saved)
    assert all(p.grad is None for p in learner.parameters)
    assert (learner.ledger.forwards, learner.ledger.backwards) == (2, 1)


def test_penalty_pulls_towards_the_anchor(tiny_model, batch):
    drifts = []
    for lam in (0.0, 1.0):
        model = tiny_model()
        learner = OckhamLearner(
            model, torch.optim.SGD(model.parameters(), lr=0.1), PluginHost([]), lambda_ockham=lam, clip_grad_norm=0
        )
        for i in range(10):
            ctx = learner.step(batch(i))
        drifts.append(ctx.complexity_cost)
    assert drifts[1] < 0.7 * drifts[0]


def test_penalised_sgd_step_follows_the_closed_form(tiny_model, batch):
    model = tiny_model().double()
    anchor = Anchor(model.parameters())
    with torch.no_grad():
        for p in model.parameters():
            p += 0.01
    learner = OckhamLearner(
        model, torch.optim.SGD(model.parameters(), lr=0.1), PluginHost([]), anchor=anchor, lambda_ockham=0.3, clip_grad_norm=None
    )
    theta = [p.detach().clone() for p in learner.parameters]
    grads = torch.autograd.grad(model(*batch(0))[1], learner.parameters)
    learner.step(batch(0))
    for p, t, g, w in zip(learner.parameters, theta, grads, anchor.weights, strict=True):
        assert torch.allclose(p, t - 0.1 * (g + 2 * 0.3 * (t - w)), atol=1e-14)


@pytest.mark.parametrize("poison", ["loss", "gradient"])
def test_nonfinite_never_reaches_weights_or_optimizer(tiny_model, batch, poison):
    class Poison(OccamPlugin):
        def __init__(self, learner):
            super().__init__("poison")
            self.learner, self.on = learner, False

        def on_batch_start(self, ctx):
            return ctx

        def on_adapt(self, ctx):
            if self.on:
                self.learner.parameters[0].grad[0, 0] = math.inf

    learner = OckhamLearner(tiny_model(), host=PluginHost([]))
    plugin = Poison(learner)
    learner.host.add(plugin)
    learner.step(batch(0))
    weights, optimizer = state(learner), copy.deepcopy(learner.optimizer.state_dict())
    if poison == "loss":
        learner.model.register_forward_hook(lambda m, i, out: (out[0], out[1] * math.nan))
    plugin.on = True
    ctx = learner.step(batch(1))
    assert (ctx.updated, ctx.reason_code, learner.nonfinite_in_a_row) == (False, "NONFINITE", 1)
    assert same(weights, state(learner))
    now = learner.optimizer.state_dict()["state"]
    assert all(torch.equal(v, now[i][k]) for i, s in optimizer["state"].items() for k, v in s.items())


def test_accumulated_micro_batches_equal_one_large_batch(tiny_model, batch):
    micros = [batch(i) for i in range(4)]
    large = tuple(torch.cat(parts) for parts in zip(*micros, strict=True))
    models = [tiny_model().double() for _ in range(2)]
    learners = [OckhamLearner(m, adamw(m), PluginHost([])) for m in models]
    for _ in range(5):
        learners[0].step(micros)
        learners[1].step(large)
    for a, b in zip(learners[0].parameters, learners[1].parameters, strict=True):
        assert torch.allclose(a, b, atol=1e-12)
    assert learners[0].ledger.batches == 20


def test_gate_judges_each_micro_batch_and_averages_the_accepted(tiny_model, batch):
    micros = [batch(i) for i in range(3)]
    reference = tiny_model().double()
    losses = [reference(*m)[1].item() for m in micros]
    threshold = sorted(losses)[1]  # two of three pass
    kept = tuple(
        torch.cat(parts) for parts in zip(*(m for m, v in zip(micros, losses, strict=True) if v >= threshold), strict=True)
    )
    model = tiny_model().double()
    gated = OckhamLearner(model, adamw(model), PluginHost([OckhamGatePlugin(surprise_threshold=threshold)]))
    plain = OckhamLearner(reference, adamw(reference), PluginHost([]))
    ctx = gated.step(micros)
    plain.step(kept)
    assert ctx.verdicts == tuple(v >= threshold for v in losses)
    assert ctx.task_loss == pytest.approx(sum(losses) / 3)
    assert (gated.ledger.batches, gated.ledger.updates, gated.ledger.backwards) == (3, 2, 2)
    for a, b in zip(gated.parameters, plain.parameters, strict=True):
        assert torch.allclose(a, b, atol=1e-12)


def test_no_accepted_micro_batch_means_no_update(tiny_model, batch):
    learner = OckhamLearner(tiny_model(), surprise_threshold=99.0)
    before = state(learner)
    ctx = learner.step([batch(0), batch(1)])
    assert not ctx.updated
    assert same(before, state(learner))


def test_gradient_noise_is_relative_seeded_and_acts(tiny_model, batch):
    def run(drive, seed=1):
        model = tiny_model()
        host = PluginHost([SaturationPlugin(drive=drive, noise_type="gradient", warmup_iters=0)])
        learner = OckhamLearner(
            model, torch.optim.SGD(model.parameters(), lr=0.1), host, clip_grad_norm=0, seed=seed, lambda_ockham=0
        )
        learner.step(batch(0))
        return torch.cat([p.grad.flatten() for p in learner.parameters])

    clean, noisy = run(1e-12), run(0.1)
    assert torch.equal(noisy, run(0.1))
    assert not torch.equal(noisy, run(0.1, seed=2))
    measured = (noisy - clean).std() / clean.square().mean().sqrt()
    assert measured.item() == pytest.approx(0.1, rel=0.05)


def test_interval_counts_from_the_last_consolidation_of_any_cause(tiny_model, batch):
    class Once(OccamPlugin):
        def on_batch_start(self, ctx):
            return ctx

        def on_batch_end(self, ctx):
            ctx.consolidating = ctx.iter_num == 2

    learner = OckhamLearner(tiny_model(), host=PluginHost([Once("once")]), consolidate_interval=4)
    causes = [learner.step(batch(i)).consolidation_cause for i in range(12)]
    assert causes == ["", "", "plugin", "", "", "", "interval", "", "", "", "interval", ""]
    assert learner.consolidations == 3


def test_plugins_lr_reaches_every_group_by_the_same_factor(tiny_model, batch):
    class Half(OccamPlugin):
        def on_batch_start(self, ctx):
            ctx.learning_rate *= 0.5
            return ctx

    model = tiny_model()
    a, *b = model.parameters()
    optimizer = torch.optim.SGD([{"params": [a], "lr": 0.2}, {"params": b, "lr": 0.01}], lr=0.2)
    learner = OckhamLearner(model, optimizer, PluginHost([Half("half")]), schedule=lambda i: 0.2)
    ctx = learner.step(batch(0))
    assert [g["lr"] for g in optimizer.param_groups] == pytest.approx([0.1, 0.005])
    assert ("half", "learning_rate", 0.2, 0.1) in ctx.changes


def test_no_anchor_in_force_means_no_cost_no_penalty_no_consolidation(tiny_model, batch):
    model, plain = tiny_model(), tiny_model()
    waiting = OckhamLearner(
        model,
        adamw(model),
        PluginHost([]),
        lambda_ockham=5.0,
        consolidate_interval=2,
        anchor=Anchor(model.parameters(), "auto", brought_in=False),
    )
    free = OckhamLearner(plain, adamw(plain), PluginHost([]), lambda_ockham=0.0)
    for i in range(5):
        ctx = waiting.step(batch(i))
        free.step(batch(i))
    assert same(state(waiting), state(free))
    assert (ctx.anchor_available, ctx.complexity_cost, waiting.consolidations) == (False, 0.0, 0)
    assert ctx.metrics["drift"] > 0


def test_library_call_needs_only_model_threshold_and_lambda(tiny_model, batch):
    learner = OckhamLearner(model=tiny_model(), surprise_threshold=2.0, lambda_ockham=0.01)
    ctx = learner.step(batch(0))
    assert ctx.updated
    assert ctx.to_dict()["iter_num"] == 0


class Infinite(OccamPlugin):
    """Makes a gradient infinite while `on`: before unscaling would matter, as an overflow of fp16 does."""

    def __init__(self, model):
        super().__init__("infinite")
        self.on = False
        next(model.parameters()).register_hook(lambda g: g * math.inf if self.on else g)

    def on_batch_start(self, ctx):
        return ctx


def half(tiny_model):
    model = tiny_model()
    plugin = Infinite(model)
    precision = Precision("cpu", torch.float16)
    return OckhamLearner(model, adamw(model), PluginHost([plugin]), precision=precision, clip_grad_norm=0), plugin


def test_scaled_gradients_are_unscaled_before_they_are_measured(tiny_model, batch):
    learner, _ = half(tiny_model)
    reference = tiny_model()
    plain = OckhamLearner(reference, adamw(reference), PluginHost([]), clip_grad_norm=0)
    assert learner.step(batch(0)).grad_norm == pytest.approx(plain.step(batch(0)).grad_norm, rel=0.02)


def test_scaler_back_off_is_not_counted_as_nonfinite(tiny_model, batch):
    learner, plugin = half(tiny_model)
    before, scale = state(learner), learner.precision.scaler.get_scale()
    plugin.on = True
    ctx = learner.step(batch(0))
    assert (ctx.reason_code, learner.nonfinite_in_a_row) == ("SCALER_BACKOFF", 0)
    assert learner.precision.scaler.get_scale() == scale / 2
    assert same(before, state(learner))
    plugin.on = False
    assert learner.step(batch(1)).reason_code == "UPDATED"


def test_scaler_that_cannot_back_off_further_is_nonfinite_and_recovers(tiny_model, batch):
    learner, plugin = half(tiny_model)
    plugin.on = True
    codes = [learner.step(batch(i)).reason_code for i in range(30)]
    assert codes[0] == "SCALER_BACKOFF"
    assert codes[-1] == "NONFINITE"
    assert learner.nonfinite_in_a_row > 5
    assert learner.precision.scaler.get_scale() == 1.0
    plugin.on = False
    assert learner.step(batch(0)).reason_code == "UPDATED"


def test_interval_counts_from_the_engagement(tiny_model, batch):
    model = tiny_model()
    anchor = Anchor(model.parameters(), "auto", brought_in=False, patience=1)
    learner = OckhamLearner(model, adamw(model), PluginHost([]), anchor=anchor, consolidate_interval=4)
    causes = []
    for i in range(12):
        if i in (2, 3):
            learner.observe(1.0 + i)  # the second does not improve
        causes.append(learner.step(batch(i)).consolidation_cause)
    assert [i for i, cause in enumerate(causes) if cause] == [6, 10]


def test_skipped_step_reports_no_gradient(tiny_model, batch):
    learner = OckhamLearner(tiny_model(), surprise_threshold=2.0)
    assert learner.step(batch(0)).grad_norm > 0
    learner.host.gate.surprise_threshold = 99.0
    assert learner.step(batch(1)).grad_norm == 0.0
