"""The state folder of a chat: what it learned, its log, and the way back; a crash returns to the last committed turn.

    state.db                     tables: turns, facts, memory, snapshots, tombstones
    adapters/NNNNNN.safetensors  the adapter now, and those that /undo can go back to
    session.jsonl                the log, for a replay

A turn is committed in this order: its line of the log, appended and flushed; the new adapter, under a name that was never used;
one transaction of the tables, which also says how long the log is. Before the transaction the turn has not happened: opening the
folder cuts the log back and deletes the adapter. Afterwards it has, and only adapters that nothing refers to are left to delete.
Forgetting is one transaction too; the log is then written anew from the tables, and opening the folder finishes that.
"""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from ..errors import CheckpointError, ConfigError, WorldError
from ..lock import NAME as LOCK
from ..lock import FolderLock
from . import forgetting, recovery, rejecting, session_log, state_tables, undoing
from .adapter_files import AdapterFiles, digest
from .private_files import FILE_MODE, append_private, make_folder
from .state_copy import check_new, partial, write_copy
from .state_records import Forgotten, Rebuilt, Rejected, Snapshot, Turn
from .state_tables import StateTables, dumps
from .state_view import StateView, plain
from .tombstones import Tombstone

DAMAGED = "ADAPTER_DAMAGED"  # reason code of the turn in which opening the folder fell back


