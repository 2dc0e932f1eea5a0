"""What a plugin is worth in a recorded run: the same batches with it muted, or with it alone, against the run as it was."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..errors import ConfigError, WorldError, nearest
from ..files import write_text
from .jobs import read_json, run_job
from .replay import Recording, Run, compare, repeat

AS_IT_WAS, EMPTY = "as it was", "empty rack"
FIGURES = {"val_loss": "+.4f", "update_rate": "+.3f", "drift": "+.4f", "compute_units": "+,.0f"}
IN_SUMMARY = {"drift": "complexity_cost"}  # where summary.json has another name


@dataclass(frozen=True)
class Variant:
    """The run with other switches. `against`: the row that its marginal effect is measured from; muting counts backwards."""

    name: str
    switches: Mapping[str, bool]
    against: str | None = None
    is_mute: bool = False


@dataclass(frozen=True)
class VariantFigures:
    """One variant's figures; `effect` is what the plugins named in it do to each figure, None where that is not defined."""

    name: str
    figures: Mapping[str, float | None]  # val_loss in nats/token on the full val split, update_rate, drift, compute_units
    effect: Mapping[str, float] | None = None
    error: str | None = None


def known(recording: Recording, names: Sequence[str]) -> list[str]:
    """The names, each once. Raises ConfigError for a plugin that the run's rack does not have."""
    rack = recording.rack
    for name in names:
        if name not in rack:
            has = f"it has {', '.join(rack)}" if rack else "it is empty"
            raise ConfigError(f"the rack of {recording.run} has no plugin {name!r}{nearest(name, rack)}; {has}")
    return list(dict.fromkeys(names))


def without(recording: Recording, names: Sequence[str]) -> Variant:
    """The run with some plugins muted. Raises ConfigError for one that was off anyway."""
    names = known(recording, names)
    for name in names:
        if not recording.rack[name]:
            raise ConfigError(f"{name} was off in {recording.run} already: muting it changes nothing")
    return Variant(f"without {', '.join(names)}", dict.fromkeys(names, False), AS_IT_WAS, is_mute=True)


def only(recording: Recording, names: Sequence[str]) -> Variant:
    """The run with some plugins alone."""
    names = known(recording, names)
    return Variant(f"only {', '.join(names)}", {name: name in names for name in recording.rack}, EMPTY)


def as_it_was() -> Variant:
    """The replay proper."""
    return Variant(AS_IT_WAS, {})


def empty(recording: Recording) -> Variant:
    """The run with all plugins off; λ stays, so an anchor in force still pulls."""
    return Variant(EMPTY, dict.fromkeys(recording.rack, False))


def each(recording: Recording) -> list[Variant]:
    """Every plugin that was on, muted and alone, between the run as it was and an empty rack. Raises ConfigError without any."""
    on = [name for name, is_on in recording.rack.items() if is_on]
    if not on:
        raise ConfigError(f"the rack of {recording.run} is empty or all off: there is no plugin to mute")
    pairs = [make(recording, [name]) for name in on for make in (without, only)]
    return [as_it_was(), *pairs, empty(recording)]


def run_variants(
    recording: Recording,
    variants: Sequence[Variant],
    folder: Path,
    keep: bool,
    known_row: VariantFigures | None = None,
    run: Run = run_job,
) -> list[VariantFigures]:
    """Every variant as a job of its own, one after the other; a failed one has an error and no figures.

    `known_row` stands for the run as it was, which then is not run again.
    """
    rows: dict[str, VariantFigures] = {known_row.name: known_row} if known_row else {}
    for variant in [v for v in variants if v.name not in rows]:
        print(f"{variant.name}: {recording.iterations} iterations …", flush=True)
        work = folder / variant.name.replace(", ", ",").replace(" ", "_")
        outcome = repeat(recording, work, variant.switches, run)
        rows[variant.name] = VariantFigures(
            variant.name, figures_of(outcome.summary), error=(outcome.error or outcome.status) if outcome.exit_code else None
        )
        if variant.name == AS_IT_WAS and not outcome.exit_code:
            print(compare(recording, work).text, flush=True)
        if not keep:
            shutil.rmtree(work, ignore_errors=True)  # a checkpoint of each would fill the disk
    return [with_effect(rows[variant.name], variant, rows) for variant in variants]


def figures_of(summary: Mapping[str, Any]) -> dict[str, float | None]:
    """A summary.json's figures under the table's names."""
    return {name: summary.get(IN_SUMMARY.get(name, name)) for name in FIGURES}


def with_effect(row: VariantFigures, variant: Variant, rows: Mapping[str, VariantFigures]) -> VariantFigures:
    """The row with its marginal effect: of what is muted, the run as it was − the run without; of what is alone, it − empty."""
    base = rows.get(variant.against or "")
    if base is None or row.error or base.error:
        return row
    effect = {}
    for name, mine in row.figures.items():
        its = base.figures[name]
        if mine is not None and its is not None:
            effect[name] = its - mine if variant.is_mute else mine - its
    return VariantFigures(row.name, row.figures, effect)


def recorded(recording: Recording) -> VariantFigures | None:
    """The run as it was, from its own summary.json; None where it has no final val loss at its last state."""
    summary = read_json(recording.run / "summary.json")
    is_whole = summary.get("iters") == recording.iterations and summary.get("val_loss") is not None
    return VariantFigures(AS_IT_WAS, figures_of(summary)) if is_whole else None


# --------------------------------------------------------------------------------------------------------- for the screen


def table(rows: Sequence[VariantFigures]) -> str:
    """The rows as a Markdown table, each figure with its marginal effect in brackets."""
    labels = ("run", "val loss", "update rate", "drift", "compute units")
    body = [[row.name, *(cell(row, name, spec) for name, spec in FIGURES.items())] for row in rows]
    widths = [max(map(len, column)) for column in zip(labels, *body, strict=True)]
    lines = [labels, ["-" * widths[0], *("-" * (w - 1) + ":" for w in widths[1:])], *body]
    return "\n".join(f"| {' | '.join(text.ljust(w) for text, w in zip(line, widths, strict=True))} |".rstrip() for line in lines)


def cell(row: VariantFigures, name: str, spec: str) -> str:
    """'2.5012 (-0.0031)', an effect of exactly nothing as (0); the error in the first column of a failed run."""
    if row.error:
        return row.error if name == "val_loss" else ""
    value = row.figures[name]
    if value is None:
        return "n/a"
    shown = f"{value:{spec.removeprefix('+')}}"
    if row.effect is None or name not in row.effect:
        return shown
    return f"{shown} ({row.effect[name]:{spec}})" if row.effect[name] else f"{shown} (0)"


NOTE = """val loss in nats/token on the full val split; in brackets what the plugin does: for 'without X' the run as it was minus
the run without it, for 'only X' the run with it alone minus the empty rack. One run's batches and one seed: no verdict."""


def as_json(recording: Recording, rows: Sequence[VariantFigures], path: Path) -> None:
    """The table as JSON. Raises WorldError where `path` cannot be written; what took so long to find is then printed."""
    body = [{"run": r.name, **r.figures, "effect": r.effect, "error": r.error} for r in rows]
    head = {"v": 1, "run": str(recording.run), "iterations": recording.iterations, "seed": recording.config.get("seed")}
    text = json.dumps({**head, "rows": body}, indent=2) + "\n"
    try:
        write_text(path, text)
    except OSError as error:
        print(text, end="")
        raise WorldError(f"--json {path} cannot be written: {error.strerror}; it was printed instead") from error
