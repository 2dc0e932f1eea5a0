"""What the learner does for plugins that ask: echo, a following anchor, figures on a probe; and that it disturbs nothing."""

import copy
import io
import math

import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from conftest import TINY
from torch.distributions import Categorical, kl_divergence
from torch.nn.functional import cross_entropy, kl_div

from ockham.anchor import Anchor
from ockham.context import Echo
from ockham.distributed import Ranks
from ockham.errors import ConfigError, ShapeError
from ockham.learner import OckhamLearner
from ockham.plugins import DelayPlugin, KLWatchdogPlugin, LearnedGainPlugin, OccamPlugin, PluginHost, ReverbPlugin
from ockham.precision import Precision


class Asks(OccamPlugin):
    """Sets the given requests in every iteration, skips those in `skips`, and keeps the probes that it is given."""

    def __init__(self, skips=(), **requests):
        super().__init__("asks")
        self.skips, self.requests, self.seen = skips, requests, []

    def on_batch_start(self, ctx):
        vars(ctx.requests).update(copy.deepcopy(self.requests))
        ctx.updated = ctx.iter_num not in self.skips
        self.seen.append(dict(ctx.probes))
        return ctx


class Line(torch.nn.Module):
    """One weight w with loss w·x̄: the gradient is the batch's mean x, whatever w is."""

    def __init__(self, start=1.0):
        super().__init__()
        self.w = torch.nn.Parameter(torch.tensor([start], dtype=torch.float64))

    def forward(self, x, y):
        return x[:, None] * self.w, (x * self.w).mean()


def line_batch(x):
    return torch.tensor([x], dtype=torch.float64), torch.tensor([0])


def learner_of(model, *plugins, lr=0.1, optimizer=torch.optim.SGD, **options):
    options = {"lambda_ockham": 0.0, "clip_grad_norm": None, **options}
    return OckhamLearner(model, optimizer(model.parameters(), lr=lr), PluginHost(plugins), **options)


def weights(learner):
    return torch.cat([p.detach().flatten() for p in learner.parameters])


# echo -------------------------------------------------------------------------------------------------------------------
def test_echo_follows_its_law_over_four_hand_worked_steps():
    learner = learner_of(Line(), Asks(gradient_echo={"asks": Echo(mix=0.5, decay=0.8)}))
    # E: 0, .2·1 = .2, .8·.2 + .2·2 = .56, .8·.56 + .2·(−1) = .248
    expected = [1 + 0.5 * 0, 2 + 0.5 * 0.2, -1 + 0.5 * 0.56, 3 + 0.5 * 0.248]
    for x, g in zip((1.0, 2.0, -1.0, 3.0), expected, strict=True):
        learner.step(line_batch(x))
        assert learner.parameters[0].grad.item() == pytest.approx(g, abs=1e-14)
    assert learner.requested.echoes["asks"][0].item() == pytest.approx(0.8 * 0.248 + 0.2 * 3, abs=1e-14)


def test_echo_hears_the_penalty_and_is_clipped():
    learner = learner_of(Line(1.0), Asks(gradient_echo={"asks": Echo(1.0, 0.5)}), lambda_ockham=1.0, clip_grad_norm=0.01)
    with torch.no_grad():
        learner.parameters[0].add_(1.0)  # the penalty's gradient is 2·1·1
    ctx = learner.step(line_batch(3.0))
    assert learner.requested.echoes["asks"][0].item() == pytest.approx(0.5 * (3 + 2))
    assert ctx.grad_norm == pytest.approx(5.0)
    assert learner.parameters[0].grad.item() == pytest.approx(0.01, rel=1e-3)


def test_echoes_of_two_plugins_hear_the_same_gradient_and_add_up():
    learner = learner_of(Line(), ReverbPlugin("a", mix=0.5, decay=0.8), ReverbPlugin("b", mix=1.0, decay=0.5))
    learner.step(line_batch(1.0))
    learner.step(line_batch(2.0))
    assert learner.parameters[0].grad.item() == pytest.approx(2 + 0.5 * 0.2 + 1.0 * 0.5)
    learner.host.remove("b")
    learner.step(line_batch(0.0))
    assert list(learner.requested.echoes) == ["a"], "what left the rack is freed"


def test_nonfinite_gradients_and_skipped_batches_stay_out_of_the_echo(tiny_model, batch):
    poison = {"on": False}
    model = tiny_model()
    next(model.parameters()).register_hook(lambda g: g * math.nan if poison["on"] else g)
    asks = Asks(skips=(1,), gradient_echo={"asks": Echo(0.5, 0.9)})
    learner = learner_of(model, asks)
    learner.step(batch(0))
    kept = [e.clone() for e in learner.requested.echoes["asks"]]
    learner.step(batch(1))
    poison["on"] = True
    assert learner.step(batch(2)).reason_code == "NONFINITE"
    assert all(torch.equal(a, b) for a, b in zip(kept, learner.requested.echoes["asks"], strict=True))


