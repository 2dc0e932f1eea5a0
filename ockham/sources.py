"""Where a corpus's text comes from: files, the Hugging Face Hub, or memory, always as a stream of bounded pieces."""

from __future__ import annotations

import codecs
import contextlib
import hashlib
import io
import json
import os
import re
import socket
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple, Protocol

from .errors import CorpusError
from .tokenizer import INSTALL_DATA

BLOCK_BYTES = 1 << 20
MARKER = "<|endoftext|>"  # between documents in a .txt, as in the published TinyStories files
# A cut here never changes GPT-2's tokens: its pre-tokenizer always ends a token between a non-space and a space.
WORD_END = re.compile(r"\S(?=[ \n])")
HUB_ROWS = 1024  # rows of a parquet file read at a time


class Piece(NamedTuple):
    """A stretch of text of one split; a document is whole and ends there, other text goes on in the next piece."""

    split: str
    text: str
    is_document: bool


class Source(Protocol):
    """A text that can be streamed more than once, always the same."""

    def pieces(self) -> Iterator[Piece]:
        """The text in order, train before or among val."""
        ...

    def fingerprint(self) -> list[dict[str, Any]]:
        """What the text came from: name, and bytes and sha256 where it is a file."""
        ...


class MemorySource:
    """Splits that are already in memory."""

    def __init__(self, splits: Mapping[str, str], name: str) -> None:
        self.splits, self.name = splits, name

    def pieces(self) -> Iterator[Piece]:
        for split, text in self.splits.items():
            for start in range(0, len(text), BLOCK_BYTES):
                yield Piece(split, text[start : start + BLOCK_BYTES], False)

    def fingerprint(self) -> list[dict[str, Any]]:
        return [{"name": self.name}]


class FileSource:
    """Files one after another: the first 1 − val_fraction of the characters are train, the rest val, as in nanoGPT.

    A .jsonl line (field `text`), a .parquet row (column `text`) and a part between <|endoftext|> markers are documents and
    stay whole, the one on the border in val; any other file is UTF-8 text, cut at the very character. `limit` keeps the
    first `limit` documents, or characters of plain text; 0 keeps all. Raises CorpusError for a file that is missing, not
    UTF-8 or not readable.
    """

    def __init__(self, paths: Iterable[Path], val_fraction: float, limit: int = 0) -> None:
        self.paths, self.val_fraction, self.limit = [Path(p) for p in paths], val_fraction, limit
        for path in self.paths:
            if not path.is_file():
                what = "is a folder; name the files in it" if path.is_dir() else "does not exist"
                raise CorpusError(f"source {path} {what}")
        self._cut: int | None = None

    def pieces(self) -> Iterator[Piece]:
        cut, at = self._train_chars(), 0
        for text, is_document in self._units():
            if is_document:
                yield Piece("val" if at + len(text) > cut else "train", text, True)
            else:
                before = max(0, cut - at)
                yield from (Piece(s, t, False) for s, t in (("train", text[:before]), ("val", text[before:])) if t)
            at += len(text)

    def fingerprint(self) -> list[dict[str, Any]]:
        return [{"name": str(p), "bytes": p.stat().st_size, "sha256": sha256_of(p)} for p in self.paths]

    def _train_chars(self) -> int:
        if self._cut is None:
            self._cut = int(sum(len(text) for text, _ in self._units()) * (1 - self.val_fraction))
        return self._cut

    def _units(self) -> Iterator[tuple[str, bool]]:
        """(text, is a document) of every file, within the limit."""
        left = self.limit or float("inf")
        for text, is_document in self._all_units():
            if left <= 0:
                return
            text = text if is_document else text[: int(min(left, len(text)))]
            left -= 1 if is_document else len(text)
            yield text, is_document

    def _all_units(self) -> Iterator[tuple[str, bool]]:
        last = "\n"
        for path in self.paths:
            reader = READERS.get(path.suffix.lower()) or (read_marked if has_marker(path) else None)
            if reader:
                yield from ((text, True) for text in reader(path) if text.strip())
                continue
            if last != "\n":
                yield "\n", False
            for block in read_text(path):
                yield block, False
                last = block[-1]


