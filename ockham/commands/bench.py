"""`ockham bench`: what the rack costs in time."""

from __future__ import annotations

import argparse
import json
from typing import Any


def add_bench(verbs: Any) -> None:
    """The verb `bench` and its flags."""
    parser = verbs.add_parser("bench", help="what a preset's rack adds to the time of a training step, in per cent")
    parser.add_argument("--preset", default="balanced", metavar="NAME", help="the rack (balanced)")
    parser.add_argument("--size", action="append", choices=("0.8M", "10.65M"), help="of the model; both unless given")
    parser.add_argument("--steps", type=int, default=0, metavar="N", help="timed steps of each side (200 and 12)")
    parser.add_argument("--json", action="store_true", help="for machines")
    parser.set_defaults(do=bench, parser=parser)


def bench(options: argparse.Namespace) -> int:
    """Print medians of steps made in turn."""
    from ..experiment.bench import SIZES, overhead

    for size in options.size or SIZES:
        found = overhead(size, options.preset, options.steps)
        if options.json:
            print(json.dumps(vars(found)))
        else:
            print(
                f"{found.size}: plain {found.plain_ms:.2f} ms, {options.preset} {found.rack_ms:.2f} ms, "
                f"{found.percent:+.2f} % (median of {found.steps} pairs)"
            )
    return 0
