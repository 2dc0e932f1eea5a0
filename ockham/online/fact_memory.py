"""What was learned: the facts, how often and when they were told, and which of them are trained again."""

from __future__ import annotations

import math
import random
from collections.abc import Collection, Iterable, Mapping
from dataclasses import asdict, dataclass, field, replace
from typing import Any

from ..errors import CheckpointError, ConfigError
from .config import FactMemorySettings
from .fact_importance import first_to_go, importance
from .fact_matching import FUNCTIONAL, folded, folded_relation, property_of
from .fact_matching import functional_relations as functional_relations
from .facts import FactInfo


@dataclass(frozen=True, kw_only=True)
class StoredFact:
    """One fact: what a subject's relation is now, in the words it was first told in, and what it was before.

    `superseded` has its earlier values, oldest first: value, fact_text, first_seen, last_seen, turns_seen of each.
    `importance` is that of the memory's latest turn.
    """

    id: str
    fact_text: str
    entities: tuple[str, ...] = ()
    relation: str = ""
    subject: str = ""
    particle: str = ""
    value: str = ""
    confidence: float = 0.0
    pattern: str = ""
    turns_seen: int = 1
    first_seen: int = 0
    last_seen: int = 0
    importance: float = 0.0
    superseded: tuple[Mapping[str, Any], ...] = field(default=())
    holds: tuple[str, ...] = ()  # of what, which property, what it is, where only one can be; see `property_of`

    @property
    def number(self) -> int:
        """The 3 of 'f3'."""
        return int(self.id[1:])


