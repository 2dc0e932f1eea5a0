"""An A/B experiment's results: the tables on the screen, ab.json for machines, ab.html for whoever saw none of the runs."""

from __future__ import annotations

import dataclasses
import html
import json
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ..files import write_text
from .ab_plan import described
from .ab_verdict import Comparison, Runs, figure, is_done, mean_of, shown_p
from .report import STYLE, Record, smoothed, svg
from .scenario_page import (
    LEARNED_HEAD,
    SCENARIO_HEAD,
    figures_json,
    html_table,
    scenario_json,
    scenario_rows,
    sections,
    stream_rows,
)
from .sweep import WIDTH, say
from .variants import RANDOM, SHORTER, Variant

if TYPE_CHECKING:
    from .ab_plan import Plan
    from .ab_runs import Ended
    from .retention import Measured

VERSION = 1  # of ab.json
COLUMNS = ("iter", "updated", "drift", "units", "dt_ms")
POINTS = 120  # of a curve
WINDOW = 100  # batches of the update rate's trailing mean
FIGURES = ("val_loss", "best_val_loss", "compute_units", "update_rate", "iters", "complexity_cost", "wall_s")


def write_results(plan: Plan, ended: Ended, comparisons: Sequence[Comparison], measured: Measured) -> None:
    """Print the tables and the verdicts, write ab.json and ab.html."""
    runs = ended.runs
    plan.folder.mkdir(parents=True, exist_ok=True)
    say("\n" + printed(*screen_tables(plan, runs, comparisons, measured)))
    for line in conclusions(plan, comparisons):
        say(line)
    write_text(plan.folder / "ab.json", json.dumps(as_json(plan, ended, comparisons, measured), indent=2) + "\n")
    write_text(plan.folder / "ab.html", page(plan, ended, comparisons, measured))
    say(f"written: {plan.folder / 'ab.json'}, {plan.folder / 'ab.html'}")


def conclusions(plan: Plan, comparisons: Sequence[Comparison]) -> list[str]:
    """The sentences, those of one variant together."""
    order = {variant.name: place for place, variant in enumerate(plan.variants)}
    return [c.sentence for c in sorted(comparisons, key=lambda c: order[c.left])]


# --------------------------------------------------------------------------------------------------------------- the tables


def variant_rows(plan: Plan, runs: Runs) -> list[tuple[str, ...]]:
    """Of each variant: runs that came to their end, mean final val loss and its spread, compute units, update rate, failures."""
    rows = []
    for variant in plan.variants:
        outcomes = [outcome for seed in plan.seeds if (outcome := runs.get((variant.name, seed)))]
        losses = [loss for outcome in outcomes if is_done(outcome) and (loss := figure(outcome, "val_loss")) is not None]
        means = [mean_of(outcomes, key) for key in ("val_loss", "compute_units", "update_rate", "complexity_cost")]
        shown = [
            "" if value is None else format(value, spec) for value, spec in zip(means, (".4f", ",.0f", ".3f", ".4f"), strict=True)
        ]
        spread = f"{min(losses):.4f} to {max(losses):.4f}" if losses else ""
        rows.append((variant.name, str(len(losses)), shown[0], spread, *shown[1:], str(len(plan.seeds) - len(losses) or "")))
    return rows


VARIANT_HEAD = ("variant", "runs", "val loss", "least to greatest", "compute units", "update rate", "drift", "failed")
COMPARISON_HEAD = (
    "variant",
    "against",
    "of",
    "pairs",
    "difference",
    "95 % interval",
    "p (Holm)",
    "p (signs)",
    "80 % power from",
    "",
)


def comparison_rows(comparisons: Sequence[Comparison]) -> list[tuple[str, ...]]:
    """Of each comparison: pairs, mean difference, interval, p values, the smallest difference; p values only with a verdict."""
    rows = []
    for c in comparisons:
        found = c.paired
        if found is None:
            rows.append((c.left, c.right, c.measure, "0", *[""] * 5, "no verdict"))
            continue
        interval = f"{found.low:+.4f} to {found.high:+.4f}" if found.n > 1 else ""
        smallest = f"{found.smallest:.4f}" if found.n > 1 else ""
        ps = (shown_p(c.p_holm), shown_p(found.p_signs)) if c.has_verdict else ("", "")
        word = "*" if c.is_different else "" if c.has_verdict else "no verdict"
        rows.append((c.left, c.right, c.measure, str(found.n), f"{found.mean:+.4f}", interval, *ps, smallest, word))
    return rows


