"""How one message changes the adapter: task loss on its training pairs and on old ones, KL to the base on anchor prompts.

Every step goes through a rack, as in training: the surprise gate closes once the pairs are known, and the plugins may change
this step's learning rate and λ. What was spent is in the ledger.
"""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field

import torch
import torch.nn.functional as F
from torch import Tensor

from ..context import OccamContext
from ..ledger import Ledger
from ..plugins import OckhamGatePlugin, PluginHost
from .adapter import Adapter
from .anchors import Anchors, Reference, padded
from .bases import Base
from .config import OnlineConfig
from .contexts import AdaptiveOptimizer
from .facts import Form
from .weighting import ImportanceWeighter, weighted_loss

KEPT_EXAMPLES = 10_000  # pairs in tokens; a few MB


@dataclass(frozen=True)
class Example:
    """One training pair in tokens: the prompt, then the reply."""

    ids: list[int]  # (T,)
    weights: Tensor  # of each token's loss; 0 before the reply unless all tokens count, (T,)
    answer: Tensor  # which tokens have to be said for the answer to be there: the reply up to its end, (T,) bool


@dataclass(frozen=True)
class Lesson:
    """What is to be learned at once."""

    forms: Sequence[Form]
    entities: Sequence[str] = ()
    old: Callable[[random.Random], Sequence[Form]] = lambda rng: ()  # pairs of other facts, drawn anew beside each step
    siblings: Sequence[str] = ()  # questions of the same wordings about other names: further anchors
    context: str = "fact"
    repetition_count: int = 1
    importance: float = 0.0  # in [0, 1]
    target_prob: float | None = None  # None = the settings'
    steps: int | None = None  # at most; None = the settings'
    is_replay: bool = False  # all its pairs are old facts': more of them go into each step


@dataclass
class Outcome:
    """What a lesson did."""

    steps: int = 0
    p_before: float = 0.0  # of the answer, the least over the forms
    p_after: float = 0.0
    losses: dict[str, float] = field(default_factory=dict)  # of the last step: total, task, kl, λ
    history: list[float] = field(default_factory=list)  # task loss of each step
    units: float = 0.0  # compute units


