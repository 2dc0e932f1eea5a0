"""/save: the whole state in another folder."""

from __future__ import annotations

import os
import shutil
import sqlite3
from contextlib import closing
from pathlib import Path

from ..errors import WorldError
from ..files import sync_folder
from . import session_log, state_tables
from .adapter_files import AdapterFiles
from .private_files import FILE_MODE, FOLDER_MODE, PARTIAL, write_private
from .state_tables import StateTables


def check_new(target: Path) -> None:
    """Raises WorldError for a place where something is already."""
    if target.exists():
        raise WorldError(f"{target} is there already; name a new folder")


def partial(target: Path) -> Path:
    """Where a copy is until it is whole."""
    return target.with_name(target.name + PARTIAL)


def write_copy(tables: StateTables, adapters: AdapterFiles, target: Path) -> None:
    """A state folder like this one at `target`, there as a whole or not at all. Raises WorldError."""
    check_new(target)
    made = partial(target)
    try:
        made.mkdir(FOLDER_MODE)
    except FileExistsError as error:
        raise WorldError(f"{made} is left from a copy that broke off; delete it, or name another folder") from error
    except OSError as error:
        raise WorldError(f"cannot save in {target.parent}: {error.strerror}; name another place") from error
    try:
        _fill(made, tables, adapters, target)
        made.rename(target)
        sync_folder(target.parent)
    except (OSError, sqlite3.Error) as error:
        raise WorldError(f"cannot save as {target}: {error}; free some space or name another place") from error
    finally:
        shutil.rmtree(made, ignore_errors=True)


def _fill(folder: Path, tables: StateTables, adapters: AdapterFiles, target: Path) -> None:
    path = folder / state_tables.NAME
    os.close(os.open(path, os.O_CREAT | os.O_EXCL, FILE_MODE))
    with closing(sqlite3.connect(path)) as copy:
        tables.db.backup(copy)
        itself = [(str(path.resolve()),) for path in (target, partial(target))]
        copy.executemany("DELETE FROM copies WHERE path = ?", itself)
        copy.commit()
    there = AdapterFiles(folder)
    for number, sha256 in map(tuple, tables.all("SELECT number, sha256 FROM adapters")):
        there.write(number, adapters.read(number, sha256))
    write_private(folder / session_log.NAME, tables.log_bytes())
