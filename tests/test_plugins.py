"""The five plugins and the logger: their laws against closed forms, and a witness that each acts."""

from __future__ import annotations

import json
import math
import random
import statistics

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ockham.context import OccamContext
from ockham.errors import CheckpointError, UsageError
from ockham.plugins import (
    PLUGINS,
    CompressorPlugin,
    CurriculumEQPlugin,
    EQPlugin,
    LearningPlugin,
    LimiterPlugin,
    LoggerPlugin,
    OccamGatePlugin,
    OccamPlugin,
    OckhamGatePlugin,
    PluginHost,
    SaturationPlugin,
    TrainingState,
)


def context(loss: float = 3.0, step: int = 0, **fields) -> OccamContext:
    return OccamContext(iter_num=step, task_loss=loss, **fields)


def noisy(name: str, n: int, seed: int) -> list[float]:
    """Loss streams that a gate may meet, nats/token."""
    rng = random.Random(seed)
    streams = {
        "constant": lambda i: 3 + 0.1 * rng.gauss(),
        "falling": lambda i: 1.5 + 3 * math.exp(-i / 400) + 0.06 * rng.gauss(),
        "falling steadily": lambda i: 8 - 0.003 * i + 0.05 * rng.gauss(),
        "falling without noise": lambda i: 6 - 0.001 * i,
        "rising": lambda i: 1 + 0.002 * i + 0.1 * rng.gauss(),
        "heavy tail": lambda i: rng.paretovariate(1.5),
        "two modes": lambda i: rng.choice([1.0, 3.0]) + 0.01 * rng.gauss(),
        "jump": lambda i: (2 if i < n // 2 else 5) + 0.1 * rng.gauss(),
    }
    return [streams[name](i) for i in range(n)]


STREAMS = ("constant", "falling", "falling steadily", "falling without noise", "rising", "heavy tail", "two modes", "jump")


# the gate -----------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(("loss", "is_open"), [(1.99, False), (2.0, True), (2.01, True), (math.inf, True), (math.nan, False)])
def test_fixed_gate_opens_from_the_threshold_on(loss, is_open):
    ctx = OckhamGatePlugin(surprise_threshold=2.0, adaptive=False).on_batch_start(context(loss))
    assert ctx.updated is is_open
    assert ctx.reason_code == ("" if is_open else "SKIPPED_SURPRISE")
    assert ctx.metrics == {"gate/open": float(is_open), "gate/threshold": 2.0}


def test_gate_without_own_threshold_follows_the_context():
    assert OckhamGatePlugin().on_batch_start(context(2.5)).updated
    assert not OckhamGatePlugin().on_batch_start(context(2.5, surprise_threshold=3.0)).updated
    assert OckhamGatePlugin(surprise_threshold=2.0).on_batch_start(context(2.5, surprise_threshold=3.0)).updated


def test_gate_obeys_a_threshold_that_an_earlier_plugin_set():
    class Raise(OccamPlugin):
        def on_batch_start(self, ctx):
            ctx.surprise_threshold = 4.0
            return ctx

    ctx = PluginHost([Raise(), OckhamGatePlugin(surprise_threshold=2.0)]).process_batch_start(context(3.0))
    assert (ctx.updated, ctx.surprise_threshold) == (False, 4.0)


def test_gate_with_neither_threshold_nor_rate_is_always_open():
    gate = OckhamGatePlugin(surprise_threshold=None)
    assert all(gate.verdict(loss) for loss in (9.0, 1.0, 1e-9))
    assert gate.threshold is None


def test_effective_threshold_is_the_smaller_of_threshold_and_quantile():
    gate = OckhamGatePlugin(surprise_threshold=2.0, target_update_rate=0.5)
    for loss in noisy("constant", 50, 0):
        assert gate.verdict(loss)  # far above 2.0: the quantile, near 3, does not close it
    assert gate.threshold == 2.0
    ctx = gate.on_batch_start(context(1.0))
    assert (ctx.updated, ctx.surprise_threshold) == (False, 2.0)
    assert ctx.metrics["gate/quantile"] == pytest.approx(3.0, abs=0.1)


def test_quantile_follows_its_hand_worked_recursion():
    gate = OckhamGatePlugin(surprise_threshold=None, target_update_rate=0.5)  # z starts at 0
    assert gate.verdict(4.0)  # the first loss is its own quantile
    assert (gate.mean, gate.deviation, gate.z) == (4.0, 0.0, 0.0)
    assert not gate.verdict(2.0)  # q = 4
    assert (gate.mean, gate.deviation) == (3.0, 1.0)  # steps of 1/2: d = |2 − 4|/2
    assert gate.verdict(3.0)  # q = 3 + 0·1
    assert gate.z == pytest.approx(0.05 * (1 - 0.5))
    assert gate.deviation == pytest.approx(1 + (0 - 1) / 3)
    assert gate.verdict(3.1)
    assert gate.quantile == pytest.approx(3.0 + 0.025 * 2 / 3)


@pytest.mark.parametrize("stream", STREAMS)
@pytest.mark.parametrize("rate", [0.3, 0.6, 0.9])
def test_gate_learns_the_asked_share_whatever_the_losses_do(stream, rate):
    for seed in range(3):
        gate = OckhamGatePlugin(surprise_threshold=None, target_update_rate=rate)
        verdicts = [gate.verdict(loss) for loss in noisy(stream, 2000, seed)]
        assert statistics.mean(verdicts[1000:]) == pytest.approx(rate, abs=0.03)


@settings(max_examples=25, deadline=None)
@given(rate=st.floats(0.1, 0.9), seed=st.integers(0, 10**6), slope=st.floats(-3e-3, 3e-3), noise=st.floats(0.01, 1.0))
def test_gate_holds_any_rate_under_any_trend(rate, seed, slope, noise):
    rng = random.Random(seed)
    gate = OckhamGatePlugin(surprise_threshold=None, target_update_rate=rate)
    verdicts = [gate.verdict(10 + slope * i + noise * rng.gauss()) for i in range(3000)]
    assert statistics.mean(verdicts[1000:]) == pytest.approx(rate, abs=0.03)


def test_literal_gate_starves_on_a_falling_loss_where_the_rate_does_not():
    losses = noisy("falling", 3000, 0)  # ends near 1.5
    literal = OckhamGatePlugin(surprise_threshold=2.0, target_update_rate=None)
    rated = OckhamGatePlugin(surprise_threshold=2.0, target_update_rate=0.6)
    closed = [literal.verdict(loss) for loss in losses]
    kept = [rated.verdict(loss) for loss in losses]
    assert statistics.mean(closed[-1000:]) == 0.0
    assert statistics.mean(kept[-1000:]) == pytest.approx(0.6, abs=0.03)


def test_equal_losses_do_not_wind_the_gate_up():
    gate = OckhamGatePlugin(surprise_threshold=None, target_update_rate=0.3)
    assert all(gate.verdict(3.0) for _ in range(1000))
    verdicts = [gate.verdict(loss) for loss in noisy("constant", 600, 1)]
    assert statistics.mean(verdicts[100:]) == pytest.approx(0.3, abs=0.05)


def test_losses_that_are_not_finite_leave_the_statistics_alone():
    gate, twin = (OckhamGatePlugin(surprise_threshold=2.0, adaptive=True, target_update_rate=0.5) for _ in range(2))
    for loss in (3.0, math.inf, 2.5, math.nan, 2.7):
        gate.verdict(loss)
        if math.isfinite(loss):
            twin.verdict(loss)
    for plugin in (gate, twin):
        plugin.open_run = 0  # counts verdicts, of which the twin gave fewer
    assert gate.state_dict() == twin.state_dict()


def test_adaptive_threshold_moves_to_the_median_times_1_2():
    gate = OckhamGatePlugin(surprise_threshold=5.0, adaptive=True, adaptation_rate=0.5)
    gate.verdict(2.0)
    assert gate.adapted == 5.0 + 0.5 * (1.2 * 2.0 - 5.0)
    gate.verdict(4.0)  # the median is 3
    assert gate.adapted == pytest.approx(3.7 + 0.5 * (1.2 * 3.0 - 3.7))
    for _ in range(300):
        gate.verdict(2.5)
    assert gate.adapted == pytest.approx(3.0)


def test_micro_batch_verdicts_are_not_judged_again():
    gate = OckhamGatePlugin(surprise_threshold=2.0, target_update_rate=0.5)
    verdicts = tuple(gate.verdict(loss) for loss in (3.0, 1.0))
    before = gate.state_dict()
    ctx = gate.on_batch_start(context(0.1, verdicts=verdicts))
    assert ctx.updated
    assert gate.state_dict() == before
    assert not gate.on_batch_start(context(9.0, verdicts=(False, False))).updated


def test_gate_that_never_closes_says_so_once_with_the_fix():
    gate = OckhamGatePlugin(surprise_threshold=2.0, target_update_rate=0.6)
    said = [notice for step in range(1200) for notice in gate.on_batch_start(context(4.0 + step % 7 / 10, step)).notices]
    assert len(said) == 1
    assert "500 batches" in said[0]
    assert "surprise_threshold=null" in said[0]


@pytest.mark.parametrize("params", [{"surprise_threshold": None}, {"surprise_threshold": None, "target_update_rate": 0.6}])
def test_gate_that_is_meant_to_stay_open_says_nothing(params):
    gate = OckhamGatePlugin(**params)
    assert not any(gate.on_batch_start(context(4.0, step)).notices for step in range(700))


# the compressor -----------------------------------------------------------------------------------------------------
def run(plugin, costs, **fields):
    """The contexts of iterations whose last step left these complexity costs."""
    return [plugin.on_batch_start(context(step=i, complexity_cost=c, **fields)) for i, c in enumerate(costs)]


@pytest.mark.parametrize("attacks", [1, 2, 10, 60])
def test_compressor_attacks_by_the_closed_form_of_a_one_pole(attacks):
    last = run(CompressorPlugin(threshold=0.1, ratio=2.0, attack=0.1), [0.5] * attacks, learning_rate=1.0, lambda_ockham=0.01)[-1]
    assert last.lambda_ockham == pytest.approx(0.01 * (2 - (2 - 1) * 0.9**attacks))
    assert last.learning_rate == pytest.approx(0.5 + 0.5 * 0.9**attacks)
    assert last.metrics["compressor/on"] == 1.0
    assert last.metrics["compressor/lr_factor"] == last.learning_rate


def test_compressor_releases_to_base_lambda_and_makeup_gain():
    compressor = CompressorPlugin(threshold=0.1, ratio=3.0, attack=1.0, release=0.05, makeup_gain=1.2)
    run(compressor, [0.5])
    compressor.on_consolidate(context())
    last = run(compressor, [0.0] * 20, learning_rate=1.0, lambda_ockham=0.01)[-1]
    assert last.lambda_ockham == pytest.approx(0.01 * (1 + 2 * 0.95**20))
    assert last.learning_rate == pytest.approx(1.2 - (1.2 - 1 / 3) * 0.95**20)
    assert last.metrics["compressor/on"] == 0.0


def test_compressor_smooths_the_cost_it_looks_at():
    levels = run(CompressorPlugin(threshold=0.1), [0.0, 0.9, 0.9])  # 0, 0.09, 0.171
    assert [ctx.metrics["compressor/on"] for ctx in levels] == [0.0, 0.0, 1.0]


def test_compressor_keeps_lambda_inside_its_bounds():
    high = run(CompressorPlugin(attack=1.0, ratio=3.0, max_lambda=0.02), [0.5], lambda_ockham=0.01)[0]
    low = run(CompressorPlugin(min_lambda=0.005), [0.0], lambda_ockham=0.001)[0]
    assert (high.lambda_ockham, low.lambda_ockham) == (0.02, 0.005)


def test_compressor_does_not_charge_where_drift_is_free():
    assert run(CompressorPlugin(min_lambda=0.005), [0.5], lambda_ockham=0.0)[0].lambda_ockham == 0.0


def test_compressor_waits_until_an_anchor_is_in_force():
    compressor = CompressorPlugin(makeup_gain=0.8, release=1.0, min_lambda=0.05)
    before = compressor.state_dict()
    ctx = run(compressor, [0.0], anchor_available=False, learning_rate=1.0, lambda_ockham=0.01)[0]
    assert (ctx.learning_rate, ctx.lambda_ockham) == (1.0, 0.01)
    assert compressor.state_dict() == before


# the equalizer ------------------------------------------------------------------------------------------------------
def test_eq_boosts_hard_batches_and_cuts_easy_ones():
    for loss, gain, band in ((2.0, 0.5, 0.0), (3.0, 1.0, 1.0), (4.0, 1.5, 2.0)):
        eq = EQPlugin(bands={"easy": 0.5, "medium": 1.0, "hard": 1.5}, adaptation_rate=1.0)
        for i in range(100):
            eq.on_batch_start(context(2.5 + i / 100))
        ctx = eq.on_batch_start(context(loss, learning_rate=1.0))
        assert (ctx.learning_rate, ctx.metrics["eq/band"]) == (gain, band)


def test_eq_rises_by_the_closed_form_of_a_one_pole():
    eq = EQPlugin(bands={"medium": 3.0}, adaptation_rate=0.1)  # equal losses are medium
    factors = [eq.on_batch_start(context(3.0, learning_rate=1.0)).learning_rate for _ in range(30)]
    assert factors == pytest.approx([1 + 2 * (1 - 0.9**n) for n in range(30)])


def test_eq_bands_hold_a_third_each():
    eq, rng = EQPlugin(), random.Random(0)
    bands = [eq.on_batch_start(context(3 + rng.gauss())).metrics["eq/band"] for _ in range(3000)]
    for band in (0.0, 1.0, 2.0):
        assert bands.count(band) / 3000 == pytest.approx(1 / 3, abs=0.03)


# the limiter --------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("cost", "force", "hits", "consolidating"), [(0.2, True, 0, False), (0.21, True, 1, True), (0.21, False, 1, False)]
)
def test_limiter_acts_over_its_ceiling_only(cost, force, hits, consolidating):
    limiter, ctx = LimiterPlugin(complexity_ceiling=0.2, force_consolidate=force), context(complexity_cost=cost)
    limiter.on_batch_start(ctx)
    assert not ctx.consolidating
    limiter.on_batch_end(ctx)
    assert (limiter.hits, ctx.consolidating) == (hits, consolidating)
    assert ctx.metrics["limiter/on"] == float(hits)


