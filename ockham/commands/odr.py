"""`ockham odr`: Occam Decision Records, made, checked against two runs, and closed by the figures."""

from __future__ import annotations

import argparse
import datetime
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import OckhamError, WorldError

if TYPE_CHECKING:
    from ..experiment.odr_runs import RunPair
    from ..records import Record, Verdict

FOLDER = Path("docs/odr")


def add_odr(verbs: Any) -> None:
    """The verb `odr` and its flags."""
    what = verbs.add_parser("odr", help="decision records: constraints that two runs must keep").add_subparsers(
        required=True, metavar="WHAT"
    )
    new = what.add_parser("new", help="an open record under the next number")
    new.add_argument("title", metavar="TITLE")
    new.set_defaults(do=odr_new, parser=new)
    listing = what.add_parser("list", help="the records, a line each")
    listing.set_defaults(do=odr_list, parser=listing)
    check = what.add_parser("check", help="tick what holds between two runs; exit code 1 where something does not")
    check.set_defaults(do=odr_check, parser=check)
    close = what.add_parser("close", help="check, then write the outcome: KEEP where every constraint holds, else REVERT")
    close.set_defaults(do=odr_close, parser=close)
    for parser in (check, close):
        parser.add_argument("file", type=Path, metavar="FILE|ID", help="the record, or its id as `list` shows it: ODR-001")
        parser.add_argument("--before", type=Path, required=True, metavar="RUN", help="the run without the change")
        parser.add_argument("--after", type=Path, required=True, metavar="RUN", help="the run with it")
        parser.add_argument("--json", action="store_true", help="print one JSON object instead of lines")
        parser.add_argument("--reopen", action="store_true", help="decide a closed record again; a line says that it was")
    for parser in (new, listing, check, close):
        parser.add_argument("--dir", type=Path, default=FOLDER, help="the records' folder (default: %(default)s)")


def odr_new(options: argparse.Namespace) -> int:
    """Write an open record and print its path."""
    from ..records import new_record

    print(new_record(options.title, options.dir))
    return 0


def odr_list(options: argparse.Namespace) -> int:
    """Number, outcome and title of each record; one that cannot be read has its error there, and the exit code is its."""
    from ..records import Record, records

    if not options.dir.is_dir():
        raise WorldError(f"no folder {options.dir}; ockham odr new TITLE makes the first record, --dir names another folder")
    code = 0
    for number, path in records(options.dir):
        try:
            record = Record(path)
            print(f"ODR-{number:03d}  {record.status:14}  {record.title}")
        except OckhamError as error:
            print(f"ODR-{number:03d}  cannot be read: {error}", file=sys.stderr)
            code = error.exit_code
    return code


def odr_check(options: argparse.Namespace) -> int:
    """Tick the boxes by the figures; 1 where a constraint does not hold."""
    record, runs, verdicts = _checked(options)
    record.write()
    _say(options, runs, verdicts)
    return int(not all(verdict.holds for verdict in verdicts))


def odr_close(options: argparse.Namespace) -> int:
    """Tick the boxes and write the outcome; 0 whether KEEP or REVERT, because both are decisions."""
    from ..quotient import relative_improvement

    record, runs, verdicts = _checked(options)
    oq = runs.measure("oq")
    assert oq.before is not None
    said = f"before `{options.before}`, after `{options.after}`; OQ {oq.before:.4g} → {oq.after:.4g}"
    outcome = record.close(verdicts, relative_improvement(oq.after, oq.before), said, _today())
    record.write()
    _say(options, runs, verdicts, outcome)
    return 0


def _checked(options: argparse.Namespace) -> tuple[Record, RunPair, list[Verdict]]:
    from ..experiment.odr_runs import RunPair
    from ..records import Record, find_record

    options.file = find_record(options.file, options.dir)
    record, runs = Record(options.file), RunPair(options.before, options.after)
    if options.reopen:
        record.reopen(_today())
    return record, runs, record.check(runs.measure)


def _today() -> str:
    return datetime.date.today().isoformat()


def _say(options: argparse.Namespace, runs: RunPair, verdicts: Sequence[Verdict], outcome: str = "") -> None:
    """The verdicts, and the outcome where there is one."""
    if options.json:
        told = {
            "record": str(options.file),
            "before": str(options.before),
            "after": str(options.after),
            "constraints": [verdict.to_dict() for verdict in verdicts],
            "holds": all(verdict.holds for verdict in verdicts),
            "notes": runs.notes,
            **({"outcome": outcome} if outcome else {}),
        }
        print(json.dumps(told, indent=2, ensure_ascii=False))
        return
    for verdict in verdicts:
        line = verdict.line
        name = f"{line.label}: {line.constraint}" if line.label else str(line.constraint)
        print(f"{'holds' if verdict.holds else 'FAILS'}  {name}  (measured: {line.constraint.show(verdict.figure)})")
    print(*(f"note: {note}" for note in runs.notes), sep="\n", end="\n" if runs.notes else "")
    print(outcome or f"{sum(v.holds for v in verdicts)} of {len(verdicts)} constraints hold")
