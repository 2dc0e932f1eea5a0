"""Preparing a corpus: text → tokens → train.bin, val.bin, meta.json and nanoGPT's meta.pkl. Every data/*/prepare.py ends here."""

from __future__ import annotations

import argparse
import contextlib
import hashlib
import json
import os
import pickle
import re
import string
import sys
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import groupby
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from .arguments import Parser, boolean, count, fraction
from .errors import ConfigError, CorpusError, OckhamError, nearest
from .files import write_text, write_whole
from .program import wants_debug
from .sources import FileSource, HubSource, Piece, Source, at_word_ends, download
from .tokenizer import (
    END_OF_TEXT,
    BpeTokenizer,
    CharTokenizer,
    GPT2Tokenizer,
    Tokenizer,
    description,
    load_tokenizer,
    read_meta,
)

DATA = Path(__file__).resolve().parents[1] / "data"
FORMAT_VERSION = 1
SPLITS = ("train", "val")
MAX_UINT16_VOCAB = 65_535
ASCII = sorted("\n" + "".join(c for c in string.printable if c.isprintable()))  # 95 printable characters and newline
SHORT = 1024  # tokens; a split of so few does not hold one window of GPT-2's length and its target
BATCH_CHARS = 4_000_000  # characters tokenized at a time: a few hundred MB of Python ints with GPT-2's tokenizer
# What a corpus does to the ids of a split, (T,), before they are written.
Altered = Callable[[Tokenizer, str, np.ndarray], np.ndarray]


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """What one data/<corpus>/prepare.py prepares; the first of `tokenizers` is the default."""

    name: str
    about: str
    tokenizers: tuple[str, ...] = ("char",)
    val_fraction: float = 0.1
    url: str | None = None
    sha256: str | None = None  # of the file at url
    hub: str | None = None  # dataset name on the Hugging Face Hub
    hub_val: str | None = None  # its own validation split


def main(recipe: Recipe, argv: Sequence[str] | None = None) -> int:
    """The whole command line of a prepare.py: exit code 0, 1 for what the world lacks, 2 for a usage error."""
    parser = make_parser(recipe)
    add_source_options(parser, recipe)
    given = sys.argv[1:] if argv is None else argv
    return run_safely(lambda: prepare(recipe, parser.parse_args(given)), wants_debug(given))


