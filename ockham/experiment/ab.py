"""`ockham ab`: variants of one base run under the same seeds, gates beside their controls, and what may be said about them.

Controls depend on what a gated run has cost, so they run when the gated ones have ended. Every run is a process of its own in
OUT/runs/VARIANT_seedN; one that has ended well with the same arguments is left as it is.
"""

from __future__ import annotations

import argparse
import importlib
import shlex
import statistics
import threading
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from .. import journal
from ..arguments import DEBUG
from ..config import LARGEST_SEED
from ..errors import ConfigError, UsageError, nearest
from .ab_verdict import Runs, compare, figure, is_done
from .jobs import LOG, SCRIPT, Job, Outcome, Signals, read_outcome, run_job
from .statistics import FEWEST
from .sweep import say
from .variants import (
    RANDOM,
    Resolve,
    Variant,
    ablations,
    asked_for,
    base_argv,
    check_corpus,
    command_of,
    controls,
    random_skip,
    resolved,
    shorter,
)

Run = Callable[..., Outcome]
FIRST_SEED = 1  # of those that nobody named
TRIED = 20  # iterations that are timed beforehand


@dataclass(frozen=True)
class Plan:
    """The experiment, checked."""

    command: str  # as it was typed
    argv: tuple[str, ...]  # the train arguments that all runs share
    recipe: str  # the line about the recipe, where ab chose it
    variants: tuple[Variant, ...]  # those asked for and ablations, resolved, then the controls
    baseline: str
    seeds: tuple[int, ...]
    folder: Path
    jobs: int

    def __getitem__(self, name: str) -> Variant:
        return next(variant for variant in self.variants if variant.name == name)

    @property
    def first(self) -> list[Variant]:
        """The variants whose command lines are known beforehand."""
        return [variant for variant in self.variants if variant.config is not None]

    @property
    def last(self) -> list[Variant]:
        """The controls."""
        return [variant for variant in self.variants if variant.config is None]


def ab(options: argparse.Namespace, run: Run = run_job, script: Path = SCRIPT) -> int:
    """The verb; the exit code: 1 when a run did not come to its end. Raises UsageError, CorpusError."""
    resolve: Resolve = importlib.import_module("configurator").resolve
    plan = make_plan(options, resolve)
    importlib.import_module("scipy.stats")  # where it is missing, it is before the runs that one wants to know
    introduce(plan)
    estimate(plan, run, script, options.dry_run)
    if options.dry_run:
        return 0
    runs = run_all(plan, run, script, resolve)
    from .ab_page import write_results  # matplotlib

    comparisons = compare(plan.variants, plan.baseline, plan.seeds, runs)
    write_results(plan, runs, comparisons)
    return 0 if all(is_done(outcome) for outcome in runs.values()) and len(runs) == len(plan.variants) * len(plan.seeds) else 1


# ----------------------------------------------------------------------------------------------------------------- the plan


def make_plan(options: argparse.Namespace, resolve: Resolve) -> Plan:
    """The command line, checked: every variant is resolved before anything runs."""
    argv, recipe = base_argv(options.dataset, [arg for arg in options.rest if not DEBUG.fullmatch(arg)])
    asked = [resolved(variant, argv, resolve) for variant in asked_for(options.presets, options.policies, options.variant)]
    baseline = baseline_of(options.baseline, asked)
    if options.ablate:
        for variant in list(asked):
            asked += [resolved(found, argv, resolve) for found in ablations(variant)]
    if len(asked) < 2:
        raise UsageError(
            "a comparison needs two variants: --presets=none,balanced, --policies=A,B, or --variant='NAME: --key=value'"
        )
    check_corpora(asked)
    made = [] if options.no_controls else [control for variant in asked for control in controls(variant)]
    data = options.dataset or (asked[0].config.dataset if asked[0].config else "")
    folder = options.out or Path(f"out-ab-{data}")
    return Plan(
        command=shlex.join(["ockham", "ab", *options.given]),
        argv=tuple(argv),
        recipe=recipe,
        variants=(*asked, *made),
        baseline=baseline,
        seeds=seeds_of(options.seeds, options.n_seeds),
        folder=folder,
        jobs=options.jobs,
    )


def baseline_of(name: str | None, asked: Sequence[Variant]) -> str:
    """The variant that the others are held against. Raises UsageError naming the nearest."""
    names = [variant.name for variant in asked]
    if not names:
        raise UsageError("nothing to compare: give --presets=none,balanced, --policies=A,B, or --variant='NAME: --key=value'")
    if name is not None and name not in names:
        raise UsageError(f"--baseline must be one of the variants {', '.join(names)}, got {name!r}{nearest(name, names)}")
    return name or names[0]


