"""The files of a run's folder: which they are, whether a folder has them, and how a new run claims one."""

from __future__ import annotations

import shutil
from pathlib import Path

from .audit.place import own_json
from .errors import ConfigError, TrainingError

RUN_FILES = (
    "ckpt.pt",
    "last.pt",
    "start.pt",
    "journal.jsonl",
    "decisions.jsonl",
    "config.yaml",
    "audit.md",
    "audit.json",
    "summary.json",
    "report.html",
    "job.json",
)
RUN_FOLDERS = ("memory", "tensorboard", "wandb")


def holds_run(out_dir: Path) -> bool:
    """Whether a folder has a run's checkpoints or journal."""
    return any((out_dir / name).exists() for name in ("ckpt.pt", "last.pt", "journal.jsonl"))


def check_free(out_dir: Path) -> None:
    """Raises ConfigError for a folder that holds a run, or a sweep, whose jobs are folders in it."""
    if holds_run(out_dir):
        raise ConfigError(
            f"out_dir {out_dir} already holds a run: --init_from=resume goes on with it, --overwrite=True replaces it, "
            f"another --out_dir keeps it"
        )
    if (out_dir / "sweep.json").exists():
        raise ConfigError(
            f"out_dir {out_dir} holds a sweep: -m --init_from=resume goes on with it, another --out_dir keeps the run apart"
        )


def claim(out_dir: Path, overwrite: bool) -> None:
    """Make an empty run folder; with `overwrite` by removing a run's own files. Raises ConfigError where it is not free."""
    if not overwrite:
        check_free(out_dir)
    elif holds_run(out_dir):
        for path in (own_json(out_dir), *(out_dir / name for name in RUN_FILES)):  # the first is named in config.yaml
            if path:
                path.unlink(missing_ok=True)
        for name in RUN_FOLDERS:
            shutil.rmtree(out_dir / name, ignore_errors=True)
    try:
        out_dir.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise TrainingError(f"cannot make out_dir {out_dir}: {error}; choose another --out_dir") from error


def own_files(out_dir: Path) -> list[Path]:
    """The files that are there and that a run writes, but for its trackers' folders."""
    kept = [out_dir / "memory" / "index.json", *(out_dir / "memory").glob("iter-*.pt")]
    return sorted(path for path in {own_json(out_dir), *(out_dir / name for name in RUN_FILES), *kept} if path and path.is_file())
