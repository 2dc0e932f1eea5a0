"""The settings of facts: what is detected as one, and how it is remembered."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from ..errors import ConfigError
from ..typed import from_mapping, option
from .config_checks import check_order, check_regexes, compiled

IMPORTANCE = ("repetition", "recency", "hybrid")
EVICTION = ("fifo", "lru", "importance", "hybrid")
EXTRACTION = ("regex", "simple", "spacy")


@dataclass(frozen=True, kw_only=True)
class FactPattern:
    """One kind of statement."""

    name: str = option("", "for /why and error messages", may_be_empty=False)
    pattern: str = option("", "a regular expression, searched without regard to case", may_be_empty=False)
    relation: str = option("", "what it says of its groups", may_be_empty=False)
    min_confidence: float = option(0.7, "what a match is worth before the boosts", low=0, high=1)
    exclusive: bool = option(False, "a subject has one value of it at a time: a new one takes the place of the old one")


@dataclass(frozen=True, kw_only=True)
class EntityExtraction:
    """How entities are found in a statement."""

    method: str = option(
        "regex", "regex: the pattern's groups and names; simple: words with a capital; spacy: its entities", choices=EXTRACTION
    )
    spacy_model: str = option("en_core_web_sm", "for method spacy", may_be_empty=False)


@dataclass(frozen=True, kw_only=True)
class ConfidenceCalculation:
    """confidence = min_confidence + coverage · coverage_boost_factor + entity_boost where entities were found, at most 1."""

    coverage_boost_factor: float = option(0.2, "times the share of the text that the match covers", low=0, high=1)
    entity_boost: float = option(0.1, "where at least one entity was found", low=0, high=1)


@dataclass(frozen=True, kw_only=True)
class FactDetectionSettings:
    """What counts as a fact."""

    enabled: bool = option(True, "without it every message is chat")
    patterns: tuple[Mapping[str, Any], ...] = option((), "name, pattern, relation, min_confidence of each, tried in order")
    more_patterns: tuple[Mapping[str, Any], ...] = option((), "patterns of your own, tried before `patterns`")
    question_indicators: tuple[str, ...] = option((), "regular expressions; a message that one matches is a question")
    ignored: tuple[str, ...] = option((), "regular expressions; a sentence that one matches is no statement: requests, guesses")
    lead_ins: tuple[str, ...] = option((), "regular expressions; what is taken off the start of a sentence: Remember that")
    entity_extraction: EntityExtraction = field(default_factory=EntityExtraction)
    confidence_calculation: ConfidenceCalculation = field(default_factory=ConfidenceCalculation)
    min_confidence: float = option(0.7, "least confidence of a fact", low=0, high=1)

    def __post_init__(self) -> None:
        names: list[str] = []
        for key, entry in self.all_patterns():
            for needed in ("name", "pattern", "relation"):
                if needed not in entry:
                    raise ConfigError(f"{key} needs the key {needed!r}, got {', '.join(entry) or 'nothing'}")
            made = from_mapping(FactPattern, entry, f"{key}.")
            if made.name in names:
                raise ConfigError(f"{key}: two patterns are called {made.name!r}; give one of them another name")
            compiled(made.pattern, f"{key} ({made.name})")
            names.append(made.name)
        check_regexes("fact_detection.question_indicators", self.question_indicators)
        check_regexes("fact_detection.ignored", self.ignored)
        check_regexes("fact_detection.lead_ins", self.lead_ins)

    def all_patterns(self) -> list[tuple[str, Mapping[str, Any]]]:
        """Every pattern in the order in which they are tried, with its key."""
        lists = (("fact_detection.more_patterns", self.more_patterns), ("fact_detection.patterns", self.patterns))
        return [(f"{key}[{index}]", entry) for key, entries in lists for index, entry in enumerate(entries)]


@dataclass(frozen=True, kw_only=True)
class ImportanceScoring:
    """importance = base + repetition_weight · repetitions' part + recency_weight · recency's part, at most max_importance."""

    method: str = option("hybrid", "what counts", choices=IMPORTANCE)
    base_importance: float = option(1.0, "of a fact told once", low=0)
    repetition_weight: float = option(0.5, "of the repetitions' part", low=0)
    recency_weight: float = option(0.5, "of the recency's part", low=0)
    recency_turns: int = option(100, "turns after which a fact counts as old", low=1)
    max_importance: float = option(3.0, "repetition cannot raise it further", above=0)

    def __post_init__(self) -> None:
        room = "fact_memory.importance_scoring"
        check_order(f"{room}.base_importance", self.base_importance, f"{room}.max_importance", self.max_importance)


@dataclass(frozen=True, kw_only=True)
class Decay:
    """A fact not seen for `turns` turns loses `rate` of its importance every turn after that."""

    enabled: bool = option(True, "without it no fact fades")
    turns: int = option(500, "turns without decay", low=0)
    rate: float = option(0.1, "share lost a turn after them", low=0, high=1)
    threshold: float = option(0.1, "below it a fact is no longer replayed", low=0)
    removes: bool = option(False, "also take such a fact out of the memory, as the specification does")


@dataclass(frozen=True, kw_only=True)
class FactMemorySettings:
    """What was learned, and how it is kept alive."""

    enabled: bool = option(True, "without it nothing is replayed; the facts are still listed")
    max_facts: int = option(50, "over it one is evicted", low=1)
    replay_interval: int = option(10, "turns between replays", low=1)
    replay_limit: int = option(10, "facts in one replay", low=0)
    replay_batch: int = option(8, "old facts beside each step on a new one", low=0)
    replay_steps: int = option(5, "most steps on one fact in a replay", low=1)
    eviction_policy: str = option("hybrid", "who goes first", choices=EVICTION)
    importance_scoring: ImportanceScoring = field(default_factory=ImportanceScoring)
    decay: Decay = field(default_factory=Decay)
