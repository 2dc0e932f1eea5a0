"""Evaluation: a deterministic sweep of a whole split, or nanoGPT's estimate from random batches; shared among ranks."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

import torch

from .calibration import Calibration, CalibrationSums
from .data import EVAL_LOGITS, EVAL_TOKENS, BatchSource, Corpus, TokenFile, sweep, to_device
from .distributed import Ranks
from .precision import Precision

SAMPLED_SEED = 0x5EED  # sampled evaluations draw from a stream of their own


@dataclass(frozen=True)
class Evaluation:
    """Mean losses in nats/token, and on how many tokens each was taken."""

    train_loss: float
    val_loss: float
    tokens: int


@torch.no_grad()
def forwards(
    model: torch.nn.Module,
    windows: Iterable[torch.Tensor],
    precision: Precision,
    ranks: Ranks,
    interrupted: Callable[[], bool],
    take: Callable[[torch.Tensor, torch.Tensor, torch.Tensor], None],
) -> None:
    """Run the model in eval mode over windows (B, T + 1), handing each one's targets (B, T), logits (B, T, V) and loss to `take`.

    Leaves off early when `interrupted()`.
    """
    was_training = model.training
    model.eval()
    for window in windows:
        if interrupted():
            break
        x, y = to_device(window, ranks.device)
        with precision.autocast():
            take(y, *model(x, y))  # logits get no name here: they would stay while the next ones are made
    model.train(was_training)


def mean_loss(
    model: torch.nn.Module,
    windows: Iterable[torch.Tensor],
    precision: Precision,
    ranks: Ranks,
    interrupted: Callable[[], bool] = lambda: False,
) -> tuple[float, int]:
    """Token-weighted mean loss over this and all other ranks' windows (B, T + 1), in eval mode: (loss, tokens).

    Leaves off early when `interrupted()`: the figures are then of no use, but all ranks still meet.
    """
    total, tokens = 0.0, 0

    def take(y: torch.Tensor, logits: torch.Tensor, loss: torch.Tensor) -> None:
        nonlocal total, tokens
        total += float(loss) * y.numel()
        tokens += y.numel()

    forwards(model, windows, precision, ranks, interrupted, take)
    counts = ranks.gather((total, tokens))
    tokens = sum(count for _, count in counts)
    return sum(part for part, _ in counts) / max(1, tokens), tokens


def windows_at_once(vocab_size: int, block_size: int) -> int:
    """How many windows a forward-only batch may have, so that its tokens and logits stay few; 0 where one is too many."""
    return min(EVAL_TOKENS, EVAL_LOGITS // vocab_size) // block_size


def whole_val_loss(model: torch.nn.Module, corpus: Corpus, block_size: int, ranks: Ranks) -> float:
    """The mean loss over the whole val split, nats/token, in float32; the model is on the ranks' device."""
    windows = sweep(corpus.val, block_size, max(1, windows_at_once(corpus.vocab_size, block_size)))
    return mean_loss(model, windows, Precision(ranks.device.type), ranks)[0]


@dataclass(frozen=True)
class Evaluator:
    """Evaluates a model on a corpus's two splits. The training split is seen through a fixed subset as large as val."""

    corpus: Corpus
    block_size: int
    batch_size: int
    precision: Precision
    ranks: Ranks
    eval_iters: int = 0  # > 0: random batches instead of a sweep
    max_tokens: int = 0  # cap of a sweep; 0 = whole
    interrupted: Callable[[], bool] = lambda: False

    @property
    def is_estimate(self) -> bool:
        """Whether evaluations during training see less than the whole val split, so that the final one is no match for them."""
        return bool(self.eval_iters) or 0 < self.max_tokens < self.corpus.val.tokens

    def __call__(self, model: torch.nn.Module, step: int, whole: bool = False) -> Evaluation | None:
        """Losses of both splits, or None when any rank was interrupted; `whole` sweeps all of val whatever the settings."""
        cap = 0 if whole else self.max_tokens
        size = min(cap or self.corpus.val.tokens, self.corpus.val.tokens)
        if self.eval_iters and not whole:
            train, val = (self._sampled(file, step + 1) for file in (self.corpus.train, self.corpus.val))
        else:
            train, val = (self._swept(self.corpus.train, size), self._swept(self.corpus.val, cap))
        (train_loss, _), (val_loss, tokens) = (
            mean_loss(model, windows, self.precision, self.ranks, self.interrupted) for windows in (train, val)
        )
        if self.ranks.any(self.interrupted()):
            return None
        return Evaluation(train_loss, val_loss, tokens)

    def calibration(self, model: torch.nn.Module) -> Calibration | None:
        """Accuracy and calibration over the whole val split whatever the settings, or None when any rank was interrupted.

        All ranks call it together: each sweeps its share.
        """
        sums, windows = CalibrationSums(), self._swept(self.corpus.val, 0)
        forwards(model, windows, self.precision, self.ranks, self.interrupted, lambda y, logits, _: sums.add(logits, y))
        return None if self.ranks.any(self.interrupted()) else sums.result(self.ranks)

    def _swept(self, file: TokenFile, cap: int) -> Iterable[torch.Tensor]:
        affordable = windows_at_once(self.corpus.vocab_size, self.block_size)
        return sweep(file, self.block_size, max(self.batch_size, affordable), cap, self.ranks.rank, self.ranks.world)

    def _sampled(self, file: TokenFile, step: int) -> Iterable[torch.Tensor]:
        source = BatchSource(file, self.batch_size, self.block_size, SAMPLED_SEED)
        for micro in range(self.ranks.rank, self.eval_iters, self.ranks.world):
            yield file.windows(source.starts(step, micro), self.block_size + 1)
