"""Schedules against torch's at every tick, their pieces, their leaves, and what holds for all of them."""

import random
from collections.abc import Callable, Iterator
from dataclasses import fields, replace
from functools import cache
from pathlib import Path

import pytest
import torch
import yaml
from hypothesis import given
from hypothesis import strategies as st
from torch.optim.lr_scheduler import ConstantLR, CosineAnnealingLR, LinearLR, LRScheduler, OneCycleLR, SequentialLR

from ockham.audit.record import schedule_figures
from ockham.audit.shown import schedule_text
from ockham.config import OptimizerConfig, RunConfig, SchedulerConfig
from ockham.optim import build_schedule
from ockham.optim.schedule import SCHEDULES, Schedule
from ockham.typed import from_mapping

PEAK = 1.0  # so that an absolute 1e-9 is a relative one too
FILES = Path(__file__).parents[1] / "config" / "scheduler"
NAMES = sorted(SCHEDULES)


def schedule(name: str, **leaves) -> Schedule:
    return build_schedule(
        RunConfig(optimizer=OptimizerConfig(lr=PEAK), scheduler=SchedulerConfig(name=name, **leaves), max_iters=100)
    )


def oracle(make: Callable[[torch.optim.Optimizer], LRScheduler], ticks: int) -> Iterator[tuple[int, float]]:
    """torch's learning rate at ticks 0, 1, … `ticks` − 1."""
    optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=PEAK)
    scheduler = make(optimizer)
    for tick in range(ticks):
        yield tick, optimizer.param_groups[0]["lr"]
        optimizer.step()
        if tick < ticks - 1:
            scheduler.step()


def agree(ours: Schedule, make: Callable[[torch.optim.Optimizer], LRScheduler], ticks: int) -> None:
    for tick, lr in oracle(make, ticks):
        assert ours(tick) == pytest.approx(lr, rel=0, abs=1e-9), tick


def warm(optimizer: torch.optim.Optimizer, steps: int) -> LinearLR:
    return LinearLR(optimizer, start_factor=1 / (steps + 1), end_factor=1.0, total_iters=steps)


def chain(
    *pieces: Callable[[torch.optim.Optimizer], LRScheduler], at: list[int]
) -> Callable[[torch.optim.Optimizer], LRScheduler]:
    return lambda o: SequentialLR(o, [piece(o) for piece in pieces], milestones=at)


def one_cycle(total: int, pct: float, anneal: str, **kw) -> Callable[[torch.optim.Optimizer], LRScheduler]:
    strategy = {"cosine": "cos", "linear": "linear"}[anneal]
    return lambda o: OneCycleLR(
        o, PEAK, total_steps=total, pct_start=pct, anneal_strategy=strategy, cycle_momentum=False, three_phase=False, **kw
    )


def test_constant_is_the_peak_at_every_tick():
    agree(schedule("constant"), lambda o: ConstantLR(o, factor=1.0), 120)


def test_cosine_agrees_with_torch():
    agree(schedule("cosine"), lambda o: CosineAnnealingLR(o, T_max=100, eta_min=0.1), 101)


def test_linear_agrees_with_torch_and_past_its_end():
    agree(schedule("linear", min_lr=0.05), lambda o: LinearLR(o, 1.0, 0.05, total_iters=100), 130)


@pytest.mark.parametrize("name", ["constant", "linear", "cosine", "wsd"])
@pytest.mark.parametrize("steps", [1, 9, 40])
def test_warm_up_agrees_with_torchs_linear_lr(name, steps):
    agree(schedule(name, warmup_steps=steps), lambda o: warm(o, steps), steps + 1)


def test_the_decay_after_a_warm_up_takes_what_is_left_of_decay_steps():
    made = chain(lambda o: warm(o, 10), lambda o: CosineAnnealingLR(o, T_max=70, eta_min=0.02), at=[10])
    agree(schedule("cosine", warmup_steps=10, decay_steps=80, min_lr=0.02), made, 81)
    made = chain(lambda o: warm(o, 10), lambda o: LinearLR(o, 1.0, 0.02, total_iters=70), at=[10])
    agree(schedule("linear", warmup_steps=10, decay_steps=80, min_lr=0.02), made, 100)


@pytest.mark.parametrize("anneal", ["cosine", "linear"])
def test_wsd_agrees_with_torchs_three_pieces_in_sequence(anneal):
    fall = {
        "cosine": lambda o: CosineAnnealingLR(o, 25, eta_min=0.03),
        "linear": lambda o: LinearLR(o, 1.0, 0.03, total_iters=25),
    }
    made = chain(lambda o: warm(o, 12), lambda o: ConstantLR(o, factor=1.0), fall[anneal], at=[12, 75])
    agree(schedule("wsd", warmup_steps=12, decay_fraction=0.25, min_lr=0.03, anneal=anneal), made, 101)


