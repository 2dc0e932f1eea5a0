"""The flags of `ockham tune`, apart from its work: every `ockham` command builds all verbs, and should start at once."""

from __future__ import annotations

import argparse
import math
from pathlib import Path
from typing import Any

from ..arguments import count

OWN_FLAGS = ("--trials", "--study", "--name", "--tune_seed", "--confirm", "--no_prune", "--max_hours_in_all")
EPILOG = """
everything else is the base run, as for ockham train: config files, --key=value, and at least one KEY=SPACE:
  optimizer.lr=tag(log,interval(1e-4,1e-2))   a real number, evenly on a log scale
  rack.gate.target_update_rate=interval(0.3,0.9)
  optimizer.lookahead.k=int(interval(3,12))   a whole number, both ends included
  n_layer=range(2,7)                          2 to 6: the end is left out, as under train -m
  scheduler=cosine,wsd,linear                 one of these
(quote them: the shell has brackets of its own)
"""


def add_tune(verbs: Any) -> None:
    """The verb `tune` and its flags. None of them is a key of a run, so that both can stand on one command line."""
    parser = verbs.add_parser(
        "tune",
        takes_rest=True,
        help="look for better values of any keys, and confirm them on fresh seeds",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--study", type=Path, required=True, metavar="DIR", help="folder of the study; given again, it goes on")
    parser.add_argument("--trials", type=count, default=20, help="trials in all, those of earlier sessions counted (20)")
    parser.add_argument("--tune_seed", type=count, default=0, help="seed of the search: the same one gives the same trials (0)")
    parser.add_argument("--confirm", type=count, default=3, help="fresh seeds on which start and best are compared (3)")
    parser.add_argument("--no_prune", action="store_true", help="let every trial run to its end")
    parser.add_argument("--max_hours_in_all", type=hours, metavar="H", help="no trial starts once all trials took so long")
    parser.add_argument("--name", help="also write config/policy/NAME.yaml and presets/NAME.yaml")
    parser.set_defaults(do=make_tune, parser=parser)


def make_tune(options: argparse.Namespace) -> int:
    """The work, imported once it is asked for."""
    from .tune import tune

    return tune(options)


def hours(text: str) -> float:
    """A time above 0."""
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not 0 < value < math.inf:
        raise argparse.ArgumentTypeError(f"must be a number above 0, got {text!r}")
    return value
