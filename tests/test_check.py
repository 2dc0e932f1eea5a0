"""`ockham check`: what plugins write is what they say, conflicts are named with who wins, likely mistakes with file and line."""

from __future__ import annotations

import pytest
import torch
from conftest import TINY

from ockham.__main__ import main
from ockham.carried import PROBE_ROWS
from ockham.check import PROBE_WINDOWS, conflicts, devices, in_all, probe
from ockham.context import WATCHED, OccamContext
from ockham.learner import OckhamLearner
from ockham.mistakes import RULES, mistakes
from ockham.plugins import (
    PLUGINS,
    KLWatchdogPlugin,
    LearnedGainPlugin,
    LimiterPlugin,
    OccamPlugin,
    PluginHost,
    ReverbPlugin,
)
from ockham.presets import build_plugins, load_preset, load_preset_file, preset_names

FIELDS = {*WATCHED, *(f"requests.{name}" for name in vars(OccamContext(0, 1.0).requests))}
WAYS = {"scales", "adds", "raises", "clamps", "sets"}
VARIANTS = {  # parameters under which a plugin does all that it can
    "SaturationPlugin": {"noise_type": "both", "drive": 0.1},
    "KLWatchdogPlugin": {"interval": 10},
    "LearnedGainPlugin": {"rate": 0.5},
    "OckhamGatePlugin": {"surprise_threshold": 2.0, "target_update_rate": 0.5},
}
OWN = sorted({cls.__name__ for cls in PLUGINS.values() if cls.WRITES is not None})


def preset(tmp_path, text):
    path = tmp_path / "mine.yaml"
    path.write_text(text, encoding="utf-8")
    return load_preset_file(path)


@pytest.mark.parametrize("kind", OWN)
def test_a_plugin_writes_what_it_says_and_all_of_it_is_seen(kind):
    plugin = PLUGINS[kind](**VARIANTS.get(kind, {}))
    seen, _ = probe(plugin, {"lambda_ockham": 0.01, "surprise_threshold": 1.5})
    assert seen == set(plugin.writes())
    assert set(plugin.writes()) <= FIELDS
    assert set(plugin.writes().values()) <= WAYS


@pytest.mark.parametrize(
    ("kind", "params", "spared"),
    [
        ("SaturationPlugin", {"noise_type": "gradient"}, "learning_rate"),
        ("SaturationPlugin", {"noise_type": "learning_rate"}, "requests.gradient_noise"),
        ("LimiterPlugin", {"force_consolidate": False}, "consolidating"),
    ],
)
def test_parameters_narrow_what_is_written(kind, params, spared):
    plugin = PLUGINS[kind](**params)
    assert spared in type(plugin).WRITES
    assert spared not in plugin.writes()
    assert spared not in probe(plugin, {})[0]


@pytest.mark.parametrize("name", preset_names())
def test_every_shipped_preset_is_usable_and_without_mistakes(name, capsys):
    assert main(["check", name]) == 0
    out = capsys.readouterr().out
    assert "usable" in out
    assert "likely mistakes: none" in out
    assert ("learning_rate: compressor, " in out) == (load_preset(name).memory is not None), "the rack presets"


def test_order_state_and_cost_are_told(capsys):
    main(["check", "balanced"])
    out = capsys.readouterr().out
    places = [
        out.index(f"{place}. {name} (") for place, name in enumerate(("gate", "compressor", "eq", "limiter", "saturation"), 1)
    ]
    assert places == sorted(places)
    assert "2. compressor (CompressorPlugin): scales learning_rate, clamps lambda_ockham; state" in out
    assert "extra per iteration: 0 forwards, 0 backwards" in out
    assert "the learner holds" not in out


