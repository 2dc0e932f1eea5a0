"""The flags of `ockham ab`, apart from its work: every `ockham` command builds all verbs, and should start at once."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from ..arguments import count
from ..errors import ConfigError, nearest

EPILOG = """
everything else is the base run, as for ockham train: config files and --key=value. Without a config file the data set's recipe
is taken, where there is no GPU the one for the CPU. A variant that skips batches gets two controls: the same run that skips as
many at random, and a shorter plain run of the same compute units. A verdict needs 6 seeds. The same command goes on with an
experiment that was cut off. A scenario trains on one corpus or stream after another and says what was forgotten; those in
scenarios/ are given by name, such as keep_old.yaml. Exit code 1 if a run failed.
"""
FLAGS = ("--presets", "--policies", "--variant", "--baseline", "--dataset", "--scenario", "--seeds", "--n-seeds", "--jobs",
         "--out", "--ablate", "--no-controls", "--dry-run", "--launcher")  # fmt: skip


def add_ab(verbs: Any) -> None:
    """The verb `ab` and its flags."""
    parser = verbs.add_parser(
        "ab",
        takes_rest=True,
        help="compare presets, policies or overrides on paired seeds, gates beside their controls",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--presets", metavar="A,B", help="rack presets, none among them for plain training")
    parser.add_argument("--policies", metavar="A,B", help="policies by name, or files, which are laid over the recipe")
    parser.add_argument("--variant", action="append", default=[], metavar="'NAME: --key=value ...'", help="may be repeated")
    parser.add_argument("--baseline", metavar="NAME", help="the variant that the others are held against (the first)")
    parser.add_argument("--dataset", metavar="NAME", help="a folder in data/")
    parser.add_argument("--scenario", metavar="A,B|FILE", help="train on A, then B, ...; or as a YAML file says")
    parser.add_argument("--seeds", metavar="1,2,3", help="the seeds, the same for every variant")
    parser.add_argument(
        "--n-seeds", "--n_seeds", type=count, default=6, metavar="N", help="seeds 1 to N, where --seeds is not given (6)"
    )
    parser.add_argument("--jobs", type=positive, default=1, metavar="N", help="runs at a time (1)")
    parser.add_argument("--launcher", metavar="NAME", help="start the runs by this launcher of Hydra's, as on a cluster")
    parser.add_argument("--out", type=Path, metavar="DIR", help="folder of the experiment (out-ab-DATASET, out-ab-SCENARIO)")
    parser.add_argument("--ablate", action="store_true", help="also each variant without each of its plugins in turn")
    parser.add_argument("--no-controls", "--no_controls", action="store_true", help="no controls for variants that skip batches")
    parser.add_argument("--dry-run", "--dry_run", action="store_true", help="print the plan and the time it takes, and stop")
    parser.set_defaults(do=make_ab, parser=parser)


def make_ab(options: argparse.Namespace) -> int:
    """The work, imported once it is asked for. Raises ConfigError for a flag that neither ab nor a run has."""
    from ..configuration.keys import is_known, known_keys
    from ..experiment.ab import ab

    for arg in options.rest:
        key = arg.lstrip("-").partition("=")[0]
        if arg.startswith("--") and not is_known(key) and key != "debug":
            raise ConfigError(f"unknown key --{key}{nearest(f'--{key}', [*FLAGS, *(f'--{k}' for k in known_keys())])}")
    options.given = given(options)
    return ab(options)


def given(options: argparse.Namespace) -> list[str]:
    """The command line, for the record."""
    named = ("presets", "policies", "baseline", "dataset", "scenario", "seeds", "out", "launcher")
    flags = [f"--{name}={value}" for name in named if (value := getattr(options, name)) is not None]
    flags += [f"--variant={text}" for text in options.variant]
    flags += [f"--n-seeds={options.n_seeds}"] * (options.seeds is None)
    flags += ["--ablate"] * options.ablate + ["--no-controls"] * options.no_controls
    return [*options.rest, *flags]


def positive(text: str) -> int:
    """A whole number, 1 or more."""
    value = count(text)
    if not value:
        raise argparse.ArgumentTypeError(f"must be a whole number, 1 or more, got {text!r}")
    return value