class StateFolder(StateView):
    """An open state folder, locked until `close`. The caller's own adapter and memory follow `state()`.

    header     what the session is begun with: base, base_sha256, config (plain mapping), seed, version, threads
    keep       states that /undo can go back to; interval: learned turns between them
    fall_back  where the adapter's file is damaged, go back to the newest state that is whole instead of raising

    `recovered` says in words what opening it dropped. Raises WorldError while another chat has the folder, CheckpointError for
    one of another base or format, for a damaged file, and for a folder that holds other things. After a WorldError from a writing
    method the folder is at its last committed turn and can be written to again; the caller takes up `state()`.
    """

    def __init__(self, folder: Path, header: Mapping[str, Any], *, keep: int = 20, interval: int = 1, fall_back: bool = False):
        if fault := session_log.check_header({"format": session_log.FORMAT, **header}):
            raise ValueError(fault)
        self.folder, self.given, self.keep, self.interval = folder, dict(header), keep, interval
        _check_place(folder)
        try:
            make_folder(folder)
        except OSError as error:
            raise WorldError(f"cannot make the state folder {folder}: {error.strerror}; name another one") from error
        self._lock = _lock(folder)
        try:
            self._open(fall_back)
        except BaseException:
            self.close()
            raise

    def _open(self, fall_back: bool) -> None:
        if (lock := self.folder / LOCK).exists():
            lock.chmod(FILE_MODE)
        self.tables = StateTables(self.folder / state_tables.NAME)
        self._check_base()
        self.adapters = AdapterFiles(self.folder)
        self.log = self.folder / session_log.NAME
        self._is_settled = True
        self.recovered = recovery.settle(self.tables, self.adapters, self.log)
        if not self.is_new:
            self._verify(fall_back)

    def close(self) -> None:
        """Close the tables and give the lock back."""
        if tables := getattr(self, "tables", None):
            tables.close()
        self._lock.close()

    def __enter__(self) -> StateFolder:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def _check_base(self) -> None:
        was, now = self.header, self.given
        if was["base_sha256"] != now["base_sha256"]:
            old, new = (f"{header['base']} (SHA-256 {header['base_sha256'][:12]}…)" for header in (was, now))
            raise CheckpointError(
                f"{self.folder} belongs to the base {old}, this is {new}; chat with that base, or name another folder"
            )

    def _verify(self, fall_back: bool) -> None:
        """Raises CheckpointError for a damaged adapter, unless one before it may be taken and is whole."""
        try:
            self.state()
        except CheckpointError as error:
            snapshot = self._newest_whole()
            if snapshot is None:
                raise CheckpointError(f"{error}; no earlier one is whole: put it back from a copy") from error
            if not fall_back:
                whole = f"the state before turn {snapshot.turn} is whole"
                offer = f"{whole}: --fall-back takes it; or put the file back from a copy"
                raise CheckpointError(f"{error}; {offer}") from error
            with self._writing() as number:
                self._return_to(snapshot, Turn(text="", reply="", kind="command", reason_code=DAMAGED), number)
            self.recovered.append(f"{error}; went back to the state before turn {snapshot.turn}")

    def begin(self, adapter: bytes, memory: Mapping[str, Any], metrics: Mapping[str, Any] | None = None) -> None:
        """The state before the first turn, and the log's header."""
        if not self.is_new:
            raise ValueError(f"{self.folder} has a session already")
        line = session_log.header_line(self.given, digest(adapter))
        with self._writing():
            append_private(self.log, line)
            number = self._write_adapter(adapter)
            with self.tables.transaction():
                self.tables.insert("header", one=1, header=dumps(self.given), adapter_sha256=digest(adapter))
                self.tables.insert("adapters", number=number, sha256=digest(adapter))
                values = {"memory": dumps(memory), "metrics": dumps(metrics or {}), "log_bytes": len(line)}
                self.tables.insert("state", one=1, turn=0, adapter=number, **values)

    def commit(self, turn: Turn, rejected: Rejected | None = None) -> int:
        """Keep a turn, whole; its number. Raises WorldError where the disk refuses, ConfigError for text that is not UTF-8.

        `rejected`: the facts that the turn rejects; they must be apart (`can_reject`).
        """
        with self._writing() as number:
            stones = [Tombstone.of(id, self._told(id), number, time.time()) for id in rejected.ids] if rejected else []
            fields = self._fields(turn, number, None if turn.adapter is None else digest(turn.adapter))
            line = session_log.turn_line(fields)
            append_private(self.log, line)
            is_changed = fields["adapter_sha256"] != fields["adapter_before"]
            adapter = self._write_adapter(turn.adapter or b"") if is_changed else None
            with self.tables.transaction():
                if turn.is_learned:
                    undoing.take_snapshot(self.tables, number, self.interval)
                if adapter is not None:
                    self.tables.insert("adapters", number=adapter, sha256=fields["adapter_sha256"])
                self.tables.put_turn(fields, len(line))
                for fact in turn.facts:
                    self.tables.put_fact(fact, number, turn.reason_code)
                self.tables.update_state(adapter=adapter, memory=_json(turn.memory), metrics=_json(turn.metrics))
                self.tables.keep_snapshots(self.keep)
                if rejected:
                    rejecting.take_out(self.tables, stones, rejected.mentions)
            if rejected:
                recovery.settle(self.tables, self.adapters, self.log)
            else:
                recovery.keep_adapters(self.tables, self.adapters)
        return number

    def undo(self, turn: Turn) -> int:
        """Go back to `previous()`, in a turn of its own, whose adapter and facts do not count; its number.

        The turn's memory is what the caller makes of the snapshot's; None = the snapshot's own.

        Raises ConfigError where there is nothing to go back to, CheckpointError where that adapter is damaged.
        """
        with self._writing() as number:
            snapshot = self.previous()
            if snapshot is None:
                raise ConfigError(undoing.why_not(self.tables, self.keep))
            self._return_to(snapshot, turn, number)
        return number

    def _return_to(self, snapshot: Snapshot, turn: Turn, number: int) -> None:
        fields = self._fields(turn, number, snapshot.adapter_sha256)
        line = session_log.turn_line(fields)
        append_private(self.log, line)
        with self.tables.transaction():
            undoing.go_back(self.tables, snapshot, number, turn.reason_code)
            self.tables.put_turn(fields, len(line))
            self.tables.update_state(memory=_json(turn.memory), metrics=_json(turn.metrics))
            self.tables.keep_snapshots(self.keep)
        recovery.keep_adapters(self.tables, self.adapters)

    def can_reject(self, rejected: Rejected) -> bool:
        """Whether nothing was learned from these facts and nothing else tells them; else they are to be forgotten. WorldError."""
        with self._writing():
            return rejecting.is_apart(self.tables, rejected.ids, rejected.mentions)

    def _told(self, fact_id: int) -> str:
        return self.tables.facts()[fact_id].text

    def forget(self, fact_id: int, rebuilt: Rebuilt, mentions: Callable[[str], bool]) -> Forgotten:
        """Put the rebuilt chat in place of this one; nothing of the facts that it lacks stays but their tombstones.

        Every turn in which `mentions` finds a text goes, and every older adapter and state. Raises ConfigError for an unknown
        id, ValueError where the rebuilt chat still mentions it, WorldError where the disk refuses: it says whether the fact is
        forgotten; what is then left to clean is cleaned at the next write or opening.
        """
        with self._writing() as number:
            gone = forgetting.facts_to_forget(self.tables, fact_id, rebuilt, mentions)
            stones = [Tombstone.of(fact.id, fact.text, number, time.time()) for fact in gone]
            copies = [(Path(path), turn) for path, turn in map(tuple, self.tables.all("SELECT path, turn FROM copies"))]
            adapter = self._write_adapter(rebuilt.adapter)
            with self.tables.transaction():
                self.tables.insert("adapters", number=adapter, sha256=digest(rebuilt.adapter))
                turns = forgetting.bury(self.tables, stones, rebuilt, adapter, mentions)
            recovery.settle(self.tables, self.adapters, self.log)
        first = min(turns, default=0)
        return Forgotten(stones, turns, [path for path, turn in copies if (turn is None or turn >= first) and path.is_dir()])

    def save(self, target: Path) -> None:
        """A copy of the whole state in a new folder, which opens as this one does. Raises WorldError.

        It is noted down before it is made: whatever breaks off, /forget knows of every copy that is there.
        """
        check_new(target)
        with self._writing():
            places = [target.resolve(), partial(target).resolve()]
            for place in places:
                self.tables.insert("copies", path=str(place), turn=self.turn)
            try:
                write_copy(self.tables, self.adapters, target)
            finally:
                for place in places:
                    if not place.exists():
                        self.tables.db.execute("DELETE FROM copies WHERE path = ?", (str(place),))

    @contextmanager
    def _writing(self) -> Iterator[int]:
        """For the number of the turn to come, 0 before the first.

        Whatever breaks off a write, the folder goes to what is committed: now, or where that fails too, at the next write.
        """
        number = 0
        try:
            self._settle()
            number = 0 if self.is_new else self.turn + 1
            yield number
        except BaseException as error:
            self._is_settled = False
            with suppress(OSError, sqlite3.Error):
                self._settle()
            if not isinstance(error, (OSError, sqlite3.Error)):
                raise
            raise WorldError(f"cannot write in {self.folder}: {error}; {self._fate(number)}; free some space") from error

    def _fate(self, number: int) -> str:
        """What became of a turn whose writing broke off."""
        try:
            is_kept = not self.is_new and 0 < number <= self.turn
        except sqlite3.Error:
            return f"open the folder again to see whether turn {number} is kept; nothing before it is lost"
        return f"turn {number} is kept all the same" if is_kept else "the turn was not kept; nothing before it is lost"

    def _settle(self) -> None:
        if not self._is_settled:
            recovery.settle(self.tables, self.adapters, self.log)
            self._is_settled = True

    def _fields(self, turn: Turn, number: int, adapter_sha256: str | None) -> dict[str, Any]:
        """The row of the turn to come; None = the adapter as it is. What cannot be written is refused before anything is."""
        if self.is_new:
            raise ValueError("the session is not begun: call begin() first")
        before = self.tables.one("SELECT sha256 FROM adapters JOIN state ON adapter = number")
        names = ("kind", "text", "reply", "reason_code", "losses", "fact", "seconds", "is_learned")
        fields = {name: getattr(turn, name) for name in names}
        fields |= {"turn": number, "time": round(time.time() if turn.time is None else turn.time, 3)}
        fields |= {"adapter_before": before, "adapter_sha256": adapter_sha256 or before}
        try:
            session_log.turn_line(fields)
            dumps([turn.memory, turn.metrics, [plain(fact) for fact in turn.facts]]).encode()
        except UnicodeEncodeError as error:
            raise ConfigError(f"a message must be UTF-8 text, got {error.object[error.start]!a}; type it again") from error
        return fields

    def _write_adapter(self, data: bytes) -> int:
        number = self.tables.next_adapter()
        self.adapters.write(number, data)
        return number


def _json(value: Mapping[str, Any] | None) -> str | None:
    return None if value is None else dumps(value)


def check_free(folder: Path) -> None:
    """Raises as opening the folder would where it holds other things or another chat has it open; loads nothing."""
    _check_place(folder)
    if folder.is_dir():
        _lock(folder).close()


def _lock(folder: Path) -> FolderLock:
    return FolderLock(folder, busy=f"another chat has {folder} open (pid {{pid}}); end it, or name another state folder")


def _check_place(folder: Path) -> None:
    """Raises CheckpointError for a folder that is not empty and has no state in it."""
    if not folder.exists() or (folder / state_tables.NAME).exists():
        return
    if not folder.is_dir():
        raise CheckpointError(f"{folder} is a file; name a folder for the chat's state")
    found = {path.name for path in folder.iterdir()} - {LOCK}
    if session_log.NAME in found:
        fix = f"make the chat again: ockham chat --replay {folder / session_log.NAME} --state NEW"
        raise CheckpointError(f"{folder / state_tables.NAME} is missing; put it back from a copy, or {fix}")
    if found:
        raise CheckpointError(f"{folder} holds other files ({min(found)}, …) and no chat; name an empty or a new folder")
