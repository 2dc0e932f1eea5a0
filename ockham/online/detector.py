"""Fact detection: which sentence of a message states something that can be learned, and what it says of what."""

from __future__ import annotations

import importlib
import re
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

from ..errors import ConfigError
from ..typed import from_mapping
from . import phrases
from .clause import PARTICIPLES, split_value
from .config import FactDetectionSettings, FactPattern
from .config_checks import compiled
from .facts import FactInfo
from .verbs import BE, MODALS, analyse, is_verb_of

MAX_SENTENCE_CHARS = 300  # a longer one is not searched; bounds the time that a pattern's backtracking takes
MAX_SENTENCES = 100  # a message is read so far; a longer one is a document, not something said
# A full stop that ends a sentence, not one after a title, an initial or in a number.
SENTENCE_END = re.compile(
    r"(?<!\bDr)(?<!\bMr)(?<!\bMrs)(?<!\bMs)(?<!\bSt)(?<!\bProf)(?<!\b[A-Z])[.!?]+[\"')\]”’]*(?=\s|$)|[;\n]+"
)
AS_TOLD = "as told"  # pattern and relation of a statement that no pattern fits
# Where a second clause may begin: it does where something is told on both sides.
NEXT_CLAUSE = re.compile(r",? (?:and|but|so|because) ")
PRONOUN = re.compile(r"(?:he|she|it|they|his|her|its|their)\b", re.IGNORECASE)
# A clause with a subject of its own; one without begins with a verb, and has the subject of the clause before it.
OWN_SUBJECT = re.compile(r"(?:I|we|the|an?|my|our)\b|(?-i:[^\W\d_a-z])", re.IGNORECASE)
CONTRACTIONS = (
    (re.compile(r"^I['’]?m(?= )", re.IGNORECASE), "I am"),
    (re.compile(r"^we['’]re(?= )", re.IGNORECASE), "we are"),
    (re.compile(r"^(I|we)['’]ve(?= )", re.IGNORECASE), r"\1 have"),
    (re.compile(r"^((?:\w+ ){1,3}?ha(?:ve|s)) got(?= )", re.IGNORECASE), r"\1"),
    (re.compile(r"^((?:my|our|your|the) \w+)['’]s (?=(?:called|named)\b|(?-i:[A-Z])\S*$)", re.IGNORECASE), r"\1 is "),
    (re.compile(r"^((?:my|our|your) (?:\w+ )?name)['’]s (?=\w+$)", re.IGNORECASE), r"\1 is "),
    (re.compile(r"^([A-Z]\w+)['’]s (?=(?:an?|my|the|in|from|called|named)\b)"), r"\1 is "),
)
TRIMMED = " \t\r\n.,!;:"


