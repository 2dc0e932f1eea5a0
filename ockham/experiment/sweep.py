"""The jobs of a sweep, run: each a process of its own, one table and one sweep.json at the end, whatever became of them."""

from __future__ import annotations

import _thread
import json
import math
import os
import signal
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from multiprocessing import resource_tracker
from pathlib import Path

from rich.console import Console

from ..config import RunConfig
from ..configuration.files import read_yaml
from ..configuration.grammar import as_typed, in_hydra
from ..configuration.sweep import Planned, key_of
from ..errors import ConfigError
from ..files import write_text
from .jobs import RECORD, STOPPING, Job, Outcome, Signals, read_json, read_outcome, run_job, table, write_outcome

RECORD_FILE = "sweep.json"
WIDTH = 160  # of the table, where no terminal says another
POLL_S = 0.2


@dataclass(frozen=True)
class Sweep:
    """A sweep in progress, as plain data: any launcher can take it to another process.

    `notes` is a folder for this sweep alone: a `stop` file in it keeps further jobs from starting and ends those that run; the
    jobs that were started note there what they are, and how they ended where their own folder is not written to.
    """

    files: tuple[str, ...]
    script: str
    notes: str

    @property
    def stop(self) -> Path:
        """The file whose being there ends the sweep; it holds the signal's number."""
        return Path(self.notes) / "stop"

    def start(self, job: Planned) -> float | None:
        """Run one job, or leave it as it is; its val loss (nats/token), for sweepers that look for a low one."""
        if self.stop.exists():
            return None
        self._note(job)
        if job.way == "done":
            say(f"job {job.name}: done, left as it is")
            return val_loss(read_outcome(Path(job.out_dir)))
        say(f"job {job.name}" + ": resumed" * (job.way == "resume"))
        overrides = [*(text for text in job.overrides if key_of(text) != "out_dir"), f"++out_dir={in_hydra(job.out_dir)}"]
        process = Job(job.name, Path(job.out_dir), (*self.files, *map(as_typed, overrides)))
        try:
            return val_loss(run_job(process, self.stop.exists, script=Path(self.script), record=self.record(job)))
        except SystemExit as told:  # a signal came to this process; it is for the whole sweep
            self.told_to_stop(int(str(told.code)) - 128)
            return None

    def refuse(self, number: int, name: str, message: str) -> None:
        """Tell and note that a job cannot start."""
        print(f"error: job {name}: {message}", file=sys.stderr)
        job = Planned(number, name, (), "", "new", writes=False)
        self._note(job)
        write_outcome(Outcome(name, "", [], exit_code=2, error=message), self.record(job))

    def told_to_stop(self, number: int) -> None:
        """Note the signal that ends the sweep."""
        self.stop.write_text(str(number), encoding="utf-8")

    def record(self, job: Planned) -> Path:
        """Where a job's outcome is kept: in its own folder, but for those that write nothing."""
        return Path(job.out_dir) / RECORD if job.writes else Path(self.notes) / f"{job.number}.outcome.json"

    def _note(self, job: Planned) -> None:
        write_text(Path(self.notes) / f"{job.number}.json", json.dumps(vars(job)))

    def noted(self) -> list[Planned]:
        """The jobs that were started, as far as they could be noted."""
        found = [read_json(path) for path in Path(self.notes).glob("*.json") if path.stem.isdigit()]
        return sorted((Planned(**{**job, "overrides": tuple(job["overrides"])}) for job in found), key=lambda job: job.number)


def run_sweep(
    files: Sequence[str], script: Path, jobs: Sequence[Planned], launch: Callable[[Sweep], object], folder: Path, argv: list[str]
) -> int:
    """Let `launch` start the jobs; then print the table and write folder/sweep.json. The sweep's exit code.

    0 when all are done, 1 when one is not, 128 + signal when a signal ended the sweep. `jobs` are those known beforehand, none
    where the sweeper makes them up; sweeps that write nothing leave no sweep.json either.
    """
    for job in jobs:
        if job.writes and job.way == "new":
            (Path(job.out_dir) / RECORD).unlink(missing_ok=True)  # an earlier run's, which is to be replaced
    with tempfile.TemporaryDirectory() as notes:
        sweep = Sweep(tuple(files), str(script), notes)
        try:
            with held_back(sweep.told_to_stop):
                launch(sweep)
        finally:
            ended = [(job, outcome_of(sweep, job)) for job in jobs or sweep.noted()]
            say(shown(ended))
            if any(job.writes for job, _ in ended):
                write_record(folder, argv, ended)
        if sweep.stop.exists():
            return 128 + int(sweep.stop.read_text(encoding="utf-8"))
    return 0 if all(outcome.status == "done" for _, outcome in ended) else 1


