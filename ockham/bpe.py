"""Byte-pair encoding of one's own: a small vocabulary learned from a corpus, over bytes, so that it spells every text."""

from __future__ import annotations

import codecs
import random
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import numpy as np

from .errors import CorpusError

INSTALL = "install the online extra: pip install -e .[online]"
BYTES = 256  # the least vocabulary


class BpeTokenizer:
    """Sennrich et al. 2016 (arXiv:1508.07909) over bytes, as in GPT-2, by Hugging Face's tokenizers (imported on first use).

    `vocab` holds the tokens by id, in that library's byte alphabet, `merges` pairs of them, the most frequent first. Raises
    CorpusError where the two do not fit together, or the library is not installed.
    """

    type = "bpe"

    def __init__(self, vocab: Sequence[str], merges: Sequence[Sequence[str]]) -> None:
        models, pre_tokenizers, decoders = _parts()
        self.vocab, self.merges = list(vocab), [tuple(pair) for pair in merges]
        try:
            made = models.BPE(vocab={token: id for id, token in enumerate(self.vocab)}, merges=self.merges)
        except Exception as error:  # the library raises plain Exceptions
            raise CorpusError(
                f"the BPE vocabulary and its merges do not fit together ({error}); prepare the corpus again"
            ) from None
        from tokenizers import Tokenizer

        self._bpe = Tokenizer(made)
        self._bpe.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
        self._bpe.decoder = decoders.ByteLevel()
        numbers = {token: id for id, token in enumerate(self.vocab)}
        self._pairs = {numbers[a + b]: [numbers[a], numbers[b]] for a, b in self.merges}
        alphabet = _byte_alphabet()
        self._bytes = [bytes(alphabet[c] for c in token) for token in self.vocab]

    @classmethod
    def learn(cls, texts: Iterable[str], vocab_size: int) -> BpeTokenizer:
        """The vocabulary of these texts. Raises CorpusError below 256 entries."""
        if vocab_size < BYTES:
            raise CorpusError(f"a byte-pair vocabulary has at least {BYTES} entries, got {vocab_size}")
        models, pre_tokenizers, _ = _parts()
        from tokenizers import Tokenizer, trainers

        bpe = Tokenizer(models.BPE())
        bpe.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
        alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
        bpe.train_from_iterator(texts, trainers.BpeTrainer(vocab_size=vocab_size, initial_alphabet=alphabet, show_progress=False))
        vocab = sorted(bpe.get_vocab(), key=bpe.get_vocab().get)  # type: ignore[arg-type]
        known = set(vocab)
        merges = _merges_of(bpe)
        return cls(vocab, [pair for pair in merges if "".join(pair) in known])

    @property
    def vocab_size(self) -> int:
        """Number of tokens."""
        return len(self.vocab)

    def encode(self, text: str, strict: bool = False) -> np.ndarray:
        """Ids of `text`, int64, (T,); `strict` changes nothing: bytes spell every text."""
        return np.array(self._bpe.encode(text).ids, dtype=np.int64)

    def encode_many(self, texts: Iterable[str]) -> list[np.ndarray]:
        """`encode` of each text."""
        return [np.array(found.ids, dtype=np.int64) for found in self._bpe.encode_batch(list(texts))]

    def split_some(self, ids: np.ndarray, share: float, rng: random.Random) -> np.ndarray:
        """The same text with some merges undone: with probability `share` a token is the two that it was merged from, and so on.

        Every token of the vocabulary is then seen in training, also those that hardly ever stand alone, and can be predicted
        later. BPE-dropout, Provilkov et al. 2020 (arXiv:1910.13267), from a seed.
        """
        found: list[int] = []
        waiting = ids[::-1].tolist()
        while waiting:
            token = waiting.pop()
            if token in self._pairs and rng.random() < share:
                waiting += self._pairs[token][::-1]
            else:
                found.append(token)
        return np.array(found, dtype=np.int64)

    def unknown(self, text: str) -> Counter[str]:
        """Empty: bytes spell every character."""
        return Counter()

    def decode(self, ids: Iterable[int]) -> str:
        """The text of `ids`, with U+FFFD for bytes that are no UTF-8. Raises CorpusError for an id outside the vocabulary."""
        return b"".join(map(self._bytes_of, ids)).decode("utf-8", errors="replace")

    def stream_decoder(self) -> Callable[[int], str]:
        """A function from one id to the text that it completes: '' while a character's bytes are still arriving."""
        utf8 = codecs.getincrementaldecoder("utf-8")(errors="replace")
        return lambda token: utf8.decode(self._bytes_of(token))

    def _bytes_of(self, token: int) -> bytes:
        if not 0 <= int(token) < self.vocab_size:
            raise CorpusError(f"token {token} is outside the vocabulary of {self.vocab_size}: tokenizer and model differ")
        return self._bytes[int(token)]


def _parts() -> tuple[Any, Any, Any]:
    try:
        from tokenizers import decoders, models, pre_tokenizers
    except ImportError:
        raise CorpusError(f"byte-pair encoding needs tokenizers, which is not installed; {INSTALL}") from None
    return models, pre_tokenizers, decoders


def _merges_of(bpe: Any) -> list[tuple[str, str]]:
    import json

    merges = json.loads(bpe.to_str())["model"]["merges"]
    return [tuple(pair) if isinstance(pair, list) else tuple(pair.split(" ")) for pair in merges]


def _byte_alphabet() -> dict[str, int]:
    """GPT-2's letters for bytes: printable Latin-1 characters are themselves, the others follow from U+0100."""
    own = [*range(ord("!"), ord("~") + 1), *range(ord("¡"), ord("¬") + 1), *range(ord("®"), ord("ÿ") + 1)]
    others = [byte for byte in range(BYTES) if byte not in own]
    return {chr(byte): byte for byte in own} | {chr(BYTES + i): byte for i, byte in enumerate(others)}
