"""report.html: one run in pictures and words, one file that opens offline; and val-loss curves of several runs."""

from __future__ import annotations

import hashlib
import html
import io
import json
import re
from array import array
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from .. import journal
from ..console import summary_rows
from ..errors import WorldError
from ..files import write_text

STYLE = """body{font:15px/1.5 system-ui,sans-serif;max-width:60rem;margin:2rem auto;padding:0 1rem;color:#222}
table{border-collapse:collapse;margin:1rem 0}td,th{padding:.2rem .9rem .2rem 0;text-align:left;border-bottom:1px solid #ddd}
td.n{text-align:right;font-variant-numeric:tabular-nums}svg{max-width:100%;height:auto}pre{background:#f6f6f6;padding:1rem;overflow-x:auto}"""
POINTS = 1500  # a longer run is thinned to this many points a curve


COLUMNS = ("iter", "task_loss", "updated", "surprise_threshold", "learning_rate", "lambda_ockham", "drift")


class Record:
    """A run's journal, read once: the steps as columns of numbers, everything else as it stands; and its summary."""

    def __init__(self, out_dir: Path, wanted: Sequence[str] = COLUMNS):
        if not (out_dir / "journal.jsonl").is_file():
            raise WorldError(f"{out_dir} holds no run: journal.jsonl is missing")
        self.name = out_dir.name
        self.evals: list[dict[str, Any]] = []
        self.others: list[dict[str, Any]] = []
        self.changes: Counter[tuple[str, str]] = Counter()
        self.has_gate = False
        columns = {name: array("d") for name in wanted}
        for event in journal.read(out_dir / "journal.jsonl"):
            if event["event"] == "step":
                self._add_step(event, columns)
            else:
                (self.evals if event["event"] == "eval" else self.others).append(event)
        self.columns = {name: np.array(values) for name, values in columns.items()}
        path = out_dir / "summary.json"
        self.summary: dict[str, Any] = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
        self.config = (out_dir / "config.yaml").read_text(encoding="utf-8") if (out_dir / "config.yaml").is_file() else ""

    def _add_step(self, event: dict[str, Any], columns: dict[str, array[float]]) -> None:
        for name, values in columns.items():
            values.append(as_number(event.get(name, event["metrics"].get(name))))
        self.changes.update((plugin, field) for plugin, field, _, _ in event["changes"])
        self.has_gate = self.has_gate or "gate/open" in event["metrics"]

    def curve(self, name: str, window: int = 1) -> tuple[np.ndarray, np.ndarray]:
        """A column over iterations, as a trailing mean over `window` steps, thinned to what a picture can show."""
        thin = max(1, len(self.columns["iter"]) // POINTS)
        values = self.columns[name] if window == 1 else smoothed(self.columns[name], window)
        return self.columns["iter"][::thin], values[::thin]

    def at(self, event: str) -> list[int]:
        """The iterations at which an event happened."""
        return [e["iter"] for e in self.others if e["event"] == event]


def as_number(value: Any) -> float:
    """A journal's number, those included that JSON cannot hold; NaN for anything else."""
    is_number = isinstance(value, (int, float)) or value in journal.NONFINITE
    return float(value) if is_number else float("nan")


def smoothed(values: np.ndarray, window: int) -> np.ndarray:
    """Trailing mean over up to `window` values."""
    if not len(values):
        return values
    total = np.cumsum(np.insert(np.nan_to_num(values), 0, 0.0))
    index = np.arange(1, len(values) + 1)
    start = np.maximum(0, index - window)
    return (total[index] - total[start]) / (index - start)


def svg(draw: Callable[[Any], None], width: float = 9.0, height: float = 3.2) -> str:
    """One chart as inline SVG."""
    import matplotlib

    matplotlib.use("svg")
    from matplotlib import pyplot

    with pyplot.rc_context(
        {
            "svg.hashsalt": "ockham",
            "axes.spines.top": False,
            "axes.spines.right": False,
            "axes.grid": True,
            "grid.alpha": 0.3,
            "font.size": 9,
        }
    ):
        figure, axes = pyplot.subplots(figsize=(width, height), layout="constrained")
        axes.set_xlabel("iteration")
        draw(axes)
        buffer = io.StringIO()
        figure.savefig(buffer, format="svg", metadata={"Date": None})
        pyplot.close(figure)
    return own_ids(buffer.getvalue()[buffer.getvalue().index("<svg") :])


def own_ids(chart: str) -> str:
    """The SVG with its ids, and what points to them, prefixed by a hash of the chart: matplotlib names alike in all charts."""
    prefix = f"c{hashlib.sha256(chart.encode()).hexdigest()[:8]}-"
    return re.sub(r'(\bid="|\bhref="#|url\(#)', rf"\g<1>{prefix}", chart)


def draw_loss(record: Record, axes: Any) -> None:
    """Training loss, both evaluations, the corpus's floor."""
    axes.plot(*record.curve("task_loss", 50), color="0.7", label="batch loss (mean of 50)")
    x = [e["iter"] for e in record.evals]
    for name in ("train", "val"):
        axes.plot(x, [as_number(e[f"{name}_loss"]) for e in record.evals], "o-", ms=3, label=name)
    if record.summary.get("floor") is not None:
        axes.axhline(record.summary["floor"], color="k", ls=":", label="floor")
    for iter_num in record.at("engage"):
        axes.axvline(iter_num, color="C3", ls="--", label="penalty engages")
    axes.set_ylabel("nats/token")
    axes.legend(fontsize=8)


def draw_gate(record: Record, axes: Any) -> None:
    """How many batches were learned, and the threshold in effect."""
    axes.plot(*record.curve("updated", 200), label="update rate (last 200)")
    axes.set_ylim(0, 1.05)
    axes.set_ylabel("update rate")
    if record.has_gate and not np.isnan(record.columns["surprise_threshold"]).all():
        twin = axes.twinx()
        twin.plot(*record.curve("surprise_threshold"), color="C1", lw=1, label="threshold, nats")
        twin.set_ylabel("threshold")
        twin.grid(False)
    axes.legend(fontsize=8, loc="lower left")


def draw_drift(record: Record, axes: Any) -> None:
    """Relative drift from the anchor, with consolidations."""
    axes.plot(*record.curve("drift"), label="drift")
    for i, iter_num in enumerate(record.at("consolidate")[:200]):
        axes.axvline(iter_num, color="C2", alpha=0.3, lw=0.8, label=None if i else "consolidation")
    for iter_num in record.at("engage"):
        axes.axvline(iter_num, color="C3", ls="--", label="penalty engages")
    axes.set_ylabel("‖θ−θ*‖²/‖θ*‖²")
    axes.legend(fontsize=8)


def draw_rates(record: Record, axes: Any) -> None:
    """Learning rate after the rack, and λ."""
    axes.plot(*record.curve("learning_rate"), label="learning rate")
    axes.set_ylabel("lr")
    twin = axes.twinx()
    twin.plot(*record.curve("lambda_ockham"), color="C1", lw=1)
    twin.set_ylabel("λ", color="C1")
    twin.grid(False)
    axes.legend(fontsize=8)


CHARTS = (("Loss", draw_loss), ("The gate", draw_gate), ("Drift from the anchor", draw_drift), ("What the rack set", draw_rates))


def draw_reliability(record: Record, axes: Any) -> None:
    """Accuracy over confidence, a dot a bin, its area the bin's share of the tokens; on the diagonal the model knows itself."""
    tokens, confidence, accuracy = np.array(record.summary["reliability"], dtype=float).T  # (bins,) each
    axes.plot([0, 1], [0, 1], color="k", ls=":", label="calibrated")
    axes.vlines(confidence, confidence, accuracy, color="C3", lw=1, label="gap")
    axes.scatter(confidence, accuracy, s=10 + 300 * tokens / tokens.sum(), alpha=0.7, label="bin, by its tokens", zorder=3)
    axes.set(xlim=(0, 1), ylim=(0, 1), xlabel="confidence", ylabel="accuracy")
    axes.legend(fontsize=8, loc="upper left")


def interventions(record: Record) -> str:
    """Who changed what how often, from the journal, as an HTML table."""
    if not record.changes:
        return "<p>No plugin changed anything.</p>"
    rows = "".join(
        f"<tr><td>{html.escape(p)}</td><td>{html.escape(f)}</td><td class=n>{n:,}</td></tr>"
        for (p, f), n in sorted(record.changes.items())
    )
    return f"<table><tr><th>plugin</th><th>field</th><th>iterations</th></tr>{rows}</table>"


def write_report(out_dir: Path) -> Path:
    """out_dir/report.html from out_dir's journal, summary and config. Raises WorldError where there is no journal, or no step."""
    journal.check_begun(out_dir)
    record = Record(out_dir)
    name = html.escape(record.name)
    parts = [f"<!doctype html><meta charset=utf-8><title>{name}</title><style>{STYLE}</style><h1>{name}</h1>"]
    if record.summary:
        rows = "".join(
            f"<tr><td>{html.escape(a)}</td><td class=n>{html.escape(b)}</td></tr>" for a, b in summary_rows(record.summary)
        )
        parts.append(f"<table>{rows}</table>")
    parts += [f"<h2>{title}</h2>{svg(lambda axes, draw=draw: draw(record, axes))}" for title, draw in CHARTS]  # type: ignore[misc]
    if record.summary.get("reliability"):
        parts.append(f"<h2>Calibration</h2>{svg(lambda axes: draw_reliability(record, axes), 4.0, 4.0)}")
    parts.append(f"<h2>Interventions of the rack</h2>{interventions(record)}")
    parts.append(f"<h2>Configuration</h2><pre>{html.escape(record.config)}</pre>")
    path = out_dir / "report.html"
    write_text(path, "\n".join(parts) + "\n")
    return path


TABLE = (("val loss", "val_loss"), ("best", "best_val_loss"), ("update rate, last 1,000", "update_rate_recent"),
         ("compute units", "compute_units"), ("drift", "complexity_cost"))  # fmt: skip
ECE = ("ECE", "ece")  # only of runs with eval_calibration


def group_of(run: Path) -> str:
    """What a run has in common with those of other seeds: its folder's name without number and seed, else the sweep's."""
    words = [w for w in re.sub(r"^\d+_", "", run.name).split(",") if not w.startswith("seed=")]
    return ",".join(words) or run.parent.name


def table(out_dirs: Sequence[Path]) -> str:
    """Finished runs as a Markdown table, seeds of one setting together: median [least, greatest].

    Expected calibration errors have a column where some run has one. A run that was rolled back since is marked: its figures are
    of the state that was given up. Raises WorldError where a run has no summary.json.
    """
    from .kept import stands_at  # loads torch, which pictures need not

    groups: dict[str, list[dict[str, Any]]] = {}
    returned: dict[str, list[int]] = {}
    for path in out_dirs:
        summary = Record(path).summary
        if not summary:
            raise WorldError(f"{path} has no summary.json: the run is not finished; go on with --init_from=resume")
        groups.setdefault(group_of(path), []).append(summary)
        now = stands_at(path)
        if now is not None and now != summary.get("iters"):
            returned.setdefault(group_of(path), []).append(now)
    has_ece = any(s.get("ece") is not None for group in groups.values() for s in group)
    columns = (*TABLE, ECE) if has_ece else TABLE
    lines = ["| run | n | " + " | ".join(label for label, _ in columns) + " | penalty |", "| --- " * (len(columns) + 3) + "|"]
    for name, group in groups.items():
        cells = [cell([s.get(key) for s in group]) for _, key in columns]
        penalties = ", ".join(dict.fromkeys(s["penalty"] for s in group))
        mark = rolled_back(returned.get(name, []), len(group))
        lines.append(f"| {name}{mark} | {len(group)} | {' | '.join(cells)} | {penalties} |")
    return "\n".join(lines)


def rolled_back(iterations: Sequence[int], runs: int) -> str:
    """What is said behind a row's name where runs of it were rolled back since their summaries were written."""
    if not iterations:
        return ""
    to = f"rolled back to {', '.join(map(str, iterations))} since"
    return f" ({to})" if runs == 1 else f" ({len(iterations)} of {runs} {to})"


def cell(values: Sequence[float | None]) -> str:
    """The spread of what is known, and how many runs that is where not all; n/a where none."""
    known = [v for v in values if v is not None]
    if not known:
        return "n/a"
    return spread(known) if len(known) == len(values) else f"{spread(known)} ({len(known)} of {len(values)} runs)"


def spread(values: Sequence[float]) -> str:
    """'median [least, greatest]', or the single value."""
    shown = [
        f"{v:,.0f}" if abs(v) >= 100 or (v >= 10 and v == int(v)) else f"{v:.3f}"
        for v in (float(np.median(values)), min(values), max(values))
    ]
    return shown[0] if len(set(shown)) == 1 else f"{shown[0]} [{shown[1]}, {shown[2]}]"


def compare(out_dirs: Sequence[Path], labels: Sequence[str] | None = None) -> str:
    """Val-loss curves of several runs as one SVG; a dot marks where an anchor's penalty engaged."""
    records = [Record(path) for path in out_dirs]
    for record, path in zip(records, out_dirs, strict=True):
        if not record.evals:
            raise WorldError(f"{path} has no evaluation in its journal yet: there is no val loss to draw")

    def draw(axes: Any) -> None:
        late: list[float] = []
        for record, label in zip(records, labels or [r.name for r in records], strict=True):
            x, y = [e["iter"] for e in record.evals], [as_number(e["val_loss"]) for e in record.evals]
            (line,) = axes.plot(x, y, label=label)
            late.extend(loss for i, loss in zip(x, y, strict=True) if i >= x[-1] / 20 and np.isfinite(loss))
            for iter_num in record.at("engage"):
                axes.plot(iter_num, y[x.index(iter_num)], "o", color=line.get_color(), label=f"{label}: penalty engages")
        if late:
            margin = 0.1 * (max(late) - min(late)) or 0.1
            axes.set_ylim(min(late) - margin, max(late) + margin)  # the first fall would flatten everything else
        axes.set_ylabel("val loss, nats/token")
        axes.legend(fontsize=8)

    return svg(draw, 8.0, 4.0)
