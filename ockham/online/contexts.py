"""Learning rates by context: what a fact, a question, a replay multiplies the base learning rate by."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..errors import ConfigError, nearest
from .config import AdaptiveOptimizerSettings

if TYPE_CHECKING:
    import torch


class Contexts:
    """The multiplier of each context.

    multiplier = base of the context · (1 + (count − 1) · repetition_boost_factor · repetition_lr_multiplier), kept within
    [min_lr_multiplier, max_lr_multiplier]; with `enabled` off it is 1. The contexts are fact, question, regular and replay, and
    those of `custom`. Raises ConfigError for a custom context whose name is taken.
    """

    def __init__(self, settings: AdaptiveOptimizerSettings) -> None:
        self.settings = settings
        self.bases: dict[str, float] = {
            "fact": settings.fact_lr_multiplier,
            "question": settings.question_lr_multiplier,
            "regular": settings.regular_lr_multiplier,
            "replay": settings.replay_lr_multiplier,
        }
        for name in settings.custom:
            if name in self.bases:
                raise ConfigError(f"adaptive_optimizer.custom.{name} is a context already; set {name}_lr_multiplier")
        self.bases |= {str(name): float(value) for name, value in settings.custom.items()}

    def multiplier(self, context: str, repetition_count: int = 1) -> float:
        """What the base learning rate is multiplied by; dimensionless. `repetition_count`: how often it was told, now included.

        Raises ConfigError for an unknown context and for a count below 1.
        """
        if context not in self.bases:
            raise ConfigError(f"unknown context {context!r}{nearest(context, self.bases)}; known: {', '.join(self.bases)}; "
                              "add yours under adaptive_optimizer.custom")  # fmt: skip
        if repetition_count < 1:
            raise ConfigError(f"repetition_count must be >= 1, got {repetition_count}")
        s = self.settings
        boost = 1.0 + (repetition_count - 1) * s.repetition_boost_factor * s.repetition_lr_multiplier
        wanted = self.bases[context] * boost
        return min(max(wanted, s.min_lr_multiplier), s.max_lr_multiplier) if s.enabled else 1.0


class AdaptiveOptimizer:
    """A torch optimizer whose learning rates follow the context; everything else is the optimizer's own.

    Each param group gets lr = its base · multiplier. The base is `base_lr`, or, without it, the group's lr at construction.
    `with optimizer.set_context("fact", repetition_count=3): …` goes back to the base at its end, also after an error.
    """

    def __init__(
        self, optimizer: torch.optim.Optimizer, settings: AdaptiveOptimizerSettings, base_lr: float | None = None
    ) -> None:
        self.optimizer = optimizer
        self.contexts = Contexts(settings)
        self.base_lrs = [float(group["lr"]) if base_lr is None else base_lr for group in optimizer.param_groups]
        self.reset_to_base()

    def set_context(self, context: str, repetition_count: int = 1) -> AdaptiveOptimizer:
        """Sets the learning rates of `context`. Raises ConfigError, and changes nothing, for an unknown one."""
        self._apply(self.contexts.multiplier(context, repetition_count))
        return self

    def reset_to_base(self) -> None:
        """Multiplier 1."""
        self._apply(1.0)

    @property
    def lr(self) -> float:
        """The first group's learning rate; setting it scales every group by the same factor."""
        return float(self.optimizer.param_groups[0]["lr"])

    @lr.setter
    def lr(self, value: float) -> None:
        factor = value / self.lr if self.lr else 0.0
        for group in self.optimizer.param_groups:
            group["lr"] *= factor

    def _apply(self, multiplier: float) -> None:
        self.multiplier = multiplier
        for group, base in zip(self.optimizer.param_groups, self.base_lrs, strict=True):
            group["lr"] = base * multiplier

    def step(self) -> None:
        """One step with the learning rates of the context."""
        self.optimizer.step()

    def __enter__(self) -> AdaptiveOptimizer:
        return self

    def __exit__(self, *error: object) -> None:
        self.reset_to_base()
