"""The journal and the log of decisions: one JSON object a line."""

from __future__ import annotations

import json
import math
import os
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from .context import OccamContext
from .errors import CheckpointError, WorldError

VERSION = 1
STEP_FIELDS = (
    "task_loss",
    "updated",
    "reason_code",
    "learning_rate",
    "lambda_ockham",
    "surprise_threshold",
    "complexity_cost",
    "grad_norm",
    "update_rate",
)
KEYS = ({"event", "iter"}, {"decision", "reason_code", "iter_num"})  # of a journal's event, of a decision

NONFINITE = ("nan", "inf", "-inf")  # how numbers are written that JSON cannot hold
TEXT, WHOLE, TRUTH, LIST, MAPPING = (frozenset({kind}) for kind in (str, int, bool, list, dict))
NUMBER = frozenset({int, float})  # or one of NONFINITE
NUMBER_OR_NULL = NUMBER | {type(None)}
MUST_BE = {
    TEXT: "text", WHOLE: "a whole number", TRUTH: "true or false", LIST: "a list", MAPPING: "an object", NUMBER: "a number",
    NUMBER_OR_NULL: "a number or null",
}  # fmt: skip
# Event -> (key, its types, whether every version wrote it). A kind that is not here has nothing but its iteration.
FIELDS = {
    "step": (
        ("task_loss", NUMBER, True), ("updated", TRUTH, True), ("reason_code", TEXT, True), ("dt_ms", NUMBER, True),
        ("changes", LIST, True), ("metrics", MAPPING, True), ("units", NUMBER, True), ("tokens", WHOLE, False),
        ("learning_rate", NUMBER_OR_NULL, False), ("lambda_ockham", NUMBER_OR_NULL, False),
        ("surprise_threshold", NUMBER_OR_NULL, False), ("complexity_cost", NUMBER_OR_NULL, False),
        ("grad_norm", NUMBER_OR_NULL, False), ("update_rate", NUMBER_OR_NULL, False),
    ),
    "eval": (("train_loss", NUMBER, True), ("val_loss", NUMBER, True), ("tokens", WHOLE, True)),
    "consolidate": (("cause", TEXT, True),),
    "memory": (("reason_code", TEXT, True),),
    "rollback": (("to", WHOLE, True), ("reason_code", TEXT, True)),
    "warning": (("message", TEXT, True),),
    "end": (("reason", TEXT, True),),
    "decision": (("iter_num", WHOLE, True), ("decision", TEXT, True), ("reason_code", TEXT, True)),
}  # fmt: skip


class Lines:
    """A file of JSON lines, appended to. On ranks other than the first it is made with `path=None` and writes nothing."""

    def __init__(self, path: Path | None, keep_bytes: int = 0):
        """Open for appending after the first `keep_bytes` bytes; what a killed run wrote beyond its checkpoint is cut off."""
        self.file = None
        if path is not None:
            if keep_bytes and (not path.is_file() or path.stat().st_size < keep_bytes):
                raise CheckpointError(
                    f"{path} is shorter than the checkpoint says; it was cut or exchanged, so the run cannot be resumed"
                )
            path.parent.mkdir(parents=True, exist_ok=True)
            self.file = open(path, "ab")  # noqa: SIM115 (held for the life of the run)
            self.file.truncate(keep_bytes)

    def put(self, **fields: Any) -> None:
        """One line: schema version and the fields. Non-finite numbers become strings."""
        if self.file:
            line = json.dumps({"v": VERSION, **fields}, default=_plain, allow_nan=True)
            if "NaN" in line or "Infinity" in line:
                line = json.dumps(_finite({"v": VERSION, **fields}), default=_plain)
            self.file.write(line.encode() + b"\n")

    def flush(self) -> int:
        """Push everything to disk and say how many bytes the journal has: a checkpoint remembers that number."""
        if not self.file:
            return 0
        self.file.flush()
        os.fsync(self.file.fileno())
        return self.file.tell()

    def close(self) -> None:
        """Flush and close."""
        if self.file:
            self.flush()
            self.file.close()
            self.file = None


