"""What is learned: a statement found in a message, and the pairs of message and reply that it is trained as."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from ..errors import ConfigError, nearest


@dataclass(frozen=True)
class FactInfo:
    """A statement, cut up: text = subject + verb + particle + value, as the user said it.

    "Bruno was born in Lima." has subject "Bruno", verb "was", particle "born in" and value "Lima".
    """

    text: str  # the statement, verbatim, stripped
    pattern: str  # name of the pattern that found it
    relation: str  # the pattern's relation
    subject: str  # what a question about it would mention
    value: str  # the answer, as said
    entities: tuple[str, ...]
    confidence: float  # in [0, 1]
    verb: str = "is"  # the verb as said, one word
    particle: str = ""  # what stands between verb and value: "in", "called", "allergic to"
    exclusive: bool = False  # a new value takes the place of the old one

    def to_dict(self) -> dict[str, Any]:
        """As plain JSON types."""
        return dataclasses.asdict(self) | {"entities": list(self.entities)}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> FactInfo:
        """The inverse of to_dict. Raises ConfigError for a key that is missing or not known."""
        return cls(**_checked(cls, values) | {"entities": tuple(values.get("entities", ()))})


@dataclass(frozen=True)
class Form:
    """One training pair: what the user says, and what the model shall answer, pronouns turned round."""

    user: str
    reply: str
    answer: str = ""  # the part of reply that is the answer, a substring of it; "" = all of it
    kind: str = ""  # statement, shifted, direct (asks for the value), inverse (asks for the subject) or open

    def to_dict(self) -> dict[str, str]:
        """As plain JSON types."""
        return dataclasses.asdict(self)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Form:
        """The inverse of to_dict. Raises ConfigError for a key that is missing or not known."""
        return cls(**_checked(cls, values))


def _checked(kind: type, values: Mapping[str, Any]) -> dict[str, Any]:
    fields = {f.name: f for f in dataclasses.fields(kind)}
    for key in values:
        if key not in fields:
            raise ConfigError(f"{kind.__name__} has no {key!r}{nearest(key, fields)}; it has {', '.join(fields)}")
    missing = [name for name, f in fields.items() if f.default is dataclasses.MISSING and name not in values]
    if missing:
        raise ConfigError(f"{kind.__name__} needs {', '.join(missing)}, got only {', '.join(values) or 'nothing'}")
    return dict(values)