def test_what_a_plugin_costs_is_the_passes_that_it_asks_for(tmp_path):
    text = (
        "plugins:\n  - {type: KLWatchdogPlugin, params: {interval: 20}}\n  - {type: LearnedGainPlugin, params: {interval: 10}}\n"
    )
    watchdog, gain = devices(preset(tmp_path, text))
    assert (watchdog.forwards, watchdog.backwards) == (2 / 20, 0)
    assert gain.forwards == gain.backwards == pytest.approx(1 / 10, rel=0.1)
    assert watchdog.line.endswith("; per iteration up to 0.1 forwards, 0 backwards of the probe (8 windows)")
    assert "extra per iteration: 0.2 forwards, 0.1 backwards of the probe (8 windows)" in in_all([watchdog, gain])


def test_the_probe_that_is_told_is_the_one_that_a_run_holds_out():
    assert PROBE_WINDOWS == PROBE_ROWS


class Both(OccamPlugin):
    """Asks for a loss and a slope in one iteration."""

    def on_batch_start(self, ctx):
        ctx.requests.probe_loss = ctx.requests.probe_slope = True
        return ctx


@pytest.mark.parametrize(
    ("plugin", "with_an_anchor_that_moves"),
    [(Both(), False), (LearnedGainPlugin(interval=1), False), (KLWatchdogPlugin(interval=1), True)],
)
def test_passes_are_those_that_the_ledger_charges(tiny_model, batch, plugin, with_an_anchor_that_moves):
    """The probe is as large as the batch here, so that a pass of either is one in the ledger."""
    _, told = probe(plugin, {})
    plugin.reset()
    learner = learner_of(tiny_model(), plugin, batch(9), consolidate_interval=int(with_an_anchor_that_moves))
    for i in range(10):
        learner.step(batch(i))
    assert (learner.ledger.forwards / 10 - 1, learner.ledger.backwards / 10 - 1) == told


def learner_of(model, plugin, probe, **options):
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    return OckhamLearner(model, optimizer, PluginHost([plugin]), probe=probe, lambda_ockham=0.0, **options)


TENSORS = {
    "ReverbPlugin": ({}, "the learner holds 1 × weights"),
    "LearnedGainPlugin": ({}, "the learner holds 1 × weights during an update that is measured, 3 × while it is"),
    "KLWatchdogPlugin": ({}, "the learner holds logits (B, T, V) of the probe, B = 8"),
    "LimiterPlugin": (
        {"limit_type": "delta_theta", "ceiling": 0.1}, "1 × weights during each update, 2 × while its size is measured"
    ),
    "SaturationPlugin": ({"noise_type": "embedding"}, "the learner holds noise (B, T, C) during the forward"),
    "DelayPlugin": ({}, ""),
    "CompressorPlugin": ({}, ""),
}  # fmt: skip


@pytest.mark.parametrize("kind", TENSORS)
def test_what_the_learner_holds_for_a_plugin_is_told(tmp_path, kind):
    params, words = TENSORS[kind]
    (device,) = devices(preset(tmp_path, f"plugins: [{{type: {kind}, params: {params}}}]\n".replace("'", '"')))
    assert words in device.line
    assert ("holds" in device.line) is bool(words)
    assert (f"{device.name}: {device.tensors[0]}" if words else "tensors: none") in in_all([device])


def test_the_learner_holds_what_is_told(tiny_model, batch):
    """1 × weights for an echo, and for an update whose slope or ceiling is asked for; (B, T, V) for the KL."""
    held = {}
    for plugin in (ReverbPlugin(), KLWatchdogPlugin(), LearnedGainPlugin(), LimiterPlugin(limit_type="delta_theta", ceiling=1.0)):
        learner = learner_of(tiny_model(), plugin, batch(9, rows=8))
        weights = sum(p.numel() for p in learner.parameters)
        kept, requested = [], learner.requested
        real = requested.remember
        requested.remember = lambda asked, r=requested, k=kept, real=real: (real(asked), k.append(r.before))
        learner.step(batch(0))
        before = sum(t.numel() for t in kept[0] or ()) / weights
        echo = sum(t.numel() for e in requested.echoes.values() for t in e) / weights
        logits = requested.anchor_logits
        held[plugin.name] = (echo, before, None if logits is None else tuple(logits.shape))
        assert requested.before is None or plugin.name == "limiter", "none between iterations"
    assert held == {
        "reverb": (1, 0, None),
        "kl_watchdog": (0, 0, (8, TINY["block_size"], TINY["vocab_size"])),
        "learned_gain": (0, 1, None),
        "limiter": (0, 1, None),
    }


