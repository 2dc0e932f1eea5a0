"""Plasticity: how quickly the model takes in what it is told, from the losses of its updates."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from statistics import fmean
from typing import Any


def recent_average(losses: Sequence[float], window: int) -> float | None:
    """Mean of the last `window` losses, nats/token; lower = better adapted; None before the first."""
    return fmean(losses[-window:]) if losses else None


def improvement(losses: Sequence[float], window: int) -> float | None:
    """(old − new) / old: new = mean of the last `window` losses, old = mean of the `window` before them; positive = improving.

    Dimensionless, ≤ 1. None before there are 2 · window losses, or where old is 0.
    """
    if len(losses) < 2 * window:
        return None
    old, new = fmean(losses[-2 * window : -window]), fmean(losses[-window:])
    return (old - new) / old if old > 0 else None


def adaptation_speed(losses: Sequence[float], window: int) -> float | None:
    """−d loss / d update, the negated slope of the least-squares line through the last `window` losses; higher = faster.

    Nats/token an update. None before there are two losses.
    """
    values = losses[-window:]
    if len(values) < 2:
        return None
    middle, mean = (len(values) - 1) / 2, fmean(values)
    covariance = sum((step - middle) * (loss - mean) for step, loss in enumerate(values))
    return -covariance / sum((step - middle) ** 2 for step in range(len(values)))


class Plasticity:
    """Keeps the newest 2 · window losses; one loss an update."""

    def __init__(self, window: int) -> None:
        self.window = window
        self.losses: list[float] = []

    def measure(self, losses: Sequence[float]) -> dict[str, float]:
        """Takes in the losses of a turn's updates; `recent_loss`, `improvement`, `adaptation_speed`, as far as they exist."""
        self.losses = [*self.losses, *map(float, losses)][-2 * self.window :]
        found = {
            "recent_loss": recent_average(self.losses, self.window),
            "improvement": improvement(self.losses, self.window),
            "adaptation_speed": adaptation_speed(self.losses, self.window),
        }
        return {name: value for name, value in found.items() if value is not None}

    def state_dict(self) -> dict[str, Any]:
        """The losses."""
        return {"losses": list(self.losses)}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Becomes what `state_dict` gave; losses that are too many for the window go."""
        self.losses = [float(loss) for loss in state["losses"]][-2 * self.window :]