def test_fp16_echo_is_of_unscaled_gradients(tiny_model, batch):
    kept = []
    for dtype in (torch.float32, torch.float16):
        learner = learner_of(tiny_model(), Asks(gradient_echo={"asks": Echo(0.5, 0.9)}), precision=Precision("cpu", dtype))
        learner.step(batch(0))
        kept.append(torch.cat([e.flatten() for e in learner.requested.echoes["asks"]]))
    assert torch.allclose(*kept, atol=0.02 * kept[0].abs().max().item())


def test_nobody_asks_means_no_tensors(tiny_model, batch):
    learner = learner_of(tiny_model(), ReverbPlugin(mix=0.0), probe=batch(9))
    learner.step(batch(0))
    mine = learner.requested
    assert (mine.echoes, mine.before, mine.anchor_logits, mine.results) == ({}, None, None, {})
    assert (learner.ledger.forwards, learner.ledger.backwards) == (1, 1)


# a following anchor -----------------------------------------------------------------------------------------------------
def test_anchor_follows_a_moving_weight_by_the_closed_form():
    learner = learner_of(Line(0.0), Asks(anchor_follow=0.25), lr=1.0)
    for _ in range(6):
        learner.step(line_batch(-1.0))  # θ_t = t
    # θ*_t = Σ_k r·(1−r)^(t−k)·k
    expected = sum(0.25 * 0.75 ** (6 - k) * k for k in range(1, 7))
    assert learner.anchor.weights[0].item() == pytest.approx(expected, abs=1e-14)
    assert learner.anchor.squared_norm == pytest.approx(expected**2, abs=1e-13)
    assert learner.drift == pytest.approx(((6 - expected) / expected) ** 2)


def test_anchor_that_is_not_in_force_does_not_follow(tiny_model, batch):
    model = tiny_model()
    anchor = Anchor(model.parameters(), "auto", brought_in=False)
    learner = learner_of(model, DelayPlugin(horizon=1), anchor=anchor)
    before = [w.clone() for w in anchor.weights]
    learner.step(batch(0))
    assert all(torch.equal(a, b) for a, b in zip(before, anchor.weights, strict=True))


# KL ---------------------------------------------------------------------------------------------------------------------
def log_probs(model, x, y):
    with torch.no_grad():
        return torch.log_softmax(copy.deepcopy(model).eval()(x, y)[0], -1)


def test_kl_of_a_model_to_itself_is_exactly_zero(tiny_model, batch):
    learner = learner_of(tiny_model(dropout=0.5), asks := Asks(probe_kl=True), lr=0.0, probe=batch(9))
    for i in range(3):
        learner.step(batch(i))
    assert asks.seen == [{}, {"kl": 0.0}, {"kl": 0.0}]


def test_kl_agrees_with_kl_div_and_with_distributions(tiny_model, batch):
    model, x, y = tiny_model().double(), *batch(9, rows=3)
    start = log_probs(model, x, y)
    learner = learner_of(model, Asks(probe_kl=True), lr=0.5, probe=(x, y), precision=Precision("cpu", torch.float64))
    for i in range(3):
        learner.step(batch(i))
    now = log_probs(model, x, y)
    measured = learner.requested.results["kl"]
    assert measured > 1e-3
    reference = kl_div(now.flatten(0, 1), start.flatten(0, 1), reduction="batchmean", log_target=True).item()
    assert measured == pytest.approx(reference, rel=1e-10)
    by_distributions = kl_divergence(Categorical(logits=start), Categorical(logits=now)).mean().item()
    assert measured == pytest.approx(by_distributions, rel=1e-10)


def test_anchor_is_scored_once_until_it_moves_and_all_is_charged_by_tokens(tiny_model, batch):
    learner = learner_of(tiny_model(), Asks(probe_kl=True), probe=batch(9, rows=8), consolidate_interval=3)
    paid = []
    for i in range(5):
        learner.step(batch(i))  # 4 rows: the probe's forward is worth 2
        paid.append(learner.ledger.forwards)
    assert paid == [5, 8, 11, 16, 19]  # 1 + 2, and 2 for the anchor at first and after iteration 2 moved it
    learner.step(batch(5))
    assert learner.ledger.backwards == 6


