"""state.db: the SQLite tables of a state folder. Its transaction is what commits a turn.

A write-ahead log: a commit is one flush, where a rollback journal takes four. It keeps the old content of pages until it is
emptied, as `compact` does after forgetting. Freed cells are filled with zeros; nothing spills into files outside the folder.
"""

from __future__ import annotations

import json
import os
import sqlite3
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from ..errors import CheckpointError, WorldError
from . import session_log
from .private_files import FILE_MODE
from .state_records import FactRow
from .tellings import count_tellings
from .tombstones import Tombstone

NAME = "state.db"
SCHEMA = (
    "CREATE TABLE header (one INTEGER PRIMARY KEY CHECK (one = 1), header TEXT NOT NULL, adapter_sha256 TEXT NOT NULL)",
    "CREATE TABLE adapters (number INTEGER PRIMARY KEY AUTOINCREMENT, sha256 TEXT NOT NULL)",
    """CREATE TABLE state (one INTEGER PRIMARY KEY CHECK (one = 1), turn INTEGER NOT NULL, adapter INTEGER NOT NULL REFERENCES
       adapters, memory TEXT NOT NULL, metrics TEXT NOT NULL, log_bytes INTEGER NOT NULL)""",
    """CREATE TABLE turns (turn INTEGER PRIMARY KEY, time REAL, kind TEXT, text TEXT, reply TEXT, reason_code TEXT, losses TEXT,
       fact INTEGER, adapter_before TEXT, adapter_sha256 TEXT, seconds REAL, is_learned INTEGER NOT NULL,
       is_undone INTEGER NOT NULL DEFAULT 0, tombstone INTEGER)""",
    """CREATE TABLE facts (id INTEGER PRIMARY KEY, state TEXT NOT NULL, text TEXT NOT NULL, turn INTEGER NOT NULL REFERENCES turns
       DEFERRABLE INITIALLY DEFERRED, record TEXT NOT NULL, history TEXT NOT NULL)""",
    # What a fact was before a turn changed it (null: not there), as far back as /undo can go.
    """CREATE TABLE changes (turn INTEGER, id INTEGER REFERENCES facts ON DELETE CASCADE, before TEXT, PRIMARY KEY (turn, id))""",
    "CREATE TABLE snapshots (turn INTEGER PRIMARY KEY, adapter INTEGER NOT NULL REFERENCES adapters, memory TEXT NOT NULL)",
    """CREATE TABLE tombstones (id INTEGER PRIMARY KEY, turn INTEGER NOT NULL, time REAL NOT NULL, salt BLOB NOT NULL,
       digest BLOB NOT NULL)""",
    "CREATE TABLE forgetting (id INTEGER PRIMARY KEY)",  # a tombstone whose files are not yet cleaned
    "CREATE TABLE copies (path TEXT PRIMARY KEY, turn INTEGER)",  # the last turn in it; null: not known
    f"PRAGMA user_version = {session_log.FORMAT}",
)


