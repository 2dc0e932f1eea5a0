"""Metrics of the user's own: classes with `compute(model, tokenizer, prompts) -> float`, as module:class in metrics.custom."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from ...errors import ConfigError
from ..extension import load

KEY = "metrics.custom"


class CustomMetrics:
    """The metrics by the name of their class, made once, without arguments.

    Raises ConfigError, at once and with the fix, for one that cannot be loaded or made, that has no `compute`, or whose name is
    taken.
    """

    def __init__(self, specs: Sequence[str]) -> None:
        self.metrics: dict[str, Any] = {}
        for index, spec in enumerate(specs):
            made = _made(spec, f"{KEY}[{index}]")
            name = type(made).__name__
            if name in self.metrics:
                raise ConfigError(f"{KEY}[{index}]: two metrics are called {name!r}; rename one of the classes")
            self.metrics[name] = made

    def measure(self, model: Any, tokenizer: Any, prompts: Sequence[str]) -> tuple[dict[str, float], dict[str, str]]:
        """Each metric's value, and for each that failed, by name, what went wrong. No error of a metric ends the turn."""
        values: dict[str, float] = {}
        errors: dict[str, str] = {}
        for name, metric in self.metrics.items():
            try:
                value = float(metric.compute(model, tokenizer, list(prompts)))
            except Exception as error:  # the metric is the user's: whatever it raises is reported, and the chat goes on
                errors[name] = f"{type(error).__name__}: {error}"
                continue
            if math.isfinite(value):
                values[name] = value
            else:
                errors[name] = f"gave {value}, which is not a finite number"
        return values, errors


def _made(spec: str, key: str) -> Any:
    found = load(spec, key)
    try:
        made = found()
    except Exception as error:  # whatever the constructor raises, it is this key that has to be put right
        problem = f"{spec!r} cannot be made without arguments ({type(error).__name__}: {error})"
        raise ConfigError(f"{key}: {problem}; give its constructor defaults") from error
    if not callable(getattr(made, "compute", None)):
        raise ConfigError(f"{key}: {spec!r} has no method compute(model, tokenizer, prompts); add one that returns a number")
    return made
