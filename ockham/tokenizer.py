"""Text ↔ token ids: one character each, byte-pair encoding of one's own or GPT-2's, and what a corpus folder says about which."""

from __future__ import annotations

import codecs
import hashlib
import json
import os
import pickle
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from .bpe import BpeTokenizer
from .errors import CorpusError

GPT2_VOCAB_SIZE = 50_257  # 50,000 merges + 256 bytes + end of text
END_OF_TEXT = 50_256
MAX_META_BYTES = 64_000_000  # a full Unicode vocabulary is a quarter of this
INSTALL_DATA = "install the data extra: pip install -e .[data]"


class CharTokenizer:
    """One token per character: id i stands for itos[i].

    Raises CorpusError unless `itos` holds at least one and only distinct single characters.
    """

    type = "char"

    def __init__(self, itos: Sequence[str]) -> None:
        self.itos = list(itos)
        single = all(isinstance(c, str) and len(c) == 1 for c in self.itos)
        if not self.itos or not single or len(set(self.itos)) < len(self.itos):
            raise CorpusError(f"a vocabulary must be distinct single characters; these {len(self.itos)} entries are not")
        points = np.array([ord(c) for c in self.itos])
        self._table = np.full(points.max() + 2, -1, dtype=np.int64)  # the last entry catches every higher code point
        self._table[points] = np.arange(len(points))

    @property
    def vocab_size(self) -> int:
        """Number of characters."""
        return len(self.itos)

    def encode(self, text: str, strict: bool = False) -> np.ndarray:
        """Ids of `text`, int64, (T,). Characters outside the vocabulary are left out; `strict` raises CorpusError instead."""
        points = _code_points(text)
        ids = self._table[np.minimum(points, len(self._table) - 1)]
        known = ids >= 0
        if strict and not known.all():
            unknown = chr(points[np.argmin(known)])
            raise CorpusError(
                f"character {unknown!r} (U+{ord(unknown):04X}) is not in the vocabulary of {self.vocab_size} characters; "
                "leave it out, or prepare the corpus with a --vocab that has it"
            )
        return ids[known]

    def encode_many(self, texts: Iterable[str]) -> list[np.ndarray]:
        """`encode` of each text."""
        return [self.encode(text) for text in texts]

    def unknown(self, text: str) -> Counter[str]:
        """The characters of `text` outside the vocabulary, with how often each occurs."""
        points = _code_points(text)
        outside = points[self._table[np.minimum(points, len(self._table) - 1)] < 0]
        return Counter({chr(p): int(n) for p, n in zip(*np.unique(outside, return_counts=True), strict=True)})

    def decode(self, ids: Iterable[int]) -> str:
        """The text of `ids`. Raises CorpusError for an id outside [0, vocab_size)."""
        decode_one = self.stream_decoder()
        return "".join(decode_one(int(i)) for i in ids)

    def stream_decoder(self) -> Callable[[int], str]:
        """A function from one id to the text that it adds."""

        def decode_one(token: int) -> str:
            if not 0 <= token < self.vocab_size:
                raise CorpusError(f"token {token} is outside the vocabulary of {self.vocab_size}: tokenizer and model differ")
            return self.itos[token]

        return decode_one


class GPT2Tokenizer:
    """GPT-2's byte-level byte-pair encoding, by tiktoken (imported on first use).

    Raises CorpusError where tiktoken is not installed, or has neither network nor cache to load the merges from.
    """

    type = "gpt2"
    vocab_size = GPT2_VOCAB_SIZE

    def __init__(self) -> None:
        try:
            import tiktoken
        except ImportError:
            raise CorpusError(f"the GPT-2 tokenizer needs tiktoken, which is not installed; {INSTALL_DATA}") from None
        try:
            self._bpe = tiktoken.get_encoding("gpt2")
        except Exception as error:  # tiktoken lets whatever requests and the file system raise through
            raise CorpusError(
                f"tiktoken could not load GPT-2's merges ({type(error).__name__}); go online once, "
                "or set TIKTOKEN_CACHE_DIR to a folder that holds its cache"
            ) from error

    def encode(self, text: str, strict: bool = False) -> np.ndarray:
        """Ids of `text`, int64, (T,). '<|endoftext|>' becomes the special token; `strict` changes nothing."""
        return np.array(self._bpe.encode(text, allowed_special={"<|endoftext|>"}), dtype=np.int64)

    def encode_many(self, texts: Iterable[str]) -> list[np.ndarray]:
        """Ids of each text, over all cores; '<|endoftext|>' inside a text is ordinary text here."""
        batch = self._bpe.encode_ordinary_batch(list(texts), num_threads=os.cpu_count() or 1)
        return [np.array(ids, dtype=np.int64) for ids in batch]

    def unknown(self, text: str) -> Counter[str]:
        """Empty: bytes can spell every character."""
        return Counter()

    def decode_bytes(self, ids: Iterable[int]) -> bytes:
        """The bytes of `ids`, which may start or end inside a UTF-8 sequence."""
        return b"".join(self._token_bytes(int(i)) for i in ids)

    def decode(self, ids: Iterable[int]) -> str:
        """The text of `ids`, with U+FFFD for bytes that are no UTF-8."""
        return self.decode_bytes(ids).decode("utf-8", errors="replace")

    def stream_decoder(self) -> Callable[[int], str]:
        """A function from one id to the text that it completes: '' while a character's bytes are still arriving."""
        utf8 = codecs.getincrementaldecoder("utf-8")(errors="replace")
        return lambda token: utf8.decode(self._token_bytes(int(token)))

    def _token_bytes(self, token: int) -> bytes:
        if not 0 <= token < GPT2_VOCAB_SIZE:  # models padded to 50,304 can emit these
            return "\ufffd".encode()
        return self._bpe.decode_single_token_bytes(token)


