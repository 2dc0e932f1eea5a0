"""A clause's words in the templates of synonyms.py: "who is the owner of Tesla" for "Santhosh owns Tesla"."""

from __future__ import annotations

import re

from . import phrases
from .clause import PLACE_PREPOSITIONS, Clause, gaps
from .synonyms import KIND_OF, MAKES, NO_PASSIVE, NOUN_OF, VERB_OF
from .verbs import analyse, base_of_participle, participle, third_person

Owned = tuple[str, str] | None  # owner and thing, as phrases.owned has them


def rephrased(c: Clause, table: dict[str, tuple[str, ...]]) -> list[str]:
    """The table's templates for the clause's verb and particle, its attribute, or what its value is."""
    of_subject = phrases.owned(c.subject) if c.is_copula else None
    of_value = phrases.owned(c.value) if _is_plain(c) else None
    slots = _slots(c, of_value) | (_slots_of_owner(*of_subject) if of_subject else {})
    return [template.format(**slots) for key in _keys(c, of_subject, of_value) for template in table.get(key, ())]


def by_kind(c: Clause) -> list[str]:
    """The questions that say what kind of thing the value is: "which vehicle does Bea drive", "what vehicle does Bea drive"."""
    return [f"{wh} {kind} {c.asked('')}" for kind in KIND_OF.get(_key(c), ()) for wh in ("which", "what")]


def is_attribute(c: Clause) -> bool:
    """Whether the clause names what somebody has ("Mira's dog is Rex"), not how it is ("Mira's dog is a poodle")."""
    if not _is_plain(c) or phrases.owned(c.subject) is None:
        return False
    is_colour = c.value.lower() in phrases.COLOURS and phrases.head(c.subject) not in ("colour", "color")
    return not is_colour and not c.value.lower().startswith(("a ", "an "))


def done_by(c: Clause) -> str:
    """The base of what a passive says is done, "" where it says nothing of that kind: was built by → build."""
    words = c.particle.split()
    return base_of_participle(words[-2]) if c.is_copula and words[1:] and words[-1] == "by" else ""


def be(c: Clause) -> str:
    """To be, as the clause's subject takes it in the present."""
    if c.subject == "I":
        return "am"
    is_plural = c.verb.lower() in ("are", "were") if c.is_copula else analyse(c.verb, c.subject)[1] == "do"
    return "are" if is_plural or c.is_first_or_second else "is"


def _slots(c: Clause, of_value: Owned) -> dict[str, str]:
    subject, auxiliary = phrases.lowered(c.subject), analyse(c.verb, c.subject)[1]
    owner, owned = of_value or ("", "")
    verb, done = ("", "") if c.is_copula else (third_person(c.base), participle(c.base))
    verb, done = VERB_OF.get(phrases.head(owned), (verb, done))
    return {
        "s": subject, "s's": phrases.possessive(c.subject), "obj": phrases.OBJECTS.get(subject.lower(), subject),
        "v": phrases.lowered(c.value), "do": auxiliary, "does": "do" if c.is_first_or_second else "does",
        "is": be(c), "was": "were" if be(c) == "are" else "was",
        "vo": phrases.OBJECTS.get(owner.lower(), owner), "n": owned,
        "verb": verb, "past": done, "pbe": "is" if verb.endswith("s") and auxiliary != "did" else "was",
        "noun": NOUN_OF.get(done_by(c) or c.base, ""),
    }  # fmt: skip


def _slots_of_owner(owner: str, thing: str) -> dict[str, str]:
    c = Clause(owner, "is", "", "")
    return {
        "o": phrases.lowered(owner),
        "o's": phrases.possessive(owner),
        "oobj": phrases.OBJECTS.get(owner.lower(), owner),
        "odo": "do" if c.is_first_or_second else "does",
        "ois": be(c),
        "n": re.sub(r"^favou?rite ", "", thing),
    }


def _keys(c: Clause, of_subject: Owned, of_value: Owned) -> list[str]:
    """What the clause is listed under: its verb, then what it says, in capitals."""
    attribute = _of_attribute(c, of_subject[1]) if of_subject else []
    return [_key(c), *(_of_being(c) if c.is_copula else _of_doing(c)), *attribute, *_of_value(c, of_value)]


def _key(c: Clause) -> str:
    """The base verb and its particle, with TIME after a time: "live in", "be born in TIME"; "play the" for instruments."""
    article = "the" if c.base == "play" and c.value.lower().startswith("the ") else ""
    return f"{c.base} {c.particle or article}".strip() + (" TIME" if phrases.is_time(c.value) else "")


def _of_doing(c: Clause) -> list[str]:
    """AGENT where there is a name for who does it, DONE where a passive asks for them, MADE and HELD for those verbs."""
    if c.particle:
        return []
    is_one = c.value.lower().startswith("the ") or phrases.names_in(c.value) == [c.value]
    is_past = analyse(c.verb, c.subject)[1] == "did"
    keys = ["AGENT", "DONE"] if c.base in NOUN_OF and c.base != "own" else []
    keys += ["DONE"] if not keys and is_one and is_past and c.base not in NO_PASSIVE else []
    keys += ["MADE"] if is_one and c.base in MAKES else []
    return keys + (["HELD"] if is_one and c.base in ("have", "hold", "keep") else [])


def _of_being(c: Clause) -> list[str]:
    """PLACE and COLOUR of a thing, OLD where it is an age, DONE BY where a passive names who does it."""
    if c.particle:
        is_place = c.particle in PLACE_PREPOSITIONS and gaps(c)[0][0] == "where"
        return ["is PLACE"] * is_place + ["DONE BY"] * (done_by(c) in NOUN_OF)
    is_colour = c.value.lower() in phrases.COLOURS and not is_attribute(c)
    return ["is COLOUR"] * is_colour + ["is OLD"] * bool(re.search(r"\d.*\bold$", c.value))


def _of_attribute(c: Clause, thing: str) -> list[str]:
    """The attribute by name; KIN for a person, MEASURE for what has no name."""
    if not is_attribute(c):
        return [f"my {thing.lower()}"] if c.particle in ("in", "on") else []
    by_name = "my favourite" if re.match(r"favou?rite ", thing) else f"my {thing.lower()}"
    if phrases.head(c.subject) in phrases.PERSON_NOUNS:
        return [by_name, "KIN"]
    return [by_name] if phrases.names_in(c.value) else [by_name, "MEASURE"]


def _of_value(c: Clause, of_value: Owned) -> list[str]:
    """What the subject is: the holder of an OFFICE, who does something, somebody's ROLE, one of a kind."""
    if of_value is None:
        is_one_of_kind = _is_plain(c) and c.value.lower().startswith(("a ", "an "))
        return ["is a ROLE" if phrases.is_role(c.value) else "is a THING"] * is_one_of_kind
    noun, is_role = phrases.head(of_value[1]), phrases.is_role(of_value[1])
    office = ["OFFICE"] * (is_role and c.value.lower().startswith("the "))
    if noun in VERB_OF:
        return [*office, "AGENT NOUN"]
    return office + ["is my ROLE"] * (is_role and noun not in phrases.TITLE_NOUNS)


def _is_plain(c: Clause) -> bool:
    """Whether it says only what the subject is, without a particle."""
    return c.is_copula and not c.particle
