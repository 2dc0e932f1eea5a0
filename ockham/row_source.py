"""Where a run's batches come from when some of their sequences are replayed, or are compared with a reference model.

Which row of which batch is replayed, and by which window, is a pure function of (seed, step, micro-step, row).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch

from .config import RunConfig, anchor_kinds
from .data import BatchSource, Corpus, TokenFile, mix, open_corpus, to_device
from .errors import CheckpointError, ConfigError, CorpusError
from .learner import OckhamLearner
from .objective import Rows, token_losses
from .plugins import PluginHost
from .reference import reference_losses
from .replay_store import FILE, Generate, generate_windows, kept_array, sample_windows
from .tokenizer import first_token

CHOSEN, WINDOW, FISHER = 0x63686F73, 0x77696E64, 0x66697368  # keep the three draws apart
REFERENCE = "reference.npy"


@dataclass(frozen=True)
class ReplayedRows:
    """Batches of `source` as `Rows`: a share of the sequences replaced by windows of the store, the batch as large as before.

    Row r of the global batch is replayed iff ⌊(r + 1)·f + φ⌋ > ⌊r·f + φ⌋, φ in [0, 1) drawn for each micro-step: a share f on
    average, spread over the ranks. `reference` holds a reference model's loss on each token of the training split, where a gate
    compares with it.
    """

    source: BatchSource
    windows: np.ndarray | None = None  # (N, T + 1)
    fraction: float = 0.0
    reference: np.ndarray | None = None  # (tokens,) nats; entry i is the loss on token i

    def batch(self, step: int, micro: int = 0) -> Rows:
        """This rank's micro-batch."""
        source = self.source
        x, y = source.batch(step, micro)
        reference = None
        if self.reference is not None:
            at = source.starts(step, micro)[:, None] + 1 + np.arange(source.block_size)
            reference = torch.from_numpy(self.reference[at].astype(np.float32).mean(1)).to(source.device)
        if self.windows is None or not self.fraction:
            return Rows(x, y, None, reference)
        replayed = self.replayed(step, micro)
        if replayed.any():
            old_x, old_y = to_device(torch.from_numpy(self.windows[self._places(step, micro)[replayed]]), source.device)
            at_rows = torch.from_numpy(replayed).to(source.device)
            x[at_rows], y[at_rows] = old_x, old_y
        return Rows(x, y, torch.from_numpy(replayed).to(source.device), reference)

    def replayed(self, step: int, micro: int) -> np.ndarray:
        """Which of this rank's rows are replayed: (B,) bool."""
        rows = self._rows()
        phase = float(mix(self.source.seed, step, micro, CHOSEN)[0]) / 2.0**64
        return np.floor((rows + 1) * self.fraction + phase) > np.floor(rows * self.fraction + phase)

    def _places(self, step: int, micro: int) -> np.ndarray:
        assert self.windows is not None
        return (mix(self.source.seed, step, micro, self._rows(), WINDOW) % np.uint64(len(self.windows))).astype(np.int64)

    def _rows(self) -> np.ndarray:
        return self.source.rank * self.source.batch_size + np.arange(self.source.batch_size)

    def sample(self, sequences: int, world: int) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
        """This rank's share of `sequences` that stand for what was learned before: of the store, else of the training data."""
        source = self.source
        for index in range(max(1, -(-sequences // (source.batch_size * world)))):
            if self.windows is None:
                yield source.batch(2**40 + index)
            else:
                place = mix(source.seed, index, self._rows(), FISHER) % np.uint64(len(self.windows))
                yield to_device(torch.from_numpy(self.windows[place.astype(np.int64)]), source.device)


def build_rows(
    config: RunConfig,
    corpus: Corpus,
    source: BatchSource,
    learner: OckhamLearner,
    generate: Generate,
    load: Callable[[str], torch.nn.Module],
) -> ReplayedRows:
    """The run's batches, with the replay store and the reference losses that the config asks for; charges what they cost.

    `generate` samples from the model as it is now; `load` gives the model of a run or checkpoint. At a run's beginning the store
    is made and written to out_dir.
    """
    if config.eval_only:  # which writes nothing
        return ReplayedRows(source)
    ranks, folder = learner.ranks, Path(config.out_dir)
    sequences = source.batch_size * ranks.world  # of one forward
    windows = reference = None
    if wants_store(config):
        windows, is_made = kept_array(folder / FILE, _store(config, corpus, source, generate), ranks)
        if is_made and config.replay.corpus is None:  # one forward for each token, as the cache spares the rest
            learner.ledger.forward(len(windows) / sequences)
    if learner.host.needs_reference and config.reference != "none":
        losses = partial(_reference, config, corpus.train, source, learner, load)
        reference, is_made = kept_array(folder / REFERENCE, losses, ranks)
        if is_made and not learner.iter_num:
            learner.ledger.forward(corpus.train.tokens / (sequences * source.block_size))
    rows = ReplayedRows(source, windows, config.replay.fraction, reference)
    learner.fisher_batches = lambda: list(rows.sample(config.anchor.fisher_sequences, ranks.world))
    return rows


def check_rows(config: RunConfig, corpus: Corpus, host: PluginHost, saved: Mapping[str, Any] | None = None) -> None:
    """Before anything is written: whether there is something to replay and to compare with.

    `saved` is what a resume goes on from. Raises ConfigError, CorpusError; CheckpointError when a run that goes on has lost its
    store.
    """
    store = Path(config.out_dir) / FILE
    has_learned = saved is not None and saved["learner"]["counters"]["iter_num"] > 0
    if wants_store(config) and has_learned and not store.is_file():
        raise CheckpointError(f"{store} is missing: the windows that this run replays; it cannot go on without them")
    check_beginning(config, host.needs_reference)
    for other in _old_corpora(config, corpus) if wants_store(config) else ():
        if other.vocabulary != corpus.vocabulary:
            raise CorpusError(
                f"replay.corpus: {other.folder.name} and {corpus.folder.name} number their tokens differently; prepare one again "
                f"with --vocab of the other"
            )
        other.check_length(config.block_size)


def check_beginning(config: RunConfig, needs_reference: bool) -> None:
    """Raises ConfigError where a run from scratch asks for what only brought-in weights have."""
    if config.init_from != "scratch":
        return
    if config.replay.fraction and config.replay.corpus is None:
        raise ConfigError(
            "replay.fraction without replay.corpus replays text of the model as it is brought in, but init_from is scratch; "
            "give --replay.corpus=NAME, or begin from weights (--init_from=RUN)"
        )
    if needs_reference and config.reference == "none":
        raise ConfigError(
            "a gate of surprise=excess has nothing to compare with: give --reference=RUN, or begin from weights (--init_from=RUN)"
        )


def wants_store(config: RunConfig) -> bool:
    """Whether old windows are needed: to replay them, or to measure the Fisher information on them."""
    is_measured = "fisher" in anchor_kinds(config.anchor.kind) and config.replay.corpus is not None
    return bool(config.replay.fraction) or is_measured


def _old_corpora(config: RunConfig, corpus: Corpus) -> list[Corpus]:
    names = (config.replay.corpus or "").split("+")
    return [open_corpus(corpus.folder.parent / name.strip()) for name in names if name.strip()]


def _store(config: RunConfig, corpus: Corpus, source: BatchSource, generate: Generate) -> Callable[[], np.ndarray]:
    """What makes the store's windows."""
    replay, size = config.replay, source.block_size
    if replay.corpus is not None:
        files = [old.train for old in _old_corpora(config, corpus)]
        return lambda: sample_windows(files, size, replay.windows, config.seed)
    sample, start = partial(generate, temperature=replay.temperature), first_token(corpus.folder)
    return lambda: generate_windows(sample, start, size, replay.windows, config.seed, source.device)


def _reference(
    config: RunConfig, file: TokenFile, source: BatchSource, learner: OckhamLearner, load: Callable[[str], torch.nn.Module]
) -> np.ndarray:
    """The reference's losses on the training split."""
    model = load(config.reference).to(source.device).eval()

    def losses(windows: torch.Tensor) -> torch.Tensor:
        x, y = to_device(windows, source.device)
        with torch.no_grad(), learner.precision.autocast():
            return token_losses(model(x, y)[0], y)

    return reference_losses(file, source.block_size, 16 * source.batch_size, losses)
