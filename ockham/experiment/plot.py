"""A journal's columns and plugin metrics as one SVG, a panel each."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from .. import journal
from ..errors import ConfigError, nearest
from .report import Record, as_number, svg

DEFAULT = ("task_loss", "val_loss", "update_rate", "learning_rate", "drift")
EVALUATED = ("train_loss", "val_loss")  # measured at evaluations only
PANEL = 1.6  # inches
X = {"iterations": "iter", "units": "units"}
X_LABEL = {"iterations": "iteration", "units": "compute units"}
SMOOTHED = {"updated": 200}  # yes or no: drawn as a trailing mean


def fields_of(run: Path) -> list[str]:
    """What a journal has to draw: the numbers of its steps, its plugins' metrics and its evaluations' losses.

    Raises WorldError where there is no journal, or no step in it.
    """
    journal.check_begun(run)
    found: dict[str, None] = {}
    for event in journal.read(run / "journal.jsonl"):
        if event["event"] == "step":
            found.update(dict.fromkeys(name for name, value in {**event, **event["metrics"]}.items() if is_drawn(name, value)))
        elif event["event"] == "eval":
            found.update(dict.fromkeys(EVALUATED))
    return [*sorted(name for name in found if name not in X.values()), "units"]


def is_drawn(name: str, value: Any) -> bool:
    """Whether a step's value is a number, also one that JSON cannot hold."""
    return name != "v" and (isinstance(value, (int, float)) or value in journal.NONFINITE)


def plot(run: Path, names: Sequence[str] | None = None, x: str = "iterations") -> str:
    """The fields as an SVG, one below the other, over iterations or compute units; without names those of DEFAULT that are there.

    Raises ConfigError naming the nearest field, WorldError where there is no journal.
    """
    there = fields_of(run)
    names = [name for name in DEFAULT if name in there] if names is None else names
    for name in names:
        if name not in there:
            raise ConfigError(f"--fields: {run} has no {name!r}{nearest(name, there)}; --fields help lists what it has")
    columns = dict.fromkeys(("iter", "units", *(name for name in names if name not in EVALUATED)))
    record = Record(run, tuple(columns))

    def draw(axes: Any) -> None:
        figure = axes.figure
        axes.remove()
        panels = figure.subplots(len(names), 1, sharex=True, squeeze=False)[:, 0]
        for panel, name in zip(panels, names, strict=True):
            draw_field(record, name, X[x], panel)
        panels[-1].set_xlabel(X_LABEL[x])

    return svg(draw, height=0.6 + PANEL * len(names))


def draw_field(record: Record, name: str, x: str, axes: Any) -> None:
    """One field, as a curve or, where it is an evaluation's, as dots."""
    if name in EVALUATED:
        at = np.array([float(event["iter"]) for event in record.evals])
        axes.plot(position(record, at, x), [as_number(event[name]) for event in record.evals], "o-", ms=3)
    else:
        window = SMOOTHED.get(name, 1)
        axes.plot(record.curve(x)[1], record.curve(name, window)[1], lw=1)
        name += f"\n(mean of {window})" if window > 1 else ""
    axes.set_ylabel(name, fontsize=8)


def position(record: Record, iterations: np.ndarray, x: str) -> np.ndarray:
    """Where evaluations lie on the x axis: in units, what had been spent before that iteration began."""
    if x == "iter":
        return iterations
    spent = np.concatenate([[0.0], record.columns["units"]])  # spent[k]: before step k's successor
    return spent[np.searchsorted(record.columns["iter"], iterations)]
