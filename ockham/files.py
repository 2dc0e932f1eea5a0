"""Small files, written whole or not at all."""

from __future__ import annotations

import os
from pathlib import Path

from .errors import WorldError


def write_whole(path: Path, data: bytes) -> None:
    """Write beside `path`, flush to disk, then rename over it: readers see the old file or the new one, never a part."""
    partial = path.with_name(path.name + ".partial")
    with open(partial, "wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
    os.replace(partial, path)


def sync_folder(folder: Path) -> None:
    """Make names that were added, renamed or removed durable. Windows cannot open folders and needs no such call."""
    if os.name == "posix":
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)


def check_target(flag: str, path: Path) -> None:
    """Before the work is done whose result goes there: raises WorldError where the file that `flag` names cannot be written."""
    if path.is_dir():
        raise WorldError(f"{flag} {path} is a folder; name a file")
    if not path.parent.is_dir():
        raise WorldError(f"{flag} {path} cannot be written: there is no folder {path.parent}; make it first")
    if not os.access(path.parent, os.W_OK):
        raise WorldError(f"{flag} {path} cannot be written: no permission in {path.parent}; name another place")


def write_text(path: Path, text: str) -> None:
    """`write_whole`, as UTF-8."""
    write_whole(path, text.encode())
