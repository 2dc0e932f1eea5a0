"""The questions that a fact answers, in the wordings people use: asking for the value, asking for the subject, asking openly."""

from __future__ import annotations

import re
from dataclasses import dataclass

from . import phrases
from .clause import Clause, clause_of, gaps
from .facts import FactInfo
from .synonyms import ASKS_SUBJECT, ASKS_VALUE, NOUN_OF, VERB_OF
from .verbs import analyse, base_of_participle, participle, past, third_person

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
    if c.is_copula and c.particle.endswith(" by"):
        texts.insert(0, _question(f"who {_active(c)} {phrases.lowered(c.subject)}"))
    for subject in phrases.ways_to_own(c.subject)[1:]:
        wh, particle = gaps(c)[0]
        texts.append(_question(Clause(subject, c.verb, c.particle, c.value).asked(wh, particle)))
    if _is_attribute(c):
        ways = phrases.ways_to_own(c.subject)
        texts += [frame.format(way) for frame, way in zip(PHRASE_FRAMES[:2], (ways[0], ways[-1]), strict=True)]
        held += [frame.format(way) for frame in PHRASE_FRAMES for way in ways]
    wh, particle = gaps(c)[0]
    told = c.told(wh, particle)
    texts.append(FRAMES[0].format(told))
    texts += [_question(text) for text in _synonyms(c, ASKS_VALUE)]
    held += [frame.format(told) for frame in FRAMES]
    held += [_question(re.sub(r"^(what|who|where) is\b", r"\1's", text, flags=re.IGNORECASE).rstrip("?.")) for text in texts[:1]]
    found = [Wording(text, "direct", c.value, is_held) for group, is_held in ((texts, False), (held, True)) for text in group]
    return _of_tail(c) + found


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
    base = base_of_participle(c.particle.split()[-2])
    return past(base) if c.verb.lower() in ("was", "were") else third_person(base)


def _inverse(c: Clause) -> list[Wording]:
    # "What is green?" asks for more than my favourite colour.
    is_bare = (
        c.is_copula and not c.particle and not phrases.names_in(c.value) and c.value.split()[0].lower() not in phrases.DETERMINERS
    )
    is_told = is_bare and _is_attribute(c)
    texts = [] if is_told else [_question(c.of_whom(who)) for who in _who(c) if not (is_bare and who == "what")]
    if c.is_copula and not c.particle:
        texts += [_question(c.of_whom(_who(c)[0], way)) for way in phrases.ways_to_own(c.value)[1:]]
    if (parts := phrases.owned(c.subject)) and c.is_copula and not phrases.TIME.search(c.value):
        texts.append(_question(f"whose {parts[1]} {c.third} {' '.join(w for w in (c.particle, c.value) if w)}"))
    texts += [_question(text) for text in _synonyms(c, ASKS_SUBJECT)]
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


def _is_attribute(c: Clause) -> bool:
    """Whether the clause names what somebody has ("Mira's dog is Rex"), not how it is ("Mira's dog is a poodle")."""
    if not c.is_copula or c.particle or phrases.owned(c.subject) is None:
        return False
    is_colour = c.value.lower() in phrases.COLOURS and phrases.head(c.subject) not in ("colour", "color")
    return not is_colour and not c.value.lower().startswith(("a ", "an "))


def _who(c: Clause) -> list[str]:
    """The question words for the subject: who for people; for things what, and "which key" where the kind is said."""
    if c.is_person or (_is_attribute(c) and phrases.head(c.subject) == "name"):
        return ["who"]
    if c.is_copula and not c.particle and phrases.is_role(c.value):
        return ["who"]
    if phrases.owned(c.value) and c.is_copula and not c.particle:
        kind = {"capital": "which city"}.get(phrases.head(c.value))
        return ["what", kind] if kind else ["what"]
    words = c.subject.split()
    is_one = words[0].lower() in phrases.DETERMINERS and words[-1].islower() and _be(c) == "is"
    if is_one and phrases.owned(c.subject) is None:
        return ["what", f"which {phrases.head(c.subject)}"]
    return ["what"] if c.is_person is False or words[0].lower() in phrases.DETERMINERS else ["who", "what"]


