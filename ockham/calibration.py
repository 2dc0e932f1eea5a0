"""Calibration: whether a model that says 70 % is right seven times in ten, over batches of logits and over ranks."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from .distributed import Ranks

BINS = 15  # Guo et al. 2017, section 5
CHUNK_LOGITS = 2**23  # softmax is taken over so many logits at a time: 32 MiB in float32
IGNORED = -1  # the target that GPT.forward leaves out


@dataclass(frozen=True)
class Calibration:
    """How right a model is, and how well it knows: figures over all tokens, and bin by bin for a reliability diagram.

    Confidence is the probability of the most probable token. The expected calibration error is Σ_b (n_b/N)·|acc_b − conf_b|
    over bins of confidence ((b − 1)/M, b/M]; in [0, 1]. Chance alone makes it positive, the more so the fewer the tokens.
    Source: Naeini, Cooper & Hauskrecht 2015 (AAAI); Guo et al. 2017 (arXiv:1706.04599).
    """

    tokens: int
    nll: float  # nats/token
    accuracy: float  # of the most probable token (of equals the first), in [0, 1]
    ece: float
    reliability: tuple[tuple[int, float, float], ...]  # (tokens, mean confidence, accuracy) of the bins that hold any

    def figures(self) -> dict[str, Any]:
        """What summary.json keeps: accuracy, ece, reliability."""
        return {"accuracy": self.accuracy, "ece": self.ece, "reliability": [list(row) for row in self.reliability]}


class CalibrationSums:
    """Sums by bin of confidence, in float64, from which the figures follow once all batches are in."""

    def __init__(self, bins: int = BINS):
        self.edges = np.arange(1, bins) / bins  # between the bins
        self.sums = np.zeros((4, bins))  # tokens, confidence, right answers, nll

    @torch.no_grad()
    def add(self, logits: torch.Tensor, targets: torch.Tensor) -> None:
        """Take in logits (B, T, V) and targets (B, T); targets of -1 are left out, as in the loss."""
        flat = logits.flatten(0, 1)  # (B·T, V)
        rows = max(1, CHUNK_LOGITS // flat.size(-1))
        for z, y in zip(flat.split(rows), targets.flatten().split(rows), strict=True):
            self._add_chunk(z, y)

    def _add_chunk(self, z: torch.Tensor, y: torch.Tensor) -> None:
        log_p = z.log_softmax(-1, dtype=torch.promote_types(z.dtype, torch.float32))  # (N, V)
        choice = z.argmax(-1)  # (N,)
        picked = log_p.gather(-1, torch.stack([choice, y.clamp(min=0)], dim=-1))  # (N, 2)
        confidence = picked[:, 0].exp()
        right = (choice == y) + 0 * confidence  # NaN logits have an argmax too, but are never right
        figures = torch.stack([confidence, right, -picked[:, 1]])
        # float64 begins on the CPU: mps has none.
        per_token = figures.cpu().double().numpy()[:, (y != IGNORED).cpu().numpy()]  # (3, N)
        bin_of = np.searchsorted(self.edges, per_token[0])  # a confidence on an edge falls into the lower bin
        for total, weights in zip(self.sums, (None, *per_token), strict=True):
            total += np.bincount(bin_of, weights, minlength=len(total))

    def result(self, ranks: Ranks) -> Calibration:
        """The figures over the batches of all ranks, the same on each. Raises ValueError when no rank has any token."""
        count, confidence, right, nll = np.sum(ranks.gather(self.sums), axis=0)  # (bins,) each
        tokens = count.sum()
        if not tokens:
            raise ValueError("calibration needs at least one token, got none; add() batches first")
        held = count > 0
        rows = zip(count[held], confidence[held] / count[held], right[held] / count[held], strict=True)
        return Calibration(
            tokens=int(tokens),
            nll=float(nll.sum() / tokens),
            accuracy=float(right.sum() / tokens),
            ece=float(np.abs(right - confidence).sum() / tokens),
            reliability=tuple((int(n), float(conf), float(acc)) for n, conf, acc in rows),
        )
