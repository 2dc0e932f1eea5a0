"""Occam Decision Records: Markdown pages that say what is to change, which figures must hold, and what was decided."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .constraints import Constraint, Measured, parse
from .errors import UsageError, WorldError, nearest
from .files import write_text

SECTIONS = ("Problem", "Proposed Change", "Occam Constraints", "Outcome")
CONSTRAINTS, OUTCOME = SECTIONS[2:]
TEMPLATE = """# ODR-{number:03d}: {title}

## Problem
What is wrong, with its figure.

## Proposed Change
What is to be done, and where.

## Occam Constraints
- [ ] Reversibility: revert_ms < 10
- [ ] Complexity Cap: added_params < 5 %
- [ ] Quality Gate: val_loss improves > 2 %

## Outcome
Open.
"""
TITLE = re.compile(r"# ODR-(?P<number>\d+): *(?P<title>.+)")
ITEM = re.compile(
    r"(?P<bullet>\s*(?:(?:[-*+]|\d+[.)])\s+)?)\[(?P<box>[ xX])\] (?P<text>.*?)(?P<figure> \(measured: [^()]*\))?\s*"
)
MEANT = re.compile(r"\s*(?:[-*+•‣◦–—]|\d+[.)])\s|.*\[[\sxX]*\](?!\()")  # what is laid out as a constraint, well or not
FENCE = re.compile(r" {0,3}(?P<mark>`{3,}(?=[^`]*$)|~{3,})(?P<info>.*)")
DECISION = re.compile(r"OQ Delta: (?P<delta>\S+) → (?P<decision>KEEP|REVERT)")
WRITTEN = re.compile(rf"Open\.|{DECISION.pattern}|Closed \d{{4}}-\d\d-\d\d: .*")  # lines of the outcome that are ours
NAME = re.compile(r"ODR-(\d+)-.*\.md")
ID = re.compile(r"ODR-(\d+)", re.IGNORECASE)


@dataclass(frozen=True)
class Line:
    """A constraint in its place: index of the line, the words before it ("" = none)."""

    index: int
    label: str
    constraint: Constraint


@dataclass(frozen=True)
class Verdict:
    """What a constraint came to, from which figures."""

    line: Line
    measured: Measured
    figure: float
    holds: bool

    def to_dict(self) -> dict[str, Any]:
        """For JSON; what is not finite is text there."""
        constraint = self.line.constraint
        return {
            "line": self.line.index + 1,
            "label": self.line.label,
            "constraint": str(constraint),
            "metric": constraint.metric,
            "before": _plain(self.measured.before),
            "after": _plain(self.measured.after),
            "figure": _plain(self.figure),
            "shown": constraint.show(self.figure),
            "holds": self.holds,
        }


def _plain(figure: float | None) -> float | str | None:
    return figure if figure is None or math.isfinite(figure) else str(figure)


class Record:
    """One record's file, read whole; the methods change its lines, `write` puts them back.

    Raises WorldError for a file that is not there, UsageError with file and line for one that is no record.
    """

    def __init__(self, path: Path):
        if not path.is_file():
            raise WorldError(f"no record at {path}; ockham odr new TITLE makes one")
        try:
            text = path.read_bytes().decode()
        except UnicodeDecodeError as error:
            raise UsageError(
                f"a record is UTF-8 text, got byte {error.object[error.start]:#x} at {error.start} ({path})"
            ) from error
        self.path, self.newline = path, "\r\n" if "\r\n" in text else "\n"
        self.lines = text.replace("\r\n", "\n").split("\n")
        first = next((i for i, line in enumerate(self.lines) if line.strip()), 0)
        title = TITLE.fullmatch(self.lines[first].strip())
        if title is None:
            raise self._error(f"a record begins with `# ODR-001: Title`, got {self.lines[first]!r}", first)
        self.number, self.title = int(title["number"]), title["title"].strip()
        self._sections()
        code = self._fenced()
        self.constraints = [self._constraint(i) for i in self._body(CONSTRAINTS) if i not in code and MEANT.match(self.lines[i])]

    def _error(self, message: str, index: int) -> UsageError:
        return UsageError(f"{message} ({self.path}:{index + 1})")

    def _fenced(self) -> set[int]:
        """The lines of fenced code, fences included. Raises UsageError for a fence that is never closed."""
        found, mark, opened = set[int](), "", 0
        for i, line in enumerate(self.lines):
            fence = FENCE.fullmatch(line)
            if mark or fence:
                found.add(i)
            if not mark:
                mark, opened = (fence["mark"], i) if fence else ("", 0)
            elif fence and fence["mark"].startswith(mark) and not fence["info"].strip():
                mark = ""
        if mark:
            raise self._error(f"this code block has no closing {mark}: what comes after it would not be read", opened)
        return found

    def _sections(self) -> dict[str, int]:
        """The line of each section's heading; raises UsageError where one is missing or there twice."""
        found: dict[str, int] = {}
        headings = [(i, self.lines[i][3:].strip()) for i in self._headings()]
        for i, name in headings:
            if name in found and name in SECTIONS:
                raise self._error(f"section '## {name}' is there twice", i)
            found[name] = i
        for name in SECTIONS:
            if name not in found:
                hint = nearest(name, found).replace("did you mean", "is it")
                raise UsageError(f"section '## {name}' is missing{hint} ({self.path})")
        return found

    def _headings(self) -> list[int]:
        code = self._fenced()
        return [i for i, line in enumerate(self.lines) if line.startswith("## ") and i not in code]

    def _body(self, section: str) -> range:
        """The lines between a section's heading and the next one."""
        start = self._sections()[section] + 1
        end = next((i for i in self._headings() if i >= start), len(self.lines))
        return range(start, end)

    def _constraint(self, index: int) -> Line:
        item = ITEM.fullmatch(self.lines[index])
        if item is None:
            raise self._error(f"a constraint is `- [ ] Label: metric < number unit`, got {self.lines[index].strip()!r}", index)
        label, colon, text = item["text"].partition(":")
        try:
            return Line(index, label.strip() if colon else "", parse(text if colon else label))
        except UsageError as error:
            raise self._error(str(error), index) from error

    # deciding -------------------------------------------------------------------------------------------------------
    def check(self, measure: Callable[[str], Measured]) -> list[Verdict]:
        """Every constraint against `measure(metric)`; boxes are ticked by the figures, which are written behind the lines.

        Checked again, figures are replaced, and what no longer holds loses its tick. Raises UsageError on a closed record.
        """
        if self.outcome:
            raise UsageError(f"{self.path} is closed ({self.outcome}); to decide again: --reopen")
        if not self.constraints:
            raise self._error("there is no constraint to check", self._sections()[CONSTRAINTS])
        verdicts = []
        for line in self.constraints:
            measured = measure(line.constraint.metric)
            figure = line.constraint.figure(measured)
            verdicts.append(Verdict(line, measured, figure, line.constraint.holds(figure)))
        for verdict in verdicts:
            self._tick(verdict)
        return verdicts

    def _tick(self, verdict: Verdict) -> None:
        line = verdict.line
        item = ITEM.fullmatch(self.lines[line.index])
        assert item is not None
        box, shown = "x" if verdict.holds else " ", line.constraint.show(verdict.figure)
        self.lines[line.index] = f"{item['bullet']}[{box}] {item['text']} (measured: {shown})"

    def close(self, verdicts: Iterable[Verdict], delta: float, runs: str, day: str) -> str:
        """Writes the outcome, KEEP iff every constraint holds; returns it.

        `delta`: relative improvement of the Occam Quotient, +0.4 = 40 % more; `runs`: which two were compared.
        """
        held = [verdict.holds for verdict in verdicts]
        decision = f"OQ Delta: {delta:+.3g} → {'KEEP' if all(held) else 'REVERT'}"
        self._write_outcome([decision, "", f"Closed {day}: {runs}; {sum(held)} of {len(held)} constraints hold"])
        return decision

    def reopen(self, day: str) -> None:
        """Takes the outcome back and says so in a line that stays. A record that is open is left as it is."""
        if self.outcome:
            self._write_outcome(["Open.", "", f"Reopened {day}; it was {self.outcome}"])

    @property
    def outcome(self) -> str:
        """'OQ Delta: +0.4 → KEEP', or '' while the record is open."""
        lines = (self.lines[i].strip() for i in self._body(OUTCOME))
        return next((line for line in lines if DECISION.fullmatch(line)), "")

    def _write_outcome(self, lines: list[str]) -> None:
        """Replaces our own lines of the outcome; what people wrote there stays below them."""
        body = self._body(OUTCOME)
        kept = [self.lines[i] for i in body if not WRITTEN.fullmatch(self.lines[i].strip())]
        text = "\n".join(kept).strip("\n")
        rest = ["", *text.split("\n")] if text else []
        self.lines[body.start : body.stop] = [*lines, *rest, ""]

    def write(self) -> None:
        """Put the lines back into the file, whole or not at all."""
        write_text(self.path, self.newline.join(self.lines))

    @property
    def status(self) -> str:
        """'KEEP +0.4', 'REVERT -0.1' or 'open'."""
        decision = DECISION.fullmatch(self.outcome)
        return f"{decision['decision']} {decision['delta']}" if decision else "open"