def test_multiplications_share_a_field_without_conflict():
    (found,) = conflicts(devices(load_preset("balanced")))
    assert (found.field, found.writers) == ("learning_rate", ("compressor", "eq", "saturation"))
    assert not found.order_matters


def test_scaling_plugins_commute_up_to_rounding():
    specs = load_preset("balanced").specs[1:3]  # compressor, eq
    rates = []
    for order in (specs, specs[::-1]):
        host = PluginHost(build_plugins(order))
        rates.append([])
        for step in range(60):
            ctx = host.process_batch_start(OccamContext(step, 3.0 - (step % 7) / 5, complexity_cost=0.3))
            rates[-1].append(ctx.learning_rate)
    assert rates[0] == pytest.approx(rates[1], rel=1e-12)
    assert rates[0][-1] != 1e-3


def test_plugins_that_touch_different_fields_commute_bit_for_bit():
    specs = {spec["name"]: spec for spec in load_preset("balanced").specs}
    rack = [specs[name] for name in ("gate", "limiter", "eq")]
    assert conflicts([d for d in devices(load_preset("balanced")) if d.name in ("gate", "limiter", "eq")]) == []
    ends = []
    for order in (rack, rack[::-1], [rack[1], rack[2], rack[0]]):
        host = PluginHost(build_plugins(order))
        seen = []
        for step in range(60):
            ctx = host.process_batch_start(OccamContext(step, 3.0 - (step % 7) / 2, complexity_cost=0.3))
            host.process_batch_end(ctx)
            seen.append([getattr(ctx, field) for field in WATCHED])
        ends.append(seen)
    assert ends[0] == ends[1] == ends[2]


TWO = "plugins:\n  - type: CompressorPlugin\n    name: a\n  - type: CompressorPlugin\n    name: b\n"


def test_two_clamps_on_one_field_are_a_conflict_that_the_order_decides(tmp_path):
    found = {conflict.field: conflict for conflict in conflicts(devices(preset(tmp_path, TWO)))}
    assert found["lambda_ockham"].order_matters
    assert "b bounds it last" in found["lambda_ockham"].verdict
    assert not found["learning_rate"].order_matters


def test_of_two_that_set_a_field_the_later_wins(tmp_path):
    text = "plugins:\n  - type: OckhamGatePlugin\n  - {type: OckhamGatePlugin, name: late, params: {surprise_threshold: 9}}\n"
    found = {conflict.field: conflict for conflict in conflicts(devices(preset(tmp_path, text)))}
    assert "late comes later than gate and wins" in found["updated"].verdict
    host = preset(tmp_path, text).host()
    assert host.process_batch_start(OccamContext(0, 3.0)).updated is False


def test_a_plugin_that_is_off_is_in_no_conflict(tmp_path):
    assert conflicts(devices(preset(tmp_path, TWO + "    enabled: false\n"))) == []


class Silent(OccamPlugin):
    """Does not state what it writes."""

    PARAMS = ()

    def on_batch_start(self, ctx):
        if ctx.iter_num > 100:
            ctx.lambda_ockham = 0.5
        ctx.requests.gradient_noise = 0.25
        return ctx


def test_a_plugin_that_states_nothing_is_tried_out(tmp_path, monkeypatch):
    monkeypatch.setitem(PLUGINS, "Silent", Silent)
    rack = devices(preset(tmp_path, "plugins:\n  - type: CompressorPlugin\n  - type: Silent\n"))
    assert rack[1].writes == {"lambda_ockham": "changes", "requests.gradient_noise": "changes"}
    (found,) = conflicts(rack)
    assert found.order_matters
    assert "silent does not state how (WRITES); what the last one, silent, leaves" in found.verdict


