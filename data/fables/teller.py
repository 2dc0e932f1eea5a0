"""Programs that tell a text by choices of known probability, and a reader that takes the text apart again.

A story is a program that calls `say` (text that is certain) and `choose` (one of several texts, with probabilities). Every
choice tells its text at once, and no option of a choice is the beginning of another; so the text, read from left to right,
gives back each choice, the derivation is unique, and -ln p of the text is the sum over its choices. `Writer` runs a program
with random numbers; `Reader` runs the same program against a text and recovers the choices and the cost of every character.
"""

from __future__ import annotations

import math
import random
from collections.abc import Sequence
from functools import lru_cache
from itertools import pairwise


class Mismatch(ValueError):
    """A text that the grammar cannot have written."""


class Teller:
    """Runs a story program; subclasses say which option of a choice is taken. `nats` is -ln p of what was told so far."""

    def __init__(self) -> None:
        self.told: list[str] = []
        self.nats = 0.0

    def say(self, text: str) -> None:
        """Tells text that follows with certainty from what came before: it costs nothing."""
        self.told.append(text)

    def choose(self, options: Sequence[str], weights: Sequence[float] = ()) -> str:
        """Tells one of `options`, uniformly or by `weights`, at the cost of -ln p; returns it."""
        options = tuple(options)
        require_prefix_free(options)
        weights = tuple(weights) or (1.0,) * len(options)
        i = self.pick(options, weights)
        self.nats += math.log(math.fsum(weights)) - math.log(weights[i])
        self.told.append(options[i])
        return options[i]

    def pick(self, options: tuple[str, ...], weights: tuple[float, ...]) -> int:
        """The index of the option taken."""
        raise NotImplementedError


class Writer(Teller):
    """Draws every choice from `rng`; only rng.random() is used, whose sequence is the same in every Python."""

    def __init__(self, rng: random.Random) -> None:
        super().__init__()
        self.rng = rng

    def pick(self, options: tuple[str, ...], weights: tuple[float, ...]) -> int:
        at = self.rng.random() * math.fsum(weights)
        for i, weight in enumerate(weights):
            at -= weight
            if at < 0:
                return i
        return len(weights) - 1


class Reader(Teller):
    """Takes the choices that `text` shows from `at` on; `costs` holds -ln p of each character read.

    Within an option, a character costs what it rules out: it is free once the options still possible agree on it.
    Raises Mismatch where the text leaves the grammar.
    """

    def __init__(self, text: str, at: int = 0) -> None:
        super().__init__()
        self.text, self.at = text, at
        self.costs: list[float] = []

    def say(self, text: str) -> None:
        if not self.text.startswith(text, self.at):
            raise Mismatch(f"at character {self.at}: expected {text[:40]!r}, got {self.text[self.at : self.at + 40]!r}")
        super().say(text)
        self.at += len(text)
        self.costs += [0.0] * len(text)

    def pick(self, options: tuple[str, ...], weights: tuple[float, ...]) -> int:
        taken = [i for i, option in enumerate(options) if self.text.startswith(option, self.at)]
        if len(taken) != 1:
            raise Mismatch(
                f"at character {self.at}: {self.text[self.at : self.at + 40]!r} starts with none of {list(options[:8])}"
            )
        option = options[taken[0]]
        alive = list(zip(options, weights, strict=True))
        for k, char in enumerate(option):
            before = math.fsum(w for _, w in alive)
            alive = [(o, w) for o, w in alive if o[k] == char]  # prefix-free: every option alive is longer than k
            self.costs.append(math.log(before) - math.log(math.fsum(w for _, w in alive)))
        self.at += len(option)
        return taken[0]


@lru_cache(maxsize=10_000)
def require_prefix_free(options: tuple[str, ...]) -> None:
    """Raises ValueError when one option begins another, or equals it: such a choice could not be read back."""
    ordered = sorted(options)
    for a, b in pairwise(ordered):  # what a text begins sorts directly behind it
        if b.startswith(a):
            raise ValueError(f"option {a!r} is the beginning of option {b!r}")