def test_kl_without_an_anchor_in_force_is_not_measured_and_says_so_once(tiny_model, batch):
    for mode, why in (("auto", "none is in force yet"), ("never", "none is ever in force")):
        model = tiny_model()
        anchor = Anchor(model.parameters(), mode, brought_in=False)
        learner = learner_of(model, Asks(probe_kl=True), anchor=anchor, probe=batch(9))
        said = [n for i in range(3) for n in learner.step(batch(i)).notices]
        assert (len(said), learner.requested.results, learner.ledger.forwards) == (1, {}, 3)
        assert f"anchor.penalize={mode}" in said[0]
        assert why in said[0]


# loss and slope ---------------------------------------------------------------------------------------------------------
def test_slope_is_the_cosine_of_probe_gradient_and_update(tiny_model, batch):
    model, probe = tiny_model().double(), batch(9)
    learner = learner_of(model, Asks(probe_slope=True), probe=probe, precision=Precision("cpu", torch.float64))
    before = weights(learner).clone()
    learner.step(batch(0))
    logits, loss = model(*probe)
    assert loss.item() == pytest.approx(cross_entropy(logits.flatten(0, 1), probe[1].flatten()).item())
    gradient = torch.cat([g.flatten() for g in torch.autograd.grad(loss, learner.parameters)])
    expected = torch.cosine_similarity(gradient, weights(learner) - before, dim=0).item()
    assert learner.requested.results == pytest.approx({"loss": loss.item(), "slope": expected}, rel=1e-10)
    assert -1 < expected < 0
    assert (learner.ledger.forwards, learner.ledger.backwards) == (2, 2)


def test_skipped_iteration_has_no_slope_and_a_still_one_has_zero(tiny_model, batch):
    learner = learner_of(tiny_model(), asks := Asks(skips=(0,), probe_slope=True), lr=0.0, probe=batch(9))
    for i in range(3):
        learner.step(batch(i))
    assert asks.seen[1] == {}
    assert asks.seen[2]["slope"] == 0.0
    assert learner.ledger.backwards == 4, "two updates and their probes"


def test_loss_alone_costs_no_backward(tiny_model, batch):
    learner = learner_of(tiny_model(), asks := Asks(skips=(0, 1), probe_loss=True), probe=batch(9))
    for i in range(2):
        learner.step(batch(i))
    assert asks.seen[1]["loss"] == pytest.approx(learner.model(*batch(9))[1].item())
    assert (learner.ledger.forwards, learner.ledger.backwards) == (4, 0)


def test_figures_wait_while_a_loss_is_not_finite(tiny_model, batch):
    model = tiny_model()
    learner = learner_of(model, asks := Asks(probe_loss=True), probe=batch(9))
    learner.step(batch(0))
    found = dict(learner.requested.results)
    handle = model.register_forward_hook(lambda m, i, out: (out[0], out[1] * math.nan))
    assert learner.step(batch(1)).reason_code == "NONFINITE"
    handle.remove()
    learner.step(batch(2))
    assert asks.seen[1] == found


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_measuring_disturbs_neither_weights_nor_generators_nor_scaler(tiny_model, batch, dtype):
    ends = []
    for requests in ({}, {"probe_kl": True, "probe_slope": True, "probe_loss": True}):
        model = tiny_model(dropout=0.2)
        learner = learner_of(
            model,
            Asks(**requests),
            optimizer=torch.optim.AdamW,
            probe=batch(9),
            precision=Precision("cpu", dtype),
            lambda_ockham=0.1,
        )
        torch.manual_seed(3)
        for i in range(4):
            learner.step([batch(i), batch(i + 50)] if i % 2 else batch(i))
        if requests:
            assert learner.requested.results.keys() == {"kl", "loss", "slope"}
        grads = torch.cat([p.grad.flatten() for p in learner.parameters])
        ends.append((weights(learner), grads, torch.get_rng_state(), learner.precision.scaler.state_dict(), model.training))
    (w, g, r, s, t), (w2, g2, r2, s2, t2) = ends
    assert torch.equal(w, w2)
    assert torch.equal(g, g2)
    assert torch.equal(r, r2)
    assert (s, t) == (s2, t2)


def test_probe_goes_to_the_module_inside_compile(tiny_model, batch):
    model = tiny_model()
    learner = learner_of(torch.compile(model, backend="eager"), asks := Asks(probe_kl=True), lr=0.0, probe=batch(9))
    assert learner.requested.module is model
    for i in range(2):
        learner.step(batch(i))
    assert asks.seen[1] == {"kl": 0.0}


def test_asking_without_a_probe_says_what_to_give(tiny_model, batch):
    for plugin in (KLWatchdogPlugin(), LearnedGainPlugin()):
        with pytest.raises(ConfigError, match=r"OckhamLearner\(probe="):
            learner_of(tiny_model(), plugin).step(batch(0))


