"""A run's folder back at one of its snapshots, and as it was before."""

from __future__ import annotations

import os
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from .. import checkpoint
from ..errors import OckhamError, WorldError
from ..lock import FolderLock
from ..memory import ModelSnapshot, OckhamMemory
from ..runfiles import own_files
from .kept import UNDO, for_inference

ASIDE = Path("memory", UNDO)


def roll_back(run: Path, memory: OckhamMemory, snapshot: ModelSnapshot) -> None:
    """Let the run go on from a snapshot: its state becomes last.pt, its weights ckpt.pt, and the best is counted from it.

    All of the run's files are set aside first, but for its trackers' folders; only the newest rollback can be undone. The rest
    of the folder changes when the run goes on: resume cuts the journal back, and drops later snapshots. Raises WorldError while a
    job trains there.
    """
    with FolderLock(run):
        state = continued(memory.load(snapshot), snapshot)
        set_aside(run)
        try:
            checkpoint.save(for_inference(state, snapshot.loss), run / "ckpt.pt")
            checkpoint.save(state, run / "last.pt")
        except OckhamError:
            _put_back(run)
            raise


def continued(state: Mapping[str, Any], snapshot: ModelSnapshot) -> dict[str, Any]:
    """A snapshot's state as a last.pt."""
    loop, known = state["loop"], state["memory"]
    if loop["evaluated_at"] != snapshot.iter_num:  # of a run's last evaluation: it is made again, so the verdict is not known yet
        known = loop["memory"]
    return {**state, "loop": {**loop, "memory": known, "best_val_loss": snapshot.loss}}


def set_aside(run: Path) -> None:
    """Keep the run's files as they are now. Checkpoints are linked, as a checkpoint's file is replaced and never written into."""
    aside, partial = run / ASIDE, run / ASIDE.with_suffix(".partial")
    shutil.rmtree(partial, ignore_errors=True)
    for path in own_files(run):
        _again(path, partial / path.relative_to(run))
    shutil.rmtree(aside, ignore_errors=True)
    partial.rename(aside)


def undo(run: Path) -> None:
    """Put back what the newest rollback set aside, and remove what the run has written besides since.

    Broken off, it can be called again. Raises WorldError when there is nothing to undo, and while a job trains there.
    """
    if not run.is_dir():
        raise WorldError(f"there is no folder {run}; give the out_dir of a run")
    with FolderLock(run):
        _put_back(run)


def _put_back(run: Path) -> None:
    aside, done = run / ASIDE, run / ASIDE.with_suffix(".done")
    if not aside.is_dir():
        raise WorldError(f"no rollback to undo in {run}")
    before = {path.relative_to(aside): path for path in aside.rglob("*") if path.is_file()}
    for name, path in before.items():
        partial = (run / name).with_name(name.name + ".partial")
        partial.unlink(missing_ok=True)
        _again(path, partial)
        os.replace(partial, run / name)
        partial.unlink(missing_ok=True)  # two links to one file: replacing does nothing, and leaves both
    for path in own_files(run):
        if path.relative_to(run) not in before:
            path.unlink()
    shutil.rmtree(done, ignore_errors=True)
    aside.rename(done)  # whole or not at all, so that a second call never takes a part for the whole
    shutil.rmtree(done)


def _again(path: Path, there: Path) -> None:
    """The same file at another place: a link where it is a checkpoint and the file system has links, else a copy."""
    there.parent.mkdir(parents=True, exist_ok=True)
    if path.suffix == ".pt":
        try:
            there.hardlink_to(path)
            return
        except OSError:  # no links here: the copy below costs time and space only
            pass
    shutil.copy2(path, there)