Tokenizer = CharTokenizer | GPT2Tokenizer | BpeTokenizer


def description(tokenizer: Tokenizer) -> dict[str, Any]:
    """What meta.json says of a tokenizer: enough to make it again."""
    if isinstance(tokenizer, CharTokenizer):
        return {"type": tokenizer.type, "vocab": tokenizer.itos}
    if isinstance(tokenizer, BpeTokenizer):
        return {"type": tokenizer.type, "vocab": tokenizer.vocab, "merges": [list(pair) for pair in tokenizer.merges]}
    return {"type": tokenizer.type}


def read_meta(folder: Path) -> dict[str, Any]:
    """What `folder`/meta.json says, else {} when there is none. Raises CorpusError when it cannot be read as a JSON object."""
    path = Path(folder) / "meta.json"
    if not path.exists():
        return {}
    try:
        meta = json.loads(_read_capped(path).decode("utf-8"))
    except ValueError as error:
        raise CorpusError(f"{path} is not valid JSON ({error}); run the corpus's prepare.py with --force") from None
    if not isinstance(meta, dict):
        raise CorpusError(f"{path} must hold a JSON object, got {type(meta).__name__}; run the corpus's prepare.py with --force")
    return meta


def vocabulary_of(folder: Path) -> str:
    """A short hash that says which token is which character in a prepared folder; GPT-2's BPE where nothing says otherwise."""
    spec = read_meta(folder).get("tokenizer")
    if spec is None and isinstance(tokenizer := load_tokenizer(folder), CharTokenizer):
        spec = {"type": "char", "vocab": tokenizer.itos}
    kind = spec.get("type") if spec else "gpt2"
    same = {"type": kind, "vocab": list(spec["vocab"]) if spec and kind != "gpt2" else None}
    return hashlib.sha256(json.dumps(same).encode()).hexdigest()[:16]


def load_tokenizer(folder: Path) -> Tokenizer | None:
    """The tokenizer of a corpus folder: by meta.json, else by a lone nanoGPT meta.pkl, else None (nanoGPT then takes GPT-2's).

    Raises CorpusError when the file is broken, of an unknown type, or (meta.pkl) holds anything but plain values.
    """
    meta = read_meta(folder)
    if meta:
        spec = meta.get("tokenizer")
        kind = spec.get("type") if isinstance(spec, dict) else None
        if isinstance(spec, dict) and kind == "char" and isinstance(spec.get("vocab"), list):
            return CharTokenizer(spec["vocab"])
        if kind == "gpt2":
            return GPT2Tokenizer()
        if (
            isinstance(spec, dict)
            and kind == "bpe"
            and isinstance(spec.get("vocab"), list)
            and isinstance(spec.get("merges"), list)
        ):
            return BpeTokenizer(spec["vocab"], spec["merges"])
        place = Path(folder) / "meta.json"
        raise CorpusError(f"{place}: tokenizer must be char (with its vocab), bpe (and merges) or gpt2, got {str(spec)[:80]}")
    path = Path(folder) / "meta.pkl"
    return CharTokenizer(_vocabulary(_read_plain_pickle(path), path)) if path.exists() else None


def first_token(folder: Path) -> int:
    """The token with which sampled text may begin: a corpus's newline, else its first character; GPT-2's end of text."""
    spec = read_meta(folder).get("tokenizer") or {}
    if spec.get("type") == "gpt2":
        return END_OF_TEXT
    tokenizer = load_tokenizer(folder)
    if not isinstance(tokenizer, CharTokenizer):
        return END_OF_TEXT
    found = tokenizer.encode("\n")
    return int(found[0]) if len(found) else 0


class _PlainUnpickler(pickle.Unpickler):
    """Builds dict, list, str, int and the like, which need no name looked up; any other object is refused before it exists."""

    def find_class(self, module: str, name: str) -> Any:
        raise CorpusError(f"meta.pkl asks for {module}.{name}; only plain dicts, lists, strings and numbers are read")


def _read_plain_pickle(path: Path) -> Any:
    try:
        with open(path, "rb") as file:
            _check_size(path)
            return _PlainUnpickler(file).load()
    except CorpusError as error:
        raise CorpusError(f"{path}: {error}") from None
    except Exception as error:  # a broken pickle raises almost anything
        raise CorpusError(f"{path} is not a readable meta.pkl ({type(error).__name__}: {error})") from None


def _vocabulary(meta: Any, path: Path) -> list[str]:
    """nanoGPT's `itos`, a dict from id to character, as a list. Raises CorpusError when the ids are not 0 … n-1."""
    itos = meta.get("itos") if isinstance(meta, dict) else None
    if isinstance(itos, list):
        return itos
    if isinstance(itos, dict) and set(itos) == set(range(len(itos))):
        return [itos[i] for i in range(len(itos))]
    raise CorpusError(f"{path} must hold nanoGPT's 'itos' with ids 0, 1, 2, …; it does not")


def _check_size(path: Path) -> None:
    if path.stat().st_size > MAX_META_BYTES:
        raise CorpusError(f"{path} is {path.stat().st_size:,} bytes; at most {MAX_META_BYTES:,} are read")


def _read_capped(path: Path) -> bytes:
    _check_size(path)
    return path.read_bytes()


def _code_points(text: str) -> np.ndarray:
    """Unicode code points, uint32, (T,)."""
    return np.frombuffer(text.encode("utf-32-le", "surrogatepass"), dtype="<u4")
