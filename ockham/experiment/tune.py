"""`ockham tune`: look for better values of any keys of a run, then say on fresh seeds whether they are better.

    ockham tune [config/FILE ...] [--key=value ...] KEY=SPACE ... --trials=20 --study=DIR

Everything but the spaces and the flags below is the base run, as for `ockham train`: the start, which is trial 0.
"""

from __future__ import annotations

import argparse
import importlib
import math
import shlex
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from ..arguments import DEBUG
from ..configuration.keys import is_known, known_keys, real_key
from ..errors import ConfigError, UsageError, WorldError, nearest
from ..lock import FolderLock
from .best import Best, check_name, how_to_use, write_best
from .confirm import Confirmation, confirm, fresh_seeds, tally
from .jobs import Outcome, run_job
from .search import LOCK, Search, load_optuna
from .space import FORMS, Space, split
from .study import Plan, Trial, short
from .tune_flags import OWN_FLAGS

Resolve = Callable[[list[str]], Any]  # configurator.resolve
NOT_IN_BASE = ("out_dir", "overwrite", "dry_run", "eval_only", "max_hours")


def tune(options: argparse.Namespace, run: Callable[..., Outcome] = run_job) -> int:
    """The verb; the exit code. `options.rest` are the arguments that are not tune's own. Raises ConfigError, WorldError."""
    resolve: Resolve = importlib.import_module("configurator").resolve
    plan = make_plan(options, resolve)
    if options.name:
        check_name(options.name)
    load_optuna()
    with alone(plan.folder), Search(plan, run) as search:
        introduce(plan)
        try:
            search.go()
        except (SystemExit, KeyboardInterrupt):
            print(f"interrupted; the same command goes on with the study in {plan.folder}", flush=True)
            raise
        trials = search.trials()
        show(plan, trials, search.best(trials), search.importances())
        conclude(options, search, trials, resolve)
    return 0


def make_plan(options: argparse.Namespace, resolve: Resolve) -> Plan:
    """The command line, checked: every space is tried at its ends before anything runs. Raises ConfigError."""
    base, spaces = split([arg for arg in options.rest if not DEBUG.fullmatch(arg)])
    check_base(base)
    if not spaces:
        raise UsageError(f"nothing to tune: give at least one KEY=SPACE; a space is {FORMS}")
    if not options.trials:
        raise UsageError("--trials must be 1 or more, got 0")
    resolved = resolve(base)
    if resolved.config.init_from == "resume":
        raise ConfigError("init_from=resume cannot be tuned: trials are new runs; name the run's folder instead")
    check_spaces(base, spaces, resolve)
    start = start_tokens(base, spaces, resolved, resolve)
    max_s = math.inf if options.max_hours_in_all is None else options.max_hours_in_all * 3600
    return Plan(
        argv=tuple(base),
        config=resolved.config,
        spaces=tuple(spaces),
        start=start,
        folder=options.study,
        trials=options.trials,
        tune_seed=options.tune_seed,
        prunes=not options.no_prune,
        max_s=max_s,
    )


def check_base(base: Sequence[str]) -> None:
    """Raises ConfigError for what the trials decide themselves, and for unknown flags, tune's own among what may be meant."""
    for arg in base:
        key = arg.lstrip("-+").partition("=")[0]
        if arg in ("-m", "--multirun"):
            raise ConfigError(f"{arg}: tune has no sweeps; a space is written without it: KEY=a,b,c")
        if key in NOT_IN_BASE:
            raise ConfigError(f"{arg}: each trial has its own folder in --study=DIR and runs to its end; leave {key} out")
        if arg.startswith("--") and not is_known(key):
            raise ConfigError(f"unknown key --{key}{nearest(f'--{key}', [*OWN_FLAGS, *(f'--{k}' for k in known_keys())])}")


def check_spaces(base: Sequence[str], spaces: Sequence[Space], resolve: Resolve) -> None:
    """Resolve every space's extremes, the other spaces at their first value. Raises the ConfigError of the first misfit."""
    first = [space.assignment(space.extremes()[0]) for space in spaces]
    resolve([*base, *first])
    for i, space in enumerate(spaces):
        for token in space.extremes()[1:]:
            resolve([*base, *first[:i], space.assignment(token), *first[i + 1 :]])


def start_tokens(base: Sequence[str], spaces: Sequence[Space], resolved: Any, resolve: Resolve) -> dict[str, Any] | None:
    """The base run's own values as a trial; None where they lie outside the spaces, or would not give the same run."""
    try:
        tokens = {space.key: space.token(value_of(resolved.provenance, space.key)) for space in spaces}
    except (ValueError, KeyError, TypeError, IndexError):
        return None
    same = resolve([*base, *(space.assignment(tokens[space.key]) for space in spaces)]).config
    return tokens if same == resolved.config else None


