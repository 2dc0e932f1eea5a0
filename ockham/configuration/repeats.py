"""A value that a sweep lists twice: it would be the same run twice over."""

from __future__ import annotations

from collections.abc import Sequence

from .grammar import parse_override


def without_repeats(overrides: Sequence[str]) -> tuple[list[str], list[str]]:
    """The overrides with every listed value once, in order; and a line for each list that was shortened."""
    found = [shortened(text) for text in overrides]
    return [text for text, _ in found], [note for _, note in found if note]


def shortened(text: str) -> tuple[str, str]:
    """An override without repeats in its list, and the line that says so; itself and '' where there are none."""
    from hydra.core.override_parser.types import ChoiceSweep

    override = parse_override(text)
    sweep = override.value()
    if not isinstance(sweep, ChoiceSweep) or sweep.shuffle or sweep.tags:
        return text, ""
    listed = list(override.sweep_string_iterator())
    unique = list(dict.fromkeys(listed))
    if len(unique) == len(listed):
        return text, ""
    key = text.partition("=")[0]
    twice = ", ".join(value for value in unique if listed.count(value) > 1)
    return f"{key}=choice({','.join(unique)})", f"{text.lstrip('+')}: {twice} is listed more than once, and runs once"
