"""Reading a state folder."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing
from pathlib import Path
from typing import Any

from ..errors import CheckpointError, ConfigError
from . import forgetting, session_log
from .adapter_files import AdapterFiles
from .state_records import FactRow, Snapshot, State
from .state_tables import NAME, StateTables, dumps
from .tellings import history_of, source_of, tellings
from .tombstones import Tombstone


class StateView:
    """What an open state folder holds."""

    folder: Path
    tables: StateTables
    adapters: AdapterFiles
    given: dict[str, Any]  # the header that it was opened with

    @property
    def is_new(self) -> bool:
        """Whether the session is still to be begun."""
        return self.tables.one("SELECT count(*) FROM state") == 0

    @property
    def header(self) -> dict[str, Any]:
        """What the session was begun with."""
        found = self.tables.one("SELECT header FROM header")
        return self.given if found is None else json.loads(found)

    def differing(self, read: Callable[[Mapping[str, Any]], Mapping[str, Any]] = dict) -> list[str]:
        """Dotted config keys whose values are not those that the session was begun with; `read` brings those up to date."""
        begun = json.loads(dumps(dict(read(self.header["config"]))))
        return sorted(_differing(begun, json.loads(dumps(self.given["config"]))))

    @property
    def turn(self) -> int:
        """The last committed turn; 0 before the first."""
        return self.tables.one("SELECT turn FROM state") or 0

    def state(self) -> State:
        """The chat after the last committed turn, its adapter verified. Raises CheckpointError."""
        turn, number, memory, metrics = self.tables.all("SELECT turn, adapter, memory, metrics FROM state")[0]
        data, sha256 = self._adapter(number)
        return State(turn, data, sha256, json.loads(memory), json.loads(metrics))

    def turns(self) -> list[dict[str, Any]]:
        """Every turn: the fields of its line in the log, adapter_before, is_learned, is_undone, tombstone."""
        return self.tables.turns()

    def facts(self, *states: str) -> list[FactRow]:
        """The facts in these states, or all, in order of their ids."""
        return [fact for fact in self.tables.facts().values() if not states or fact.state in states]

    def next_fact_id(self) -> int:
        """An id that no fact has or had."""
        ids = "SELECT id FROM facts UNION SELECT id FROM tombstones"
        return 1 + (self.tables.one(f"SELECT max(id) FROM ({ids})") or 0)

    def why(self, fact_id: int) -> dict[str, Any]:
        """All that is known of a fact: its row, the record of the telling that brought in what holds now, and the turn of that.

        `tellings` are all its records, `lines` its history in words. Raises ConfigError for an unknown id.
        """
        fact = self.tables.fact(fact_id)
        if fact is None:
            raise ConfigError(forgetting.unknown_fact(self.tables, fact_id))
        first = source_of(fact)
        told = next(turn for turn in self.turns() if turn["turn"] == first["turn"])
        hashes = {"adapter_sha256_before": told["adapter_before"], "adapter_sha256_after": told["adapter_sha256"]}
        words = {"source": first.get("message") or told["text"] or first["text"], "lines": history_of(fact)}
        when = {"time": told["time"], "reason_code": told["reason_code"]}
        return {**words, **when, **hashes, **plain(fact), **first, "id": fact.id, "tellings": tellings(fact)}

    def export(self) -> list[dict[str, Any]]:
        """Every fact as a JSON object."""
        return [plain(fact) for fact in self.facts()]

    def tombstones(self) -> list[Tombstone]:
        """What was forgotten."""
        return self.tables.tombstones()

    def was_forgotten(self, fact_id: int, text: str) -> bool | None:
        """Whether the fact that was forgotten under this id said `text`; None where none was forgotten under it."""
        stone = next((stone for stone in self.tombstones() if stone.id == fact_id), None)
        return None if stone is None else stone.is_of(text)

    def previous(self) -> Snapshot | None:
        """The state before the newest learned turn that is kept, byte for byte; None where there is none."""
        rows = self.tables.all("SELECT turn, adapter, memory FROM snapshots ORDER BY turn DESC LIMIT 1")
        return self._snapshot(*rows[0]) if rows else None

    def _newest_whole(self) -> Snapshot | None:
        """The newest state before a learned turn whose adapter is whole."""
        for row in self.tables.all("SELECT turn, adapter, memory FROM snapshots ORDER BY turn DESC"):
            try:
                return self._snapshot(*row)
            except CheckpointError:
                continue  # the one before it, then
        return None

    def _snapshot(self, turn: int, number: int, memory: str) -> Snapshot:
        data, sha256 = self._adapter(number)
        return Snapshot(turn, data, sha256, json.loads(memory))

    def _adapter(self, number: int) -> tuple[bytes, str]:
        sha256 = self.tables.one("SELECT sha256 FROM adapters WHERE number = ?", number)
        return self.adapters.read(number, sha256), sha256


def stored_header(folder: Path) -> dict[str, Any] | None:
    """What a folder's session was begun with, without opening it: of its log, else of its tables. None where neither says."""
    try:
        with open(folder / session_log.NAME, encoding="utf-8") as log:
            found = json.loads(log.readline())
        if not session_log.check_header(found):
            return found
    except (OSError, ValueError, RecursionError):
        pass  # the tables have it too, and opening the folder says what is wrong with it
    try:
        with closing(sqlite3.connect(f"{(folder / NAME).absolute().as_uri()}?mode=ro", uri=True)) as tables:
            return json.loads(tables.execute("SELECT header FROM header").fetchone()[0])
    except (sqlite3.Error, TypeError, ValueError):
        return None


def plain(fact: FactRow) -> dict[str, Any]:
    """A fact as a JSON object: its record and its row."""
    row = {"id": fact.id, "state": fact.state, "text": fact.text, "turn": fact.turn}
    return {**fact.record, **row, "history": [dict(entry) for entry in fact.history]}


def _differing(old: Any, new: Any, at: str = "") -> Iterator[str]:
    """Dotted names of what differs."""
    if isinstance(old, Mapping) and isinstance(new, Mapping):
        for key in {**old, **new}:
            if key in old and key in new:
                yield from _differing(old[key], new[key], f"{at}{key}.")
            else:
                yield f"{at}{key}"
    elif old != new:
        yield at.removesuffix(".")
