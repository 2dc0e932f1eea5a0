"""What ab's tables, ab.json and ab.html say about a scenario: the loss matrix, what was forgotten, old against new."""

from __future__ import annotations

import dataclasses
import html
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .. import journal
from ..tokenizer import read_meta
from .ab_verdict import Runs, is_done
from .matrix import Retention, mean
from .report import svg
from .streams import kinds_learned

if TYPE_CHECKING:
    from .ab_plan import Plan
    from .ab_runs import Ended
    from .retention import Measured

SCENARIO_HEAD = ("variant", "runs", "new loss", "forgetting", "average loss", "backward", "forward", "drift", "units, last stage",
                 "× baseline", "units, all")  # fmt: skip
COLUMNS = (("new", ".4f"), ("forgetting", "+.4f"), ("average", ".4f"), ("backward", "+.4f"), ("forward", "+.4f"),
           ("drift", ".4f"), ("units", ",.0f"))  # fmt: skip


def of_variant(plan: Plan, measured: Measured, name: str) -> list[Retention]:
    """The runs of a variant that were measured, seed by seed."""
    return [measured[name, seed] for seed in plan.seeds if (name, seed) in measured]


def mean_figure(runs: Sequence[Retention], field: str) -> float | None:
    """The mean of a figure over runs; None where it is not known of all."""
    values = [getattr(run, field) for run in runs]
    return mean(values) if values and None not in values else None


def times_baseline(plan: Plan, measured: Measured, name: str) -> float | None:
    """The compute units of a variant's last stage as a multiple of the baseline's."""
    own, base = (mean_figure(of_variant(plan, measured, which), "units") for which in (name, plan.baseline))
    return own / base if own is not None and base else None


# ----------------------------------------------------------------------------------------------------------------- tables


def scenario_rows(plan: Plan, measured: Measured) -> list[tuple[str, ...]]:
    """Of each variant: its figures, means over the seeds; nothing where nothing was learned before the last stage."""
    rows = []
    for variant in plan.variants if plan.course and plan.course.scenario.old else ():
        runs = of_variant(plan, measured, variant.name)
        shown = [said(mean_figure(runs, field), spec) for field, spec in COLUMNS]
        times = said(times_baseline(plan, measured, variant.name), ".2f")
        rows.append((variant.name, str(len(runs)), *shown, times, said(mean_figure(runs, "units_all"), ",.0f")))
    return rows


def said(value: float | None, spec: str) -> str:
    """A number, or nothing."""
    return "" if value is None else format(value, spec)


def scenario_json(plan: Plan, ended: Ended) -> dict[str, Any]:
    """What ab.json says about the scenario itself; {} without one."""
    course = plan.course
    if course is None:
        return {}
    stages = [
        {
            "dataset": stage.dataset,
            "stream": dataclasses.asdict(stage.stream) if stage.stream else None,
            "args": list(stage.args),
            "shared": stage.is_shared,
        }
        for stage in course.scenario.stages
    ]
    runs = [
        {"stage": stage + 1, "variant": name or None, "seed": seed, "status": outcome.status, "out_dir": outcome.out_dir}
        for (stage, name, seed), outcome in ended.stages.items()
    ]
    scenario = {"name": course.scenario.name, "description": course.scenario.description, "stages": stages}
    corpora = {"corpora": list(course.scenario.sources), "vocab_size": course.prepared.vocab_size}
    return {"scenario": {**scenario, **corpora, "earlier_runs": runs}}


def figures_json(run: Retention) -> dict[str, Any]:
    """A run's matrix (stages × corpora) and figures."""
    return dataclasses.asdict(run)


# --------------------------------------------------------------------------------------------------------------- the page


def sections(plan: Plan, measured: Measured, runs: Runs) -> list[str]:
    """The page's parts about a scenario; none without one."""
    course = plan.course
    if course is None or not measured:
        return []
    parts = [f"<h2>The scenario</h2><p>{told(plan)}</p>"]
    if course.scenario.old:
        parts.append(f"<h2>Old against new</h2><p>{HOW_OLD_AND_NEW}</p>{frontier(plan, measured)}")
        parts.append("<h2>What was kept</h2>" + html_table(SCENARIO_HEAD, scenario_rows(plan, measured), 1))
        parts.append(f"<p>{HOW_KEPT}</p>")
    parts.append(f"<h2>Losses after every stage</h2><p>{HOW_MATRIX}</p>")
    parts += [matrix_table(plan, measured, variant.name) for variant in plan.variants]
    if learned := stream_rows(plan, runs):
        parts.append("<h2>What was learned of the stream</h2>" + html_table(LEARNED_HEAD, learned, 2))
        parts.append("<p>Mean numbers of batches over the seeds. A gate that chooses well learns the clean ones.</p>")
    return parts


