"""ReverbPlugin: past gradients ring on in the present one."""

from __future__ import annotations

from types import MappingProxyType

from ..context import Echo, OccamContext
from .base import OccamPlugin, Param


class ReverbPlugin(OccamPlugin):
    """Gradient echo: g ← g + mix·E, then E ← decay·E + (1 − decay)·g, of the g before its echo; E begins at 0.

    g is the gradient after unscaling, averaging over ranks and the anchor's penalty, before noise and clipping. A gradient that
    lasts is raised to 1 + mix of itself, one that alternates is hardly changed. decay = 1 never hears anything. Skipped
    iterations, and gradients that are not finite, leave E as it is. The learner owns E (as large as the weights), keeps it in
    checkpoints, and has none for mix = 0. Several reverbs hear the same g, each with an E of its own, and their echoes add up.
    """

    name = "reverb"
    PARAMS = (
        Param("mix", 0.3, "how much of the echo is added", low=0),
        Param("decay", 0.9, "what E keeps of itself, per update", low=0, high=1),
    )
    STATE = ("has_begun",)
    WRITES = MappingProxyType({"requests.gradient_echo": "adds"})

    mix: float
    decay: float

    def reset(self) -> None:
        self.has_begun = False  # whether E holds a gradient; if not, the learner begins it at 0

    def on_batch_start(self, ctx: OccamContext) -> OccamContext:
        if self.mix:
            ctx.requests.gradient_echo[self.name] = Echo(self.mix, self.decay, restart=not self.has_begun)
        return ctx

    def on_batch_end(self, ctx: OccamContext) -> None:
        self.has_begun = self.has_begun or ctx.updated
