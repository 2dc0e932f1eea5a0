"""A training job as a process of its own: started, watched, told to stop, and how it ended.

Nothing here imports torch, so that what starts many jobs stays small.
"""

from __future__ import annotations

import dataclasses
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import IO, Any

from rich.markup import escape
from rich.table import Table

from ..files import write_text
from .parent import environment

SCRIPT = Path(__file__).resolve().parents[2] / "train_ockham.py"
RECORD, LOG = "job.json", "job.log"
STOPPING = tuple(getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name))
STOPPED = tuple(code for number in STOPPING for code in (-number, 128 + number))  # exit codes of a job that was told to stop
GRACE_S = 30.0  # what a job that is stopped has for its last save
DRAIN_S = 2.0  # a grandchild may hold stderr open after the job has ended


@dataclass(frozen=True)
class Job:
    """One process to be started. `argv` is what the script gets, its out_dir included."""

    name: str  # "0_seed=1"
    out_dir: Path
    argv: tuple[str, ...]


@dataclass(frozen=True)
class Outcome:
    """How a job ended; out_dir/job.json holds the same."""

    name: str
    out_dir: str
    argv: list[str]
    exit_code: int | None = None  # None = never started; negative = killed by that signal, as subprocess has it
    seconds: float = 0.0  # wall time of the process
    error: str | None = None  # its last "error: ..." line, without that word
    summary: dict[str, Any] = dataclasses.field(default_factory=dict)  # the summary.json that it wrote

    @property
    def status(self) -> str:
        """done, stopped (max_hours), failed, interrupted (told to stop), killed by SIGKILL (or another signal), not started."""
        if self.exit_code is None:
            return "not started"
        if self.exit_code in STOPPED:
            return "interrupted"
        if self.exit_code < 0:
            return f"killed by {signal_name(-self.exit_code)}"
        if self.exit_code:
            return "failed"
        stopped_by = self.summary.get("stopped_by")
        return f"stopped ({stopped_by})" if stopped_by else "done"

    @property
    def shown(self) -> str:
        """The status, and whether the run went back once after non-finite steps: its figures are not those of a calm run."""
        return self.status + ", rolled back" * bool(self.summary.get("rolled_back"))


def run_job(
    job: Job,
    watch: Callable[[], bool] | None = None,
    poll_s: float = 0.5,
    quiet: bool = False,
    script: Path = SCRIPT,
    record: Path | None = None,
) -> Outcome:
    """Start `script` with the job's argv, wait for it, and write how it ended to `record` (default: out_dir/job.json).

    A job that reads its command line with `configurator` ends with this process, even where that is killed (`parent`).
    `watch` is asked every `poll_s` seconds; True stops the job: SIGTERM, upon which training saves and exits with 143, and
    SIGKILL after GRACE_S. `quiet` sends its output to out_dir/job.log. A SIGINT, SIGTERM or SIGHUP that reaches this process
    goes on to the job once; when the job has ended and its outcome is written, SystemExit(128 + signal) is raised, so that no
    further job starts. A second signal kills the job and raises KeyboardInterrupt.
    """
    record = record or job.out_dir / RECORD
    record.unlink(missing_ok=True)
    summary = job.out_dir / "summary.json"
    before, began = _stamp(summary), time.monotonic()
    with Signals() as signals, _output(job, quiet) as (out, err):
        process = subprocess.Popen(
            [sys.executable, str(script), *job.argv],
            stdin=subprocess.DEVNULL, stdout=out, stderr=subprocess.PIPE, text=True, errors="replace", process_group=0,
            env=environment(),
        )  # fmt: skip
        ear = Ear(process.stderr, err)
        try:
            _wait(process, watch, poll_s, signals)
        finally:
            ear.join(DRAIN_S)
            seconds = time.monotonic() - began
            figures = read_json(summary) if _stamp(summary) != before else {}  # those of an earlier session are not its own
            outcome = Outcome(job.name, str(job.out_dir), list(job.argv), process.returncode, seconds, ear.error, figures)
            write_outcome(outcome, record)
    if signals.first:
        raise SystemExit(128 + signals.first)
    return outcome


def _wait(process: subprocess.Popen[str], watch: Callable[[], bool] | None, poll_s: float, signals: Signals) -> None:
    """Until the process has ended; a signal, or a watch that says so, stops it, once."""
    is_told, deadline = False, float("inf")
    try:
        while True:
            try:
                process.wait(poll_s)
                return
            except subprocess.TimeoutExpired:
                pass
            if not is_told and signals.first:
                is_told = True
                process.send_signal(signals.first)
            elif not is_told and watch and watch():
                is_told, deadline = True, time.monotonic() + GRACE_S
                process.terminate()
            elif time.monotonic() > deadline:
                os.killpg(process.pid, signal.SIGKILL)
    except BaseException:  # the second signal, or a watch that failed: nobody would wait for the job any more
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        raise


