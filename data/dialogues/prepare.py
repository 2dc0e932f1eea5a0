"""Dialogues: short talks about made-up people and things, and fables with their questions. No network."""

import argparse
import random
import sys
from functools import partial
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))  # a plain checkout need not be installed
sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "fables"))
sys.path.insert(0, str(Path(__file__).resolve().parent))

import numpy as np
from grammar import generate
from world import World

from ockham.arguments import count
from ockham.corpus import Recipe, build, is_current, make_parser, options_of, run_safely, target
from ockham.program import wants_debug
from ockham.sources import MemorySource, sha256_of
from ockham.stream import ROW
from ockham.tokenizer import BpeTokenizer, Tokenizer

ROOT = Path(__file__).resolve().parents[2]
RECIPE = Recipe(
    name="dialogues",
    about="Short talks about made-up people and things, and fables with their questions.",
    tokenizers=("bpe", "char"),
    val_fraction=0.02,
)
SPLIT = 0.1  # share of the training tokens that are written as the two they were merged from
ROW_TOKENS = 65  # a window of the small base, and its last target
FABLES = 0.05  # share of the characters
# The chat's own code that words statements, questions and replies: where it changes, so does the corpus.
WORDING = ("clause", "detector", "facts", "forms", "phrases", "pronouns", "questions", "rephrasing", "synonyms", "verbs")


def write_split(size: int, rng: random.Random) -> str:
    """Dialogues and, every so often, a stretch of fables, `size` characters in all at least."""
    stories = tell_stories(max(2000, int(size * FABLES)), rng)
    world, parts, written = World(rng), [], 0
    while written < size:
        is_story = bool(stories) and rng.random() < FABLES / 3  # a story is about three times as long as a dialogue
        part = stories.pop() + "\n\n" if is_story else world.dialogue()
        parts.append(part)
        written += len(part)
    return "".join(parts)


def tell_stories(size: int, rng: random.Random) -> list[str]:
    """Fables with their questions, in random order, without the band of noise."""
    text, sections = generate(size, rng)
    stories = [s for s in "".join(text[s.start : s.end] for s in sections if s.band != "noise").split("\n\n") if s]
    rng.shuffle(stories)
    return stories


def write_dialogues(args: argparse.Namespace) -> None:
    """Generates both splits and builds the corpus from them."""
    options, folder = options_of(args, "seed", "size", "vocab_size"), target(args)
    sources = written_by()
    if not args.force and is_current(folder, options, sources):
        return
    rng = random.Random(args.seed)
    sizes = {"train": args.size * (1 - args.val_fraction), "val": args.size * args.val_fraction}
    texts = {split: write_split(int(size), rng) for split, size in sizes.items()}
    is_bpe = args.tokenizer == "bpe"
    build(
        folder,
        MemorySource(texts, "dialogues"),
        args,
        options,
        sources,
        facts=lambda dropped: {ROW: ROW_TOKENS} if is_bpe else {},
        altered=partial(as_rows, rng) if is_bpe else None,
    )


def written_by() -> list[dict[str, str]]:
    """The files that the text follows from, with their hashes."""
    names = [f"data/dialogues/{name}" for name in ("prepare.py", "world.py", "words.yaml")]
    names += [f"data/fables/{name}" for name in ("grammar.py", "teller.py")]
    names += [f"ockham/online/{name}.py" for name in WORDING] + ["config/online/default.yaml"]
    return [{"name": name, "sha256": sha256_of(ROOT / name)} for name in names]


def as_rows(rng: random.Random, tokenizer: Tokenizer, split: str, ids: np.ndarray) -> np.ndarray:
    """The training split, (T,), with some tokens in parts, so that the base has seen every token, and can learn names that it has
    not; then one row for each dialogue, which begins with it and goes on with those after it: a chat is read from its start, too.
    """
    if split != "train" or not isinstance(tokenizer, BpeTokenizer):
        return ids
    ids = np.asarray(tokenizer.split_some(ids, SPLIT, rng))
    (newline,) = tokenizer.encode("\n")
    after_empty_lines = 2 + np.flatnonzero((ids[:-2] == newline) & (ids[1:-1] == newline))
    starts = after_empty_lines[after_empty_lines + ROW_TOKENS <= len(ids)]
    return ids[starts[:, None] + np.arange(ROW_TOKENS)].ravel()


def main(argv: list[str] | None = None) -> int:
    parser = make_parser(RECIPE)
    parser.add_argument("--seed", type=count, default=1337, help="seed of the dialogues")
    parser.add_argument("--size", type=count, default=4_000_000, help="characters in all, at least")
    parser.add_argument("--vocab_size", "--vocab-size", type=count, default=1024, help="entries of the byte-pair vocabulary")
    given = sys.argv[1:] if argv is None else argv
    return run_safely(lambda: write_dialogues(parser.parse_args(given)), wants_debug(given))


if __name__ == "__main__":
    sys.exit(main())
