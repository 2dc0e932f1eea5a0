"""A replay: a recorded run once more, from its first state on the same batches, and what differs between the two.

A replay is a resume from start.pt in another folder; without start.pt it is the same command from the same seed.
"""

from __future__ import annotations

import dataclasses
import itertools
import shutil
import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from .. import checkpoint, journal, rundir
from ..audit.fingerprint import weights
from ..audit.record import Record, read_records
from ..audit.verify import differences, file_checks, json_of, verify
from ..configuration.files import read_yaml
from ..errors import ConfigError, WorldError
from .jobs import LOG, Job, Outcome, run_job

NEVER_EQUAL = ("dt_ms",)  # of a step: how long it took
QUIET = ("--wandb_log=False", "--tensorboard_log=False", "--max_hours=0", "--log_interval=1000000", "--dry_run=False")
TEMPORARY = "ockham-replay-"  # how the folder of a replay that nobody keeps begins
TAIL = 20  # lines of a log that will be gone
SHOWN = 3  # differing tensors that are named

Run = Callable[..., Outcome]


@dataclass(frozen=True)
class Recording:
    """A run that has left what a replay needs."""

    run: Path
    config: Mapping[str, Any]  # config.yaml, nested
    records: tuple[Record, ...]  # the audit's, one for each start; empty where the run wrote none
    iterations: int  # where last.pt stands
    ended: str | None  # the journal's reason; None = still running, or killed
    has_heard_last: bool  # last.pt was saved after an evaluation at its own iteration, which may have moved the anchor

    @property
    def rack(self) -> dict[str, bool]:
        """The rack's plugins in order, and whether each was on."""
        return {spec["name"]: bool(spec.get("enabled", True)) for spec in self.config.get("rack") or ()}

    @property
    def origin(self) -> str:
        """init_from of the first start; `resume` where nobody knows any more."""
        return str(self.records[0]["config"]["init_from"] if self.records else self.config.get("init_from", "scratch"))


@dataclass(frozen=True)
class Verdict:
    """Whether a replay is the recorded run; `text` is for people."""

    is_equal: bool
    text: str


def open_recording(run: Path) -> Recording:
    """What `run` has left. Raises WorldError (CheckpointError) when it cannot be replayed, or its corpus is another by now."""
    for name in ("journal.jsonl", "config.yaml", "last.pt"):
        if not (run / name).is_file():
            raise WorldError(f"{run} cannot be replayed: {name} is missing; give the out_dir of a run that has trained")
    journal.check_begun(run)
    state = checkpoint.load_complete(run)
    if len(state["rng"]) > 1:
        raise WorldError(f"{run} ran on {len(state['rng'])} processes; a replay has one, and sums in another order")
    iterations = state["learner"]["counters"]["iter_num"]
    if not iterations:
        raise WorldError(f"{run} has saved nothing behind its first iteration, so there is nothing to replay; let it train on")
    path = json_of(run)
    records = tuple(read_records(path)) if path.is_file() else ()
    if records:
        check_corpus(records[-1])
    ended = end_of(run)
    has_heard = ended != "done" and state["loop"]["evaluated_at"] == iterations
    return Recording(run, read_yaml(run / "config.yaml"), records, iterations, ended, has_heard)


def end_of(run: Path) -> str | None:
    """Why the journal ends; None where it does not say."""
    return next((event.get("reason") for event in journal.read(run / "journal.jsonl", "end")), None)


def check_corpus(record: Record) -> None:
    """Raises WorldError naming the first file of the corpus that is not what it was."""
    for check in file_checks(record):
        if check.what.startswith(f"{record['data']['folder']}/") and check.verdict != "same":
            now = "gone" if check.now is None else f"{check.now} now"
            raise WorldError(f"corpus file {check.what}: {check.then} when the run was recorded, {now}; prepare it as it was")


# ---------------------------------------------------------------------------------------------------------- running it again


