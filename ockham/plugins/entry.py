"""Plugins of other packages: entry points of the group `ockham.plugins`, loaded when a preset names one, and not before."""

from __future__ import annotations

from importlib.metadata import EntryPoint, entry_points

from ..errors import PresetError
from .base import OccamPlugin

GROUP = "ockham.plugins"


def entry_names() -> list[str]:
    """What installed packages offer, without loading any of it."""
    return sorted({point.name for point in entry_points(group=GROUP)})


def distribution_of(name: str) -> str | None:
    """'package version' that offers the plugin type, or None."""
    point = _entry_point(name)
    return None if point is None else _distribution(point)


def plugin_from_entry_point(name: str) -> type[OccamPlugin] | None:
    """The class that an installed package offers under this name; None where none does. Importing it runs its code.

    Raises PresetError naming the package: two packages offer the name, the class cannot be loaded, or it is no plugin.
    """
    point = _entry_point(name)
    if point is None:
        return None
    source = f"{_distribution(point)} ({point.value})"
    try:
        found = point.load()
    except Exception as error:  # the package's own code: anything may go wrong
        raise PresetError(f"plugin type {name!r} of {source} cannot be loaded: {type(error).__name__}: {error}") from error
    if not (isinstance(found, type) and issubclass(found, OccamPlugin)):
        raise PresetError(f"plugin type {name!r} of {source} must be a class derived from OccamPlugin, got {found!r}")
    return found


def _entry_point(name: str) -> EntryPoint | None:
    """The one entry point of this name. Raises PresetError when several packages have it."""
    found = {point.value + _distribution(point): point for point in entry_points(group=GROUP, name=name)}
    if len(found) > 1:
        sources = " and ".join(sorted(_distribution(point) for point in found.values()))
        raise PresetError(f"plugin type {name!r} is offered by {sources}; uninstall one of them")
    return next(iter(found.values()), None)


def _distribution(point: EntryPoint) -> str:
    return f"{point.dist.name} {point.dist.version}" if point.dist else "an unknown package"
