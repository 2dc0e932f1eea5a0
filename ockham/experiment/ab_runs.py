"""The runs of an A/B experiment: stages that come before, the variants, then their controls, which cost what those have cost."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .ab_plan import Plan, plain_args
from .ab_verdict import Runs, figure, is_done
from .jobs import LOG, Job, Outcome, Signals, read_outcome
from .launch import launch
from .stages import SHARED
from .sweep import say
from .variants import RANDOM, Resolve, Variant, command_of, random_skip, shorter
from .work import Run, finished, perform

StageKey = tuple[int, str, int]  # stage, counted from 0; variant, or SHARED; seed
StageRuns = Mapping[StageKey, Outcome]
Do = Callable[[Mapping[Any, Job], threading.Event], dict[Any, Outcome]]


@dataclass(frozen=True)
class Ended:
    """How the runs ended, as far as they were started."""

    stages: dict[StageKey, Outcome]  # those before the last stage of a scenario
    runs: dict[tuple[str, int], Outcome]

    @property
    def all(self) -> list[Outcome]:
        """Every run."""
        return [*self.stages.values(), *self.runs.values()]


def job_of(plan: Plan, variant: Variant, seed: int, argv: Sequence[str]) -> Job:
    """One run as a process."""
    name = f"{variant.name}_seed{seed}"
    placed = plan.course.placed(plan.course.last, variant, seed) if plan.course else ()
    return made(name, plan.folder / "runs" / name, command_of(argv, placed), seed)


def made(name: str, folder: Path, argv: Sequence[str], seed: int) -> Job:
    """A job, told its seed and its folder."""
    return Job(name, folder, tuple(command_of(argv, (f"--seed={seed}", f"--out_dir={folder}", "--overwrite=True"))))


def stage_jobs(plan: Plan, stage: int, before: StageRuns) -> dict[StageKey, Job]:
    """The runs of a stage before the last one, of those whose own earlier stage has come to its end."""
    return {
        key: job for key, job in planned_stage_jobs(plan, stage).items() if not stage or is_done(before.get(earlier(plan, key)))
    }


def planned_stage_jobs(plan: Plan, stage: int) -> dict[StageKey, Job]:
    """The runs of a stage before the last one: one a seed where it is shared, else one for each variant, too."""
    course, jobs = plan.course, dict[StageKey, Job]()
    assert course is not None
    shared = course.scenario.stages[stage].is_shared
    for seed in plan.seeds:
        for variant in [None] if shared else plan.first:
            name = variant.name if variant else SHARED
            folder = course.run_folder(stage, name, seed)
            argv = course.argv(stage, variant.args if variant else ())
            jobs[stage, name, seed] = made(folder.name, folder, command_of(argv, course.placed(stage, variant, seed)), seed)
    return jobs


def earlier(plan: Plan, key: StageKey) -> StageKey:
    """The run of the stage before that a stage's run goes on from."""
    stage, name, seed = key
    assert plan.course is not None
    return stage - 1, SHARED if plan.course.scenario.stages[stage - 1].is_shared else name, seed


def can_start(plan: Plan, name: str, seed: int, stages: StageRuns) -> bool:
    """Whether the run that a variant goes on from has come to its end."""
    if plan.course is None or not plan.course.last:
        return True
    return is_done(stages.get((plan.course.last - 1, plan.course.trained_by(plan.course.last - 1, plan[name]), seed)))


def first_jobs(plan: Plan) -> dict[tuple[str, int], Job]:
    """The runs of all variants but the controls: seed by seed, so that an experiment that is cut off has whole pairs."""
    return {
        (variant.name, seed): job_of(plan, variant, seed, command_of(plan.argv, variant.args))
        for seed in plan.seeds
        for variant in plan.first
    }


