"""Diagonal Fisher information: how much each weight matters to what the model says.

    F_j = mean over sequences of (∂_j Σ_t −ln p(y_t))² / T

by one pass, a backward for each sequence: the square of a batch's mean gradient is another, smaller thing that shrinks with the
batch. Under the model's own distribution a sequence's scores are a martingale difference, so F is per token. Where the targets
were drawn from the model (generated windows) it is the Fisher information, where they are data the empirical one (Kunstner et al.
2019, arXiv:1905.12558).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import torch

from .data import Batch
from .distributed import Ranks
from .ledger import Ledger


def fisher(
    module: torch.nn.Module, weights: Mapping[str, torch.Tensor], batches: Iterable[Batch]
) -> tuple[list[torch.Tensor], int]:
    """Σ over the batches' sequences of squared gradients / T at `weights`, and how many sequences.

    `module(x, y)` gives (logits, mean loss in nats/token); it is called with `weights` for its own, by parameter name, in eval
    mode. The sums are in the order of `weights`.
    """
    at = {name: weight.detach().requires_grad_() for name, weight in weights.items()}
    sums, count = [torch.zeros_like(weight) for weight in weights.values()], 0
    was_training = module.training
    module.eval()
    try:
        for x, y in batches:
            for i in range(len(x)):
                loss = torch.func.functional_call(module, at, (x[i : i + 1], y[i : i + 1]))[1] * y.shape[1]
                grads = torch.autograd.grad(loss, list(at.values()), allow_unused=True)
                for total, grad in zip(sums, grads, strict=True):
                    if grad is not None:
                        total.addcmul_(grad, grad, value=1 / y.shape[1])
                count += 1
    finally:
        module.train(was_training)
    return sums, count


def normalised(sums: Sequence[torch.Tensor], count: int, ranks: Ranks, ledger: Ledger, batch_size: int) -> list[torch.Tensor]:
    """The mean over all ranks' sequences, scaled to mean 1 over the weights, so that λ means about what it means for l2.

    Charges the pass: count / batch_size batches, forward and backward. A Fisher information of 0 everywhere stays 0.
    """
    ledger.forward(count / batch_size)
    ledger.backward(count / batch_size)
    found = [total / max(count, 1) for total in sums]
    ranks.average_(found)
    weights = sum(f.numel() for f in found)
    mean = sum(float(f.double().sum()) for f in found) / weights
    return [f / mean for f in found] if mean else found
