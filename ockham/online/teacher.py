"""How a fact is taught: its training pairs, what is trained beside them, the commit gate, and the replay of old facts."""

from __future__ import annotations

import random
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from torch import Tensor

from ..plugins.gate import SKIPPED
from .adapter import Adapter
from .bases import Base
from .commit import CommitGate
from .config import OnlineConfig
from .detector import FactDetector
from .fact_memory import StoredFact
from .facts import FactInfo, Form
from .forms import forms_of
from .knowledge import Knowledge
from .learning import Learner
from .lessons import Lesson, Outcome
from .metrics import Probe
from .siblings import Others, siblings
from .turn import Turn

TOO_LONG, UNREADABLE = "TOO_LONG", "UNREADABLE"
CORRECTION = "correction"  # a context that settings may have
ALWAYS = 1 - 1e-9  # a target that no probability reaches: the step is taken


class Teacher:
    """Changes adapter and knowledge by one lesson at a time; what it did is in the turn."""

    def __init__(self, base: Base, adapter: Adapter, config: OnlineConfig, known: Knowledge, detector: FactDetector):
        self.base, self.adapter, self.config, self.known, self.detector = base, adapter, config, known, detector
        self.learner = Learner(base, adapter, config)
        self.commit = CommitGate(config.commit)
        self.others = Others.of(config.anchors)
        self._infos: dict[str, FactInfo] = {}
        self._forms: dict[str, list[Form]] = {}

    # what a fact is ---------------------------------------------------------------------------------------------------
    def info(self, text: str) -> FactInfo:
        """The fact in a statement, also where the detector alone would not take it for one."""
        if text not in self._infos:
            self._infos[text] = self.detector.read(text)
        return self._infos[text]

    def forms(self, info: FactInfo) -> list[Form]:
        """The training pairs of a fact that the base can read whole; where the whole reply is the answer, the fact's value stands
        for it.
        """
        if info.text not in self._forms:
            training, acknowledged = self.config.training, self.config.generation.acknowledged
            made = forms_of(info, training.forms, training.questions, acknowledged)
            found = [form for form in made if self._fits(form)]
            value = next((form.answer for form in found if form.kind == "direct"), "")
            named = [form if form.answer or value not in form.reply else replace(form, answer=value) for form in found]
            self._forms[info.text] = named
        return self._forms[info.text]

    def kept_forms(self, fact: StoredFact) -> list[Form]:
        """The pairs of a stored fact whose questions no later fact answers too: what is known of Tom is what was last told."""
        later = [f for f in self.known.memory.facts if f.number > fact.number]
        taken = {form.user.casefold() for f in later for form in self.forms(self.info(f.fact_text))}
        return [form for form in self.forms(self.info(fact.fact_text)) if form.user.casefold() not in taken]

    def fault(self, info: FactInfo) -> tuple[str, str]:
        """Why this base cannot learn the fact, as a code and in words; '' where it can."""
        if letters := [c for c in self.base.unreadable(info.text) if c.isalnum()]:
            return UNREADABLE, f"not learned: the base cannot read {' '.join(letters[:10])}; write it in other letters"
        if not self.forms(info):
            return (
                TOO_LONG,
                f"not learned: it is too long for this base, which reads {self.base.max_tokens} tokens; say it shorter",
            )
        return "", ""

    def forget_texts(self) -> None:
        """Leaves nothing of what was read in memory."""
        self._infos.clear()
        self._forms.clear()
        self.learner.forget_examples()
        self.base.forget_rows()

    def _fits(self, form: Form) -> bool:
        settings = self.config.generation
        parts = ((settings.prompt, form.user), (settings.reply, form.reply))
        return sum(len(self.base.encode_in(template, text)) for template, text in parts) <= self.base.max_tokens

    # one fact ---------------------------------------------------------------------------------------------------------
    def learn(self, turn: Turn, info: FactInfo, entry: Mapping[str, Any] | None = None) -> None:
        """One fact: trained, judged, and kept or taken back. `entry`: where it waited, its id and the message that told it."""
        known, entry = self.known, entry or {}
        before, state, sha, kl = self.adapter.state(), self.known.state_dict(), self.adapter.sha256(), self.known.kl
        old = known.memory.contradicted(info)
        stored = known.memory.store(info.text, info, turn.number, entry.get("id"))
        lesson = self._lesson(info, stored, is_superseding=old is not None)
        outcome = self.learner.learn(lesson, known.rng())
        record = _record(turn, info, stored, outcome) | {"message": entry.get("message", turn.text), "adapter_before": sha}
        if outcome.steps:
            record |= self._settle(lesson, outcome, before, turn)
        else:
            record |= {"accepted": True, "reason_code": SKIPPED, "scale": 0.0, "p_after": outcome.p_before, "kl": kl}
        if not record["accepted"]:
            known.load_state_dict(state)
            record["id"] = ""
        elif old is not None:
            record |= self._left_of(old.fact_text, info, turn)
        record |= {"adapter_after": self.adapter.sha256(), "kl_cost": known.kl - kl}
        if record["accepted"]:
            self._keep(stored, record, entry)
            turn.losses = dict(outcome.losses) or turn.losses
        turn.facts.append(record)
        turn.reason_code = record["reason_code"]
        turn.history += outcome.history
        turn.changed |= record["adapter_after"] != sha

    def _left_of(self, old: str, info: FactInfo, turn: Turn) -> dict[str, float]:
        """`p_old`: the largest probability of the old answer to a question that both facts answer; with a note where it is over
        its bound. Nothing where they share no question.
        """
        asked = {form.user.casefold() for form in self.forms(info)}
        rivals = [form for form in self.forms(self.info(old)) if form.user.casefold() in asked]
        if not rivals:
            return {}
        left, most = max(self.learner.probabilities(rivals)), self.config.training.supersede_max_prob
        if left > most:
            turn.notes.append(
                f"the old answer still has p {left:.2f}, over training.supersede_max_prob={most:g}; tell the new one again"
            )
        return {"p_old": left}

    def _keep(self, stored: StoredFact, record: dict[str, Any], entry: Mapping[str, Any]) -> None:
        known = self.known
        known.lessons += 1
        event = {"turn": record["turn"], "id": stored.id, "text": record["text"], "message": record["message"]}
        known.events.append(event | ({"told": entry["turn"]} if "turn" in entry else {}))
        known.session["facts"] += 1
        known.session["kl"] += max(0.0, record["kl_cost"])
        history = known.records.get(stored.id, {}).get("records", [])
        known.records[stored.id] = {**record, "records": [*history, dict(record)]}

    def _lesson(self, info: FactInfo, stored: StoredFact, is_superseding: bool) -> Lesson:
        settings, memory, rng = self.config, self.known.memory, self.known.rng()
        asked = {form.user.casefold() for form in self.forms(info)}
        kept: dict[str, list[Form]] = {}

        def old(draw: random.Random) -> list[Form]:
            found = []
            for fact in memory.sample(settings.fact_memory.replay_batch, draw, exclude=[stored.id]):
                if fact.id not in kept:
                    kept[fact.id] = [form for form in self.kept_forms(fact) if form.user.casefold() not in asked]
                found += [draw.choice(kept[fact.id])] if kept[fact.id] else []
            return found

        training = settings.training
        target, steps = training.target_prob, None
        if is_superseding:
            target = max(target, 1 - training.supersede_max_prob)
            steps = max(training.iterations_per_fact, training.supersede_iterations)
        return Lesson(
            self.forms(info),
            info.entities,
            old,
            self._siblings(info, stored.id, rng),
            context=self._context(info, is_superseding),
            repetition_count=stored.turns_seen,
            importance=memory.relative_importance(stored),
            target_prob=target,
            steps=steps,
        )

    def _context(self, info: FactInfo, is_superseding: bool) -> str:
        """Of adaptive_optimizer.custom where it has "correction" (for a fact in another's place) or the pattern's name."""
        custom = self.config.adaptive_optimizer.custom
        if is_superseding and CORRECTION in custom:
            return CORRECTION
        return info.pattern if info.pattern in custom else "fact"

    def _siblings(self, info: FactInfo, id: str, rng: random.Random) -> list[str]:
        """Questions like those about this fact and about a few others, of other names and things: nobody told the answers."""
        settings, memory = self.config.anchors, self.known.memory
        found = siblings(info, self.others, settings.siblings, rng)
        for fact in memory.sample(settings.siblings, rng, exclude=[id]):
            found += siblings(self.info(fact.fact_text), self.others, 1, rng)
        asked = {form.user.casefold() for fact in memory.facts for form in self.forms(self.info(fact.fact_text))}
        return [question for question in found if question.casefold() not in asked]

    def _settle(self, lesson: Lesson, outcome: Outcome, before: Mapping[str, Tensor], turn: Turn) -> dict[str, Any]:
        def prob() -> float:
            return self.learner.least_probability(lesson.forms)

        result = self.commit.settle(self.adapter, before, outcome.p_after, prob, self.anchor_kl, turn.number)
        self.known.kl = result.kl
        return {"accepted": result.accepted, "reason_code": result.reason_code, "scale": result.scale, "p_after": result.prob,
                "kl": result.kl}  # fmt: skip

    # what else changes the adapter ------------------------------------------------------------------------------------
    def replay(self, turn: Turn) -> None:
        """Stored facts again, in one lesson of their least known pairs, held to the KL budget alone.

        Where all are known it changes nothing.
        """
        facts = self.known.memory.get_facts_for_replay()
        forms = [form for fact in facts for form in self.kept_forms(fact)]
        entities = tuple(dict.fromkeys(entity for fact in facts for entity in fact.entities))
        rng, before = self.known.rng(), self.adapter.state()
        others = [q for fact in facts for q in siblings(self.info(fact.fact_text), self.others, 1, rng)]
        steps = self.config.fact_memory.replay_steps
        outcome = self.learner.learn(Lesson(forms, entities, siblings=others, context="replay", steps=steps, is_replay=True), rng)
        if not outcome.steps:
            return
        result = self.commit.settle(self.adapter, before, 1.0, lambda: 1.0, self.anchor_kl, turn.number)
        self.known.lessons, self.known.kl = self.known.lessons + 1, result.kl
        turn.history += outcome.history
        turn.changed |= result.accepted
        if not result.accepted:
            turn.notes.append("the replay would have changed too much else, and is taken back")

    def self_train(self, turn: Turn) -> None:
        """One step on the turn as it is: the specification's training on the model's own replies."""
        form = Form(user=turn.text, reply=turn.reply, answer="")
        if not self._fits(form):
            return
        context = "question" if turn.kind == "question" else "regular"
        self.known.events.append({"turn": turn.number, "kind": turn.kind, "text": turn.text, "reply": turn.reply})
        outcome = self.learner.learn(Lesson([form], context=context, steps=1, target_prob=ALWAYS), self.known.rng())
        self.known.lessons += 1
        turn.losses, turn.changed = dict(outcome.losses), turn.changed or outcome.steps > 0
        turn.history += outcome.history

    # measure ----------------------------------------------------------------------------------------------------------
    def anchor_kl(self) -> float:
        """KL(base ‖ adapter) on the anchor prompts, nats/token."""
        return self.learner.kl(self.config.anchors.prompts)

    def _base_losses(self) -> Tensor:
        with self.adapter.disabled():
            return self.learner.anchor_losses(self.config.anchors.prompts)

    def probe(self) -> Probe:
        """One measurement of the model."""
        prompts = self.config.anchors.prompts
        losses = self.learner.anchor_losses(prompts)
        return Probe(
            token_losses=losses,
            base_losses=self._base_losses,
            kl=self.learner.kl(prompts),
            facts={fact.id: self.learner.least_probability(self.kept_forms(fact)) for fact in self.known.memory.facts},
            model=self.adapter.model,
            tokenizer=self.base,
            prompts=prompts,
        )


def _record(turn: Turn, info: FactInfo, stored: StoredFact, outcome: Outcome) -> dict[str, Any]:
    """What /why shows of a lesson, as far as it is known before the gate."""
    return {
        "id": stored.id,
        "text": info.text,
        "turn": turn.number,
        "pattern": info.pattern,
        "relation": info.relation,
        "subject": info.subject,
        "value": info.value,
        "confidence": info.confidence,
        "steps": outcome.steps,
        "units": outcome.units,
        "p_before": outcome.p_before,
        "p_reached": outcome.p_after,
        "superseded": [dict(old) for old in stored.superseded],
    }