class FactDetector:
    """Finds statements by the patterns of `settings`, in order; questions and what `ignored` matches are none.

    Raises ConfigError at construction for a pattern that is no regular expression (with its name and position), for one without
    a group, and for entity extraction by spaCy where that or its model is missing.
    """

    def __init__(self, settings: FactDetectionSettings) -> None:
        self.settings = settings
        self.patterns = [_pattern(entry, key) for key, entry in settings.all_patterns()]
        self._questions = _compiled(settings.question_indicators, "fact_detection.question_indicators")
        self._ignored = _compiled(settings.ignored, "fact_detection.ignored")
        self._lead_ins = _compiled(settings.lead_ins, "fact_detection.lead_ins")
        method = settings.entity_extraction.method
        self._spacy = _spacy(settings.entity_extraction.spacy_model) if method == "spacy" else None

    def detect(self, text: str) -> tuple[bool, FactInfo | None]:
        """(True, the first fact) or (False, None). A message with several has them all in detect_all."""
        info = next(self._facts(text), None)
        return info is not None, info

    def detect_all(self, text: str) -> list[FactInfo]:
        """Every fact that the message states, in its order."""
        return list(self._facts(text))

    def read(self, text: str) -> FactInfo:
        """The fact in a statement that somebody vouches for: also one that the settings would not take, with confidence 0.

        Where no pattern fits, the first word is the subject and the rest the value.
        """
        if info := self.detect(text)[1]:
            return info
        said = text.strip()
        plain = _written_out(" ".join(said.split()).strip(TRIMMED))
        for pattern, regex in self.patterns:
            if (match := regex.search(plain)) and (info := self._info(pattern, match, said)):
                return replace(info, confidence=0.0)
        subject, _, value = plain.partition(" ")
        return FactInfo(said, AS_TOLD, AS_TOLD, subject, value or subject, (subject,), 0.0)

    def question_in(self, text: str) -> str:
        """The last sentence of the message that asks something; "" where none does."""
        return next((s.strip() for s in reversed([*_sentences(text)]) if self._asks(s)), "")

    def _facts(self, text: str) -> Iterator[FactInfo]:
        if not self.settings.enabled:
            return
        for said in _sentences(text):
            if not self._asks(said):
                yield from self._of_sentence(self._without_lead_in(said))

    def _of_sentence(self, said: str) -> Iterator[FactInfo]:
        for cut in NEXT_CLAUSE.finditer(said):
            if (first := self._of_clause(said[: cut.start()])) and (rest := self._next(first, said[cut.end() :])):
                yield first
                yield from self._of_sentence(rest)
                return
        if info := self._of_clause(said):
            yield info

    def _next(self, first: FactInfo, rest: str) -> str:
        """What follows a clause and its "and", with `first`'s subject where it has none of its own; "" where it is no clause."""
        if pronoun := PRONOUN.match(rest):  # told of the same as the clause before, if that leaves no doubt
            is_same = pronoun[0].lower() in ("he", "she", "it") and _is_the_only_one(first)
            return first.subject + rest[pronoun.end() :] if is_same else rest
        if OWN_SUBJECT.match(rest):
            return rest if self._begins_with_fact(rest) else ""
        verb, _, more = rest.partition(" ")
        whole = f"{first.subject} {rest}"
        is_verb = verb in BE or (is_verb_of(verb, first.subject) and more and first.particle != "to")
        return whole if is_verb and self._begins_with_fact(whole) else ""

    def _begins_with_fact(self, said: str) -> bool:
        """Whether it is a fact up to one of the places where another clause may begin, or its end."""
        ends = [*(cut.start() for cut in NEXT_CLAUSE.finditer(said)), len(said)]
        return any(self._of_clause(said[:end]) for end in ends)

    def _of_clause(self, said: str) -> FactInfo | None:
        plain = _written_out(" ".join(said.split()).strip(TRIMMED))
        if len(plain.split()) < 2 or self._asks(said) or any(p.search(plain) for p in self._ignored):
            return None
        for pattern, regex in self.patterns:
            if (match := regex.search(plain)) and (info := self._info(pattern, match, said.strip())):
                return info if info.confidence >= self.settings.min_confidence else None
        return None

    def _info(self, pattern: FactPattern, match: re.Match[str], text: str) -> FactInfo | None:
        parts = _parts(match)
        if parts is None:
            return None
        subject, verb, particle, value = parts
        entities = self._entities(match, subject, value)
        relation = _relation(pattern.relation, match, parts)
        confidence = self._confidence(pattern, match, entities)
        return FactInfo(text, pattern.name, relation, subject, value, entities, confidence, verb, particle, pattern.exclusive)

    def _confidence(self, pattern: FactPattern, match: re.Match[str], entities: Sequence[str]) -> float:
        """min_confidence + coverage · coverage_boost_factor + (entity_boost where there are entities), at most 1."""
        by = self.settings.confidence_calculation
        coverage = (match.end() - match.start()) / len(match.string)
        return min(1.0, pattern.min_confidence + coverage * by.coverage_boost_factor + (by.entity_boost if entities else 0.0))

    def _entities(self, match: re.Match[str], subject: str, value: str) -> tuple[str, ...]:
        """By the method of the settings; no pronouns, no determiners, each once."""
        if self._spacy is not None:
            return tuple(dict.fromkeys(entity.text for entity in self._spacy(match.string).ents))
        found = phrases.names_in(match.string)
        if self.settings.entity_extraction.method == "regex":
            groups = [phrases.undetermined(g) for g in (subject, value) if g.lower() not in phrases.OBJECTS]
            found = groups + found
        firsts: dict[str, str] = {}
        for entity in found:
            firsts.setdefault(entity.casefold(), entity)
        return tuple(firsts.values())

    def _asks(self, said: str) -> bool:
        return any(p.search(said.strip()) for p in self._questions)

    def _without_lead_in(self, said: str) -> str:
        """ "Remember that Tom is my friend" without its first two words; lead-ins may follow one another."""
        rest, before = said.strip(), None
        while rest != before:
            before = rest
            for lead_in in self._lead_ins:
                if match := lead_in.match(rest):
                    rest = rest[match.end() :].lstrip()
        return rest


