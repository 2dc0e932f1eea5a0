"""What a stored fact is worth, and which one goes first when the memory is full: pure functions of the fact and the turn."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol

from .config import Decay, FactMemorySettings, ImportanceScoring


class Seen(Protocol):
    """What the laws need to know of a fact; turns are the chat's, counted from 0."""

    @property
    def number(self) -> int: ...

    @property
    def turns_seen(self) -> int: ...

    @property
    def first_seen(self) -> int: ...

    @property
    def last_seen(self) -> int: ...


def repetition(fact: Seen, turn: int, scoring: ImportanceScoring) -> float:
    """repetition_weight · (turns_seen − 1): nothing for a fact told once."""
    return scoring.repetition_weight * (fact.turns_seen - 1)


def recency(fact: Seen, turn: int, scoring: ImportanceScoring) -> float:
    """recency_weight · max(0, 1 − age / recency_turns), with age = turn − last_seen."""
    return scoring.recency_weight * max(0.0, 1.0 - _age(fact, turn) / scoring.recency_turns)


def hybrid(fact: Seen, turn: int, scoring: ImportanceScoring) -> float:
    """The parts of repetition and recency, added."""
    return repetition(fact, turn, scoring) + recency(fact, turn, scoring)


METHODS: dict[str, Callable[[Seen, int, ImportanceScoring], float]] = {
    "repetition": repetition,
    "recency": recency,
    "hybrid": hybrid,
}


def kept_share(fact: Seen, turn: int, decay: Decay) -> float:
    """(1 − rate) ^ (turns past the first `decay.turns` turns in which it was not seen); 1 before that, or without decay."""
    late = max(0, _age(fact, turn) - decay.turns)
    return (1.0 - decay.rate) ** late if decay.enabled else 1.0


def importance(fact: Seen, turn: int, settings: FactMemorySettings) -> float:
    """min(max_importance, base_importance + the method's part) · kept_share, at `turn`.

    Dimensionless, in [0, max_importance]. It depends on how often and when the fact was told, and on nothing else: how
    often it is asked for changes nothing.
    """
    scoring = settings.importance_scoring
    raw = scoring.base_importance + METHODS[scoring.method](fact, turn, scoring)
    return min(scoring.max_importance, raw) * kept_share(fact, turn, settings.decay)


def first_to_go(facts: Sequence[Seen], turn: int, settings: FactMemorySettings) -> Seen:
    """The fact that the eviction policy gives up; ties go to the smaller number of the id.

    fifo: the smallest first_seen. lru: the smallest last_seen. importance: the smallest importance, ties by last_seen.
    hybrid: every fact has a place in the order of lru and one in the order of importance (0 = first to go; equal values share a
    place); the smallest sum of both places goes, ties by last_seen. Places, not values, are added: turns and importance have no
    common unit.
    """

    def worth(fact: Seen) -> float:
        return importance(fact, turn, settings)

    def place(fact: Seen, law: Callable[[Seen], float]) -> int:
        return sum(law(other) < law(fact) for other in facts)

    laws: dict[str, Callable[[Seen], tuple[float, ...]]] = {
        "fifo": lambda fact: (fact.first_seen,),
        "lru": lambda fact: (fact.last_seen,),
        "importance": lambda fact: (worth(fact), fact.last_seen),
        "hybrid": lambda fact: (place(fact, lambda f: f.last_seen) + place(fact, worth), fact.last_seen),
    }
    return min(facts, key=lambda fact: (*laws[settings.eviction_policy](fact), fact.number))


def _age(fact: Seen, turn: int) -> int:
    return max(0, turn - fact.last_seen)