GATE = "plugins:\n  - type: OckhamGatePlugin\n    params:\n"
COMPRESSOR = "plugins:\n  - type: CompressorPlugin\n    params:\n"
LIKELY = {
    "second gate": ("plugins:\n  - type: OckhamGatePlugin\n  - type: OckhamGatePlugin\n    name: b\n", 3, "b is a second gate"),
    "gate against the hyperparameters": (
        "hyperparameters: {surprise_threshold: 1}\n" + GATE + "      surprise_threshold: 2\n", 5, "the gate's own one counts",
    ),
    "gate that never closes": (GATE + "      surprise_threshold: 0\n", 3, "never closes"),
    "gate without any threshold": (GATE + "      surprise_threshold: null\n", 3, "both null"),
    "adaptive without a threshold": (
        GATE + "      target_update_rate: 0.5\n      surprise_threshold: null\n      adaptive: true\n", 6, "does nothing",
    ),
    "rate without a gate": ("plugins: []\nhyperparameters:\n  target_update_rate: 0.5\n", 3, "no active gate"),
    "price 0": ("hyperparameters:\n  lambda_ockham: 0\n" + COMPRESSOR + "      ratio: 3\n", 2, "stays 0"),
    "price out of bounds": ("hyperparameters:\n  lambda_ockham: 1\n" + COMPRESSOR + "      max_lambda: 0.5\n", 6, "outside"),
    "nothing to compress": (COMPRESSOR + "      ratio: 1\n", 4, "compresses nothing"),
    "limiter under the compressor": (
        "plugins:\n- type: CompressorPlugin\n- type: LimiterPlugin\n  params:\n    complexity_ceiling: 0.1\n", 5, "before",
    ),
    "switched off": ("plugins:\n  - type: EQPlugin\n    enabled: false\n", 3, "eq is off"),
    "flat EQ": ("plugins:\n  - type: EQPlugin\n    params: {adaptation_rate: 0}\n", 3, "changes nothing"),
    "no noise": ("plugins:\n  - type: SaturationPlugin\n    params: {drive: 0}\n", 3, "adds no noise"),
    "watchdog without an anchor": ("tags: [scratch]\nplugins:\n  - type: KLWatchdogPlugin\n", 3, "measures nothing from scratch"),
    "logger first": ("plugins:\n  - type: LoggerPlugin\n  - type: EQPlugin\n", 2, "put it last"),
}  # fmt: skip


@pytest.mark.parametrize(("text", "line", "message"), LIKELY.values(), ids=LIKELY)
def test_a_likely_mistake_is_told_with_file_and_line(tmp_path, text, line, message):
    (found,) = mistakes(preset(tmp_path, text))
    assert message in found
    assert found.endswith(f"mine.yaml:{line})")


def test_a_threshold_set_behind_the_gate_is_a_mistake(tmp_path, monkeypatch):
    class Mover(Silent):
        WRITES = {"surprise_threshold": "sets"}  # noqa: RUF012

    monkeypatch.setitem(PLUGINS, "Mover", Mover)
    text = "plugins:\n  - type: %s\n  - type: %s\n"
    assert "after gate has used it" in mistakes(preset(tmp_path, text % ("OckhamGatePlugin", "Mover")))[0]
    assert mistakes(preset(tmp_path, text % ("Mover", "OckhamGatePlugin"))) == []


def test_a_watchdog_in_a_preset_for_finetuning_is_no_mistake(tmp_path):
    assert mistakes(preset(tmp_path, "tags: [finetune]\nplugins:\n  - type: KLWatchdogPlugin\n")) == []


def test_every_rule_is_tried():
    assert len(LIKELY) + 1 >= len(RULES)


def test_a_malformed_preset_is_one_line_and_exit_code_2(tmp_path, capsys):
    (tmp_path / "mine.yaml").write_text(COMPRESSOR + "      drive: 3\n")
    assert main(["check", str(tmp_path / "mine.yaml")]) == 2
    said = capsys.readouterr().err
    assert "drive belongs to SaturationPlugin" in said
    assert said.endswith("mine.yaml:4)\n")
    assert said.count("\n") == 1
