"""What a chat knows beside the weights, in JSON's types: the facts, what waits, and what changed the adapter, in order."""

from __future__ import annotations

import copy
import random
from collections.abc import Mapping
from typing import Any

from .config import OnlineConfig
from .fact_memory import FactMemory, functional_relations

NOTHING_SPENT = {"facts": 0, "kl": 0.0}


class Knowledge:
    """All that `state_dict` holds. With the adapter it is the whole state: nothing else decides what comes of a message."""

    def __init__(self, config: OnlineConfig):
        self.config = config
        self.reset()

    def reset(self) -> None:
        """To before the first message."""
        self.clock = 0  # messages so far
        self.kl = 0.0  # on the anchor prompts, nats/token, after the last lesson
        self.lessons = 0  # what has changed the adapter, for the random numbers of the next one
        self.events: list[dict[str, Any]] = []  # what changed the adapter, in order: enough to do it again
        self.undone: list[list[int]] = []  # [first, last] turn of what /undo took back: nothing was replayed in between
        self.pending: dict[str, dict[str, Any]] = {}  # facts that wait for /confirm, by id
        self.records: dict[str, dict[str, Any]] = {}  # what /why shows, by id
        self.session: dict[str, Any] = dict(NOTHING_SPENT)  # since the chat was opened
        self.is_measure_due = False  # of the metrics; a message that teaches puts it off
        patterns = [entry for _, entry in self.config.fact_detection.all_patterns()]
        self.memory = FactMemory(self.config.fact_memory, functional_relations(patterns))

    def rng(self) -> random.Random:
        """The random numbers of the next lesson."""
        return random.Random(f"{self.config.model.seed}:{self.lessons}")

    def is_replay_due(self) -> bool:
        """Whether the clock says so; lets time pass for the memory. Turns that were undone have none, the undoing one neither."""
        is_due = self.memory.should_replay(self.clock)
        return is_due and not any(first <= self.clock <= last for first, last in self.undone)

    def next_id(self) -> str:
        """A new id, which is given once."""
        id = self.memory.next_id
        self.memory.reserve(id)
        return id

    def begin_session(self) -> None:
        """The caps count from 0."""
        self.session = dict(NOTHING_SPENT)

    def go_back(self, state: Mapping[str, Any]) -> None:
        """To an earlier state: all but the count of messages, the ids, which are given once, and what only waits."""
        clock, following, pending, spent = self.clock, self.memory.next_id, self.pending, self.session
        self.load_state_dict(state)
        self.undone.append([self.clock + 1, clock + 1])
        self.clock, self.pending = clock, {**self.pending, **pending}
        self.session = {name: min(spent[name], value) for name, value in self.session.items()}
        self.memory.reserve(f"f{int(following[1:]) - 1}")

    def state_dict(self) -> dict[str, Any]:
        """A copy of all of it."""
        names = ("clock", "kl", "lessons", "events", "undone", "pending", "records", "session", "is_measure_due")
        return copy.deepcopy({name: getattr(self, name) for name in names}) | {"memory": self.memory.state_dict()}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Be as at `state_dict`."""
        for name, value in copy.deepcopy({key: value for key, value in state.items() if key != "memory"}).items():
            setattr(self, name, value)
        self.memory.load_state_dict(state["memory"])
