"""A checkpoint of this project as the base of an adapter."""

from __future__ import annotations

import unicodedata
from collections.abc import Collection, Generator, Iterable, Sequence
from pathlib import Path

import torch
from torch import Tensor, nn

from ..checkpoint import load_checkpoint
from ..errors import CheckpointError
from ..tokenizer import END_OF_TEXT, CharTokenizer, Tokenizer, load_tokenizer
from .bases import Base, TokenRow, freeze, innermost
from .upper_blocks import USUAL_DEPTH, UpperBlocks

# What a keyboard or a web page puts in place of ASCII, and Unicode's own decomposition (NFKD) leaves as it is.
TYPOGRAPHIC = {
    **dict.fromkeys("‘’‚‛′`´", "'"),
    **dict.fromkeys("“”„‟″«»", '"'),
    **dict.fromkeys("‐‑‒–—―−", "-"),
    **dict.fromkeys("\t\u2028\u2029", " "),
    **dict.fromkeys("\r\u200b\u200c\u200d\ufeff", ""),
    "⁄": "/",
    "ß": "ss",
    "æ": "ae",
    "œ": "oe",
    "ø": "o",
    "ł": "l",
}


class OurBase(Base):
    """A GPT of model.py with its tokenizer: the meta.json beside the checkpoint, else that of the corpus it was trained on.

    Its weights are float32 unless another dtype is asked for, and its dropout is off: the base is a fixed reference.
    Raises CheckpointError for a file that is no such checkpoint, CorpusError where the tokenizer is gone.
    """

    kind = "ockham"

    def __init__(self, name: str, path: Path, device: torch.device, dtype: torch.dtype = torch.float32) -> None:
        from model import GPT

        checkpoint = load_checkpoint(path)
        undropped = {**checkpoint, "model_args": {**checkpoint["model_args"], "dropout": 0.0}}
        try:
            model = GPT.from_checkpoint(undropped)
        except (ValueError, TypeError) as error:
            raise CheckpointError(f"{path}: {error}") from error
        self.name, self.device, self.dtype = name, device, dtype
        self.model, self.max_tokens = model.to(device, dtype), model.config.block_size
        self.vocab_size = model.config.vocab_size
        self.tokenizer = tokenizer_of(path, checkpoint, model.config.vocab_size)
        self._known = frozenset(self.tokenizer.itos) if isinstance(self.tokenizer, CharTokenizer) else None
        freeze(self.model)
        self.targets = upper_layers(model.config.n_layer)
        self._upper = UpperBlocks()

    def encode(self, text: str) -> list[int]:
        if self._known is not None:
            text = fold(text, self._known)[0]
        return [int(i) for i in self.tokenizer.encode_many([text])[0]]  # in which <|endoftext|> is ordinary text

    def decode(self, ids: Iterable[int]) -> str:
        return self.tokenizer.decode(ids)

    def unreadable(self, text: str) -> str:
        return fold(text, self._known)[1] if self._known is not None else ""

    def logits(self, model: nn.Module, rows: Sequence[TokenRow]) -> Tensor:
        """As in Base. What lies below the first adapted block is computed once for each row, and kept."""
        gpt = innermost(model)
        return gpt.lm_head(self._upper.hidden(gpt, rows)).float()

    def hold_rows(self, model: nn.Module, rows: Sequence[TokenRow]) -> None:
        self._upper.hold(innermost(model), rows)

    def forget_rows(self) -> None:
        self._upper.forget()

    def continuation(
        self, model: nn.Module, ids: list[int], temperature: float, top_p: float, generator: torch.Generator | None
    ) -> Generator[int, None, None]:
        prompt = torch.tensor([ids], device=self.device)  # (1, T)
        endless = 2**62  # `generate` ends it
        for token in innermost(model).stream(prompt, endless, temperature, top_p=top_p, generator=generator):
            if self._known is None and int(token) == END_OF_TEXT:
                return
            yield int(token)


def upper_layers(n_layer: int) -> tuple[str, ...]:
    """The layers that LoRA adapts: those of every block but the first.

    Without it efficacy is the same, and a quarter less is computed: docs/LAB_NOTES.md.
    """
    blocks = range(min(USUAL_DEPTH, n_layer - 1), n_layer)
    return tuple(f"h.{i}.{layer}" for i in blocks for layer in ("attn.c_attn", "attn.c_proj", "mlp.c_fc", "mlp.c_proj"))


def tokenizer_of(path: Path, checkpoint: dict, vocab_size: int) -> Tokenizer:
    """The tokenizer beside the checkpoint, else that of its corpus. Raises CheckpointError where it is too big."""
    tokenizer = load_tokenizer(path.parent)
    if tokenizer is None:
        from sample import pick_tokenizer

        tokenizer = pick_tokenizer(checkpoint.get("config", {}), vocab_size)
    if tokenizer.vocab_size > vocab_size:
        raise CheckpointError(
            f"{path}: the tokenizer has {tokenizer.vocab_size} entries, the model {vocab_size}: they do not belong together; "
            "put the meta.json of its corpus beside the checkpoint"
        )
    return tokenizer


def fold(text: str, known: Collection[str]) -> tuple[str, str]:
    """`text` in the characters that are known, and those of it that were left out, each once.

    A known character stays. Another is taken apart: typographic signs to ASCII, letters to their base without accents (Unicode's
    NFKD), ligatures to letters. What still has an unknown part is left out.
    """
    kept: list[str] = []
    lost: dict[str, None] = {}
    for character in unicodedata.normalize("NFC", text):
        plain = character if character in known else plainer(character)
        if all(c in known for c in plain):
            kept.append(plain)
        else:
            lost[character] = None
    return "".join(kept), "".join(lost)


def plainer(character: str) -> str:
    """One character in ASCII where there is a usual way, without its accents."""
    parts = unicodedata.normalize("NFKD", TYPOGRAPHIC.get(character, character))
    return "".join(TYPOGRAPHIC.get(part, part) for part in parts if not unicodedata.combining(part))
