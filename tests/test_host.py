"""The host: order, journal of changes, switches, state, and older code that needs new import lines only."""

from __future__ import annotations

import itertools
import json
import math
import re
from pathlib import Path

import pytest

from ockham.context import OccamContext
from ockham.errors import CheckpointError, ConfigError, OckhamError, ReadOnlyError
from ockham.plugins import (
    CompressorPlugin,
    EQPlugin,
    LearningPlugin,
    LimiterPlugin,
    OccamPlugin,
    OckhamGatePlugin,
    PluginHost,
    SaturationPlugin,
    TrainingState,
)
from ockham.presets import load_preset, preset_names

SPEC = Path(__file__).resolve().parents[2] / "shared" / "spec" / "plugin_system.md"


def context(loss: float = 3.0, step: int = 0, **fields) -> OccamContext:
    return OccamContext(iter_num=step, task_loss=loss, **fields)


class Times(OccamPlugin):
    """Multiplies the learning rate."""

    def __init__(self, name: str, factor: float) -> None:
        super().__init__(name)
        self.factor, self.calls = factor, 0

    def on_batch_start(self, ctx: OccamContext) -> OccamContext:
        self.calls += 1
        ctx.learning_rate *= self.factor
        return ctx


def pair() -> PluginHost:
    return PluginHost([Times("double", 2.0), Times("third", 1 / 3)])


def test_plugins_act_in_order_and_every_change_is_recorded():
    ctx = pair().process_batch_start(context(learning_rate=3.0))
    assert ctx.changes == [("double", "learning_rate", 3.0, 6.0), ("third", "learning_rate", 6.0, 2.0)]


def test_changes_made_after_the_step_are_recorded_too():
    host = PluginHost([LimiterPlugin()])
    ctx = host.process_batch_start(context())
    ctx.complexity_cost = 0.5
    host.process_batch_end(ctx)
    assert ctx.changes == [("limiter", "consolidating", False, True)]


def test_a_plugin_that_leaves_a_value_alone_records_nothing():
    assert PluginHost([Times("one", 1.0)]).process_batch_start(context()).changes == []


def test_hooks_run_in_chain_order():
    calls = []

    class Tell(OccamPlugin):
        def on_batch_start(self, ctx):
            calls.append((self.name, "start"))
            return ctx

        def on_adapt(self, ctx):
            calls.append((self.name, "adapt"))

        def on_batch_end(self, ctx):
            calls.append((self.name, "end"))

        def on_consolidate(self, ctx):
            calls.append((self.name, "consolidate"))

    host = PluginHost([Tell("a"), Tell("b")])
    ctx = host.process_batch_start(context())
    host.process_adapt(ctx)
    host.process_batch_end(ctx)
    host.process_consolidate(ctx)
    assert calls == [(n, h) for h in ("start", "adapt", "end", "consolidate") for n in "ab"]


# errors -------------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("hook", ["on_batch_start", "on_adapt", "on_batch_end", "on_consolidate"])
def test_a_plugin_that_raises_is_named_with_its_hook(hook):
    def fail(self, ctx):
        raise KeyError("x")

    broken = type("Broken", (OccamPlugin,), {"on_batch_start": lambda self, ctx: ctx, hook: fail})
    host = PluginHost([broken("bad")])
    with pytest.raises(OckhamError, match=rf"plugin 'bad' \(Broken\) failed in {hook}: KeyError: 'x'") as caught:
        getattr(host, hook.replace("on_", "process_"))(context())
    assert isinstance(caught.value.__cause__, KeyError)


@pytest.mark.parametrize("field", ["iter_num", "task_loss"])
def test_a_plugin_cannot_set_what_it_may_only_read(field):
    class Cheat(OccamPlugin):
        def on_batch_start(self, ctx):
            setattr(ctx, field, 0)
            return ctx

    with pytest.raises(ReadOnlyError, match=f"plugin 'cheat' .*{field} is read-only"):
        PluginHost([Cheat()]).process_batch_start(context())


def test_a_plugin_that_forgets_to_return_the_context_is_told():
    class Forgets(OccamPlugin):
        def on_batch_start(self, ctx):
            pass

    with pytest.raises(OckhamError, match=r"plugin 'forgets' .*must return the context, got None.*`return ctx`"):
        PluginHost([Forgets()]).process_batch_start(context())


def test_names_in_a_rack_are_distinct():
    with pytest.raises(ConfigError, match=r"already has a plugin 'limiter'.*another name="):
        PluginHost([LimiterPlugin(), LimiterPlugin()])
    assert PluginHost([LimiterPlugin(), LimiterPlugin("second")]).names() == ["limiter", "second"]


@pytest.mark.parametrize("thing", [LimiterPlugin, "limiter", None])
def test_only_plugins_go_into_a_rack(thing):
    with pytest.raises(ConfigError, match="OccamPlugin instances"):
        PluginHost([thing])