class Journal(Lines):
    """journal.jsonl: every event of a run."""

    def write(self, event: str, iter_num: int, **fields: Any) -> None:
        """One line: event, iteration and the event's own fields."""
        self.put(event=event, iter=iter_num, **fields)

    def step(self, ctx: OccamContext, tokens: int, units: float, dt_ms: float) -> None:
        """A step event from the context that came out of the learner."""
        fields = {name: getattr(ctx, name) for name in STEP_FIELDS}
        self.write(
            "step",
            ctx.iter_num,
            **fields,
            tokens=tokens,
            units=units,
            dt_ms=round(dt_ms, 3),
            changes=ctx.changes,
            metrics=ctx.metrics,
        )


class DecisionLog(Lines):
    """decisions.jsonl: every verdict of the memory, with all that it was made on."""

    def decision(self, ctx: OccamContext, reason_code: str, figures: Mapping[str, Any]) -> None:
        """One line: time in seconds since 1970, iteration, ACCEPT or REJECT, the reason, the context, the verdict's figures."""
        self.put(
            timestamp=time.time(),
            iter_num=ctx.iter_num,
            decision="ACCEPT" if reason_code.startswith("ACCEPTED") else "REJECT",
            reason_code=reason_code,
            metrics=ctx.to_dict(),
            figures=figures,
        )


def read(path: Path, event: str | None = None) -> Iterator[dict[str, Any]]:
    """The events of a journal in order, all or of one kind; or the lines of a log of decisions.

    Each has the keys of its kind, see FIELDS. A last line without its end (a killed run, or one that writes it now) is left
    out. Raises CheckpointError with file and line for any other that is no event and no decision.
    """
    with open(path, "rb") as file:
        for number, line in enumerate(file, 1):
            try:
                entry = _entry(line)
            except ValueError as fault:
                if not line.endswith(b"\n"):
                    return
                raise CheckpointError(f"{path}:{number} is damaged: {fault}; put the file back from a copy") from None
            if event is None or entry.get("event") == event:
                yield entry


def check_begun(run: Path) -> None:
    """Raises WorldError where a run's folder has no journal, or no step in it."""
    path = run / "journal.jsonl"
    if not path.is_file():
        raise WorldError(f"{run} holds no run: journal.jsonl is missing; give the out_dir of a run")
    if next(read(path, "step"), None) is None:
        raise WorldError(f"{run} has no step in its journal yet: there is nothing to show; let it train on")


def _entry(line: bytes) -> dict[str, Any]:
    """What a line holds. Raises ValueError, saying what is wrong with it."""
    try:
        found = json.loads(line)
    except (ValueError, RecursionError):
        found = None
    if not isinstance(found, dict) or not any(keys <= found.keys() for keys in KEYS):
        raise ValueError("neither an event nor a decision")
    if fault := _fault(found):
        raise ValueError(fault)
    return found


def _fault(entry: Mapping[str, Any]) -> str:
    """What an event or decision lacks or has wrong; '' where nothing is."""
    kind = entry.get("event", "decision")
    if type(kind) is not str:
        return f"an event's name must be text, got {_shown(kind)}"
    if "event" in entry and type(entry["iter"]) is not int:
        return f"{kind}'s 'iter' must be a whole number, got {_shown(entry['iter'])}"
    for key, types, is_needed in FIELDS.get(kind, ()):
        if key not in entry:
            if is_needed:
                return f"{kind} has no {key!r}"
        elif type(value := entry[key]) not in types and not (float in types and value in NONFINITE):
            return f"{kind}'s {key!r} must be {MUST_BE[types]}, got {_shown(value)}"
    if kind == "step" and not all(map(_is_change, entry["changes"])):
        return f"step's 'changes' must be a list of [plugin, field, from, to], got {_shown(entry['changes'])}"
    return ""


def _is_change(entry: Any) -> bool:
    return type(entry) is list and len(entry) == 4 and type(entry[0]) is type(entry[1]) is str


def _shown(value: Any) -> str:
    text = ascii(value)
    return text if len(text) <= 60 else f"{text[:60]}…"


def _plain(value: Any) -> Any:
    return value.item() if hasattr(value, "item") else str(value)


def _finite(value: Any) -> Any:
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    if isinstance(value, dict):
        return {k: _finite(v) for k, v in value.items()}
    return [_finite(v) for v in value] if isinstance(value, (list, tuple)) else value
