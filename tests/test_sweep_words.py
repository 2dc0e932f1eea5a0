"""What a sweep says: of jobs that did not quite end, mistakes in files, launchers that are missing; and how a job is written."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from job_scripts import stand_in

import configurator
from ockham.__main__ import main
from ockham.configuration.command import translate
from ockham.configuration.grammar import as_typed, in_hydra, parse_override, typed_text
from ockham.configuration.repeats import without_repeats
from ockham.errors import OckhamError


@pytest.fixture(autouse=True)
def _in_an_empty_folder(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path_factory.mktemp("cwd"))
    for name in ("RANK", "WORLD_SIZE"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def script(tmp_path: Path) -> Path:
    return stand_in(tmp_path)


def run(script: Path, *argv: str) -> int:
    return configurator.run(lambda c, p: pytest.fail("ran in the sweep's own process"), ["-m", *argv], script)


def jobs(folder: str = "out") -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads((Path(folder) / "sweep.json").read_text())["jobs"]
    return found


# ---------------------------------------- jobs that did not quite end


def test_a_job_that_is_out_of_time_is_not_done_and_is_gone_on_with(script: Path, capfd: pytest.CaptureFixture[str]) -> None:
    assert run(script, "dataset=good,late") == 1
    assert [job["status"] for job in jobs()] == ["done", "stopped (max_hours)"]
    assert "1_dataset=late  stopped (max_hours)" in capfd.readouterr().out
    assert run(script, "dataset=good,late", "--init_from=resume") == 0
    assert "job 1_dataset=late: resumed" in capfd.readouterr().out
    assert [job["status"] for job in jobs()] == ["done", "done"]


def test_a_job_that_was_rolled_back_is_marked(script: Path, capfd: pytest.CaptureFixture[str]) -> None:
    assert run(script, "dataset=good,diverge") == 0
    assert [(job["status"], job["rolled_back"]) for job in jobs()] == [("done", None), ("done", True)]
    lines = capfd.readouterr().out.splitlines()
    assert [bool(re.search("done, rolled back", line)) for line in lines if re.match(r"\d_dataset", line)] == [False, True]


def test_the_table_has_no_trailing_blanks_in_a_file(script: Path, capfd: pytest.CaptureFixture[str]) -> None:
    run(script, "dataset=good,fail")
    lines = capfd.readouterr().out.splitlines()
    assert lines == [line.rstrip() for line in lines]


def test_jobs_that_write_nothing_have_no_table(script: Path, capfd: pytest.CaptureFixture[str]) -> None:
    assert run(script, "dataset=good,fail", "--dry_run") == 1
    lines = capfd.readouterr().out.splitlines()
    assert lines[-2:] == ["job 0_dataset=good: done, nothing was written", "job 1_dataset=fail: failed, nothing was written"]
    assert not any("val loss" in line for line in lines)


def test_the_audit_of_a_sweeps_folder_leads_to_those_of_its_jobs(script: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(script, "seed=1,2") == 0
    for verb in ("show", "verify"):
        assert main(["audit", verb, "out"]) == 1
        assert "out is a sweep's folder; give one of its jobs: out/0_seed=1, out/1_seed=2" in capsys.readouterr().err


# ---------------------------------------- before the first job starts


def test_a_value_that_is_listed_twice_runs_once_and_that_is_said(script: Path, capfd: pytest.CaptureFixture[str]) -> None:
    assert run(script, "seed=1,1", "dataset=good,bad,good") == 0
    assert [job["name"] for job in jobs()] == ["0_seed=1,dataset=good", "1_seed=1,dataset=bad"]
    out = capfd.readouterr().out
    assert "seed=1,1: 1 is listed more than once, and runs once" in out
    assert "dataset=good,bad,good: good is listed more than once, and runs once" in out


@pytest.mark.parametrize(
    "text", ["++seed=1,2", "++seed=range(1,4)", "optimizer=sgd", "++optimizer.betas=[1,1]", "++seed=glob(*)"]
)
def test_what_lists_nothing_twice_stays_as_it_is(text: str) -> None:
    assert without_repeats([text]) == ([text], [])


@pytest.mark.parametrize(
    ("sweep", "message"),
    [
        ("seed: [1, -2]", "job 1_seed=-2: seed must be in [0, 9223372036854775807], got -2 (mine.yaml: sweep)"),
        ("optimizer.momentum: [0.1, 0.2]", "momentum belongs to muon, rmsprop, sgd; the optimizer is adamw (mine.yaml: sweep)"),
        ("preset: [none, balaced]", "balanced"),
    ],
)
def test_a_mistake_in_a_files_sweep_names_the_file(
    script: Path, sweep: str, message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    Path("mine.yaml").write_text(f"sweep:\n  {sweep}\n")
    assert run(script, "mine.yaml") == 2
    said = capsys.readouterr().err
    assert message in said
    assert "command line" not in said


def test_the_command_lines_word_on_a_files_key_is_its_own(script: Path, capsys: pytest.CaptureFixture[str]) -> None:
    Path("mine.yaml").write_text("sweep:\n  seed: [1, 2]\n")
    assert run(script, "mine.yaml", "seed=1,-2") == 2
    assert "got -2 (command line)" in capsys.readouterr().err


def test_a_files_sweep_lies_over_preset_and_macros_as_the_command_line_does() -> None:
    Path("mine.yaml").write_text(
        "preset: balanced\nmacro.plasticity: 0.3\nsweep:\n  lambda_ockham: [0.5]\n  learning_rate: [0.25, 0.5]\n"
    )
    files, overrides = configurator.read_files(translate(["mine.yaml", "-m"]))
    config = configurator.laid(files, [text.replace("learning_rate=0.25,0.5", "learning_rate=0.25") for text in overrides]).config
    assert (config.lambda_ockham, config.optimizer.lr) == (0.5, 0.25)


@pytest.mark.parametrize(
    ("asked", "code", "message"),
    [
        (
            "hydra/launcher=submitit_slurm",
            1,
            "launcher submitit_slurm is not installed: pip install hydra-submitit-launcher; there",
        ),
        ("hydra/sweeper=nevergrad", 1, "sweeper nevergrad is not installed: pip install hydra-nevergrad-sweeper; there"),
        ("hydra/launcher=basci", 2, "hydra/launcher must be one of basic, "),
    ],
)
def test_a_launcher_that_is_not_there_is_told_with_its_package(
    script: Path, asked: str, code: int, message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(script, "seed=1,2", asked) == code
    said = capsys.readouterr().err
    assert message in said
    assert len(said.splitlines()) == 1


def test_a_corpus_that_is_not_there_is_found_before_the_first_job(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "data" / "tiny").mkdir(parents=True)
    (tmp_path / "data" / "tiny" / "train.bin").touch()
    assert run(configurator.SCRIPT, f"--data_dir={tmp_path / 'data'}", "dataset=tiny,tniy") == 1
    said = capsys.readouterr()
    assert "job 1_dataset=tniy: there is no corpus 'tniy' (did you mean tiny?)" in said.err
    assert said.out == ""
    assert not Path("out").exists()


# ---------------------------------------- a job's command

WORDS = st.sampled_from(
    ["", "none", "None", "true", "1", "1e-3", "[a]", "{a: 1}", "it's", '"q"', "'q'", "a,b", "a b", "a=b", "${x}", "\\"]
)
TEXT = st.text(st.characters(exclude_categories=("Cs", "Cc")), max_size=12) | WORDS
NUMBERS = st.integers(-(10**6), 10**6) | st.floats(allow_nan=False, allow_infinity=False)
VALUES = {
    "wandb_run_name": TEXT,
    "out_dir": TEXT,
    "seed": st.integers(0, 10**9),
    "dropout": NUMBERS,
    "compile": st.booleans() | st.just("auto"),
    "target_update_rate": st.none() | st.floats(0, 1),
    "optimizer.betas": st.lists(st.floats(0, 1), min_size=2, max_size=2),
    "optimizer.auto_param_groups.no_decay_patterns": st.lists(TEXT, max_size=3),
    "optimizer.momentum": NUMBERS | TEXT | st.none() | st.booleans(),
    "rack.gate.adaptive": st.booleans() | NUMBERS | TEXT,
}
ASSIGNMENTS = st.sampled_from(sorted(VALUES)).flatmap(lambda key: st.tuples(st.just(key), VALUES[key]))


@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(ASSIGNMENTS)
def test_an_override_as_it_is_typed_is_read_as_the_same_value(assignment: tuple[str, Any]) -> None:
    key, value = assignment
    override = f"++{key}={in_hydra(value)}"
    command = translate([as_typed(override)])
    (again,) = map(parse_override, command.overrides)
    before = parse_override(override)
    assert (again.key_or_group, repr(typed_text(again))) == (before.key_or_group, repr(typed_text(before)))


@pytest.mark.parametrize(
    ("override", "typed"),
    [
        ("++device='cpu'", "--device=cpu"),
        ("++seed=1", "--seed=1"),
        ("optimizer='muon'", "--optimizer=muon"),
        ("++optimizer.lr=0.001", "--optimizer.lr=0.001"),
        ("++wandb_run_name='a,b'", "--wandb_run_name=a,b"),
        ("++compile=false", "--compile=False"),
        ("++compile='false'", "--compile='false'"),
        ("++target_update_rate=null", "--target_update_rate=None"),
        ("++optimizer.betas=[0.9,0.95]", "--optimizer.betas=[0.9, 0.95]"),
        ("++wandb_run_name=${dataset}", "wandb_run_name=${dataset}"),  # a reference; with dashes it would be text
    ],
)
def test_a_jobs_command_is_quoted_where_it_must_be_and_nowhere_else(override: str, typed: str) -> None:
    assert as_typed(override) == typed


def test_a_jobs_command_gives_the_config_that_was_planned() -> None:
    argv = [
        "optimizer=muon,sgd",
        "--device=cpu",
        "--wandb_run_name=it's {a,b} ${x}",
        "optimizer.momentum=0.5,0.9",
        "--preset=balanced",
    ]
    command = translate(["-m", *argv])
    for job in configurator.plan_sweep(command):
        again = configurator.resolve([*map(as_typed, job.overrides), f"--out_dir={job.out_dir}"]).config
        assert again == configurator.resolve([*(text.lstrip("+") for text in job.overrides), f"--out_dir={job.out_dir}"]).config


def test_nobody_elses_errors_are_hidden() -> None:
    with pytest.raises(OckhamError):
        as_typed("++seed=(")
