"""When two statements say the same, and when they cannot both be true."""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable, Mapping
from typing import Any

from . import phrases
from .facts import FactInfo
from .forms import slot

SENTENCE_MARKS = ".,;:!?…\"'`“”‘’«»()[]"  # not + and #: C, C++ and C# are three things
# Relations that hold one value at a time: what is told later takes the place of what was told before. 'likes', 'owns', 'knows',
# 'is' and all that are not named here may hold many. 'is relation' (Tom is my friend) is one of them because its question, Who is
# Tom?, has room for one answer.
FUNCTIONAL = frozenset({
    "is relation", "is friend", "is called", "called", "named", "is named", "name", "name is",
    "lives in", "live in", "works at", "works for", "works as", "job", "born in", "born on", "age", "birthday",
    "capital", "capital of", "is capital of", "favorite", "favourite", "favorite is", "favourite is",
    "married to", "is married to", "located in", "is located in", "phone number", "email",
})  # fmt: skip


def folded(text: str) -> str:
    """The words in lower case, with one space between them, without the marks of a sentence around them."""
    words = (word.strip(SENTENCE_MARKS) for word in unicodedata.normalize("NFKC", text).casefold().split())
    return " ".join(word for word in words if word)


def folded_relation(relation: str) -> str:
    """`folded`, with _ and - as spaces: lives_in, lives-in and 'lives in' are one relation."""
    return folded(relation.replace("_", " ").replace("-", " "))


def property_of(info: FactInfo) -> tuple[str, str, str] | None:
    """(of what, which property, what it is) where there is room for one, whatever the wording; else None.

    "Blim is the capital of Zorland" and "Zorland's capital is Grum" give ("zorland", "capital", "blim") and (…, "grum").
    """
    found, parts = slot(info), phrases.owned(info.value)
    if found is None:
        return None
    is_turned = parts is not None and phrases.owned(info.subject) is None and found == _key(*parts)
    return (*found, folded(info.subject if is_turned else info.value))


def _key(owner: str, thing: str) -> tuple[str, str]:
    return phrases.without_article(owner).casefold(), thing.casefold()


def functional_relations(patterns: Iterable[Mapping[str, Any]]) -> frozenset[str]:
    """FUNCTIONAL, plus the relations of patterns with `exclusive: true`, less those with `exclusive: false`."""
    found = {folded_relation(str(pattern.get("relation", ""))): pattern.get("exclusive") for pattern in patterns}
    more, less = ({name for name, said in found.items() if said is value} for value in (True, False))
    return frozenset((FUNCTIONAL | more) - less)
