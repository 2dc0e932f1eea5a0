"""RunConfig: types, ranges, unknown keys, and the way to plain values and back."""

from __future__ import annotations

import dataclasses

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ockham.config import LearnerFlags, OptimizerConfig, RunConfig, SchedulerConfig, from_mapping, leaves, to_mapping
from ockham.errors import ConfigError


def test_the_defaults_are_within_their_own_ranges() -> None:
    assert from_mapping(RunConfig, to_mapping(RunConfig())) == RunConfig()


@given(st.floats(0, 10), st.integers(0, 2**40), st.booleans(), st.text(max_size=9), st.none() | st.floats(0, 1))
def test_plain_values_give_the_same_config_back(lr: float, seed: int, bias: bool, name: str, rate: float | None) -> None:
    config = RunConfig(
        optimizer=OptimizerConfig(lr=lr, options={"betas": [0.9, 0.95]}),
        seed=seed,
        bias=bias,
        dataset=name,
        target_update_rate=rate,
    )
    assert from_mapping(RunConfig, to_mapping(config)) == config


def test_every_leaf_has_help() -> None:
    assert all(leaf.field.metadata["help"] for leaf in leaves(RunConfig).values())


def test_every_field_is_a_leaf_or_a_room() -> None:
    rooms = {key.split(".")[0] for key in leaves(RunConfig)}
    assert {f.name for f in dataclasses.fields(RunConfig)} == rooms


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"sed": 1}, r"unknown key sed \(did you mean seed\?\)"),
        ({"scheduler": {"warmup_step": 1}}, r"unknown key scheduler.warmup_step \(did you mean warmup_steps\?\)"),
        ({"seed": -1}, r"seed must be >= 0, got -1"),
        ({"seed": True}, r"seed must be int, got True"),
        ({"seed": 1.5}, r"seed must be int, got 1.5"),
        ({"dropout": 1.0}, r"dropout must be in \[0, 0.999\], got 1.0"),
        ({"dropout": float("nan")}, r"dropout must be in"),
        ({"bias": 1}, r"bias must be bool, got 1"),
        ({"backend": "ncl"}, r"backend must be one of auto, nccl, gloo, got 'ncl' \(did you mean nccl\?\)"),
        ({"compile": "yes"}, r"compile must be one of auto, True, False"),
        ({"optimizer": 3}, r"optimizer must be a mapping, got 3"),
        ({"wandb_run_name": [1]}, r"wandb_run_name must be str or null"),
        ({"n_embd": 7, "n_head": 2}, r"n_embd must be a multiple of n_head, got n_embd=7, n_head=2"),
        ({"optimizer": {"auto_param_groups": {"no_decay_patterns": [None]}}}, r"no_decay_patterns\[0\] must be str"),
    ],
)
def test_a_wrong_value_is_named_with_what_is_allowed(values: dict, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        from_mapping(RunConfig, values)


def test_ints_become_floats_and_whole_floats_ints() -> None:
    config = from_mapping(RunConfig, {"max_iters": 1e6, "optimizer": {"lr": 1}, "wandb_run_name": 5})
    assert (config.max_iters, config.optimizer.lr, config.wandb_run_name) == (1_000_000, 1.0, "5")
    assert isinstance(config.optimizer.lr, float)
    assert isinstance(config.max_iters, int)


def test_an_optimizers_own_keys_are_its_options() -> None:
    config = from_mapping(OptimizerConfig, {"lr": 1.0, "momentum": 0.9})
    assert config.options == {"momentum": 0.9}
    assert to_mapping(config)["momentum"] == 0.9


def test_min_lr_and_warm_up_fall_back() -> None:
    config = RunConfig(optimizer=OptimizerConfig(lr=0.5, warmup_steps=7))
    assert (config.min_lr, config.warmup_steps) == (0.05, 7)
    own = RunConfig(optimizer=OptimizerConfig(warmup_steps=7), scheduler=SchedulerConfig(min_lr=0.0, warmup_steps=0))
    assert (own.min_lr, own.warmup_steps) == (0.0, 0)


def test_a_leaf_says_what_is_allowed() -> None:
    found = leaves(LearnerFlags)
    assert found["target_update_rate"].allowed == "float or null, 0 to 1"
    assert found["surprise_threshold"].allowed.startswith("float or null, nats/token")
    assert leaves(RunConfig)["backend"].allowed == "auto | nccl | gloo"
