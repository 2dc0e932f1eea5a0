"""Token files and batches: row r of the global batch at (step, micro-step) is a pure function of (seed, step, micro-step, r).

Nothing is drawn from a shared random generator, so evaluation, prefetching and resuming cannot change what is trained on,
and N ranks with batch B see the very rows that one process with batch N·B sees.
"""

from __future__ import annotations

import shlex
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from .errors import CorpusError, nearest
from .tokenizer import load_tokenizer, read_meta, vocabulary_of

IN_MEMORY_BYTES = 256 * 2**20  # smaller files are read whole; larger ones are mapped anew for every batch
EVAL_TOKENS = 16_384  # forward-only batches may be larger than training's,
EVAL_LOGITS = 2**26  # as long as their logits stay small
DATA = Path(__file__).resolve().parents[1] / "data"
# What a prepare.py does when it is not told otherwise; the tokenizer and val_fraction are every recipe's own.
USUAL = {"dtype": "auto", "vocab": "own", "limit": 0, "seed": 1337, "size": 1_200_000}
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
    def open(cls, path: Path, dtype: np.dtype) -> TokenFile:
        """Raises CorpusError when the file is missing, torn or empty."""
        if not path.is_file():
            raise CorpusError(f"{path} is missing{fix(path.parent)}")
        size = path.stat().st_size
        if size % dtype.itemsize:
            raise CorpusError(f"{path} has {size} bytes, not a whole number of {dtype} tokens: it is torn{fix(path.parent)}")
        if not size:
            raise CorpusError(f"{path} is empty{fix(path.parent)}")
        tokens = size // dtype.itemsize
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

    @property
    def vocabulary(self) -> str:
        """Which token is which character, as a short hash."""
        return vocabulary_of(self.folder)

    def check_length(self, block_size: int) -> None:
        """Raises CorpusError when a split is shorter than one block and its target."""
        for file in (self.train, self.val):
            if file.tokens < block_size + 1:
                raise CorpusError(
                    f"{file.path} has {file.tokens} tokens, fewer than block_size + 1 = {block_size + 1}; lower --block_size"
                )


def fix(folder: Path) -> str:
    """The end of a message about a broken corpus: the command that prepares it again, as its meta.json tells; '' if unknown."""
    meta = read_meta(folder)
    paths = [str(source["name"]) for source in meta.get("sources", []) if "bytes" in source]  # else it needs no --source
    own = folder.name if (folder / "prepare.py").exists() else ""
    recipe = meta.get("recipe") or own or ("text" if paths else "")
    if not recipe:
        return ""
    if recipe == "text":
        paths = paths or ["FILE"]
    command = ["python", f"data/{recipe}/prepare.py", *(["--source", *paths] if paths else [])]
    if own != recipe:
        command += ["--name", folder.name] if folder.parent == DATA else ["--out", str(folder)]
    for key, value in meta.get("options", {}).items():
        command += [f"--{key}", str(value)] if value != USUAL.get(key) else []
    return f"; run: {shlex.join(command + ['--force'] * bool(meta))}"


def absent(folder: Path) -> CorpusError:
    """The error that there is no such corpus: what is near, what there is, how to prepare one."""
    root = folder.parent
    found = {p.parent.name for p in root.glob("*/train.bin")} | {p.parent.name for p in root.glob("*/prepare.py")} - {"text"}
    known = sorted(found)
    has = f"{root} has {', '.join(known)}" if known else f"{root} holds no corpora" if root.is_dir() else f"there is no {root}"
    if (folder / "prepare.py").exists():
        return CorpusError(f"corpus {folder.name!r} is not prepared{fix(folder)}")
    if any(folder.glob("*/prepare.py")) or any(folder.glob("*/train.bin")):
        return CorpusError(f"{folder} is no corpus but holds corpora: name one of them, --dataset=NAME")
    if (DATA / folder.name / "prepare.py").exists():
        make = f"run: python data/{folder.name}/prepare.py --out {shlex.quote(str(folder))}, or leave --data_dir out"
    else:
        place = f"--name {folder.name}" if root == DATA else f"--out {shlex.quote(str(folder))}"
        make = f"your own text: python data/text/prepare.py --source FILE {place}"
    return CorpusError(f"there is no corpus {folder.name!r}{nearest(folder.name, known)}; {has}; {make}")


def open_corpus(folder: Path) -> Corpus:
    """Open and check a prepared corpus. Raises CorpusError naming the prepare.py to run."""
    if not (folder / "train.bin").exists():
        raise absent(folder)
    meta = read_meta(folder)
    if not meta:  # as nanoGPT prepared it: a lone meta.pkl, or GPT-2's tokens without a word
        tokenizer = load_tokenizer(folder)
        meta = {"vocab_size": tokenizer.vocab_size} if tokenizer else {}
    dtype, vocab_size = np.dtype(meta.get("dtype", "uint16")).newbyteorder("<"), meta.get("vocab_size", GPT2_VOCAB)
    train, val = (TokenFile.open(folder / f"{name}.bin", dtype) for name in ("train", "val"))
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
        return self._starts(step, micro, self.rank * self.batch_size + np.arange(self.batch_size))

    def global_starts(self, step: int, micro_steps: int, world: int) -> np.ndarray:
        """Where the rows of a whole step begin, of all ranks and micro-batches: (micro_steps · world · B,) int64."""
        micros = np.arange(micro_steps)[:, None]
        return self._starts(step, micros, np.arange(world * self.batch_size)).ravel()

    def _starts(self, step: int, micro: int | np.ndarray, rows: np.ndarray) -> np.ndarray:
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


def sweep(
    file: TokenFile, block_size: int, per_batch: int, max_tokens: int = 0, rank: int = 0, world: int = 1
) -> Iterator[torch.Tensor]:
    """Every token of a split predicted once, in windows side by side: batches of windows (B, T + 1), this rank's share.

    `per_batch` windows go together. With `max_tokens` > 0 the windows are an evenly spaced subset. The split's last, shorter
    window comes alone.
    """
    whole = (file.tokens - 1) // block_size  # full windows
    wanted = whole if not max_tokens else min(whole, max(1, max_tokens // block_size))
    chosen = np.arange(wanted) * whole // wanted * block_size  # evenly spaced starts
    batches = [(chosen[i : i + per_batch], block_size) for i in range(0, wanted, per_batch)]
    rest = (file.tokens - 1) % block_size
    if rest and wanted == whole:
        batches.append((np.array([whole * block_size]), rest))
    for starts, length in batches[rank::world]:
        yield file.windows(starts, length + 1)
