"""`ockham journal`: what a run's journal tells, as figures, as a picture, and run again."""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any


def add_journal(verbs: Any) -> None:
    """The verb `journal` and its flags."""
    what = verbs.add_parser("journal", help="what a run's journal tells: summarize, plot, replay").add_subparsers(
        required=True, metavar="WHAT"
    )
    summarize = what.add_parser("summarize", help="updates, reasons, events, what each plugin changed, losses")
    summarize.add_argument("--json", action="store_true", help="as JSON")
    summarize.set_defaults(do=journal_summarize, parser=summarize)

    plot = what.add_parser("plot", help="columns and plugin metrics over iterations, as SVG")
    plot.add_argument("--out", type=Path, metavar="FILE", help="default: journal.svg in RUN")
    plot.add_argument("--fields", metavar="A,B,...", help="what to draw; 'help' lists what the journal has")
    plot.add_argument("--x", choices=("iterations", "units"), default="iterations", help="what the curves run over")
    plot.set_defaults(do=journal_plot, parser=plot)

    replay = what.add_parser("replay", help="run it again, bit for bit, or with other plugins on the same batches")
    switch = replay.add_mutually_exclusive_group()
    switch.add_argument("--mute", action="append", metavar="PLUGIN", help="without this plugin (may be given again)")
    switch.add_argument("--solo", action="append", metavar="PLUGIN", help="with this plugin alone (may be given again)")
    switch.add_argument("--each", action="store_true", help="mute every plugin in turn, and solo every one: a table")
    replay.add_argument("--keep", type=Path, metavar="DIR", help="keep what is run in this new folder")
    replay.add_argument("--json", type=Path, metavar="FILE", help="the table as JSON, too")
    replay.set_defaults(do=journal_replay, parser=replay)
    for parser in (summarize, plot, replay):
        parser.add_argument("run", type=Path, metavar="RUN", help="the run's folder")


def journal_summarize(options: argparse.Namespace) -> int:
    """Print the summary. Raises WorldError where there is no journal."""
    import json

    from ..experiment.summarize import as_text, summarize

    summary = summarize(options.run)
    print(json.dumps(summary, indent=2) if options.json else as_text(summary))
    return 0


def journal_plot(options: argparse.Namespace) -> int:
    """Write the picture, or list the fields. Raises WorldError for a journal without a step, ConfigError for an unknown field."""
    from ..errors import ConfigError
    from ..experiment.plot import fields_of, plot
    from ..files import check_target, write_text

    if options.fields == "help":
        print(*fields_of(options.run), sep="\n")
        return 0
    names = [name.strip() for name in options.fields.split(",")] if options.fields else None
    path = options.out or options.run / "journal.svg"
    if options.out:
        if path.suffix not in ("", ".svg"):
            raise ConfigError(f"--out {path} must end in .svg: the picture is SVG, which browsers open and convert")
        check_target("--out", path)
    write_text(path, plot(options.run, names, options.x))
    print(path)
    return 0


def journal_replay(options: argparse.Namespace) -> int:
    """Replay and compare, or tabulate; 1 where a replay differs or a run of the table failed.

    Raises WorldError where the run or its corpus is not there, ConfigError for an unknown plugin.
    """
    from ..errors import ConfigError
    from ..experiment.replay import compare, finished, open_recording, repeat
    from ..files import check_target

    is_table = bool(options.mute or options.solo or options.each)
    if options.json and not is_table:
        raise ConfigError("--json writes the table of --mute, --solo or --each: give one of them, too")
    if options.json:
        check_target("--json", options.json)
    recording = open_recording(options.run)
    if recording.ended is None:
        print(f"{options.run} has no end: it is still running, or was killed; up to iteration {recording.iterations} of last.pt")
    with folder_for(options.keep) as folder:
        if is_table:
            return tabulate(options, recording, folder)
        finished(repeat(recording, folder))
        verdict = compare(recording, folder)
    print(verdict.text)
    return 0 if verdict.is_equal else 1


def tabulate(options: argparse.Namespace, recording: Any, folder: Path) -> int:
    """Run the variants that were asked for, and print their table."""
    from ..experiment import marginal

    known_row = None if options.each else marginal.recorded(recording)
    if options.each:
        variants = marginal.each(recording)
    elif options.mute:
        variants = [marginal.as_it_was(), marginal.without(recording, options.mute)]
    else:
        variants = [marginal.as_it_was(), marginal.only(recording, options.solo), marginal.empty(recording)]
    rows = marginal.run_variants(recording, variants, folder, bool(options.keep), known_row)
    print(marginal.table(rows), marginal.NOTE, sep="\n")
    if options.json:
        marginal.as_json(recording, rows, options.json)
    return int(any(row.error for row in rows))


@contextmanager
def folder_for(keep: Path | None) -> Iterator[Path]:
    """The folder to keep, or a temporary one."""
    if keep:
        yield keep
        return
    from ..experiment.replay import TEMPORARY

    with tempfile.TemporaryDirectory(prefix=TEMPORARY) as folder:
        yield Path(folder) / "replay"
