"""Our GPT on many short rows at once, computing no more than what is asked for.

Three savings, none of which changes a value but for rounding. Linear layers see the rows' tokens one after another, without the
padding, which is a third of a padded batch of questions. The last block goes on with those tokens alone that predict what is
asked for. What the blocks below the first adapted one give is kept for each row, as nothing there ever changes.

Shapes: N tokens of all rows, B rows, T tokens of the longest, C channels.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from peft.tuners.lora import Linear as LoraLinear
from peft.tuners.tuners_utils import BaseTunerLayer
from torch import Tensor, nn

from .bases import Row

USUAL_DEPTH = 1  # blocks that are left as they are
MOST_KEPT = 16_000_000  # numbers: 64 MB, or 4,000 rows of 30 tokens in 128 channels


class UpperBlocks:
    """Hidden states of rows; keeps those under the adapter."""

    def __init__(self) -> None:
        self._kept: dict[tuple[int, ...], Tensor] = {}
        self._depth = 0  # blocks below the adapter, of which they are

    def hidden(self, gpt: Any, rows: Sequence[Row]) -> Tensor:
        """Final hidden states of the positions that predict each row's tokens from `start` on, (Σ (T − start), C)."""
        blocks = gpt.transformer.h
        x = torch.cat(self._below(gpt, rows, blocks))  # (N, C)
        places, asked = (where.to(x.device) for where in layout(rows))
        shape = len(rows), max(len(row.ids) for row in rows)
        for block in blocks[self._depth : -1]:
            x = through(block, x, places, shape)
        x = through(blocks[-1], x, places, shape, asked)
        return gpt.transformer.ln_f(x)

    def forget(self) -> None:
        """Keeps nothing."""
        self._kept.clear()

    @torch.no_grad()
    def _below(self, gpt: Any, rows: Sequence[Row], blocks: nn.ModuleList) -> list[Tensor]:
        """Each row's hidden states (T, C) before the first adapted block, computed alone: its bits do not depend on others."""
        depth = depth_of(blocks)
        if depth != self._depth or sum(x.numel() for x in self._kept.values()) > MOST_KEPT:
            self._kept.clear()
            self._depth = depth
        found = []
        for row in rows:
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


def layout(rows: Sequence[Row]) -> tuple[Tensor, Tensor]:
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
    return x + linear(block.mlp.c_proj, F.gelu(linear(block.mlp.c_fc, block.ln_2(x))))


def linear(layer: Any, x: Tensor) -> Tensor:
    """The layer with its update, x (W + ΔW)ᵀ: for many tokens one large product is less work than it and two thin ones.

    With dropout, which acts between x and the update alone, the layer's own way is gone.
    """
    if not isinstance(layer, LoraLinear) or layer.disable_adapters or any(drop.training for drop in layer.lora_dropout.values()):
        return layer(x)
    base: Any = layer.get_base_layer()
    weight = base.weight
    for name in layer.active_adapters:
        weight = weight + layer.get_delta_weight(name)
    return F.linear(x, weight, base.bias)
