"""How one message changes the adapter: task loss on its training pairs and on old ones, KL to the base on anchor prompts.

Every step goes through a rack, as in training: the surprise gate closes once the pairs are known, and the plugins may change
this step's learning rate and λ. What learning and measuring spent, the base's forwards on anchors too, is in the ledger.
"""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager

import torch
import torch.nn.functional as F
from torch import Tensor

from ..context import OccamContext
from ..ledger import Ledger
from ..plugins import OckhamGatePlugin, PluginHost
from .adapter import Adapter
from .anchors import Anchors, Reference
from .bases import Base, TokenRow
from .config import OnlineConfig
from .contexts import AdaptiveOptimizer
from .facts import Form
from .lessons import Course, Example, Lesson, Outcome
from .progress import no_bar
from .weighting import ImportanceWeighter, weighted_loss

KEPT_EXAMPLES = 10_000  # pairs in tokens; a few MB


class Learner:
    """Changes the adapter, and nothing else does. Deterministic: a lesson depends on the adapter and on its `rng` alone."""

    def __init__(self, base: Base, adapter: Adapter, config: OnlineConfig):
        self.base, self.adapter, self.config = base, adapter, config
        self.weighter = ImportanceWeighter(config.importance_weighting)
        self.ledger = Ledger()
        self.anchors = Anchors(base, adapter, config.generation, self.ledger)
        self.shown = no_bar  # or `progress.bar`, while a lesson takes its steps
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

    def forget_examples(self) -> None:
        """Keeps none of the pairs that it was given."""
        self._examples.clear()

    def _encoded(self, form: Form, entities: Sequence[str]) -> Example:
        settings, room = self.config.generation, self.base.max_tokens
        prompt = self.base.encode_in(settings.prompt, form.user)
        reply = self.base.encode_in(settings.reply, form.reply)
        pieces = [self.base.decode([token]) for token in reply]
        spelled = "".join(pieces)
        answer = torch.tensor(_said_until(pieces, spelled, form.answer or form.reply))
        weights = self.weighter.weights(pieces, list(entities), form.answer, spelled)
        loss = self.config.training.loss
        first = 1 if loss.loss_on == "all" or loss.kl_on == "fact" else len(prompt)
        before = len(prompt) - first
        weighed = torch.cat((torch.full((before,), float(loss.loss_on == "all")), weights))
        said = torch.cat((torch.zeros(before, dtype=torch.bool), answer))
        return Example((prompt + reply)[:room], first, weighed[: room - first], said[: room - first])

    @torch.no_grad()
    def probabilities(self, forms: Sequence[Form]) -> list[float]:
        """p(answer | prompt) of each form: that the reply is said word for word until the answer is out, its tokens' product."""
        if not forms:
            return []
        examples = [self.example(form) for form in forms]
        return [math.exp(-loss) for loss in _answer_losses(self._losses_of(self._forward(examples), examples), examples)]

    def least_probability(self, forms: Sequence[Form]) -> float:
        """The least of `probabilities`; 1 where there are no forms."""
        return _least(self.probabilities(forms))

    @torch.no_grad()
    def kl(self, prompts: Sequence[str]) -> float:
        """KL(base ‖ adapter) on the base's replies to these prompts, mean over their tokens, nats/token."""
        references = self.anchors.references(prompts)
        if not references:
            return 0.0
        return float(self._kl(self._forward(references), references))

    @torch.no_grad()
    def anchor_losses(self, prompts: Sequence[str]) -> Tensor:
        """Cross entropy of each token of the base's replies to these prompts, nats, (N,)."""
        references = self.anchors.references(prompts)
        return self._losses_of(self._forward(references), references)

    # learn ------------------------------------------------------------------------------------------------------------
    def learn(self, lesson: Lesson, rng: random.Random) -> Outcome:
        """Steps until every form's answer has the target probability, or the steps are used up.

        Each step takes the least known forms. The task loss that the gate judges is −ln p(answer) of the least known of them, so
        it closes at −ln(target); then all forms are measured anew, and those that are not known yet come next.
        """
        self.anchors.prepare(self.config.anchors.prompts)
        spent, course, outcome = self.ledger.units, self._begin(lesson, rng), Outcome()
        known = self.probabilities(lesson.forms)
        outcome.p_before = _least(known)
        if outcome.p_before < course.target:
            with self.shown(course.limit) as advance:
                known = self._steps(course, outcome, known, advance)
        outcome.p_after, outcome.units = _least(known), self.ledger.units - spent
        return outcome

    def _steps(self, course: Course, outcome: Outcome, known: list[float], advance: Callable[[], None]) -> list[float]:
        """The steps of `learn`; p(answer) of each form after them."""
        while outcome.steps < course.limit and _least(known) < course.target:
            chosen = sorted(range(len(known)), key=lambda i: known[i])[: course.width]
            losses, task, kl = self._tried(course, chosen)
            for i, loss in zip(chosen, losses, strict=True):
                known[i] = math.exp(-loss)
            is_open = self._step(course, outcome, max(losses), task, kl)
            advance()
            if not is_open or outcome.steps == course.limit:
                known = self.probabilities(course.lesson.forms)
            if not is_open and math.exp(-max(losses)) < course.target:
                break  # closed although it is not known: asking again would give the same answer
        return known

    def _begin(self, lesson: Lesson, rng: random.Random) -> Course:
        """What a lesson's steps have in common."""
        settings, optimizer = self.config.training, self._optimizer()
        target = settings.target_prob if lesson.target_prob is None else lesson.target_prob
        return Course(
            lesson=lesson,
            rng=rng,
            examples=[self.example(form, lesson.entities) for form in lesson.forms],
            siblings=self.anchors.siblings(lesson.siblings),
            optimizer=optimizer,
            host=PluginHost([OckhamGatePlugin(surprise_threshold=-math.log(target))]),
            target=target,
            limit=settings.iterations_per_fact if lesson.steps is None else lesson.steps,
            width=settings.forms_per_step + (self.config.fact_memory.replay_batch if lesson.is_replay else 0),
            lr=optimizer.set_context(lesson.context, lesson.repetition_count).lr,
            strength=self._first_lambda(lesson),
        )

    def _tried(self, course: Course, chosen: Sequence[int]) -> tuple[list[float], Tensor, Tensor]:
        """`_losses` of these of the lesson's examples, beside old pairs and anchors that are drawn for this step."""
        old = [self.example(form) for form in course.lesson.old(course.rng)]
        references = self.anchors.draw(course.siblings, self.config.anchors, course.rng)
        with self._dropout(course.rng):
            return self._losses([course.examples[i] for i in chosen], old, references)

    def _step(self, course: Course, outcome: Outcome, surprise: float, task: Tensor, kl: Tensor) -> bool:
        """One update as the rack allows, with its learning rate and its λ; whether its gate was open."""
        ctx = OccamContext(outcome.steps, surprise, course.lr, course.strength, surprise_threshold=None)
        ctx = course.host.process_batch_start(ctx)
        if ctx.updated:
            total = self.config.training.loss.task_lambda * task + ctx.lambda_ockham * kl
            course.optimizer.lr = ctx.learning_rate
            self._update(total, course.optimizer)
            shown = {name: float(loss.detach()) for name, loss in (("total", total), ("task", task), ("kl", kl))}
            outcome.steps, outcome.losses = outcome.steps + 1, {**shown, "lambda": ctx.lambda_ockham}
            outcome.history.append(shown["task"])
            course.strength = self._next_lambda(course.strength, shown["kl"])
        return ctx.updated

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
        self, examples: list[Example], old: list[Example], references: list[Reference]
    ) -> tuple[list[float], Tensor, Tensor]:
        """−ln p(answer) of each of the lesson's examples, the task loss, and the KL."""
        tasks, on_fact = [*examples, *old], self.config.training.loss.kl_on == "fact"
        rows: list[TokenRow] = [*tasks] if on_fact else [*tasks, *references]
        logits = self._forward(rows)  # (M, V)
        weights = torch.cat([e.weights for e in tasks]).to(logits.device)
        losses = self._losses_of(logits[: len(weights)], tasks)  # one after another, as the weights
        task = weighted_loss(losses, weights)
        kl = self._kl_of_rows(logits, tasks) if on_fact else self._kl(logits[len(weights) :], references)
        return _answer_losses(losses.detach()[: sum(len(e.weights) for e in examples)], examples), task, kl

    def _kl(self, logits: Tensor, references: Sequence[Reference]) -> Tensor:
        """KL(base ‖ adapter), mean over the references' reply tokens; logits (M, V)."""
        if not references:
            return logits.new_zeros(())
        base = torch.cat(self.anchors.log_probs(references))
        each = F.kl_div(logits.log_softmax(-1), base, log_target=True, reduction="none").sum(-1)  # (M,)
        return each.mean() if len(each) else logits.new_zeros(())

    def _kl_of_rows(self, logits: Tensor, rows: Sequence[TokenRow]) -> Tensor:
        """KL(base ‖ adapter), mean over all tokens of the rows that are predicted: the specification's."""
        with torch.no_grad(), self.adapter.disabled():
            base = self.base.logits(self.adapter.model, rows).log_softmax(-1)
        self.ledger.forward()
        return F.kl_div(logits.log_softmax(-1), base, log_target=True, reduction="none").sum(-1).mean()

    def _forward(self, rows: Sequence[TokenRow]) -> Tensor:
        """What predicts the rows, (M, V): see Base.logits."""
        self.ledger.forward()
        return self.base.logits(self.adapter.model, rows)

    def _losses_of(self, logits: Tensor, rows: Sequence[TokenRow]) -> Tensor:
        """Cross entropy of each token that is predicted, (M,)."""
        return F.cross_entropy(logits, self.base.targets_of(rows), reduction="none")

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
        adam = torch.optim.AdamW(
            self.adapter.parameters(),
            lr=settings.learning_rate,
            betas=(settings.betas[0], settings.betas[1]),
            eps=settings.eps,
            weight_decay=settings.weight_decay,
            fused=True,
        )
        return AdaptiveOptimizer(adam, self.config.adaptive_optimizer, settings.learning_rate)

    # λ ----------------------------------------------------------------------------------------------------------------
    def _first_lambda(self, lesson: Lesson) -> float:
        """fact_lambda · (1 − importance · factor) for a fact, base_lambda otherwise, within its limits."""
        settings = self.config.training.loss
        limits, dynamic = settings.kl_regularization, settings.dynamic_kl
        if not dynamic.enabled:
            return settings.kl_lambda
        is_fact = lesson.context not in ("question", "regular")
        value = limits.fact_lambda * (1 - lesson.importance * dynamic.fact_importance_factor) if is_fact else limits.base_lambda
        return min(max(value, limits.min_kl), limits.max_kl)

    def _next_lambda(self, strength: float, kl: float) -> float:
        """The servo: larger over the target, smaller well under it, within its limits."""
        settings = self.config.training.loss
        limits, dynamic = settings.kl_regularization, settings.dynamic_kl
        if not (dynamic.enabled and dynamic.servo):
            return strength
        if kl > dynamic.target:
            strength *= dynamic.factor
        elif kl < dynamic.low_share * dynamic.target:
            strength /= dynamic.factor
        return min(max(strength, limits.min_kl), limits.max_kl)


def _least(probabilities: Iterable[float]) -> float:
    return min(probabilities, default=1.0)


def _answer_losses(losses: Tensor, examples: Sequence[Example]) -> list[float]:
    """−ln p of each example's whole answer; `losses` of their tokens, one after another."""
    parts = losses.cpu().split([len(e.answer) for e in examples])
    return [float((part * e.answer).sum()) for part, e in zip(parts, examples, strict=True)]


def _said_until(pieces: Sequence[str], text: str, part: str) -> list[bool]:
    """Which pieces begin before the end of the first occurrence of `part` in `text`; all, where it does not occur."""
    start = text.casefold().find(part.casefold())
    end = start + len(part) if start >= 0 else len(text)
    found, at = [], 0
    for piece in pieces:
        found.append(at < end)
        at += len(piece)
    return found
