"""The flags of `ockham preset suggest`, apart from its work: every command builds all verbs, and should start at once."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from ..arguments import count

EPILOG = """
everything else is the run, as for ockham train: config files, --key=value. Each preset is run for the same number of
compute units (a forward is 1, its backward 2), the schedule ends where the units do, and the val losses on the whole
split are ranked. --max_iters=N without --units means as many units as N learned iterations cost.
  ockham preset suggest config/train_shakespeare_char_cpu.py --dataset=fables --units=900 --seeds=1,2,3
"""


def add_suggest(what: Any) -> None:
    """`suggest` and its flags. None of them is a key of a run, so that both can stand on one command line."""
    parser = what.add_parser(
        "suggest",
        takes_rest=True,
        help="run presets for a short, equal compute budget and rank them by val loss",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--units", type=count, metavar="U", help="compute units of each run (600)")
    parser.add_argument("--presets", metavar="A,B,...", help="which presets (none and all that there are)")
    parser.add_argument("--seeds", metavar="N,N,...", default="1337", help="one run of each preset for each seed (1337)")
    parser.add_argument(
        "--out", type=Path, default=Path("out-suggest"), metavar="DIR", help="a new folder for the runs (out-suggest)"
    )
    parser.set_defaults(do=make_suggestion, parser=parser)


def make_suggestion(options: argparse.Namespace) -> int:
    """The work, imported once it is asked for."""
    from .suggest import suggest

    return suggest(options)
