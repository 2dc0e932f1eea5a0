"""SequenceGatePlugin: inside the batch, learns the surprising sequences, or learns them more."""

from __future__ import annotations

import math
import random
from collections.abc import Sequence
from types import MappingProxyType

from ..context import OccamContext
from .base import Param, SeededPlugin


class SequenceGatePlugin(SeededPlugin):
    """Gives every new sequence of the batch, of all ranks, a weight by its surprise s: its loss, or the excess over a
    reference's.

    `mode: select`: weight 1 for the `share` of the sequences with the largest s, at least one, and 0 for the others. The loss is
    the mean over those chosen. Under 2/3 of a batch they are forwarded anew and alone: that costs 1 + 3·share compute units
    in place of 3.
    `mode: soft`: w ∝ exp(s / temperature), with mean 1, then cut at `largest`; the loss is the weighted mean. Nothing is saved.

    `mode: random`: as many as `select`, drawn by lot: its control. The generator is the plugin's own, seeded by `seed` and equal
    on every rank.

    Losses that are not finite weigh nothing in, all weights are then 1. Selection by loss: Jiang et al. 2019
    (Selective-Backprop, arXiv:1910.00762); by excess: Mindermann et al. 2022 (RHO-loss, arXiv:2206.07137).
    """

    name = "sequence_gate"
    PARAMS = (
        Param("mode", "select", "choose sequences, weigh them, or choose by lot", str, choices=("select", "soft", "random")),
        Param("share", 0.5, "select, random: share of the sequences that is learned", low=0, high=1),
        Param("temperature", 1.0, "soft: surprise that multiplies a weight by e, nats/token", low=1e-3),
        Param("largest", 4.0, "soft: largest weight", low=1),
        Param("surprise", "loss", "what is judged: the loss, or its excess over a reference's", str, choices=("loss", "excess")),
        Param("seed", None, "random: seed of the lots; null = the run's", int | None, low=0),
    )
    STATE = ("learned", "seen", "generator")
    WRITES = MappingProxyType({})

    mode: str
    share: float
    temperature: float
    largest: float
    surprise: str

    def reset(self) -> None:
        self.learned, self.seen = 0, 0  # sequences with a weight, sequences judged
        self.random = random.Random(f"sequence gate {self.own_seed}")

    def weigh(self, surprise: Sequence[float]) -> list[float]:
        """The weight of each sequence. The learner calls this for every batch and micro-batch."""
        if not surprise or not all(map(math.isfinite, surprise)):  # none where all sequences are replayed
            return [1.0] * len(surprise)
        judged = [self.random.random() for _ in surprise] if self.mode == "random" else surprise
        weights = self._soft(judged) if self.mode == "soft" else self._chosen(judged)
        self.learned += sum(weight > 0 for weight in weights)
        self.seen += len(weights)
        return weights

    def _chosen(self, surprise: Sequence[float]) -> list[float]:
        count = max(1, round(self.share * len(surprise)))
        order = sorted(range(len(surprise)), key=lambda i: (-surprise[i], i))
        chosen = set(order[:count])
        return [float(i in chosen) for i in range(len(surprise))]

    def _soft(self, surprise: Sequence[float]) -> list[float]:
        top = max(surprise)
        raw = [math.exp((value - top) / self.temperature) for value in surprise]
        mean = sum(raw) / len(raw)
        return [min(value / mean, self.largest) for value in raw]

    def on_batch_start(self, ctx: OccamContext) -> OccamContext:
        ctx.metrics[f"{self.name}/share"] = self.learned / self.seen if self.seen else 1.0
        return ctx