def test_limiter_counts_large_gradients_of_learned_batches():
    limiter = LimiterPlugin(grad_norm_ceiling=1.0)
    for norm, updated in ((1.5, True), (1.5, False), (0.5, True)):
        limiter.on_batch_end(context(grad_norm=norm, updated=updated))
    assert (limiter.grad_hits, limiter.hits) == (1, 0)


def test_limiter_waits_until_an_anchor_is_in_force():
    ctx = context(complexity_cost=9.0, anchor_available=False)
    LimiterPlugin().on_batch_end(ctx)
    assert not ctx.consolidating


# the saturation -----------------------------------------------------------------------------------------------------
def test_saturation_noise_has_the_stated_spread():
    saturation = SaturationPlugin(drive=0.1, warmup_iters=0)
    factors = [saturation.on_batch_start(context(learning_rate=1.0)).learning_rate for _ in range(4000)]
    assert statistics.mean(factors) == pytest.approx(1.0, abs=0.006)
    assert statistics.stdev(factors) == pytest.approx(0.1, rel=0.05)


def test_saturation_drive_ramps_linearly():
    saturation = SaturationPlugin(drive=0.2, noise_type="gradient", warmup_iters=4)
    asked = [saturation.on_batch_start(context()).requests.gradient_noise for _ in range(6)]
    assert asked == pytest.approx([0.0, 0.05, 0.1, 0.15, 0.2, 0.2])


