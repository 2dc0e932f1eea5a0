"""`ockham ab`: variants of one base run under the same seeds, gates beside their controls, and what may be said about them.

Controls depend on what a gated run has cost, so they run when the gated ones have ended. Every run is a process of its own in
OUT/runs/VARIANT_seedN; one that has ended well with the same arguments is left as it is. A scenario's earlier stages are in
OUT/stages.
"""

from __future__ import annotations

import argparse
import importlib
import shlex
from collections.abc import Sequence
from pathlib import Path

from ..arguments import DEBUG
from ..config import LARGEST_SEED
from ..configuration.files import ROOT
from ..errors import UsageError, nearest
from .ab_checks import check_corpora, check_stages
from .ab_estimate import estimate
from .ab_plan import Plan, described
from .ab_runs import run_all
from .ab_verdict import compare, is_done
from .corpora import prepare
from .jobs import SCRIPT, run_job
from .launch import chosen
from .scenario import Scenario, check_scenarios_own
from .scenario_file import read_scenario
from .stages import Course, make_course
from .statistics import FEWEST
from .sweep import say
from .variants import Resolve, Variant, ablations, asked_for, base_argv, controls, resolved
from .work import Run, alone

FIRST_SEED = 1  # of those that nobody named


def ab(options: argparse.Namespace, run: Run = run_job, script: Path = SCRIPT) -> int:
    """The verb; the exit code: 1 when a run did not come to its end. Raises UsageError, CorpusError, WorldError."""
    resolve: Resolve = importlib.import_module("configurator").resolve
    plan = make_plan(options, resolve)
    importlib.import_module("scipy.stats")  # where it is missing, it is before the runs that one wants to know
    introduce(plan)
    with alone(plan.folder):
        if plan.course:
            plan.course.write_corpora(plan.seeds)
        estimate(plan, run, script, options.dry_run)
        if options.dry_run:
            return 0
        ended = run_all(plan, run, script, resolve)
        from .ab_page import write_results  # matplotlib
        from .retention import measure_all, measures_of  # torch

        measured = measure_all(plan, ended)
        comparisons = compare(plan.variants, plan.baseline, plan.seeds, ended.runs, measures_of(plan, measured))
        write_results(plan, ended, comparisons, measured)
    wanted = len(plan.variants) * len(plan.seeds)
    return 0 if all(is_done(outcome) for outcome in ended.all) and len(ended.runs) == wanted else 1


# ----------------------------------------------------------------------------------------------------------------- the plan


def make_plan(options: argparse.Namespace, resolve: Resolve) -> Plan:
    """The command line, checked: every variant is resolved before anything runs."""
    launcher, rest = chosen(options.launcher, [arg for arg in options.rest if not DEBUG.fullmatch(arg)], options.jobs)
    scenario = read_scenario(options.scenario) if options.scenario is not None else None
    argv, recipe = base_of(options.dataset, rest, scenario)
    folder = options.out or (Path(f"out-ab-{scenario.name}") if scenario else None)
    course = course_of(scenario, argv, folder, resolve) if scenario and folder else None
    last = course.argv(course.last) if course else argv
    asked = variants_of(options, last, course, resolve)
    made = [] if options.no_controls else [control for variant in asked for control in controls(variant)]
    data = options.dataset or (asked[0].config.dataset if asked[0].config else "")
    return Plan(
        command=shlex.join(["ockham", "ab", *options.given]),
        argv=tuple(last),
        recipe=recipe,
        variants=(*asked, *made),
        baseline=baseline_of(options.baseline, asked),
        seeds=seeds_of(options.seeds, options.n_seeds),
        folder=folder or Path(f"out-ab-{data}"),
        jobs=options.jobs,
        course=course,
        launcher=launcher,
    )


def base_of(dataset: str | None, rest: Sequence[str], scenario: Scenario | None) -> tuple[list[str], str]:
    """The train arguments that all runs share, and the line about the recipe. Raises UsageError."""
    if scenario is None:
        return base_argv(dataset, rest)
    if dataset is not None:
        raise UsageError(f"--dataset={dataset}: a scenario names its corpora itself; leave one of --dataset and --scenario out")
    for arg in rest:
        key = arg.lstrip("-+").partition("=")[0]
        if key in ("dataset", "always_save_checkpoint"):
            check_scenarios_own(arg, "the base run")
    return base_argv(None, rest, scenario.recipe, scenario.sources[0].partition("/")[0])


def course_of(scenario: Scenario, argv: Sequence[str], folder: Path, resolve: Resolve) -> Course:
    """The scenario's stages as commands, its corpora numbering their characters alike. Raises CorpusError, UsageError."""
    config = resolve(list(argv)).config
    prepared = prepare(scenario.sources, ROOT / config.data_dir, folder / "corpora", scenario.is_plain)
    course = make_course(scenario, prepared, folder, argv, resolve)
    for stage, found in enumerate(course.configs):
        course.check(stage, found, f"stage {stage + 1}")
    return course


def variants_of(options: argparse.Namespace, argv: Sequence[str], course: Course | None, resolve: Resolve) -> list[Variant]:
    """What is asked for, and ablations; each resolved and checked. Raises UsageError, CorpusError."""
    wanted = asked_for(options.presets, options.policies, options.variant)
    if not wanted:
        raise UsageError("nothing to compare: give --presets=none,balanced, --policies=A,B, or --variant='NAME: --key=value'")
    if course:
        for variant in wanted:
            for arg in variant.args:
                check_scenarios_own(arg, f"variant {variant.name}")
        argv = [*argv, *course.placed(course.last, wanted[0], FIRST_SEED)]
    asked = [resolved(variant, argv, resolve) for variant in wanted]
    if options.ablate:
        for variant in list(asked):
            asked += [resolved(found, argv, resolve) for found in ablations(variant)]
    if len(asked) < 2:
        raise UsageError(
            "a comparison needs two variants: --presets=none,balanced, --policies=A,B, or --variant='NAME: --key=value'"
        )
    if course is None:
        check_corpora(asked)
    else:
        check_stages(course, asked, resolve, FIRST_SEED)
    return asked


def baseline_of(name: str | None, asked: Sequence[Variant]) -> str:
    """The variant that the others are held against. Raises UsageError naming the nearest."""
    names = [variant.name for variant in asked]
    if name is not None and name not in names:
        raise UsageError(f"--baseline must be one of the variants {', '.join(names)}, got {name!r}{nearest(name, names)}")
    return name or names[0]


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
    for line in staged(plan):
        say(line)
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
        n = len(plan.seeds)
        are = "seed is" if n == 1 else "seeds are"
        say(f"{n} {are} not enough for a verdict, which needs {FEWEST}: differences will be shown without one")


def staged(plan: Plan) -> list[str]:
    """A scenario in words: its corpora and stages."""
    if plan.course is None:
        return []
    scenario, lines = plan.course.scenario, []
    lines.append(f"scenario {scenario.name}: {scenario.description}".rstrip(": "))
    if plan.course.prepared.copies:
        names = ", ".join(plan.course.prepared.names.values())
        lines.append(
            f"  corpora with one vocabulary of {plan.course.prepared.vocab_size} in {plan.course.prepared.folder}: {names}"
        )
    for number, (stage, config) in enumerate(zip(scenario.stages, plan.course.configs, strict=True), 1):
        who = "once a seed, for all variants" if stage.is_shared else "by each variant"
        lines.append(f"  stage {number}: {stage.dataset}, {config.max_iters} iterations, trained {who}")
    return lines
