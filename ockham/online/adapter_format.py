"""An adapter for other programs: a folder in peft's own format. Weights only, in safetensors."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..errors import CheckpointError, WorldError
from .private_files import FILE_MODE, make_folder

BASE = "ockham_base.json"  # beside peft's files: which base the weights mean anything for

Shapes = Mapping[str, tuple[int, ...]]


@dataclass(frozen=True)
class Origin:
    """What an adapter's weights mean anything for."""

    base: str
    base_sha256: str


def check_same(given: Shapes, wanted: Shapes, what: str) -> None:
    """Raises CheckpointError naming the first weight that is missing, unexpected or of another shape."""
    for name, shape in wanted.items():
        if name not in given:
            raise CheckpointError(f"{what} lacks the adapter's weight {name}")
        if given[name] != shape:
            raise CheckpointError(f"{what}: {name} must have shape {shape}, got {given[name]}")
    unexpected = next((name for name in given if name not in wanted), None)
    if unexpected is not None:
        raise CheckpointError(f"{what} has the weight {unexpected}, which this adapter has not")


def write_peft_folder(model: Any, folder: Path, origin: Origin) -> None:
    """adapter_config.json, adapter_model.safetensors and a card, by peft, and the hash of the base; for their owner alone.

    Raises WorldError where the folder holds something already or cannot be written.
    """
    try:
        if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
            raise WorldError(f"{folder} is there already; name a new folder")
        make_folder(folder)
        model.save_pretrained(folder, save_embedding_layers=False)
        (folder / BASE).write_text(json.dumps({"base": origin.base, "base_sha256": origin.base_sha256}) + "\n", encoding="utf-8")
        for path in folder.iterdir():
            path.chmod(FILE_MODE)
    except OSError as error:
        raise WorldError(f"{folder} cannot be written: {error.strerror}; name another place") from error
