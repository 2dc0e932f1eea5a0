"""Weights that are evaluated in place of those that are trained: Lookahead's slow ones, or a running average."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

import torch
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

COUNTED_IN_GROUPS = ("counter", "step")  # what pytorch_optimizer's Lookahead and Lion count in their param_groups: state


def build_average(model: torch.nn.Module, decay: float | None) -> AveragedModel | None:
    """torch's running average of a model, or None. It begins at the weights after the first update."""
    return None if decay is None else AveragedModel(model, multi_avg_fn=get_ema_multi_avg_fn(decay))


def slow_weights(optimizer: torch.optim.Optimizer) -> dict[torch.Tensor, torch.Tensor]:
    """parameter -> Lookahead's slow weight; empty for any other optimizer."""
    return {p: state["slow_params"] for p, state in optimizer.state.items() if "slow_params" in state}


@contextlib.contextmanager
def evaluated_weights(
    parameters: list[torch.nn.Parameter], optimizer: torch.optim.Optimizer, average: AveragedModel | None
) -> Iterator[None]:
    """Within, the parameters hold what is to be evaluated: the average once it has begun, else slow weights, else their own."""
    slow = slow_weights(optimizer)
    shown: list[tuple[torch.nn.Parameter, torch.Tensor]]
    if average is not None and average.n_averaged > 0:
        averaged = [p for p in average.parameters() if p.requires_grad]
        shown = list(zip(parameters, averaged, strict=True))
    else:
        shown = [(p, slow[p]) for p in parameters if p in slow]
    with torch.no_grad():
        trained = [p.detach().clone() for p, _ in shown]
        for p, other in shown:
            p.copy_(other)
        try:
            yield
        finally:
            for (p, _), own in zip(shown, trained, strict=True):
                p.copy_(own)


def kind_of(optimizer: torch.optim.Optimizer) -> str:
    """What a saved state must agree in: the class, that of a wrapped one, those of its parts: Lookahead(SGD), Muon + AdamW."""
    inner: Any = getattr(optimizer, "optimizer", None)
    parts: Any = getattr(optimizer, "parts", ())
    if isinstance(inner, torch.optim.Optimizer):
        return f"{type(optimizer).__name__}({kind_of(inner)})"
    return " + ".join(type(part).__name__ for part in parts) or type(optimizer).__name__