def test_saturation_type_says_what_gets_the_noise():
    for kind, lr, gradient in (("learning_rate", True, False), ("gradient", False, True), ("both", True, True)):
        ctx = SaturationPlugin(drive=0.1, noise_type=kind, warmup_iters=0).on_batch_start(context(learning_rate=1.0))
        assert (ctx.learning_rate != 1.0, ctx.requests.gradient_noise == 0.1) == (lr, gradient)


def test_saturation_never_makes_the_learning_rate_negative():
    saturation = SaturationPlugin(drive=50.0, warmup_iters=0)
    rates = [saturation.on_batch_start(context(learning_rate=1.0)).learning_rate for _ in range(50)]
    assert min(rates) == 0.0


def test_saturation_depends_on_its_seed_alone():
    def draws(seed: int) -> list[float]:
        random.seed(len(str(seed)))
        plugin = SaturationPlugin(seed=seed, warmup_iters=0)
        return [plugin.on_batch_start(context(random.random() + 2)).learning_rate for _ in range(5)]

    assert draws(1) == draws(1) != draws(2)


# all of them --------------------------------------------------------------------------------------------------------
def drive(plugin: OccamPlugin, losses: list[float], start: int = 0) -> list[dict]:
    seen = []
    for i, loss in enumerate(losses, start):
        ctx = plugin.on_batch_start(context(loss, i, complexity_cost=0.3 * abs(math.sin(i / 9))))
        plugin.on_batch_end(ctx)
        if i % 40 == 39:
            plugin.on_consolidate(ctx)
        seen.append(ctx.to_dict())
    return seen