class FactMemory:
    """The facts by id, 'f1', 'f2', … in the order in which they were told; an id is never given twice.

    `functional` names relations that hold one value at a time (`functional_relations` takes them from the patterns); a fact whose
    pattern is exclusive is of such a relation, too. Another value for the same subject is then a contradiction and supersedes the
    old one, under the same id. For every other relation it is one more fact: "Tom likes tea" and "Tom likes cake" are both kept.
    With `enabled` off nothing is replayed; the facts are still kept, since /facts, /why and /forget need them.
    """

    def __init__(self, settings: FactMemorySettings, functional: Collection[str] = FUNCTIONAL) -> None:
        self.settings = settings
        self.functional = frozenset(folded_relation(name) for name in functional)
        self.turn = 0
        self._next = 1
        self._facts: dict[str, StoredFact] = {}

    def __len__(self) -> int:
        return len(self._facts)

    @property
    def facts(self) -> list[StoredFact]:
        """All facts, in the order in which they came."""
        return list(self._facts.values())

    def get(self, id: str) -> StoredFact:
        """The fact of this id. Raises ConfigError where there is none."""
        if id not in self._facts:
            raise ConfigError(f"there is no fact {id!r}; known: {', '.join(self._facts) or 'none'}")
        return self._facts[id]

    @property
    def next_id(self) -> str:
        """What the next new fact is called."""
        return f"f{self._next}"

    # what is told

    def store(self, text: str, info: FactInfo, turn: int, id: str | None = None) -> StoredFact:
        """Keeps what was told at `turn`, and gives the fact as it now stands.

        Known already (`same`): turns_seen + 1 and last_seen = turn; it keeps its first wording. A contradiction (`contradicted`):
        the new value takes the fact over, the old one goes to `superseded`, and the count begins anew. Else: a new fact, under
        `id` where one is given (a log that is folded again keeps its ids), and over max_facts another one is evicted. Which ones
        went is what `facts` no longer has.
        """
        self.advance(turn)
        known, old = self.same(text, info), self.contradicted(info)
        if known:
            fact = replace(known, turns_seen=known.turns_seen + 1, last_seen=turn)
        elif old:
            fact = replace(self._told(old.id, text, info, turn), superseded=(*old.superseded, _history(old)))
        else:
            fact = self._told(id or self.next_id, text, info, turn)
            self.reserve(fact.id)
        self._facts[fact.id] = fact
        self.advance(turn, keep=fact.id)
        return self._facts[fact.id]

    def same(self, text: str, info: FactInfo) -> StoredFact | None:
        """The fact that says this: by its words, by subject, relation and value, or as the same property in other words.

        Case, marks and spaces do not count.
        """
        words, slot, said, holds = folded(text), _slot(info), _said(info), property_of(info)
        for fact in self._facts.values():
            if holds and fact.holds == holds:
                return fact
            if folded(fact.fact_text) == words or (all(slot) and (slot, said) == (_slot(fact), _said(fact))):
                return fact
        return None

    def contradicted(self, info: FactInfo) -> StoredFact | None:
        """The fact that cannot stay true beside this one: same subject, same functional relation, another value; or the same
        property of something in another wording, such as Zorland's capital and the capital of Zorland.
        """
        if holds := property_of(info):
            for fact in self._facts.values():
                if fact.holds[:2] == holds[:2] and fact.holds != holds:
                    return fact
        if not (info.exclusive or folded_relation(info.relation) in self.functional):
            return None
        return next((fact for fact in self.find(info.subject, info.relation) if _said(fact) != _said(info)), None)

    def find(self, subject: str, relation: str) -> list[StoredFact]:
        """The facts about a subject's relation, in the order in which they came; none for an empty subject."""
        slot = (folded(subject), folded_relation(relation))
        return [fact for fact in self._facts.values() if slot[0] and _slot(fact) == slot]

    def reserve(self, id: str) -> None:
        """No new fact gets this id, nor one with a smaller number."""
        if not (id[:1] == "f" and id[1:].isdecimal()):
            raise ConfigError(f"a fact's id is f and a number, got {id!r}")
        self._next = max(self._next, int(id[1:]) + 1)

    def remove(self, id: str) -> StoredFact:
        """Takes a fact and its history out; nothing of it stays here but that its id is not given again."""
        fact = self.get(id)
        del self._facts[id]
        return fact

    # what time does

    def advance(self, turn: int, keep: str | None = None) -> list[StoredFact]:
        """Lets time pass until `turn`: importance anew; over max_facts one after another goes, and so do decayed facts
        where decay.removes.

        `keep` stays. Returns the facts that went. The result depends on the turn alone, not on how often it is called.
        """
        self.turn = max(self.turn, turn)
        for fact in self.facts:
            self._facts[fact.id] = replace(fact, importance=importance(fact, self.turn, self.settings))
        gone = [f for f in self.facts if self.settings.decay.removes and f.id != keep and not self.is_alive(f)]
        for fact in gone:
            del self._facts[fact.id]
        while len(self) > self.settings.max_facts:
            last = first_to_go([f for f in self.facts if f.id != keep], self.turn, self.settings)
            gone.append(self.remove(f"f{last.number}"))
        return gone

    def is_alive(self, fact: StoredFact) -> bool:
        """Whether it is still replayed: its importance has not decayed below decay.threshold."""
        return not self.settings.decay.enabled or fact.importance >= self.settings.decay.threshold

    def relative_importance(self, fact: StoredFact) -> float:
        """importance / max_importance, in [0, 1]: what the law of λ takes."""
        return fact.importance / self.settings.importance_scoring.max_importance

    # what is trained again

    def should_replay(self, current_turn: int) -> bool:
        """True at every replay_interval-th turn, when there is something to replay. Lets time pass until then (`advance`)."""
        self.advance(current_turn)
        is_due = current_turn > 0 and current_turn % self.settings.replay_interval == 0
        return self.settings.enabled and is_due and any(map(self.is_alive, self.facts))

    def get_facts_for_replay(self, limit: int | None = None) -> list[StoredFact]:
        """At most `limit` (replay_limit) facts that are alive: most important first, then latest seen, then smaller id."""
        if not self.settings.enabled:
            return []
        order = sorted(filter(self.is_alive, self.facts), key=lambda f: (-f.importance, -f.last_seen, f.number))
        return order[: self.settings.replay_limit if limit is None else max(0, limit)]

    def sample(self, n: int, rng: random.Random, exclude: Iterable[str] = ()) -> list[StoredFact]:
        """At most n facts that are alive, drawn without replacement, each draw in proportion to importance.

        Order by ln(u) / importance with u uniform in (0, 1], largest first. One u is drawn for each candidate, so the draws
        depend on `rng` and the memory alone. Source: Efraimidis and Spirakis 2006, Information Processing Letters 97(5).
        """
        left_out = set(exclude)
        candidates = [f for f in self.facts if self.settings.enabled and self.is_alive(f) and f.id not in left_out]
        keys = {f.id: math.log(1.0 - rng.random()) / f.importance if f.importance > 0 else -math.inf for f in candidates}
        return sorted(candidates, key=lambda f: (-keys[f.id], f.number))[: max(0, n)]

    # the state

    def state_dict(self) -> dict[str, Any]:
        """All of it in JSON's own types."""
        facts = [asdict(f) | {"entities": list(f.entities), "superseded": [dict(s) for s in f.superseded], "holds": list(f.holds)}
                 for f in self.facts]  # fmt: skip
        return {"turn": self.turn, "next": self._next, "facts": facts}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Becomes what `state_dict` gave. Importance is worked out anew, by the settings of now. Raises CheckpointError."""
        try:
            facts = {told["id"]: _stored(told) for told in state["facts"]}
            turn, following = int(state["turn"]), int(state["next"])
            following = max(following, *(f.number + 1 for f in facts.values()), 1)
        except (KeyError, TypeError, ValueError) as e:
            problem = f"{type(e).__name__}: {e}"
            raise CheckpointError(f"the fact memory in this state is broken ({problem}); restore an older one") from e
        self.turn, self._next = turn, following
        self._facts = {id: replace(f, importance=importance(f, turn, self.settings)) for id, f in facts.items()}

    def _told(self, id: str, text: str, info: FactInfo, turn: int) -> StoredFact:
        return StoredFact(id=id, fact_text=text, entities=tuple(info.entities), relation=info.relation, subject=info.subject,
                          particle=info.particle, value=info.value, holds=property_of(info) or (),
                          confidence=info.confidence, pattern=info.pattern,
                          first_seen=turn, last_seen=turn)  # fmt: skip


def _slot(fact: StoredFact | FactInfo) -> tuple[str, str]:
    """What it says something of."""
    return folded(fact.subject), folded_relation(fact.relation)


def _said(fact: StoredFact | FactInfo) -> tuple[str, str]:
    """What it says: afraid of dogs and fond of dogs are two things."""
    return folded(fact.particle), folded(fact.value)


def _stored(told: Mapping[str, Any]) -> StoredFact:
    """A fact from JSON's own types."""
    return StoredFact(
        **{
            **told,
            "entities": tuple(told["entities"]),
            "superseded": tuple(dict(old) for old in told["superseded"]),
            "holds": tuple(told.get("holds", ())),
        }
    )


def _history(old: StoredFact) -> dict[str, Any]:
    """What stays of a value that was superseded."""
    return {name: getattr(old, name) for name in ("value", "fact_text", "first_seen", "last_seen", "turns_seen")}
