"""`ockham VERB`: what is done with runs, presets and configurations besides training itself."""

from __future__ import annotations

import argparse
import importlib
import sys
from pathlib import Path
from typing import Any

from . import __version__
from .arguments import DEBUG, Parser
from .audit.command import add_audit
from .commands.ab import add_ab
from .commands.bench import add_bench
from .commands.chat import add_chat
from .commands.check import add_check
from .commands.journal import add_journal
from .commands.memory import add_memory
from .commands.odr import add_odr
from .commands.preset import add_preset
from .errors import ConfigError, UsageError, WorldError
from .experiment.tune_flags import add_tune
from .program import run_program, wants_debug

COMMANDS = """
commands:
  ockham train [FILE ...] [--key=value ...]            train; ockham train --help lists the keys
  ockham config explain KEY [FILE ...] [--key=value ...]
                                                       where KEY's value comes from under these train arguments
  ockham preset list [--for finetune|scratch|stream|noisy]
                                                       the rack presets, a line each
  ockham preset show NAME                              one preset: its plugins, parameters, hyperparameters
  ockham preset diff A B | new NAME [--from PRESET] | validate FILE ...
                                                       compare, make and check presets
  ockham preset pack NAME | install FILE|https-URL     share a preset: one YAML with author, versions and sha256
  ockham preset suggest [FILE ...] [--key=value ...] [--units=U] [--seeds=1,2,3]
                                                       try the presets on your data for equal compute, and rank them
  ockham ab --presets none,A,B --dataset NAME [FILE ...] [--key=value ...]
                                                       compare on paired seeds, gates beside their controls; ockham ab --help
  ockham chat [--base NAME] [--state DIR] [KEY=VALUE ...]
                                                       learns facts as you tell them, and can forget them; ockham chat --help
  ockham chat --exam FILE [--json OUT] | --replay session.jsonl | --make-base
                                                       teach and ask a file of facts; tell a session again; make the small base
  ockham memory list|show|best|export|rollback RUN     the states that a run kept; rollback --undo takes the last one back
  ockham memory compare MODEL MODEL ...                models of different sizes by Occam Quotient, with ROI in per cent
  ockham check PRESET                                  what each plugin may change, conflicts, likely mistakes
  ockham odr new TITLE | list                          decision records under docs/odr (--dir): make one, list them
  ockham odr check FILE --before RUN --after RUN [--json]
                                                       tick the constraints that hold between two runs
  ockham odr close FILE --before RUN --after RUN       ... and write the outcome, KEEP or REVERT
  ockham bench [--preset NAME]                         what a rack adds to the time of a training step
  ockham report RUN [RUN ...]                          report.html in each run's folder
  ockham report RUN [RUN ...] --table                  finished runs as a Markdown table
  ockham report RUN [RUN ...] --svg FILE [--labels A,B,...]
                                                       all runs' val losses in one picture
  ockham audit show RUN                                how a run was last started, and the command that repeats it
  ockham audit verify RUN [--strict]                   what has changed since; exit code 1 if its config, data or code has
  ockham journal summarize RUN [--json]                updates, reasons, events, what each plugin changed, losses
  ockham journal plot RUN [--out FILE.svg] [--fields A,B] [--x units]
                                                       its columns and plugin metrics as a picture
  ockham journal replay RUN [--mute P | --solo P | --each]
                                                       run it again bit for bit, or without a plugin; --json FILE
  ockham tune [FILE ...] [--key=value ...] KEY=SPACE ... --study=DIR
                                                       look for better values, confirmed on fresh seeds; ockham tune --help

--debug behind any of them shows tracebacks. Exit codes: 0 done, 1 the world lacks something, 2 a usage error, 130 interrupted.
"""


MULTIRUN = ("-m", "--multirun")


def main(argv: list[str] | None = None) -> int:
    """The `ockham` command; the exit code."""
    configurator = top_level("configurator")
    given = list(sys.argv[1:] if argv is None else argv)
    arguments = of_train(given)
    if arguments is not None:  # torch is loaded with train_ockham: by the run itself, not by what starts a sweep's jobs
        return configurator.run(lambda config, said: top_level("train_ockham").main(config, said), arguments)
    if not given:
        parser().print_help(sys.stderr)
        return UsageError.exit_code
    return run_program(lambda: run(given), wants_debug(given))


