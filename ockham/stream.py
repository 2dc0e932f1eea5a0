"""Corpora with a layout: streams are read in the order in which they lie, rows one by one at random, all others anywhere."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch

from .data import CPU, BatchSource, Corpus, mix
from .distributed import world_size
from .errors import ConfigError, CorpusError

ROW = "row_tokens"  # in meta.json: the training split is rows of so many tokens, each to be read from its start
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


@dataclass(frozen=True)
class RowSource(BatchSource):
    """Training batches of whole rows, drawn uniformly: a window begins where a row of `row` tokens does, and never elsewhere.

    For examples that are to be read from their start, as a prompt is: in windows that begin anywhere, most of a short example's
    questions are cut off, and its answers are then a guess.
    """

    row: int = 0

    def _starts(self, step: int, micro: int | np.ndarray, rows: np.ndarray) -> np.ndarray:
        drawn = mix(self.seed, step, micro, rows) % np.uint64(self.file.tokens // self.row)
        return drawn.astype(np.int64) * self.row


def source_of(
    corpus: Corpus, batch_size: int, block_size: int, seed: int, rank: int = 0, device: torch.device = CPU, world: int = 0
) -> BatchSource:
    """Where a run's batches come from: random windows of the training split, its rows, or a stream's own order.

    `world` 0: as many ranks as torchrun has started. Raises ConfigError where a stream was made for other batches or rows are
    shorter than the windows, CorpusError where meta.json is broken.
    """
    ordered = corpus.meta.get(ORDERED)
    if ordered is None and ROW in corpus.meta:
        return RowSource(corpus.train, batch_size, block_size, seed, rank, device, _row(corpus, block_size))
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


def _row(corpus: Corpus, block_size: int) -> int:
    """How long the corpus' rows are, in tokens; a window with its target has to fit."""
    row = corpus.meta[ROW]
    if not isinstance(row, int) or isinstance(row, bool) or not 2 <= row <= corpus.train.tokens:
        raise CorpusError(f"{corpus.folder / 'meta.json'}: {ROW} must be the tokens of a row, at least 2, got {str(row)[:60]}")
    if block_size >= row:
        raise ConfigError(f"{corpus.folder.name} has rows of {row} tokens; use --block_size={row - 1}, or less")
    return row
