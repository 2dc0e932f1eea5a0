"""Rejecting in the tables: the texts of facts that only waited go; adapter, clock, hashes and the states for /undo stay."""

from __future__ import annotations

import json
from collections.abc import Collection
from dataclasses import replace
from typing import Any

from .forgetting import put_tombstones, tell, turns_that_tell
from .state_records import FactRow
from .state_tables import StateTables, dumps
from .tombstones import Tombstone
from .trimming import Mentions, trim, trim_state

TEXTS = ("time", "kind", "text", "reply", "reason_code", "losses", "fact", "seconds")  # of a turn


def is_apart(tables: StateTables, gone: Collection[int], mentions: Mentions) -> bool:
    """Whether these facts never touched the weights, and nothing would mention them that is not trimmed (`trimming`)."""
    facts = tables.facts()
    if any(entry["state"] != "pending" for id in gone for entry in facts[id].history):
        return False
    kept = [_trimmed(fact, mentions) for fact in facts.values() if fact.id not in gone]
    memories = [*_memories(tables, gone, mentions).values(), _memory(tables.one("SELECT memory FROM state"), gone, mentions)]
    trained = [f"{e['text']}\n{e['reply']}" for memory in memories for e in memory["events"] if "id" not in e]
    before = [value for (_, id), value in _changes(tables, mentions).items() if id not in gone]
    return not tell([trained, memories, before, [(fact.text, fact.record) for fact in kept]], mentions)


def take_out(tables: StateTables, stones: list[Tombstone], mentions: Mentions) -> None:
    """Within the transaction of the turn that rejects them: nothing of these facts stays but their tombstones."""
    gone, number = {stone.id for stone in stones}, stones[0].turn
    for turn in {number, *turns_that_tell(tables, gone, mentions)}:
        empty = ", ".join(f"{name} = NULL" for name in TEXTS)
        tables.db.execute(f"UPDATE turns SET {empty}, tombstone = ? WHERE turn = ?", (stones[0].id, turn))
    for id in gone:
        tables.db.execute("DELETE FROM facts WHERE id = ?", (id,))  # and its changes
    for fact in tables.facts().values():
        tables.db.execute("UPDATE facts SET record = ? WHERE id = ?", (dumps(_trimmed(fact, mentions).record), fact.id))
    for (turn, id), before in _changes(tables, mentions).items():
        tables.db.execute("UPDATE changes SET before = ? WHERE turn = ? AND id = ?", (dumps(before), turn, id))
    for turn, memory in _memories(tables, gone, mentions).items():
        tables.db.execute("UPDATE snapshots SET memory = ? WHERE turn = ?", (dumps(memory), turn))
    put_tombstones(tables, stones, mentions)


def _trimmed(fact: FactRow, mentions: Mentions) -> FactRow:
    record = json.loads(dumps(fact.record))
    trim(record, mentions)
    return replace(fact, record=record)


def _changes(tables: StateTables, mentions: Mentions) -> dict[tuple[int, int], list[Any]]:
    found = {}
    for turn, id, text in map(tuple, tables.all("SELECT turn, id, before FROM changes WHERE before IS NOT NULL")):
        found[turn, id] = json.loads(text)
        trim(found[turn, id][3], mentions)
    return found


def _memories(tables: StateTables, gone: Collection[int], mentions: Mentions) -> dict[int, dict[str, Any]]:
    rows = map(tuple, tables.all("SELECT turn, memory FROM snapshots"))
    return {turn: _memory(text, gone, mentions) for turn, text in rows}


def _memory(text: str, gone: Collection[int], mentions: Mentions) -> dict[str, Any]:
    memory = json.loads(text)
    trim_state(memory, [f"f{id}" for id in gone], mentions)
    return memory