MAKERS = {
    "gate": lambda: OckhamGatePlugin(surprise_threshold=3.0, adaptive=True, target_update_rate=0.5),
    "compressor": CompressorPlugin,
    "eq": EQPlugin,
    "limiter": LimiterPlugin,
    "saturation": lambda: SaturationPlugin(noise_type="both"),
    "logger": LoggerPlugin,
}


@pytest.mark.parametrize("make", MAKERS.values(), ids=MAKERS)
def test_state_through_a_checkpoint_continues_bit_for_bit(make):
    losses = noisy("falling", 300, 3)
    straight = drive(make(), losses)
    first, second = make(), make()
    head = drive(first, losses[:131])
    second.load_state_dict(json.loads(json.dumps(first.state_dict())))
    assert head + drive(second, losses[131:], 131) == straight


@pytest.mark.parametrize("make", [m for n, m in MAKERS.items() if n != "logger"])
def test_leaving_the_state_out_shows(make):
    losses = noisy("falling", 300, 3)
    assert drive(make(), losses)[131:] != drive(make(), losses[131:], 131)


@pytest.mark.parametrize("make", MAKERS.values(), ids=MAKERS)
def test_reset_is_a_fresh_plugin(make):
    used, fresh = make(), make()
    drive(used, noisy("falling", 60, 3))
    used.reset()
    assert used.state_dict() == fresh.state_dict()


