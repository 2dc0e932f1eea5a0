"""An audit record for people: a section of audit.md, one line of it, and the console's table."""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import datetime
from typing import Any

from rich.table import Table

SHORT = 12  # characters of a hash that are shown
SECTION = re.compile(r"^## \d{4}-\d\d-\d\d ", re.MULTILINE)

Rows = list[tuple[str, str]]


def as_section(record: Mapping[str, Any], has_hash: bool = True) -> str:
    """The record as a section of audit.md: heading, table, command."""
    lines = [f"## {when(record)}: {record['optimizer']['name']}, iteration {record['iteration']:,}", "", "| | |", "| --- | --- |"]
    rows = [*optimizer_rows(record), *provenance_rows(record)]
    if has_hash:
        rows.append(("config sha256", record["config_sha256"]))
    lines += [f"| {cell(label)} | {cell(value)} |" for label, value in rows]
    fence = "`" * max([3, *(len(ticks) + 1 for ticks in re.findall("`+", record["command"]))])  # longer than any inside
    return "\n".join([*lines, "", f"{fence}bash", record["command"], fence, "", ""])


def as_line(record: Mapping[str, Any]) -> str:
    """Time and config hash alone."""
    return f"- {when(record)}: config sha256 {record['config_sha256']}\n"


def last_section(text: str) -> str:
    """The newest section of audit.md; all of it where it holds lines alone."""
    starts = [match.start() for match in SECTION.finditer(text)]
    return text[starts[-1] :] if starts else text


def audit_table(record: Mapping[str, Any]) -> Table:
    """The optimizer and its schedule, for the console."""
    table = Table(title="optimizer", show_header=False, title_justify="left")
    table.add_column("what")
    table.add_column("value", overflow="fold")
    for label, value in [*optimizer_rows(record), ("config sha256", record["config_sha256"][:SHORT])]:
        table.add_row(label, value)
    return table


def optimizer_rows(record: Mapping[str, Any]) -> Rows:
    """Optimizer, wrappers, precision and schedule as (label, value)."""
    made, ahead = record["optimizer"], record["lookahead"]
    groups = [
        f"{number(g['parameters'])} parameters in {g['tensors']} tensors: lr {number(g['lr'])}, decay {number(g['weight_decay'])}"
        for g in made["groups"]
    ]
    return [
        ("optimizer", f"{made['name']} ({made['type']}), lr {number(made['lr'])}"),
        ("options", pairs(made["options"])),
        *((f"group {index}", text) for index, text in enumerate(groups, 1)),
        ("lookahead", pairs(ahead) if ahead else "off"),
        ("ema", "off" if record["ema"] is None else f"decay {number(record['ema'])}"),
        ("clip, accumulate", f"{number(made['clip_grad_norm'], 'no clipping')}, {made['accumulate_steps']} micro-batches"),
        ("precision", f"{record['machine']['dtype']}, {'fused' if made['fused'] else 'not fused'}"),
        ("schedule", schedule_text(record["scheduler"])),
    ]


def schedule_text(schedule: Mapping[str, Any]) -> str:
    """A schedule in a line."""
    name, clock = schedule["name"], schedule["clock"]
    parts = [f"{name} over {clock}: {number(schedule['first_lr'])} at first, peak {number(schedule['peak'])}"]
    if name != "none":
        parts.append(f"warm-up {number(schedule['warmup_steps'])}")
    if schedule["decay_steps"] is not None:
        parts.append(f"{number(schedule['min_lr'])} at {number(schedule['decay_steps'])}")
    common = ("name", "clock", "peak", "first_lr", "warmup_steps", "decay_steps", "min_lr")
    own = {key: value for key, value in schedule.items() if key not in common}
    return ", ".join([*parts, pairs(own)] if own else parts)


def provenance_rows(record: Mapping[str, Any]) -> Rows:
    """Data, code, versions and machine as (label, value)."""
    data, code, machine = record["data"], record["code"], record["machine"]
    inputs = {f"{data['folder']}/{name}": found for name, found in data["files"].items()} | record["inputs"]
    return [
        *((f"sha256 {path}", fingerprint_text(found, full=True)) for path, found in inputs.items()),
        ("preset", record["preset"]["name"] if record["preset"] else "none"),
        ("sha256 of the code", code["sha256"]),
        ("git", git_text(code["git"])),
        ("versions", pairs({k: v for k, v in record["versions"].items() if v})),
        ("machine", f"{machine['name']} ({machine['device']} × {machine['world']}), {machine['threads']} CPU threads"),
    ]


def fingerprint_text(found: Mapping[str, Any] | None, full: bool = False) -> str:
    """A file's hash, whole or its beginning, its length, and whether all of the file was read for it."""
    if found is None:
        return "none"
    shown = found["sha256"] if full else found["sha256"][:SHORT]
    return f"{shown}, {found['bytes']:,} bytes{', sampled' if found.get('sampled') else ''}"


def git_text(git: Mapping[str, Any] | None) -> str:
    """Commit, whether the tree was changed, and how many files it has that git does not know."""
    if git is None:
        return "none"
    state = f"changed: diff {git['diff_sha256'][:SHORT]}" if git["diff_sha256"] else "clean"
    return ", ".join([git["commit"][:SHORT], state, *[f"{git.get('untracked')} untracked"] * bool(git.get("untracked"))])


def when(record: Mapping[str, Any]) -> str:
    """The record's time, as in 2026-11-21 12:30:05 UTC."""
    return f"{datetime.fromisoformat(record['time']):%Y-%m-%d %H:%M:%S} UTC"


def number(value: Any, none: str = "none") -> str:
    """A number without trailing zeros, whole ones with commas."""
    if value is None:
        return none
    if isinstance(value, int) and not isinstance(value, bool):
        return f"{value:,}"
    return f"{value:g}" if isinstance(value, float) else str(value)


def pairs(values: Mapping[str, Any]) -> str:
    """'betas [0.9, 0.95], eps 1e-08'; 'none' for nothing."""
    return ", ".join(f"{key} {number(value)}" for key, value in values.items()) or "none"


def cell(text: str) -> str:
    """Text that cannot break a Markdown table."""
    return " ".join(text.split()).replace("|", "\\|")
