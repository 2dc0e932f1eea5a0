"""The corpora of a scenario, numbering their characters alike: re-encoded copies where they do not, and single bands of them."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ..corpus import SPLITS, TokenWriter, choose_dtype, commit
from ..data import Corpus, TokenFile, open_corpus
from ..errors import CorpusError, nearest
from ..sources import sha256_of
from ..tokenizer import CharTokenizer, load_tokenizer, read_meta

CHUNK = 2**22  # tokens re-encoded at a time
MADE_OF = "made_of"  # in meta.json: a hash of all that decides the files
HOW_IT_WAS_PREPARED = ("recipe", "options", "sources", "dropped", "sha256", "tokens")  # of the source, not true of a copy

OF_ALL_BANDS = ("bands", "floor", "floor_train")  # what does not hold for one band


@dataclass(frozen=True)
class Copy:
    """A corpus that is to be written anew: with another vocabulary, or one band of it."""

    corpus: Corpus
    band: str  # '' = all of it
    vocabulary: list[str] | None  # None = as it is
    folder: Path


@dataclass(frozen=True)
class Prepared:
    """The folder in which a scenario's corpora lie side by side, and which of them each source is."""

    folder: Path
    names: Mapping[str, str]  # source, as CORPUS or CORPUS/BAND -> its folder
    vocab_size: int
    copies: tuple[Copy, ...] = ()

    def of(self, source: str) -> Path:
        """Where a source lies, once the copies are written."""
        return self.folder / self.names[source]

    def write(self) -> None:
        """Write the copies that are not there yet. Raises OSError where the disk refuses."""
        for copy in self.copies:
            write_copy(copy)


def prepare(sources: Sequence[str], data: Path, out: Path, may_stay: bool) -> Prepared:
    """Corpora that number their tokens alike: those in `data` where `may_stay` and they do already, else copies in `out`.

    Copies have the union of the characters, sorted; they are not written yet. Raises CorpusError for a corpus that is not there,
    a band that it has not, or characters beside GPT-2's tokens.
    """
    names = {source: source.partition("/")[0] for source in sources}
    opened = {name: open_corpus(data / name) for name in dict.fromkeys(names.values())}
    alike = len({corpus.vocabulary for corpus in opened.values()}) == 1
    vocabulary = None if alike else union(opened)
    vocab_size = len(vocabulary) if vocabulary else next(iter(opened.values())).vocab_size
    if alike and may_stay and not any("/" in source for source in sources):
        return Prepared(data, names, vocab_size)
    folders = {source: source.replace("/", "-") for source in sources}
    copies = [Copy(opened[name], source.partition("/")[2], vocabulary, out / folders[source]) for source, name in names.items()]
    for copy in copies:
        for split in SPLITS:
            ranges(copy.corpus, split, copy.band)
    return Prepared(out, folders, vocab_size, tuple(copies))


def union(corpora: Mapping[str, Corpus]) -> list[str]:
    """All characters of all corpora, sorted. Raises CorpusError where one has no characters."""
    found = {name: characters_of(corpus) for name, corpus in corpora.items()}
    without = [name for name, characters in found.items() if characters is None]
    if without:
        others = ", ".join(name for name in found if name not in without)
        raise CorpusError(
            f"corpus {without[0]} has GPT-2's tokens, {others} has characters: a scenario's corpora must number their tokens "
            f"alike; prepare {without[0]} with --tokenizer char, or all of them with --tokenizer gpt2"
        )
    return sorted({character for characters in found.values() for character in characters or ()})


def characters_of(corpus: Corpus) -> list[str] | None:
    """The characters in the order of their ids; None for GPT-2's tokens, whose tokenizer is not loaded for this."""
    if corpus.meta.get("tokenizer", {}).get("type") == "gpt2":
        return None
    tokenizer = load_tokenizer(corpus.folder)
    return tokenizer.itos if isinstance(tokenizer, CharTokenizer) else None