@pytest.mark.parametrize("make", MAKERS.values(), ids=MAKERS)
def test_loading_a_state_that_does_not_fit_is_an_error(make):
    plugin = make()
    state = plugin.state_dict()
    with pytest.raises(CheckpointError, match="'colour' is unknown"):
        plugin.load_state_dict({**state, "colour": 1})
    missing = next(iter(state))
    with pytest.raises(CheckpointError, match=f"'{missing}' is missing"):
        plugin.load_state_dict({k: v for k, v in state.items() if k != missing})


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: CompressorPlugin(ratio=0.5), "compressor.ratio must be >= 1, got 0.5"),
        (lambda: CompressorPlugin(name="squeeze", attack=2), r"squeeze.attack must be in \[0, 1\], got 2"),
        (lambda: CompressorPlugin(ration=2), r"compressor has no parameter 'ration' \(did you mean ratio\?\)"),
        (lambda: CompressorPlugin(min_lambda=0.9, max_lambda=0.1), r".min_lambda must be <= max_lambda .0.1., got 0.9"),
        (lambda: CompressorPlugin(threshold=math.nan), "compressor.threshold must be >= 0, got nan"),
        (lambda: CompressorPlugin(threshold=True), "compressor.threshold must be >= 0, got True"),
        (lambda: OckhamGatePlugin(adaptive=1), "gate.adaptive must be true or false, got 1"),
        (lambda: OckhamGatePlugin(target_update_rate=1.5), r"gate.target_update_rate must be in \[0, 1\] or null, got 1.5"),
        (lambda: OckhamGatePlugin(surprise_threshold="high"), "gate.surprise_threshold must be >= 0 or base or null, got 'high'"),
        (lambda: EQPlugin(bands={"hrad": 1.0}), r"eq.bands has no 'hrad' \(did you mean hard\?\); allowed: easy, medium, hard"),
        (lambda: EQPlugin(bands={"hard": -1}), "eq.bands.hard must be .*>= 0, got -1"),
        (lambda: EQPlugin(bands=[1, 2]), r"eq.bands must be a mapping of easy, medium, hard .*, got \[1, 2\]"),
        (lambda: LimiterPlugin(force_consolidate="yes"), "limiter.force_consolidate must be true or false, got 'yes'"),
        (lambda: SaturationPlugin(noise_type="gradients"), "saturation.noise_type must be one of .*did you mean gradient"),
        (lambda: SaturationPlugin(warmup_iters=0.5), "saturation.warmup_iters must be an integer >= 0, got 0.5"),
        (lambda: LoggerPlugin(interval=0), "logger.interval must be an integer >= 1, got 0"),
    ],
)
def test_bad_parameters_say_what_was_given_and_what_is_allowed(make, message):
    with pytest.raises(UsageError, match=message):
        make()


