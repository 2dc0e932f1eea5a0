"""`ockham memory`: the states that a run kept, and what can be done with them."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ..experiment.blend import Point

WIDTH = 130  # of a table that goes into a file or pipe


def add_memory(verbs: Any) -> None:
    """The verb `memory` and what belongs under it."""
    what = verbs.add_parser("memory", help="the states that a run kept").add_subparsers(required=True, metavar="WHAT")
    listing = what.add_parser("list", help="the snapshots, and how often each gate spoke")
    show = what.add_parser("show", help="one snapshot's figures")
    best = what.add_parser("best", help="the best of the Pareto frontier within limits; prints its id")
    export = what.add_parser("export", help="one snapshot as a checkpoint for sample.py and --init_from")
    rollback = what.add_parser(
        "rollback",
        help="let the run go on from a snapshot; --undo takes the last rollback back",
        description="A snapshot's state becomes last.pt, from which --init_from=resume goes on as the run did then, and its "
        "weights ckpt.pt. All of the run's files are set aside for --undo, but for its trackers' folders. Refused while a job "
        "trains in RUN.",
    )
    compare = what.add_parser("compare", help="models of different sizes by Occam Quotient, with ROI")
    blend = what.add_parser(
        "blend",
        help="losses on the old and new corpus along the line from anchor to weights; saves the best blend of the two",
        description="The weights anchor + α·(weights − anchor) for several α, 0 and 1 always among them: their losses on the old "
        "and the new corpus's full val splits, and one of them saved as a checkpoint for sample.py and --init_from.",
    )
    for parser, do in (
        (listing, listed), (show, shown), (best, chosen), (export, exported), (rollback, rolled_back), (compare, compared),
        (blend, blended),
    ):  # fmt: skip
        parser.set_defaults(do=do, parser=parser)
        if parser is not compare:
            parser.add_argument("run", type=Path, metavar="RUN", help="the run's folder")
    for parser in (listing, show, compare):
        parser.add_argument("--json", action="store_true", help="for machines")
    for parser in (show, export, rollback):
        parser.add_argument("id", metavar="ID", nargs="?", default="best", help="iter-000250, latest, or best (the default)")
    export.add_argument("--out", type=Path, required=True, metavar="FILE", help="where to write it")
    rollback.add_argument("--undo", action="store_true", help="put back what the last rollback replaced")
    best.add_argument("--max-loss", type=float, default=float("inf"), metavar="L", help="nats/token")
    best.add_argument("--max-complexity", type=float, default=float("inf"), metavar="C", help="complexity_cost")
    best.add_argument("--max-params", type=float, default=float("inf"), metavar="N", help="parameters that are not zero")
    add_blend_options(blend)
    compare.add_argument("models", nargs="+", metavar="MODEL", help="a run's folder, a checkpoint, or RUN:ID of a snapshot")


def add_blend_options(blend: argparse.ArgumentParser) -> None:
    """What `ockham memory blend` takes besides its run."""
    blend.add_argument("--alpha", default="0.5..0.9", metavar="A", help="a range (5 points), numbers as 0.25,0.5,1, or one")
    blend.add_argument("--old", metavar="CORPUS", help="default: that of the run that the weights were brought in from")
    blend.add_argument("--new", metavar="CORPUS", help="default: the run's own")
    blend.add_argument("--data_dir", metavar="DIR", help="folder of the corpora; default: as the runs have it")
    rule = blend.add_mutually_exclusive_group()
    rule.add_argument("--choose", default="mean", metavar="mean|ALPHA", help="save the lowest mean of both losses, or this α")
    rule.add_argument("--within", type=float, metavar="X", help="... or the least α whose new loss is within X of that at α = 1")
    rule.add_argument("--max-loss-new", type=float, metavar="L", help="... or the least α whose new loss is L at most")
    blend.add_argument("--anchor", type=Path, metavar="RUN|FILE", help="weights to start from; default: the run's anchor")
    blend.add_argument("--out", type=Path, metavar="DIR", help="default: RUN-blend")
    blend.add_argument("--overwrite", action="store_true", help="replace a blend that is there")
    blend.add_argument("--device", default="auto", help="auto, cpu, cuda, cuda:N or mps")


def listed(options: argparse.Namespace) -> int:
    """Print the snapshots and the verdicts' counts."""
    from rich.console import Console
    from rich.table import Table

    from ..experiment.kept import open_kept, rejected, rolled_back_to, verdicts

    memory, counts = open_kept(options.run, or_empty=True), verdicts(options.run)
    here = rolled_back_to(options.run)
    frontier, best = {s.id for s in memory.frontier()}, memory.select_best()
    if options.json:
        records = [s.record() for s in memory.snapshots]
        print(json.dumps({"snapshots": records, "verdicts": dict(counts), "rolled_back_to": here}, indent=2))
        return 0
    table = Table("id", "val loss", "complexity", "drift", "parameters", "Occam Quotient", "MB", "", box=None, pad_edge=False)
    for s in memory.snapshots:
        words = [("frontier", s.id in frontier), ("best", best is not None and s.id == best.id), ("GONE", not s.is_available)]
        words.append(("here", s.iter_num == here))
        marks = ", ".join(word for word, holds in words if holds)
        drift = f"{s.metrics.others['drift']:.4f}" if "drift" in s.metrics.others else "-"  # raw: measured without an anchor too
        figures = f"{s.loss:.4f}", f"{s.complexity_cost:.4f}", drift, f"{s.params:,}", f"{s.metrics.occam_quotient:.3e}"
        table.add_row(s.id, *figures, f"{s.bytes / 1e6:.1f}", marks)
    if not memory.snapshots and counts:
        print(f"no state was kept: {rejected(counts)}")
        return 0
    Console(width=None if sys.stdout.isatty() else WIDTH, highlight=False).print(table)
    if here is not None:
        print(f"the run was rolled back to {here:,} and has not gone on since: on resume the later states are dropped")
    accepted = sum(n for code, n in counts.items() if code.startswith("ACCEPTED"))
    if counts:
        print(f"accepted {accepted} of {counts.total()}: " + ", ".join(f"{code} {n}" for code, n in counts.most_common()))
    return 0


