"""`ockham preset suggest`: each preset for the same compute on the user's own data, ranked by val loss.

A preset that skips batches gets more iterations for the same units: a run ends when they are spent (max_units), and its
schedule counts compute (scheduler.clock=compute), so it ends there, too.
"""

from __future__ import annotations

import argparse
import importlib
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..arguments import DEBUG
from ..errors import ConfigError, UsageError, WorldError, nearest
from ..ledger import BACKWARD, FORWARD
from ..presets import preset_names
from .jobs import LOG, SCRIPT, Job, Outcome, run_job

UNITS = 600  # 200 learned iterations
OWN_KEYS = (
    "out_dir",
    "overwrite",
    "preset",
    "seed",
    "scheduler.clock",
    "scheduler.decay_steps",
    "lr_decay_iters",
    "max_units",
    "epochs",
    "max_hours",
)

Run = Callable[..., Outcome]


@dataclass(frozen=True)
class Plan:
    """What is run: the cross of presets and seeds."""

    argv: tuple[str, ...]  # the train arguments that all runs share
    presets: tuple[str, ...]
    seeds: tuple[int, ...]
    units: float
    iteration_units: float  # of one learned iteration: 3 per micro-batch
    folder: Path


@dataclass(frozen=True)
class Result:
    """One preset on all seeds."""

    preset: str
    losses: tuple[float, ...]  # final val losses, nats/token; failed runs have none
    units: float  # mean spent
    iters: float  # mean
    update_rate: float  # mean
    errors: tuple[str, ...]

    @property
    def loss(self) -> float:
        """The mean val loss, nats/token; inf without any."""
        return sum(self.losses) / len(self.losses) if self.losses else math.inf


def suggest(options: argparse.Namespace, run: Run = run_job, script: Path = SCRIPT) -> int:
    """The verb; the exit code. Raises ConfigError, UsageError; WorldError when no run came to its end."""
    plan = make_plan(options, importlib.import_module("configurator").resolve)
    print(f"{len(plan.presets)} presets, {plan.units:g} compute units a run, seeds {', '.join(map(str, plan.seeds))}", flush=True)
    results = sorted((measured(plan, preset, run, script) for preset in plan.presets), key=lambda result: result.loss)
    show(results)
    if not results[0].losses:
        raise WorldError(f"no run came to its end; the last error: {results[-1].errors[-1] if results[-1].errors else 'none'}")
    print(*conclusion(plan, results), sep="\n")
    return 0


def make_plan(options: argparse.Namespace, resolve: Callable[[list[str]], Any]) -> Plan:
    """The command line, checked before anything runs: every preset is resolved with the train arguments."""
    argv = [arg for arg in options.rest if not DEBUG.fullmatch(arg)]
    for arg in argv:
        if (key := arg.lstrip("-+").partition("=")[0]) in OWN_KEYS:
            raise ConfigError(f"{arg}: suggest sets {key} itself; leave it out")
    names, seeds = _presets(options.presets), _seeds(options.seeds)
    resolved = [resolve([*argv, f"--preset={name}"]).config for name in names]
    if resolved[0].init_from == "resume":
        raise ConfigError("init_from=resume: the runs are new ones; name the run's folder instead")
    an_iteration = (FORWARD + BACKWARD) * resolved[0].optimizer.accumulate_steps
    kept = [arg for arg in argv if arg.lstrip("-+").partition("=")[0] != "max_iters"]
    has_iters = len(kept) < len(argv)
    units = options.units if options.units is not None else resolved[0].max_iters * an_iteration if has_iters else UNITS
    if units < an_iteration:
        raise UsageError(f"--units must pay one learned iteration at least, {an_iteration:g}, got {units:g}")
    if options.out.exists() and (not options.out.is_dir() or any(options.out.iterdir())):
        raise UsageError(f"{options.out} is not empty; give a new folder: --out=DIR")
    return Plan(tuple(kept), names, seeds, units, an_iteration, options.out)


