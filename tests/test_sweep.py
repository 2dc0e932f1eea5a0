"""Sweeps: one folder for each job, one exit code for all, and no job started when one of them cannot run."""

from __future__ import annotations

from pathlib import Path

import pytest

from configurator import Provenance, run
from ockham.config import RunConfig
from ockham.configuration import sweep
from ockham.errors import CorpusError


@pytest.fixture(autouse=True)
def _in_an_empty_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("RANK", "WORLD_SIZE"):
        monkeypatch.delenv(name, raising=False)


def collected(*argv: str) -> list[RunConfig]:
    seen: list[RunConfig] = []
    assert run(lambda c, p: seen.append(c), list(argv)) == 0
    return seen


def test_a_sweep_gives_each_job_its_own_folder_and_preset(tmp_path: Path) -> None:
    got = collected("-m", "preset=balanced,none", "seed=1,2", "--out_dir=o", "--dataset=a,b")
    assert [(c.preset, c.seed, c.out_dir) for c in got] == [
        ("balanced", 1, "o/0_preset=balanced,seed=1"), ("balanced", 2, "o/1_preset=balanced,seed=2"),
        ("none", 1, "o/2_preset=none,seed=1"), ("none", 2, "o/3_preset=none,seed=2"),
    ]  # fmt: skip
    assert {c.dataset for c in got} == {"a,b"}
    assert [bool(c.rack) for c in got] == [True, True, False, False]
    assert [p.name for p in tmp_path.iterdir()] == ["o"]


def test_a_sweep_over_groups_and_over_folders() -> None:
    assert [(c.optimizer.name, c.out_dir) for c in collected("-m", "optimizer=glob(*)")] == [
        (name, f"out/{i}_optimizer={name}") for i, name in enumerate(["adam", "adamw", "muon", "sgd"])
    ]
    assert [c.out_dir for c in collected("-m", "out_dir=a,b")] == ["a", "b"]


def test_a_failed_job_gives_the_sweeps_exit_code_and_the_others_run(capsys: pytest.CaptureFixture[str]) -> None:
    seen: list[int] = []

    def main(c: RunConfig, p: Provenance) -> None:
        seen.append(c.seed)
        if c.seed == 1:
            raise CorpusError("no corpus here")

    assert run(main, ["-m", "seed=1,2"]) == 1
    assert seen == [1, 2]
    assert capsys.readouterr().err == "error: no corpus here\n"


def test_ctrl_c_ends_the_sweep() -> None:
    seen: list[int] = []

    def main(c: RunConfig, p: Provenance) -> None:
        seen.append(c.seed)
        raise KeyboardInterrupt

    assert run(main, ["-m", "seed=1,2"]) == 130
    assert seen == [1]


def test_a_sweep_under_torchrun_is_refused(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setenv("WORLD_SIZE", "2")
    assert run(lambda c, p: None, ["-m", "seed=1,2"]) == 2
    assert "torchrun" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (["preset=none,blanced"], r"job 1_preset=blanced: .*balanced"),
        (["seed=1,-2"], r"job 1_seed=-2: seed must be in [0, 9223372036854775807], got -2 (command line); no job was started"),
        (["optimizer=adamw,muonn"], r"optimizer must be one of adam, adamw, muon, sgd, got 'muonn' (command line) (did you mean"),
        (["optimizer=adamw,sgd", "--beta2=0.9"], r"job 1_optimizer=sgd: beta2 belongs to adam, adamw, muon"),
        (["seed=1,2", "out_dir=a,b"], r"job 2_seed=2,out_dir=a: out_dir a is that of job 0_seed=1,out_dir=a too"),
        (["seed=1,2", "scheduler.name=linear,consin"], r"scheduler must be one of"),
    ],
)
def test_a_mistake_in_any_job_is_found_before_the_first_starts(
    argv: list[str], message: str, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    assert run(lambda c, p: pytest.fail("ran"), ["-m", *argv]) == 2
    said = capsys.readouterr()
    for part in message.split(".*"):
        assert part in said.err
    assert len(said.err.splitlines()) == 1
    assert said.out == ""
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_holds_a_run_stops_the_sweep_unless_it_may_be_replaced(capsys: pytest.CaptureFixture[str]) -> None:
    old = Path("out/1_seed=2")
    old.mkdir(parents=True)
    (old / "journal.jsonl").touch()
    assert run(lambda c, p: pytest.fail("ran"), ["-m", "seed=1,2"]) == 2
    assert "job 1_seed=2: out_dir out/1_seed=2 already holds a run" in capsys.readouterr().err
    for more in ("--overwrite", "--init_from=resume", "--dry_run"):
        (old / "config.yaml").touch()
        assert len(collected("-m", "seed=1,2", more)) == 2


def test_a_runs_files_are_those_of_the_trainer(tmp_path: Path) -> None:
    rundir = pytest.importorskip("ockham.rundir")
    assert not rundir.holds_run(tmp_path)
    for name in sweep.SIGNS_OF_A_RUN:
        (tmp_path / name).touch()
        assert rundir.holds_run(tmp_path)
        (tmp_path / name).unlink()


def test_another_launcher_is_not_rehearsed() -> None:
    assert sweep.can_rehearse(["++seed=1,2", "optimizer=sgd"])
    assert not sweep.can_rehearse(["++seed=1,2", "hydra/launcher=joblib"])
