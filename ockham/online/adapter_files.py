"""The adapters of a state folder: NNNNNN.safetensors, numbered in the order they were written, verified before they are used."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from ..errors import CheckpointError
from .private_files import PARTIAL, make_folder, write_private

if TYPE_CHECKING:
    from torch import Tensor

FOLDER = "adapters"
ENDING = ".safetensors"


class AdapterFiles:
    """The files under FOLDER of a state folder. A number is given out once; only the tables know which files count."""

    def __init__(self, state_folder: Path):
        self.folder = state_folder / FOLDER
        make_folder(self.folder)

    def path(self, number: int) -> Path:
        """Where adapter `number` lies."""
        return self.folder / f"{number:06}{ENDING}"

    def write(self, number: int, data: bytes) -> None:
        """A new file, whole or not there."""
        write_private(self.path(number), data)

    def read(self, number: int, sha256: str) -> bytes:
        """Its bytes. Raises CheckpointError where the file is missing or not the one that was written."""
        path = self.path(number)
        try:
            data = path.read_bytes()
        except OSError as error:
            raise CheckpointError(f"{path} cannot be read: {error.strerror}") from error
        if (got := digest(data)) != sha256:
            raise CheckpointError(f"{path} is damaged: its SHA-256 is {got[:12]}…, {sha256[:12]}… was written")
        return data

    def keep_only(self, numbers: Collection[int]) -> list[str]:
        """Delete all other adapters and every unfinished file; their names."""
        kept = {self.path(number) for number in numbers}
        gone = sorted(p for p in self.folder.iterdir() if p not in kept and p.name.endswith((ENDING, ENDING + PARTIAL)))
        for path in gone:
            path.unlink()
        return [path.name for path in gone]


def digest(data: bytes) -> str:
    """SHA-256, in hexadecimal."""
    return hashlib.sha256(data).hexdigest()


def as_bytes(tensors: Mapping[str, Tensor], metadata: Mapping[str, str] | None = None) -> bytes:
    """The content of a safetensors file. The same tensors and metadata give the same bytes, in whatever order they come."""
    from safetensors.torch import save

    packed = save({name: tensors[name].detach().cpu().contiguous() for name in sorted(tensors)})
    size = int.from_bytes(packed[:8], "little")
    header = json.loads(packed[8 : 8 + size])
    if metadata:  # the library writes its entries in an order that changes from process to process
        header = {"__metadata__": dict(sorted(metadata.items())), **header}
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)  # the data begin at a multiple of 8
    return len(text).to_bytes(8, "little") + text + packed[8 + size :]


def tensors_of(data: bytes) -> dict[str, Tensor]:
    """The tensors in the bytes of a safetensors file."""
    from safetensors.torch import load

    return load(data)
