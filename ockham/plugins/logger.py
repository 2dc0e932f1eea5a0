"""LoggerPlugin: says in words what the rack did."""

from __future__ import annotations

from collections.abc import Callable
from types import MappingProxyType
from typing import Any

from ..context import OccamContext
from .base import OccamPlugin, Param


class LoggerPlugin(OccamPlugin):
    """One line per `interval` iterations: loss, verdict, and every change of the context with its plugin.

    It reports the iterations it speaks in, not sums over those between; consolidations are always told. Last in the chain it
    sees everything. Lines go to `sink`, a callable attribute that is `print` unless set.
    """

    name = "logger"
    PARAMS = (Param("interval", 1, "iterations from one line to the next", int, low=1),)
    STATE = ("iterations",)
    WRITES = MappingProxyType({})

    interval: int
    sink: Callable[[str], object] = staticmethod(print)

    def reset(self) -> None:
        self.iterations = 0

    def on_batch_start(self, ctx: OccamContext) -> OccamContext:
        return ctx

    def on_batch_end(self, ctx: OccamContext) -> None:
        if self.iterations % self.interval == 0:
            verdict = "updated" if ctx.updated else f"skipped ({ctx.reason_code or 'no reason given'})"
            changes = "; ".join(f"{plugin}: {field} {_short(old)} → {_short(new)}" for plugin, field, old, new in ctx.changes)
            self.sink(f"[{self.name}] iter {ctx.iter_num}: loss {ctx.task_loss:.4f}, {verdict}; {changes or 'nothing changed'}")
        self.iterations += 1

    def on_consolidate(self, ctx: OccamContext) -> None:
        self.sink(f"[{self.name}] iter {ctx.iter_num}: consolidated at drift {ctx.complexity_cost:.4g}")


def _short(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)
