"""What a person sees: nanoGPT's lines, a progress bar on a terminal, and the table at the end."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table

from .calibration import Calibration
from .config import RunConfig
from .context import OccamContext
from .evaluation import Evaluation
from .memory import ACCEPTED_FIRST_VALID, REJECTED_COMPLEXITY, REJECTED_QUALITY, Verdict


class Patient(Console):
    """A console that falls silent when nobody reads any more, as behind `| head`: the run matters more than its lines."""

    def on_broken_pipe(self) -> None:
        """Called by rich, which would exit here."""
        self.quiet = True
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


class Screen:
    """Plain lines everywhere, and below them a progress bar where output is a terminal. Silent on ranks other than the first."""

    def __init__(self, is_main: bool):
        self.console = Patient(quiet=not is_main, soft_wrap=True, highlight=False, markup=False, emoji=False)
        self.progress = Progress(
            TextColumn("{task.description}"),
            BarColumn(bar_width=None),
            MofNCompleteColumn(),
            TimeRemainingColumn(),
            console=self.console,
            transient=True,
            disable=not (is_main and self.console.is_terminal),
        )
        self.task = self.progress.add_task("training", total=None)

    def __enter__(self) -> Screen:
        self.progress.start()
        return self

    def __exit__(self, *exc: object) -> None:
        self.progress.stop()

    def say(self, text: str) -> None:
        """One line."""
        self.console.print(text)

    def table(self, table: Table) -> None:
        """A rich table, in the width that its content needs."""
        self.console.print(table)

    def advance(self, iter_num: int, total: int) -> None:
        """Move the bar."""
        self.progress.update(self.task, completed=iter_num, total=total)

    def evaluation(self, step: int, result: Evaluation, is_final: bool = False) -> None:
        """nanoGPT's evaluation line; `is_final` = over the whole val split, after estimates."""
        on = " (full val split)" if is_final else ""
        self.say(f"step {step}: train loss {result.train_loss:.4f}, val loss {result.val_loss:.4f}{on}")

    def verdict(self, step: int, verdict: Verdict) -> None:
        """What the memory said of the state that was evaluated, and on what figures."""
        against = {
            REJECTED_QUALITY: f"val loss {verdict.value:.4f}, at most {verdict.threshold}",
            REJECTED_COMPLEXITY: f"drift {verdict.value:.4f}, at most {verdict.threshold}",
            ACCEPTED_FIRST_VALID: f"Occam Quotient {verdict.occam_quotient:.3e}",
        }
        gain = "" if verdict.threshold is None else f", at least {verdict.threshold:+.1%}"
        figures = against.get(verdict.reason_code, f"Occam Quotient {verdict.value:+.1%}{gain}")
        self.say(f"step {step}: memory {verdict.reason_code} ({figures})")

    def calibration(self, step: int, result: Calibration) -> None:
        """How right the model is on the val split, and how far it is from knowing so."""
        self.say(f"step {step}: accuracy {result.accuracy:.2%}, expected calibration error {result.ece:.4f}")

    def step(self, ctx: OccamContext, seconds: float, mfu: float | None) -> None:
        """nanoGPT's iteration line, then update rate, drift and learning rate."""
        shown = "n/a" if mfu is None else f"{mfu * 100:.2f}%"
        self.say(
            f"iter {ctx.iter_num}: loss {ctx.task_loss:.4f}, time {seconds * 1e3:.2f}ms, mfu {shown}, "
            f"update {ctx.update_rate:.3f}, drift {ctx.metrics['drift']:.4f}, lr {ctx.learning_rate:.3e}"
        )

    def summary(self, summary: Mapping[str, Any]) -> None:
        """The final table."""
        table = Table(title="run summary", show_header=False, title_justify="left")
        table.add_column("figure")
        table.add_column("value", justify="right")
        for label, value in summary_rows(summary):
            table.add_row(label, value)
        self.console.print(table)


def size_text(parameters: int) -> str:
    """A model's size: 0.80M parameters, and below 0.1 M in thousands."""
    return f"{parameters / 1e6:.2f}M" if parameters >= 1e5 else f"{parameters / 1e3:.1f}K"


def schedule_lines(config: RunConfig) -> list[str]:
    """The optimizer and its schedule in a line, where no table will show them; and what a run cuts off of its schedule."""
    given, is_shown = config.scheduler, config.optimizer.rich_console and not config.eval_only
    name = given.name if config.optimizer.scheduler_hook else "none"
    found = [] if is_shown else [f"optimizer: {config.optimizer.name}, lr {config.optimizer.lr:g}, schedule {name}"]
    if name not in ("none", "constant") and config.max_iters < (given.decay_steps or 0) and not config.eval_only:
        found.append(
            f"the schedule ends at {given.decay_steps:,}, this run at {config.max_iters:,}: the rate does not come to its end "
            f"(--lr_decay_iters={config.max_iters})"
        )
    return found


def summary_rows(summary: Mapping[str, Any]) -> list[tuple[str, str]]:
    """(label, value) of the final table; what is not known is left out."""
    best = "best val loss (estimate)" if summary["best_is_estimate"] else "best val loss"
    rows = [("val loss (full split)", number(summary["val_loss"])), (best, number(summary["best_val_loss"]))]
    if summary["val_loss"] is None:
        rows[0] = ("val loss (full split)", "not yet: the run is unfinished")
    if summary["floor"] is not None and summary["val_loss"] is not None:
        rows += [
            ("floor of this corpus", number(summary["floor"])),
            ("above the floor", number(summary["val_loss"] - summary["floor"])),
        ]
    if summary.get("accuracy") is not None:
        rows.append(("accuracy", f"{summary['accuracy']:.2%}"))
    if summary.get("ece") is not None:
        rows.append(("expected calibration error", f"{summary['ece']:.4f}"))
    rows += [
        ("iterations", f"{summary['iters']:,}"),
        ("update rate", f"{summary['update_rate']:.3f} (last 1,000: {summary['update_rate_recent']:.3f})"),
        ("compute units", f"{summary['compute_units']:,.0f} (saved {summary['compute_saved']:.1%})"),
        ("drift from the anchor", f"{summary['complexity_cost']:.4f}"),
        ("anchor penalty", summary["penalty"]),
        ("consolidations", str(summary["consolidations"])),
        *[("rolled back", "once, after non-finite steps")] * bool(summary.get("rolled_back")),
        *memory_rows(summary.get("memory")),
        ("tokens/s", f"{summary['tokens_per_s']:,.0f}"),
        ("wall time", f"{summary['wall_s']:.1f} s (training {summary['train_s']:.1f} s)"),
    ]
    return rows


def memory_rows(memory: Mapping[str, Any] | None) -> list[tuple[str, str]]:
    """What the memory accepted; nothing where there was none."""
    if not memory:
        return []
    return [("states accepted", f"{memory['accepted']} of {memory['evaluations']} ({memory['kept']} kept)")]


def number(value: float | None) -> str:
    """A loss with four places, or n/a."""
    return "n/a" if value is None else f"{value:.4f} nats/token"