@contextmanager
def _output(job: Job, quiet: bool) -> Iterator[tuple[IO[str] | None, IO[str]]]:
    """Where the job's stdout and stderr go: the terminal, or both to job.log."""
    if not quiet:
        yield None, sys.stderr
        return
    job.out_dir.mkdir(parents=True, exist_ok=True)
    with open(job.out_dir / LOG, "a", encoding="utf-8") as log:
        yield log, log


class Ear(threading.Thread):
    """Passes a process's stderr on, line by line, and keeps the last `error: ...`."""

    def __init__(self, source: IO[str] | None, target: IO[str]):
        super().__init__(daemon=True)
        self.source, self.target = source, target
        self.error: str | None = None
        self.start()

    def run(self) -> None:
        """Until the last writer has closed it."""
        assert self.source is not None
        with self.source:
            for line in self.source:
                if line.startswith("error: "):
                    self.error = line.removeprefix("error: ").strip()
                with suppress(OSError, ValueError):  # nobody reads any more; the job must not stop for that
                    self.target.write(line)
                    self.target.flush()


class Signals:
    """Remembers the first SIGINT, SIGTERM or SIGHUP, while in force; the second raises KeyboardInterrupt.

    Handlers belong to the main thread; elsewhere this does nothing. Signals that were held back (`held_back`) get through.
    """

    def __init__(self, heard: Callable[[int], object] = lambda number: None):
        self.first: int | None = None
        self.heard = heard

    def __enter__(self) -> Signals:
        self.before: dict[int, Any] = {}
        if threading.current_thread() is threading.main_thread():
            self.before = {number: signal.signal(number, self._hear) for number in STOPPING}
            self.mask = signal.pthread_sigmask(signal.SIG_UNBLOCK, STOPPING)
        return self

    def __exit__(self, *exc: object) -> None:
        if self.before:
            signal.pthread_sigmask(signal.SIG_SETMASK, self.mask)
        for number, handler in self.before.items():
            signal.signal(number, handler)

    def _hear(self, number: int, frame: FrameType | None) -> None:
        if self.first is not None:
            raise KeyboardInterrupt
        self.first = number
        self.heard(number)


def write_outcome(outcome: Outcome, record: Path) -> None:
    """Write an outcome, its status beside its fields."""
    record.parent.mkdir(parents=True, exist_ok=True)
    write_text(record, json.dumps({"status": outcome.status, **dataclasses.asdict(outcome)}, indent=2) + "\n")


def read_outcome(out_dir: Path, record: Path | None = None) -> Outcome | None:
    """How the job in a folder ended; None where no job.json tells."""
    values = read_json(record or out_dir / RECORD)
    fields = {field.name for field in dataclasses.fields(Outcome)}
    return Outcome(**{key: values[key] for key in fields}) if fields <= values.keys() else None


def read_json(path: Path) -> dict[str, Any]:
    """A small file's mapping; {} when it is missing, or is none."""
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return values if isinstance(values, dict) else {}


def table(outcomes: Sequence[Outcome]) -> Table:
    """The outcomes as a table; a column of errors where there are any."""
    has_errors = any(outcome.error for outcome in outcomes)
    shown = Table(box=None, pad_edge=False)
    for name in ("job", "status", "val loss", "updates", "compute units", "time", *["error"] * has_errors):
        shown.add_column(name, justify="left" if name in ("job", "status", "error") else "right", overflow="fold")
    for outcome in outcomes:
        figures = (figure(outcome.summary.get(key), spec) for key, spec in FIGURES)
        time_s = "" if outcome.exit_code is None else f"{outcome.seconds:,.1f} s"
        shown.add_row(escape(outcome.name), outcome.shown, *figures, time_s, *[escape(outcome.error or "")] * has_errors)
    return shown


FIGURES = (("val_loss", ".4f"), ("updates", ",.0f"), ("compute_units", ",.0f"))  # nats/token, counts


def figure(value: object, spec: str) -> str:
    """A number of a summary, or nothing where there is none."""
    return format(value, spec) if isinstance(value, (int, float)) else ""


def signal_name(number: int) -> str:
    """SIGKILL, or the number of a signal without a name."""
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"


def _stamp(path: Path) -> tuple[int, int] | None:
    """What changes when a file is written anew; None while there is none."""
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_mtime_ns, found.st_ino
