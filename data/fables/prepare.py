"""Fables: toy stories written by a grammar, so that the lowest possible loss on them is known. No network."""

import argparse
import random
import sys
from collections import Counter
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))  # a plain checkout need not be installed
sys.path.insert(0, str(Path(__file__).resolve().parent))

from grammar import Section, generate

from ockham.arguments import count
from ockham.corpus import Recipe, build, is_current, make_parser, options_of, run_safely, target
from ockham.program import wants_debug
from ockham.sources import MemorySource, sha256_of

RECIPE = Recipe(name="fables", about="Toy stories written by a grammar, with the floor of the loss on them.")


def nats_per_char(sections: list[Section]) -> float:
    """-ln p per character over sections that follow one another."""
    return sum(s.nats for s in sections) / (sections[-1].end - sections[0].start)


def floor_facts(splits: dict[str, list[Section]], dropped: Counter[str]) -> dict:
    """The entries of meta.json about the floor; null where characters were dropped, since then it is not known exactly."""
    if dropped:
        print("the floor is left out: it is exact only with a vocabulary that has every character", file=sys.stderr)
        return {"floor": None, "bands": []}
    rows = [[s.band, split, s.start, s.end, s.nats / (s.end - s.start)] for split, sections in splits.items() for s in sections]
    return {"floor": nats_per_char(splits["val"]), "floor_train": nats_per_char(splits["train"]), "bands": rows}


def write_fables(args: argparse.Namespace) -> None:
    """Generates both splits, train first, and builds the corpus from them."""
    options, folder = options_of(args, "seed", "size"), target(args)
    here = Path(__file__).parent
    sources = [{"name": f"data/fables/{name}", "sha256": sha256_of(here / name)} for name in ("grammar.py", "teller.py")]
    if not args.force and is_current(folder, options, sources):
        return
    rng = random.Random(args.seed)
    sizes = {"train": args.size * (1 - args.val_fraction), "val": args.size * args.val_fraction}
    written = {split: generate(int(size), rng) for split, size in sizes.items()}
    sections = {split: found for split, (_, found) in written.items()}
    source = MemorySource({split: text for split, (text, _) in written.items()}, "fables")
    build(folder, source, args, options, sources, lambda dropped: floor_facts(sections, dropped))


def main(argv: list[str] | None = None) -> int:
    parser = make_parser(RECIPE)
    parser.add_argument("--seed", type=count, default=1337, help="seed of the stories")
    parser.add_argument("--size", type=count, default=1_200_000, help="characters in all, at least")
    given = sys.argv[1:] if argv is None else argv
    return run_safely(lambda: write_fables(parser.parse_args(given)), wants_debug(given))


if __name__ == "__main__":
    sys.exit(main())