def shown(options: argparse.Namespace) -> int:
    """Print one snapshot's record."""
    import yaml

    from ..experiment.kept import open_kept, pick

    memory = open_kept(options.run)
    snapshot = pick(memory, options.id)
    record = snapshot.record() | {"file": str(snapshot.path), "is_available": snapshot.is_available}
    print(json.dumps(record, indent=2) if options.json else yaml.safe_dump(record, sort_keys=False), end="\n" * options.json)
    return 0


def chosen(options: argparse.Namespace) -> int:
    """Print the best snapshot's id; 1 where none is within the limits."""
    from ..errors import WorldError
    from ..experiment.kept import open_kept

    limits = {"max_loss": options.max_loss, "max_complexity": options.max_complexity, "max_params": options.max_params}
    found = open_kept(options.run).select_best(**limits)
    if found is None:
        raise WorldError(f"no snapshot of {options.run} is within the limits")
    print(found.id)
    return 0


def exported(options: argparse.Namespace) -> int:
    """Write one snapshot as a checkpoint."""
    from ..experiment.kept import export, open_kept, pick

    memory = open_kept(options.run)
    snapshot = pick(memory, options.id)
    export(memory, snapshot, options.out)
    print(f"{options.out}: {snapshot.id} of {options.run}, val loss {snapshot.loss:.4f} nats/token")
    return 0


def rolled_back(options: argparse.Namespace) -> int:
    """Put a snapshot in last.pt's and ckpt.pt's place, or take that back."""
    from ..experiment.kept import open_kept, pick
    from ..experiment.rollback import roll_back, undo

    if options.undo:
        undo(options.run)
        print(f"{options.run}: as before the rollback")
        return 0
    memory = open_kept(options.run)
    snapshot = pick(memory, options.id)
    roll_back(options.run, memory, snapshot)
    print(
        f"{options.run}: back at {snapshot.id}, val loss {snapshot.loss:.4f} nats/token; --init_from=resume goes on from there, "
        f"ockham memory rollback {options.run} --undo takes it back"
    )
    return 0


