"""Token files and batches: row r of the global batch at (step, micro-step) is a pure function of (seed, step, micro-step, r).

Nothing is drawn from a shared random generator, so evaluation, prefetching and resuming cannot change what is trained on,
and N ranks with batch B see the very rows that one process with batch N·B sees.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from .errors import CorpusError
from .tokenizer import read_meta

IN_MEMORY_BYTES = 256 * 2**20  # smaller files are read whole; larger ones are mapped anew for every batch
EVAL_TOKENS_PER_BATCH = 16_384  # forward-only batches may be larger than training's
GPT2_VOCAB = 50_257  # nanoGPT's assumption for a corpus without meta

CPU = torch.device("cpu")
Batch = tuple[torch.Tensor, torch.Tensor]  # x, y: (B, T) int64


def mix(*words: int | np.ndarray) -> np.ndarray:
    """A 64-bit hash of integers and integer arrays, broadcast: SplitMix64's finaliser, word by word.

    Source: Steele, Lea & Flood, Fast Splittable Pseudorandom Number Generators (OOPSLA 2014).
    """
    state: np.ndarray = np.zeros(1, dtype=np.uint64)
    with np.errstate(over="ignore"):
        for word in words:
            state = (state ^ np.asarray(word).astype(np.uint64)) + np.uint64(0x9E3779B97F4A7C15)
            state = (state ^ (state >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
            state = (state ^ (state >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
            state = state ^ (state >> np.uint64(31))
    return state


@dataclass(frozen=True)
class TokenFile:
    """One split on disk: raw little-endian tokens. Small files are held in memory, large ones mapped per read."""

    path: Path
    dtype: np.dtype
    tokens: int
    held: np.ndarray | None

    @classmethod
    def open(cls, path: Path, dtype: np.dtype, block_size: int) -> TokenFile:
        """Raises CorpusError when the file is missing, torn, or shorter than one block and its target."""
        if not path.is_file():
            raise CorpusError(f"{path} is missing{fix(path.parent)}")
        size = path.stat().st_size
        if size % dtype.itemsize:
            raise CorpusError(f"{path} has {size} bytes, not a whole number of {dtype} tokens: it is torn{fix(path.parent)}")
        tokens = size // dtype.itemsize
        if tokens < block_size + 1:
            raise CorpusError(f"{path} has {tokens} tokens, fewer than block_size + 1 = {block_size + 1}; lower --block_size")
        held = np.fromfile(path, dtype=dtype) if size <= IN_MEMORY_BYTES else None
        return cls(path, dtype, tokens, held)

    def array(self) -> np.ndarray:
        """The tokens. A large file is mapped anew each time: a mapping that lives long grows with every page it touched."""
        return self.held if self.held is not None else np.memmap(self.path, dtype=self.dtype, mode="r")

    def windows(self, starts: np.ndarray, length: int) -> torch.Tensor:
        """The windows of `length` tokens at each start: (len(starts), length) int64."""
        array = self.array()
        if self.held is not None:
            return torch.from_numpy(array[starts[:, None] + np.arange(length)].astype(np.int64))
        return torch.from_numpy(np.stack([array[s : s + length] for s in starts]).astype(np.int64))

    def check_vocabulary(self, vocab_size: int) -> None:
        """Raises CorpusError when a token is outside the vocabulary; large files are checked in their first 256 MiB."""
        array = self.array()[: IN_MEMORY_BYTES // self.dtype.itemsize]
        top = int(array.max())
        if top >= vocab_size:
            raise CorpusError(f"{self.path} holds token {top}, but the vocabulary has {vocab_size}{fix(self.path.parent)}")


@dataclass(frozen=True)
class Corpus:
    """The two splits of a folder under data/, and what its meta says."""

    folder: Path
    train: TokenFile
    val: TokenFile
    vocab_size: int
    meta: dict[str, Any]

    @property
    def floor(self) -> float | None:
        """The true source's entropy on the val split in nats/token, where it is known."""
        return self.meta.get("floor")

    def split(self, name: str) -> TokenFile:
        """'train' or 'val'."""
        return {"train": self.train, "val": self.val}[name]


def fix(folder: Path) -> str:
    """The end of a message about a broken corpus: which command makes it."""
    script = folder / "prepare.py"
    return (
        f"; run: python data/{folder.name}/prepare.py{' --force' if (folder / 'meta.json').exists() else ''}"
        if script.exists()
        else ""
    )


def open_corpus(folder: Path, block_size: int) -> Corpus:
    """Open and check a prepared corpus. Raises CorpusError naming the prepare.py to run."""
    if not (folder / "train.bin").exists():
        known = sorted(p.parent.name for p in folder.parent.glob("*/prepare.py"))
        hint = (
            fix(folder)
            or f"; data/ has {', '.join(known)}; your own text: python data/text/prepare.py --source FILE --name {folder.name}"
        )
        raise CorpusError(f"corpus {folder.name!r} is not prepared{hint}")
    meta = read_meta(folder)
    dtype, vocab_size = np.dtype(meta.get("dtype", "uint16")).newbyteorder("<"), meta.get("vocab_size", GPT2_VOCAB)
    train, val = (TokenFile.open(folder / f"{name}.bin", dtype, block_size) for name in ("train", "val"))
    for file in (train, val):
        file.check_vocabulary(vocab_size)
    return Corpus(folder, train, val, vocab_size, meta)


@dataclass(frozen=True)
class BatchSource:
    """Training batches for one rank: its slice of a global batch that is fixed by (seed, step, micro-step)."""

    file: TokenFile
    batch_size: int  # rows of this rank
    block_size: int
    seed: int
    rank: int = 0
    device: torch.device = CPU

    def starts(self, step: int, micro: int) -> np.ndarray:
        """Where this rank's rows begin: (B,) int64, uniform over all windows of the file."""
        rows = self.rank * self.batch_size + np.arange(self.batch_size)
        return (mix(self.seed, step, micro, rows) % np.uint64(self.file.tokens - self.block_size)).astype(np.int64)

    def batch(self, step: int, micro: int = 0) -> Batch:
        """(x, y), each (B, T) on the device; y is x shifted by one token."""
        window = self.file.windows(self.starts(step, micro), self.block_size + 1)  # (B, T + 1)
        return to_device(window, self.device)


def to_device(window: torch.Tensor, device: torch.device) -> Batch:
    """Split windows (B, T + 1) into inputs and targets (B, T) on the device, without waiting for the copy on CUDA."""
    if device.type == "cuda":
        window = window.pin_memory().to(device, non_blocking=True)
    else:
        window = window.to(device)
    return window[:, :-1].contiguous(), window[:, 1:].contiguous()


def sweep(file: TokenFile, block_size: int, max_tokens: int = 0, rank: int = 0, world: int = 1) -> Iterator[torch.Tensor]:
    """Every token of a split predicted once, in windows side by side: batches of windows (B, T + 1), this rank's share.

    With `max_tokens` > 0 the windows are an evenly spaced subset. The split's last, shorter window comes alone.
    """
    whole = (file.tokens - 1) // block_size  # full windows
    wanted = whole if not max_tokens else min(whole, max(1, max_tokens // block_size))
    chosen = np.arange(wanted) * whole // wanted * block_size  # evenly spaced starts
    per_batch = max(1, EVAL_TOKENS_PER_BATCH // block_size)
    batches = [(chosen[i : i + per_batch], block_size) for i in range(0, wanted, per_batch)]
    rest = (file.tokens - 1) % block_size
    if rest and wanted == whole:
        batches.append((np.array([whole * block_size]), rest))
    for starts, length in batches[rank::world]:
        yield file.windows(starts, length + 1)