class Learner:
    """Changes the adapter, and nothing else does. Deterministic: a lesson depends on the adapter and on its `rng` alone."""

    def __init__(self, base: Base, adapter: Adapter, config: OnlineConfig, anchors: Anchors):
        self.base, self.adapter, self.config, self.anchors = base, adapter, config, anchors
        self.weighter = ImportanceWeighter(config.importance_weighting)
        self.ledger = Ledger()
        self._examples: dict[tuple[Form, tuple[str, ...]], Example] = {}

    # measure ----------------------------------------------------------------------------------------------------------
    def example(self, form: Form, entities: Sequence[str] = ()) -> Example:
        """A pair in tokens, cut to the base's context."""
        key = form, tuple(entities)
        if key not in self._examples:
            if len(self._examples) >= KEPT_EXAMPLES:
                self._examples.clear()
            self._examples[key] = self._encoded(form, entities)
        return self._examples[key]

    def _encoded(self, form: Form, entities: Sequence[str]) -> Example:
        settings, room = self.config.generation, self.base.max_tokens
        prompt = self.base.encode(settings.prompt.format(text=form.user))
        text = settings.reply.format(text=form.reply)
        reply = self.base.encode(text)
        pieces = [self.base.decode([token]) for token in reply]
        spelled = "".join(pieces)
        answer = torch.tensor(_said_until(pieces, spelled, form.answer or form.reply))
        weights = self.weighter.weights(pieces, list(entities), form.answer, spelled)
        before = torch.ones(len(prompt)) if self.config.training.loss.loss_on == "all" else torch.zeros(len(prompt))
        return Example(
            (prompt + reply)[:room],
            torch.cat((before, weights))[:room],
            torch.cat((torch.zeros(len(prompt), dtype=torch.bool), answer))[:room],
        )

    @torch.no_grad()
    def probabilities(self, forms: Sequence[Form]) -> list[float]:
        """p(answer | prompt) of each form: that the reply is said word for word until the answer is out, its tokens' product."""
        if not forms:
            return []
        examples = [self.example(form) for form in forms]
        logits, ids = self._forward([e.ids for e in examples])
        losses = _token_losses(logits, ids)
        return [math.exp(-float(value)) for value in _answer_losses(losses, examples)]

    def least_probability(self, forms: Sequence[Form]) -> float:
        """The least of `probabilities`; 1 where there are no forms."""
        return min(self.probabilities(forms), default=1.0)

    @torch.no_grad()
    def kl(self, prompts: Sequence[str]) -> float:
        """KL(base ‖ adapter) on the base's replies to these prompts, mean over their tokens, nats/token."""
        references = self.anchors.references(prompts)
        if not references:
            return 0.0
        logits, _ = self._forward([r.ids for r in references])
        return float(self._kl(logits, references))

    @torch.no_grad()
    def anchor_losses(self, prompts: Sequence[str]) -> Tensor:
        """Cross entropy of each token of the base's replies to these prompts, nats, (N,)."""
        references = self.anchors.references(prompts)
        logits, ids = self._forward([r.ids for r in references])
        losses = _token_losses(logits, ids)
        parts = [row[r.start - 1 : len(r.ids) - 1] for row, r in zip(losses, references, strict=True)]
        return torch.cat(parts)

    # learn ------------------------------------------------------------------------------------------------------------
    def learn(self, lesson: Lesson, rng: random.Random) -> Outcome:
        """Steps until every form's answer has the target probability, or the steps are used up.

        Each step takes the least known forms. The task loss that the gate judges is −ln p(answer) of the least known of them, so
        it closes at −ln(target); then all forms are measured anew, and those that are not known yet come next.
        """
        settings = self.config.training
        target = settings.target_prob if lesson.target_prob is None else lesson.target_prob
        limit = settings.iterations_per_fact if lesson.steps is None else lesson.steps
        host, optimizer = PluginHost([OckhamGatePlugin(surprise_threshold=-math.log(target))]), self._optimizer()
        lr = optimizer.set_context(lesson.context, lesson.repetition_count).lr
        spent, strength = self.ledger.units, self._first_lambda(lesson)
        examples = [self.example(form, lesson.entities) for form in lesson.forms]
        width = settings.forms_per_step + (self.config.fact_memory.replay_batch if lesson.is_replay else 0)
        siblings = self.anchors.siblings(lesson.siblings)
        known = self.probabilities(lesson.forms)
        outcome = Outcome(p_before=min(known, default=1.0))
        while outcome.steps < limit and min(known, default=1.0) < target:
            chosen = sorted(range(len(known)), key=lambda i: known[i])[:width]
            old = [self.example(form) for form in lesson.old(rng)]
            references = self.anchors.draw(self.config.anchors.prompts, siblings, self.config.anchors.per_step, rng)
            with self._dropout(rng):
                losses, total, parts = self._losses([examples[i] for i in chosen], old, references, strength)
            for i, loss in zip(chosen, losses, strict=True):
                known[i] = math.exp(-loss)
            ctx = OccamContext(outcome.steps, max(losses), lr, strength, surprise_threshold=None)
            ctx = host.process_batch_start(ctx)
            if not ctx.updated:
                known = self.probabilities(lesson.forms)
                if math.exp(-max(losses)) < target:
                    break  # closed although it is not known: asking again would give the same answer
                continue
            optimizer.lr = ctx.learning_rate
            self._update(total, optimizer)
            outcome.steps, outcome.losses = outcome.steps + 1, {**parts, "lambda": ctx.lambda_ockham}
            outcome.history.append(parts["task"])
            strength = self._next_lambda(strength, parts["kl"])
            if outcome.steps == limit:
                known = self.probabilities(lesson.forms)
        outcome.p_after, outcome.units = min(known, default=1.0), self.ledger.units - spent
        return outcome

    @contextmanager
    def _dropout(self, rng: random.Random) -> Iterator[None]:
        """LoRA's dropout, where the settings have one, drawn from `rng`: a lesson that is given again draws the same."""
        if not self.config.model.lora.dropout:
            yield
            return
        with torch.random.fork_rng(devices=[self.base.device] if self.base.device.type == "cuda" else []):
            torch.manual_seed(rng.getrandbits(63))
            self.adapter.train()
            try:
                yield
            finally:
                self.adapter.eval()

    def _losses(
        self, examples: list[Example], old: list[Example], references: list[Reference], strength: float
    ) -> tuple[list[float], Tensor, dict[str, float]]:
        """−ln p(answer) of each of the lesson's examples, the total loss, and its parts."""
        tasks, on_fact = [*examples, *old], self.config.training.loss.kl_on == "fact"
        rows = [e.ids for e in tasks] + ([] if on_fact else [r.ids for r in references])
        logits, ids = self._forward(rows)
        losses = _token_losses(logits[: len(tasks)], ids[: len(tasks)])  # (B, T − 1)
        weights = _padded([e.weights for e in tasks], ids.size(1)).to(losses.device)[:, 1:]
        task = weighted_loss(losses, weights)
        kl = self._kl_of_rows(rows, logits) if on_fact else self._kl(logits[len(tasks) :], references)
        total = self.config.training.loss.task_lambda * task + strength * kl
        answers = _answer_losses(losses.detach()[: len(examples)], examples).tolist()
        return answers, total, {"total": float(total.detach()), "task": float(task.detach()), "kl": float(kl.detach())}

    def _kl(self, logits: Tensor, references: Sequence[Reference]) -> Tensor:
        """KL(base ‖ adapter), mean over the references' reply tokens."""
        if not references:
            return logits.new_zeros(())
        found = []
        for row, reference, base in zip(logits, references, self.anchors.log_probs(references), strict=True):
            now = row[reference.start - 1 : len(reference.ids) - 1].log_softmax(-1)  # (R, V)
            found.append(F.kl_div(now, base, log_target=True, reduction="none").sum(-1))
        return torch.cat(found).mean()

    def _kl_of_rows(self, rows: list[list[int]], logits: Tensor) -> Tensor:
        """KL(base ‖ adapter), mean over all tokens of the rows: the specification's."""
        ids, mask = padded(rows, self.base)
        with torch.no_grad(), self.adapter.disabled():
            base = self.base.logits(self.adapter.model, ids, mask).log_softmax(-1)
        self.ledger.forward()
        each = F.kl_div(logits.log_softmax(-1), base, log_target=True, reduction="none").sum(-1)  # (B, T)
        return each[mask].mean()

    def _forward(self, rows: list[list[int]]) -> tuple[Tensor, Tensor]:
        """Logits (B, T, V) and ids (B, T), right-padded."""
        ids, mask = padded(rows, self.base)
        self.ledger.forward()
        return self.base.logits(self.adapter.model, ids, mask), ids

    def _update(self, total: Tensor, optimizer: AdaptiveOptimizer) -> None:
        parameters = list(self.adapter.parameters())
        for parameter in parameters:
            parameter.grad = None
        total.backward()
        self.ledger.backward()
        clip = self.config.training.gradient_clip_norm
        if clip is not None:
            torch.nn.utils.clip_grad_norm_(parameters, clip)
        optimizer.step()

    def _optimizer(self) -> AdaptiveOptimizer:
        settings = self.config.training
        adam = torch.optim.AdamW(self.adapter.parameters(), lr=settings.learning_rate, betas=(settings.betas[0],
                                 settings.betas[1]), weight_decay=settings.weight_decay)  # fmt: skip
        return AdaptiveOptimizer(adam, self.config.adaptive_optimizer, settings.learning_rate)

    # λ ----------------------------------------------------------------------------------------------------------------
    def _first_lambda(self, lesson: Lesson) -> float:
        """fact_lambda · (1 − importance · factor) for a fact, base_lambda otherwise, within its limits."""
        settings = self.config.training.loss
        limits, dynamic = settings.kl_regularization, settings.dynamic_kl
        if not dynamic.enabled:
            return settings.kl_lambda
        is_fact = lesson.context in ("fact", "replay")
        value = limits.fact_lambda * (1 - lesson.importance * dynamic.fact_importance_factor) if is_fact else limits.base_lambda
        return min(max(value, limits.min_kl), limits.max_kl)

    def _next_lambda(self, strength: float, kl: float) -> float:
        """The servo: doubled over the target, halved under half of it, within its limits."""
        settings = self.config.training.loss
        limits, dynamic = settings.kl_regularization, settings.dynamic_kl
        if not (dynamic.enabled and dynamic.servo):
            return strength
        factor = 2.0 if kl > dynamic.target else 0.5 if kl < dynamic.target / 2 else 1.0
        return min(max(strength * factor, limits.min_kl), limits.max_kl)


def _token_losses(logits: Tensor, ids: Tensor) -> Tensor:
    """Cross entropy of each token after the first: (B, T, V), (B, T) → (B, T − 1)."""
    return F.cross_entropy(logits[:, :-1].flatten(0, 1), ids[:, 1:].flatten(), reduction="none").view(ids.size(0), -1)


def _padded(rows: Sequence[Tensor], width: int) -> Tensor:
    """(B, width), zeros behind each row."""
    return torch.stack([F.pad(row.float(), (0, width - len(row))) for row in rows])


def _answer_losses(losses: Tensor, examples: Sequence[Example]) -> Tensor:
    """−ln p of each example's whole answer, (B,)."""
    answers = _padded([e.answer for e in examples], losses.size(1) + 1).to(losses.device)[:, 1:]
    return (losses * answers).sum(-1)


def _said_until(pieces: Sequence[str], text: str, part: str) -> list[bool]:
    """Which pieces begin before the end of the first occurrence of `part` in `text`; all, where it does not occur."""
    start = text.casefold().find(part.casefold())
    end = start + len(part) if start >= 0 else len(text)
    found, at = [], 0
    for piece in pieces:
        found.append(at < end)
        at += len(piece)
    return found
