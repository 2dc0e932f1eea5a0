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
from .errors import CheckpointError

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

    A last line without its end (a killed run, or one that writes it now) is left out. Raises CheckpointError with file and
    line for any other that is no event and no decision.
    """
    with open(path, "rb") as file:
        for number, line in enumerate(file, 1):
            entry = _entry(line)
            if entry is None:
                if not line.endswith(b"\n"):
                    return
                raise CheckpointError(
                    f"{path}:{number} is damaged: neither an event nor a decision; put the file back from a copy"
                )
            if event is None or entry.get("event") == event:
                yield entry


def _entry(line: bytes) -> dict[str, Any] | None:
    """What a line holds; None for what this program does not write."""
    try:
        found = json.loads(line)
    except (ValueError, RecursionError):
        return None
    is_known = isinstance(found, dict) and any(keys <= found.keys() for keys in KEYS)
    return found if is_known else None


def _plain(value: Any) -> Any:
    return value.item() if hasattr(value, "item") else str(value)


def _finite(value: Any) -> Any:
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    if isinstance(value, dict):
        return {k: _finite(v) for k, v in value.items()}
    return [_finite(v) for v in value] if isinstance(value, (list, tuple)) else value