def test_an_unknown_name_tells_the_nearest():
    with pytest.raises(ConfigError, match=r"no plugin 'limter' \(did you mean limiter\?\); it has limiter"):
        PluginHost([LimiterPlugin()]).mute("limter")


# the desk -----------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("switch", ["bypass", "mute"])
def test_a_silenced_plugin_neither_acts_nor_moves(switch):
    host = pair()
    getattr(host, switch)("double")
    ctx = host.process_batch_start(context(learning_rate=3.0))
    assert ctx.learning_rate == 1.0
    assert host["double"].calls == 0
    getattr(host, switch)("double", False)
    assert host.process_batch_start(context(learning_rate=3.0)).learning_rate == 2.0


def test_solo_lets_only_soloed_plugins_act():
    host = pair()
    host.solo("third")
    assert host.process_batch_start(context(learning_rate=3.0)).learning_rate == 1.0
    host.solo("third", False)
    assert host.process_batch_start(context(learning_rate=3.0)).learning_rate == 2.0


def test_mute_wins_over_solo_and_leaves_the_bypass_alone():
    host = pair()
    host.bypass("double")
    host.mute("double")
    host.mute("double", False)
    assert not host.is_active("double")
    host.solo("third")
    host.mute("third")
    assert not host.is_active("third")


def test_add_remove_and_move_change_the_chain():
    host = pair()
    host.add(Times("first", 1.0), 0)
    host.move("third", 0)
    assert host.names() == ["third", "first", "double"]
    assert host.remove("first").name == "first"
    assert host.names() == ["third", "double"]
    assert [c[0] for c in host.process_batch_start(context()).changes] == ["third", "double"]


def test_gate_is_the_first_active_gate():
    host = PluginHost([LimiterPlugin(), OckhamGatePlugin(), OckhamGatePlugin("second")])
    assert host.gate is host["gate"]
    host.bypass("gate")
    assert host.gate is host["second"]
    host.solo("limiter")
    assert host.gate is None


def test_order_of_plugins_that_touch_different_fields_does_not_matter():
    results = set()
    for order in itertools.permutations(
        (
            lambda: OckhamGatePlugin(surprise_threshold=3.0, target_update_rate=0.5),
            lambda: SaturationPlugin(noise_type="gradient"),
            lambda: LimiterPlugin(),
        )
    ):
        host, seen = PluginHost([make() for make in order]), []
        for i in range(50):
            ctx = host.process_batch_start(context(3 + math.sin(i), i, complexity_cost=0.3))
            host.process_batch_end(ctx)
            seen.append((ctx.updated, ctx.surprise_threshold, ctx.requests.gradient_noise, ctx.consolidating))
        results.add(tuple(seen))
    assert len(results) == 1


# state --------------------------------------------------------------------------------------------------------------
def drive(host: PluginHost, steps: range) -> list[dict]:
    seen = []
    for i in steps:
        ctx = host.process_batch_start(context(3 + math.sin(i * i), i, complexity_cost=0.2 + 0.2 * math.sin(i / 7)))
        host.process_batch_end(ctx)
        seen.append(ctx.to_dict())
    return seen


@pytest.mark.parametrize("name", preset_names())
def test_a_rack_through_a_checkpoint_continues_bit_for_bit(name):
    straight = drive(load_preset(name).host(), range(200))
    first, second = load_preset(name).host(), load_preset(name).host()
    head = drive(first, range(77))
    second.load_state_dict(json.loads(json.dumps(first.state_dict())))
    assert head + drive(second, range(77, 200)) == straight


def test_switches_and_order_survive_a_checkpoint():
    used, fresh = pair(), pair()
    used.move("third", 0)
    used.bypass("double")
    used.solo("third")
    fresh.load_state_dict(used.state_dict())
    assert fresh.names() == ["third", "double"]
    switches = [(s["enabled"], s["soloed"], s["active"]) for s in fresh.state().values()]
    assert switches == [(True, True, True), (False, False, False)]


def test_a_checkpoint_of_another_rack_is_refused():
    with pytest.raises(CheckpointError, match="the checkpoint's rack has double, third; this rack has double;"):
        PluginHost([Times("double", 2.0)]).load_state_dict(pair().state_dict())
    with pytest.raises(CheckpointError, match="state"):
        pair().load_state_dict({"plugins": {}})


def test_reset_makes_the_rack_new():
    host = load_preset("balanced").host()
    first = drive(host, range(60))
    host.reset()
    assert drive(host, range(60)) == first