def control_jobs(plan: Plan, runs: Runs, resolve: Resolve) -> dict[tuple[str, int], Job]:
    """The controls of the gated runs that came to their end, each made from what its run has measured."""
    jobs = {}
    for seed in plan.seeds:
        for control in plan.last:
            gated, outcome = plan[control.parent], runs.get((control.parent, seed))
            if outcome is None or not is_done(outcome) or gated.config is None or gated.gate is None:
                continue
            rate, units = figure(outcome, "update_rate"), figure(outcome, "compute_units")
            if control.kind == RANDOM and rate is not None:
                name = f"{control.name}_seed{seed}"
                argv = [str(random_skip(gated.config, rate, plan.folder / "configs", name))]
            elif control.kind != RANDOM and units is not None:
                argv = shorter(plan.argv, plain_args(plan)[1], units, resolve, units_of_an_iteration(plan, runs, seed))
            else:
                continue
            jobs[control.name, seed] = job_of(plan, control, seed, argv)
    return jobs


def units_of_an_iteration(plan: Plan, runs: Runs, seed: int) -> float | None:
    """What the baseline's run has paid for each, where that is plain training: replay or an anchor may cost something, too."""
    outcome = None if plan[plan.baseline].gate else runs.get((plan.baseline, seed))
    if outcome is None or not is_done(outcome):
        return None
    units, iters = figure(outcome, "compute_units"), figure(outcome, "iters")
    return units / iters if units and iters else None


def run_all(plan: Plan, run: Run, script: Path, resolve: Resolve) -> Ended:
    """Every run, `plan.jobs` at a time. A signal stops those that run; SystemExit(128 + signal) is raised when they have."""
    stop = threading.Event()
    ended = Ended({}, {})
    do = launched(plan, script) if plan.launcher else together(plan.jobs, run, script, stop)
    with Signals(lambda number: stop.set()) as signals:
        for stage in range(plan.course.last if plan.course else 0):
            ended.stages.update(do(stage_jobs(plan, stage, ended.stages), stop))
        ended.runs.update(do({key: job for key, job in first_jobs(plan).items() if can_start(plan, *key, ended.stages)}, stop))
        if not stop.is_set():
            ended.runs.update(do(control_jobs(plan, ended.runs, resolve), stop))
    if signals.first:
        say(f"interrupted; the same command goes on with what is in {plan.folder}")
        raise SystemExit(128 + signals.first)
    return ended


def together(at_once: int, run: Run, script: Path, stop: threading.Event) -> Do:
    """Runs jobs as processes of this machine, some at a time; those that were not started because of a signal have no outcome."""

    def do_one(job: Job) -> Outcome | None:
        outcome = finished(job)
        if outcome is None and not stop.is_set():
            outcome = perform(job, stop.is_set, run, script)
            told(outcome)
        elif outcome is not None:
            say(f"{job.name}: done before, left as it is")
        return outcome

    def do(jobs: Mapping[Any, Job], stop: threading.Event) -> dict[Any, Outcome]:
        with ThreadPoolExecutor(at_once) as pool:
            ended = list(pool.map(do_one, jobs.values()))
        return {key: outcome for key, outcome in zip(jobs, ended, strict=True) if outcome is not None}

    return do


def launched(plan: Plan, script: Path) -> Do:
    """Runs jobs through a launcher of Hydra's; what is done already is not handed to it."""

    def do(jobs: Mapping[Any, Job], stop: threading.Event) -> dict[Any, Outcome]:
        before = {key: outcome for key, job in jobs.items() if (outcome := finished(job))}
        for outcome in before.values():
            say(f"{outcome.name}: done before, left as it is")
        left = {key: job for key, job in jobs.items() if key not in before}
        if left and not stop.is_set() and (number := launch(list(left.values()), plan.launcher, script, plan.folder)):
            say(f"interrupted; the same command goes on with what is in {plan.folder}")
            raise SystemExit(128 + number)
        ended = {key: outcome for key, job in left.items() if (outcome := read_outcome(job.out_dir))}
        for outcome in ended.values():
            told(outcome)
        return before | ended

    return do


def told(outcome: Outcome) -> None:
    """A line about a run that has ended."""
    loss = figure(outcome, "val_loss")
    is_good = is_done(outcome) and loss is not None
    say(f"{outcome.name}: val loss {loss:.4f}, {outcome.seconds:.1f} s" if is_good else f"{outcome.name}: {failure(outcome)}")


def failure(outcome: Outcome) -> str:
    """Why a run has no val loss."""
    return f"{outcome.status}: {outcome.error or f'see {Path(outcome.out_dir) / LOG}'}"
