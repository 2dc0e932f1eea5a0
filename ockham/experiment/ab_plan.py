"""An A/B experiment as it was checked, and its variants in words."""

from __future__ import annotations

import shlex
from dataclasses import dataclass
from pathlib import Path

from ..presets import load_preset
from .stages import Course
from .variants import PRESET, RANDOM, Variant


@dataclass(frozen=True)
class Plan:
    """The experiment, checked."""

    command: str  # as it was typed
    argv: tuple[str, ...]  # the train arguments that all runs share; of a scenario, those of its last stage
    recipe: str  # the line about the recipe, where ab chose it
    variants: tuple[Variant, ...]  # those asked for and ablations, resolved, then the controls
    baseline: str
    seeds: tuple[int, ...]
    folder: Path
    jobs: int
    course: Course | None = None  # a scenario's stages, where there is one
    launcher: tuple[str, ...] = ()  # of Hydra: what chooses and sets the launcher that starts the runs; () = this process does

    def __getitem__(self, name: str) -> Variant:
        return next(variant for variant in self.variants if variant.name == name)

    @property
    def first(self) -> list[Variant]:
        """The variants whose command lines are known beforehand."""
        return [variant for variant in self.variants if variant.config is not None]

    @property
    def last(self) -> list[Variant]:
        """The controls."""
        return [variant for variant in self.variants if variant.config is None]


def described(plan: Plan, variant: Variant) -> str:
    """A variant in words."""
    if variant.kind == RANDOM:
        return f"control of {variant.parent}: the same, but leaves out as many batches or sequences by lot"
    if variant.config is None:
        return f"control of {variant.parent}: {plain_args(plan)[0]}, shortened to the same compute units, its schedule squeezed"
    if variant.parent:
        return f"{variant.parent} without {variant.name.removeprefix(variant.parent + '-')}"
    if variant.kind == PRESET:
        return f"preset {variant.name}: {load_preset(variant.name).description}" if variant.name != "none" else "plain training"
    return f"{variant.kind} {shlex.join(variant.args) or '(the base run itself)'}"


def plain_args(plan: Plan) -> tuple[str, tuple[str, ...]]:
    """Plain training in words, and what it adds to the base: the baseline where it skips nothing, else no rack at all."""
    baseline = plan[plan.baseline]
    return ("plain training", ("--preset=none",)) if baseline.gate else (f"the baseline {baseline.name}", baseline.args)