# process_batch ------------------------------------------------------------------------------------------------------
def test_process_batch_judges_the_loss_of_the_step_before():
    host = PluginHost([OckhamGatePlugin(surprise_threshold=2.0)], {"learning_rate": 0.5})
    seen = []

    def step(batch: float, ctx: OccamContext) -> dict[str, float]:
        seen.append((ctx.iter_num, ctx.task_loss, ctx.learning_rate, ctx.updated))
        return {"task_loss": batch, "complexity_cost": 0.1}

    metrics = [host.process_batch(batch, step) for batch in (3.0, 1.0, 2.5)]
    assert metrics[1] == {"task_loss": 1.0, "complexity_cost": 0.1}
    assert seen == [(0, math.inf, 0.5, True), (1, 3.0, 0.5, True), (2, 1.0, 0.5, False)]
    assert host.context.update_rate == pytest.approx(2 / 3)


def test_process_batch_gives_the_end_hooks_fresh_metrics():
    host = PluginHost([LimiterPlugin(complexity_ceiling=0.2)])
    host.process_batch(None, lambda batch, ctx: {"complexity_cost": 0.3, "grad_norm": 2.0})
    assert host.context.consolidating
    assert (host["limiter"].hits, host["limiter"].grad_hits) == (1, 1)


def test_hyperparameters_of_process_batch_are_settable_and_checked():
    host = PluginHost()
    host.hyperparameters["lambda_ockham"] = 0.25
    host.process_batch(None, lambda batch, ctx: {})
    assert host.context.lambda_ockham == 0.25
    host.hyperparameters["learnin_rate"] = 1.0
    with pytest.raises(ConfigError, match="did you mean learning_rate"):
        host.process_batch(None, lambda batch, ctx: {})


# older code ---------------------------------------------------------------------------------------------------------
def test_older_plugin_code_runs_with_new_import_lines(capsys):
    class MyCustomPlugin(LearningPlugin):
        def __init__(self, name="my_plugin", my_param=1.0):
            super().__init__(name)
            self.my_param = my_param

        def on_batch_start(self, state: TrainingState) -> TrainingState:
            if state.task_loss > 3.0:
                state.learning_rate *= 0.5
            return state

        def on_batch_end(self, state: TrainingState) -> None:
            if state.updated:
                print(f"[{self.name}] Updated at iter {state.iter_num}")

        def reset(self) -> None:
            pass

    host = PluginHost([MyCustomPlugin()])
    state = host.process_batch_start(TrainingState(iter_num=4, task_loss=3.5, learning_rate=0.1))
    host.process_batch_end(state)
    host.reset()
    assert state.learning_rate == 0.05
    assert capsys.readouterr().out == "[my_plugin] Updated at iter 4\n"


def test_a_plugin_that_does_not_call_the_base_constructor_works():
    class Bare(LearningPlugin):
        def __init__(self, threshold=2.0):
            self.threshold = threshold
            self.current_scale = 1.0

        def on_batch_start(self, state):
            return state

    host = PluginHost([Bare()])
    host.process_batch_start(context())
    assert host.state_dict()["plugins"] == {"bare": {"current_scale": 1.0}}


def test_the_documents_code_runs_as_written():
    if not SPEC.is_file():
        pytest.skip(f"{SPEC} is not here")
    usage = SPEC.read_text(encoding="utf-8").split("## Usage")[1].split("\n## ")[0]
    blocks = re.findall(r"```python\n(.*?)```", usage, re.DOTALL)
    assert len(blocks) == 3
    for block in blocks:
        names: dict = {}
        code = re.sub(r"from preset_loader import", "from ockham.presets import", block)
        exec(re.sub(r"from (plugin_system|plugins) import", "from ockham.plugins import", code), names)
        if "state" in names:
            assert names["state"].updated
            assert names["state"].metrics["gate/open"] == 1.0
        if "MyCustomPlugin" in names:
            host = PluginHost([names["MyCustomPlugin"]()])
            assert host.process_batch_start(context(4.0, learning_rate=1.0)).learning_rate == 0.5


def test_every_plugin_of_balanced_acts_against_its_bypass():
    fields = {
        "gate": "updated",
        "compressor": "lambda_ockham",
        "eq": "learning_rate",
        "limiter": "consolidating",
        "saturation": "learning_rate",
    }
    for name, field in fields.items():
        with_it, without = load_preset("balanced").host(), load_preset("balanced").host()
        without.bypass(name)
        on, off = drive_field(with_it, field), drive_field(without, field)
        assert on != off, name


def drive_field(host: PluginHost, field: str) -> list:
    values = []
    for i in range(60):
        ctx = host.process_batch_start(context(1.5 + 0.3 * math.sin(i * i), i, complexity_cost=0.3))
        host.process_batch_end(ctx)
        values.append(getattr(ctx, field))
    return values


def test_compressor_and_eq_multiply_the_scheduled_rate():
    host = PluginHost([CompressorPlugin(attack=1.0), EQPlugin(bands={"medium": 3.0}, adaptation_rate=1.0)])
    for lr in (1.0, 0.1):
        ctx = host.process_batch_start(context(learning_rate=lr, complexity_cost=0.5))
    assert ctx.learning_rate == pytest.approx(0.1 * 0.5 * 3.0)