def new_record(title: str, folder: Path) -> Path:
    """Write an open record under the folder's next number. Raises UsageError for a title without a letter or digit."""
    title = " ".join(title.split())
    slug = re.sub(r"[\W_]+", "-", title.lower()).strip("-")[:60].strip("-")
    if not slug:
        raise UsageError(f"TITLE needs a letter or a digit, got {title!r}")
    folder.mkdir(parents=True, exist_ok=True)
    number = max((number for number, _ in records(folder)), default=0) + 1
    path = folder / f"ODR-{number:03d}-{slug}.md"
    write_text(path, TEMPLATE.format(number=number, title=title))
    return path


def find_record(given: Path, folder: Path) -> Path:
    """The record of a path, or of an id as `ockham odr list` shows it, ODR-001, in the folder. Raises WorldError."""
    named = ID.fullmatch(str(given))
    if named is None or given.exists():
        return given
    found = [path for number, path in records(folder) if number == int(named[1])]
    if len(found) == 1:
        return found[0]
    have = ", ".join(path.name for path in found) + " are that; give one's path" if found else "has none of that number"
    raise WorldError(f"no single record {given}: {folder} {have}; ockham odr list has them, --dir names another folder")


def records(folder: Path) -> list[tuple[int, Path]]:
    """The folder's records by their numbers."""
    found = ((NAME.fullmatch(path.name), path) for path in folder.glob("ODR-*.md"))
    return sorted((int(name[1]), path) for name, path in found if name)
