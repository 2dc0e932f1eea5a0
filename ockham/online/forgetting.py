"""Forgetting in the tables: the facts' rows, the turns that told or mention them, and all that was learned from them."""

from __future__ import annotations

import json
from collections.abc import Collection
from typing import Any

from ..errors import ConfigError
from .mentions import texts_in
from .state_records import FactRow, Rebuilt
from .state_tables import StateTables, dumps
from .tombstones import Tombstone
from .trimming import Mentions

REASON = "FORGOTTEN"


def facts_to_forget(tables: StateTables, fact_id: int, rebuilt: Rebuilt, mentions: Mentions) -> list[FactRow]:
    """The facts that are not among the rebuilt ones, the named one first.

    Raises ConfigError for an unknown id, ValueError for a rebuilt chat that still holds what is to be forgotten.
    """
    facts = tables.facts()
    if fact_id not in facts:
        raise ConfigError(unknown_fact(tables, fact_id))
    kept = {fact.id for fact in rebuilt.facts}
    if fact_id in kept:
        raise ValueError(f"the rebuilt chat still has fact {fact_id}")
    told = [f"fact {fact.id}" for fact in rebuilt.facts if tell((fact.text, fact.record), mentions)]
    metrics = json.loads(tables.one("SELECT metrics FROM state")) if rebuilt.metrics is None else rebuilt.metrics
    told += [name for name, held in (("memory", rebuilt.memory), ("metrics", metrics)) if tell(held, mentions)]
    if told:
        raise ValueError(f"what is to be forgotten is still mentioned in {', '.join(told)}; leave that out too")
    gone = [fact for fact in facts.values() if fact.id not in kept]
    return sorted(gone, key=lambda fact: fact.id != fact_id)


def unknown_fact(tables: StateTables, fact_id: int) -> str:
    """Why there is no such fact."""
    if turn := tables.one("SELECT turn FROM tombstones WHERE id = ?", fact_id):
        return f"fact {fact_id} was forgotten in turn {turn}"
    known = ", ".join(map(str, tables.facts())) or "none yet"
    return f"there is no fact {fact_id}; there are: {known}"


def bury(tables: StateTables, stones: list[Tombstone], rebuilt: Rebuilt, adapter: int, mentions: Mentions) -> list[int]:
    """Within a transaction: the chat becomes the rebuilt one, and a turn of its own says so. The turns that went.

    `stones`: the first is of the fact that was named. Adapter hashes and losses from the first turn that went on also go: who
    guesses the fact could learn it anew and compare.
    """
    named, gone = stones[0], {stone.id for stone in stones}
    turns = sorted(turns_that_tell(tables, gone, mentions))
    for turn in turns:
        _scrub(tables, turn, named.id)
    since = min(turns, default=named.turn)
    tables.db.execute("UPDATE turns SET adapter_sha256 = NULL, losses = '{}' WHERE turn >= ?", (since,))
    tables.db.execute("UPDATE turns SET adapter_before = NULL WHERE turn > ?", (since,))
    for table in ("snapshots", "changes"):
        tables.db.execute(f"DELETE FROM {table}")
    tables.replace_facts(rebuilt.facts, named.turn, REASON)
    tables.insert("turns", turn=named.turn, is_learned=0, tombstone=named.id)
    metrics = None if rebuilt.metrics is None else dumps(rebuilt.metrics)
    tables.update_state(turn=named.turn, adapter=adapter, memory=dumps(rebuilt.memory), metrics=metrics)
    put_tombstones(tables, stones, mentions)
    tables.drop_adapters()
    return turns


def put_tombstones(tables: StateTables, stones: list[Tombstone], mentions: Mentions) -> None:
    """Within a transaction, when all else is in the tables as it shall be: the log and the files are still to be cleaned."""
    for stone in stones:
        tables.insert("tombstones", **vars(stone))
    tables.insert("forgetting", id=stones[0].id)
    for (path,) in map(tuple, tables.all("SELECT path FROM copies")):
        if mentions(path):
            tables.db.execute("DELETE FROM copies WHERE path = ?", (path,))
    tables.update_state(log_bytes=len(tables.log_bytes()))


def turns_that_tell(tables: StateTables, gone: Collection[int], mentions: Mentions) -> set[int]:
    """In which these facts were told, confirmed or mentioned."""
    told = {fact.turn for fact_id in gone if (fact := tables.fact(fact_id))}
    return told | {turn["turn"] for turn in tables.turns() if turn["tombstone"] is None and _goes(turn, gone, mentions)}


def tell(value: Any, mentions: Mentions) -> bool:
    """Whether a text in a JSON value mentions it."""
    return any(map(mentions, texts_in(value)))


def _goes(turn: dict[str, Any], gone: Collection[int], mentions: Mentions) -> bool:
    """Also where the fact is in message and reply together, as in "Who is Tom?" and "Your friend."."""
    texts = (turn["text"], turn["reply"], f"{turn['text']}\n{turn['reply']}")
    return turn["fact"] in gone or tell(texts, mentions)


def _scrub(tables: StateTables, turn: int, stone: int) -> None:
    """All of a turn goes but its number."""
    tables.db.execute("UPDATE turns SET tombstone = ? WHERE turn = ? AND tombstone IS NULL", (stone, turn))
    empty = ("time", "kind", "text", "reply", "reason_code", "losses", "fact", "adapter_before", "adapter_sha256", "seconds")
    changes = ", ".join(f"{name} = NULL" for name in empty)
    tables.db.execute(f"UPDATE turns SET {changes}, is_learned = 0, is_undone = 0 WHERE turn = ?", (turn,))
