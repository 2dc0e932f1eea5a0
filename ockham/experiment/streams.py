"""Streams, written: every batch of a run in order, made from corpora or bands; the same seed gives the same file.

Source of the setting: repeats, noise and switches are what online learners meet; each is made so that whole batches are of one
kind, and the corpus's meta.json says of which.
"""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ..data import Corpus, TokenFile, open_corpus
from ..stream import ORDERED
from .corpora import MADE_OF, Prepared, characters_of, fingerprint, identity, is_made_of, recoded, write
from .scenario import Stream

CLEAN, REPEAT, NOISE = "clean", "repeat", "noise"


@dataclass(frozen=True)
class Batches:
    """How many batches a stream has, and of what shape: steps, and in each so many micro-batches of rows of block_size + 1."""

    steps: int
    micro_batches: int
    batch_size: int
    block_size: int

    @property
    def rows(self) -> int:
        """Rows of one step."""
        return self.micro_batches * self.batch_size


def write_stream(stream: Stream, prepared: Prepared, size: Batches, seed: int, folder: Path) -> None:
    """A stream as a corpus: train.bin the batches in order, val.bin the sources' clean val splits, one after another.

    What is there already, made of the same, stays.
    """
    corpora = [open_corpus(prepared.of(source)) for source in stream.sources]
    made_of = fingerprint([vars(stream), vars(size), seed, [identity(corpus) for corpus in corpora]])
    if is_made_of(folder, made_of):
        return
    for corpus in corpora:
        corpus.check_length(size.block_size)
    kinds = kinds_of(stream, size.steps, seed)
    first = corpora[0]
    is_one = len(corpora) == 1
    write(
        folder,
        {
            "train": tokens_of(kinds, stream, corpora, size, seed),
            "val": itertools.chain.from_iterable(recoded(c.val, [(0, c.val.tokens)], None) for c in corpora),
        },
        {"format": first.meta.get("format", 1), "floor": first.floor if is_one else None},
        characters_of(first),
        first.vocab_size,
        {
            "corpus": folder.name,
            "stream": {"kind": stream.kind, "from": list(stream.sources), **stream.params, "seed": seed},
            ORDERED: {
                "batch_size": size.batch_size,
                "block_size": size.block_size,
                "micro_batches": size.micro_batches,
                "kinds": kinds,
            },
            MADE_OF: made_of,
        },
    )


def kinds_of(stream: Stream, steps: int, seed: int) -> list[str]:
    """What each batch of the stream is, one word a step: clean, repeat, noise, or the name of its source."""
    rng = np.random.default_rng([seed, 1])
    params = stream.params
    if stream.kind == "repeats":
        kinds = np.full(steps, CLEAN, dtype=object)
        kinds[rng.permutation(steps)[: round(params["share"] * steps)]] = REPEAT
        return list(kinds)
    if stream.kind == "noise":
        return bursts(steps, params["share"], params["burst"], rng)
    if stream.kind == "switch":
        return [stream.sources[step // params["every"] % len(stream.sources)] for step in range(steps)]
    if stream.kind == "mixture":
        return apportioned(stream, steps, rng)
    return [CLEAN] * steps


def bursts(steps: int, share: float, burst: int, rng: np.random.Generator) -> list[str]:
    """Noise in whole bursts, in random ones of the slots that the steps fall into; the share is met to within one burst."""
    kinds = [CLEAN] * steps
    slots = -(-steps // burst)
    for slot in rng.permutation(slots)[: round(share * slots)]:
        end = min(steps, (slot + 1) * burst)
        kinds[slot * burst : end] = [NOISE] * (end - slot * burst)
    return kinds


def apportioned(stream: Stream, steps: int, rng: np.random.Generator) -> list[str]:
    """The sources in random order, each as often as its share says, to within one batch."""
    ends = np.rint(np.cumsum(stream.shares) * steps).astype(int)
    counts = np.diff(ends, prepend=0)
    kinds = np.repeat(np.array(stream.sources, dtype=object), counts)
    return list(rng.permutation(kinds))


def tokens_of(kinds: Sequence[str], stream: Stream, corpora: Sequence[Corpus], size: Batches, seed: int) -> Iterator[np.ndarray]:
    """The batches in order, each (rows · (block_size + 1),)."""
    rng = np.random.default_rng([seed, 2])
    files = dict(zip(stream.sources, (corpus.train for corpus in corpora), strict=True))
    pool = [windows(list(files.values()), size, rng) for _ in range(stream.params.get("pool", 0))]
    for kind in kinds:
        if kind == NOISE and kind not in files:
            yield rng.integers(0, corpora[0].vocab_size, size.rows * (size.block_size + 1))
        elif kind == REPEAT and kind not in files:
            yield pool[rng.integers(len(pool))]
        else:
            yield windows([files[kind]] if kind in files else list(files.values()), size, rng)


def windows(files: Sequence[TokenFile], size: Batches, rng: np.random.Generator) -> np.ndarray:
    """Random windows for one step, uniform over all windows of all files: (rows · (block_size + 1),)."""
    length = size.block_size + 1
    places = np.array([file.tokens - size.block_size for file in files])  # windows of each
    which = rng.choice(len(files), size.rows, p=places / places.sum())
    found = np.empty((size.rows, length), dtype=np.int64)
    for number, file in enumerate(files):
        mine = which == number
        if mine.any():
            found[mine] = file.windows(rng.integers(0, places[number], int(mine.sum())), length).numpy()
    return found.ravel()


def kinds_learned(kinds: Sequence[str], updated: Sequence[bool]) -> dict[str, tuple[int, int]]:
    """Of each kind: batches seen, and batches learned; `updated` holds one entry a step of the run."""
    seen: Counter[str] = Counter()
    learned: Counter[str] = Counter()
    for step, was_learned in enumerate(updated):
        kind = kinds[step % len(kinds)]
        seen[kind] += 1
        learned[kind] += bool(was_learned)
    return {kind: (seen[kind], learned[kind]) for kind in dict.fromkeys(kinds) if seen[kind]}
