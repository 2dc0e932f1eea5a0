"""Delay, reverb, KL watchdog and learned gain: their laws, and a witness that each acts."""

import math

import pytest
import torch

from ockham.context import OccamContext, Requests
from ockham.errors import TrainingError, UsageError
from ockham.learner import OckhamLearner
from ockham.memory import OckhamMemory
from ockham.plugins import PLUGINS, DelayPlugin, KLWatchdogPlugin, LearnedGainPlugin, OccamPlugin, PluginHost, ReverbPlugin
from ockham.returns import Returns

NAMES = ("DelayPlugin", "ReverbPlugin", "KLWatchdogPlugin", "LearnedGainPlugin")


def context(step=0, **fields):
    return OccamContext(iter_num=step, task_loss=3.0, **fields)


def weights(learner):
    return torch.cat([p.detach().flatten() for p in learner.parameters])


class Skips(OccamPlugin):
    """Learns one iteration in `every`."""

    def __init__(self, every):
        super().__init__("skips")
        self.every = every

    def on_batch_start(self, ctx):
        ctx.updated = ctx.iter_num % self.every == self.every - 1
        return ctx


class Bowl(torch.nn.Module):
    """½ Σ h·(w − target)² with targets drawn around 0: a quadratic whose best learning rate is known."""

    def __init__(self):
        super().__init__()
        self.w = torch.nn.Parameter(torch.full((4,), 3.0, dtype=torch.float64))
        self.h = torch.tensor([1.0, 1.0, 2.0, 2.0], dtype=torch.float64)

    def forward(self, x, y):
        return x, 0.5 * (self.h * (self.w - x) ** 2).sum(-1).mean()


def targets(seed, noise=0.1):
    x = noise * torch.randn(8, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))
    return x, torch.zeros(8, dtype=torch.long)


def bowl(*plugins, lr):
    model = Bowl()
    optimizer = torch.optim.SGD(model.parameters(), lr=lr)
    return OckhamLearner(
        model, optimizer, PluginHost(plugins), lambda_ockham=0.0, clip_grad_norm=None, probe=targets(10_000, noise=0.0)
    )


# delay ------------------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("every", [1, 4])
def test_half_life_counts_iterations_also_skipped_ones(tiny_model, batch, every):
    model = tiny_model().double()
    plugins = [Skips(every), DelayPlugin(horizon=6)]
    learner = OckhamLearner(model, torch.optim.SGD(model.parameters(), lr=0.0), PluginHost(plugins), lambda_ockham=0.0)
    with torch.no_grad():
        for p in model.parameters():
            p += 0.1
    apart = [p - w for p, w in zip(learner.parameters, learner.anchor.weights, strict=True)]
    for i in range(12):
        learner.step(batch(i))
    for p, w, d in zip(learner.parameters, learner.anchor.weights, apart, strict=True):
        assert torch.allclose(p - w, d * 0.5 ** (12 / 6), atol=1e-13)


def test_delay_follows_a_quadratic_by_the_closed_form():
    learner = bowl(DelayPlugin(horizon=4), lr=0.5)
    exact = (torch.zeros(8, 4, dtype=torch.float64), targets(0)[1])
    for _ in range(7):
        learner.step(exact)
    # per coordinate θ_t = q^t·3 with q = 1 − lr·h, and θ*_t = (1−r)^t·3 + Σ r·(1−r)^(t−k)·θ_k
    r = 1 - 0.5 ** (1 / 4)
    for i, h in enumerate((1.0, 1.0, 2.0, 2.0)):
        theta = [3 * (1 - 0.5 * h) ** k for k in range(8)]
        star = (1 - r) ** 7 * 3 + sum(r * (1 - r) ** (7 - k) * theta[k] for k in range(1, 8))
        assert learner.anchor.weights[0][i].item() == pytest.approx(star, abs=1e-13)


def test_delay_waits_for_an_anchor_and_begins_anew_after_a_consolidation():
    delay = DelayPlugin(horizon=2)
    assert delay.on_batch_start(context(anchor_available=False)).requests.anchor_follow == 0
    delay.on_batch_start(context())
    assert delay.on_batch_start(context()).requests.anchor_follow == pytest.approx(0.5)
    delay.on_consolidate(context())
    assert delay.on_batch_start(context()).requests.anchor_follow == pytest.approx(1 - 0.5**0.5)


def test_two_delays_add_their_rates_in_half_lives():
    ctx = PluginHost([DelayPlugin("a", horizon=3), DelayPlugin("b", horizon=6)]).process_batch_start(context())
    assert ctx.requests.anchor_follow == pytest.approx(1 - 0.5 ** (1 / 3 + 1 / 6))


