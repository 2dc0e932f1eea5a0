"""The questions that a fact answers, in the wordings people use: asking for the value, asking for the subject, asking openly."""

from __future__ import annotations

import re
from dataclasses import dataclass

from . import phrases
from .clause import Clause, clause_of, gaps, implied
from .facts import FactInfo
from .rephrasing import be, by_kind, done_by, is_attribute, rephrased
from .synonyms import ASKS_SUBJECT, ASKS_VALUE
from .verbs import past, third_person

# Frames around "where Anna lives"; the first is trained on, the rest are paraphrases.
FRAMES = (
    "Tell me {}.",
    "Do you know {}?",
    "Can you tell me {}?",
    "Do you remember {}?",
    "Please tell me {}.",
    "I would like to know {}.",
)
PHRASE_FRAMES = ("Tell me {}.", "Name {}.", "Please tell me {}.", "Do you know {}?")
OPEN = ("What do you know about {}?", "What can you tell me about {}?")
OPEN_HELD = ("What have I told you about {}?", "What do you remember about {}?")


@dataclass(frozen=True)
class Wording:
    """One question; `kind` is direct (its answer is the value), inverse (the subject) or open (all)."""

    text: str
    kind: str
    answer: str
    is_held: bool = False  # a paraphrase: not among the first choices for training


def wordings(info: FactInfo) -> list[Wording]:
    """Every wording for the fact, each once, the plainest of each kind first; paraphrases are marked as held."""
    c = clause_of(info)
    parts = _tail(c)
    found = [*_direct(c), *_inverse(parts[0] if parts else c), *_open(c)]
    seen: set[str] = set()
    return [w for w in found if not (w.text.lower() in seen or seen.add(w.text.lower()))]  # type: ignore[func-returns-value]


def _direct(c: Clause) -> list[Wording]:
    texts, held = [], []
    for wh, particle in gaps(c):
        texts.append(_question(c.asked(wh, particle)))
    if done_by(c):
        texts.insert(0, _question(f"who {_active(c)} {phrases.lowered(c.subject)}"))
    for subject in phrases.ways_to_own(c.subject)[1:]:
        wh, particle = gaps(c)[0]
        texts.append(_question(Clause(subject, c.verb, c.particle, c.value).asked(wh, particle)))
    if is_attribute(c):
        ways = phrases.ways_to_own(c.subject)
        frames = [frame for frame in PHRASE_FRAMES if phrases.head(c.subject) != "name" or not frame.startswith("Name")]
        texts += [frame.format(way) for frame, way in zip(frames[:2], (ways[0], ways[-1]), strict=True)]
        held += [frame.format(way) for frame in frames for way in ways]
    wh, particle = gaps(c)[0]
    told = c.told(wh, particle)
    texts += [FRAMES[0].format(told), _question(c.polar())]
    texts += [_question(text) for text in (*by_kind(c), *rephrased(c, ASKS_VALUE))]
    held += [frame.format(told) for frame in FRAMES]
    held += [_question(re.sub(r"^(what|who|where) is\b", r"\1's", text, flags=re.IGNORECASE).rstrip("?.")) for text in texts[:1]]
    found = [Wording(text, "direct", c.value, is_held) for group, is_held in ((texts, False), (held, True)) for text in group]
    also = [Wording(_question(i.asked(*gap)), "direct", i.value) for i in implied(c) for gap in gaps(i)[:1]]
    return _of_tail(c) + found[:1] + also + found[1:]


def _of_tail(c: Clause) -> list[Wording]:
    """When or where, for what follows the object: "Kim met Ann in Lima" → "Where did Kim meet Ann?"."""
    if (parts := _tail(c)) is None:
        return []
    plain, tail = parts
    wh = "when" if phrases.is_time(tail) else "where"
    late = Clause(c.subject, c.verb, f"{c.particle} {plain.value}".strip(), tail)
    return [
        Wording(_question(plain.asked(*gaps(plain)[0])), "direct", plain.value),
        Wording(_question(late.asked(wh)), "direct", tail),
    ]


