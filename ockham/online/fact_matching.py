"""When two statements say the same, and when they cannot both be true."""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable, Mapping
from typing import Any

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


def functional_relations(patterns: Iterable[Mapping[str, Any]]) -> frozenset[str]:
    """FUNCTIONAL, plus the relations of patterns with `exclusive: true`, less those with `exclusive: false`."""
    found = {folded_relation(str(pattern.get("relation", ""))): pattern.get("exclusive") for pattern in patterns}
    more, less = ({name for name, said in found.items() if said is value} for value in (True, False))
    return frozenset((FUNCTIONAL | more) - less)
