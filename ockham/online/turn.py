"""What one message did."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any


@dataclass
class Turn:
    """What one message did."""

    number: int
    text: str
    reply: str = ""
    kind: str = "chat"  # chat, question, fact, command
    reason_code: str = ""
    facts: list[dict[str, Any]] = field(default_factory=list)  # a record of each fact that was told
    waiting: list[dict[str, Any]] = field(default_factory=list)  # facts that wait for /confirm, with their risks
    notes: list[str] = field(default_factory=list)  # for the user
    losses: dict[str, float] = field(default_factory=dict)  # of the last step that was kept
    history: list[float] = field(default_factory=list)  # task loss of each step
    metrics: dict[str, Any] = field(default_factory=dict)
    changed: bool = False  # whether the adapter did
    seconds: float = 0.0
