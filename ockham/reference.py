"""A reference model's loss on every token of a split, computed once: what a gate's excess surprise is measured from."""

from __future__ import annotations

from collections.abc import Callable, Iterable

import numpy as np
import torch

from .data import TokenFile


def reference_losses(
    file: TokenFile, block_size: int, per_batch: int, losses: Callable[[torch.Tensor], torch.Tensor]
) -> np.ndarray:
    """The reference model's loss on every token of a file, (tokens,) float16: `losses` maps windows (B, T + 1) to (B, T).

    The windows lie side by side, so a token's context is at most T long. The first token has no loss: 0.
    """
    found = np.zeros(file.tokens, dtype=np.float16)
    for starts, length in _side_by_side(file.tokens, block_size, per_batch):
        each = losses(file.windows(starts, length + 1)).cpu().numpy()
        found[starts[:, None] + 1 + np.arange(length)] = each
    return found


def _side_by_side(tokens: int, block_size: int, per_batch: int) -> Iterable[tuple[np.ndarray, int]]:
    """Starts and length of the windows that go together; the last, shorter one alone."""
    whole = (tokens - 1) // block_size
    for first in range(0, whole, per_batch):
        yield np.arange(first, min(whole, first + per_batch)) * block_size, block_size
    if rest := (tokens - 1) % block_size:
        yield np.array([whole * block_size]), rest
