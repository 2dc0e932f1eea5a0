"""Numbers in words as figures: "four seven one one" is 4711, "forty-seven eleven" 4711, "double four" 44."""

from __future__ import annotations

import re

DIGITS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")
DIGIT_WORDS = {word: str(digit) for digit, word in enumerate(DIGITS)} | {
    "oh": "0",
    "nought": "0",
    "naught": "0",
    "nil": "0",
    "niner": "9",
}
TEENS = ("ten", "eleven", "twelve", "thirteen", "fourteen", "fifteen", "sixteen", "seventeen", "eighteen", "nineteen")
TENS = ("twenty", "thirty", "forty", "fifty", "sixty", "seventy", "eighty", "ninety")
VALUES = (
    DIGIT_WORDS
    | {word: str(value) for value, word in enumerate(TEENS, 10)}
    | {word: str(10 * value) for value, word in enumerate(TENS, 2)}
)
NUMBER_WORD = re.compile(rf"\b(?:{'|'.join(VALUES)}|double|triple|treble)\b")
TEN_AND_UNIT = re.compile(rf"\b({'|'.join(TENS)})[ -]({'|'.join(DIGITS[1:])})\b")
REPEATED = re.compile(rf"\b(double|triple|treble) (\d|{'|'.join(DIGIT_WORDS)})\b")
VALUE = re.compile(rf"\b(?:{'|'.join(VALUES)})\b")
APART = re.compile(r"(?<=\d)(?:[ ,.\-/_*·]{1,2}| (?:and|then|and then|dash|space|hyphen|dot) )(?=\d)")


def in_figures(text: str) -> str:
    """A folded text with its number words in figures, each number by itself."""
    text = REPEATED.sub(lambda said: DIGIT_WORDS.get(said[2], said[2]) * (2 if said[1] == "double" else 3), text)
    text = TEN_AND_UNIT.sub(lambda said: VALUES[said[1]][0] + VALUES[said[2]], text)
    return VALUE.sub(lambda said: VALUES[said[0]], text)


def run_together(text: str) -> str:
    """A text in figures with the figures that stand side by side as one number: 4 7 1 1, 47-11 and 4 then 711 are 4711."""
    return APART.sub("", text)
