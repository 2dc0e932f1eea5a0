"""How often a fact was told, and which telling brought in what holds now."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from .state_records import FactRow

Telling = Mapping[str, Any]


def count_tellings(record: Mapping[str, Any]) -> int:
    """How many lessons of the fact were kept."""
    return len(record.get("records", ()))


def tellings(fact: FactRow) -> list[dict[str, Any]]:
    """The record of each, oldest first; `turn` is that of the log, where the fact's history has it. None where the texts alone
    are left, as of an undone fact when another one is forgotten.
    """
    turns = {entry["told"]: entry["turn"] for entry in fact.history if "told" in entry}
    kept = [record for record in fact.record.get("records", ()) if "steps" in record]
    return [{**record, "turn": turns.get(n, record["turn"])} for n, record in enumerate(kept, 1)]


def source_of(fact: FactRow) -> Telling:
    """The telling that brought in the value that holds: the first one since the last that was superseded.

    The fact's own record where no telling is kept.
    """
    told = tellings(fact)
    if not told:
        return {**fact.record, "turn": fact.turn, "text": fact.text}
    return next(one for one in told if len(one["superseded"]) == len(told[-1]["superseded"]))


def history_of(fact: FactRow) -> list[str]:
    """What became of it, a line for each telling and for each change of state, in order of the turns."""
    told = tellings(fact)
    newest = {entry["told"]: entry["turn"] for entry in fact.history if "told" in entry}
    lines = []
    for entry in fact.history:
        number = entry.get("told", 0)
        if not number:
            what = f"{entry['state']} {entry['reason_code']}".strip()
        elif not told:
            what = "told"
        elif number > len(told) or newest[number] != entry["turn"]:
            what = "told, and undone since"
        else:
            what = _told(told, number - 1)
        lines.append(f"turn {entry['turn']}, {what}")
    return lines


def _told(told: list[dict[str, Any]], at: int) -> str:
    one = told[at]
    p = f"p {one['p_before']:.2f} -> {one['p_after']:.2f}, {one['steps']} steps"
    before = len(told[at - 1]["superseded"]) if at else 0
    if len(one["superseded"]) > before:
        verb = f"in place of {one['superseded'][-1]['value']!r}"
    else:
        verb = "told again" if at else "told"
    return f"{verb}: {one['text']!r} ({p}, {one['reason_code']})"