def compared(options: argparse.Namespace) -> int:
    """Print models side by side."""
    from rich.console import Console
    from rich.table import Table

    from ..experiment.kept import weigh

    weighed = weigh(options.models)
    rows = [model.row(weighed[0]) for model in weighed]
    if options.json:
        print(json.dumps(rows, indent=2))
        return 0
    heads = "model", "val loss", "from", "parameters", "MB", "FLOPs", "performance", "Occam Quotient", "ROI"
    table = Table(*heads, box=None, pad_edge=False)
    for r in rows:
        costs = f"{r['params']:,}", f"{r['memory_mb']:.2f}", f"{r['flops']:.3e}"
        worth = f"{r['performance']:.3f}", f"{r['occam_quotient']:.3e}", f"{r['roi_percent']:+.1f} %"
        table.add_row(r["model"], f"{r['loss']:.4f}", r["loss_from"], *costs, *worth)
    Console(width=None if sys.stdout.isatty() else WIDTH, highlight=False).print(table)
    print("ROI: gain in Occam Quotient over the first model; FLOPs of one forward over the shortest model's block.")
    if len({model.corpus for model in weighed}) > 1:
        print("The losses are of different corpora, so these quotients do not compare: " + ", ".join(m.corpus for m in weighed))
    return 0


def blended(options: argparse.Namespace) -> int:
    """Trace the line from anchor to weights, print it, and save one point of it."""
    from ..experiment.blend import Line, Rule, alphas_of, check_out, corpora, save, trace

    asked = alphas_of(options.alpha)
    rule = Rule(chosen_alpha(options.choose), options.within, options.max_loss_new)
    run = options.run.resolve() if options.run.name in ("", "..") else options.run
    out = options.out or run.with_name(f"{run.name}-blend")
    check_out(out, options.overwrite)
    line = Line.open(options.run, options.anchor)
    old, new = corpora(line, options.old, options.new, options.data_dir)
    print(f"{options.run}: iteration {line.iteration}; anchor: {line.about}; old {old.folder.name}, new {new.folder.name}")
    points = trace(line, asked if rule.alpha is None else (*asked, rule.alpha), old, new, options.device)
    show_line(points)
    chosen = rule.pick(points, asked)
    save(line, chosen, points, rule, old, new, out)
    better = min(points, key=lambda point: point.mean)
    if rule == Rule() and better.mean < chosen.mean:
        print(f"α = {better.alpha:g} has a lower mean ({better.mean:.4f}), but --alpha {options.alpha} leaves it out")
    print(f"saved: α = {chosen.alpha:g} ({rule}) in {out / 'ckpt.pt'}, the picture in {out / 'blend.svg'}")
    return 0


def chosen_alpha(text: str) -> float | None:
    """The α of --choose; None for `mean`. Raises UsageError."""
    from ..errors import UsageError

    try:
        return None if text == "mean" else float(text)
    except ValueError:
        raise UsageError(f"--choose must be mean, or an α within 0 and 1, got {text!r}") from None


def show_line(points: Sequence[Point]) -> None:
    """Print the points, nats/token on the full val splits."""
    from rich.console import Console
    from rich.table import Table

    table, ends = Table(box=None, pad_edge=False), {0.0: "anchor", 1.0: "weights"}
    for head in ("α", "old loss", "forgetting", "new loss", "mean"):
        table.add_column(head, justify="right")
    table.add_column("")
    for p in points:
        losses = p.old_loss, p.old_loss - points[0].old_loss, p.new_loss, p.mean
        cells = (f"{loss:{spec}}" for loss, spec in zip(losses, (".4f", "+.4f", ".4f", ".4f"), strict=True))
        table.add_row(f"{p.alpha:g}", *cells, ends.get(p.alpha, ""))
    Console(width=None if sys.stdout.isatty() else WIDTH, highlight=False).print(table)
    print("losses in nats/token on the full val splits; forgetting: old loss above the anchor's")
