"""A journal in figures, read in one pass: its memory does not grow with the run."""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from .. import journal
from ..errors import WorldError
from .jobs import read_json

VERSION = 1
DIGITS = 3  # of a factor: what bounds the number of different ones, and so the memory of a median
KEPT = 20  # events of a kind that are listed one by one; the others are counted


@dataclass
class Tally:
    """What has been read so far."""

    last: dict[str, Any] = field(default_factory=dict)  # the newest step
    steps: int = 0
    updates: int = 0
    train_s: float = 0.0
    reasons: Counter[str] = field(default_factory=Counter)
    consolidations: Counter[str] = field(default_factory=Counter)
    verdicts: Counter[str] = field(default_factory=Counter)
    warnings: Counter[str] = field(default_factory=Counter)
    events: Counter[str] = field(default_factory=Counter)
    kept: dict[str, list[dict[str, Any]]] = field(default_factory=lambda: defaultdict(list))
    changes: Counter[tuple[str, str]] = field(default_factory=Counter)
    factors: dict[tuple[str, str], Counter[float]] = field(default_factory=lambda: defaultdict(Counter))
    best: dict[str, Any] | None = None
    last_eval: dict[str, Any] | None = None
    ended: str | None = None

    def take(self, event: dict[str, Any]) -> None:
        """Count one event."""
        kind = event["event"]
        self.events[kind] += 1
        self.ended = event["reason"] if kind == "end" else None
        if kind == "step":
            self._step(event)
        elif kind == "eval":
            self._evaluation(event)
        elif kind == "consolidate":
            self.consolidations[event["cause"]] += 1
        elif kind == "memory":
            self.verdicts[event["reason_code"]] += 1
        elif kind == "warning" and (event["message"] in self.warnings or len(self.warnings) < KEPT):
            self.warnings[event["message"]] += 1
        elif kind in ("engage", "resume", "rollback") and len(self.kept[kind]) < KEPT:
            self.kept[kind].append({key: value for key, value in event.items() if key not in ("v", "event")})

    def _step(self, event: dict[str, Any]) -> None:
        self.last = event
        self.steps += 1
        self.updates += bool(event["updated"])
        self.train_s += event["dt_ms"] / 1e3
        self.reasons[event["reason_code"]] += 1
        for plugin, name, before, after in event["changes"]:
            self.changes[plugin, name] += 1
            if is_number(before) and is_number(after) and before:
                self.factors[plugin, name][float(f"{after / before:.{DIGITS}g}")] += 1

    def _evaluation(self, event: dict[str, Any]) -> None:
        is_final = self.last_eval is not None and self.last_eval["iter"] == event["iter"]  # after an estimate: no match for it
        self.last_eval = event
        loss = event["val_loss"]
        if is_number(loss) and not is_final and (self.best is None or loss < self.best["val_loss"]):
            self.best = event


def is_number(value: Any) -> bool:
    """A finite number, and no truth value; the journal writes others as text."""
    return isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)


def median(counts: Counter[float]) -> float | None:
    """The lower median of counted values; None of none."""
    left = (counts.total() + 1) // 2
    for value, count in sorted(counts.items()):
        left -= count
        if left <= 0:
            return value
    return None


def summarize(run: Path) -> dict[str, Any]:
    """A run's journal as plain figures; losses in nats/token, times in seconds. Raises WorldError where there is none.

    A median factor is that of to/from over all of a plugin's changes of a field, to three digits; None for fields that are no
    numbers.
    """
    path = run / "journal.jsonl"
    if not path.is_file():
        raise WorldError(f"{run} holds no run: journal.jsonl is missing; give the out_dir of a run")
    tally = Tally()
    for event in journal.read(path):
        tally.take(event)
    if not tally.verdicts and (run / "decisions.jsonl").is_file():
        tally.verdicts.update(entry["reason_code"] for entry in journal.read(run / "decisions.jsonl"))
    return figures(tally, run)


