"""Fingerprints of what decides a run's numbers: its config, its files, the code; and the machine it ran on."""

from __future__ import annotations

import hashlib
import json
import os
import platform
import subprocess
from collections.abc import Iterable, Mapping
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np
import torch

from ..config import RunConfig
from ..configuration.files import SUFFIXES
from ..configuration.layers import flattened
from ..presets import preset_path
from ..typed import to_mapping

ROOT = Path(__file__).resolve().parents[2]  # the checkout
# Keys that change where and what a run writes, or when it pauses, and no number that it learns or measures. `data_dir`: the
# data are hashed themselves. `policy`: what it chose stands in the other keys.
NOT_HASHED = (
    "out_dir",
    "overwrite",
    "debug",
    "dry_run",
    "log_interval",
    "max_hours",
    "data_dir",
    "policy",
    "peak_flops",
    "wandb_log",
    "wandb_project",
    "wandb_run_name",
    "tensorboard_log",
    "journal.replayable",
    "optimizer.log_config",
    "optimizer.rich_console",
    "optimizer.hash_to_debuglog",
    "optimizer.export_json",
)
READ_FROM = ("config", "presets", "ockham")  # folders of the checkout that a run reads
SAMPLED_ABOVE = 2**30  # bytes; a larger file is hashed by its length and samples
BLOCK = 2**20  # bytes of one sample
BLOCKS = 64  # samples between the first and the last
DATA_FILES = ("train.bin", "val.bin", "meta.json")
SCRIPTS = ("train_ockham.py", "configurator.py", "model.py", "pretrained.py")
GIT_SECONDS = 30

Fingerprint = dict[str, Any]  # of a file: sha256, bytes, and `sampled` where only samples were read


def config_hash(values: Mapping[str, Any]) -> str:
    """sha256 of a nested or dotted config as canonical JSON: dotted keys in order, no blanks, without NOT_HASHED."""
    numbers = {key: value for key, value in flattened(values.items()) if key not in NOT_HASHED}
    return hashlib.sha256(json.dumps(numbers, sort_keys=True, separators=(",", ":")).encode()).hexdigest()