def repeat(recording: Recording, work: Path, switches: Mapping[str, bool] | None = None, run: Run = run_job) -> Outcome:
    """The recorded run once more in the folder `work`, its plugins switched on or off by name; how the job ended.

    Where a plugin stopped both, in the same words, the job did what it should: its exit code 1 becomes 0.

    Raises ConfigError when `work` holds a run; WorldError when the first state is lost.
    """
    if rundir.holds_run(work):
        raise ConfigError(f"{work} already holds a run; give a new folder: --keep DIR")
    flags = [f"rack.{name}.enabled={str(on).lower()}" for name, on in (switches or {}).items()]
    begin = from_start(recording, work) if (recording.run / "start.pt").is_file() else anew(recording)
    outcome = run(Job(work.name, work, (*begin, f"--out_dir={work}", *own_flags(recording), *flags)), quiet=True)
    return dataclasses.replace(outcome, exit_code=0) if ended_alike(recording, outcome, work) else outcome


def ended_alike(recording: Recording, outcome: Outcome, work: Path) -> bool:
    """Whether a plugin's verdict ended the job as it ended the recorded run."""
    has_end = outcome.exit_code == 1 and not outcome.error and (work / "journal.jsonl").is_file()
    return has_end and recording.ended not in (None, "done") and end_of(work) == recording.ended


def from_start(recording: Recording, work: Path) -> list[str]:
    """Lay start.pt out as a run that stopped before its first iteration; the arguments that go on with it."""
    work.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(recording.run / "config.yaml", work / "config.yaml")
    shutil.copyfile(recording.run / "start.pt", work / "last.pt")
    before = checkpoint.load_complete(work)["loop"]["journal_bytes"]
    with open(recording.run / "journal.jsonl", "rb") as file:
        (work / "journal.jsonl").write_bytes(file.read(before))
    return ["--init_from=resume"]


def anew(recording: Recording) -> list[str]:
    """The arguments that start the run again from its seed. Raises WorldError when what it began with is not there."""
    origin = recording.origin
    lost = f"{recording.run} has no start.pt (journal.replayable was off)"
    if origin == "resume":
        raise WorldError(f"{lost}, and was resumed without an audit, so how it began is not known")
    if origin != "scratch" and not origin.startswith("gpt2") and not any(path.is_file() for path in weights(origin)):
        raise WorldError(f"{lost}, and the weights that it began with are gone: {origin}; put them back")
    return [str(recording.run / "config.yaml"), f"--init_from={origin}"]


def own_flags(recording: Recording) -> list[str]:
    """What makes a job the recorded run: its end, its schedule where that is not its end, its device and threads."""
    flags, config = [*QUIET, f"--max_iters={recording.iterations}"], recording.config
    if config["max_iters"] != recording.iterations and config["scheduler"]["decay_steps"] is None:
        flags.append(f"--scheduler.decay_steps={max(1, config['max_iters'])}")
    if recording.records:
        machine = recording.records[0]["machine"]
        flags += [f"--device={machine['device']}", f"--threads={machine['threads']}"]
    return flags


def finished(outcome: Outcome) -> Outcome:
    """The outcome of a job that came to its end. Raises WorldError for any other; a log that will be gone is shown first."""
    if not outcome.exit_code:
        return outcome
    log, why = Path(outcome.out_dir) / LOG, f"the replay {outcome.status}: {outcome.error or 'no error line'}"
    if not log.parent.parent.name.startswith(TEMPORARY):
        raise WorldError(f"{why}; its log: {log}")
    if log.is_file():
        print(*log.read_text(encoding="utf-8", errors="replace").splitlines()[-TAIL:], sep="\n", file=sys.stderr)
    raise WorldError(f"{why}; above is the end of its log, --keep DIR keeps all of it")


# -------------------------------------------------------------------------------------------------------------- comparing


def compare(recording: Recording, work: Path) -> Verdict:
    """The recorded run and the one in `work`: every step line but for its time, then every tensor and number of last.pt."""
    began = f"replayed {recording.iterations} iterations"
    line = first_other_step(recording.run, work, recording.iterations)
    if line:
        return Verdict(False, "\n".join([f"{began}: {line}", *reasons(recording)]))
    recorded, replayed = (final_state(folder, recording.has_heard_last) for folder in (recording.run, work))
    names = list(other_leaves(recorded, replayed))
    if names:
        shown = ", ".join(names[:SHOWN]) + (", …" if names[SHOWN:] else "")
        text = f"{began}: every journal line is equal, but {len(names)} parts of the final state differ: {shown}"
        return Verdict(False, "\n".join([text, *reasons(recording)]))
    left_out = "; the anchor is not compared: the recorded one had heard one evaluation more" if recording.has_heard_last else ""
    return Verdict(True, f"{began}: weights, optimizer and every journal line equal{left_out}")


