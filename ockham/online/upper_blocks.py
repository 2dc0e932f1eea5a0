"""Our GPT on many short rows at once, computing no more than what is asked for.

Four savings, none of which changes a value but for rounding. Linear layers see the rows' tokens one after another, without the
padding, which is a third of a padded batch of questions. The last block goes on with those tokens alone that predict what is
asked for. What the blocks below the first adapted one give is kept for each row, as nothing there ever changes. And a layer with
its update is one product.

Shapes: N tokens of all rows, B rows, T tokens of the longest, C channels.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from peft.tuners.lora import Linear as LoraLinear
from peft.tuners.tuners_utils import BaseTunerLayer
from torch import Tensor, nn
from torch.nn.utils.rnn import pad_sequence

from .bases import TokenRow

USUAL_DEPTH = 1  # blocks that are left as they are
MOST_KEPT = 16_000_000  # numbers: 64 MB, or 4,000 rows of 30 tokens in 128 channels


class UpperBlocks:
    """Hidden states of rows; keeps those under the adapter."""

    def __init__(self) -> None:
        self._kept: dict[tuple[int, ...], Tensor] = {}
        self._held: dict[int, tuple[TokenRow, Tensor]] = {}  # by the row's identity: these bits are the row's of one lesson alone
        self._depth = 0  # blocks below the adapter, of which they are

    def hidden(self, gpt: Any, rows: Sequence[TokenRow]) -> Tensor:
        """Final hidden states of the positions that predict each row's tokens from `start` on, (Σ (T − start), C)."""
        blocks = gpt.transformer.h
        x = torch.cat(self._below(gpt, rows, blocks))  # (N, C)
        places, asked = (where.to(x.device) for where in layout(rows))
        shape = len(rows), max(len(row.ids) for row in rows)
        for block in blocks[self._depth : -1]:
            x = through(block, x, places, shape)
        x = through(blocks[-1], x, places, shape, asked)
        return gpt.transformer.ln_f(x)

    @torch.no_grad()
    def hold(self, gpt: Any, rows: Sequence[TokenRow]) -> None:
        """Computes what lies below the adapter for all these rows at once, and has it for them until the next call."""
        self._held.clear()
        lengths, blocks = [len(row.ids) for row in rows], gpt.transformer.h
        if not lengths:
            return
        padded = pad_sequence([torch.tensor(row.ids) for row in rows], batch_first=True)  # (B, T)
        places = layout(rows)[0].to(gpt.lm_head.weight.device)
        x = gpt.embedded(padded.to(places.device)).flatten(0, 1)[places]  # (N, C)
        for block in blocks[: self._same_depth(blocks)]:
            x = through(block, x, places, (len(rows), max(lengths)))
        for row, part in zip(rows, x.split(lengths), strict=True):
            self._held[id(row)] = row, part

    def forget(self) -> None:
        """Keeps nothing."""
        self._kept.clear()
        self._held.clear()

    def _same_depth(self, blocks: nn.ModuleList) -> int:
        """How many blocks lie below the adapter; nothing is kept of an adapter that began elsewhere."""
        if (depth := depth_of(blocks)) != self._depth:
            self.forget()
            self._depth = depth
        return depth

    @torch.no_grad()
    def _below(self, gpt: Any, rows: Sequence[TokenRow], blocks: nn.ModuleList) -> list[Tensor]:
        """Each row's hidden states (T, C) before the first adapted block; but for those that are held it is computed alone: its
        bits do not depend on others.
        """
        depth = self._same_depth(blocks)
        if sum(x.numel() for x in self._kept.values()) > MOST_KEPT:
            self._kept.clear()
        found = []
        for row in rows:
            if id(row) in self._held:
                found.append(self._held[id(row)][1])
                continue
            key = tuple(row.ids)
            if key not in self._kept:
                ids = torch.tensor([row.ids], device=gpt.lm_head.weight.device)
                x = gpt.embedded(ids)
                for block in blocks[:depth]:
                    x = block(x)
                self._kept[key] = x[0]
            found.append(self._kept[key])
        return found