class HubSource:
    """A dataset of the Hugging Face Hub, streamed: never more than a few rows in memory, nothing kept on disk.

    `val_split` names the dataset's own validation split; without one every round(1/val_fraction)-th document, counted from
    the first, is val. `limit` keeps the first `limit` documents of train (and val_fraction of that of val); 0 keeps all.
    Raises CorpusError where `datasets` is not installed or the Hub cannot be reached.
    """

    def __init__(self, name: str, val_fraction: float, val_split: str | None = None, limit: int = 0) -> None:
        self.name, self.val_fraction, self.val_split, self.limit = name, val_fraction, val_split, limit

    def pieces(self) -> Iterator[Piece]:
        every = max(2, round(1 / self.val_fraction))
        for i, text in enumerate(self._texts("train", self.limit)):
            yield Piece("train" if self.val_split or i % every else "val", text, True)
        if self.val_split:
            limit = max(1, round(self.limit * self.val_fraction)) if self.limit else 0
            yield from (Piece("val", text, True) for text in self._texts(self.val_split, limit))

    def fingerprint(self) -> list[dict[str, Any]]:
        return [{"name": f"hub:{self.name}"}]

    def _texts(self, split: str, limit: int) -> Iterator[str]:
        rows = _load_hub_rows(self.name, split)
        try:
            yield from (row["text"] for row in (rows.take(limit) if limit else rows))
        except OSError as error:  # connection errors of requests, httpx and fsspec are OSErrors or wrapped in one
            raise CorpusError(f"the connection broke while reading {self.name} ({error}); run the command again") from error


def _load_hub_rows(name: str, split: str) -> Any:
    try:
        import datasets
    except ImportError:
        raise CorpusError(f"{name} needs the datasets package, which is not installed; {INSTALL_DATA}") from None
    _require_host(os.environ.get("HF_ENDPOINT", "https://huggingface.co"))
    try:
        try:
            return datasets.load_dataset(name, split=split, streaming=True)
        except RuntimeError as error:
            if "script" not in str(error):
                raise
            # datasets ≥ 4 runs no loading scripts; the Hub keeps a converted copy of such repositories on this branch.
            return datasets.load_dataset(name, split=split, streaming=True, revision="refs/convert/parquet")
    except Exception as error:  # whatever the Hub's client lets through: HTTP, file system, parsing
        raise CorpusError(f"cannot open {name} on the Hub ({error}); fetch it elsewhere, pass --source FILE") from error


def _require_host(url: str) -> None:
    """Raises CorpusError at once when the host has no address; the Hub's client would retry for half a minute."""
    if urllib.request.getproxies() or os.environ.get("HF_HUB_OFFLINE"):
        return
    host = urllib.parse.urlparse(url).hostname or url
    try:
        socket.getaddrinfo(host, 443)
    except OSError:
        raise CorpusError(f"no network: {host} cannot be found; fetch the data elsewhere and pass --source FILE") from None


def read_text(path: Path) -> Iterator[str]:
    """Blocks of a UTF-8 file, newlines as \\n, a byte-order mark left out. Raises CorpusError with file and byte offset."""
    utf8 = codecs.getincrementaldecoder("utf-8")()
    newlines = io.IncrementalNewlineDecoder(None, translate=True)
    offset, is_first = 0, True
    with open(path, "rb") as file:
        while True:
            block = file.read(BLOCK_BYTES)
            pending = len(utf8.getstate()[0])
            try:
                text = newlines.decode(utf8.decode(block, final=not block), final=not block)
            except UnicodeDecodeError as error:
                raise _not_utf8(path, offset - pending + error.start) from None
            if is_first and text:
                text, is_first = text.removeprefix("\ufeff"), False
            if text:
                yield text
            if not block:
                return
            offset += len(block)


def read_marked(path: Path) -> Iterator[str]:
    """The documents between <|endoftext|> markers of a UTF-8 file, without surrounding white space."""
    rest = ""
    for block in read_text(path):
        *documents, rest = (rest + block).split(MARKER)
        yield from (d.strip() for d in documents)
    yield rest.strip()


