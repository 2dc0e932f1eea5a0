"""What the state folder keeps of each fact, from what the chat knows now."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping
from typing import Any

from .knowledge import Knowledge
from .state_records import FactRow

Rows = Mapping[int, FactRow]


def standing(known: Knowledge) -> Iterator[tuple[int, Mapping[str, Any], str]]:
    """Number, record and state of every fact that was learned or waits."""
    alive = {fact.id for fact in known.memory.facts}
    for id, record in known.records.items():
        yield int(id[1:]), record, "active" if id in alive else "evicted"
    for id, entry in known.pending.items():
        yield int(id[1:]), entry, "pending"


def rows_now(known: Knowledge, old: Rows, told: Collection[int] = ()) -> list[FactRow]:
    """Every fact as it stands; `told`: those of the turn that is being committed. What does not wait any more is evicted."""
    found = {number: _row(number, record, state, None if number in told else old.get(number), old)
             for number, record, state in standing(known)}  # fmt: skip
    gone = {n: row for n, row in old.items() if n not in found and row.state in ("pending", "active")}
    found |= {n: _row(n, row.record, "evicted", row, old) for n, row in gone.items()}
    return [found[number] for number in sorted(found)]


def rows_without(known: Knowledge, old: Rows, number: int, mentions: Callable[[str], bool]) -> list[FactRow]:
    """Every fact that stays when one is forgotten: those that stand; of those that were undone or evicted and do not mention it,
    the texts.
    """
    found = {n: _row(n, record, state, old.get(n), old) for n, record, state in standing(known) if n != number}
    for n, row in old.items():
        if n != number and n not in found and not mentions(row.text):
            state = row.state if row.state in ("undone", "superseded") else "evicted"
            found[n] = _row(n, _texts_alone(row, mentions), state, row, old)
    return [found[n] for n in sorted(found)]


def _texts_alone(row: FactRow, mentions: Callable[[str], bool]) -> dict[str, Any]:
    """The record of a fact that was not learned again: its figures and hashes may rest on what is forgotten."""
    record = {key: row.record[key] for key in ("relation", "risks") if key in row.record}
    told = [{"text": told["text"]} for told in row.record.get("records", ()) if not mentions(told["text"])]
    superseded = [old for old in row.record.get("superseded", ()) if not any(map(mentions, (old["fact_text"], old["value"])))]
    return record | {"text": row.text, "message": row.text, "records": told, "superseded": superseded}


def is_learned(row: FactRow) -> bool:
    """Whether it was learned at some time, and did not only wait."""
    return "risks" not in row.record


def texts_of(row: FactRow) -> list[str]:
    """A fact's statements: in every wording, and those that were superseded."""
    superseded = [old["fact_text"] for old in row.record.get("superseded", ())]
    return list(dict.fromkeys([row.text, *superseded, *(told["text"] for told in row.record.get("records", ()))]))


def _row(number: int, record: Mapping[str, Any], state: str, known: FactRow | None, old: Rows) -> FactRow:
    history = old[number].history if number in old else ()
    return FactRow(id=number, text=record["text"], state=state, turn=known.turn if known else 0, record=record, history=history)
