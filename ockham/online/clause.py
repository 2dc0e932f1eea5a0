"""A statement as a clause that can be asked about.

"Anna lives in Oslo" → "Where does Anna live?", "Who lives in Oslo?", "where Anna lives".
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from . import phrases
from .facts import FactInfo
from .verbs import BE, MODALS, PLURAL_SUBJECTS, analyse, third_person, word_set

PREPOSITIONS = word_set(
    """in at on as for with to from near under over behind beside between above below inside outside next by about of after
    before since until during through across around against into onto towards like without via off among opposite"""
)
PARTICIPLES = frozenset({"called", "named", "nicknamed"})
FIXED = ("next to", "in front of", "close to", "known as", "place in", "place on", "place at")  # particles of more than one word
PARTICLE_VALUE = re.compile(
    rf"(?P<particle>(?:{'|'.join(FIXED)})"
    rf"|(?:(?!(?:the|a|an|my|your|his|her|our|their|no|\d\S*)\b)[a-z-]+ ){{0,2}}?"
    rf"(?:{'|'.join(sorted(PREPOSITIONS))})) (?P<value>\S.*)"
)
NAMED_THING = re.compile(r"an? (?P<thing>[\w -]+?) (?:called|named) (?P<name>\S.*)")
PLACE_PREPOSITIONS = word_set("in at on near under over behind beside between above below inside outside by opposite")
PLACE_VERBS = word_set(
    """live work stay stand lie sit grow study sleep grow hide train shop teach play swim meet buy park keep happen begin start"""
)
PLACE_PARTICIPLES = word_set(
    """born located situated found based buried parked kept hidden raised stored held built employed married"""
)
MOTION = word_set("go move travel fly walk drive ride sail cycle hike run emigrate return")
PERSON_VERBS = word_set(
    """live work like love hate prefer enjoy adore own speak teach study play write read drive collect paint sing cook bake
    wear eat drink have know marry meet visit invent discover found compose fear miss want attend coach admire hope believe learn
    practise practice"""
)
PERSON_STATES = frozenset(
    f"{state} {preposition}"
    for prepositions, states in (
        ("in on at near", "born interested"),
        ("to", "allergic married engaged related"),
        ("of", "afraid fond proud scared tired"),
        ("at with", "good bad friends angry in-love"),
    )
    for preposition in prepositions.split()
    for state in states.split()
)
WHO_VERBS = word_set("marry meet date know help admire visit miss love coach teach call phone employ")


@dataclass(frozen=True)
class Clause:
    """subject + verb + particle + value."""

    subject: str
    verb: str
    particle: str
    value: str

    @property
    def base(self) -> str:
        return "be" if self.verb.lower() in BE else analyse(self.verb, self.subject)[0]

    @property
    def is_copula(self) -> bool:
        return self.base == "be"

    @property
    def is_first_or_second(self) -> bool:
        return self.subject.lower() in PLURAL_SUBJECTS

    @property
    def is_person(self) -> bool | None:
        """Whether the subject is a person; None where the clause does not tell."""
        if self.is_first_or_second:
            return True
        thing = (phrases.owned(self.subject) or ("", self.subject))[1]
        if phrases.TITLE.match(self.subject) or any(word.lower() in phrases.PERSON_NOUNS for word in thing.split()):
            return True
        if self.subject.split()[0].lower() in phrases.DETERMINERS or phrases.owned(self.subject):
            return phrases.is_role(self.subject)
        said = self.base in PERSON_VERBS or (self.is_copula and (phrases.is_role(self.value) or self.particle in PERSON_STATES))
        return True if said else None

    def asked(self, wh: str, particle: str | None = None) -> str:
        """The question whose answer is the value: wh + auxiliary + subject + verb + particle."""
        subject, rest = phrases.lowered(self.subject), self.particle if particle is None else particle
        if self.verb.lower() in BE | MODALS:
            return _join(wh, self.verb.lower(), subject, rest)
        base, auxiliary = analyse(self.verb, self.subject)
        return _join(wh, auxiliary, subject, base, rest)

    def polar(self) -> str:
        """The question whether it is so: "does Anna live in Oslo"."""
        return self.asked("", f"{self.particle} {phrases.lowered(self.value)}".strip())

    def told(self, wh: str, particle: str | None = None) -> str:
        """The same as part of another sentence: "where Anna lives"."""
        return _join(wh, phrases.lowered(self.subject), self.verb, self.particle if particle is None else particle)

    def of_whom(self, who: str, value: str = "") -> str:
        """The question whose answer is the subject: "who lives in Oslo"."""
        return _join(who, self.third, self.particle, phrases.lowered(value or self.value))

    @property
    def third(self) -> str:
        """The verb as it stands after "who"."""
        verb = self.verb.lower()
        if verb in BE | MODALS:
            turned = {"am": "is", "are": "is", "were": "was"}
            return turned.get(verb, verb) if self.is_first_or_second else verb
        base, auxiliary = analyse(self.verb, self.subject)
        return verb if auxiliary == "did" else third_person(base)

    def about(self, subject: str) -> Clause:
        """The same said of another subject, in the third person."""
        verb = {"are": "is", "were": "was"}.get(self.third, self.third)
        return Clause(subject, verb, self.particle, self.value)


def clause_of(info: FactInfo) -> Clause:
    """The clause of a fact."""
    return Clause(info.subject, info.verb, info.particle, info.value)


def implied(c: Clause) -> list[Clause]:
    """What the clause says, too, of the same value: "I have a cat called Rex" that my cat is called Rex, "I am Ada" that my name
    is Ada, "Mira's car's colour is red" that her car is red, "my wife Sofia is a nurse" that my wife is one, and Sofia.
    """
    if (found := NAMED_THING.fullmatch(c.value)) and c.base == "have":
        return [Clause(f"{phrases.possessive(c.subject)} {found['thing']}", "is", "called", found["name"])]
    if found := re.fullmatch(r"(?P<kin>(?:my|our) [\w-]+) (?P<name>(?-i:[^\W\d_a-z]).*)", c.subject, re.IGNORECASE):
        return [Clause(found[part], c.verb, c.particle, c.value) for part in ("kin", "name")] if "'" not in c.subject else []
    if not c.is_copula or c.particle:
        return []
    if c.subject == "I" and phrases.names_in(c.value) == [c.value]:
        return [Clause("my name", "is", "", c.value)]
    of_subject = phrases.owned(c.subject)
    is_colour = of_subject is not None and of_subject[1] in ("colour", "color") and of_subject[0] != "I"
    return [Clause(of_subject[0], "is", "", c.value)] if of_subject and is_colour else []


def split_value(verb: str, rest: str) -> tuple[str, str]:
    """(particle, value) of what follows the verb: is, "allergic to nuts" → "allergic to", "nuts"; owns, "Tesla" → "", "Tesla"."""
    first, _, after = rest.partition(" ")
    if verb.lower() in BE and first.lower() in PARTICIPLES and after:
        return first, after
    found = PARTICLE_VALUE.fullmatch(rest)
    if found is None:
        return "", rest
    if verb.lower() not in BE and " " in found["particle"] and found["particle"] not in FIXED:
        return "", rest  # "likes tea with milk": what is liked comes before the preposition
    return found["particle"], found["value"]


def gaps(c: Clause) -> list[tuple[str, str]]:
    """(question word, particle that stays) of the questions whose answer is the value, the plainest first."""
    words = c.particle.split()
    last, kept = (words[-1], " ".join(words[:-1])) if words else ("", "")
    if c.is_copula and not words:
        is_quality = re.fullmatch(r"[a-z-]+", c.value) and not (
            phrases.owned(c.subject) or c.value in phrases.COLOURS or c.is_first_or_second
        )
        return [("what", "like")] * bool(is_quality) + [(wh, "") for wh in _of_copula(c)]
    is_hour = last == "at" and re.fullmatch(rf"(?:half past |quarter to )?{phrases.NUMBER}(?: thirty| sharp)?", c.value)
    if last in ("in", "at", "on", "since", "until", "before", "after", "during") and (phrases.is_time(c.value) or is_hour):
        return [("when", kept), *_of_time(c, last, kept)]
    if last == "at" and "degrees" in c.value:
        return [("at what temperature", kept)]
    if last in PLACE_PREPOSITIONS and _is_place(c, words):
        is_city = last == "in" and phrases.names_in(c.value) == [c.value]
        return [("where", kept), *([("in which city", kept), ("which city", c.particle)] if is_city else [])]
    if last == "from":
        return [("where", c.particle)]
    if last == "to" and c.base in MOTION:
        return [("where", kept), ("where", c.particle), ("to which place", kept)]
    if last == "like" and not kept:
        return [("what", c.particle)]
    if words:
        who = last in ("by", "for", "with", "to", "after", "about", "near") and (
            phrases.names_in(c.value) or phrases.head(c.value) in phrases.PERSON_NOUNS
        )
        asks_who = who and last != "as" and c.particle not in PARTICIPLES
        plain = [("who", c.particle), ("what", c.particle)] if asks_who else [("what", c.particle)]
        formal = (
            [(f"{last} {'whom' if asks_who else 'what'}", kept)] if last in ("to", "for", "by", "with", "about", "of") else []
        )
        return plain + formal
    return _of_object(c)


def _of_time(c: Clause, last: str, kept: str) -> list[tuple[str, str]]:
    """What narrows "when" down: a year after in, a day after on, an hour after at."""
    if last == "in" and re.fullmatch(r"\d{4}", c.value):
        return [("in which year", kept), ("what year", c.particle)]
    wh = {"on": ("on what day", "which day"), "at": ("at what time", "what time")}.get(last, ())
    return [(text, kept) for text in wh]


def _is_place(c: Clause, words: list[str]) -> bool:
    if words[1:] == ["by"] and phrases.names_in(c.value):  # built by Karl
        return False
    if c.is_copula:
        return len(words) == 1 or words[0] in PLACE_PARTICIPLES or c.particle in FIXED
    return c.base in PLACE_VERBS or words[0] == "place"


def _of_copula(c: Clause) -> list[str]:
    value = c.value
    if found := re.search(r"\d.*\b(old|tall|high|long|wide|deep|heavy)$", value):
        return [f"how {found[1]}"]
    if c.is_person and re.fullmatch(phrases.NUMBER, value):
        return ["how old"]
    noun = phrases.head(c.subject) if phrases.owned(c.subject) else ""
    if value.lower() in phrases.COLOURS and noun not in ("colour", "color"):
        return ["what colour", "which colour"]
    if value.lower().startswith(("a ", "an ")):
        return ["what", "who"] if c.is_person is not False and not noun else ["what"]
    if noun in phrases.PERSON_NOUNS or (noun and phrases.is_role(c.subject) and phrases.names_in(value)):
        return ["who"]
    if noun in ("birthday", "anniversary", "deadline", "appointment", "exam", "wedding", "party") and phrases.is_time(value):
        return ["when", "what"]
    if noun:
        return ["what"]
    if phrases.is_role(value):
        return ["who", "what"]
    if (of_what := phrases.owned(value)) and c.is_person is not False:
        return ["what"] if phrases.head(value) in phrases.THINGS or of_what[1].startswith("favo") else ["what", "who"]
    return ["who", "what"] if c.is_first_or_second else ["what"]


def _of_object(c: Clause) -> list[tuple[str, str]]:
    if c.verb.lower() in MODALS:
        return [("what", "do")] if c.value[:1].islower() else [("what", "")]
    if c.base in ("cost", "weigh"):
        return [("how much", ""), ("what", "")]
    if thing := phrases.counted(c.value):
        return [(f"how many {thing}", ""), ("what", "")]
    if phrases.head(c.value) in phrases.PERSON_NOUNS or (phrases.names_in(c.value) and c.base in WHO_VERBS):
        return [("who", ""), ("what", "")]
    return [("what", "")]


def _join(*words: str) -> str:
    return " ".join(word for word in words if word)
