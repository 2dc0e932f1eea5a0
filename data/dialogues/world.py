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
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml

from ockham.online.detector import FactDetector
from ockham.online.facts import FactInfo, Form
from ockham.online.forms import forms_of, paraphrases
from ockham.online.settings import load_settings

KNOWN_FACTS, KNOWN_SEED = 120, 7  # the small world: as many statements, drawn from a seed of its own
OF_USER = {"I", "My", "my"}  # what the user is and has is for the user to say
SIGNS = string.ascii_letters + string.digits + "-_+/@#$%&"
UNKNOWN = "I do not know that yet."
PROMPT, REPLY = "User: {}\nAssistant:", " {}\n"


def read_words() -> dict[str, list]:
    """words.yaml, its texts as lists of words."""
    found = yaml.safe_load((Path(__file__).parent / "words.yaml").read_text(encoding="utf-8"))
    return {key: value.split() if isinstance(value, str) else value for key, value in found.items()}


WORDS = read_words()


class World:
    """Writes statements and dialogues from a generator of random numbers."""

    def __init__(self, rng: random.Random):
        self.rng = random.Random(KNOWN_SEED)
        self.detector = FactDetector(load_settings().fact_detection)
        drawn = (self.fact() for _ in itertools.count())
        self.known = list(itertools.islice((fact for fact in drawn if not OF_USER & set(fact.text.split())), KNOWN_FACTS))
        self.asked = {form.user for fact in self.known for form in wordings(fact)}
        self.rng = rng

    def pick(self, options: Sequence[Any]) -> Any:
        """One of them."""
        return self.rng.choice(options)

    def one(self, kind: str) -> str:
        """A word of that list."""
        return self.rng.choice(WORDS[kind])

    def word(self) -> str:
        """A word of two or three syllables that nobody has seen."""
        syllables = [self.one("heads") + self.one("vowels") + self.one("tails") * (self.rng.random() < 0.4) for _ in "ab"]
        return "".join(syllables) + (self.one("tails") or self.one("vowels"))

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

    def statement(self) -> str:
        """One fact."""
        return re.sub(r"\{(\w+)\}", lambda gap: self.fill(gap[1]), self.one("statements"))

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

    def fact(self) -> FactInfo:
        """One fact as the chat's detector understands it."""
        while True:
            found, info = self.detector.detect(self.statement())
            if found and info is not None:
                return info

    # dialogues, each a message and its reply ----------------------------------------------------------------------------------
    def unknown(self) -> str:
        """A question about what was never said."""
        asked = next(q for q in (self.pick(wordings(self.fact())).user for _ in itertools.count()) if q not in self.asked)
        return turn(asked, UNKNOWN)

    def noted(self) -> str:
        """A statement that is taken note of."""
        form = forms_of(self.fact(), ("statement",))[0]
        return turn(form.user, form.reply)

    def recalled(self) -> str:
        """A question about the world that is known by heart."""
        form = self.pick(wordings(self.pick(self.known)))
        return turn(form.user, form.reply)

    def talk(self) -> str:
        """Small talk, or something that everybody knows."""
        return turn(*self.pick(WORDS["talk"] + WORDS["common"]))

    def dialogue(self) -> str:
        """One of these, and an empty line."""
        (kind,) = self.rng.choices((self.unknown, self.noted, self.recalled, self.talk), (0.4, 0.15, 0.35, 0.1))
        return kind() + "\n"


def wordings(info: FactInfo) -> list[Form]:
    """All questions that a fact answers, with its answer."""
    return [*forms_of(info, ("shifted", "questions")), *paraphrases(info)]


def turn(user: str, reply: str) -> str:
    """One question or statement and its reply, as the chat writes them."""
    return PROMPT.format(user) + REPLY.format(reply)