def write_copy(copy: Copy) -> None:
    """Write a copy; what is there already and made of the same stays."""
    corpus, vocabulary = copy.corpus, copy.vocabulary
    made_of = fingerprint([identity(corpus), copy.band, vocabulary])
    if is_made_of(copy.folder, made_of):
        return
    table, files = recoding(corpus, vocabulary), {"train": corpus.train, "val": corpus.val}
    facts = {key: value for key, value in corpus.meta.items() if key not in HOW_IT_WAS_PREPARED}
    if copy.band:
        facts = {key: value for key, value in facts.items() if key not in OF_ALL_BANDS}
    write(
        copy.folder,
        {split: recoded(files[split], ranges(corpus, split, copy.band), table) for split in SPLITS},
        facts,
        vocabulary or characters_of(corpus),
        corpus.vocab_size if vocabulary is None else len(vocabulary),
        {"copied_from": str(corpus.folder), MADE_OF: made_of},
    )


def recoding(corpus: Corpus, vocabulary: list[str] | None) -> np.ndarray | None:
    """Old id → new id, (V,); None where the ids stay."""
    characters = characters_of(corpus)
    if vocabulary is None or characters is None:
        return None
    return CharTokenizer(vocabulary).encode("".join(characters), strict=True)


def ranges(corpus: Corpus, split: str, band: str) -> list[tuple[int, int]]:
    """Which tokens of a split: all of them, or those of a band. Raises CorpusError naming the nearest band."""
    if not band:
        return [(0, (corpus.train if split == "train" else corpus.val).tokens)]
    rows = [row for row in corpus.meta.get("bands", ()) if row[1] == split]
    found = [(int(row[2]), int(row[3])) for row in rows if row[0] == band]
    if not found:
        known = sorted({str(row[0]) for row in rows})
        has = f"its bands: {', '.join(known)}" if known else "it has none; fables has"
        raise CorpusError(f"corpus {corpus.folder.name} has no band {band!r}{nearest(band, known)}; {has}")
    return found


def recoded(file: TokenFile, where: Sequence[tuple[int, int]], table: np.ndarray | None) -> Iterator[np.ndarray]:
    """The tokens of some ranges, with their new ids, piece by piece."""
    for start, end in where:
        for at in range(start, end, CHUNK):
            piece = np.asarray(file.array()[at : min(at + CHUNK, end)])
            yield piece if table is None else table[piece]


def write(
    folder: Path,
    splits: Mapping[str, Iterator[np.ndarray]],
    facts: Mapping[str, Any],
    vocabulary: list[str] | None,
    vocab_size: int,
    more: Mapping[str, Any],
) -> None:
    """Write a corpus's splits, meta.json and meta.pkl, as every corpus has them; meta.json comes last."""
    folder.mkdir(parents=True, exist_ok=True)
    dtype = choose_dtype("auto", vocab_size)
    writers = {split: TokenWriter(folder / f"{split}.bin", dtype) for split in splits}
    try:
        for split, pieces in splits.items():
            for piece in pieces:
                writers[split].write(piece)
        kind = {"type": "char", "vocab": vocabulary} if vocabulary else {"type": "gpt2"}
        meta = {
            **facts,
            "tokenizer": kind,
            "vocab_size": vocab_size,
            "dtype": dtype,
            "tokens": {split: writer.count for split, writer in writers.items()},
            "sha256": {f"{split}.bin": writer.finish() for split, writer in writers.items()},
            **more,
        }
        commit(folder, writers.values(), meta)
    finally:
        for writer in writers.values():
            writer.discard()


def identity(corpus: Corpus) -> list[str]:
    """The hashes of a corpus's files, by its meta.json where that has them."""
    known = corpus.meta.get("sha256", {})
    return [known.get(f"{split}.bin") or sha256_of(corpus.folder / f"{split}.bin") for split in SPLITS]


def fingerprint(content: Any) -> str:
    """A short hash of plain values."""
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:16]


def is_made_of(folder: Path, made_of: str) -> bool:
    """Whether a folder holds, whole, the corpus with this hash."""
    meta = read_meta(folder)
    size = {"uint16": 2, "uint32": 4}.get(str(meta.get("dtype")), 0)
    files = {split: folder / f"{split}.bin" for split in SPLITS}
    return meta.get(MADE_OF) == made_of and all(
        file.is_file() and file.stat().st_size == size * meta["tokens"][split] for split, file in files.items()
    )
