"""Questions like a fact's own about other names and things: what it says must not be said of them, so they are anchors."""

from __future__ import annotations

import random
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace

from . import phrases
from .clause import clause_of
from .config import AnchorSettings
from .facts import FactInfo
from .questions import wordings

USUAL = AnchorSettings()


@dataclass(frozen=True)
class Others:
    """What may stand in a fact's place: names; nouns behind "the"; and words that say which one, as "red" in "the red key".

    same_owner  share of the siblings about what is owned that keep the owner
    wordings    how many wordings of a question siblings take their turns with, the plainest first
    """

    names: Sequence[str]
    things: Sequence[str] = ()
    qualities: Sequence[str] = ()
    same_owner: float = USUAL.same_owner
    wordings: int = USUAL.wordings

    @classmethod
    def of(cls, settings: AnchorSettings) -> Others:
        """As the settings say."""
        return cls(settings.names, settings.things, settings.qualities, settings.same_owner, settings.wordings)


def siblings(info: FactInfo, others: Others, n: int, rng: random.Random) -> list[str]:
    """Up to n questions of the fact's wordings about others, which must not be answered with it.

    Direct questions get another subject (or owner of it), inverse ones another value (or owner of it). None has the fact's
    own subject where the value is asked for, nor its value where the subject is. Fewer than n where names run out.
    """
    known = " ".join((info.subject, info.value)).lower()
    names = [name for name in others.names if name.lower() not in known]
    things = [thing for thing in others.things if thing.lower() not in known]
    rng.shuffle(names)
    has_other_values = bool(phrases.names_in(info.value) or phrases.owned(info.value) or (things and _is_determined(info.value)))
    found: list[str] = []
    for place, name in enumerate(names):
        kind = "inverse" if has_other_values and place % 3 == 2 else "direct"
        about = _about(info, replace(others, names=[name], things=things), kind, rng)
        texts = [w.text for w in wordings(about) if w.kind == kind and not w.is_held][: others.wordings]
        found += [text for text in rng.sample(texts, len(texts)) if _is_other(text, info, kind)][:1] if texts else []
        if len(found) >= n:
            break
    return found[:n]


def _about(info: FactInfo, others: Others, kind: str, rng: random.Random) -> FactInfo:
    """The fact with another subject, or for inverse questions with another value; an owner is exchanged first."""
    new = _other(info.value if kind == "inverse" else info.subject, others, rng)
    if kind == "inverse":
        return replace(info, value=new)
    return replace(info, subject=new, verb=clause_of(info).about(new).verb)


def _other(old: str, others: Others, rng: random.Random) -> str:
    """ "the code of the safe" → "the code of the shop", "Mira's dog" → "Omar's dog" or "Mira's shop", "my aunt Ann" → "my aunt
    Omar", "the red key" → "the small key" or "the shop", "the bus to Delft" → "the bus to Omar" or "the shop", "Tom" → "Omar".
    """
    (name,) = others.names
    if parts := phrases.owned(old):
        head = parts[1].split()[-1]
        new = name if phrases.names_in(head) else rng.choice(others.things) if others.things else ""
        if new and rng.random() < others.same_owner:
            return re.sub(rf"\b{re.escape(head)}\b", new, old, count=1)
        is_thing = bool(others.things) and _is_determined(parts[0])
        return f"the {parts[1]} of the {rng.choice(others.things)}" if is_thing else f"{name}'s {parts[1]}"
    if old.split()[0].lower() not in phrases.DETERMINERS:
        return name
    if not (others.things and _is_determined(old)):
        return f"{name}'s {phrases.undetermined(old)}"
    words, named = old.split(), phrases.names_in(old)
    if named and rng.random() < 0.5:
        return old.replace(named[-1], name)
    if len(words) == 3 and others.qualities and rng.random() < 0.5:
        return f"{words[0]} {rng.choice(others.qualities)} {words[2]}"
    return f"{words[0]} {rng.choice(others.things)}"


def _is_determined(phrase: str) -> bool:
    """Whether it begins with "the": one thing of its kind, where others are of the same."""
    return phrase.lower().startswith("the ")


def _is_other(text: str, info: FactInfo, kind: str) -> bool:
    own = info.value if kind == "inverse" else info.subject
    return re.search(rf"\b{re.escape(own)}\b", text, re.IGNORECASE) is None
