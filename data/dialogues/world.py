"""Short dialogues about made-up people and things, with the wordings of `ockham chat`'s own questions and answers.

What the small base of the chat has to have seen: statements that it takes note of; questions about what it was never told, which
it answers with one fixed sentence; questions in many wordings about a small world that it knows by heart, so that it has learned
how a fact that is known is answered; and a little talk. Names are made of syllables, so that hardly any is seen twice. A dialogue
is one message and its reply: what a model would have to remember from further up could lie outside its window, and teach it to
guess.
"""

from __future__ import annotations

import itertools
import random
import re
import string
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from ockham.online import phrases
from ockham.online.clause import Clause, clause_of
from ockham.online.detector import FactDetector
from ockham.online.facts import FactInfo, Form
from ockham.online.forms import forms_of, paraphrases
from ockham.online.settings import load_settings
from ockham.online.verbs import BE, analyse

KNOWN_FACTS, KNOWN_SEED = 120, 5  # the small world: as many statements, drawn from a seed of its own
NEAR = 0.5  # share of the questions about what was never said that share a word with what is known
GAP = re.compile(r"\{(\w+)\}")
OF_USER = {"I", "My", "my"}  # what the user is and has is for the user to say
ACCENTED, FOREIGN = 0.06, 0.015  # shares of the made-up words with one letter that is not ASCII, and with no other ones
LATIN = [letter for letter in map(chr, range(0xDF, 0x180)) if letter.islower()]
ALPHABETS = [[letter for letter in map(chr, range(*ends)) if letter.islower()] for ends in ((0x3B1, 0x3CA), (0x430, 0x460))]
SIGNS = string.ascii_letters + string.digits + "-_+/@#$%&"
UNKNOWN = "I do not know that yet."
NO_FACT = "I did not take that for a fact."
SUPPOSED = ("Maybe {}", "Perhaps {}", "I think {}", "I guess {}", "Let us say {}", "If {}")
PROMPT, REPLY = "User: {}\nAssistant:", " {}\n"


def read_words() -> dict[str, list]:
    """words.yaml, its texts as lists of words."""
    found = yaml.safe_load((Path(__file__).parent / "words.yaml").read_text(encoding="utf-8"))
    return {key: value.split() if isinstance(value, str) else value for key, value in found.items()}


WORDS = read_words()


@dataclass(frozen=True)
class Statement:
    """A template and the words in its gaps."""

    template: str
    words: tuple[str, ...]

    @property
    def kinds(self) -> list[str]:
        """What kind of word each gap holds."""
        return GAP.findall(self.template)

    @property
    def text(self) -> str:
        """The sentence."""
        words = iter(self.words)
        return GAP.sub(lambda gap: next(words), self.template)