def figures(tally: Tally, run: Path) -> dict[str, Any]:
    """The tally as JSON can hold it."""
    last, final = tally.last, read_json(run / "summary.json").get("val_loss")
    changes = [
        {"plugin": plugin, "field": name, "iterations": count, "median_factor": median(tally.factors[plugin, name])}
        for (plugin, name), count in sorted(tally.changes.items())
    ]
    return {
        "v": VERSION,
        "run": str(run),
        "ended": tally.ended,
        "iterations": last["iter"] + 1 if last else 0,
        "updates": tally.updates,
        "update_rate": last.get("update_rate"),
        "reason_codes": dict(tally.reasons.most_common()),
        "consolidations": dict(tally.consolidations.most_common()),
        "engagements": tally.kept["engage"],
        "resumes": [event["iter"] for event in tally.kept["resume"]],
        "rollbacks": tally.kept["rollback"],
        "warnings": {"count": tally.events["warning"], "messages": dict(tally.warnings.most_common())},
        "memory": dict(tally.verdicts.most_common()),
        "changes": changes,
        "best": loss_at(tally.best),
        "last": loss_at(tally.last_eval),
        "val_loss": final,
        "rolled_back_to": rolled_back_to(run),
        "tokens": last.get("tokens", 0),
        "compute_units": last.get("units", 0.0),
        "train_s": round(tally.train_s, 3),
    }


def rolled_back_to(run: Path) -> int | None:
    """See `kept.rolled_back_to`, which needs torch: where nobody rolled back it is not loaded."""
    from .kept import rolled_back_to

    return rolled_back_to(run)


def loss_at(event: Mapping[str, Any] | None) -> dict[str, Any] | None:
    """An evaluation: iteration and losses."""
    return None if event is None else {key: event[key] for key in ("iter", "val_loss", "train_loss")}


# --------------------------------------------------------------------------------------------------------- for the screen


def as_text(summary: Mapping[str, Any]) -> str:
    """The summary for people: one line a thing, what did not happen left out."""
    ended = f"ended: {summary['ended']}" if summary["ended"] else "no end: still running, or killed"
    lines = [f"{summary['run']}: {summary['iterations']:,} iterations, {ended}"]
    if summary["rolled_back_to"] is not None:
        lines.append(f"  rolled back to {summary['rolled_back_to']:,}; the journal beyond it is cut on resume")
    lines += [f"  {label:<16} {text}" for label, text in rows(summary) if text]
    if summary["changes"]:
        lines.append("  plugin changed field, in how many iterations, median factor")
        lines += [change_line(change) for change in summary["changes"]]
    lines += [f"  warning ({count:,}×)  {message}" for message, count in summary["warnings"]["messages"].items()]
    return "\n".join(lines)


def rows(summary: Mapping[str, Any]) -> list[tuple[str, str]]:
    """(label, text) of what a journal has once."""
    rate = summary["update_rate"]
    rollbacks = [f"{e['iter']} → {e['to']} ({e['reason_code']})" for e in summary["rollbacks"]]
    return [
        ("updates", f"{summary['updates']:,}" + (f", update rate {rate:.3f}" if is_number(rate) else "")),
        ("reasons", counted(summary["reason_codes"])),
        ("consolidations", counted(summary["consolidations"])),
        ("penalty engaged", ", ".join(f"at {event['iter']}" for event in summary["engagements"])),
        ("resumed", ", ".join(f"at {iteration}" for iteration in summary["resumes"])),
        ("rolled back", ", ".join(rollbacks)),
        ("memory", counted(summary["memory"])),
        ("best val loss", told(summary["best"])),
        ("last val loss", told(summary["last"])),
        (
            "compute",
            f"{summary['compute_units']:,.0f} units, {summary['tokens']:,} tokens, {summary['train_s']:,.1f} s of training",
        ),
    ]


def counted(counts: Mapping[str, int]) -> str:
    """'UPDATED 192, SKIPPED 108'."""
    return ", ".join(f"{name or '(none)'} {count:,}" for name, count in counts.items())


def told(evaluation: Mapping[str, Any] | None) -> str:
    """'2.5012 at 250'."""
    if evaluation is None:
        return ""
    loss = evaluation["val_loss"]
    return f"{loss:.4f} at {evaluation['iter']:,}" if is_number(loss) else f"{loss} at {evaluation['iter']:,}"


def change_line(change: Mapping[str, Any]) -> str:
    """One plugin and field."""
    factor = "" if change["median_factor"] is None else f"× {change['median_factor']:g}"
    return f"    {change['plugin'] + ' ' + change['field']:<40} {change['iterations']:>9,}   {factor}".rstrip()