def check_corpora(variants: Iterable[Variant]) -> None:
    """Raises CorpusError for the first data set that is not there, ConfigError where a variant sets an experiment's key."""
    for variant in variants:
        if variant.config is not None:
            if variant.config.epochs or variant.config.eval_only:
                raise ConfigError(f"variant {variant.name}: ab counts iterations; give max_iters in place of epochs or eval_only")
            check_corpus(variant.config)


def seeds_of(text: str | None, n: int) -> tuple[int, ...]:
    """The seeds, each once. Raises UsageError."""
    if text is None:
        if n < 1:
            raise UsageError(f"--n-seeds must be 1 or more, got {n}")
        return tuple(range(FIRST_SEED, FIRST_SEED + n))
    try:
        seeds = tuple(dict.fromkeys(int(word) for word in text.split(",")))
    except ValueError:
        seeds = (-1,)
    if not all(0 <= seed <= LARGEST_SEED for seed in seeds):
        raise UsageError(f"--seeds must be whole numbers from 0 to {LARGEST_SEED} separated by commas, got {text!r}")
    return seeds


def introduce(plan: Plan) -> None:
    """The first lines: what is compared with what."""
    if plan.recipe:
        say(plan.recipe)
    say(f"seeds {', '.join(map(str, plan.seeds))}; baseline {plan.baseline}; results in {plan.folder}")
    for variant in plan.variants:
        say(f"  {variant.name}: {described(plan, variant)}")
    config = plan[plan.baseline].config
    ends = config.scheduler.decay_steps if config and config.scheduler.name != "none" else None
    if config and plan.last and ends and ends > config.max_iters:
        say(
            f"the baseline's learning rate is still high at its end (lr_decay_iters={ends}, max_iters={config.max_iters}), that "
            f"of the shorter controls is not; --lr_decay_iters={config.max_iters} makes it fair"
        )
    if len(plan.seeds) < FEWEST:
        say(f"{len(plan.seeds)} seeds are not enough for a verdict, which needs {FEWEST}: differences will be shown without one")


def described(plan: Plan, variant: Variant) -> str:
    """A variant in words."""
    if variant.kind == RANDOM:
        return f"control of {variant.parent}: the same, but skips as many batches at random"
    if variant.config is None:
        return f"control of {variant.parent}: {plain_args(plan)[0]}, shortened to the same compute units, its schedule squeezed"
    if variant.parent:
        return f"{variant.parent} without {variant.name.removeprefix(variant.parent + '-')}"
    return f"{variant.kind} {shlex.join(variant.args) or '(the base run itself)'}"


def plain_args(plan: Plan) -> tuple[str, tuple[str, ...]]:
    """Plain training in words, and what it adds to the base: the baseline where it skips nothing, else no rack at all."""
    baseline = plan[plan.baseline]
    return ("plain training", ("--preset=none",)) if baseline.gate else (f"the baseline {baseline.name}", baseline.args)


# ----------------------------------------------------------------------------------------------------------------- the runs


def job_of(plan: Plan, variant: Variant, seed: int, argv: Sequence[str]) -> Job:
    """One run as a process."""
    name = f"{variant.name}_seed{seed}"
    folder = plan.folder / "runs" / name
    return Job(name, folder, tuple(command_of(argv, (f"--seed={seed}", f"--out_dir={folder}", "--overwrite=True"))))


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
                argv = [str(random_skip(gated.config, gated.gate, rate, plan.folder / "configs", name))]
            elif control.kind != RANDOM and units is not None:
                argv = shorter(plan.argv, plain_args(plan)[1], units, resolve)
            else:
                continue
            jobs[control.name, seed] = job_of(plan, control, seed, argv)
    return jobs


def finished(job: Job) -> Outcome | None:
    """How a job ended, where it ended well with these very arguments."""
    outcome = read_outcome(job.out_dir)
    return outcome if outcome and is_done(outcome) and tuple(outcome.argv) == job.argv else None