def screen_tables(plan: Plan, runs: Runs, comparisons: Sequence[Comparison], measured: Measured) -> list[Any]:
    """The tables for the screen."""
    from rich.markup import escape
    from rich.table import Table

    tables = []
    for head, rows, texts in (
        (VARIANT_HEAD, variant_rows(plan, runs), 1),
        (SCENARIO_HEAD, scenario_rows(plan, measured), 1),
        (LEARNED_HEAD, stream_rows(plan, runs), 2),
        (COMPARISON_HEAD, comparison_rows(comparisons), 3),
    ):
        if not rows:
            continue
        table = Table(box=None, pad_edge=False)
        for place, name in enumerate(head):
            table.add_column(name, justify="left" if place < texts or not name else "right", overflow="fold")
        for row in rows:
            table.add_row(*map(escape, row))
        tables.append(table)
    return tables


def printed(*tables: Any) -> str:
    """Rich tables as text."""
    from rich.console import Console

    console = Console(soft_wrap=False, highlight=False, width=None if sys.stdout.isatty() else WIDTH)
    with console.capture() as captured:
        for table in tables:
            console.print(table)
            console.print()
    return "\n".join(line.rstrip() for line in captured.get().rstrip("\n").split("\n"))


def as_json(plan: Plan, ended: Ended, comparisons: Sequence[Comparison], measured: Measured) -> dict[str, Any]:
    """ab.json: losses and differences in nats/token, times in seconds; differences are left minus right."""

    def run_of(variant: Variant, seed: int) -> dict[str, Any]:
        outcome = ended.runs.get((variant.name, seed))
        if outcome is None:
            return {"seed": seed, "status": "not started"}
        known = {"seed": seed, "status": outcome.status, "error": outcome.error, "out_dir": outcome.out_dir, "argv": outcome.argv}
        return (
            known | {key: figure(outcome, key) for key in FIGURES} | {"seconds": round(outcome.seconds, 3)} | more(variant, seed)
        )

    def more(variant: Variant, seed: int) -> dict[str, Any]:
        return {"scenario": figures_json(measured[variant.name, seed])} if (variant.name, seed) in measured else {}

    def comparison(c: Comparison) -> dict[str, Any]:
        figures = dataclasses.asdict(c.paired) if c.paired else {}
        known = {
            "left": c.left,
            "right": c.right,
            "against": c.against,
            "measure": c.measure,
            "seeds": c.seeds,
            "failed": c.failed,
        }
        verdicts = {"p_holm": c.p_holm, "has_verdict": c.has_verdict, "is_different": c.is_different, "verdict": c.sentence}
        return known | {key: none_if_nan(value) for key, value in figures.items()} | verdicts

    return {
        "version": VERSION,
        "command": plan.command,
        "argv": list(plan.argv),
        "baseline": plan.baseline,
        "seeds": list(plan.seeds),
        "variants": [
            {"name": v.name, "kind": v.kind, "args": list(v.args), "parent": v.parent or None,
             "runs": [run_of(v, seed) for seed in plan.seeds]}
            for v in plan.variants
        ],
        "comparisons": [comparison(c) for c in comparisons],
        **scenario_json(plan, ended),
    }  # fmt: skip


def none_if_nan(value: Any) -> Any:
    """JSON has no nan."""
    return None if isinstance(value, float) and value != value else value


# --------------------------------------------------------------------------------------------------------------- the curves


@dataclass(frozen=True)
class Curves:
    """One run's journal as curves: x and y, each an array (n,)."""

    loss_by_units: tuple[np.ndarray, np.ndarray]  # nats/token over compute units
    loss_by_time: tuple[np.ndarray, np.ndarray]  # over seconds of training steps
    rate: tuple[np.ndarray, np.ndarray]  # trailing mean over 100 batches, over compute units
    drift: tuple[np.ndarray, np.ndarray]


def curves_of(out_dir: Path) -> Curves | None:
    """A run's curves; None where it has no journal, or no step in it."""
    if not (out_dir / "journal.jsonl").is_file():
        return None
    record = Record(out_dir, COLUMNS)
    columns = record.columns
    if not len(columns["iter"]):
        return None
    units, seconds = columns["units"], np.cumsum(columns["dt_ms"]) / 1e3
    evals = [(event["iter"], event["val_loss"]) for event in record.evals if isinstance(event["val_loss"], (int, float))]
    done = np.searchsorted(columns["iter"], [at for at, _ in evals])  # steps before each evaluation
    losses = np.array([loss for _, loss in evals], dtype=float)
    paid, spent = np.insert(units, 0, 0.0)[done], np.insert(seconds, 0, 0.0)[done]
    rate = smoothed(columns["updated"], WINDOW)
    return Curves((paid, losses), (spent, losses), (units, rate), (units, columns["drift"]))


