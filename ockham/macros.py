"""Macros: one knob for several values of the rack, as straight lines between two end points.

| value | λ_ockham | surprise_threshold | consolidate_interval |   | value | surprise_threshold | target_update_rate |
| --- | --- | --- | --- | --- | --- | --- | --- |
| plasticity 0, most stable | 0.1 | 3.0 | 1000 |   | accuracy 0, sparsest | 5.0 | 0.2 |
| plasticity 1, most plastic | 0.001 | 0.5 | 100 |   | accuracy 1, most accurate | 0.1 | 1.0 |

Both set surprise_threshold; `ockham.configuration.bundles` refuses two that differ.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from .errors import ConfigError


def stability_plasticity(value: float) -> dict[str, Any]:
    """From most stable (0) to most plastic (1): λ_ockham, surprise_threshold (nats/token), consolidate_interval (iterations).

    λ = 0.1 (1 − v) + 0.001 v; τ = 3.0 (1 − v) + 0.5 v; interval = int(1000 (1 − v) + 100 v). The interval is cut, not rounded,
    as in the source: 0.9 gives 189.

    The interval's end points are the source's, and two readings of them disagree. Consolidation makes the weights the anchor,
    which ends the pull towards the old state; so every 100 iterations lets the weights go furthest, and that is the plastic end,
    as the formula has it. The presets run the other way: the tight one consolidates every 500 iterations, the exploratory one
    every 2000. By their words the formula is the wrong way round at 1.

    Raises ConfigError for a value outside [0, 1]. Source: future_directions.md, section 4.
    """
    check_value("plasticity", value)
    return {
        "lambda_ockham": 0.1 * (1.0 - value) + 0.001 * value,
        "surprise_threshold": 3.0 * (1.0 - value) + 0.5 * value,
        "consolidate_interval": int(1000 * (1.0 - value) + 100 * value),
    }


def sparsity_accuracy(value: float) -> dict[str, Any]:
    """From sparsest (0) to most accurate (1): surprise_threshold (nats/token), target_update_rate (fraction of batches).

    τ = 5.0 (1 − v) + 0.1 v; rate = 0.2 (1 − v) + v. Raises ConfigError for a value outside [0, 1].
    Source: future_directions.md, section 4.
    """
    check_value("accuracy", value)
    return {
        "surprise_threshold": 5.0 * (1.0 - value) + 0.1 * value,
        "target_update_rate": 0.2 * (1.0 - value) + 1.0 * value,
    }


def check_value(name: str, value: float) -> None:
    """Raises ConfigError for a macro's value that is not in [0, 1]."""
    if not 0 <= value <= 1:
        raise ConfigError(f"macro.{name} must be in [0, 1], got {value!r}")


MACROS: Mapping[str, Callable[[float], dict[str, Any]]] = {"plasticity": stability_plasticity, "accuracy": sparsity_accuracy}

# The names of future_directions.md.
set_stability_plasticity = stability_plasticity
set_sparsity_accuracy = sparsity_accuracy