def run_all(plan: Plan, run: Run, script: Path, resolve: Resolve) -> dict[tuple[str, int], Outcome]:
    """Every run, `plan.jobs` at a time. A signal stops those that run; SystemExit(128 + signal) is raised when they have."""
    stop = threading.Event()
    runs: dict[tuple[str, int], Outcome] = {}
    with Signals(lambda number: stop.set()) as signals:
        runs |= together(first_jobs(plan), plan.jobs, run, script, stop)
        if not stop.is_set():
            runs |= together(control_jobs(plan, runs, resolve), plan.jobs, run, script, stop)
    if signals.first:
        say(f"interrupted; the same command goes on with what is in {plan.folder}")
        raise SystemExit(128 + signals.first)
    return runs


def together(
    jobs: dict[tuple[str, int], Job], at_once: int, run: Run, script: Path, stop: threading.Event
) -> dict[tuple[str, int], Outcome]:
    """The jobs' outcomes; those that were not started because of a signal have none."""

    def do(job: Job) -> Outcome | None:
        outcome = finished(job)
        if outcome is None and not stop.is_set():
            outcome = run(job, stop.is_set, quiet=True, script=script)
            told(outcome)
        elif outcome is not None:
            say(f"{job.name}: done before, left as it is")
        return outcome

    with ThreadPoolExecutor(at_once) as pool:
        ended = list(pool.map(do, jobs.values()))
    return {key: outcome for key, outcome in zip(jobs, ended, strict=True) if outcome is not None}


def told(outcome: Outcome) -> None:
    """A line about a run that has ended."""
    loss = figure(outcome, "val_loss")
    is_good = is_done(outcome) and loss is not None
    say(f"{outcome.name}: val loss {loss:.4f}, {outcome.seconds:.1f} s" if is_good else f"{outcome.name}: {failure(outcome)}")


def failure(outcome: Outcome) -> str:
    """Why a run has no val loss."""
    return f"{outcome.status}: {outcome.error or f'see {Path(outcome.out_dir) / LOG}'}"


# -------------------------------------------------------------------------------------------------------------- the estimate


def estimate(plan: Plan, run: Run, script: Path, shows_commands: bool) -> None:
    """Say how many runs there are and how long they may take, by the time that a short run takes."""
    jobs = first_jobs(plan)
    pending = [plan[name] for (name, _), job in jobs.items() if finished(job) is None]
    made = len(plan.last) * len(plan.seeds)
    if shows_commands:
        for job in jobs.values():
            say(f"{job.name}: train {shlex.join(job.argv)}" + " (done before)" * (finished(job) is not None))
    counted = f"{len(jobs) + made} runs, of them {made} controls"
    if not pending:
        say(f"{counted}; all but controls are done")
        return
    if len(pending) < len(jobs):
        counted += f"; {len(jobs) - len(pending)} are done, and their controls may be"
    seconds = seconds_of(plan, pending, run, script)
    if seconds is None:
        say(f"{counted}; how long they take is not known")
        return
    at_once = f", {plan.jobs} at a time if they do not slow one another" * (plan.jobs > 1)
    say(f"{counted}; at most about {shown_time(seconds / plan.jobs)}{at_once}, evaluations on the way not counted")


def seconds_of(plan: Plan, pending: Sequence[Variant], run: Run, script: Path) -> float | None:
    """What the runs take one after another, controls like the variants that they control; None where it cannot be told.

    Measured on the baseline's first iterations, as a run of its own: what is not a step, such as starting and the first and the
    last evaluation, counts once for every run.
    """
    folder, variant = plan.folder / "estimate", plan[plan.baseline]
    most = variant.config.max_iters if variant.config else TRIED
    tried = (f"--max_iters={min(TRIED, most)}", f"--out_dir={folder}", "--overwrite=True")
    argv = command_of(command_of(plan.argv, variant.args), tried)
    outcome = run(Job("estimate", folder, tuple(argv)), quiet=True, script=script)
    if outcome.exit_code or not (folder / "journal.jsonl").is_file():
        return None
    steps = [event["dt_ms"] / 1e3 for event in journal.read(folder / "journal.jsonl") if event["event"] == "step"]
    if not steps:
        return None
    a_step, around = statistics.median(steps), max(0.0, outcome.seconds - sum(steps))
    copies = [1 + sum(control.parent == variant.name for control in plan.last) for variant in pending]
    iters = [variant.config.max_iters if variant.config else 0 for variant in pending]
    return sum(n * (around + i * a_step) for n, i in zip(copies, iters, strict=True))


def shown_time(seconds: float) -> str:
    """A duration as one reads it."""
    return f"{seconds:.0f} s" if seconds < 120 else f"{seconds / 60:.0f} min" if seconds < 7200 else f"{seconds / 3600:.1f} h"