def _presets(given: str | None) -> tuple[str, ...]:
    known = ["none", *preset_names()]
    names = [name.strip() for name in given.split(",")] if given is not None else known
    for name in names:
        if name not in known:
            raise UsageError(f"--presets: no preset {name!r}{nearest(name, known)}; there are {', '.join(known)}")
    return tuple(dict.fromkeys(names))


def _seeds(given: str) -> tuple[int, ...]:
    try:
        return tuple(dict.fromkeys(int(text) for text in given.split(",")))
    except ValueError:
        raise UsageError(f"--seeds must be whole numbers separated by commas, got {given!r}") from None


def measured(plan: Plan, preset: str, run: Run, script: Path) -> Result:
    """One preset under every seed."""
    outcomes = [spend(plan, preset, seed, run, script) for seed in plan.seeds]
    done = [o.summary for o in outcomes if o.exit_code == 0 and math.isfinite(float(o.summary.get("val_loss", math.nan)))]
    errors = tuple(failure(o) for o in outcomes if o.summary not in done)
    units, iters, rate = (_mean([float(s.get(key, math.nan)) for s in done]) for key in ("compute_units", "iters", "update_rate"))
    return Result(preset, tuple(float(s["val_loss"]) for s in done), units, iters, rate, errors)


def spend(plan: Plan, preset: str, seed: int, run: Run, script: Path) -> Outcome:
    """One run, until its units are spent."""
    name = f"{preset}_seed{seed}"
    ticks = max(1, round(plan.units / plan.iteration_units))
    most = math.ceil(plan.units / FORWARD)  # iterations, if none is learned
    argv = [
        *plan.argv, f"--preset={preset}", f"--seed={seed}", f"--out_dir={plan.folder / name}",
        "--scheduler.clock=compute", f"--scheduler.decay_steps={ticks}", f"--max_units={plan.units:g}", f"--max_iters={most}",
    ]  # fmt: skip
    outcome = run(Job(name, plan.folder / name, tuple(argv)), quiet=True, script=script)
    loss = outcome.summary.get("val_loss")
    said = failure(outcome) if outcome.exit_code or loss is None else f"val loss {loss:.4f}"
    print(f"{name}: {said}", flush=True)
    return outcome


def failure(outcome: Outcome) -> str:
    """Why a run has no val loss."""
    return outcome.error or f"{outcome.status}, see {Path(outcome.out_dir) / LOG}"


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values) if values else math.nan


# --------------------------------------------------------------------------------------------------------- for the screen


def show(results: Sequence[Result]) -> None:
    """The ranking as a table."""
    from rich.console import Console
    from rich.table import Table

    table = Table(box=None, pad_edge=False)
    for name in ("preset", "val loss", "spread", "units", "iters", "update rate", "failed"):
        table.add_column(name, justify="left" if name == "preset" else "right")
    for result in results:
        spread = f"{max(result.losses) - min(result.losses):.4f}" if len(result.losses) > 1 else ""
        figures = (f"{result.loss:.4f}", spread, f"{result.units:,.0f}", f"{result.iters:,.0f}", f"{result.update_rate:.2f}")
        table.add_row(result.preset, *(figures if result.losses else [""] * 5), str(len(result.errors) or ""))
    Console(highlight=False).print(table)


def conclusion(plan: Plan, results: Sequence[Result]) -> list[str]:
    """What may be said, and what may not."""
    best = results[0]
    lines = [f"val loss in nats/token over the whole val split, mean of {len(plan.seeds)} seed{'s' * (len(plan.seeds) > 1)}"]
    if len(plan.seeds) == 1:
        lines.append("one seed is no verdict: differences may be luck; --seeds=1,2,3 shows how much they vary")
    elif len(results) > 1 and results[1].losses:
        second = results[1]
        apart = max(best.losses) < min(second.losses)
        lines.append(
            f"{best.preset} is ahead of {second.preset} by {second.loss - best.loss:.4f}"
            + ("; every seed of it is better than every seed of the other" if apart else "; their seeds overlap: no clear winner")
        )
    return [*lines, f"a short run tells little about a long one; to go on: --preset={best.preset}"]