def read_jsonl(path: Path) -> Iterator[str]:
    """Field `text` of every line. Raises CorpusError naming the line that is no JSON object with a text."""
    offset = 0
    with open(path, "rb") as file:
        for number, line in enumerate(file, 1):
            try:
                row = json.loads(line.decode("utf-8")) if line.strip() else {"text": ""}
                row["text"].encode("utf-8")
            except UnicodeDecodeError as error:
                raise _not_utf8(path, offset + error.start) from None
            except (ValueError, TypeError, KeyError, AttributeError) as error:
                raise CorpusError(f'{path}:{number} must be a JSON object like {{"text": "…"}}, got {line[:60]!r}') from error
            yield row["text"]
            offset += len(line)


def read_parquet(path: Path) -> Iterator[str]:
    """Column `text`, row by row. Raises CorpusError where pyarrow, the column or a readable file is missing."""
    try:
        import pyarrow
        import pyarrow.parquet
    except ImportError:
        raise CorpusError(f"{path} needs pyarrow, which is not installed; {INSTALL_DATA}") from None
    try:
        with pyarrow.parquet.ParquetFile(path) as file:
            if "text" not in file.schema_arrow.names:
                raise CorpusError(f"{path} has no column 'text', only {', '.join(file.schema_arrow.names)}")
            for batch in file.iter_batches(batch_size=HUB_ROWS, columns=["text"]):
                yield from (str(text) for text in batch.column(0).to_pylist() if text is not None)
    except (pyarrow.ArrowException, UnicodeDecodeError) as error:
        raise CorpusError(f"{path} is not a readable parquet file ({error})") from None


READERS = {".jsonl": read_jsonl, ".parquet": read_parquet}


def has_marker(path: Path) -> bool:
    """Whether the file holds <|endoftext|> anywhere."""
    marker, tail = MARKER.encode(), b""
    with open(path, "rb") as file:
        while block := file.read(BLOCK_BYTES):
            if marker in tail + block:
                return True
            tail = block[-len(marker) :]
    return False


def at_word_ends(pieces: Iterable[Piece]) -> Iterator[Piece]:
    """The same text with its pieces cut where GPT-2's tokens end anyway, so that the pieces' tokens are the text's.

    A stretch without white space is kept together up to 16 blocks, then cut where it is.
    """
    held = Piece("", "", False)
    for piece in pieces:
        if piece.is_document or piece.split != held.split:
            if held.text:
                yield held
            held = Piece(piece.split, "", False)
        if piece.is_document:
            yield piece
            continue
        text = held.text + piece.text
        ends = [m.end() for m in WORD_END.finditer(text, max(0, len(text) - 4096))] or [m.end() for m in WORD_END.finditer(text)]
        end = ends[-1] if ends else len(text) if len(text) > 16 * BLOCK_BYTES else 0
        if end:
            yield Piece(piece.split, text[:end], False)
        held = Piece(piece.split, text[end:], False)
    if held.text:
        yield held


def download(url: str, sha256: str, path: Path) -> Path:
    """The file at `url` as `path`, fetched only when it is not there already; its SHA-256 must be the pinned one.

    Raises CorpusError when there is no network or the hash differs; then nothing is left at `path`.
    """
    if path.is_file() and sha256_of(path) == sha256:
        return path
    partial = path.with_name(path.name + ".partial")
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        with urllib.request.urlopen(url, timeout=30) as response, open(partial, "wb") as file:
            while block := response.read(BLOCK_BYTES):
                file.write(block)
        got = sha256_of(partial)
        if got != sha256:
            raise CorpusError(f"{url} has SHA-256 {got}, expected {sha256}; the file changed, or something stands in between")
        os.replace(partial, path)
    except (urllib.error.URLError, TimeoutError, ConnectionError) as error:
        reason = getattr(error, "reason", error)
        raise CorpusError(f"cannot download {url} ({reason}); fetch it elsewhere and pass --source FILE") from None
    finally:
        partial.unlink(missing_ok=True)
        with contextlib.suppress(OSError):  # only an empty folder can be removed
            path.parent.rmdir()
    return path


def sha256_of(path: Path) -> str:
    """SHA-256 of a file, in hexadecimal."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _not_utf8(path: Path, offset: int) -> CorpusError:
    return CorpusError(f"{path} is not UTF-8 at byte {offset:,}; convert it, e.g. iconv -f LATIN1 -t UTF-8 {path.name} > new.txt")