def _is_the_only_one(info: FactInfo) -> bool:
    """Whether he, she or it, said after the fact, can only mean its subject: one, not the user, and no other name beside it."""
    subject = info.subject.lower()
    is_one = subject not in phrases.OBJECTS and " and " not in subject and info.verb.lower() not in ("are", "were")
    return is_one and (info.particle in PARTICIPLES or not phrases.names_in(info.value))


def _sentences(text: str) -> Iterator[str]:
    """The sentences with their end marks, the overlong left out."""
    start = 0
    for count, end in enumerate(SENTENCE_END.finditer(text)):
        if count >= MAX_SENTENCES:
            return
        if 0 < end.end() - start <= MAX_SENTENCE_CHARS:
            yield text[start : end.end()]
        start = end.end()
    if 0 < len(text) - start <= MAX_SENTENCE_CHARS:
        yield text[start:]


def _written_out(said: str) -> str:
    """Contractions at the start in full, as the patterns have them: I'm → I am, my name's → my name is."""
    for short, full in CONTRACTIONS:
        said = short.sub(full, said, count=1)
    return said


def _parts(match: re.Match[str]) -> tuple[str, str, str, str] | None:
    """(subject, verb, particle, value) by the groups of these names; else the first group, what is between, the last group."""
    said, names = match.string, match.groupdict()
    last = "value" if names.get("value") else match.re.groups
    if match.group(last) is None:
        return None
    if names.get("subject") and names.get("verb"):
        subject, verb = match["subject"], match["verb"]
        rest = said[match.end("verb") : match.end(last)].strip()
    else:
        first = "subject" if names.get("subject") else 1
        words = said[: match.end(last)] if last == first else said[match.end(first) : match.end(last)]
        subject = match.group(first)
        if last == first:  # one group, the value: the verb is the last one before it
            subject, words = _before_verb(said[: match.start(last)], said[match.start(last) : match.end(last)])
        verb, _, rest = words.strip().partition(" ")
    particle, value = split_value(verb, rest)
    trimmed = ("I" if subject == "i" else subject.strip(TRIMMED), verb, particle, value.strip(TRIMMED))
    return trimmed if all((trimmed[0], trimmed[1], trimmed[3])) else None


def _before_verb(head: str, value: str) -> tuple[str, str]:
    words = head.split()
    place = next((i for i, w in enumerate(words) if i and (w.lower() in BE or w.endswith("s"))), len(words) - 1)
    return " ".join(words[:place]), " ".join([*words[place:], value])


def _relation(template: str, match: re.Match[str], parts: tuple[str, str, str, str]) -> str:
    """The pattern's relation; {base}, {particle} and the names of groups in it are filled in, blanks become underscores."""
    subject, verb, particle, _ = parts
    base = "is" if verb.lower() in BE else verb.lower() if verb.lower() in MODALS else analyse(verb, subject)[0]
    for name, value in {**match.groupdict(), "base": base, "particle": particle}.items():
        template = template.replace("{" + name + "}", (value or "").lower())
    return "_".join(template.split()).strip("_")


def _pattern(values: Any, key: str) -> tuple[FactPattern, re.Pattern[str]]:
    pattern = from_mapping(FactPattern, values, key + ".")
    regex = compiled(pattern.pattern, f"{key}.pattern ({pattern.name})")
    if not regex.groups:
        raise ConfigError(
            f"{key}.pattern ({pattern.name}) has no group, got {pattern.pattern!r}; put brackets round it: (\\w+) is (\\w+)"
        )
    return pattern, regex


def _compiled(expressions: Sequence[str], key: str) -> list[re.Pattern[str]]:
    return [compiled(expression, f"{key}[{i}]") for i, expression in enumerate(expressions)]


def _spacy(model: str) -> Any:
    fix = f"pip install spacy && python -m spacy download {model}, or take method regex"
    try:
        return importlib.import_module("spacy").load(model)
    except ImportError:
        raise ConfigError(f"fact_detection.entity_extraction.method spacy needs the package spacy: {fix}") from None
    except OSError:
        raise ConfigError(f"fact_detection.entity_extraction.spacy_model {model!r} is not installed: {fix}") from None
