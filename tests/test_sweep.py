"""Sweeps: a process and a folder for each job, one exit code for all, and no job started when one of them cannot run."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml
from job_scripts import stand_in, wait_for

import configurator
from configurator import resolve
from ockham.configuration import sweep
from ockham.configuration.command import translate
from ockham.configuration.files import CONFIG_DIR, read_config
from ockham.errors import ConfigError

ROOT = Path(__file__).resolve().parents[1]
JOBLIB = "hydra/launcher=joblib"
# A program that reads its command line as train_ockham.py does, and writes down what it was asked.
PROGRAM = f"""
import json, os, sys
from pathlib import Path
sys.path.insert(0, {str(ROOT)!r})
import configurator

def main(config, provenance):
    out = Path(config.out_dir)
    out.mkdir(parents=True, exist_ok=True)
    said = {{"rack": len(config.rack), "optimizer": config.optimizer.type, "name": config.wandb_run_name}}
    (out / "config.yaml").write_text(configurator.config_as_yaml(config, provenance))
    (out / "summary.json").write_text(json.dumps(said))

if __name__ == "__main__":
    code = configurator.run(main, script=Path(__file__))
    assert "torch" not in sys.modules, "slow start"
    sys.exit(code)
"""


@pytest.fixture(autouse=True)
def _in_an_empty_folder(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path_factory.mktemp("cwd"))
    for name in ("RANK", "WORLD_SIZE"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def script(tmp_path: Path) -> Path:
    return stand_in(tmp_path)


def run(script: Path, *argv: str) -> int:
    return configurator.run(lambda c, p: pytest.fail("ran in the sweep's own process"), list(argv), script)


def planned(*argv: str) -> list[sweep.Planned]:
    """The jobs of a sweep, none of them started."""
    return configurator.plan_sweep(translate([*argv, *["-m"] * ("-m" not in argv)]))


def record(folder: str = "out") -> list[dict[str, Any]]:
    jobs: list[dict[str, Any]] = json.loads((Path(folder) / "sweep.json").read_text())["jobs"]
    return jobs


def statuses(folder: str = "out") -> dict[str, str]:
    return {job["name"]: job["status"] for job in record(folder)}


def parent(script: Path, *argv: str) -> subprocess.Popen[str]:
    """A sweep in a process and a process group of its own, as a terminal starts it."""
    code = f"import sys, configurator, pathlib; sys.exit(configurator.run(None, sys.argv[1:], pathlib.Path({str(script)!r})))"
    return subprocess.Popen(
        [sys.executable, "-c", code, "-m", *argv],
        env={**os.environ, "PYTHONPATH": str(ROOT)}, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, process_group=0,
    )  # fmt: skip


# ---------------------------------------- jobs


def test_each_job_has_a_process_and_a_folder_of_its_own(script: Path, capfd: pytest.CaptureFixture[str]) -> None:
    assert run(script, "-m", "preset=balanced,none", "seed=1,2", "--out_dir=o", "--wandb_run_name=a,b") == 0
    names = ["0_preset=balanced,seed=1", "1_preset=balanced,seed=2", "2_preset=none,seed=1", "3_preset=none,seed=2"]
    assert [(job["name"], job["out_dir"], job["status"]) for job in record("o")] == [(n, f"o/{n}", "done") for n in names]
    pids = {json.loads(Path("o", name, "summary.json").read_text())["pid"] for name in names}
    assert len(pids | {os.getpid()}) == 5
    assert sorted(path.name for path in Path().iterdir()) == ["o"]
    assert json.loads(Path("o", names[0], "argv.json").read_text()) == [
        "--preset=balanced", "--seed=1", "--wandb_run_name=a,b", f"--out_dir=o/{names[0]}",
    ]  # fmt: skip
    out = capfd.readouterr().out
    assert [line for line in out.splitlines() if line.startswith("job 0")] == ["job 0_preset=balanced,seed=1"]
    assert f"trained o/{names[3]}" in out


def test_a_sweep_over_groups_and_over_folders(script: Path) -> None:
    assert [job.out_dir for job in planned("optimizer=glob(s*)")] == ["out/0_optimizer=sgd"]
    assert run(script, "-m", "out_dir=a,b") == 0
    assert [job["out_dir"] for job in record("multirun")] == ["a", "b"]


def test_a_job_reads_its_arguments_as_the_sweep_did_and_torch_is_not_loaded(tmp_path: Path) -> None:
    program = tmp_path / "program.py"
    program.write_text(PROGRAM)
    Path("mine.py").write_text("out_dir = 'o'\nmax_iters = 7\n")
    argv = ["mine.py", "preset=balanced,none", "--optimizer=sgd", "-m", "--wandb_run_name=it's {a,b} ${x}", "--learning_rate=0.5"]
    done = subprocess.run([sys.executable, program, *argv], capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    for name, rack in (("0_preset=balanced", True), ("1_preset=none", False)):
        said = json.loads(Path("o", name, "summary.json").read_text())
        assert (bool(said["rack"]), said["optimizer"], said["name"]) == (rack, "SGD", "it's {a,b} ${x}")
        config = yaml.safe_load(Path("o", name, "config.yaml").read_text())
        assert (config["out_dir"], config["max_iters"], config["optimizer"]["lr"]) == (f"o/{name}", 7, 0.5)


def test_failed_and_killed_jobs_leave_the_others_running(script: Path, capfd: pytest.CaptureFixture[str]) -> None:
    assert run(script, "-m", "dataset=fail,kill,good") == 1
    jobs = record()
    assert [(job["status"], job["exit_code"]) for job in jobs] == [("failed", 1), ("killed by SIGKILL", -9), ("done", 0)]
    assert (jobs[0]["error"], jobs[2]["val_loss"], jobs[2]["best_val_loss"]) == ("no corpus here", 1.5, 1.25)
    assert (jobs[2]["updates"], jobs[2]["compute_units"], jobs[2]["overrides"]) == (5, 15.0, ["dataset=good"])
    said = capfd.readouterr()
    assert said.err == "error: no corpus here\n"
    assert "1_dataset=kill  killed by SIGKILL" in said.out


def test_a_sweep_under_torchrun_is_refused(
    script: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("WORLD_SIZE", "2")
    assert run(script, "-m", "seed=1,2") == 2
    assert "torchrun" in capsys.readouterr().err


@pytest.mark.parametrize("quiet", ["--dry_run", "--eval_only"])
def test_a_sweep_that_writes_nothing_leaves_no_record(script: Path, quiet: str) -> None:
    assert run(script, "-m", "dataset=good,fail", quiet) == 1
    assert sorted(path.name for path in Path().rglob("*.json")) == ["argv.json", "argv.json", "summary.json"]


# ---------------------------------------- mistakes


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (["preset=none,blanced"], r"job 1_preset=blanced: .*balanced"),
        (["seed=1,-2"], r"job 1_seed=-2: seed must be in [0, 9223372036854775807], got -2 (command line); no job was started"),
        (["seed=1,-2", JOBLIB, "hydra.launcher.n_jobs=2"], r"job 1_seed=-2: seed must be in"),
        (["optimizer=adamw,muonn"], r"optimizer must be one of .*, got 'muonn' (command line) (did you mean"),
        (["optimizer=adamw,sgd", "--beta2=0.9"], r"job 1_optimizer=sgd: beta2 belongs to adam, adamw"),
        (["seed=1,2", "out_dir=a,b"], r"job 2_seed=2,out_dir=a: out_dir a is that of job 0_seed=1,out_dir=a too"),
        (["seed=1,2", "scheduler.name=linear,consin"], r"scheduler must be one of"),
    ],
)
def test_a_mistake_in_any_job_is_found_before_the_first_starts(
    argv: list[str], message: str, script: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(script, "-m", *argv) == 2
    said = capsys.readouterr()
    for part in message.split(".*"):
        assert part in said.err
    assert len(said.err.splitlines()) == 1
    assert said.out == ""
    assert list(Path().iterdir()) == []


def test_a_folder_that_holds_a_run_stops_the_sweep_unless_it_may_be_replaced(
    script: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    old = Path("out/1_seed=2")
    old.mkdir(parents=True)
    (old / "journal.jsonl").touch()
    assert run(script, "-m", "seed=1,2") == 2
    assert "job 1_seed=2: out_dir out/1_seed=2 already holds a run" in capsys.readouterr().err
    assert not Path("out/0_seed=1").exists()
    for more in ("--dry_run", "--eval_only", "--overwrite"):
        assert len(planned("seed=1,2", more)) == 2


def test_a_runs_files_are_those_of_the_trainer(tmp_path: Path) -> None:
    rundir = pytest.importorskip("ockham.rundir")
    assert not rundir.holds_run(tmp_path)
    for name in sweep.SIGNS_OF_A_RUN:
        (tmp_path / name).touch()
        assert rundir.holds_run(tmp_path)
        (tmp_path / name).unlink()


def test_another_launcher_is_rehearsed_and_another_sweeper_is_not() -> None:
    assert sweep.own_sweeper(["++seed=1,2", "optimizer=sgd", JOBLIB])
    assert not sweep.own_sweeper(["++seed=1,2", "hydra/sweeper=optuna"])
    assert sweep.rehearsed(["++seed=1,2", JOBLIB, "hydra.launcher.n_jobs=2"]) == ["++seed=1,2", "hydra/launcher=basic"]


# ---------------------------------------- resume


def test_a_sweep_is_resumed_job_by_job(script: Path, capfd: pytest.CaptureFixture[str]) -> None:
    assert run(script, "-m", "dataset=good,fail,kill", "seed=1") == 1
    pid = json.loads(Path("out/0_dataset=good/summary.json").read_text())["pid"]
    Path("out/1_dataset=fail/last.pt").touch()
    Path("out/1_dataset=fail/config.yaml").touch()
    Path("out/2_dataset=kill/journal.jsonl").touch()  # killed before its first checkpoint
    capfd.readouterr()
    assert run(script, "-m", "dataset=good,fail,kill", "seed=1", "--init_from=resume") == 1
    told = [line for line in capfd.readouterr().out.splitlines() if line.startswith("job ") and "status" not in line]
    assert told == ["job 0_dataset=good: done, left as it is", "job 1_dataset=fail: resumed", "job 2_dataset=kill"]
    argv = {name: json.loads(Path("out", name, "argv.json").read_text()) for name in statuses()}
    assert "--init_from=resume" in argv["1_dataset=fail"]
    assert not any("init_from" in arg for arg in argv["2_dataset=kill"])
    assert "--overwrite=True" in argv["2_dataset=kill"]
    assert json.loads(Path("out/0_dataset=good/summary.json").read_text())["pid"] == pid
    assert list(statuses().values()) == ["done", "failed", "killed by SIGKILL"]


def resumable(folder: str) -> None:
    """What a run leaves that the stand-in does not."""
    Path(folder, "last.pt").touch()
    Path(folder, "config.yaml").write_text("")


def last_told(capfd: pytest.CaptureFixture[str]) -> list[str]:
    return [line for line in capfd.readouterr().out.splitlines() if line.startswith("job ") and "status" not in line]


def test_a_finished_sweep_goes_on_when_it_is_asked_for_more_iterations(script: Path, capfd: pytest.CaptureFixture[str]) -> None:
    assert run(script, "-m", "seed=1,2", "--max_iters=6") == 0
    for folder in ("out/0_seed=1", "out/1_seed=2"):
        resumable(folder)
    for iters, told in (
        (9, ["job 0_seed=1: resumed", "job 1_seed=2: resumed"]),
        (9, 2 * ["left as it is"]),
        (8, 2 * ["left as"]),
    ):
        capfd.readouterr()
        assert run(script, "-m", "seed=1,2", f"--max_iters={iters}", "--init_from=resume") == 0
        assert all(part in line for part, line in zip(told, last_told(capfd), strict=True))
    assert json.loads(Path("out/1_seed=2/summary.json").read_text())["iters"] == 9


def test_a_finished_sweep_goes_on_when_it_is_asked_for_more_epochs(script: Path, capfd: pytest.CaptureFixture[str]) -> None:
    assert run(script, "-m", "seed=1,2", "--epochs=1") == 0
    for folder in ("out/0_seed=1", "out/1_seed=2"):
        resumable(folder)
        Path(folder, "config.yaml").write_text("epochs: 1.0\nmax_iters: 600000\n")
    ways = [job.way for epochs in (1, 2, 0.5) for job in planned("seed=1,2", f"--epochs={epochs}", "--init_from=resume")]
    assert ways == ["done", "done", "resume", "resume", "done", "done"]


def test_a_job_keeps_its_folder_when_a_sweep_is_widened_or_cut(script: Path, capfd: pytest.CaptureFixture[str]) -> None:
    assert run(script, "-m", "seed=3", "optimizer=sgd", "max_iters=6") == 0
    assert list(statuses()) == ["0_seed=3,optimizer=sgd"]
    resumable("out/0_seed=3,optimizer=sgd")
    capfd.readouterr()
    assert run(script, "-m", "seed=1,2,3", "optimizer=sgd", "max_iters=6", "--init_from=resume") == 0
    assert last_told(capfd) == ["job 0_seed=1", "job 1_seed=2", "job 0_seed=3,optimizer=sgd: done, left as it is"]
    assert run(script, "-m", "seed=2", "max_iters=6", "--init_from=resume") == 0
    assert last_told(capfd) == ["job 1_seed=2: done, left as it is"]
    assert [job.name for job in planned("seed=2")] == ["0_seed=2"]  # a new one is not looked for


def test_a_sweep_of_one_is_named_by_what_was_written_as_a_sweep_is() -> None:
    Path("mine.yaml").write_text("sweep:\n  seed: [3]\n")
    assert [job.name for job in planned("mine.yaml", "--n_layer=3", "out_dir=o")] == ["0_seed=3"]
    assert [job.name for job in planned("--seed=3")] == ["0"]


def test_weights_without_a_state_to_resume_are_not_overwritten(script: Path, capsys: pytest.CaptureFixture[str]) -> None:
    old = Path("out/0_seed=1")
    old.mkdir(parents=True)
    for name in ("ckpt.pt", "journal.jsonl"):
        (old / name).touch()
    assert run(script, "-m", "seed=1,2", "--init_from=resume") == 2
    assert "job 0_seed=1: out_dir out/0_seed=1 already holds a run" in capsys.readouterr().err


# ---------------------------------------- signals, launchers


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_the_job_that_runs_and_the_sweep(script: Path, number: signal.Signals) -> None:
    process = parent(script, "dataset=good,wait,bad")
    wait_for(Path("out/1_dataset=wait/waits"))
    process.send_signal(number)
    out, _ = process.communicate(timeout=30)
    assert process.returncode == 128 + number
    assert Path("out/1_dataset=wait/last.pt").exists()
    assert list(statuses().values()) == ["done", "interrupted", "not started"]
    assert "2_dataset=bad   not started" in out


def test_joblib_runs_jobs_side_by_side_and_a_signal_ends_them(script: Path) -> None:
    process = parent(script, "dataset=wait", "seed=1,2,3", JOBLIB, "hydra.launcher.n_jobs=2")
    wait_for(Path("out/0_seed=1/waits"), Path("out/1_seed=2/waits"))
    process.send_signal(signal.SIGTERM)  # to the parent alone
    process.communicate(timeout=30)
    assert process.returncode == 143
    assert list(statuses().values()) == ["interrupted", "interrupted", "not started"]
    assert Path("out/1_seed=2/last.pt").exists()


def test_ctrl_c_to_all_of_joblibs_processes_lets_the_jobs_save(script: Path) -> None:
    process = parent(script, "dataset=wait", "seed=1,2", JOBLIB, "hydra.launcher.n_jobs=4")  # two workers have nothing to do
    wait_for(Path("out/0_seed=1/waits"), Path("out/1_seed=2/waits"))
    os.killpg(process.pid, signal.SIGINT)
    process.communicate(timeout=30)
    assert process.returncode == 130
    assert statuses() == {"0_seed=1": "interrupted", "1_seed=2": "interrupted"}
    assert all(Path("out", name, "last.pt").exists() for name in statuses())


@pytest.mark.usefixtures("fresh_workers")
def test_joblibs_jobs_are_recorded_as_others_are(script: Path) -> None:
    assert run(script, "-m", "dataset=good,kill,fail", JOBLIB, "hydra.launcher.n_jobs=2") == 1
    assert list(statuses().values()) == ["done", "killed by SIGKILL", "failed"]


def test_jobs_that_a_sweeper_makes_up_are_looked_at_one_by_one(
    script: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(configurator, "own_sweeper", lambda overrides: False)  # Hydra's own stands in for another
    assert run(script, "-m", "seed=1,-2") == 1
    assert [(job["name"], job["status"], job["exit_code"]) for job in record()] == [("0_seed=1", "done", 0), ("1", "failed", 2)]
    assert capfd.readouterr().err.startswith("error: job 1: seed must be in")


# ---------------------------------------- sweeps in files


def overrides(text: str, *argv: str, name: str = "mine.yaml") -> list[str]:
    Path(name).write_text(text)
    return configurator.read_files(translate([name, *argv]))[1]


def test_a_file_may_hold_a_sweep() -> None:
    text = "seed: 3\nsweep:\n  optimizer: [adamw, sgd]\n  learning_rate: [1e-3, 3e-4]\n  max_iters: range(1,4)\n"
    assert overrides(text, "-m") == ["optimizer='adamw','sgd'", "++learning_rate=0.001,0.0003", "++max_iters=range(1,4)"]
    assert overrides("sweep = {'seed': (1, 2)}", "-m", name="mine.py") == ["++seed=1,2"]


def test_the_command_line_wins_over_a_files_sweep_by_any_name_of_the_key() -> None:
    text = "sweep:\n  optimizer: [adamw, sgd]\n  learning_rate: [1e-3, 3e-4]\n"
    assert overrides(text, "-m", "optimizer.name=adam", "optimizer.lr=1,2") == ["++optimizer.name=adam", "++optimizer.lr=1,2"]
    assert overrides(text, "optimizer=adam", "--learning_rate=1") == ["optimizer=adam", "++learning_rate=1"]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("sweep: {seed: [1, 2]}", r"mine.yaml holds a sweep: add -m for one run each, or give seed one value"),
        ("sweep: [1]", r"mine.yaml: sweep must hold key: \[value, ...\] lines, got a list"),
        ("sweep: {seed: 3}", r"mine.yaml: sweep: seed must be a list of values, or text such as 'range\(1,4\)', got 3"),
        ("sweep: {sede: [1]}", r"unknown key sede \(mine.yaml: sweep\) \(did you mean seed\?\)"),
        ("sweep: {optimizer: [adamw, sdg]}", r"optimizer must be one of .*got 'sdg' \(mine.yaml: sweep\)"),
    ],
)
def test_a_files_sweep_that_cannot_be_used_is_named(text: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        overrides(text)
    if "holds" in message:
        with pytest.raises(ConfigError, match=message):
            resolve(["mine.yaml"])


def test_a_sweep_in_a_file_runs_and_its_jobs_get_the_file_too(script: Path) -> None:
    Path("mine.yaml").write_text("out_dir: o\nsweep:\n  dataset: [good, fail]\n")
    assert run(script, "mine.yaml", "-m") == 1
    assert statuses("o") == {"0_dataset=good": "done", "1_dataset=fail": "failed"}
    assert json.loads(Path("o/0_dataset=good/argv.json").read_text())[0] == "mine.yaml"


SWEEPS = sorted((CONFIG_DIR / "experiment" / "optimizer_sweeps").glob("*.yaml"))
SPEC = {  # section 8 of the optimizer contract, and what else it promises to be swept
    "lr_and_weight_decay": 9,
    "optimizers_at_one_schedule": 3,
    "schedules": 4,
    "seeds": 3,
    "stability_with_lookahead": 2,
}


@pytest.mark.parametrize("path", SWEEPS, ids=lambda path: path.stem)
def test_the_sweeps_of_the_checkout_can_run_and_state_their_number_of_jobs(path: Path) -> None:
    jobs = planned(str(path))
    assert len(jobs) == SPEC[path.stem]
    comment = "\n".join(line for line in path.read_text().splitlines() if line.startswith("#"))
    assert f"{len(jobs)} jobs" in comment
    assert f"config/experiment/optimizer_sweeps/{path.name} -m" in comment
    assert "sweep" in read_config(str(path))


@pytest.mark.parametrize(
    ("argv", "count"),
    [
        ("-m optimizer=adamw optimizer.lr=1e-4,3e-4,1e-3 optimizer.weight_decay=0.0,0.01,0.02", 9),
        ("optimizer=adamw,adam,sgd scheduler.name=cosine scheduler.warmup_steps=500 scheduler.min_lr=1e-6 -m", 3),
        ("optimizer=sgd optimizer.lookahead.enabled=true scheduler=onecycle -m seed=1,2,3", 3),
        ("-m", 1),
    ],
)
def test_the_contracts_sweeps_are_understood_as_they_stand(argv: str, count: int) -> None:
    assert len(planned(*argv.split())) == count


def test_every_sweep_of_the_contract_has_a_file() -> None:
    assert {path.stem for path in SWEEPS} == set(SPEC)
