"""RandomSkipPlugin: skips batches by lot, whatever they hold; the control of every gate."""

from __future__ import annotations

import random
from types import MappingProxyType

from ..context import OccamContext
from .base import Param, SeededPlugin

SKIPPED = "SKIPPED_RANDOM"  # reason_code
BLOCK = 10  # batches that are drawn together
EPSILON = 1e-9  # 10 × 0.1 batches are one


class RandomSkipPlugin(SeededPlugin):
    """Learns a share `update_rate` of the batches, drawn by lot; skips the others (reason_code SKIPPED_RANDOM).

    Of every 10 batches it learns as many as are due, at places that are drawn anew: after n batches the number learned differs
    from update_rate·n by less than 10, so that a run costs what the gate cost whose rate it was given. What a surprise gate
    gains over this one it gains by choosing. Under gradient accumulation each micro-batch is drawn. The generator is the
    plugin's own, seeded by `seed` and equal on every rank.
    """

    name = "random_skip"
    PARAMS = (
        Param("update_rate", 0.6, "share of the batches to learn", low=0, high=1),
        Param("seed", None, "seed of the lots; null = the run's", int | None, low=0),
    )
    STATE = ("due", "block", "generator")
    WRITES = MappingProxyType({"updated": "sets"})

    update_rate: float
    surprise = "loss"  # a gate's word for what it judges

    def reset(self) -> None:
        self.due = 0.0  # batches still to be learned of those that were drawn
        self.block: list[bool] = []  # verdicts that wait; the last is the next
        self.random = random.Random(f"random skip {self.own_seed}")

    def verdict(self, loss: float, threshold: float | None = None) -> bool:
        """Whether to learn the next batch; loss and threshold, which a surprise gate goes by, do not matter."""
        if not self.block:
            self.due += self.update_rate * BLOCK
            learned = int(self.due + EPSILON)
            self.due -= learned
            self.block = [True] * learned + [False] * (BLOCK - learned)
            self.random.shuffle(self.block)
        return self.block.pop()

    def on_batch_start(self, ctx: OccamContext) -> OccamContext:
        ctx.updated = any(ctx.verdicts) if ctx.verdicts else self.verdict(ctx.task_loss)
        if not ctx.updated:
            ctx.reason_code = SKIPPED
        elif ctx.reason_code == SKIPPED:
            ctx.reason_code = ""
        ctx.metrics[f"{self.name}/open"] = float(ctx.updated)
        return ctx