def depth_of(blocks: nn.ModuleList) -> int:
    """How many blocks, the last one aside, lie below the first that an adapter changes; the usual number where there is none."""
    adapted = (i for i, block in enumerate(blocks) if any(isinstance(layer, BaseTunerLayer) for layer in layers_of(block)))
    return min(next(adapted, USUAL_DEPTH), len(blocks) - 1)


def layers_of(block: Any) -> tuple[nn.Module, ...]:
    """The layers that an adapter may wrap."""
    return block.attn.c_attn, block.attn.c_proj, block.mlp.c_fc, block.mlp.c_proj


def layout(rows: Sequence[TokenRow]) -> tuple[Tensor, Tensor]:
    """Where each of the N tokens stands in a padded batch of (B·T), and which of the N predict what is asked for."""
    width, places, asked, at = max(len(row.ids) for row in rows), [], [], 0
    for i, row in enumerate(rows):
        places.append(torch.arange(len(row.ids)) + i * width)
        asked.append(torch.arange(at + row.start - 1, at + len(row.ids) - 1))
        at += len(row.ids)
    return torch.cat(places), torch.cat(asked)


def through(block: Any, x: Tensor, places: Tensor, shape: tuple[int, int], kept: Tensor | None = None) -> Tensor:
    """The block's law on tokens one after another, (N, C); its output at the `kept` ones alone where these are given."""
    B, T = shape
    qkv = linear(block.attn.c_attn, block.ln_1(x))  # (N, 3C)
    padded = qkv.new_zeros(B * T, qkv.size(1)).index_copy(0, places, qkv).view(B, T, -1)
    y = block.attn.attend(padded).flatten(0, 1)  # (B·T, C)
    if kept is not None:
        x, places = x[kept], places[kept]
    x = x + linear(block.attn.c_proj, y[places])
    return x + linear(block.mlp.c_proj, block.mlp.activate(linear(block.mlp.c_fc, block.ln_2(x))))


def linear(layer: Any, x: Tensor) -> Tensor:
    """The layer on tokens (N, C), its update by `LowRankProduct`; its own way with dropout, which only the update has, and on a
    base in half precision, where a small update added to a weight is rounded away.
    """
    if not isinstance(layer, LoraLinear) or layer.disable_adapters or any(drop.training for drop in layer.lora_dropout.values()):
        return layer(x)
    (name,), base = layer.active_adapters, layer.get_base_layer()
    a, b = layer.lora_A[name].weight, layer.lora_B[name].weight
    if base.weight.dtype != a.dtype:
        return layer(x)
    y = LowRankProduct.apply(x, base.weight, a, b, layer.scaling[name])
    return y if base.bias is None else y + base.bias


class LowRankProduct(torch.autograd.Function):
    """y = x (W + sBA)ᵀ; A and B learn, W does not. x (N, C), W (K, C), A (r, C), B (K, r), y (N, K).

    Forward one large product, where x Wᵀ + s (x Aᵀ) Bᵀ is that and two thin ones with two sums. Backward the gradients of A and B
    by thin products, without that of the whole weight: with G = ∂L/∂y, ∂B = s Gᵀ (x Aᵀ), ∂A = s (G B)ᵀ x, ∂x = G (W + sBA).
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, a: Tensor, b: Tensor, scale: float) -> Tensor:
        merged = torch.addmm(weight, b, a, alpha=scale)
        ctx.save_for_backward(x, merged, a, b)
        ctx.scale = scale
        return x @ merged.T

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, None, Tensor, Tensor, None]:
        (grad,), (x, merged, a, b) = grads, ctx.saved_tensors
        for_x = grad @ merged if ctx.needs_input_grad[0] else None
        for_a, for_b = (grad @ b).T @ x, grad.T @ (x @ a.T)
        return for_x, None, ctx.scale * for_a, ctx.scale * for_b, None