def is_done(config: RunConfig) -> bool:
    """Whether the job in a folder has ended well, after as many iterations or epochs as its config asks for now.

    What epochs are in iterations the run itself found out, so there its own max_iters tells, if its epochs were as many.
    """
    folder = Path(config.out_dir)
    outcome = read_outcome(folder)
    if outcome is None or outcome.status != "done":
        return False
    asked: float = config.max_iters
    if config.epochs:
        try:
            before = read_yaml(folder / "config.yaml")
            asked = before["max_iters"] if before["epochs"] >= config.epochs else math.inf
        except (OSError, ConfigError, KeyError, TypeError):
            return False
    iters = outcome.summary.get("iters")
    return iters is None or iters >= asked


def outcome_of(sweep: Sweep, job: Planned) -> Outcome:
    """How a job ended, or that it was not started."""
    return read_outcome(Path(job.out_dir), sweep.record(job)) or Outcome(job.name, job.out_dir, [])


def write_record(folder: Path, argv: list[str], ended: Sequence[tuple[Planned, Outcome]]) -> None:
    """sweep.json: the command line, and of each job what was asked and how it ended. Losses in nats/token, times in seconds."""
    figures = ("val_loss", "best_val_loss", "updates", "compute_units", "rolled_back")
    jobs = [
        {
            "name": job.name,
            "overrides": [text.lstrip("+") for text in job.overrides],
            "out_dir": job.out_dir,
            "status": outcome.status,
            "exit_code": outcome.exit_code,
            "error": outcome.error,
            **{key: outcome.summary.get(key) for key in figures},
            "seconds": round(outcome.seconds, 3),
        }
        for job, outcome in ended
    ]
    folder.mkdir(parents=True, exist_ok=True)
    write_text(folder / RECORD_FILE, json.dumps({"argv": argv, "jobs": jobs}, indent=2) + "\n")


def val_loss(outcome: Outcome | None) -> float | None:
    """A job's val loss, where it has one."""
    return outcome.summary.get("val_loss") if outcome else None


@contextmanager
def held_back(heard: Callable[[int], object]) -> Iterator[None]:
    """Signals to stop are given to `heard` once, and held back from what is started here; `run_job` lets them through.

    A launcher's worker processes inherit that. Otherwise a Ctrl-C, which a terminal sends to all processes of its group, would
    end an idle worker, and joblib answers that by killing all others with the jobs that they run. The second signal raises
    KeyboardInterrupt.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    resource_tracker.ensure_running()  # joblib would start it later, and that unblocks signals (Python < 3.14)
    over = threading.Event()

    def listen() -> None:
        while not over.wait(POLL_S):
            for number in signal.sigpending() & set(STOPPING):
                signal.sigwait({number})
                _thread.interrupt_main(number)  # calls the handler, in the main thread

    with Signals(heard):
        mask = signal.pthread_sigmask(signal.SIG_BLOCK, STOPPING)
        ear = threading.Thread(target=listen, daemon=True)
        ear.start()
        try:
            yield
        finally:
            over.set()
            ear.join()
            signal.pthread_sigmask(signal.SIG_SETMASK, mask)


def shown(ended: Sequence[tuple[Planned, Outcome]]) -> str:
    """The table as text, in colour where the output is a terminal; jobs that write nothing have told their figures themselves."""
    if ended and not any(job.writes for job, _ in ended):
        return "\n".join(f"job {outcome.name}: {outcome.status}, nothing was written" for _, outcome in ended)
    console = Console(soft_wrap=False, highlight=False, width=None if sys.stdout.isatty() else WIDTH)
    with console.capture() as captured:
        console.print(table([outcome for _, outcome in ended]))
    lines = captured.get().rstrip("\n").split("\n")
    return "\n".join(lines if sys.stdout.isatty() else map(str.rstrip, lines))


def say(text: str) -> None:
    """Print a line; where nobody reads any more, as behind `| head`, the jobs matter more than the lines."""
    try:
        print(text, flush=True)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
