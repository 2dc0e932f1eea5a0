"""session.jsonl, the log of a chat: a header, then one JSON object for each turn. A copy of it is enough for a replay.

Header: FORMAT and what the session was begun with. Turn: LINE_FIELDS. A turn that mentioned what was forgotten: its number and
the tombstone's id; with `adapter_sha256` where the fact only waited and was rejected.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from ..errors import CheckpointError
from .state_records import KINDS

NAME = "session.jsonl"
FORMAT = 1
HEADER_FIELDS = {"base": str, "base_sha256": str, "config": dict, "seed": int, "version": str, "threads": int}
NUMBER = (int, float)
LINE_FIELDS: dict[str, tuple[type, ...]] = {
    "turn": (int,),
    "time": NUMBER,  # seconds since 1970, UTC
    "kind": (str,),  # one of KINDS
    "text": (str,),
    "reply": (str,),
    "reason_code": (str,),
    "losses": (dict,),
    "fact": (int, type(None)),
    "adapter_sha256": (str, type(None)),  # after the turn; null = it rested on what was forgotten later
    "seconds": NUMBER,
}


def header_line(header: Mapping[str, Any], adapter_sha256: str) -> bytes:
    """The first line, with the SHA-256 of the adapter that the session began with."""
    return _line({"format": FORMAT, **header, "adapter_sha256": adapter_sha256})


def turn_line(fields: Mapping[str, Any]) -> bytes:
    """The line of a turn."""
    if fields.get("tombstone") is not None:
        after = {} if fields["adapter_sha256"] is None else {"adapter_sha256": fields["adapter_sha256"]}
        return _line({"turn": fields["turn"], "tombstone": fields["tombstone"], **after})
    return _line({key: fields[key] for key in LINE_FIELDS})


def read_log(path: Path) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """The header and the turns. A last line without its end (a killed chat, or one that writes it now) is left out.

    Raises CheckpointError, with file and line, for a log of another format and for any other line that is damaged.
    """
    try:
        with open(path, "rb") as file:
            entries = list(_entries(path, file))
    except OSError as error:
        raise CheckpointError(f"{path} cannot be read: {error.strerror}; name a session.jsonl") from error
    if not entries:
        raise CheckpointError(f"{path} holds no session: it has no whole line; put the file back from a copy")
    return entries[0], entries[1:]


def check_header(header: Any) -> str:
    """What is wrong with the header of a session, '' where nothing is."""
    if not isinstance(header, Mapping) or "format" not in header:
        return "the first line must be a session's header, an object with 'format'"
    if header["format"] != FORMAT:
        return f"it is of format {header['format']!r}, this program reads format {FORMAT}; use the version that wrote it"
    for key, kind in HEADER_FIELDS.items():
        if key not in header:
            return f"the header has no {key!r}"
        if not isinstance(header[key], Mapping if kind is dict else kind):
            return f"the header's {key!r} must be {kind.__name__}, got {_shown(header[key])}"
    return ""


def _entries(path: Path, lines: Iterator[bytes]) -> Iterator[dict[str, Any]]:
    for number, line in enumerate(lines, 1):
        try:
            entry = json.loads(line)
            fault = check_header(entry) if number == 1 else _fault(entry, number - 1)
        except (ValueError, RecursionError):
            fault = "it is no JSON object"
        if fault and not line.endswith(b"\n"):
            return
        if fault:
            raise CheckpointError(f"{path}:{number}: {fault}; put the file back from a copy")
        yield entry


def _fault(entry: Any, turn: int) -> str:
    """What is wrong with the line of a turn, '' where nothing is."""
    if not isinstance(entry, dict) or entry.get("turn") != turn:
        return f"the line of turn {turn} must stand here, got {_shown(entry)}"
    if entry.keys() | {"adapter_sha256"} == {"turn", "tombstone", "adapter_sha256"}:
        if not isinstance(entry.get("adapter_sha256", ""), str):
            return f"'adapter_sha256' must be str, got {_shown(entry['adapter_sha256'])}"
        return "" if type(entry["tombstone"]) is int else f"'tombstone' must be a whole number, got {_shown(entry['tombstone'])}"
    if entry.keys() != LINE_FIELDS.keys():
        odd = ", ".join(sorted(entry.keys() ^ LINE_FIELDS.keys()))
        return f"a turn has the fields {', '.join(LINE_FIELDS)}; wrong or missing: {odd}"
    for key, kinds in LINE_FIELDS.items():
        if type(entry[key]) not in kinds:
            return f"{key!r} must be {' or '.join(kind.__name__ for kind in kinds)}, got {_shown(entry[key])}"
    return "" if entry["kind"] in KINDS else f"'kind' must be one of {', '.join(KINDS)}, got {_shown(entry['kind'])}"


def _line(fields: Mapping[str, Any]) -> bytes:
    """Names stay as they are written, so that one can search for them; non-finite numbers become text."""
    return json.dumps(_finite(fields), ensure_ascii=False, allow_nan=False).encode() + b"\n"


def _finite(value: Any) -> Any:
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    if isinstance(value, Mapping):
        return {key: _finite(inner) for key, inner in value.items()}
    return [_finite(inner) for inner in value] if isinstance(value, (list, tuple)) else value


def _shown(value: Any) -> str:
    text = ascii(value)
    return text if len(text) <= 60 else f"{text[:60]}…"
