"""How long an A/B experiment may take, by the time that a short run takes."""

from __future__ import annotations

import shlex
import statistics
from collections.abc import Sequence
from pathlib import Path

from .. import journal
from .ab_plan import Plan
from .ab_runs import first_jobs, planned_stage_jobs
from .jobs import Job
from .sweep import say
from .variants import Variant, command_of
from .work import Run, finished, is_of_another

TRIED = 20  # iterations that are timed beforehand


def estimate(plan: Plan, run: Run, script: Path, shows_commands: bool) -> None:
    """Say how many runs there are and how long they may take, by the time that a short run takes."""
    before = stage_iters(plan)
    jobs: list[Job] = [*before, *first_jobs(plan).values()]
    if shows_commands:
        for job in jobs:
            say(f"{job.name}: train {shlex.join(job.argv)}" + " (done before)" * (finished(job) is not None))
    if others := sum(map(is_of_another, jobs)):
        say(
            f"{others} finished run{'s' * (others > 1)} in {plan.folder} had other arguments, weights or data, and will be "
            "replaced; another --out DIR keeps what is there"
        )
    pending = [plan[name] for (name, _), job in first_jobs(plan).items() if finished(job) is None]
    pending_stages = [iters for job, iters in before.items() if finished(job) is None]
    controls = len(plan.last) * len(plan.seeds)
    counted = f"{len(jobs) + controls} runs, of them {controls} controls" + f" and {len(before)} of earlier stages" * bool(before)
    if not pending and not pending_stages:
        say(f"{counted}; all but controls are done")
        return
    if done := len(jobs) - len(pending) - len(pending_stages):
        counted += f"; {done} are done" + ", and their controls may be" * bool(controls)
    timed = seconds_of(plan, run, script)
    if timed is None:
        say(f"{counted}; how long they take is not known")
        return
    seconds = total(plan, pending, pending_stages, *timed)
    at_once = f", {plan.jobs} at a time if they do not slow one another" * (plan.jobs > 1)
    say(f"{counted}; at most about {shown_time(seconds / plan.jobs)}{at_once}, evaluations on the way not counted")


def stage_iters(plan: Plan) -> dict[Job, int]:
    """The runs of the stages before the last one, and how many iterations each has."""
    course = plan.course
    stages = range(course.last) if course else ()
    return {
        job: course.configs[stage].max_iters for stage in stages if course for job in planned_stage_jobs(plan, stage).values()
    }


def total(plan: Plan, pending: Sequence[Variant], stages: Sequence[int], a_step: float, around: float) -> float:
    """What the runs take one after another, s; controls like the variants that they control."""
    copies = [1 + sum(control.parent == variant.name for control in plan.last) for variant in pending]
    iters = [variant.config.max_iters if variant.config else 0 for variant in pending]
    runs = sum(n * (around + i * a_step) for n, i in zip(copies, iters, strict=True))
    return runs + sum(around + i * a_step for i in stages)


def seconds_of(plan: Plan, run: Run, script: Path) -> tuple[float, float] | None:
    """What a step takes, and what is around the steps of a run, s; None where it cannot be told.

    Measured on the baseline's first iterations, as a run of its own: what is not a step, such as starting and the first and the
    last evaluation, counts once for every run. In a scenario that is its last stage, from random weights.
    """
    folder, variant = plan.folder / "estimate", plan[plan.baseline]
    most = variant.config.max_iters if variant.config else TRIED
    tried = [f"--max_iters={min(TRIED, most)}", f"--out_dir={folder}", "--overwrite=True"]
    if plan.course:
        placed = plan.course.placed(plan.course.last, variant, plan.seeds[0])
        tried += [arg for arg in placed if not arg.startswith("--init_from=")]
    argv = command_of(command_of(plan.argv, variant.args), tried)
    outcome = run(Job("estimate", folder, tuple(argv)), quiet=True, script=script)
    if outcome.exit_code or not (folder / "journal.jsonl").is_file():
        return None
    steps = [event["dt_ms"] / 1e3 for event in journal.read(folder / "journal.jsonl") if event["event"] == "step"]
    if not steps:
        return None
    return statistics.median(steps), max(0.0, outcome.seconds - sum(steps))


def shown_time(seconds: float) -> str:
    """A duration as one reads it."""
    return f"{seconds:.0f} s" if seconds < 120 else f"{seconds / 60:.0f} min" if seconds < 7200 else f"{seconds / 3600:.1f} h"