@pytest.mark.parametrize(("fraction", "last_stable"), [(0.0, 99), (0.1, 90), (0.2, 80), (0.5, 50)])
def test_wsd_leaves_the_peak_where_its_fraction_says(fraction, last_stable):
    ours = schedule("wsd", decay_fraction=fraction)
    assert {ours(t) for t in range(last_stable + 1)} == {PEAK}
    assert ours(last_stable + 1) < PEAK
    assert ours(100) == ours(10_000) == pytest.approx(0.1)


@pytest.mark.parametrize("anneal", ["cosine", "linear"])
@pytest.mark.parametrize("warmup", [0, 30])
def test_wsd_that_falls_all_the_way_is_cosine_or_linear(anneal, warmup):
    ours, other = schedule("wsd", decay_fraction=1.0, anneal=anneal, warmup_steps=warmup), schedule(anneal, warmup_steps=warmup)
    assert [ours(t) for t in range(110)] == [other(t) for t in range(110)]


def test_a_warm_up_into_the_fall_starts_the_fall_late_at_the_peak():
    ours = schedule("wsd", warmup_steps=90, decay_fraction=0.2, anneal="linear", min_lr=0.0)
    assert [ours(t) for t in (89, 90, 95, 100)] == pytest.approx([90 / 91, 1.0, 0.5, 0.0])


@pytest.mark.parametrize("anneal", ["cosine", "linear"])
@pytest.mark.parametrize("pct", [0.0, 0.005, 0.1, 0.25, 0.3, 0.5, 0.77, 0.99, 1.0])
@pytest.mark.parametrize("total", [7, 100])
def test_onecycle_agrees_with_torch(anneal, pct, total):
    agree(schedule("onecycle", pct_start=pct, anneal=anneal, decay_steps=total), one_cycle(total, pct, anneal), total)


def test_onecycle_agrees_with_torch_for_other_factors():
    ours = schedule("onecycle", div_factor=4.0, final_div_factor=50.0)
    agree(ours, one_cycle(100, 0.3, "cosine", div_factor=4.0, final_div_factor=50.0), 100)


@pytest.mark.parametrize("end", [0.0, 1e-3, 0.1])
def test_onecycle_ends_at_min_lr_where_that_is_given(end):
    ours = schedule("onecycle", min_lr=end)
    agree(ours, one_cycle(100, 0.3, "cosine", final_div_factor=0.04 / end if end else float("inf")), 100)
    assert ours(99) == pytest.approx(end, abs=1e-12)


def test_onecycle_rises_for_warmup_steps_instead_of_pct_start():
    agree(schedule("onecycle", warmup_steps=40, pct_start=0.9), one_cycle(100, 0.4, "cosine"), 100)


def test_onecycle_takes_the_optimizers_hint_and_zero_means_pct_start():
    hinted = OptimizerConfig(lr=PEAK, warmup_steps=40)
    for own, pct in ((None, 0.4), (0, 0.3)):
        config = RunConfig(optimizer=hinted, scheduler=SchedulerConfig(name="onecycle", warmup_steps=own), max_iters=100)
        agree(build_schedule(config), one_cycle(100, pct, "cosine"), 100)


def test_onecycle_holds_its_last_value():
    ours = schedule("onecycle")
    assert ours(99) == ours(99.5) == ours(100) == ours(10_000) == pytest.approx(PEAK / 25 / 1e4)


@pytest.mark.parametrize("leaves", [{"pct_start": 1.0}, {"warmup_steps": 100}, {"warmup_steps": 5000}], ids=str)
def test_onecycle_that_only_rises_stays_at_the_peak(leaves):
    ours = schedule("onecycle", **leaves)
    assert ours(98) < ours(99) == ours(100) == ours(10_000) == PEAK


@pytest.mark.parametrize("leaves", [{"pct_start": 0.01}, {"warmup_steps": 1}], ids=str)
def test_onecycle_with_a_rise_of_one_tick_starts_at_the_peak(leaves):
    assert schedule("onecycle", **leaves)(0) == PEAK  # torch divides 0 by 0 there


@pytest.mark.parametrize(("pct", "value"), [(0.0, 0.04e-4), (0.5, 0.04e-4), (1.0, PEAK)])
def test_onecycle_of_one_tick_is_finite(pct, value):
    ours = schedule("onecycle", pct_start=pct, decay_steps=1)
    assert ours(0) == ours(7) == pytest.approx(value)


@pytest.mark.parametrize("name", ["linear", "cosine", "wsd"])
def test_decay_ends_at_min_lr_and_stays(name):
    ours = schedule(name, decay_steps=40, min_lr=0.0)
    assert ours(39) > ours(40) == ours(40.5) == ours(10_000) == 0.0


@pytest.mark.parametrize("name", ["linear", "cosine", "wsd"])
def test_min_lr_left_out_is_a_tenth_of_the_peak(name):
    assert schedule(name)(100) == pytest.approx(PEAK / 10)