def test_delay_lets_the_weights_go_further_than_a_still_anchor(tiny_model, batch):
    ends = []
    for plugins in ([], [DelayPlugin(horizon=5)]):
        model = tiny_model()
        learner = OckhamLearner(model, torch.optim.SGD(model.parameters(), lr=0.1), PluginHost(plugins), lambda_ockham=0.5)
        start = weights(learner).clone()
        ctx = [learner.step(batch(i)) for i in range(20)][-1]
        ends.append(((weights(learner) - start).norm().item(), ctx.complexity_cost))
    assert ends[1][0] > 1.1 * ends[0][0]
    assert ends[1][1] < 0.9 * ends[0][1], "measured from an anchor that comes along"


# reverb -----------------------------------------------------------------------------------------------------------------
def test_reverb_raises_a_lasting_gradient_by_its_mix(tiny_model, batch):
    learner = bowl(ReverbPlugin(mix=0.5, decay=0.5), lr=0.0)
    exact = (torch.zeros(8, 4, dtype=torch.float64), targets(0)[1])
    plain = math.sqrt(sum((3 * h) ** 2 for h in (1, 1, 2, 2)))
    norms = [learner.step(exact).grad_norm / plain for _ in range(30)]
    assert norms[:3] == pytest.approx([1.0, 1 + 0.5 * 0.5, 1 + 0.5 * 0.75])
    assert norms[-1] == pytest.approx(1.5)


def test_reset_reverb_begins_with_silence():
    reverb = ReverbPlugin(mix=0.5, decay=0.5)
    learner = bowl(reverb, lr=0.0)
    norms = [learner.step(targets(0)).grad_norm for _ in range(2)]
    learner.host.reset()
    assert [learner.step(targets(0)).grad_norm for _ in range(2)] == norms


# watchdog ---------------------------------------------------------------------------------------------------------------
def test_watchdog_asks_at_its_interval_from_the_first_iteration():
    dog = KLWatchdogPlugin(interval=3)
    assert [dog.on_batch_start(context(i)).requests.probe_kl for i in range(7)] == [True, False, False] * 2 + [True]


@pytest.mark.parametrize("action", ["log", "rollback", "stop"])
def test_watchdog_says_each_crossing_once_and_asks_for_its_action_while_over(action):
    dog, said, asked = KLWatchdogPlugin(threshold=0.5, action=action), [], []
    for i, kl in enumerate([0.1, 0.6, 0.7, 0.5, 0.9, math.nan]):
        ctx = dog.on_batch_start(context(i, probes={"kl": kl}))
        said.append(len(ctx.notices))
        asked.append((bool(ctx.requests.rollback), bool(ctx.requests.stop)))
    assert said == [0, 1, 0, 0, 1, 0]
    over = (action == "rollback", action == "stop")
    assert asked == [(False, False), over, over, (False, False), over, over]
    assert action == "log" or "over its threshold 0.5" in (ctx.requests.rollback or ctx.requests.stop)


def test_watchdog_reaches_the_caller_when_the_model_walks_away(tiny_model, batch):
    model = tiny_model()
    host = PluginHost([KLWatchdogPlugin(threshold=0.05, interval=2, action="stop")])
    learner = OckhamLearner(model, torch.optim.AdamW(model.parameters(), lr=1e-2), host, probe=batch(9), lambda_ockham=0.0)
    steps = [learner.step(batch(0)) for _ in range(30)]
    first = next(i for i, ctx in enumerate(steps) if ctx.requests.stop)
    measured = [(i, ctx.metrics["kl_watchdog/kl"]) for i, ctx in enumerate(steps) if "kl_watchdog/kl" in ctx.metrics]
    assert [i for i, _ in measured] == list(range(1, 30, 2))
    assert first == next(i for i, kl in measured if kl > 0.05)
    assert steps[first].notices


# returns ----------------------------------------------------------------------------------------------------------------
def test_a_measurement_that_asks_for_nothing_ends_the_row_of_returns(tiny_model, tmp_path):
    memory, returns = OckhamMemory(folder=tmp_path), Returns()
    for i in range(3):
        memory.add_candidate(tiny_model(), 2.0 - i / 10, iter_num=i)

    def back_to():
        return returns.next_state(memory, tmp_path, "over")["iter_num"]

    assert [back_to() for _ in range(2)] == [2, 1]
    returns.heard(context(probes={"kl": 0.6}, requests=Requests(rollback="over")))
    returns.heard(context(probes={"loss": 1.0}))
    again = Returns()
    again.load_state_dict(returns.state_dict())
    assert back_to() == 0
    with pytest.raises(TrainingError, match="over; gone back 3 times already"):
        back_to()
    returns.heard(context(probes={"kl": 0.1}))
    assert back_to() == 2
    assert again.next_state(memory, tmp_path, "over")["iter_num"] == 0


