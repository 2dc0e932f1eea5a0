"""Bringing the files of a state folder to what its tables say: after a crash, after a write that failed, after forgetting."""

from __future__ import annotations

import json
from pathlib import Path

from ..files import sync_folder
from .adapter_files import AdapterFiles
from .private_files import PARTIAL, cut, write_private
from .state_tables import StateTables


def settle(tables: StateTables, adapters: AdapterFiles, log: Path) -> list[str]:
    """Do it; what was dropped, in words. It may break off anywhere and be done again."""
    is_forgetting = tables.one("SELECT count(*) FROM forgetting") > 0
    log.with_name(log.name + PARTIAL).unlink(missing_ok=True)
    dropped: list[str] = []
    if is_forgetting:
        write_private(log, tables.log_bytes())
    elif tables.one("SELECT count(*) FROM state") == 0:
        log.unlink(missing_ok=True)  # of a session whose begin was broken off
    else:
        dropped += _cut_log(tables, log)
    dropped += keep_adapters(tables, adapters)
    if is_forgetting:
        sync_folder(adapters.folder)
        tables.compact()
        tables.db.execute("DELETE FROM forgetting")
    return dropped


def keep_adapters(tables: StateTables, adapters: AdapterFiles) -> list[str]:
    """Delete the files that the tables do not have; in words, those that were never committed."""
    kept = [number for (number,) in map(tuple, tables.all("SELECT number FROM adapters"))]
    new = adapters.path(tables.next_adapter()).name
    return [f"{name} was not finished and was deleted" for name in adapters.keep_only(kept) if name >= new]


def _cut_log(tables: StateTables, log: Path) -> list[str]:
    size = tables.one("SELECT log_bytes FROM state")
    have = log.stat().st_size if log.is_file() else 0
    if have < size:
        write_private(log, tables.log_bytes())
        return [f"{log.name} had {have} of its {size} bytes and was written anew from {tables.path.name}"]
    if have == size:
        return []
    with open(log, "rb") as file:
        file.seek(size)
        tail = file.read()
    cut(log, size)
    return [_lost(tail, 1 + tables.one("SELECT turn FROM state"))]


def _lost(tail: bytes, turn: int) -> str:
    try:
        text = json.loads(tail)["text"]
    except (ValueError, KeyError, TypeError):
        return f"turn {turn} was not finished and was dropped"
    return f"turn {turn} was not finished and was dropped; its message was {text[:60]!r}: say it again"