def first_other_step(recorded: Path, replayed: Path, iterations: int) -> str | None:
    """Where two journals part, in words; None where all steps before `iterations` are equal."""
    for a, b in itertools.zip_longest(*(steps(folder, iterations) for folder in (recorded, replayed))):
        if a is None or b is None:
            return f"iteration {(a or b)['iter']} is missing in the {'recorded' if a is None else 'replayed'} journal"
        for name in other_leaves(a, b):
            values = (leaf(step, name) for step in (a, b))
            return f"iteration {a['iter']} differs in {name}: {' recorded, '.join(map(str, values))} replayed"
    return None


def steps(folder: Path, iterations: int) -> Iterator[dict[str, Any]]:
    """The step events before `iterations`, without what is never equal."""
    for event in journal.read(folder / "journal.jsonl", "step"):
        if event["iter"] < iterations:
            yield {key: value for key, value in event.items() if key not in NEVER_EQUAL}


def final_state(folder: Path, without_anchor: bool) -> dict[str, Any]:
    """What last.pt holds of the learning itself: weights, optimizer, anchor, plugins, counters; or weights and optimizer."""
    state = checkpoint.load_complete(folder)
    learner = {"optimizer": state["learner"]["optimizer"]} if without_anchor else state["learner"]
    return {"model": state["model"], **learner}


def other_leaves(a: Any, b: Any, path: str = "") -> Iterator[str]:
    """Names of the leaves in which two nested values differ; tensors bit for bit, a part that only one has by its own name."""
    if isinstance(a, Mapping) and isinstance(b, Mapping):
        for key in {**a, **b}:
            name = f"{path}.{key}" if path else str(key)
            if key in a and key in b:
                yield from other_leaves(a[key], b[key], name)
            else:
                yield name
    elif isinstance(a, list | tuple) and isinstance(b, list | tuple) and len(a) == len(b):
        for index, (x, y) in enumerate(zip(a, b, strict=True)):
            yield from other_leaves(x, y, f"{path}.{index}")
    elif not same(a, b):
        yield path


def same(a: Any, b: Any) -> bool:
    """Equality of two leaves; NaN equals itself, and tensors are compared by their bytes."""
    if isinstance(a, torch.Tensor) and isinstance(b, torch.Tensor):
        if (a.dtype, a.shape) != (b.dtype, b.shape):
            return False
        return torch.equal(*(t.contiguous().flatten().view(torch.uint8) for t in (a, b)))
    return type(a) is type(b) and (a == b or (a != a and b != b))


def leaf(step: Any, name: str) -> Any:
    """The value of a dotted name in nested values; a plugin's metric may have dots of its own. None where it is missing."""
    for key in step if isinstance(step, Mapping) else ():
        if name == key:
            return step[key]
        if name.startswith(f"{key}."):
            return leaf(step[key], name.removeprefix(f"{key}."))
    head, _, rest = name.partition(".")
    if isinstance(step, list) and head.isdigit():
        return leaf(step[int(head)], rest) if rest else step[int(head)]
    return None


def reasons(recording: Recording) -> Iterator[str]:
    """What may be why a replay differs: sessions with other flags, and whatever has changed since."""
    resumed = [event["iter"] for event in journal.read(recording.run / "journal.jsonl", "resume")]
    if resumed:
        yield f"  the run was resumed at iteration {', '.join(map(str, resumed))} (the journal's resume events)"
    for before, after in itertools.pairwise(recording.records):
        then, now = ({**record["config"], "init_from": ""} for record in (before, after))  # every resume differs in that
        if told := differences(then, now):
            yield f"  from iteration {after['iteration']} on it had other flags{told}; a replay has the last ones throughout"
    if recording.records:
        yield from (f"  {check}" for check in verify(recording.records[-1], recording.run) if check.verdict != "same")