def of_train(given: list[str]) -> list[str] | None:
    """What the verb train is given, the flags before it included, as in `ockham -m train seed=1,2`; None for other verbs."""
    at = next((i for i, arg in enumerate(given) if arg not in MULTIRUN and not DEBUG.fullmatch(arg)), len(given))
    return given[:at] + given[at + 1 :] if given[at : at + 1] == ["train"] else None


def run(given: list[str]) -> int:
    """Does what the verb says. Raises UsageError."""
    options, rest = parser().parse_known_args([arg for arg in given if not DEBUG.fullmatch(arg)])
    if not options.parser.takes_rest:
        options.parser.refuse(rest)
    options.rest = [arg for arg in given if DEBUG.fullmatch(arg)] + rest
    return options.do(options)


def parser() -> Parser:
    """The verbs and their flags."""
    root = Parser(prog="ockham", description=__doc__, epilog=COMMANDS, formatter_class=argparse.RawDescriptionHelpFormatter)
    root.add_argument("--version", action="version", version=f"nanoGPT-Ockham {__version__}")
    root.add_argument("--debug", action="store_true", help="show tracebacks")
    verbs = root.add_subparsers(dest="verb", required=True, metavar="VERB")
    verbs.add_parser("train", add_help=False, help="the same as python train_ockham.py")

    config = verbs.add_parser("config", help="where a configuration value comes from").add_subparsers(
        required=True, metavar="WHAT"
    )
    one = config.add_parser(
        "explain", takes_rest=True, help="KEY's value under the given train arguments, and every layer that spoke"
    )
    one.add_argument("key")
    one.set_defaults(do=explain, parser=one)

    report = verbs.add_parser("report", help="report.html of a run, or one picture of several runs' val losses")
    report.add_argument("runs", nargs="+", type=Path, metavar="RUN")
    other = report.add_mutually_exclusive_group()
    other.add_argument("--svg", type=Path, metavar="FILE", help="write the val-loss curves of all RUNs to FILE instead")
    other.add_argument("--table", action="store_true", help="print finished RUNs as a Markdown table, seeds together, instead")
    report.add_argument("--labels", metavar="A,B,...", help="names of the curves, one for each RUN, separated by commas")
    report.set_defaults(do=make_report, parser=report)
    add_audit(verbs)
    add_tune(verbs)
    add_preset(verbs)
    add_memory(verbs)
    add_check(verbs)
    add_ab(verbs)
    add_chat(verbs)
    add_bench(verbs)
    add_journal(verbs)
    add_odr(verbs)
    return root


def top_level(name: str) -> Any:
    """A module of the checkout's root. Raises WorldError where the package was installed without the checkout."""
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        if error.name != name:
            raise
        raise WorldError(f"the ockham command needs the checkout ({name}.py): pip install -e . in it") from None


def explain(options: argparse.Namespace) -> int:
    """Print a key's value, and what each layer said."""
    print(top_level("configurator").explain(options.key, options.rest))
    return 0


def make_report(options: argparse.Namespace) -> int:
    """Write report.html into each run's folder, or one SVG of them all."""
    from .experiment.report import compare, table, write_report

    labels = options.labels.split(",") if options.labels else None
    if labels and not options.svg:
        raise ConfigError("--labels names the curves of --svg FILE: give --svg, too")
    if labels and len(labels) != len(options.runs):
        raise ConfigError(f"--labels needs a name for each of the {len(options.runs)} runs, got {len(labels)}: {options.labels}")
    if options.table:
        print(table(options.runs))
    elif options.svg:
        options.svg.write_text(compare(options.runs, labels), encoding="utf-8")
        print(options.svg)
    else:
        for run in options.runs:
            print(write_report(run))
    return 0


if __name__ == "__main__":
    sys.exit(main())