# state ------------------------------------------------------------------------------------------------------------------
def rack():
    return [
        DelayPlugin(horizon=5),
        ReverbPlugin(mix=0.4, decay=0.8),
        KLWatchdogPlugin(threshold=1e-4, interval=3),
        LearnedGainPlugin(rate=0.3, interval=2),
    ]


def saved_and_loaded(state):
    file = io.BytesIO()
    torch.save(state, file)
    file.seek(0)
    return torch.load(file, weights_only=True)


def test_resume_in_the_middle_is_bit_identical(tiny_model, batch):
    def make():
        return learner_of(tiny_model(), *rack(), optimizer=torch.optim.AdamW, lr=3e-3, probe=batch(9), lambda_ockham=0.05)

    straight, contexts = make(), []
    for i in range(12):
        contexts.append(straight.step(batch(i)))
    for k in range(3, 8):
        first = make()
        for i in range(k):
            first.step(batch(i))
        second = make()
        second.model.load_state_dict(first.model.state_dict())
        second.load_state_dict(saved_and_loaded(first.state_dict()))
        rest = [second.step(batch(i)) for i in range(k, 12)]
        assert [c.to_dict() for c in rest] == [c.to_dict() for c in contexts[k:]]
        assert torch.equal(weights(second), weights(straight))
        assert second.ledger.state_dict() == straight.ledger.state_dict()
        ours, theirs = (learner.requested.state_dict(learner.anchor) for learner in (second, straight))
        assert all(torch.equal(a, b) for a, b in zip(ours["echoes"]["reverb"], theirs["echoes"]["reverb"], strict=True))


def test_state_of_version_0_2_0_begins_empty(tiny_model, batch):
    learner = learner_of(tiny_model(), *rack(), probe=batch(9))
    learner.step(batch(0))
    old = learner.state_dict()
    del old["requested"]
    learner.load_state_dict(old)
    assert (learner.requested.echoes, learner.requested.results) == ({}, {})
    assert learner.step(batch(1)).updated


def test_echo_of_another_model_is_refused(tiny_model, batch):
    learner = learner_of(tiny_model(), ReverbPlugin())
    learner.step(batch(0))
    state = learner.requested.state_dict(learner.anchor)
    state["echoes"]["reverb"].pop()
    with pytest.raises(ShapeError, match="echo of 'reverb'"):
        learner.requested.load_state_dict(state, learner.anchor)


# ranks ------------------------------------------------------------------------------------------------------------------
def train(ranks, batch_of):
    from model import GPT, GPTConfig

    torch.set_num_threads(1)
    torch.manual_seed(0)
    model = GPT(GPTConfig(**TINY)).double()
    forward = torch.nn.parallel.DistributedDataParallel(model) if ranks.world > 1 else model
    learner = OckhamLearner(
        forward, torch.optim.AdamW(model.parameters(), lr=3e-3), PluginHost(rack()), anchor=Anchor(model.parameters()),
        ranks=ranks, precision=Precision("cpu", torch.float64), probe=batch_of(99),
    )  # fmt: skip
    probes = [learner.step(batch_of(i) if i % 2 else [batch_of(i), batch_of(i + 50)]).probes for i in range(10)]
    return weights(learner), probes, list(learner.requested.echoes["reverb"])


def rows_of(part):
    def make(seed):
        window = torch.randint(0, 20, (6, 17), generator=torch.Generator().manual_seed(seed))[part]
        return window[:, :-1].contiguous(), window[:, 1:].contiguous()

    return make


def worker(rank, folder):
    dist.init_process_group("gloo", init_method=f"file://{folder}/meet", rank=rank, world_size=2)
    result = train(Ranks(torch.device("cpu"), rank=rank, world=2), rows_of(slice(3 * rank, 3 * rank + 3)))
    torch.save(result, f"{folder}/{rank}.pt")
    dist.destroy_process_group()


def test_ranks_with_unlike_probes_read_the_same_figures_and_go_the_same_way(tmp_path):
    mp.spawn(worker, args=(tmp_path,), nprocs=2)
    first, second = (torch.load(tmp_path / f"{rank}.pt") for rank in (0, 1))
    assert first[1] == second[1]
    assert torch.equal(first[0], second[0])
    assert all(torch.equal(a, b) for a, b in zip(first[2], second[2], strict=True))
    _, probes, _ = train(Ranks(torch.device("cpu")), rows_of(slice(0, 6)))
    assert first[1][1].keys() == {"kl", "loss", "slope"}
    assert first[1] == [pytest.approx(one, rel=1e-6) for one in probes]
