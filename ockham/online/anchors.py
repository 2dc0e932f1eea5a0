"""Anchor prompts: messages on which the model shall stay as it was, with the base's own replies to them as the reference."""

from __future__ import annotations

import random
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from ..ledger import Ledger
from .adapter import Adapter
from .bases import Base
from .config import AnchorSettings, GenerationSettings

# Log-probabilities of larger vocabularies are computed anew at each use: 24 replies of 30 tokens in Qwen's are 440 MB.
KEEPABLE_VOCABULARY = 4096


@dataclass
class Reference:
    """One anchor prompt with the base's reply to it."""

    prompt: str
    reply: str
    ids: list[int]  # the prompt's tokens and the reply's, (T,)
    start: int  # index of the reply's first token
    log_probs: Tensor | None = None  # the base's, of each token of the reply, (T − start, V)


class Anchors:
    """Replies of the base alone, made once for each prompt: greedy, with the adapter out of the way.

    The base's forwards are charged to the ledger; a reply that is made is one, as each of its tokens is read once.
    """

    def __init__(self, base: Base, adapter: Adapter, settings: GenerationSettings, ledger: Ledger):
        self.base, self.adapter, self.settings, self.ledger = base, adapter, settings, ledger
        self.known: dict[str, Reference] = {}

    def reference(self, prompt: str) -> Reference:
        """The prompt's reference, from before if it was asked for before."""
        if prompt not in self.known:
            self.known[prompt] = self._make(prompt)
        return self.known[prompt]

    def references(self, prompts: Iterable[str]) -> list[Reference]:
        """Of each prompt."""
        return [self.reference(prompt) for prompt in prompts]

    def prepare(self, prompts: Iterable[str]) -> None:
        """Makes what is made once for all lessons, so that none is charged with it: a lesson's units are its own."""
        references = self.references(prompts)
        if self.base.vocab_size <= KEEPABLE_VOCABULARY:
            self.log_probs(references)

    def draw(self, siblings: Sequence[Reference], settings: AnchorSettings, rng: random.Random) -> list[Reference]:
        """Those of one step, without replacement: the siblings' share of them where there are so many, the rest prompts."""
        count = settings.per_step
        chosen = rng.sample(siblings, min(len(siblings), int(settings.sibling_share * count)))
        return chosen + self.references(rng.sample(settings.prompts, min(len(settings.prompts), count - len(chosen))))

    def siblings(self, prompts: Sequence[str]) -> list[Reference]:
        """References of questions that are alike but for a name: the base is asked the first one, and KL is taken on that reply
        behind each of them. What the base would say to the others differs little, and each reply that is made takes time.

        They are for one lesson, and none is kept: so the base may read them together.
        """
        if not prompts:
            return []
        first = self._make(prompts[0])
        found = [first, *(self._of(prompt, first.reply) for prompt in prompts[1:])]
        self.base.hold_rows(self.adapter.model, found)
        if self.base.vocab_size <= KEEPABLE_VOCABULARY:
            with self.adapter.disabled():
                log_probs = self.base.logits(self.adapter.model, found).log_softmax(-1)
            self.ledger.forward()
            for reference, part in zip(found, log_probs.split([len(r.ids) - r.start for r in found]), strict=True):
                reference.log_probs = part
        return found

    def log_probs(self, references: Sequence[Reference]) -> list[Tensor]:
        """The base's log-probabilities of each token of each reply, (T − start, V)."""
        new = [reference for reference in references if reference.log_probs is None]
        made = dict(zip(map(id, new), self._log_probs(new), strict=True)) if new else {}
        return [made[id(reference)] if reference.log_probs is None else reference.log_probs for reference in references]

    @torch.no_grad()
    def _log_probs(self, references: Sequence[Reference]) -> list[Tensor]:
        """One at a time: in a batch the last bits depend on the other rows, and they differ when a chat is told again."""
        found = []
        with self.adapter.disabled():
            for reference in references:
                found.append(self.base.logits(self.adapter.model, [reference]).log_softmax(-1))
        self.ledger.forward(len(references))
        if self.base.vocab_size <= KEEPABLE_VOCABULARY:
            for reference, log_probs in zip(references, found, strict=True):
                reference.log_probs = log_probs
        return found

    def _make(self, prompt: str) -> Reference:
        tokens = self.base.encode_in(self.settings.prompt, prompt)
        with self.adapter.disabled():
            reply = self.base.generate(self.adapter.model, tokens, self.settings.max_new_tokens, self.settings.stop)
        self.ledger.forward()
        return self._of(prompt, reply.strip())

    def _of(self, prompt: str, reply: str) -> Reference:
        tokens = self.base.encode_in(self.settings.prompt, prompt)
        ids = tokens + self.base.encode_in(self.settings.reply, reply)
        ids = ids[: self.base.max_tokens]
        return Reference(prompt, reply, ids, min(len(tokens), len(ids)))  # with no room for a reply nothing is predicted