@pytest.mark.parametrize("name", ["linear", "cosine", "wsd"])
def test_a_warm_up_longer_than_the_run_only_rises(name):
    ours = schedule(name, warmup_steps=200)
    assert [ours(t) for t in range(101)] == pytest.approx([(t + 1) / 201 for t in range(101)])


def test_none_and_hook_off_are_the_bare_peak():
    off = OptimizerConfig(lr=PEAK, scheduler_hook=False)
    bare = [build_schedule(RunConfig(optimizer=off, scheduler=SchedulerConfig(name=n, warmup_steps=50))) for n in NAMES]
    for ours in (schedule("none", warmup_steps=50), *bare):
        assert {ours(t) for t in (0, 0.5, 49, 10**6, 10**9)} == {PEAK}


@cache
def usual(name: str) -> Schedule:
    return schedule(name, warmup_steps=20, decay_steps=80)


@pytest.mark.parametrize("name", NAMES)
def test_the_order_of_the_calls_changes_nothing(name):
    ticks = [t / 4 for t in range(500)]
    straight = [schedule(name, warmup_steps=20)(t) for t in ticks]
    ours, shuffled = schedule(name, warmup_steps=20), random.Random(0).sample(range(500), 500)
    assert {i: ours(ticks[i]) for i in shuffled} == dict(enumerate(straight))


@given(st.sampled_from(NAMES), st.integers(0, 120), st.floats(0, 1))
def test_a_fractional_tick_lies_between_its_neighbours(name, tick, part):
    ours = usual(name)
    low, high = sorted((ours(tick), ours(tick + 1)))
    assert low - 1e-12 <= ours(tick + part) <= high + 1e-12


@given(st.sampled_from(NAMES), st.floats(0, 200), st.floats(0, 200))
def test_every_schedule_rises_to_its_peak_and_never_rises_again(name, a, b):
    ours, (a, b) = usual(name), sorted((a, b))
    top = 19 if name == "onecycle" else 20
    assert 0 < ours(a) <= PEAK + 1e-12
    if b <= top:
        assert ours(a) <= ours(b) + 1e-12
    if a >= top:
        assert ours(a) >= ours(b) - 1e-12


@given(st.sampled_from(NAMES), st.integers(0, 30), st.integers(1, 30), st.floats(0, 1), st.floats(0, 1), st.floats(0, 40))
def test_every_setting_is_finite_and_within_its_ends(name, warmup, decay, pct, fraction, tick):
    lr = schedule(name, warmup_steps=warmup, decay_steps=decay, pct_start=pct, decay_fraction=fraction, min_lr=0.0)(tick)
    assert 0 <= lr <= PEAK + 1e-12


@pytest.mark.parametrize("name", ["linear", "cosine", "wsd", "onecycle"])
def test_the_audit_calls_no_rate_of_a_warm_up_the_schedules_end(name):
    def figures(warmup):
        leaves = SchedulerConfig(name=name, warmup_steps=warmup, decay_steps=50, min_lr=0.01)
        return schedule_figures(RunConfig(optimizer=OptimizerConfig(lr=PEAK), scheduler=leaves))

    assert (figures(49)["decay_steps"], figures(49)["min_lr"]) == (50, pytest.approx(0.01))
    for warmup in (50, 200):
        assert (figures(warmup)["decay_steps"], figures(warmup)["min_lr"]) == (None, None)
        assert "at 50" not in schedule_text(figures(warmup))


OTHER = {
    "warmup_steps": 7,
    "decay_steps": 50,
    "min_lr": 0.03,
    "pct_start": 0.6,
    "div_factor": 5.0,
    "final_div_factor": 7.0,
    "decay_fraction": 0.5,
}


def test_every_schedule_has_a_file():
    assert sorted(path.stem for path in FILES.glob("*.yaml")) == NAMES
    assert set(OTHER) | {"name", "clock", "anneal"} == {field.name for field in fields(SchedulerConfig)}


@pytest.mark.parametrize("name", NAMES)
def test_a_file_states_exactly_the_leaves_that_move_its_schedule(name):
    stated = yaml.safe_load((FILES / f"{name}.yaml").read_text())
    config = from_mapping(SchedulerConfig, stated)
    run = RunConfig(optimizer=OptimizerConfig(lr=PEAK), scheduler=config, max_iters=100)
    other = OTHER | {"anneal": "linear" if config.anneal == "cosine" else "cosine"}
    changed = {leaf: build_schedule(replace(run, scheduler=replace(config, **{leaf: value}))) for leaf, value in other.items()}
    plain = [build_schedule(run)(t) for t in range(110)]
    moving = {leaf for leaf, ours in changed.items() if [ours(t) for t in range(110)] != plain}
    assert config.name == name
    assert config.clock == "iterations"
    assert set(stated) == moving | ({"name"} if name == "none" else {"name", "clock"})