def _tail(c: Clause) -> tuple[Clause, str] | None:
    """(the clause without it, place or time) where the value ends in one; None where it does not."""
    found = re.fullmatch(r"(.+?) (?:in|at|on) (.+)", c.value)
    if c.is_copula or found is None or not (phrases.is_time(found[2]) or phrases.names_in(found[2])):
        return None
    return Clause(c.subject, c.verb, c.particle, found[1]), found[2]


def _active(c: Clause) -> str:
    """The verb of "who" for a passive: was written by → wrote, is owned by → owns."""
    base = done_by(c)
    return past(base) if c.verb.lower() in ("was", "were") else third_person(base)


def _inverse(c: Clause) -> list[Wording]:
    # "What is green?" asks for more than my favourite colour.
    is_bare = (
        c.is_copula and not c.particle and not phrases.names_in(c.value) and c.value.split()[0].lower() not in phrases.DETERMINERS
    )
    is_told = is_bare and is_attribute(c)
    texts = [] if is_told else [_question(c.of_whom(who)) for who in _who(c) if not (is_bare and who == "what")]
    if c.is_copula and not c.particle:
        texts += [_question(c.of_whom(_who(c)[0], way)) for way in phrases.ways_to_own(c.value)[1:]]
    if (parts := phrases.owned(c.subject)) and c.is_copula and not phrases.TIME.search(c.value):
        texts.append(_question(f"whose {parts[1]} {c.third} {' '.join(w for w in (c.particle, c.value) if w)}"))
    texts += [_question(text) for text in rephrased(c, ASKS_SUBJECT)]
    held = [] if is_told else [frame.format(c.of_whom(_who(c)[0])) for frame in FRAMES]
    return [Wording(text, "inverse", c.subject, is_held) for group, is_held in ((texts, False), (held, True)) for text in group]


def _open(c: Clause) -> list[Wording]:
    """Questions about the subject, and about a name in the value, that ask for nothing in particular."""
    about = topics(c)
    texts = [OPEN[0].format(topic) for topic in about]
    subject = phrases.lowered(c.subject)
    if phrases.names_in(c.subject) == [c.subject] and c.is_person:
        texts.insert(1, f"Who {'was' if c.verb == 'was' and not c.particle else 'is'} {subject}?")
        texts.append(f"Do you know {subject}?")
    texts.append(OPEN[1].format(about[0]))
    held = [frame.format(about[0]) for frame in OPEN_HELD]
    return [Wording(text, "open", "", is_held) for group, is_held in ((texts, False), (held, True)) for text in group]


def topics(c: Clause) -> list[str]:
    """What one can ask about: the subject, and the value where it is a name."""
    subject = phrases.lowered(c.subject)
    found = [phrases.OBJECTS.get(subject.lower(), subject)]
    if phrases.names_in(c.value) == [c.value] and c.particle in ("", "called", "named") and not c.is_first_or_second:
        found.append(c.value)
    return found


def _who(c: Clause) -> list[str]:
    """The question words for the subject: who for people; for things what, and "which key" where the kind is said."""
    if c.is_person or (is_attribute(c) and phrases.head(c.subject) == "name"):
        return ["who"]
    if c.is_copula and not c.particle and phrases.is_role(c.value):
        return ["who"]
    if phrases.owned(c.value) and c.is_copula and not c.particle:
        kind = {"capital": "which city"}.get(phrases.head(c.value))
        return ["what", kind] if kind else ["what"]
    words = c.subject.split()
    is_one = words[0].lower() in phrases.DETERMINERS and words[-1].islower() and be(c) == "is"
    if is_one and phrases.owned(c.subject) is None:
        return ["what", f"which {phrases.head(c.subject)}"]
    return ["what"] if c.is_person is False or words[0].lower() in phrases.DETERMINERS else ["who", "what"]


def _question(words: str) -> str:
    text = words.strip()
    return text[:1].upper() + text[1:] + ("." if text.lower().startswith(("tell ", "name ")) else "?")
