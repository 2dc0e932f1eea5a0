"""The Occam Quotient: what a model gives for what it costs, and the counting of that cost.

Units: loss nats/token; FLOPs, 2 a multiply-add; memory MB = 10⁶ bytes (13 B parameters of 2 bytes = 26 GB = 26,000 MB is
what gives the 1.23e-17 of architecture_v2.md; with 2²⁰ bytes it would be 1.17e-17).
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from .context import OccamContext

MB = 1e6  # bytes


def performance(loss: float) -> float:
    """1/loss, in tokens/nat: inf at loss 0, NaN for what is no loss (negative or NaN)."""
    return 1 / loss if loss > 0 else math.inf if loss == 0 else math.nan


def occam_quotient(loss: float, flops: float = 0.0, mb: float = 0.0, params: int = 0) -> float:
    """performance / (inference cost × memory in MB); higher is better, 0 where no cost is known.

    Cost is FLOPs, else parameters; memory, where it is 0, 4 bytes a parameter.
    """
    footprint = Footprint(params=params, memory_mb=mb, flops=flops)
    return footprint.quotient(loss)


def relative_improvement(new: float, old: float) -> float:
    """(new − old) / old, exact however small the two are: 0.05 is 5 % better. From 0 it is inf, from 0 to 0 none."""
    if old == 0:
        return math.inf if new > 0 else 0.0
    return (new - old) / old


def roi_percent(oq_before: float, oq_after: float) -> float:
    """Return on investment in per cent: the relative improvement of the Occam Quotient × 100."""
    return 100 * relative_improvement(oq_after, oq_before)


@dataclass(frozen=True)
class Footprint:
    """What a model costs to run."""

    params: int  # non-zero
    memory_mb: float  # parameters and buffers
    flops: float  # one forward

    @classmethod
    def measure(cls, model: nn.Module, tokens: Tensor) -> Footprint:
        """Count all three. Models are comparable when measured on the same number of tokens, (1, T)."""
        return cls(active_parameters(model), memory_mb(model), inference_flops(model, tokens))

    def quotient(self, loss: float) -> float:
        """The Occam Quotient at this loss."""
        return self.fill(OccamContext(iter_num=0, task_loss=loss)).compute_occam_quotient(performance(loss))

    def fill(self, ctx: OccamContext) -> OccamContext:
        """The same context, with this cost in it."""
        ctx.model_params, ctx.memory_footprint_mb, ctx.inference_flops = self.params, self.memory_mb, self.flops
        return ctx


def inference_flops(model: nn.Module, tokens: Tensor) -> int:
    """FLOPs of one forward of tokens (1, T) without dropout or gradient, as torch's FlopCounterMode counts: matrix products
    and convolutions, 2 a multiply-add; attention over all T² pairs, causal or not.

    A GPT without targets gives the logits of the last position alone: the cost of reading T tokens and saying one.
    """
    # torch 2.13 counts no fused attention on a CPU; as plain products it is counted, and alike on every device.
    with _evaluating(model), torch.no_grad(), sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter:
        model(tokens)
    return counter.get_total_flops()


@contextlib.contextmanager
def _evaluating(model: nn.Module) -> Iterator[None]:
    """Within, eval mode; after it every module is in the mode that it was in."""
    training = [module for module in model.modules() if module.training]
    model.eval()
    try:
        yield
    finally:
        for module in training:
            module.training = True


def memory_mb(model: nn.Module) -> float:
    """MB that parameters and buffers occupy: each in its own dtype, shared storage once."""
    return storage_bytes((*model.parameters(), *model.buffers())) / MB


def storage_bytes(state: Any) -> int:
    """Bytes of the storages behind the tensors in nested plain values, each once."""
    storages = {_place(tensor): tensor.untyped_storage().nbytes() for tensor in _tensors(state)}
    return sum(storages.values())


def _tensors(state: Any) -> Iterator[Tensor]:
    if isinstance(state, Tensor):
        yield state
    elif isinstance(state, (Mapping, list, tuple)):
        for value in state.values() if isinstance(state, Mapping) else state:
            yield from _tensors(value)


def active_parameters(model: nn.Module) -> int:
    """Parameters that are not zero, trainable or not; tied ones once."""
    distinct = {(_place(p), p.storage_offset(), p.shape): p for p in model.parameters()}
    return sum(int(p.count_nonzero()) for p in distinct.values())


def _place(tensor: Tensor) -> tuple[torch.device, int]:
    """Where a tensor's storage lies; one without an address (empty, or on the meta device) shares with none."""
    return tensor.device, tensor.untyped_storage().data_ptr() or id(tensor)
