"""The states that /undo can go back to, in memory, for a trainer without a folder; the law of undoing.py."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from torch import Tensor

from ..errors import ConfigError
from .config import CheckpointSettings
from .undoing import is_snapshot_due


@dataclass(frozen=True)
class Place:
    """Adapter and knowledge before a learned message."""

    turn: int
    adapter: Mapping[str, Tensor]
    state: Mapping[str, Any]


def what_went(before: Mapping[str, Mapping[str, Any]], after: Mapping[str, Mapping[str, Any]]) -> str:
    """What going back did to the facts, in words; records by id, before and after it."""
    gone = [id for id in before if id not in after]
    named = " and ".join(part for part in (", ".join(gone[:-1]), *gone[-1:]) if part)
    found = [f"{named} {'is' if len(gone) == 1 else 'are'} undone"] if gone else []
    changed = [id for id in after if id in before and before[id] != after[id]]
    return "; ".join([*found, *(f"{id} is back to {after[id]['text']!r}" for id in changed)])


class Snapshots:
    """The state before every `interval`-th learned message; the newest `keep` of them."""

    def __init__(self, settings: CheckpointSettings):
        self.settings = settings
        self.places: list[Place] = []
        self.learned: list[int] = []  # turns that learned, those that were undone left out

    def add(self, place: Place) -> None:
        """A message was learned; `place` is from before it."""
        last = self.places[-1].turn if self.places else None
        if is_snapshot_due(last, sum(turn >= (last or 0) for turn in self.learned), self.settings.interval):
            self.places = [*self.places, place][-self.settings.keep :]
        self.learned = [*self.learned, place.turn]

    def back(self) -> Place:
        """The newest, which is used up. Raises ConfigError where there is none."""
        if not self.places:
            raise ConfigError("nothing to undo: no fact was learned since the chat began or since something was forgotten")
        *self.places, place = self.places
        self.learned = [turn for turn in self.learned if turn < place.turn]
        return place

    def clear(self) -> None:
        """Something was forgotten: nothing from before it can come back."""
        self.places, self.learned = [], []

    def reword(self, change: Callable[[Mapping[str, Any]], None]) -> None:
        """Does this to what is known at each place, in copies of them."""
        made = [replace(place, state=copy.deepcopy(place.state)) for place in self.places]
        for place in made:
            change(place.state)
        self.places = made

    def copy(self) -> Snapshots:
        """As they are now; the places themselves never change."""
        made = Snapshots(self.settings)
        made.places, made.learned = self.places, self.learned
        return made