def value_of(provenance: Any, key: str) -> Any:
    """What a run has for a key as it is written: an alias, a group, an element of a list. Raises KeyError when it has none."""
    real, index = real_key(key)
    value = provenance.value(f"{real}.name" if real in ("optimizer", "scheduler") else real)
    return value if index is None else value[index]


def alone(folder: Path) -> FolderLock:
    """Hold a study for this process. Raises WorldError while another one does."""
    folder.mkdir(parents=True, exist_ok=True)
    busy = f"another ockham tune is at work in {folder} (pid {{pid}}); wait for it, or give another --study"
    return FolderLock(folder, LOCK, busy)


# --------------------------------------------------------------------------------------------------------- for the screen


def introduce(plan: Plan) -> None:
    """The first lines."""
    print(f"study {plan.folder}: {plan.trials} trials, seed {plan.config.seed} for all of them, tune_seed {plan.tune_seed}")
    for space in plan.spaces:
        start = "" if plan.start is None else f"; the start has {short(plan.start[space.key])}"
        print(f"  {space.key}: {space.described}{start}", flush=True)


def show(plan: Plan, trials: Sequence[Trial], best: Trial | None, importances: dict[str, float]) -> None:
    """The table of trials, and which parameters mattered."""
    from rich.console import Console
    from rich.table import Table

    table = Table(title="trials", title_justify="left")
    for name in ("trial", "val loss", "state", *(space.key for space in plan.spaces), "seconds"):
        table.add_column(name, justify="left" if name == "state" else "right", overflow="fold")
    for trial in trials:
        state = (
            trial.state
            + (f" at {trial.reached}" if trial.state == "pruned" else "")
            + (", best" if trial == best else "")
            + (", start" if trial.tokens == plan.start else "")
        )
        value = "" if trial.value is None else f"{trial.value:.4f}"
        parameters = [short(trial.tokens.get(space.key, "")) for space in plan.spaces]
        table.add_row(f"{trial.ordinal:03d}", value, state, *parameters, f"{trial.seconds:.1f}")
    Console(highlight=False).print(table)
    if importances and len(importances) > 1:
        print("importance (PED-ANOVA, share): " + ", ".join(f"{key} {share:.2f}" for key, share in importances.items()))


def conclude(options: argparse.Namespace, search: Search, trials: Sequence[Trial], resolve: Resolve) -> None:
    """Confirm the best trial and write it, unless it is the start. Raises WorldError when no trial came to its end."""
    plan, best = search.plan, search.best(trials)
    if best is None:
        raise WorldError(f"no trial of {len(trials)} came to its end; the last error: {trials[-1].error or 'none'}")
    outside = search.measure("start", []) if plan.start is None else None
    if best.tokens == plan.start or (outside is not None and best.value is not None and outside <= best.value):
        print(f"{tally(trials)}: none is better than the start, so there is nothing to confirm or to write")
        return
    if options.confirm:
        print(f"confirming {best.name} on fresh seeds {', '.join(map(str, fresh_seeds(plan.config.seed, options.confirm)))}")
    found = confirm(search, best, options.confirm)
    print(*found.lines, sep="\n", flush=True)
    keep(options, plan, trials, best, found, resolve)


def keep(
    options: argparse.Namespace, plan: Plan, trials: Sequence[Trial], best: Trial, found: Confirmation, resolve: Resolve
) -> None:
    """Write policy and preset, and print the command that uses them. A name is given only to what beats the start."""
    config = resolve([*plan.argv, *plan.assignments(best.tokens)]).config
    winner = Best(plan.spaces, best.tokens, config)
    name = options.name if found.beats or not options.confirm else None
    if options.name and not name:
        print(f"not written as {options.name}: {found.verdict}")
    comment = [
        f"Found by: {command(options, plan)}",
        f"{tally(trials)}, all with seed {plan.config.seed}; tune_seed {plan.tune_seed}; best: {best.name}.",
        f"Gain: {found.verdict}.",
    ]
    policy, preset = write_best(winner, comment, plan.folder, name or plan.folder.name, name)
    print(*(f"written: {path}" for path in (policy, preset) if path), sep="\n")
    if preset and not name:
        print(f"use it: cp {preset} presets/{preset.name}")
    use = how_to_use(plan.argv, winner, policy, preset.stem if preset else None)
    print(f"use it: ockham train {shlex.join(use)}")


def command(options: argparse.Namespace, plan: Plan) -> str:
    """The command line of the study, on one line."""
    spaces = [arg for arg in options.rest if arg not in plan.argv and not DEBUG.fullmatch(arg)]
    own = [f"--study={options.study}", f"--trials={options.trials}", f"--tune_seed={options.tune_seed}"]
    own += [f"--confirm={options.confirm}"] + ["--no_prune"] * options.no_prune
    return " ".join(shlex.join(["ockham", "tune", *plan.argv, *spaces, *own]).split())
