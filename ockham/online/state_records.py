"""What goes into a state folder and comes out of it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ..errors import ConfigError
from .tombstones import Tombstone

KINDS = ("chat", "question", "fact", "command")
STATES = ("active", "pending", "superseded", "evicted", "undone")


@dataclass(frozen=True, kw_only=True)
class FactRow:
    """A fact as it stands after a turn. `record` is plain JSON: all that /why shows beyond these fields."""

    id: int
    text: str
    state: str = "active"
    turn: int = 0  # in which it was told; 0 = the one that is committed with it
    record: Mapping[str, Any] = field(default_factory=dict)
    history: Sequence[Mapping[str, Any]] = ()  # by the state folder: turn, state, reason_code of each change; told: how often

    def __post_init__(self) -> None:
        if self.state not in STATES:
            raise ConfigError(f"a fact's state must be one of {', '.join(STATES)}, got {self.state!r}")


@dataclass(frozen=True, kw_only=True)
class Turn:
    """All that one turn changes; it is committed as a whole. Mappings are plain JSON with text as keys."""

    text: str
    reply: str
    kind: str = "chat"
    reason_code: str = ""
    losses: Mapping[str, Any] = field(default_factory=dict)
    seconds: float = 0.0
    time: float | None = None  # seconds since 1970, UTC; None = now
    fact: int | None = None  # id of the fact that the message tells, confirms or asks about; its line goes when that is forgotten
    facts: Sequence[FactRow] = ()  # new and changed ones
    adapter: bytes | None = None  # safetensors; None = unchanged
    memory: Mapping[str, Any] | None = None  # None = unchanged
    metrics: Mapping[str, Any] | None = None  # what the trackers hold; None = unchanged
    is_learned: bool = False  # /undo goes back to before such a turn

    def __post_init__(self) -> None:
        if self.kind not in KINDS:
            raise ConfigError(f"a turn's kind must be one of {', '.join(KINDS)}, got {self.kind!r}")


@dataclass(frozen=True)
class State:
    """What the chat is after turn `turn`."""

    turn: int
    adapter: bytes
    adapter_sha256: str  # of these bytes
    memory: dict[str, Any]
    metrics: dict[str, Any]


@dataclass(frozen=True)
class Snapshot:
    """What the chat was before turn `turn`, for /undo."""

    turn: int
    adapter: bytes
    adapter_sha256: str
    memory: dict[str, Any]


@dataclass(frozen=True, kw_only=True)
class Rebuilt:
    """The chat as if the forgotten facts had never been told. Facts that are not in `facts` are forgotten."""

    adapter: bytes
    memory: Mapping[str, Any]
    facts: Sequence[FactRow]
    metrics: Mapping[str, Any] | None = None  # None = unchanged


@dataclass(frozen=True)
class Rejected:
    """Facts that only waited, of which nothing is to stay: the named one first."""

    ids: Sequence[int]
    mentions: Callable[[str], bool]


@dataclass(frozen=True)
class Forgotten:
    """What /forget did: its tombstones, the turns whose lines went, and saved copies that hold them: it reaches none of those."""

    tombstones: list[Tombstone]
    turns: list[int]
    copies: list[Path]