class StateTables:
    """The tables as rows and plain values. Facts' and turns' rows are scrubbed nowhere else."""

    def __init__(self, path: Path):
        """Open, or make. Raises CheckpointError for a damaged file and for one of another format."""
        self.path = path
        os.close(os.open(path, os.O_CREAT | os.O_RDWR, FILE_MODE))  # SQLite gives its journal the mode of this file
        self.db = sqlite3.connect(path, isolation_level=None)
        try:
            self._prepare()
        except sqlite3.OperationalError as error:
            self.close()
            raise WorldError(f"{path} cannot be opened: {error}; end the program that has it open") from error
        except sqlite3.DatabaseError as error:
            self.close()
            log = path.with_name(session_log.NAME)
            fix = f"put it back from a copy, or make the chat again: ockham chat --replay {log} --state NEW"
            raise CheckpointError(f"{path} is damaged ({error}); {fix}") from error
        except BaseException:
            self.close()
            raise

    def _prepare(self) -> None:
        self.db.row_factory = sqlite3.Row
        for pragma in ("locking_mode = EXCLUSIVE", "journal_mode = WAL", "synchronous = FULL", "secure_delete = ON",
                       "foreign_keys = ON", "temp_store = MEMORY"):  # fmt: skip
            self.db.execute(f"PRAGMA {pragma}").fetchall()
        version = self.db.execute("PRAGMA user_version").fetchone()[0]
        if version == 0:
            with self.transaction():
                for statement in SCHEMA:
                    self.db.execute(statement)
        elif version == session_log.FORMAT:
            self._add_copies_turn()
        else:
            reads = f"this program reads format {session_log.FORMAT}"
            raise CheckpointError(f"{self.path} is of format {version}, {reads}; use the version that wrote it")
        if (found := self.db.execute("PRAGMA quick_check").fetchone()[0]) != "ok":
            raise sqlite3.DatabaseError(found.splitlines()[-1])

    def _add_copies_turn(self) -> None:
        """Folders that were begun before copies had a turn get the column."""
        if "turn" not in {row["name"] for row in self.all("PRAGMA table_info(copies)")}:
            self.db.execute("ALTER TABLE copies ADD COLUMN turn INTEGER")

    @contextmanager
    def transaction(self) -> Iterator[None]:
        """All of it or nothing."""
        self.db.execute("BEGIN IMMEDIATE")
        try:
            yield
            self.db.execute("COMMIT")
        except BaseException:
            if self.db.in_transaction:
                self.db.execute("ROLLBACK")
            raise

    def compact(self) -> None:
        """No page, freed or logged, has what no row has."""
        self.db.execute("VACUUM")
        if self.one("PRAGMA wal_checkpoint(TRUNCATE)"):
            raise sqlite3.OperationalError("the write-ahead log could not be emptied")

    def close(self) -> None:
        """Close the file."""
        self.db.close()

    def one(self, query: str, *values: Any) -> Any:
        """The first value of the first row, None where there is none."""
        row = self.db.execute(query, values).fetchone()
        return None if row is None else row[0]

    def all(self, query: str, *values: Any) -> list[sqlite3.Row]:
        """Every row."""
        return self.db.execute(query, values).fetchall()

    def insert(self, table: str, **fields: Any) -> None:
        """A row, in place of the one with its key."""
        marks = ", ".join("?" * len(fields))
        self.db.execute(f"INSERT OR REPLACE INTO {table} ({', '.join(fields)}) VALUES ({marks})", tuple(fields.values()))

    def update_state(self, **fields: Any) -> None:
        """Change columns of the one row of `state`; None = as it is."""
        given = {name: value for name, value in fields.items() if value is not None}
        if not given:
            return
        self.db.execute(f"UPDATE state SET {', '.join(f'{name} = ?' for name in given)}", tuple(given.values()))

    # ---- adapters

    def next_adapter(self) -> int:
        """A number that no adapter ever had."""
        return 1 + (self.one("SELECT seq FROM sqlite_sequence WHERE name = 'adapters'") or 0)

    def drop_adapters(self) -> None:
        """Out with those that neither the state nor a snapshot refers to."""
        used = "SELECT adapter FROM state UNION SELECT adapter FROM snapshots"
        self.db.execute(f"DELETE FROM adapters WHERE number NOT IN ({used})")

    # ---- turns

    def turns(self) -> list[dict[str, Any]]:
        """Every turn in order, with the fields of its line in the log and what else the tables know."""
        rows = map(dict, self.all("SELECT * FROM turns ORDER BY turn"))
        return [{**row, "losses": json.loads(row["losses"] or "{}")} for row in rows]

    def put_turn(self, fields: Mapping[str, Any], log_bytes: int) -> None:
        """A turn's row; its line in the log is `log_bytes` long."""
        self.insert("turns", **{**fields, "losses": dumps(fields["losses"])})
        self.update_state(turn=fields["turn"], log_bytes=self.one("SELECT log_bytes FROM state") + log_bytes)

    def log_bytes(self) -> bytes:
        """The whole log as it must be; b"" before the session is begun."""
        header = self.db.execute("SELECT header, adapter_sha256 FROM header").fetchone()
        if header is None:
            return b""
        lines = [session_log.header_line(json.loads(header["header"]), header["adapter_sha256"])]
        return b"".join([*lines, *map(session_log.turn_line, self.turns())])

    # ---- facts

    def facts(self) -> dict[int, FactRow]:
        """Every fact by its id, in order."""
        return {row["id"]: _fact(row) for row in self.all("SELECT * FROM facts ORDER BY id")}

    def fact(self, fact_id: int) -> FactRow | None:
        """One of them."""
        row = self.db.execute("SELECT * FROM facts WHERE id = ?", (fact_id,)).fetchone()
        return None if row is None else _fact(row)

    def put_fact(self, fact: FactRow, turn: int, reason_code: str) -> None:
        """A new fact or the new form of one; what it was before is kept for /undo, a change of state in its history."""
        old = self.fact(fact.id)
        self._write_fact(fact, turn, reason_code, old)
        before = None if old is None else dumps([old.state, old.text, old.turn, dict(old.record)])
        if not self.one("SELECT count(*) FROM changes WHERE turn = ? AND id = ?", turn, fact.id):
            self.insert("changes", turn=turn, id=fact.id, before=before)

    def _write_fact(self, fact: FactRow, turn: int, reason_code: str, old: FactRow | None) -> None:
        history = [] if old is None else [dict(entry) for entry in old.history]
        told = count_tellings(fact.record)
        if told > (0 if old is None else count_tellings(old.record)):
            history.append({"turn": turn, "state": fact.state, "reason_code": reason_code, "told": told})
        elif old is None or old.state != fact.state:
            history.append({"turn": turn, "state": fact.state, "reason_code": reason_code})
        values = (fact.state, fact.text, fact.turn or turn, dumps(fact.record), dumps(history))
        names = ("state", "text", "turn", "record", "history")  # no REPLACE: it would take the fact's changes with it
        changes = ", ".join(f"{name} = excluded.{name}" for name in names)
        self.db.execute(
            f"INSERT INTO facts (id, {', '.join(names)}) VALUES (?, ?, ?, ?, ?, ?) ON CONFLICT (id) DO UPDATE SET {changes}",
            (fact.id, *values),
        )

    def replace_facts(self, facts: Iterable[FactRow], turn: int, reason_code: str) -> None:
        """These and no others; nothing is kept for /undo."""
        old = self.facts()
        self.db.execute("DELETE FROM facts")
        for fact in facts:
            self._write_fact(fact, turn, reason_code, old.get(fact.id))

    def restore_facts(self, since: int, turn: int, reason_code: str) -> None:
        """Every fact as it was before turn `since`. One told later is undone, unless it only waits: nothing learned it."""
        changed = self.all("SELECT id, before, min(turn) FROM changes WHERE turn >= ? GROUP BY id", since)  # the oldest of each
        for fact_id, before, _ in map(tuple, changed):
            old = self.facts()[fact_id]
            if before is not None:
                state, text, told, record = json.loads(before)
                fact = FactRow(id=fact_id, state=state, text=text, turn=told, record=record)
            else:
                state = "pending" if old.state == "pending" else "undone"
                fact = FactRow(id=fact_id, state=state, text=old.text, turn=old.turn, record=old.record)
            self._write_fact(fact, turn, reason_code, old)
        self.db.execute("DELETE FROM changes WHERE turn >= ?", (since,))

    # ---- snapshots and tombstones

    def keep_snapshots(self, keep: int) -> None:
        """The newest `keep` of them, of the facts' changes those that they need, and the adapters that are in use."""
        newest = "SELECT turn FROM snapshots ORDER BY turn DESC LIMIT ?"
        self.db.execute(f"DELETE FROM snapshots WHERE turn NOT IN ({newest})", (keep,))
        self.db.execute("DELETE FROM changes WHERE turn < coalesce((SELECT min(turn) FROM snapshots), 1 << 62)")
        self.drop_adapters()

    def tombstones(self) -> list[Tombstone]:
        """Every tombstone, in order of its fact's id."""
        return [Tombstone(**row) for row in map(dict, self.all("SELECT * FROM tombstones ORDER BY id"))]


def dumps(value: Mapping[str, Any] | list[Any]) -> str:
    """JSON for a column; names stay as they are written, so that one can search for them."""
    return json.dumps(value, ensure_ascii=False)


def _fact(row: sqlite3.Row) -> FactRow:
    values = dict(row)
    return FactRow(**{**values, "record": json.loads(values["record"]), "history": json.loads(values["history"])})