# learned gain -----------------------------------------------------------------------------------------------------------
def test_gain_follows_the_hand_worked_rule_and_its_bounds():
    plugin = LearnedGainPlugin(rate=0.5, interval=1, low=0.7, high=1.5)
    rates = [plugin.on_batch_start(context(learning_rate=2.0)).learning_rate]
    for slope in (-0.6, -1.0, 0.4, 1.0, 1.0, 1.0):
        rates.append(plugin.on_batch_start(context(learning_rate=2.0, probes={"loss": 3.0, "slope": slope})).learning_rate)
    gains = [1, math.exp(0.3), 1.5, 1.5 * math.exp(-0.2), 1.5 * math.exp(-0.7)]
    assert rates == pytest.approx([2 * g for g in [*gains, 0.7, 0.7]])


def test_gain_asks_at_its_interval_and_again_until_it_is_answered():
    plugin, asked = LearnedGainPlugin(interval=3), []
    for i in range(9):
        probes = {"loss": 1.0, "slope": 0.1} if asked and asked[-1] and i != 1 else {}  # the first answer is lost
        asked.append(plugin.on_batch_start(context(i, probes=probes)).requests.probe_slope)
    assert asked == [True, True, False, False, True, False, False, True, False]


@pytest.mark.parametrize(("lr", "rises"), [(0.002, True), (0.98, False)])
def test_gain_corrects_a_learning_rate_that_is_too_small_or_too_large(lr, rises):
    plugin = LearnedGainPlugin(rate=0.2, interval=1, low=0.01, high=100)
    learned, bypassed = bowl(plugin, lr=lr), bowl(LearnedGainPlugin(), lr=lr)
    bypassed.host.bypass("learned_gain")
    for i in range(40):
        learned.step(targets(i))
        bypassed.step(targets(i))
    assert (plugin.gain > 2) if rises else (plugin.gain < 0.8)
    held_out = targets(10_000, noise=0.0)
    losses = [learner.model(*held_out)[1].item() for learner in (learned, bypassed)]
    assert losses[0] < 0.7 * losses[1]


def test_gain_lowers_a_transformers_held_out_loss_from_a_timid_rate(tiny_model, batch):
    ends = []
    for on in (True, False):
        model = tiny_model()
        host = PluginHost([LearnedGainPlugin(rate=0.3, interval=1)])
        host.bypass("learned_gain", not on)
        learner = OckhamLearner(model, torch.optim.AdamW(model.parameters(), lr=1e-4), host, probe=batch(0), lambda_ockham=0.0)
        for i in range(60):
            learner.step(batch(i % 3))
        ends.append(model(*batch(0))[1].item())
    assert ends[0] < ends[1] - 0.05


# all four ---------------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("name", NAMES)
def test_bypassed_plugin_leaves_every_bit_as_it_was(tiny_model, batch, name):
    ends = []
    for plugins in ([], [PLUGINS[name]()]):
        model = tiny_model(dropout=0.1)
        learner = OckhamLearner(model, host=PluginHost(plugins))
        for plugin in plugins:
            learner.host.bypass(plugin.name)
        torch.manual_seed(1)
        for i in range(5):
            ctx = learner.step(batch(i))
        ends.append((weights(learner), ctx.complexity_cost, learner.ledger.state_dict()))
    assert torch.equal(ends[0][0], ends[1][0])
    assert ends[0][1:] == ends[1][1:]


@pytest.mark.parametrize("name", NAMES)
def test_active_plugin_states_what_it_writes(tiny_model, batch, name):
    plugin = PLUGINS[name]()
    before, ctx = context(learning_rate=1.0), context(learning_rate=1.0, probes={"kl": 9.0, "loss": 1.0, "slope": -0.5})
    plugin.on_batch_start(ctx)
    ctx = plugin.on_batch_start(ctx)
    changed = {f"requests.{k}" for k, v in vars(ctx.requests).items() if v != getattr(before.requests, k)}
    changed |= {"learning_rate"} if ctx.learning_rate != 1.0 else set()
    assert changed == set(plugin.writes())


@pytest.mark.parametrize(
    ("name", "wrong"),
    [
        ("DelayPlugin", {"horizon": 0}),
        ("ReverbPlugin", {"mix": -0.1}),
        ("ReverbPlugin", {"decay": 1.5}),
        ("KLWatchdogPlugin", {"action": "panic"}),
        ("KLWatchdogPlugin", {"interval": 0}),
        ("LearnedGainPlugin", {"low": 2.0}),
        ("LearnedGainPlugin", {"high": 0.5}),
        ("LearnedGainPlugin", {"gain": 1.0}),
    ],
)
def test_wrong_parameter_is_refused_by_name(name, wrong):
    with pytest.raises(UsageError, match=next(iter(wrong))):
        PLUGINS[name](**wrong)
