"""A job is a process of its own: how it ends is known, and it is told to stop once and waited for."""

from __future__ import annotations

import dataclasses
import io
import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from job_scripts import stand_in, wait_for
from rich.console import Console

from ockham.experiment import jobs
from ockham.experiment.jobs import Job, Outcome, read_outcome, run_job, table
from ockham.experiment.parent import STARTED_BY, end_with_parent

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture
def script(tmp_path: Path) -> Path:
    return stand_in(tmp_path)


def job(tmp_path: Path, what: str) -> Job:
    out_dir = tmp_path / what
    return Job(what, out_dir, (f"dataset={what}", f"out_dir='{out_dir}'"))


def test_a_job_is_a_process_of_its_own_and_its_outcome_is_kept(tmp_path: Path, script: Path) -> None:
    outcome = run_job(job(tmp_path, "good"), poll_s=0.05, script=script)
    assert (outcome.status, outcome.exit_code, outcome.error) == ("done", 0, None)
    assert outcome.summary["val_loss"] == 1.5
    assert outcome.summary["pid"] != os.getpid()
    assert outcome.seconds > 0
    assert read_outcome(tmp_path / "good") == outcome


def test_a_failed_job_has_its_error_line_and_the_terminal_sees_it(
    tmp_path: Path, script: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    outcome = run_job(job(tmp_path, "fail"), poll_s=0.05, script=script)
    assert (outcome.status, outcome.exit_code, outcome.error) == ("failed", 1, "no corpus here")
    assert capsys.readouterr().err == "error: no corpus here\n"


def test_a_killed_job_is_named_with_its_signal(tmp_path: Path, script: Path) -> None:
    outcome = run_job(job(tmp_path, "kill"), poll_s=0.05, script=script)
    assert (outcome.status, outcome.exit_code) == ("killed by SIGKILL", -9)
    assert read_outcome(tmp_path / "kill") == outcome


def test_a_quiet_job_writes_to_its_log(tmp_path: Path, script: Path, capfd: pytest.CaptureFixture[str]) -> None:
    for what in ("good", "fail"):
        outcome = run_job(job(tmp_path, what), poll_s=0.05, quiet=True, script=script)
    assert outcome.error == "no corpus here"
    assert (tmp_path / "fail" / "job.log").read_text() == "error: no corpus here\n"
    assert "trained" in (tmp_path / "good" / "job.log").read_text()
    assert capfd.readouterr() == ("", "")


def test_a_watch_that_says_so_stops_a_job_which_then_saves(tmp_path: Path, script: Path) -> None:
    started = tmp_path / "wait" / "waits"
    outcome = run_job(job(tmp_path, "wait"), watch=started.exists, poll_s=0.05, script=script)
    assert (outcome.status, outcome.exit_code) == ("interrupted", 143)
    assert (tmp_path / "wait" / "last.pt").exists()


def test_a_job_that_does_not_hear_is_killed(tmp_path: Path, script: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(jobs, "GRACE_S", 0.2)
    outcome = run_job(job(tmp_path, "deaf"), watch=(tmp_path / "deaf" / "waits").exists, poll_s=0.05, script=script)
    assert outcome.status == "killed by SIGKILL"


def test_figures_of_an_earlier_session_are_not_a_jobs_own(tmp_path: Path, script: Path) -> None:
    out_dir = tmp_path / "fail"
    out_dir.mkdir()
    (out_dir / "summary.json").write_text('{"val_loss": 0.1}')
    assert run_job(job(tmp_path, "fail"), poll_s=0.05, script=script).summary == {}


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_goes_on_to_the_job_once_and_it_is_waited_for(tmp_path: Path, script: Path, number: signal.Signals) -> None:
    handler = signal.getsignal(number)

    def tell() -> None:
        wait_for(tmp_path / "wait" / "waits")
        os.kill(os.getpid(), number)

    threading.Thread(target=tell).start()
    with pytest.raises(SystemExit) as stop:
        run_job(job(tmp_path, "wait"), poll_s=0.05, script=script)
    outcome = read_outcome(tmp_path / "wait")
    assert outcome is not None
    assert stop.value.code == outcome.exit_code == 128 + number
    assert (tmp_path / "wait" / "last.pt").exists()
    assert signal.getsignal(number) is handler


def test_the_second_signal_kills_the_job(tmp_path: Path, script: Path) -> None:
    def tell() -> None:
        wait_for(tmp_path / "deaf" / "waits")
        os.kill(os.getpid(), signal.SIGINT)
        threading.Event().wait(0.3)
        os.kill(os.getpid(), signal.SIGINT)

    threading.Thread(target=tell).start()
    with pytest.raises(KeyboardInterrupt):
        run_job(job(tmp_path, "deaf"), poll_s=0.05, script=script)
    outcome = read_outcome(tmp_path / "deaf")
    assert outcome is not None
    assert outcome.status == "killed by SIGKILL"


SWEEP = """
import sys
from pathlib import Path
from ockham.experiment.jobs import Job, run_job
out = Path(sys.argv[2])
run_job(Job("wait", out, ("dataset=wait", f"out_dir='{out}'")), script=Path(sys.argv[1]))
"""


@pytest.mark.skipif(sys.platform != "linux", reason="Linux alone tells a process that its parent has died")
def test_a_job_saves_and_ends_when_what_started_it_is_killed(tmp_path: Path, script: Path) -> None:
    text = script.read_text()
    script.write_text(f"import sys; sys.path.insert(0, {str(ROOT)!r})\n" + text.replace(
        "    (out / \"waits\").touch()",
        "    from ockham.experiment.parent import end_with_parent\n    end_with_parent()\n    (out / \"waits\").touch()",
    ))  # fmt: skip
    parent = subprocess.Popen([sys.executable, "-c", SWEEP, str(script), str(tmp_path / "out")], cwd=ROOT)
    wait_for(tmp_path / "out" / "waits")
    parent.kill()
    parent.wait()
    wait_for(tmp_path / "out" / "last.pt")


def test_a_process_that_nobody_started_as_a_job_is_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(STARTED_BY, "1")  # inherited: another process is the job
    end_with_parent()
    assert STARTED_BY not in os.environ


def test_an_outcome_that_is_missing_or_torn_is_none(tmp_path: Path) -> None:
    assert read_outcome(tmp_path) is None
    (tmp_path / "job.json").write_text('{"name": "x"')
    assert read_outcome(tmp_path) is None


@pytest.mark.parametrize(
    ("code", "status"),
    [
        *[(None, "not started"), (0, "done"), (1, "failed"), (2, "failed"), (130, "interrupted"), (143, "interrupted")],
        *[(-15, "interrupted"), (-9, "killed by SIGKILL"), (-11, "killed by SIGSEGV"), (-99, "killed by signal 99")],
    ],
)
def test_the_exit_code_gives_the_status(code: int | None, status: str) -> None:
    assert Outcome("x", "o", [], code).status == status


def test_the_table_shows_figures_and_errors() -> None:
    good = Outcome("0_seed=1", "o", [], 0, 12.3, None, {"val_loss": 1.23456, "updates": 2000, "compute_units": 6000.0})
    bad = Outcome("1_seed=2", "o", [], 1, 0.4, "seed must be in [0, 9]")
    text = io.StringIO()
    Console(file=text, width=120).print(table([good, bad, dataclasses.replace(good, name="2_seed=3", exit_code=None)]))
    rows = [line.split() for line in text.getvalue().splitlines()]
    assert rows[1] == ["0_seed=1", "done", "1.2346", "2,000", "6,000", "12.3", "s"]
    assert rows[2] == ["1_seed=2", "failed", "0.4", "s", "seed", "must", "be", "in", "[0,", "9]"]
    assert rows[3][:3] == ["2_seed=3", "not", "started"]


def test_what_starts_jobs_loads_no_torch() -> None:
    code = "import sys, ockham.experiment.jobs, ockham.experiment.sweep; assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True, timeout=30)
