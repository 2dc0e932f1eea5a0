"""RunConfig: types, ranges, unknown keys, and the way to plain values and back."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from configurator import parse_flags
from ockham.config import LearnerFlags, OptimizerConfig, RunConfig, SchedulerConfig
from ockham.errors import ConfigError
from ockham.typed import coerce, from_mapping, is_within, leaves, option, range_text, to_mapping


def test_the_defaults_are_within_their_own_ranges() -> None:
    assert from_mapping(RunConfig, to_mapping(RunConfig())) == RunConfig()


@given(
    st.floats(0, 10),
    st.integers(0, 2**40),
    st.booleans(),
    st.text(min_size=1, max_size=9).filter(str.strip),
    st.none() | st.floats(0, 1),
)
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
        ({"seed": -1}, r"seed must be in \[0, 9223372036854775807\], got -1"),
        ({"seed": True}, r"seed must be int, got True"),
        ({"seed": 1.5}, r"seed must be int, got 1.5"),
        ({"dropout": 1.0}, r"dropout must be in \[0, 0.999\], got 1.0"),
        ({"dropout": float("nan")}, r"dropout must be a finite number, got nan"),
        ({"surprise_threshold": float("inf")}, r"surprise_threshold must be a finite number, got inf"),
        ({"seed": float("inf")}, r"seed must be int, got inf"),
        ({"out_dir": " "}, r"out_dir must not be empty"),
        ({"bias": 1}, r"bias must be true or false, got 1 \(did you mean True\?\)"),
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


def test_open_bounds_exclude_their_ends() -> None:
    limits = option(0.5, "", above=0, below=1).metadata
    assert [is_within(value, limits) for value in (0, 1e-9, 0.5, 1)] == [False, True, True, False]
    texts = [range_text(option(0, "", **given).metadata) for given in ({"low": 0, "below": 1}, {"above": 0}, {"high": 3}, {})]
    assert texts == ["in [0, 1)", "> 0", "<= 3", ""]
    assert leaves(RunConfig)["optimizer.lookahead.alpha"].allowed == "float, in (0, 1)"


@pytest.mark.parametrize("value", [None, False, 3, "word", [1, None], {"a": 1}])
def test_any_takes_a_value_as_it_is(value: object) -> None:
    assert coerce(value, Any, "key") is value


# ---------------------------------------- parse_flags


@dataclass(frozen=True, kw_only=True)
class Flags:
    """Text from nowhere."""

    start: str = option("\n", "the prompt")
    top_k: int | None = option(200, "draw among the k likeliest", low=0)
    stream: bool = option(True, "print as it comes")
    temperature: float = option(0.8, "heat", low=0)


def test_parse_flags_reads_both_forms_and_files(tmp_path: Path) -> None:
    mine = str(tmp_path / "mine.py")
    Path(mine).write_text("temperature = 0.5\n")
    assert parse_flags(Flags, [mine, "--start=a=b, 'c'", "top_k=None", "--stream=False"]) == Flags(
        start="a=b, 'c'", top_k=None, stream=False, temperature=0.5
    )
    assert parse_flags(Flags, ["--stream", "--start=5"]).start == "5"


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (["--strat=a"], r"unknown key strat \(command line\) \(did you mean start\?\)"),
        (["--top_k=x"], r"top_k must be int or null, got 'x'"),
        (["--temperature=-1"], r"temperature must be >= 0, got -1"),
        (["--start"], r"--start needs a value: write --start=VALUE"),
        (["--start", "ROMEO:"], r"--start needs a value: write --start=ROMEO:"),
        (["--start", "--stream"], r"--start needs a value: write --start=VALUE"),
        (["--stream", "False"], r"unexpected argument 'False': write --stream=False"),
    ],
)
def test_parse_flags_names_what_is_wrong(argv: list[str], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        parse_flags(Flags, argv)


def test_parse_flags_prints_its_table_on_help(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stop:
        parse_flags(Flags, ["--help"])
    assert stop.value.code == 0
    assert "--top_k=200" in capsys.readouterr().out
    with pytest.raises(SystemExit):
        parse_flags(Flags, ["--help"], "usage: so and so\n")
    assert capsys.readouterr().out.startswith("usage: so and so\n\nText from nowhere.\n")