def band(curves: Sequence[tuple[np.ndarray, np.ndarray]]) -> tuple[np.ndarray, ...] | None:
    """x, mean, least and greatest over the seeds, at 120 points; None without any.

    Runs are laid over one another at the same share of their lengths, and x is the mean there: their clocks differ.
    """
    known = [(x[np.isfinite(y)], y[np.isfinite(y)]) for x, y in curves]
    known = [(x, y) for x, y in known if len(x)]
    if not known:
        return None
    grids = np.stack([np.linspace(x[0], x[-1], POINTS) for x, _ in known])  # (seeds, POINTS)
    values = np.stack([np.interp(grid, x, y) for grid, (x, y) in zip(grids, known, strict=True)])  # (seeds, POINTS)
    return grids.mean(0), values.mean(0), values.min(0), values.max(0)


def chart(plan: Plan, found: dict[str, list[Curves]], which: str, x_label: str, y_label: str, is_loss: bool) -> str:
    """One picture: a line a variant, its band from the least to the greatest seed; controls in their variant's colour, dashed."""

    def draw(axes: Any) -> None:
        late: list[float] = []
        colours: dict[str, str] = {}
        for variant in plan.variants:
            drawn = band([getattr(curves, which) for curves in found[variant.name]])
            if drawn is None:
                continue
            x, mean, least, greatest = drawn
            style = {RANDOM: "--", SHORTER: ":"}.get(variant.kind, "-")
            colour = colours.get(variant.parent) if style != "-" else None
            (line,) = axes.plot(x, mean, style, label=variant.name, color=colour, lw=1.4)
            colours[variant.name] = line.get_color()
            axes.fill_between(x, least, greatest, color=line.get_color(), alpha=0.15, lw=0)
            late += [float(v) for v in (*least[POINTS // 8 :], *greatest[POINTS // 8 :])]
        if is_loss and late:  # the first fall would flatten everything else
            margin = 0.1 * (max(late) - min(late)) or 0.1
            axes.set_ylim(min(late) - margin, max(late) + margin)
        if which == "rate":  # a share: else lines that all lie at 1 get a scale of nothing
            axes.set_ylim(0, 1.05)
        axes.set_xlabel(x_label)
        axes.set_ylabel(y_label)
        if late:
            axes.legend(fontsize=8)

    return svg(draw, 9.0, 3.8)


CHARTS = (
    ("Val loss against compute", "loss_by_units", "compute units", "val loss, nats/token",
     "Lower is better. Where one line lies below another at the same place, it learned more from the same compute. The losses on "
     "the way are those of each run's own evaluations; the verdicts go by the final loss over the whole val split."),
    ("Val loss against time", "loss_by_time", "seconds of training steps", "val loss, nats/token",
     "The same over time on this machine; evaluation and saving are left out. Runs at the same time slow one another."),
    ("Update rate", "rate", "compute units", "update rate (last 100 batches)",
     "The share of batches that were learned. 1 = every batch; a skipped batch costs a third of a learned one."),
    ("Drift from the anchor", "drift", "compute units", "‖θ−θ*‖²/‖θ*‖²",
     "How far the weights have moved from those that they are held to; dimensionless."),
)  # fmt: skip


# ----------------------------------------------------------------------------------------------------------------- the page


def page(plan: Plan, ended: Ended, comparisons: Sequence[Comparison], measured: Measured) -> str:
    """ab.html: one file without links, that says what was done, what came out and how to read it."""
    runs, title = ended.runs, f"A/B: {', '.join(v.name for v in plan.first)}"
    parts = [
        f"<!doctype html><html lang=en><meta charset=utf-8><title>{e(title)}</title><style>{STYLE}</style><h1>{e(title)}</h1>"
    ]
    parts += introduction(plan)
    parts.append("<h2>Verdicts</h2><ul>" + "".join(f"<li>{e(line)}</li>" for line in conclusions(plan, comparisons)) + "</ul>")
    parts += sections(plan, measured, runs)
    parts.append("<h2>Final val loss</h2>" + html_table(VARIANT_HEAD, variant_rows(plan, runs), 1))
    parts.append("<h2>Differences, paired by seed</h2>" + html_table(COMPARISON_HEAD, comparison_rows(comparisons), 3))
    parts += [f"<p>{line}</p>" for line in HOW_TO_READ]
    found = {
        variant.name: [
            curves
            for seed in plan.seeds
            if (outcome := runs.get((variant.name, seed))) and is_done(outcome) and (curves := curves_of(Path(outcome.out_dir)))
        ]
        for variant in plan.variants
    }
    if any(found.values()):
        parts += [
            f"<h2>{e(name)}</h2><p>{e(text)}</p>{chart(plan, found, which, x, y, which.startswith('loss'))}"
            for name, which, x, y, text in CHARTS
        ]
        parts.append(
            "<p>Lines are means over the seeds, bands reach from the least to the greatest; controls are dashed or dotted.</p>"
        )
    parts.append(
        "<h2>Every run</h2>" + html_table(("run", "status", "val loss", "compute units", "seconds"), run_rows(plan, runs), 2)
    )
    parts.append(f"<h2>To repeat it</h2><pre>{e(plan.command)}</pre></html>")
    return "\n".join(parts) + "\n"


def introduction(plan: Plan) -> list[str]:
    """What was compared, for somebody who saw none of it."""
    config = plan[plan.baseline].config
    assert config is not None  # the baseline is never a control
    rows = "".join(f"<li><b>{e(v.name)}</b>: {e(described(plan, v))}</li>" for v in plan.variants)
    return [
        f"<p>Small language models were trained on {trained_on(plan, config.dataset)} in several ways, each way with the same "
        f"{len(plan.seeds)} seeds ({e(', '.join(map(str, plan.seeds)))}). A seed decides the first weights and the order of the "
        "data, so runs with the same seed are compared in pairs. "
        f"The baseline is <b>{e(plan.baseline)}</b>: {config.max_iters:,} "
        f"iterations of {config.batch_size} × {config.block_size} tokens, "
        f"a model of {config.n_layer} × {config.n_embd} (layers × width).</p>",
        f"<ul>{rows}</ul>",
    ]


def trained_on(plan: Plan, dataset: str) -> str:
    """The corpus, or the stages of a scenario."""
    if plan.course is None:
        return f"the corpus <b>{e(dataset)}</b>"
    stages = [
        f"the stream <b>{e(s.dataset)}</b>" if s.stream else f"the corpus <b>{e(s.dataset)}</b>"
        for s in plan.course.scenario.stages
    ]
    return ", then on ".join(stages)


HOW_TO_READ = (
    "<b>Val loss</b>: how badly the model predicts text that it has not learned, in nats a token, over the whole val split at "
    "the end of the run; lower is better. <b>Compute unit</b>: one forward of a batch; its backward costs two, so a learned "
    "batch costs 3 and a skipped one 1.",
    "<b>Difference</b>: the variant's figure (in the column <b>of</b>) minus that of what it is held against, in nats a token; "
    "below 0 the variant is better. The interval is Student's t for the mean of the paired differences. <b>p (Holm)</b>: of "
    "the paired t test, corrected for the number of comparisons on this page; * marks those below 0.05. <b>p (signs)</b>: of "
    "the exact sign-flip test, which assumes no normal distribution; not corrected. <b>80 % power from</b>: the smallest true "
    "difference that so many seeds find in 80 of 100 experiments, as one of all the comparisons that have a verdict; a smaller "
    "one may well be there and not be seen.",
    "<b>Controls</b>: a variant that skips batches, or sequences inside them, saves compute. To be worth it, it has to beat two "
    "others: leaving out as many by lot (NAME+random), and a shorter plain run that costs as much (NAME+shorter).",
)


def run_rows(plan: Plan, runs: Runs) -> list[tuple[str, ...]]:
    """Every run, those that failed with their error."""
    rows: list[tuple[str, ...]] = []
    for variant in plan.variants:
        for seed in plan.seeds:
            outcome, name = runs.get((variant.name, seed)), f"{variant.name}_seed{seed}"
            if outcome is None:
                rows.append((name, "not started: the run that it depends on has failed", "", "", ""))
                continue
            status = outcome.shown + (f": {outcome.error}" if outcome.error else "")
            shown = [
                "" if (v := figure(outcome, key)) is None else format(v, spec)
                for key, spec in (("val_loss", ".4f"), ("compute_units", ",.0f"))
            ]
            rows.append((name, status, *shown, f"{outcome.seconds:.1f}"))
    return rows


e: Callable[[str], str] = html.escape
