"""Files that only their owner reads: mode 0600 in a folder of mode 0700, written whole or not at all, flushed to disk."""

from __future__ import annotations

import os
from pathlib import Path

from ..files import sync_folder

FILE_MODE = 0o600
FOLDER_MODE = 0o700
PARTIAL = ".partial"  # end of the name of a file that is being written


def write_private(path: Path, data: bytes) -> None:
    """Write beside `path`, flush, rename over it, flush the folder: after a crash there is the old file or the new one."""
    partial = path.with_name(path.name + PARTIAL)
    partial.unlink(missing_ok=True)  # its mode may be another one
    _write(partial, os.O_CREAT | os.O_EXCL, data)
    os.replace(partial, path)
    sync_folder(path.parent)


def append_private(path: Path, data: bytes) -> None:
    """Append and flush. A crash may leave a part of `data` at the end."""
    _write(path, os.O_CREAT | os.O_APPEND, data)


def cut(path: Path, size: int) -> None:
    """Keep the first `size` bytes."""
    with open(path, "r+b") as file:
        file.truncate(size)
        os.fsync(file.fileno())


def make_folder(path: Path) -> None:
    """A folder for its owner alone; one that is there already gets that mode too."""
    path.mkdir(mode=FOLDER_MODE, parents=True, exist_ok=True)
    path.chmod(FOLDER_MODE)


def _write(path: Path, flags: int, data: bytes) -> None:
    handle = os.open(path, os.O_WRONLY | flags, FILE_MODE)
    try:
        rest = memoryview(data)
        while rest:
            rest = rest[os.write(handle, rest) :]
        os.fsync(handle)
    finally:
        os.close(handle)