def test_integers_are_fine_for_floats():
    assert CompressorPlugin(ratio=2).ratio == 2.0
    assert isinstance(CompressorPlugin(ratio=2).ratio, float)


def test_defaults_are_not_shared_between_plugins():
    first, second = EQPlugin(), EQPlugin()
    first.bands["easy"] = 9.0
    assert second.bands["easy"] == 0.5


def test_older_names_are_plain_aliases():
    assert (TrainingState, LearningPlugin) == (OccamContext, OccamPlugin)
    assert (OccamGatePlugin, CurriculumEQPlugin) == (OckhamGatePlugin, EQPlugin)
    assert PLUGINS["OccamGatePlugin"] is OckhamGatePlugin
    assert PLUGINS["CurriculumEQPlugin"] is EQPlugin


def test_every_plugin_describes_each_parameter_and_shows_its_state():
    for plugin_class in PLUGINS.values():
        plugin = plugin_class()
        assert plugin_class.describe().count("\n") + 1 == len(plugin_class.PARAMS)
        shown = plugin.get_state()
        assert shown.keys() >= {"type", "enabled", *plugin.params()}
        assert len(str(shown)) < 600  # for people


def test_own_plugin_without_declared_state_keeps_its_plain_attributes():
    class Counter(OccamPlugin):
        def __init__(self, step: int = 1):
            super().__init__("counter")
            self.step, self.count, self.seen, self.stream = step, 0, (), object()

        def on_batch_start(self, ctx):
            self.count += self.step
            self.seen = (*self.seen, ctx.task_loss)
            return ctx

    used, fresh = Counter(step=2), Counter(step=5)
    used.on_batch_start(context(3.0))
    assert used.state_dict() == {"count": 2, "seen": [3.0]}
    fresh.load_state_dict(used.state_dict())
    assert (fresh.count, fresh.seen, fresh.step) == (2, (3.0,), 5)


def test_logger_tells_who_changed_what(capsys):
    host = PluginHost([OckhamGatePlugin(surprise_threshold=3.5), CompressorPlugin(attack=1.0), LoggerPlugin()])
    ctx = host.process_batch_start(context(3.0, 7, complexity_cost=0.5, learning_rate=0.001))
    host.process_batch_end(ctx)
    host.process_consolidate(ctx)
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith("[logger] iter 7: loss 3.0000, skipped (SKIPPED_SURPRISE); gate: surprise_threshold 2 → 3.5")
    assert "compressor: learning_rate 0.001 → 0.0005" in lines[0]
    assert lines[1] == "[logger] iter 7: consolidated at drift 0.5"


def test_logger_speaks_every_interval_to_its_sink():
    logger, lines = LoggerPlugin(interval=3), []
    logger.sink = lines.append
    for step in range(7):
        logger.on_batch_end(context(step=step))
    assert [line.split(":")[0] for line in lines] == ["[logger] iter 0", "[logger] iter 3", "[logger] iter 6"]