HOW_OLD_AND_NEW = (
    "Left is better at the new corpus, below has lost less of the old: the best place is at the lower left. A large dot is "
    "the mean of a variant, the small ones are its seeds; behind each name stands what its last stage cost in compute, as a "
    "multiple of the baseline's. Only variants of about equal cost can be compared at a glance."
)
HOW_KEPT = (
    "<b>New loss</b>: on the corpora of the last stage, at the end. <b>Forgetting</b>: of an old corpus, its loss at the "
    "end minus the lowest that it had after an earlier stage, mean over the old corpora; above 0 something was lost. "
    "<b>Average loss</b>: at the end, over all corpora. <b>Backward</b> transfer: loss of the old corpora right after they "
    "were learned, minus that at the end; above 0 later stages helped. <b>Forward</b> transfer: ln(vocabulary), the loss of "
    "a model that knows nothing, minus the loss on a corpus just before it is first learned; above 0 earlier stages helped. "
    "<b>Drift</b>: squared distance of the weights from those at the start of the last stage, relative to their own squared "
    "length. All losses are in nats a token."
)
HOW_MATRIX = (
    "Rows are ends of stages, columns corpora; each number is the loss on the corpus's whole val split, mean over the "
    "seeds, in nats a token. Down a column one sees a corpus learned, and then forgotten."
)


def told(plan: Plan) -> str:
    """The stages in sentences."""
    assert plan.course is not None
    scenario = plan.course.scenario
    sentences = [e(scenario.description)] if scenario.description else []
    for number, (stage, config) in enumerate(zip(scenario.stages, plan.course.configs, strict=True), 1):
        what = f"the stream {stage.dataset}" if stage.stream else f"the corpus {stage.dataset}"
        who = (
            "trained once for each seed; all variants go on from it"
            if stage.is_shared
            else "trained by each variant in its own way"
        )
        sentences.append(f"Stage {number}: {e(what)}, {config.max_iters:,} iterations, {who}.")
    return " ".join(sentences)


def matrix_table(plan: Plan, measured: Measured, name: str) -> str:
    """One variant's matrix, mean over its seeds."""
    assert plan.course is not None
    scenario, runs = plan.course.scenario, of_variant(plan, measured, name)
    if not runs:
        return f"<h3>{e(name)}</h3><p>No run of it came to its end.</p>"
    rows = [
        (
            f"{number}: {stage.dataset}",
            *(f"{mean([run.matrix[number - 1][c] for run in runs]):.4f}" for c in range(len(scenario.sources))),
        )
        for number, stage in enumerate(scenario.stages, 1)
    ]
    return f"<h3>{e(name)}</h3>" + html_table(("after stage", *scenario.sources), rows, 1)


def frontier(plan: Plan, measured: Measured) -> str:
    """The picture of new loss against forgetting: a variant's mean, and its seeds around it."""

    def draw(axes: Any) -> None:
        for number, variant in enumerate(plan.variants):
            runs = of_variant(plan, measured, variant.name)
            points = [(run.new, run.forgetting) for run in runs if run.forgetting is not None]
            if not points:
                continue
            colour, marker = f"C{number % 10}", MARKERS[number // 10 % len(MARKERS)]
            times = times_baseline(plan, measured, variant.name)
            xs, ys = zip(*points, strict=True)
            axes.plot(xs, ys, marker, color=colour, alpha=0.4, ms=3)
            label = variant.name + (f" ({times:.2f}×)" if times is not None else "")
            axes.plot([mean(xs)], [mean(ys)], marker, color=colour, ms=8, label=label)
        axes.axhline(0.0, color="#999", lw=0.8)
        axes.margins(0.1)
        axes.legend(fontsize=8, loc="center left", bbox_to_anchor=(1.0, 0.5))
        axes.set_xlabel("new loss, nats/token")
        axes.set_ylabel("forgetting, nats/token")

    return svg(draw, 9.0, 5.0)


MARKERS = "osD^v"
LEARNED_HEAD = ("variant", "batches of", "seen", "learned", "share")


def stream_rows(plan: Plan, runs: Runs) -> list[tuple[str, ...]]:
    """Of the last stage's stream, where it is one: how many batches of each kind were seen and learned, means over the seeds."""
    course = plan.course
    if course is None or course.scenario.stages[-1].stream is None:
        return []
    rows: list[tuple[str, ...]] = []
    for variant in plan.variants:
        counts = [kinds for seed in plan.seeds if (kinds := learned_of(plan, runs, variant.name, seed))]
        for kind in dict.fromkeys(kind for found in counts for kind in found):
            seen, learned = (mean([found.get(kind, (0, 0))[i] for found in counts]) for i in (0, 1))
            rows.append((variant.name, kind, f"{seen:,.1f}", f"{learned:,.1f}", f"{learned / seen:.3f}"))
    return rows


def learned_of(plan: Plan, runs: Runs, name: str, seed: int) -> dict[str, tuple[int, int]]:
    """One run's batches by kind; {} for a run that did not come to its end."""
    outcome = runs.get((name, seed))
    assert plan.course is not None
    if outcome is None or not is_done(outcome):
        return {}
    updated = [bool(event["updated"]) for event in journal.read(Path(outcome.out_dir) / "journal.jsonl", "step")]
    kinds = read_meta(plan.course.corpus(plan.course.last, seed))["ordered"]["kinds"]
    return kinds_learned(kinds, updated)


def html_table(head: Sequence[str], rows: Sequence[Sequence[str]], texts: int) -> str:
    """Rows as an HTML table; all but the first `texts` columns to the right."""
    top = "".join(f"<th>{e(name)}</th>" for name in head)
    cells = (
        "".join(f"<td{'' if place < texts else ' class=n'}>{e(cell)}</td>" for place, cell in enumerate(row)) for row in rows
    )
    return f"<table><tr>{top}</tr>{''.join(f'<tr>{row}</tr>' for row in cells)}</table>"


e: Callable[[str], str] = html.escape
