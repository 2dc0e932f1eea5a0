"""`ockham VERB`: what is done with runs, presets and configurations besides training itself."""

from __future__ import annotations

import argparse
import importlib
import sys
from pathlib import Path
from typing import Any

from . import __version__
from .errors import WorldError


def main(argv: list[str] | None = None) -> int:
    """The `ockham` command; the exit code."""
    configurator = top_level("configurator")
    given = sys.argv[1:] if argv is None else argv
    if given[:1] == ["train"]:
        return configurator.run(top_level("train_ockham").main, given[1:])
    options, rest = parser().parse_known_args(given)
    if rest and options.do is not explain:
        parser().error(f"unrecognized arguments: {' '.join(rest)}")
    options.rest = rest
    return configurator.run_program(lambda: options.do(options), "--debug=True" in given)


def parser() -> argparse.ArgumentParser:
    """The verbs and their flags."""
    root = argparse.ArgumentParser(prog="ockham", description=__doc__, epilog="ockham VERB --help says more about each")
    root.add_argument("--version", action="version", version=f"nanoGPT-Ockham {__version__}")
    verbs = root.add_subparsers(dest="verb", required=True, metavar="VERB")
    verbs.add_parser("train", add_help=False, help="the same as python train_ockham.py")

    config = verbs.add_parser("config", help="where a configuration value comes from").add_subparsers(
        required=True, metavar="WHAT"
    )
    one = config.add_parser("explain", help="KEY's value under the given train arguments, and every layer that spoke")
    one.add_argument("key")
    one.set_defaults(do=explain)

    preset = verbs.add_parser("preset", help="the rack presets").add_subparsers(required=True, metavar="WHAT")
    listing = preset.add_parser("list", help="the presets, a line each")
    listing.set_defaults(do=preset_list)
    show = preset.add_parser("show", help="one preset: its plugins, their parameters, its hyperparameters")
    show.add_argument("name")
    show.set_defaults(do=preset_show)

    report = verbs.add_parser("report", help="report.html of a run, or one picture of several runs' val losses")
    report.add_argument("runs", nargs="+", type=Path, metavar="RUN")
    report.add_argument("--svg", type=Path, help="write the val-loss curves of all RUNs to this file instead")
    report.add_argument("--table", action="store_true", help="print finished RUNs as a Markdown table, seeds together, instead")
    report.add_argument("--labels", help="names of the curves, separated by commas")
    report.set_defaults(do=make_report)
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


def preset_list(options: argparse.Namespace) -> int:
    """Print the presets."""
    from .presets import load_preset, preset_names

    for name in preset_names():
        print(f"{name:16s} {load_preset(name).description}")
    return 0


def preset_show(options: argparse.Namespace) -> int:
    """Print one preset."""
    import yaml

    from .presets import load_preset

    preset = load_preset(options.name)
    print(f"{preset.title}: {preset.description}")
    plain = {"hyperparameters": dict(preset.hyperparameters), "plugins": [dict(spec) for spec in preset.specs]}
    print(yaml.safe_dump(plain, sort_keys=False), end="")
    return 0


def make_report(options: argparse.Namespace) -> int:
    """Write report.html into each run's folder, or one SVG of them all."""
    from .experiment.report import compare, table, write_report

    if options.table:
        print(table(options.runs))
    elif options.svg:
        options.svg.write_text(compare(options.runs, options.labels.split(",") if options.labels else None), encoding="utf-8")
        print(options.svg)
    else:
        for run in options.runs:
            print(write_report(run))
    return 0


if __name__ == "__main__":
    sys.exit(main())
