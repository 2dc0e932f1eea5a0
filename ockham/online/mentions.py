"""Whether a text gives away a fact that was forgotten."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

from .facts import FactInfo
from .verbs import word_set

# Words that say nothing of a fact. A word of the fact that is neither here nor in a fact that stays is taken to give it away.
COMMON = word_set(
    """a an the my your his her its our their mine yours i you he she it we they me him us them is are was were be been am do does
    did has have had of in on at to from by for with and or not no as that this these those who whom whose what where when why
    which how tell about know name called can say said please actually remember learn yes"""
)
NAMES = ("pattern", "relation", "reason_code", "kind", "risks", "id", "told")  # keys whose values are names of ours


def words(text: str) -> list[str]:
    """In lower case, without punctuation."""
    return "".join(c if c.isalnum() else " " for c in text.casefold()).split()


def texts_in(value: Any) -> Iterator[str]:
    """Every text in a JSON value that may come from the user: neither its keys nor what stands under those of NAMES."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, Mapping):
        for key, inner in value.items():
            yield from () if key in NAMES else texts_in(inner)
    elif isinstance(value, (list, tuple)):
        for inner in value:
            yield from texts_in(inner)


def mention_test(gone: Iterable[str], kept: Iterable[str], info: Callable[[str], FactInfo]) -> Callable[[str], bool]:
    """A test for texts: True where one holds a word of the forgotten statements that no fact that stays has, or a statement
    whole.

    Words of subjects and values count, and capitalised words and numbers of the statement; where the facts that stay have them
    all, a text gives the fact away when it holds its subject and its value. The statements that stay, and parts of them, give
    nothing away.
    """
    gone, kept = list(gone), list(kept)
    own = [words(text) for text in kept]
    staying = {word for said in own for word in said}
    telling: set[str] = set()
    pairs = []
    for text in gone:
        found = info(text)
        parts = [set(words(found.subject)) - COMMON, set(words(found.value)) - COMMON]
        telling |= set().union(*parts)
        telling |= {
            w for token in text.split()[1:] if token[:1].isupper() or any(c.isdigit() for c in token) for w in words(token)
        }
        pairs.append(parts)
    telling -= staying | COMMON
    sentences = [words(text) for text in gone]

    def mentions(text: str) -> bool:
        said = words(text)
        present = set(said)
        if any(_within(said, sentence) for sentence in own):
            return False
        if telling & present or any(all(part and part <= present for part in pair) for pair in pairs):
            return True
        return any(sentence and _within(sentence, said) for sentence in sentences)

    return mentions


def _within(part: list[str], whole: list[str]) -> bool:
    return any(whole[i : i + len(part)] == part for i in range(len(whole) - len(part) + 1))