def _synonyms(c: Clause, table: dict[str, tuple[str, ...]]) -> list[str]:
    """The table's templates for the clause's verb and particle, its attribute, or what its value is."""
    subject = phrases.lowered(c.subject)
    parts = phrases.owned(c.subject) if c.is_copula else None
    of_value = phrases.owned(c.value) if c.is_copula and not c.particle else None
    slots = {
        "s": subject, "s's": phrases.possessive(c.subject), "obj": phrases.OBJECTS.get(subject.lower(), subject),
        "v": phrases.lowered(c.value), "v's": phrases.possessive(c.value), "do": analyse(c.verb, c.subject)[1], "is": _be(c),
        "past": participle(c.base) if not c.is_copula else "", "was": "were" if _be(c) == "are" else "was",
        "vo": phrases.OBJECTS.get(of_value[0].lower(), of_value[0]) if of_value else "", "n": of_value[1] if of_value else "",
        "verb": third_person(c.base) if not c.is_copula else "",
    }  # fmt: skip
    if parts:
        owner = Clause(parts[0], "is", "", "")
        slots |= {
            "o": phrases.lowered(parts[0]),
            "o's": phrases.possessive(parts[0]),
            "oobj": phrases.OBJECTS.get(parts[0].lower(), parts[0]),
            "odo": "do" if owner.is_first_or_second else "does",
            "ois": _be(owner),
            "n": re.sub(r"^favou?rite ", "", parts[1]),
        }
    if of_value and (noun := phrases.head(of_value[1])) in VERB_OF:
        slots |= {"past": VERB_OF[noun][1], "verb": VERB_OF[noun][0]}
    slots |= {
        "noun": NOUN_OF.get(c.base, ""),
        "pbe": "is" if slots["verb"].endswith("s") and analyse(c.verb, c.subject)[1] != "did" else "was",
    }
    return [template.format(**slots) for key in _keys(c, parts, of_value) for template in table.get(key, ())]


def _keys(c: Clause, parts: tuple[str, str] | None, of_value: tuple[str, str] | None) -> list[str]:
    keys = [f"{c.base} {c.particle}".strip() + (" TIME" if phrases.is_time(c.value) else "")]
    if c.base in NOUN_OF and not c.particle and c.base != "own":
        keys.append("AGENT")
    if c.base == "play" and c.value.lower().startswith("the "):
        keys.append("play the")
    if parts and (_is_attribute(c) or c.particle in ("in", "on")):
        keys += ["my favourite" if re.match(r"favou?rite ", parts[1]) else f"my {parts[1].lower()}"]
        keys += ["KIN"] if _is_attribute(c) and phrases.head(c.subject) in phrases.PERSON_NOUNS else []
    if of_value and phrases.head(of_value[1]) in VERB_OF:
        keys.append("AGENT NOUN")
    elif of_value and phrases.is_role(of_value[1]) and phrases.head(of_value[1]) not in phrases.TITLE_NOUNS:
        keys.append("is my ROLE")
    elif c.is_copula and not c.particle and c.value.lower().startswith(("a ", "an ")):
        keys.append("is a ROLE" if phrases.is_role(c.value) else "is a THING")
    if c.is_copula and not c.particle and re.search(r"\d.*\bold$", c.value):
        keys.append("is OLD")
    return keys


def _be(c: Clause) -> str:
    if c.subject == "I":
        return "am"
    is_plural = c.verb.lower() in ("are", "were") if c.is_copula else analyse(c.verb, c.subject)[1] == "do"
    return "are" if is_plural or c.is_first_or_second else "is"


def _question(words: str) -> str:
    text = words.strip()
    return text[:1].upper() + text[1:] + ("." if text.lower().startswith(("tell ", "name ")) else "?")
