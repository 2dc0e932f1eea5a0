"""Who writes a folder, of a run or an experiment: one process at a time.

The lock is the operating system's, on a small file in the folder, and ends with the process however that ends. It has no effect
where there is no `fcntl` (Windows), or where the file system has no locks.
"""

from __future__ import annotations

import os
import weakref
from pathlib import Path

from .errors import WorldError

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]

NAME = ".lock"  # hidden: it is no file of the run


class FolderLock:
    """The lock of a folder, held from construction to `close`: the file `name` in it.

    Raises WorldError while another process holds it, saying `busy` with its {pid}. In one process the newer takes it over: it has
    begun because the older broke off.
    """

    def __init__(self, folder: Path, name: str = NAME, busy: str = ""):
        self.path = folder.resolve() / name
        if older := _HELD.get(self.path):
            older.close()
        handle = None if fcntl is None else _hold(self.path, busy or f"{folder} is training now (pid {{pid}}); stop it first")
        self._release = weakref.finalize(self, _give_back, self.path, handle, os.getpid())
        _HELD[self.path] = self

    def close(self) -> None:
        """Give it back; a second time does nothing."""
        self._release()

    def __enter__(self) -> FolderLock:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()


_HELD: weakref.WeakValueDictionary[Path, FolderLock] = weakref.WeakValueDictionary()  # by this process


def _hold(path: Path, busy: str) -> int | None:
    """The locked file, this process's number in it; None where there are no locks."""
    while True:
        handle = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            pid = os.pread(handle, 20, 0).decode(errors="replace").strip()
            os.close(handle)
            raise WorldError(busy.replace("{pid}", pid or "unknown")) from None
        except OSError:  # a file system without locks, as some network ones
            os.close(handle)
            path.unlink(missing_ok=True)
            return None
        if _is_at(handle, path):
            os.truncate(handle, 0)
            os.pwrite(handle, f"{os.getpid()}\n".encode(), 0)
            return handle
        os.close(handle)  # its last holder removed it between our two calls


def _is_at(handle: int, path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(handle), path.stat())
    except FileNotFoundError:
        return False


def _give_back(path: Path, handle: int | None, holder: int) -> None:
    if handle is not None and os.getpid() == holder:  # not in a fork of it
        if _is_at(handle, path):
            path.unlink(missing_ok=True)  # while it is ours
        os.close(handle)
