"""The states that /undo can go back to, in the tables."""

from __future__ import annotations

from .state_records import Snapshot
from .state_tables import StateTables


def is_snapshot_due(last: int | None, learned: int, interval: int) -> bool:
    """The law, with a folder and without: the state before the first learned message, then before every `interval`-th.

    `last`: turn of the newest state that is kept; `learned`: turns since then that learned, those that were undone left out.
    """
    return last is None or learned >= interval


def take_snapshot(tables: StateTables, turn: int, interval: int) -> None:
    """Within a transaction: keep the state before learned turn `turn`, every `interval` of them."""
    last = tables.one("SELECT max(turn) FROM snapshots")
    learned = tables.one("SELECT count(*) FROM turns WHERE turn >= ? AND is_learned AND NOT is_undone", last or 0)
    if is_snapshot_due(last, learned, interval):
        tables.db.execute("INSERT INTO snapshots SELECT ?, adapter, memory FROM state", (turn,))


def go_back(tables: StateTables, snapshot: Snapshot, turn: int, reason_code: str) -> None:
    """Within a transaction, in turn `turn`: adapter, memory and facts become those of the snapshot, which is used up."""
    adapter, memory = tables.all("SELECT adapter, memory FROM snapshots WHERE turn = ?", snapshot.turn)[0]
    tables.update_state(adapter=adapter, memory=memory)
    tables.restore_facts(snapshot.turn, turn, reason_code)
    changed = "is_learned OR (kind != 'command' AND adapter_before IS NOT adapter_sha256)"
    tables.db.execute(f"UPDATE turns SET is_undone = 1 WHERE turn >= ? AND ({changed})", (snapshot.turn,))
    tables.db.execute("DELETE FROM snapshots WHERE turn >= ?", (snapshot.turn,))


def why_not(tables: StateTables, keep: int) -> str:
    """Why there is nothing to go back to."""
    forgotten = tables.one("SELECT max(turn) FROM tombstones JOIN turns USING (turn) WHERE adapter_sha256 IS NULL")
    learned = tables.one("SELECT count(*) FROM turns WHERE is_learned AND NOT is_undone")
    if forgotten:
        return f"nothing to undo: a fact was forgotten in turn {forgotten}, and no state from before that is kept"
    if learned:
        return f"nothing to undo: only the last {keep} learned messages can be undone"
    return "nothing to undo: nothing was learned yet, or all of it is undone"