class World:
    """Writes statements and dialogues from a generator of random numbers."""

    def __init__(self, rng: random.Random):
        self.rng = random.Random(KNOWN_SEED)
        self.detector = FactDetector(load_settings().fact_detection)
        self.asked = {question for question, _ in WORDS["talk"] + WORDS["common"]}  # and has its answer
        self.asked |= {form.user for fact in self.common() for form in wordings(fact)}
        self.statements: list[Statement] = []
        self.known: list[FactInfo] = []
        while len(self.known) < KNOWN_FACTS:
            self._know(*self.fact())
        self.rng = rng

    def _know(self, statement: Statement, fact: FactInfo) -> None:
        """Adds it to what is known, unless it is about the user, or a question about it has another answer already."""
        asked = {form.user for form in wordings(fact)}
        if not (OF_USER & set(fact.text.split()) or asked & self.asked):
            self.statements.append(statement)
            self.known.append(fact)
            self.asked |= asked

    def pick(self, options: Sequence[Any]) -> Any:
        """One of them."""
        return self.rng.choice(options)

    def one(self, kind: str) -> str:
        """A word of that list."""
        return self.rng.choice(WORDS[kind])

    def word(self) -> str:
        """A word of two or three syllables that nobody has seen; a few have a letter that is not ASCII, or no other ones."""
        syllables = [self.one("heads") + self.one("vowels") + self.one("tails") * (self.rng.random() < 0.4) for _ in "ab"]
        word = "".join(syllables) + (self.one("tails") or self.one("vowels"))
        draw = self.rng.random()
        if draw < FOREIGN:
            return "".join(self.rng.choices(self.pick(ALPHABETS), k=self.rng.randint(3, 6)))
        if draw < FOREIGN + ACCENTED:
            place = self.rng.randrange(len(word))
            return word[:place] + self.pick(LATIN) + word[place + 1 :]
        return word

    def name(self) -> str:
        """A person's name."""
        return self.one("given") if self.rng.random() < 0.25 else self.word().capitalize()

    def place(self) -> str:
        """A town's name."""
        return self.one("cities") if self.rng.random() < 0.2 else self.word().capitalize()

    def land(self) -> str:
        """A country's name."""
        return self.one("countries") if self.rng.random() < 0.2 else self.word().capitalize() + self.pick(("", "ia", "land"))

    def thing(self) -> str:
        """A thing, with or without a colour."""
        return self.pick(("", f"{self.one('colours')} ")) + self.one("things")

    def statement(self) -> Statement:
        """One statement."""
        return self.filled(self.one("statements"), {})

    def near(self) -> Statement:
        """A statement that shares one word, at least, with one that is known."""
        known = self.pick(self.statements)
        kept = self.rng.randrange(len(known.words))
        kind, word = known.kinds[kept], known.words[kept]
        alike = [template for template in WORDS["statements"] if kind in GAP.findall(template)]
        return self.filled(self.pick([known.template, *alike]), {kind: word})

    def filled(self, template: str, kept: Mapping[str, str]) -> Statement:
        """The template with a word in each gap: of the kinds in `kept`, that word in one of the gaps."""
        kinds, words = GAP.findall(template), []
        places = {kind: self.pick([i for i, k in enumerate(kinds) if k == kind]) for kind in kept}
        for place, kind in enumerate(kinds):
            words.append(kept[kind] if places.get(kind) == place else self.fill(kind))
        return Statement(template, tuple(words))

    def fill(self, kind: str) -> str:
        """What stands for a gap of this kind in a statement: a made-up name, or a word of the list of that name."""
        made = {
            "name": self.name,
            "place": self.place,
            "land": self.land,
            "thing": self.thing,
            "word": self.word,
            "brand": lambda: self.word().capitalize(),
            "year": lambda: str(self.rng.randint(1900, 2020)),
            "age": lambda: str(self.rng.randint(2, 99)),
            "secret": lambda: "".join(self.rng.choices(SIGNS, k=self.rng.randint(3, 7))),
        }
        return made[kind]() if kind in made else self.one(kind)

    def fact(self, draw: Callable[[], Statement] | None = None) -> tuple[Statement, FactInfo]:
        """A statement, and the fact in it as the chat's detector understands it."""
        while True:
            statement = (draw or self.statement)()
            found, info = self.detector.detect(statement.text)
            if found and info is not None:
                return statement, info

    def common(self) -> list[FactInfo]:
        """What everybody knows, as far as the detector takes it for a fact."""
        found = (self.detector.detect(reply) for _, reply in WORDS["common"])
        return [info for is_fact, info in found if is_fact and info is not None]

    # dialogues, each a message and its reply ----------------------------------------------------------------------------------
    def unknown(self) -> str:
        """A question about what was never said; every other one sounds like what is known."""
        draw = self.near if self.rng.random() < NEAR else self.statement
        drawn = (self.pick(wordings(self.fact(draw)[1])).user for _ in itertools.count())
        return turn(next(question for question in drawn if question not in self.asked), UNKNOWN)

    def noted(self) -> str:
        """A statement that is taken note of."""
        form = forms_of(self.fact()[1], ("statement",))[0]
        return turn(form.user, form.reply)

    def denied(self) -> str:
        """What is denied, or only supposed, and not taken note of."""
        info = self.fact()[1]
        supposed = self.pick(SUPPOSED).format(phrases.lowered(info.text))
        said = supposed if self.rng.random() < 0.4 else denial(clause_of(info), self.rng)
        return self.denied() if self.detector.detect(said)[0] else turn(said, NO_FACT)

    def recalled(self) -> str:
        """A question about the world that is known by heart."""
        form = self.pick(wordings(self.pick(self.known)))
        return turn(form.user, form.reply)

    def talk(self) -> str:
        """Small talk, or something that everybody knows."""
        return turn(*self.pick(WORDS["talk"] + WORDS["common"]))

    def dialogue(self) -> str:
        """One of these, and an empty line."""
        kinds = (self.unknown, self.noted, self.recalled, self.talk, self.denied)
        (kind,) = self.rng.choices(kinds, (0.35, 0.09, 0.45, 0.07, 0.04))
        return kind() + "\n"


def wordings(info: FactInfo) -> list[Form]:
    """All questions that a fact answers, with its answer."""
    return [*forms_of(info, ("shifted", "questions")), *paraphrases(info)]


def denial(c: Clause, rng: random.Random) -> str:
    """That it is not so: "Anna does not live in Oslo.", "Anna isn't a nurse."."""
    verb = c.verb.lower()
    base, auxiliary = ("", verb) if verb in BE else analyse(c.verb, c.subject)
    negated = f"{auxiliary} not" if verb == "am" or rng.random() < 0.5 else f"{auxiliary}n't"
    return " ".join(part for part in (c.subject, negated, base, c.particle, c.value) if part) + "."


def turn(user: str, reply: str) -> str:
    """One question or statement and its reply, as the chat writes them."""
    return PROMPT.format(user) + REPLY.format(reply)
