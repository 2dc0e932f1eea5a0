"""Checkpoint files: written whole or not at all, verified before they are trusted, read without running code.

Used by training, sampling, memory and chat alike; nobody else knows the format.
"""

from __future__ import annotations

import contextlib
import os
import random
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch

from .errors import CheckpointError, TrainingError
from .files import sync_folder

MODEL_ARGS = ("n_layer", "n_head", "n_embd", "block_size", "bias", "vocab_size", "dropout")  # nanoGPT's seven
COMPLETE = ("format", "model", "model_args", "learner", "loop", "rng", "config")  # what last.pt must hold
FORMAT = 1


def save(state: Mapping[str, Any], path: Path) -> None:
    """Write atomically: a temporary file, flushed to disk, checked, then renamed over `path`.

    Raises TrainingError when the disk refuses; an older file at `path` is then still whole.
    """
    temporary = path.with_name(path.name + ".tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with open(temporary, "wb") as file:
            torch.save(dict(state), file)
            file.flush()
            os.fsync(file.fileno())
        check(temporary)
        os.replace(temporary, path)
        sync_folder(path.parent)
    except (OSError, RuntimeError) as error:
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)
        raise TrainingError(f"cannot write {path}: {error}; free some space or choose another --out_dir") from error


def check(path: Path) -> None:
    """Raises CheckpointError unless every record of the file has the checksum that it was written with."""
    try:
        with zipfile.ZipFile(path) as archive:
            damaged = archive.testzip()
    except Exception as error:  # a damaged header raises whatever its bytes come to: BadZipFile, UnicodeDecodeError, ...
        raise CheckpointError(f"{path} is no whole checkpoint ({error})") from error
    if damaged:
        raise CheckpointError(f"{path} is damaged in {damaged}")


def load_checkpoint(path: Path, device: torch.device | str = "cpu") -> dict[str, Any]:
    """Read a checkpoint of ours or nanoGPT's: tensors and plain types only, never code.

    Raises CheckpointError when the file is missing, broken, or holds anything else.
    """
    if not path.is_file():
        raise CheckpointError(f"no checkpoint at {path}")
    try:
        loaded = torch.load(path, map_location=device, weights_only=True)
    except Exception as error:  # torch raises many kinds: RuntimeError, EOFError, UnpicklingError, ...
        raise CheckpointError(f"{path} is broken or no checkpoint of tensors and plain types") from error
    if not isinstance(loaded, dict) or "model" not in loaded or "model_args" not in loaded:
        raise CheckpointError(f"{path} is no GPT checkpoint: it lacks 'model' and 'model_args'")
    return loaded


def load_complete(out_dir: Path) -> dict[str, Any]:
    """last.pt of a run: the state from which it continues bit for bit. Raises CheckpointError, with the way out."""
    path = out_dir / "last.pt"
    if not path.is_file():
        if (out_dir / "ckpt.pt").is_file():
            raise CheckpointError(
                f"{path} is missing; {out_dir}/ckpt.pt holds weights but no random states, anchor or plugins. "
                f"To start a new run from its weights: --init_from={out_dir}/ckpt.pt --out_dir=NEW"
            )
        raise CheckpointError(f"nothing to resume: {path} is missing; leave out --init_from=resume to start a new run")
    check(path)
    state = load_checkpoint(path)
    missing = [key for key in COMPLETE if key not in state]
    if missing:
        raise CheckpointError(f"{path} lacks {', '.join(missing)}: it cannot be resumed bit for bit")
    if state["format"] != FORMAT:
        raise CheckpointError(f"{path} has format {state['format']}, this program reads {FORMAT}")
    return state


def inference_checkpoint(
    model: Mapping[str, torch.Tensor],
    optimizer: Mapping[str, Any],
    model_args: Mapping[str, Any],
    iter_num: int,
    best_val_loss: float,
    config: Mapping[str, Any],
) -> dict[str, Any]:
    """ckpt.pt: nanoGPT's keys exactly, in plain tensors and types."""
    return {
        "model": dict(model),
        "optimizer": dict(optimizer),
        "model_args": {key: model_args[key] for key in MODEL_ARGS},
        "iter_num": iter_num,
        "best_val_loss": float(best_val_loss),
        "config": dict(config),
    }


def random_state(device: torch.device) -> dict[str, Any]:
    """The random generators of this rank: torch's on CPU and device, Python's and NumPy's, as plain types."""
    version, words, gauss = random.getstate()
    numpy_state = np.random.get_state(legacy=False)
    numpy_plain = {
        "key": numpy_state["state"]["key"].tolist(),
        "pos": int(numpy_state["state"]["pos"]),
        "has_gauss": int(numpy_state["has_gauss"]),
        "gauss": float(numpy_state["gauss"]),
    }
    state: dict[str, Any] = {"torch": torch.get_rng_state(), "python": [version, list(words), gauss], "numpy": numpy_plain}
    if device.type == "cuda":
        state["cuda"] = torch.cuda.get_rng_state(device)
    if device.type == "mps":
        state["mps"] = torch.mps.get_rng_state()
    return state


def restore_random_state(state: Mapping[str, Any], device: torch.device) -> None:
    """Put back what `random_state` took. Raises CheckpointError when a generator's state is missing."""
    needed = ["torch", "python", "numpy"] + ([device.type] if device.type in ("cuda", "mps") else [])
    missing = [name for name in needed if name not in state]
    if missing:
        raise CheckpointError(f"the checkpoint has no random state for {', '.join(missing)}; resume on the device it was made on")
    torch.set_rng_state(state["torch"].cpu())
    version, words, gauss = state["python"]
    random.setstate((version, tuple(words), gauss))
    numpy_plain = state["numpy"]
    inner = {"key": np.array(numpy_plain["key"], dtype=np.uint32), "pos": numpy_plain["pos"]}
    np.random.set_state(
        {"bit_generator": "MT19937", "state": inner, "has_gauss": numpy_plain["has_gauss"], "gauss": numpy_plain["gauss"]}
    )
    if device.type == "cuda":
        torch.cuda.set_rng_state(state["cuda"].cpu(), device)
    if device.type == "mps":
        torch.mps.set_rng_state(state["mps"].cpu())
