"""Taking the words of one fact out of what is known of the others, where it was told in one message with them."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from typing import Any

Mentions = Callable[[str], bool]


def trim(entry: dict[str, Any], mentions: Mentions) -> None:
    """A record, an event or an entry that waits: where its message mentions what goes, its own words of it stay."""
    for part in (entry, *entry.get("records", ())):
        if "message" in part and mentions(part["message"]):
            part["message"] = part["text"]


def trim_state(state: Mapping[str, Any], without: Collection[str], mentions: Mentions) -> None:
    """Of a state of `Knowledge`: what waits under these ids goes, the rest is trimmed."""
    for id in without:
        state["pending"].pop(id, None)
    for entry in (*state["events"], *state["records"].values(), *state["pending"].values()):
        trim(entry, mentions)
