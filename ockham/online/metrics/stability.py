"""Stability: how far the adapted model has moved from the base, on the base's own replies to the anchor prompts."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

from torch import Tensor

from ...errors import ConfigError, ShapeError


def perplexity(token_losses: Tensor) -> float:
    """exp(mean of −ln P(token | tokens before)) over all tokens given; ≥ 1, infinite where it overflows.

    `token_losses`: nats, any shape, tokens that do not count left out. Raises ShapeError without a token.
    """
    if token_losses.numel() == 0:
        raise ShapeError("perplexity needs at least one token, got none; give the anchors prompts")
    try:
        return math.exp(float(token_losses.double().mean()))
    except OverflowError:
        return math.inf


def log_drift(perplexity_now: float, perplexity_base: float) -> float:
    """ln(PPL_t / PPL_0), PPL_0 the base's: 0 = as the base, positive = worse on the anchors, negative = better; dimensionless.

    It has a direction and a zero; the standard deviation over time has neither, and grows when nothing but time passes.
    """
    if perplexity_now <= 0 or perplexity_base <= 0:
        raise ConfigError(f"perplexities must be > 0, got {perplexity_now} and {perplexity_base}")
    return math.log(perplexity_now) - math.log(perplexity_base)


class Stability:
    """Keeps the base's perplexity, which the adapted model's is compared with."""

    def __init__(self) -> None:
        self.base: float | None = None

    def measure(self, token_losses: Tensor, base_losses: Callable[[], Tensor], kl: float) -> dict[str, float]:
        """`perplexity`, `kl` and `perplexity_drift` of one measurement on the anchors.

        `base_losses`: those of the base alone on the same tokens, asked for once.
        """
        now = perplexity(token_losses)
        if self.base is None:
            self.base = perplexity(base_losses())
        return {"perplexity": now, "kl": kl, "perplexity_drift": log_drift(now, self.base)}

    def state_dict(self) -> dict[str, Any]:
        """The base's perplexity, or None."""
        return {"base": self.base}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Becomes what `state_dict` gave."""
        base = state.get("base")  # None = not measured yet
        self.base = None if base is None else float(base)
