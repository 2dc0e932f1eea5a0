"""All metrics of a chat in one place: a row of figures a turn, and a summary over all turns."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from torch import Tensor

from ...errors import CheckpointError
from ..config import MetricsSettings
from .custom import CustomMetrics
from .forgetting import Forgetting
from .plasticity import Plasticity
from .stability import Stability


@dataclass(frozen=True, kw_only=True)
class Probe:
    """One measurement of the model: what the metrics are worked out from.

    `token_losses`: nats, of the base's replies to the anchor prompts; `base_losses` gives those of the base alone, and is asked
    for once in a chat. `kl`: nats/token, on the same tokens. `facts`: performance by id. `model`, `tokenizer`, `prompts`: for
    metrics of the user's own.
    """

    token_losses: Tensor
    base_losses: Callable[[], Tensor]
    kl: float
    facts: Mapping[str, float]
    model: Any = None
    tokenizer: Any = None
    prompts: Sequence[str] = ()


def _mean_prob(token_losses: Tensor) -> float:
    """The mean of the tokens' probabilities: the performance on the anchors."""
    return float((-token_losses).exp().mean())


@dataclass
class Running:
    """Count, mean and spread of a figure without its values. Source: Welford 1962, Technometrics 4(3)."""

    count: int = 0
    mean: float = 0.0
    squares: float = 0.0  # Σ (value − mean)²
    low: float = math.inf
    high: float = -math.inf
    last: float = math.nan

    def add(self, value: float) -> None:
        """Takes a value in."""
        self.count += 1
        step = value - self.mean
        self.mean += step / self.count
        self.squares += step * (value - self.mean)
        self.low, self.high, self.last = min(self.low, value), max(self.high, value), value

    def summary(self) -> dict[str, float]:
        """count, mean, std (of the population), min, max, last."""
        std = math.sqrt(max(0.0, self.squares) / self.count)
        return {"count": self.count, "mean": self.mean, "std": std, "min": self.low, "max": self.high, "last": self.last}


class MetricsTracker:
    """Rows of figures by turn. Plasticity in every turn with an update; the rest where a probe is given: it costs forward passes.

    The newest `keep` rows stay; the summary counts all turns. Figures are numbers without words: nothing of a fact but its id,
    turn and performance is kept, and `clear` takes those away.
    """

    def __init__(self, settings: MetricsSettings) -> None:
        self.settings = settings
        self.stability = Stability()
        self.plasticity = Plasticity(settings.window)
        self.forgetting = Forgetting()
        self.custom = CustomMetrics(settings.custom)
        self.rows: list[dict[str, Any]] = []
        self._running: dict[str, Running] = {}

    def is_due(self, turn: int) -> bool:
        """Whether a probe is due: every `interval`-th turn."""
        return turn > 0 and turn % self.settings.interval == 0

    def learned(self, id: str, turn: int, performance: float) -> None:
        """A fact was just learned, with this performance."""
        self.forgetting.learned(id, turn, performance)

    def clear(self) -> None:
        """Begins anew; what was measured of the base alone stays. A figure that a fact had a part in would confirm it to whoever
        guesses it: he could learn it anew and compare.
        """
        self._running, self.rows = {}, []
        self.plasticity, self.forgetting.baselines = Plasticity(self.settings.window), {}

    def record(
        self, turn: int, losses: Sequence[float] = (), probe: Callable[[], Probe] | None = None, **figures: float
    ) -> dict[str, Any]:
        """The turn's row: `turn`, the figures given, those of its losses, and, where a probe is given, those of the model.

        A metric of the user's own that fails has no figure, and what went wrong is under `errors`, by name, in the row that is
        given back; the row that is kept has no words. A figure that is not finite is left
        out of the summary and is None in the row, so that the row stays JSON.
        """
        found: dict[str, float] = dict(figures)
        errors: dict[str, str] = {}
        if losses:
            found |= self.plasticity.measure(losses)
        if probe is not None:
            seen = probe()
            base_losses = functools.cache(seen.base_losses)
            found |= self.stability.measure(seen.token_losses, base_losses, seen.kl)
            found |= self.forgetting.measure(turn, seen.facts, _mean_prob(seen.token_losses), lambda: _mean_prob(base_losses()))
            own, errors = self.custom.measure(seen.model, seen.tokenizer, seen.prompts)
            found |= own
        row: dict[str, Any] = {"turn": turn, **{name: v if math.isfinite(v) else None for name, v in found.items()}}
        for name, value in row.items():
            if name != "turn" and value is not None:
                self._running.setdefault(name, Running()).add(float(value))
        self.rows = [*self.rows, row][-self.settings.keep :]
        return row | {"errors": errors} if errors else row

    def summary(self) -> dict[str, dict[str, float]]:
        """Of each figure over all turns: count, mean, std, min, max, last."""
        return {name: running.summary() for name, running in self._running.items()}

    def state_dict(self) -> dict[str, Any]:
        """All of it in JSON's own types."""
        parts = {name: getattr(self, name).state_dict() for name in ("stability", "plasticity", "forgetting")}
        return {**parts, "rows": list(self.rows), "running": {name: asdict(r) for name, r in self._running.items()}}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Becomes what `state_dict` gave. Raises CheckpointError."""
        parts: dict[str, Any] = {
            "stability": Stability(),
            "plasticity": Plasticity(self.settings.window),
            "forgetting": Forgetting(),
        }
        try:
            for name, part in parts.items():
                part.load_state_dict(state[name])
            running = {name: Running(**values) for name, values in state["running"].items()}
            rows = [dict(row) for row in state["rows"]][-self.settings.keep :]
        except (KeyError, TypeError, ValueError, IndexError) as e:
            problem = f"{type(e).__name__}: {e}"
            raise CheckpointError(f"the metrics in this state are broken ({problem}); restore an older one") from e
        vars(self).update(parts)
        self._running, self.rows = running, rows