def file_hash(path: Path) -> Fingerprint | None:
    """The fingerprint of a file; None where there is none.

    Above SAMPLED_ABOVE it is that of the length and BLOCKS + 2 evenly spread blocks, the first and the last among them.
    """
    if not path.is_file():
        return None
    size = path.stat().st_size
    with open(path, "rb") as file:
        if size <= SAMPLED_ABOVE:
            return {"sha256": hashlib.file_digest(file, "sha256").hexdigest(), "bytes": size}
        digest = hashlib.sha256(str(size).encode())
        for index in range(BLOCKS + 2):
            file.seek(index * (size - BLOCK) // (BLOCKS + 1))
            digest.update(file.read(BLOCK))
    return {"sha256": digest.hexdigest(), "bytes": size, "sampled": True}


def at_home(path: Path) -> str:
    """A path as the audit writes it: from the checkout where it lies inside, else in full."""
    full = path.resolve()
    return full.relative_to(ROOT).as_posix() if full.is_relative_to(ROOT) else str(full)


def data_hashes(folder: Path) -> dict[str, Any]:
    """A corpus: its folder, and the fingerprints of its files."""
    return {"folder": at_home(folder), "files": {name: file_hash(folder / name) for name in DATA_FILES}}


def input_hashes(config: RunConfig, argv: Iterable[str]) -> dict[str, Fingerprint]:
    """The files that the command reads besides code and data: groups, policy, preset, recipes, weights. Path -> fingerprint.

    Where Lookahead is on, its file is among them: the config does not tell whether it was chosen by that file's name.
    """
    recipes = [Path(arg) for arg in argv if arg.endswith(SUFFIXES) and not arg.startswith("-")]
    members = [("optimizer", config.optimizer.name), ("scheduler", config.scheduler.name), ("policy", config.policy)]
    members += [("optimizer", "lookahead")] * config.optimizer.lookahead.enabled
    paths = [ROOT / "config/config.yaml", *(ROOT / "config" / group / f"{name}.yaml" for group, name in members)]
    paths += [preset_path(config.preset), *(p if p.is_file() else ROOT / p for p in recipes), *weights(config.init_from)]
    hashes = {at_home(path): file_hash(path) for path in paths}
    return {path: found for path, found in hashes.items() if found}


def weights(init_from: str) -> list[Path]:
    """The files of the weights that a run brings in; none for scratch, resume and the names of GPT-2."""
    path = Path(init_from)
    if not path.is_dir():
        return [path]
    if not (path / "config.json").is_file():
        return [path / "ckpt.pt"]
    return sorted(p for p in path.iterdir() if p.suffix in (".json", ".safetensors", ".bin"))


def code_hash() -> str:
    """sha256 over the paths and bytes of the Python files that a run can import from the checkout."""
    digest = hashlib.sha256()
    for path in (*(ROOT / name for name in SCRIPTS), *sorted((ROOT / "ockham").rglob("*.py"))):
        if path.is_file():
            digest.update(f"{path.relative_to(ROOT).as_posix()}\0{hashlib.sha256(path.read_bytes()).hexdigest()}\n".encode())
    return digest.hexdigest()


def git_state() -> dict[str, Any] | None:
    """The checkout's commit, sha256 of `git diff HEAD` where that is not empty, and how many files of what a run reads git does
    not know; None without git.
    """
    head, is_ours = git("rev-parse", "HEAD"), git("ls-files", "--error-unmatch", "ockham/__init__.py")
    if not head or not is_ours:  # not under git, or an installed copy inside somebody else's repository
        return None
    diff = git("diff", "HEAD", "--no-ext-diff", "--no-textconv", "--no-color", "--full-index", "--binary")
    untracked = git("ls-files", "--others", "--exclude-standard", "-z", "--", *READ_FROM).count(b"\0")
    changes = hashlib.sha256(diff).hexdigest() if diff else None
    return {"commit": head.decode().strip(), "diff_sha256": changes, "untracked": untracked}


def git(*args: str) -> bytes:
    """What a git command prints in the checkout; nothing where it fails."""
    try:
        done = subprocess.run(
            ["git", "-C", str(ROOT), *args],
            capture_output=True,
            timeout=GIT_SECONDS,
            env=os.environ | {"GIT_OPTIONAL_LOCKS": "0"},
        )
    except (OSError, subprocess.TimeoutExpired):
        return b""
    return b"" if done.returncode else done.stdout


def versions() -> dict[str, str | None]:
    """What the numbers are computed with; None for an optional package that is not installed."""
    try:
        extra = metadata.version("pytorch_optimizer")
    except metadata.PackageNotFoundError:
        extra = None
    return {
        "torch": str(torch.__version__),
        "python": platform.python_version(),
        "numpy": np.__version__,
        "pytorch_optimizer": extra,
    }


def device_name(device: torch.device) -> str | None:
    """The card's or the CPU's model name; None where there is no such device."""
    if device.type == "cuda":
        is_there = torch.cuda.is_available() and (device.index or 0) < torch.cuda.device_count()
        return torch.cuda.get_device_name(device) if is_there else None
    if device.type == "mps" and not torch.backends.mps.is_available():
        return None
    return cpu_name()


def cpu_name() -> str:
    """The CPU's model name, as well as the system tells it."""
    info = Path("/proc/cpuinfo")
    lines = info.read_text(encoding="utf-8", errors="replace").splitlines() if info.is_file() else []
    models = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return next((m for m in models if m), "") or platform.processor() or platform.machine() or "unknown"


def config_values(config: RunConfig) -> dict[str, Any]:
    """The config as dotted keys and plain values."""
    return dict(flattened(to_mapping(config).items()))
