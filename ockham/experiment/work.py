"""One run of an experiment: whether it is done already, goes on where it was cut off, or starts anew."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from ..configuration.files import ROOT
from ..errors import UsageError
from ..files import write_text
from ..lock import FolderLock
from ..sources import sha256_of
from .ab_verdict import is_done
from .jobs import RECORD, SCRIPT, STOPPED, Job, Outcome, read_json, read_outcome, run_job, write_outcome

ASKED = "asked.json"  # in a run's folder: its arguments, and hashes of what it starts from
LOCK = "ab.lock"
SET_FOR_A_NEW_RUN = ("init_from", "overwrite")
Run = Callable[..., Outcome]


def alone(folder: Path) -> FolderLock:
    """Hold an experiment's folder for this process. Raises UsageError for what is no folder, WorldError while another has it."""
    if folder.exists() and not folder.is_dir():
        raise UsageError(f"{folder} is a file, and an experiment needs a folder; give another --out DIR")
    folder.mkdir(parents=True, exist_ok=True)
    busy = f"another ockham ab is at work in {folder} (pid {{pid}}); wait for it, or give another --out"
    return FolderLock(folder, LOCK, busy)


def asked(job: Job) -> dict[str, Any]:
    """What a run is asked for: its arguments, and hashes of the weights and the corpus that they name by a path."""
    said = dict(arg.lstrip("-+").split("=", 1) for arg in job.argv if "=" in arg)
    files = {}
    if "init_from" in said:
        files["init_from"] = Path(said["init_from"]) / "ckpt.pt"
    if "data_dir" in said and "dataset" in said:
        files["corpus"] = ROOT / said["data_dir"] / said["dataset"] / "meta.json"
    return {"argv": list(job.argv), **{name: sha256_of(path) for name, path in files.items() if path.is_file()}}


def finished(job: Job) -> Outcome | None:
    """How a job ended, where it ended well with these very arguments, from the same weights and on the same corpus."""
    outcome = read_outcome(job.out_dir)
    if outcome is None or not is_done(outcome) or tuple(outcome.argv) != job.argv:
        return None
    noted = read_json(job.out_dir / ASKED) or {"argv": list(job.argv)}
    return outcome if noted == asked(job) else None


def is_of_another(job: Job) -> bool:
    """Whether a run lies in the job's folder that ended well, but was asked for otherwise: it will be replaced."""
    outcome = read_outcome(job.out_dir)
    return outcome is not None and is_done(outcome) and finished(job) is None


def perform(job: Job, watch: Callable[[], bool], run: Run = run_job, script: Path = SCRIPT) -> Outcome:
    """Run a job; one that was cut off and asked for the same goes on from its last.pt."""
    wanted, before = asked(job), read_outcome(job.out_dir)
    was_cut_off = before is None or before.exit_code in STOPPED or (before.exit_code or 0) < 0
    if was_cut_off and read_json(job.out_dir / ASKED) == wanted and (job.out_dir / "last.pt").is_file():
        again = dataclasses.replace(job, argv=tuple(resumed(job.argv)))
        outcome = run(again, watch, quiet=True, script=script)
        spent = outcome.seconds + (before.seconds if before else 0.0)
        outcome = dataclasses.replace(outcome, argv=list(job.argv), seconds=spent)
        write_outcome(outcome, job.out_dir / RECORD)
        return outcome
    job.out_dir.mkdir(parents=True, exist_ok=True)
    (job.out_dir / "last.pt").unlink(missing_ok=True)  # another run's: a crash before the first save must not go on from it
    write_text(job.out_dir / ASKED, json.dumps(wanted, indent=2) + "\n")
    return run(job, watch, quiet=True, script=script)


def resumed(argv: Sequence[str]) -> list[str]:
    """The arguments with which a run goes on: the same, but that they name no weights to start from."""
    kept = [arg for arg in argv if arg.lstrip("-+").partition("=")[0] not in SET_FOR_A_NEW_RUN]
    return [*kept, "--init_from=resume"]
