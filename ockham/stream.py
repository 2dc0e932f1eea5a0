"""Streams: a corpus whose training tokens are read in the order in which they lie, batch by batch, instead of at random."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch

from .data import CPU, BatchSource, Corpus
from .distributed import world_size
from .errors import ConfigError, CorpusError

ORDERED = "ordered"  # in meta.json: {"batch_size": B, "block_size": T, "micro_batches": A, "kinds": [one word a step]}


@dataclass(frozen=True)
class StreamSource(BatchSource):
    """Training batches for one rank, read in order: step s has rows s·R … s·R + R − 1 of the file, R rows a step on all ranks.

    A row is block_size + 1 tokens, and rows lie side by side, so that no window goes across a border: whole batches are clean,
    repeated or noise. At the end of the file it starts again. `seed` decides nothing: the file is the order.
    """

    rows_per_step: int = 0  # of all ranks and micro-batches
    world: int = 1

    def _starts(self, step: int, micro: int | np.ndarray, rows: np.ndarray) -> np.ndarray:
        place = np.asarray(micro) * self.world * self.batch_size + rows  # in the step
        if place.max() >= self.rows_per_step:
            raise ConfigError(
                f"{self.file.path.parent.name} is a stream of {self.rows_per_step} rows a step, this run has more; use the "
                f"batch_size and gradient_accumulation_steps that it was made for, or make it anew"
            )
        length = self.block_size + 1
        return ((step * self.rows_per_step + place) % (self.file.tokens // length) * length).astype(np.int64)


def source_of(
    corpus: Corpus, batch_size: int, block_size: int, seed: int, rank: int = 0, device: torch.device = CPU, world: int = 0
) -> BatchSource:
    """Where a run's batches come from: random windows of the training split, or a stream's own order.

    `world` 0: as many ranks as torchrun has started. Raises ConfigError where a stream was made for other batches, CorpusError
    where its meta.json is broken.
    """
    ordered = corpus.meta.get(ORDERED)
    if ordered is None:
        return BatchSource(corpus.train, batch_size, block_size, seed, rank, device)
    try:
        made_for = {key: int(ordered[key]) for key in ("batch_size", "block_size")}
        micro_batches = int(ordered.get("micro_batches", 1))
    except (TypeError, ValueError, KeyError, AttributeError) as error:
        raise CorpusError(
            f"{corpus.folder / 'meta.json'}: {ORDERED} must hold batch_size and block_size, got {str(ordered)[:60]}"
        ) from error
    for key, value in {"batch_size": batch_size, "block_size": block_size}.items():
        if value != made_for[key]:
            raise ConfigError(
                f"{corpus.folder.name} is a stream of batches with {key} {made_for[key]}, this run has {value}; use "
                f"--{key}={made_for[key]}"
            )
    rows = made_for["batch_size"] * micro_batches
    return StreamSource(corpus.train, batch_size, block_size, seed, rank, device, rows, world or world_size())