def make_parser(recipe: Recipe) -> Parser:
    """The options that every corpus has."""
    parser = Parser(
        prog=f"python data/{recipe.name}/prepare.py",
        description=recipe.about,
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    parser.set_defaults(recipe=recipe.name)
    parser.add_argument("--name", default=recipe.name, help="write to data/NAME")
    parser.add_argument("--out", type=Path, metavar="DIR", help="write to DIR instead of data/NAME")
    parser.add_argument(
        "--tokenizer", choices=recipe.tokenizers, default=recipe.tokenizers[0], help="one token per character, or GPT-2's BPE"
    )
    if "char" in recipe.tokenizers:
        parser.add_argument(
            "--vocab",
            default=argparse.SUPPRESS,
            metavar="own|ascii|CORPUS",
            help="characters: the text's own, ASCII's, or those of data/CORPUS",
        )
    parser.add_argument("--dtype", choices=("auto", "uint16", "uint32"), default="auto", help="type of a token on disk")
    parser.add_argument("--val_fraction", type=fraction, default=recipe.val_fraction, help="part of the text kept for validation")
    for flag, text in (("--force", "rebuild even when the corpus is there"), ("--debug", "show tracebacks")):
        parser.add_argument(flag, type=boolean, nargs="?", const=True, default=False, metavar="True|False", help=text)
    return parser


def add_source_options(parser: argparse.ArgumentParser, recipe: Recipe) -> None:
    """--source, which must be given where the recipe knows no other place, and --limit."""
    parser.add_argument(
        "--source",
        type=Path,
        nargs="+",
        metavar="FILE",
        required=not (recipe.url or recipe.hub),
        help=".txt, .jsonl or .parquet files to read",
    )
    parser.add_argument(
        "--limit", type=count, default=0, metavar="N", help="first N documents, or characters of plain text; 0 = all"
    )


def run_safely(action: Callable[[], Any], debug: bool = False) -> int:
    """Runs `action`; an error becomes one line on stderr and its exit code (130 for Ctrl-C), or a traceback with `debug`."""
    try:
        action()
    except (OckhamError, OSError) as error:
        if debug:
            raise
        message = str(error)
        if isinstance(error, OSError) and error.strerror and error.filename:
            message = f"{error.filename}: {error.strerror}"  # without its number
        print(f"error: {message}", file=sys.stderr)
        return error.exit_code if isinstance(error, OckhamError) else 1
    except KeyboardInterrupt:
        return 130
    return 0


def prepare(recipe: Recipe, args: argparse.Namespace) -> Path:
    """Builds what the command line asks for, unless it is there already; returns the folder."""
    folder, options = target(args), options_of(args, "limit")
    if args.source:
        source: Source = FileSource(args.source, args.val_fraction, args.limit)
        sources = source.fingerprint()
    elif recipe.hub:
        source = HubSource(recipe.hub, args.val_fraction, recipe.hub_val, args.limit)
        sources = source.fingerprint()
    else:  # the pinned file need not be there to know that nothing is to be done
        sources = [{"name": recipe.url, "sha256": recipe.sha256}]
    if not args.force and is_current(folder, options, sources):
        return folder
    if not args.source and recipe.url:
        path = download(recipe.url, str(recipe.sha256), folder / "input.txt")
        source = FileSource([path], args.val_fraction, args.limit)
    return build(folder, source, args, options, sources)


def target(args: argparse.Namespace) -> Path:
    """The folder to write: --out, else data/NAME. Raises ConfigError for a NAME or a place that can be no folder."""
    if not re.fullmatch(r"\w[\w.-]*", args.name):
        raise ConfigError(f"--name must be letters, digits, '_', '-' and '.', got {args.name!r}; use --out DIR for a path")
    folder: Path = args.out or DATA / args.name
    for path in (folder, *folder.parents):
        if path.exists() and not path.is_dir():
            what = "is" if path == folder else f"lies below {path}, which is"
            raise ConfigError(f"{folder} {what} a file, not a folder; choose another --out DIR or --name NAME")
    return folder


def options_of(args: argparse.Namespace, *extra: str) -> dict[str, Any]:
    """The options that decide what the files hold, as they are compared by the next run. Raises ConfigError for a misfit."""
    vocab = getattr(args, "vocab", None)
    if args.tokenizer == "gpt2" and vocab:
        raise ConfigError(f"--vocab is for --tokenizer char; GPT-2's tokenizer has its own (got --vocab {vocab})")
    chosen = {"tokenizer": args.tokenizer, "dtype": args.dtype, "val_fraction": args.val_fraction}
    if args.tokenizer == "char":
        chosen["vocab"] = vocab or "own"
    return chosen | {key: getattr(args, key) for key in extra}


def is_current(folder: Path, options: Mapping[str, Any], sources: list[dict[str, Any]]) -> bool:
    """Whether `folder` holds this very corpus, whole; says so when it does.

    A torn or unfinished corpus, or one from an older state of the same source files, is to be rebuilt. Raises ConfigError
    when another corpus stands there, so that a slip of the pen does not replace it.
    """
    meta = read_meta(folder)
    if not meta or any(not _is_whole(folder, meta, split) for split in SPLITS):
        return False
    chosen = meta.get("options", {})
    differing = sorted(k for k in {*options, *chosen} if options.get(k) != chosen.get(k))
    was, now = meta.get("sources", []), sources
    same_text = [s.get("sha256", s["name"]) for s in was] == [s.get("sha256", s["name"]) for s in now]
    if not differing and same_text:
        print(f"{folder} is prepared already ({_counts(meta)}); nothing to do (--force rebuilds)")
        return True
    if not differing and [s["name"] for s in was] == [s["name"] for s in now]:
        print(f"{folder}: the source has changed, rebuilding")
        return False
    what = ", ".join(f"{k}={chosen.get(k)}" for k in differing) or "source " + ", ".join(str(s["name"]) for s in was)
    raise ConfigError(f"{folder} already holds a corpus prepared with {what}; --name NAME writes another, --force replaces it")


def build(
    folder: Path,
    source: Source,
    args: argparse.Namespace,
    options: Mapping[str, Any],
    sources: list[dict[str, Any]],
    facts: Callable[[Counter[str]], Mapping[str, Any]] = lambda dropped: {},
    altered: Altered | None = None,
) -> Path:
    """Tokenizes `source` into `folder`; memory stays bounded, and meta.json appears last, when all else is on disk.

    `facts(dropped characters)` gives further entries of meta.json, `altered` changes ids on their way. Raises CorpusError when a
    split would have no token to predict or the vocabulary does not fit the type; then the folder keeps what it had.
    """
    tokenizer = make_tokenizer(args, source)
    dtype = choose_dtype(args.dtype, tokenizer.vocab_size)
    folder.mkdir(parents=True, exist_ok=True)
    writers = {split: TokenWriter(folder / f"{split}.bin", dtype) for split in SPLITS}
    try:
        dropped = write_tokens(tokenizer, source, writers, altered)
        check_splits({split: writer.count for split, writer in writers.items()}, source, args.val_fraction)
        meta = {
            "format": FORMAT_VERSION,
            "corpus": args.name,
            "recipe": args.recipe,
            "tokenizer": description(tokenizer),
            "vocab_size": tokenizer.vocab_size,
            "dtype": dtype,
            "tokens": {split: writer.count for split, writer in writers.items()},
            "dropped": {"total": dropped.total(), "characters": dict(dropped.most_common(50))},
            "sources": sources,
            "sha256": {f"{split}.bin": writer.finish() for split, writer in writers.items()},
            "options": dict(options),
            **facts(dropped),
        }
        commit(folder, writers.values(), meta)
    finally:
        for writer in writers.values():
            writer.discard()
        with contextlib.suppress(OSError):  # only an empty folder can be removed: what a failed first build leaves
            folder.rmdir()
    print(f"{folder}: {tokenizer.type} vocabulary of {tokenizer.vocab_size:,}; {_counts(meta)} ({dtype})")
    if dropped:
        shown = ", ".join(f"{c!r} x {n:,}" for c, n in dropped.most_common(8))
        print(f"dropped {dropped.total():,} characters outside the vocabulary: {shown}{', …' if len(dropped) > 8 else ''}")
    return folder


def make_tokenizer(args: argparse.Namespace, source: Source) -> Tokenizer:
    """The tokenizer asked for; an `own` vocabulary takes a pass over the text: its sorted set of characters."""
    if args.tokenizer == "gpt2":
        return GPT2Tokenizer()
    if args.tokenizer == "bpe":
        texts = as_texts("bpe", watched(source.pieces(), "learning the vocabulary"))
        return BpeTokenizer.learn((text for piece, text in texts if piece.split == "train"), args.vocab_size)
    choice = getattr(args, "vocab", "own")
    if choice == "own":
        alphabet: set[str] = set()
        for _, text in as_texts("char", watched(source.pieces(), "collecting characters")):
            alphabet.update(text)
        if not alphabet:
            raise CorpusError(f"{name_of(source)} holds no text")
        return CharTokenizer(sorted(alphabet))
    return CharTokenizer(ASCII) if choice == "ascii" else _vocabulary_of(choice)


def name_of(source: Source) -> str:
    """Where the text comes from, for a message."""
    return ", ".join(str(entry["name"]) for entry in source.fingerprint())


def check_splits(counts: Mapping[str, int], source: Source, val_fraction: float) -> None:
    """Raises CorpusError when a split of `counts` tokens has nothing to predict; warns on stderr when one is short."""
    if not any(counts.values()):
        raise CorpusError(f"{name_of(source)} holds no text that the vocabulary has")
    tokens, split = min((tokens, split) for split, tokens in counts.items())
    mend = f"more text or a {'larger' if split == 'val' else 'smaller'} --val_fraction (now {val_fraction:g}) makes it longer"
    if tokens < 2:
        raise CorpusError(f"the {split} split is too short, it has {tokens} of at least 2 tokens; {mend}")
    if tokens <= SHORT:
        print(f"warning: {split} has {tokens:,} tokens, block_size can be {tokens - 1:,} at most; {mend}", file=sys.stderr)


def _vocabulary_of(corpus: str) -> CharTokenizer:
    folder = DATA / corpus if (DATA / corpus).is_dir() else Path(corpus)
    if read_meta(folder).get("tokenizer", {}).get("type") == "gpt2":
        raise CorpusError(f"--vocab {corpus}: that corpus has GPT-2's tokens, no characters; name a character corpus")
    tokenizer = load_tokenizer(folder)
    if not isinstance(tokenizer, CharTokenizer):
        script = DATA / corpus / "prepare.py"
        if script.exists():
            raise CorpusError(f"--vocab {corpus}: that corpus is not prepared yet; run python {script} first")
        hint = nearest(corpus, ["own", "ascii", *(p.parent.name for p in DATA.glob("*/prepare.py"))])
        raise CorpusError(f"--vocab {corpus}: no such corpus{hint}; allowed: own, ascii, or a prepared character corpus")
    return tokenizer


def choose_dtype(asked: str, vocab_size: int) -> str:
    """uint16 where the vocabulary fits, else uint32. Raises CorpusError when uint16 is asked for and ids would wrap."""
    if asked == "uint16" and vocab_size > MAX_UINT16_VOCAB:
        raise CorpusError(f"vocabulary of {vocab_size:,} does not fit uint16 (at most {MAX_UINT16_VOCAB:,}); use --dtype uint32")
    return asked if asked != "auto" else "uint16" if vocab_size <= MAX_UINT16_VOCAB else "uint32"


def as_texts(kind: str, pieces: Iterable[Piece]) -> Iterator[tuple[Piece, str]]:
    """Each piece with the text to tokenize: for characters a document ends with one newline, for GPT-2 a token marks its end."""
    for piece in pieces if kind == "char" else at_word_ends(pieces):
        yield piece, piece.text.strip() + "\n" if kind == "char" and piece.is_document else piece.text


def write_tokens(
    tokenizer: Tokenizer, source: Source, writers: Mapping[str, TokenWriter], altered: Altered | None = None
) -> Counter[str]:
    """Streams the source into the split writers; returns the characters that were left out."""
    dropped: Counter[str] = Counter()
    end = np.array([END_OF_TEXT])
    for batch in in_batches(as_texts(tokenizer.type, watched(source.pieces(), "tokenizing"))):
        for (piece, text), ids in zip(batch, tokenizer.encode_many(text for _, text in batch), strict=True):
            if tokenizer.type == "char" and len(ids) < len(text):
                dropped.update(tokenizer.unknown(text))
            writers[piece.split].write(altered(tokenizer, piece.split, ids) if altered else ids)
            if tokenizer.type == "gpt2" and piece.is_document:
                writers[piece.split].write(end)
    return dropped


def in_batches(texts: Iterable[tuple[Piece, str]]) -> Iterator[list[tuple[Piece, str]]]:
    """Lists of about BATCH_CHARS characters, for a tokenizer that works on many texts at once."""
    total = 0

    def batch_of(item: tuple[Piece, str]) -> int:
        nonlocal total
        total += len(item[1])
        return total // BATCH_CHARS

    return (list(group) for _, group in groupby(texts, key=batch_of))


@dataclass
class TokenWriter:
    """Appends ids to a file under a temporary name, hashing as it goes; `publish` gives it its own name."""

    path: Path
    dtype: str
    count: int = 0  # tokens
    partial: Path = field(init=False)
    file: BinaryIO = field(init=False)

    def __post_init__(self) -> None:
        self.partial = self.path.with_name(self.path.name + ".partial")
        self.file = open(self.partial, "wb")  # noqa: SIM115 - closed by finish or discard
        self._hash = hashlib.sha256()

    def write(self, ids: np.ndarray) -> None:
        """Appends ids, (T,); the caller's vocabulary fits the dtype."""
        data = ids.astype(np.dtype(self.dtype).newbyteorder("<")).tobytes()
        self.file.write(data)
        self._hash.update(data)
        self.count += len(ids)

    def finish(self) -> str:
        """Flushes to the disk; the SHA-256 of what was written."""
        self.file.flush()
        os.fsync(self.file.fileno())
        self.file.close()
        return self._hash.hexdigest()

    def publish(self) -> None:
        """Gives the finished file its own name, atomically."""
        os.replace(self.partial, self.path)

    def discard(self) -> None:
        """Removes what was not published."""
        self.file.close()
        self.partial.unlink(missing_ok=True)


def commit(folder: Path, writers: Iterable[TokenWriter], meta: Mapping[str, Any]) -> None:
    """Publishes a corpus. Old metadata goes first and meta.json comes last, so that no moment pairs it with other tokens."""
    for stale in ("meta.json", "meta.pkl"):
        (folder / stale).unlink(missing_ok=True)
    for writer in writers:
        writer.publish()
    vocab = meta["tokenizer"].get("vocab")
    if vocab:
        nano = {"vocab_size": len(vocab), "itos": dict(enumerate(vocab)), "stoi": {c: i for i, c in enumerate(vocab)}}
        write_whole(folder / "meta.pkl", pickle.dumps(nano, protocol=4))
    write_text(folder / "meta.json", json.dumps(meta, ensure_ascii=False, indent=1) + "\n")


def watched(pieces: Iterable[Piece], what: str) -> Iterator[Piece]:
    """The same pieces, with a progress line where stderr is a terminal."""
    if not sys.stderr.isatty():
        yield from pieces
        return
    from rich.console import Console
    from rich.progress import Progress, SpinnerColumn, TimeElapsedColumn

    columns = (SpinnerColumn(), "{task.description}", "{task.completed:,.0f} characters", TimeElapsedColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as progress:
        task = progress.add_task(what, total=None)
        for piece in pieces:
            yield piece
            progress.advance(task, len(piece.text))


def _is_whole(folder: Path, meta: Mapping[str, Any], split: str) -> bool:
    path, tokens = folder / f"{split}.bin", meta.get("tokens", {}).get(split)
    item = {"uint16": 2, "uint32": 4}.get(str(meta.get("dtype")), 0)
    return path.is_file() and isinstance(tokens, int) and path.stat().st_size == tokens * item


def _counts(meta: Mapping[str, Any]) -> str:
    return ", ".join(f"{split} {meta['tokens'][split]:,} tokens" for split in SPLITS)
