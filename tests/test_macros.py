"""Macros: the spec's formulas, and where their values stand among the layers."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from configurator import config_as_yaml, explain, plan_sweep, resolve, run
from ockham.anchor import Anchor
from ockham.config import RunConfig
from ockham.configuration.command import translate
from ockham.errors import ConfigError
from ockham.macros import set_sparsity_accuracy, set_stability_plasticity, sparsity_accuracy, stability_plasticity


@pytest.fixture(autouse=True)
def _in_an_empty_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("RANK", "WORLD_SIZE"):
        monkeypatch.delenv(name, raising=False)


def config(*argv: str) -> RunConfig:
    return resolve(list(argv)).config


def notes(*argv: str) -> list[str]:
    return resolve(list(argv)).provenance.notes


def gate(got: RunConfig) -> dict:
    return next(dict(spec["params"]) for spec in got.rack if spec["name"] == "gate")


def write(text: str, name: str = "mine.yaml") -> str:
    Path(name).write_text(text)
    return name


def saved(folder: str, *argv: str) -> None:
    got = resolve([*argv, f"--out_dir={folder}"])
    Path(folder).mkdir()
    (Path(folder) / "config.yaml").write_text(config_as_yaml(got.config, got.provenance))


# ---------------------------------------- the formulas


@pytest.mark.parametrize(
    ("value", "lambda_ockham", "threshold", "interval"),
    [(0.0, 0.1, 3.0, 1000), (0.3, 0.0703, 2.25, 730), (0.5, 0.0505, 1.75, 550), (0.9, 0.0109, 0.75, 189), (1.0, 0.001, 0.5, 100)],
)
def test_plasticity_is_the_specs_line(value: float, lambda_ockham: float, threshold: float, interval: int) -> None:
    """future_directions.md, section 4, worked by hand; 0.9 gives 189.99…, which int cuts."""
    got = stability_plasticity(value)
    assert got == {
        "lambda_ockham": pytest.approx(lambda_ockham),
        "surprise_threshold": pytest.approx(threshold),
        "consolidate_interval": interval,
    }
    assert isinstance(got["consolidate_interval"], int)


@pytest.mark.parametrize(
    ("value", "threshold", "rate"), [(0.0, 5.0, 0.2), (0.25, 3.775, 0.4), (0.8, 1.08, 0.84), (1.0, 0.1, 1.0)]
)
def test_accuracy_is_the_specs_line(value: float, threshold: float, rate: float) -> None:
    got = sparsity_accuracy(value)
    assert got == {"surprise_threshold": pytest.approx(threshold), "target_update_rate": pytest.approx(rate)}


def test_the_specs_names_are_the_same_functions() -> None:
    assert (set_stability_plasticity, set_sparsity_accuracy) == (stability_plasticity, sparsity_accuracy)


@pytest.mark.parametrize("value", [-0.1, 1.001, float("nan"), float("inf")])
def test_a_value_outside_the_knob_is_refused(value: float) -> None:
    with pytest.raises(ConfigError, match=r"macro.plasticity must be in \[0, 1\], got"):
        stability_plasticity(value)
    with pytest.raises(ConfigError, match=r"macro.accuracy must be in \[0, 1\], got"):
        sparsity_accuracy(value)


def distance_after(interval: int, steps: int = 300) -> float:
    """How far from its start a weight gets that is drawn to 1 and pulled to an anchor moved every `interval` steps."""
    weight = torch.nn.Parameter(torch.zeros(1, dtype=torch.float64))
    anchor = Anchor([weight], "always")
    for step in range(1, steps + 1):
        weight.grad = weight.detach() - 1.0
        anchor.add_penalty_gradient(2.0)
        weight.data -= 0.02 * weight.grad
        if step % interval == 0:
            anchor.move()
    return weight.item()


def test_frequent_consolidation_is_the_plastic_end() -> None:
    """The anchor that follows holds the weights back less: why 100 stands at plasticity 1 and 1000 at 0."""
    stable, plastic = distance_after(1000), distance_after(100)
    assert stable == pytest.approx(1 / (1 + 2 * 2.0), abs=1e-6)  # the penalised minimum
    assert plastic == pytest.approx(1 - (1 - 0.2) ** 3, abs=1e-3)  # a fifth of what is left, three times


# ---------------------------------------- among the layers


def test_macros_set_plain_keys_and_the_plugins_of_the_preset() -> None:
    got = config("--preset=balanced", "--macro.plasticity=0.3")
    assert (got.lambda_ockham, got.surprise_threshold, got.consolidate_interval) == (0.0703, 2.25, 730)
    assert (gate(got)["surprise_threshold"], gate(got)["target_update_rate"]) == (2.25, 0.6)
    got = config("--preset=balanced", "macro.accuracy=0.8")
    assert (got.surprise_threshold, got.target_update_rate, got.lambda_ockham) == (1.08, 0.84, 0.01)
    assert (gate(got)["surprise_threshold"], gate(got)["target_update_rate"]) == (1.08, 0.84)


def test_a_macro_is_the_same_as_the_values_it_stands_for() -> None:
    by_hand = config("--preset=balanced", "--lambda_ockham=0.0703", "--surprise_threshold=2.25", "--consolidate_interval=730")
    by_knob = config("--preset=balanced", "--macro.plasticity=0.3")
    assert (by_knob.rack, by_knob.lambda_ockham, by_knob.surprise_threshold) == (
        by_hand.rack,
        by_hand.lambda_ockham,
        by_hand.surprise_threshold,
    )


def test_what_a_macro_overrides_of_the_preset_is_said() -> None:
    said = notes("--preset=balanced", "--macro.plasticity=0.3")
    assert said == [
        "Overriding: lambda_ockham = 0.0703 (macro plasticity=0.3; preset balanced said 0.01)",
        "Overriding: surprise_threshold = 2.25 (macro plasticity=0.3; preset balanced said 2.0)",
        "Overriding: consolidate_interval = 730 (macro plasticity=0.3; preset balanced said 1000)",
    ]


def test_an_explicit_value_wins_over_a_macro_and_that_is_said() -> None:
    argv = ["--preset=balanced", "--macro.plasticity=0.3", "--lambda_ockham=0.2", "--surprise_threshold=null"]
    got = config(*argv)
    assert (got.lambda_ockham, got.surprise_threshold, gate(got)["surprise_threshold"]) == (0.2, None, None)
    assert "Overriding: lambda_ockham = 0.2 (command line; macro plasticity=0.3 said 0.0703)" in notes(*argv)


def test_explain_shows_the_macros_layer() -> None:
    lines = explain("lambda_ockham", ["--preset=balanced", "--macro.plasticity=0.3"]).splitlines()
    assert lines[-2:] == ["  0.01    preset balanced", "  0.0703  macro plasticity=0.3  <- holds"]


def test_a_file_may_turn_a_macro_over_its_own_values_and_the_command_line_turns_it_back() -> None:
    mine = write("macro: {plasticity: 0.5}\nlambda_ockham: 0.3\npreset: balanced\n")
    assert config(mine).lambda_ockham == 0.0505
    assert config(mine, "--macro.plasticity=1").lambda_ockham == 0.001
    assert config(mine, "--macro.plasticity=null").lambda_ockham == 0.01


def test_a_plugins_own_threshold_that_a_macro_overrides_is_said() -> None:
    mine = write("preset: balanced\nrack.gate.surprise_threshold: 1.2\n")
    said = notes(mine, "--macro.plasticity=0.3")
    assert "Overriding: rack.gate.surprise_threshold = 2.25 (macro plasticity=0.3; mine.yaml said 1.2)" in said


def test_without_a_preset_a_macro_acts_and_adds_a_gate() -> None:
    got = resolve(["--macro.accuracy=0"])
    assert (gate(got.config)["surprise_threshold"], gate(got.config)["target_update_rate"]) == (5.0, 0.2)
    [note] = got.provenance.notes
    assert note == (
        "Rack: added an OckhamGatePlugin for surprise_threshold = 5.0 (macro accuracy=0), "
        "target_update_rate = 0.2 (macro accuracy=0)"
    )
    plastic = config("--macro.plasticity=0")
    assert (plastic.lambda_ockham, plastic.consolidate_interval, gate(plastic)["target_update_rate"]) == (0.1, 1000, None)


# ---------------------------------------- both macros


def test_macros_that_disagree_name_both_values_and_the_fix(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(lambda config, provenance: 0, ["--macro.plasticity=0.3", "--macro.accuracy=0.8"]) == 2
    assert capsys.readouterr().err == (
        "error: macro plasticity=0.3 makes surprise_threshold 2.25, macro accuracy=0.8 makes it 1.08; "
        "say which: --surprise_threshold=VALUE, or leave one of the two out\n"
    )
    mine = write("macro: {plasticity: 0.3, accuracy: 0.8}\nsurprise_threshold: 1\n")  # macros lie over files
    with pytest.raises(ConfigError, match="say which: --surprise_threshold=VALUE"):
        resolve([mine])


def test_an_explicit_value_settles_the_macros_and_names_both() -> None:
    argv = ["--macro.plasticity=0.3", "--macro.accuracy=0.8", "--surprise_threshold=1.5"]
    got = config(*argv)
    assert (got.lambda_ockham, got.surprise_threshold, got.target_update_rate) == (0.0703, 1.5, 0.84)
    told = "Overriding: surprise_threshold = 1.5 (command line; macro plasticity=0.3 said 2.25, macro accuracy=0.8 said 1.08)"
    assert told in notes(*argv)


def test_macros_that_agree_are_fine() -> None:
    """3 − 2.5·0.18 = 5 − 4.9·0.5 = 2.55."""
    got = config("--preset=balanced", "--macro.plasticity=0.18", "--macro.accuracy=0.5")
    assert (got.surprise_threshold, got.target_update_rate, got.consolidate_interval) == (2.55, 0.6, 838)


# ---------------------------------------- what is written wrong


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (["--macro.plasticity=1.5"], r"macro.plasticity must be in \[0, 1\], got 1.5 \(command line\)"),
        (["--macro.plasticity=much"], r"macro.plasticity must be float or null, got 'much' \(command line\)"),
        (["--macro.plasticty=0.5"], r"unknown key macro.plasticty \(command line\) \(did you mean macro.plasticity\?\)"),
        (["--macro.foo=1"], r"unknown key macro.foo \(command line\); there are macro.plasticity, macro.accuracy$"),
        (["--plasticity=0.5"], r"did you mean macro.plasticity\?"),
        (["--macro=0.5"], r"macro is a group of keys \(command line\), it holds macro.plasticity, .accuracy"),
        (["--macro.plasticity"], r"--macro.plasticity needs a value"),
        (["macro.plasticity=0,0.5"], r"macro.plasticity=0,0.5 is a sweep: add -m"),
    ],
)
def test_a_wrong_macro_is_told_with_its_source(argv: list[str], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        resolve(argv)


def test_a_policy_may_not_turn_a_macro(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "policy").mkdir()
    (tmp_path / "policy" / "fast_train.yaml").write_text("macro.plasticity: 0.5\n")
    monkeypatch.setattr("ockham.configuration.bundles.CONFIG_DIR", tmp_path)
    with pytest.raises(ConfigError, match=r"macro.plasticity is not a policy's to choose"):
        resolve(["policy=fast_train"])


def test_help_lists_the_knobs(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(lambda config, provenance: 0, ["--help"]) == 0
    out = capsys.readouterr().out
    assert "macro.plasticity=null" in out
    assert "macro.accuracy=null" in out


# ---------------------------------------- resume, saved configs, sweeps


def test_on_resume_a_saved_macro_is_not_applied_over_saved_values() -> None:
    saved("r", "--preset=balanced", "--macro.plasticity=0.3", "--lambda_ockham=0.2")
    got = resolve(["--init_from=resume", "--out_dir=r"])
    c = got.config
    assert (c.lambda_ockham, c.surprise_threshold, c.consolidate_interval, c.macro.plasticity) == (0.2, 2.25, 730, 0.3)
    assert not got.provenance.notes
    anew = resolve(["--init_from=resume", "--out_dir=r", "--macro.plasticity=1"])
    assert (anew.config.lambda_ockham, gate(anew.config)["surprise_threshold"]) == (0.001, 0.5)
    assert "Resume: lambda_ockham = 0.001 (macro plasticity=1; the run had 0.2)" in anew.provenance.notes


def test_a_saved_config_as_a_file_repeats_the_run() -> None:
    saved("r", "--preset=balanced", "--macro.plasticity=0.3", "--lambda_ockham=0.2")
    first, again = config("r/config.yaml", "--out_dir=r"), config("r/config.yaml")
    assert first == again
    assert (again.lambda_ockham, again.surprise_threshold) == (0.2, 2.25)


def test_a_file_with_a_rack_of_its_own_may_turn_a_macro() -> None:
    mine = write("rack: [{type: OckhamGatePlugin}]\nmacro: {accuracy: 0}\n")
    assert (config(mine).target_update_rate, gate(config(mine))["surprise_threshold"]) == (0.2, 5.0)


def test_a_preset_chosen_after_a_macro_ends_it_and_that_is_said() -> None:
    saved("r", "--preset=balanced", "--macro.plasticity=0.3")
    got = resolve(["--init_from=resume", "--out_dir=r", "--preset=ockham_tight"])
    assert (got.config.lambda_ockham, got.config.macro.plasticity) == (0.05, None)
    assert "Resume: macro.plasticity = None (preset ockham_tight; the run had 0.3)" in got.provenance.notes
    both = config("--init_from=resume", "--out_dir=r", "--preset=ockham_tight", "--macro.plasticity=1")
    assert (both.lambda_ockham, both.macro.plasticity) == (0.001, 1.0)


def test_macros_can_be_swept() -> None:
    jobs = plan_sweep(translate(["-m", "macro.plasticity=0,0.5,1", "--preset=balanced", "--out_dir=s"]))
    assert [job.name for job in jobs] == ["0_macro.plasticity=0", "1_macro.plasticity=0.5", "2_macro.plasticity=1"]
    lambdas = [config(*(text.lstrip("+") for text in job.overrides)).lambda_ockham for job in jobs]
    assert lambdas == [0.1, 0.0505, 0.001]


def test_a_sweep_whose_macros_disagree_starts_no_job() -> None:
    with pytest.raises(ConfigError, match=r"job 1_.*macro plasticity=1 makes surprise_threshold 0.5.*no job was started"):
        plan_sweep(translate(["-m", "macro.plasticity=0.18,1", "--macro.accuracy=0.5"]))
