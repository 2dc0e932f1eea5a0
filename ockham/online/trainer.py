"""OnlineTrainer: takes one message after another; replies, learns what is a fact, and says what it did and why.

The state after a message depends on the state before it and on the message alone. So a session can be told again, message by
message, with the same result bit for bit, and a fact is forgotten by telling everything again without it.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any

import torch

from ..errors import ConfigError, nearest
from .adapter import Adapter
from .bases import Base
from .config import OnlineConfig
from .detector import FactDetector
from .fact_memory import FactMemory
from .facts import FactInfo
from .forms import subjects_of
from .knowledge import Knowledge
from .learning import Learner
from .mentions import words
from .metrics import MetricsTracker
from .rebuild import rebuild
from .safety import Safety
from .snapshots import Place, Snapshots, what_went
from .teacher import Teacher
from .turn import Turn as Turn

CAPS = ("CAP_FACTS", "CAP_KL")  # risks that lie in the session, not in the message


class OnlineTrainer:
    """A base, an adapter on it, and all that was learned.

    `chat_and_update` is the specification's call; `take` says more. Raises ConfigError for a message that cannot be taken.
    Whatever breaks a message off, Ctrl-C too, leaves everything as it was before it.
    """

    def __init__(self, base: Base, adapter: Adapter, config: OnlineConfig):
        self.base, self.adapter, self.config = base, adapter, config
        self.detector = FactDetector(config.fact_detection)
        self.safety = Safety(config.safety)
        self.known = Knowledge(config)
        self.teacher = Teacher(base, adapter, config, self.known, self.detector)
        self.metrics = MetricsTracker(config.metrics)
        self.snapshots = Snapshots(config.checkpoint)
        self.fresh = adapter.state()

    @property
    def memory(self) -> FactMemory:
        """The facts that were learned."""
        return self.known.memory

    @property
    def learner(self) -> Learner:
        """What measures and changes the adapter."""
        return self.teacher.learner

    # one message ------------------------------------------------------------------------------------------------------
    def chat_and_update(self, user_input: str) -> tuple[str, dict[str, float]]:
        """The reply, and the losses of what was learned from the message (empty where nothing was)."""
        turn = self.take(user_input)
        return turn.reply, turn.losses

    def take(self, text: str, with_reply: bool = True) -> Turn:
        """Learns what there is to learn, then replies; before it where generation.replies says so, as the specification does."""
        text, before = self.checked(text), self.place()
        try:
            return self._take(text, with_reply, before)
        except BaseException:
            self.return_to(before)
            raise

    def _take(self, text: str, with_reply: bool, before: tuple) -> Turn:
        started = time.perf_counter()
        turn = Turn(self.known.clock + 1, text)
        if text.lstrip().startswith("/"):
            self._command(turn)
        else:
            learns_reply = self.config.training.self_train
            is_first = learns_reply or self.config.generation.replies == "before"
            if is_first and (with_reply or learns_reply):
                turn.reply = self.reply(text)
            self._take_in(turn)
            if with_reply and not is_first:
                turn.reply = self._reply_after(turn)
        if any(record["accepted"] for record in turn.facts):
            self.snapshots.add(Place(turn.number, before[0], before[1]))
        self.tick(turn)
        turn.seconds = time.perf_counter() - started
        self._measure(turn)
        return turn

    def reply(self, text: str) -> str:
        """The model's answer to a message; the base's own where the subject gate is on and nothing learned is mentioned."""
        if self.config.subject_gate.enabled and not self.mentions(text):
            with self.adapter.disabled():
                return self._generate(text)
        return self._generate(text)

    def _reply_after(self, turn: Turn) -> str:
        """To the question beside what was told, where there is one; what waits gets a sentence, as nothing is known of it yet."""
        if turn.waiting and not turn.facts:
            return self.config.generation.waiting
        return self.reply((self.detector.question_in(turn.text) if turn.facts else "") or turn.text)

    def mentions(self, text: str) -> bool:
        """Whether a message mentions the subject of a fact that was learned."""
        said = f" {' '.join(words(text))} "
        infos = [self.teacher.info(fact.fact_text) for fact in self.memory.facts]
        subjects = [words(subject) for info in infos for subject in subjects_of(info)]
        return any(f" {' '.join(subject)} " in said for subject in subjects if subject)

    def checked(self, text: str) -> str:
        """The message without line ends around it. Raises ConfigError for one that cannot be taken."""
        limit, stripped = self.config.safety.max_message_chars, text.strip("\r\n")  # an indent says that it is pasted code
        if not stripped.strip():
            raise ConfigError("the message is empty; type a fact or a question, or /help")
        if len(text) > limit:
            raise ConfigError(
                f"the message has {len(text):,} characters, at most {limit:,} are taken (safety.max_message_chars); "
                "send it in parts"
            )
        try:
            text.encode()
        except UnicodeEncodeError as error:
            raise ConfigError(f"a message must be UTF-8 text, got {text[error.start]!a}; type it again") from None
        return stripped

    def tick(self, turn: Turn) -> None:
        """A message is over: the clock goes on, and what is due for a replay is replayed."""
        self.known.clock += 1
        if self.known.is_replay_due():
            self.teacher.replay(turn)

    def _generate(self, text: str) -> str:
        settings = self.config.generation
        tokens = self.base.encode_in(settings.prompt, text.strip())
        draw = torch.Generator(self.base.device).manual_seed(self.config.model.seed + self.known.clock)
        made = self.base.generate(
            self.adapter.model, tokens, settings.max_new_tokens, settings.stop, settings.temperature, settings.top_p, draw
        )
        return made.strip()

    def _measure(self, turn: Turn) -> None:
        """The turn's row of metrics; every so often the model itself is measured, too, but not in a turn that teaches."""
        accepted = [record for record in turn.facts if record["accepted"]]
        for record in accepted:
            self.metrics.learned(record["id"], self.known.clock, record["p_after"])
        is_due = self.known.is_measure_due or self.metrics.is_due(self.known.clock)
        self.known.is_measure_due = is_due and bool(turn.facts)
        is_measured = is_due and not turn.facts
        row = self.metrics.record(self.known.clock, turn.history, self.teacher.probe if is_measured else None, **turn.losses)
        turn.metrics = row
        turn.notes += [f"metric {name}: {error}" for name, error in row.get("errors", {}).items()]

    def metrics_now(self) -> MetricsTracker:
        """The metrics so far with a measurement of the model as it is now; the chat's own stay as they are."""
        tracker = MetricsTracker(self.config.metrics)
        tracker.load_state_dict(self.metrics.state_dict())
        tracker.record(self.known.clock, probe=self.teacher.probe)
        return tracker

    # facts in messages ------------------------------------------------------------------------------------------------
    def _take_in(self, turn: Turn) -> None:
        """Learns the facts in a message, or, where that is asked for, the turn as it is if the user said all of it himself."""
        own = self.safety.learnable(turn.text)
        infos = self.detector.detect_all(own) if own else []
        turn.kind = "fact" if infos else "question" if self.detector.question_in(turn.text) else "chat"
        for info in infos:
            self._told(turn, info, turn.text)
        if turn.kind != "fact" and self.config.training.self_train and self.safety.is_own(turn.text):
            self.teacher.self_train(turn)

    def _told(self, turn: Turn, info: FactInfo, message: str) -> None:
        code, fault = self.teacher.fault(info)
        if fault:
            turn.reason_code = turn.reason_code or code
            turn.notes.append(fault)
        elif risks := [*self.safety.risks(message, info), *self._caps()]:
            self._wait(turn, info, risks)
        else:
            self.teacher.learn(turn, info)

    def _caps(self) -> list[str]:
        limits, spent = self.config.safety, self.known.session
        over = (spent["facts"] >= limits.max_facts_per_session, spent["kl"] >= limits.max_kl_per_session)
        return [cap for cap, is_over in zip(CAPS, over, strict=True) if is_over]

    def _wait(self, turn: Turn, info: FactInfo, risks: Sequence[str]) -> None:
        id, pending = self.known.next_id(), self.known.pending
        pending[id] = {"id": id, "text": info.text, "message": turn.text, "turn": turn.number, "risks": list(risks)}
        turn.waiting.append(pending[id])
        turn.reason_code = turn.reason_code or risks[0]
        while len(pending) > self.config.safety.max_pending:
            oldest = next(iter(pending))
            del pending[oldest]
            turn.notes.append(f"{oldest} has waited longest and is dropped: safety.max_pending facts wait")

    # commands that change what is known -------------------------------------------------------------------------------
    def _command(self, turn: Turn) -> None:
        turn.kind = "command"
        verb, _, rest = turn.text.strip()[1:].replace("\t", " ").partition(" ")
        commands: dict[str, Callable[[Turn, str], None]] = {
            "confirm": self._confirm, "reject": self._reject, "learn": self._teach, "undo": self._undo, "begin": self._begin,
        }  # fmt: skip
        if verb not in commands:
            raise ConfigError(f"unknown command /{verb}{nearest(verb, commands)}")
        commands[verb](turn, rest.strip())

    def waiting(self, id: str) -> dict[str, Any]:
        """The fact that waits under this id; without one, the only one that waits."""
        pending = self.known.pending
        id = next(iter(pending)) if not id and len(pending) == 1 else id
        if not pending:
            raise ConfigError("nothing is waiting")
        if id not in pending:
            said = f"nothing waits under {id!r}" if id else "more than one fact waits: name one"
            raise ConfigError(f"{said}; waiting: {', '.join(pending)}")
        return pending[id]

    def _confirm(self, turn: Turn, id: str) -> None:
        entry = self.waiting(id)
        id = entry["id"]
        self.teacher.learn(turn, self.teacher.info(entry["text"]), entry)
        if turn.facts[-1]["accepted"]:
            del self.known.pending[id]
        else:
            turn.notes.append(f"{id} still waits: /confirm {id} tries again, /reject {id} drops it, or tell it in other words")

    def _reject(self, turn: Turn, id: str) -> None:
        entry = self.waiting(id)
        del self.known.pending[entry["id"]]
        turn.notes.append(f"{entry['id']} is not learned")

    def _teach(self, turn: Turn, text: str) -> None:
        """A statement that is to be learned whatever the detector thinks; what is risky still waits.

        Raises ConfigError for none, and for a longer one than a fact may be.
        """
        if not text:
            raise ConfigError("/learn needs the statement, as in /learn Tom is my friend.")
        if len(text) > (most := self.config.safety.max_fact_chars):
            raise ConfigError(
                f"/learn got a statement of {len(text):,} characters, at most {most:,} are learned (safety.max_fact_chars); "
                "say it shorter"
            )
        turn.kind = "fact"
        self._told(turn, self.teacher.info(text), text)

    def _undo(self, turn: Turn, rest: str) -> None:
        sha, place, records = self.adapter.sha256(), self.snapshots.back(), self.known.records
        self.go_back(place.adapter, place.state)
        turn.changed = self.adapter.sha256() != sha
        turn.notes.append(what_went(records, self.known.records))

    def _begin(self, turn: Turn, rest: str) -> None:
        """A new session."""
        self.known.begin_session()

    # the state --------------------------------------------------------------------------------------------------------
    def go_back(self, adapter: Mapping[str, torch.Tensor], state: Mapping[str, Any]) -> None:
        """To before a message that was learned; see `Knowledge.go_back`."""
        self.adapter.load(adapter)
        self.known.go_back(state)

    def place(self) -> tuple:
        """All that a message may change."""
        return self.adapter.state(), self.known.state_dict(), self.metrics.state_dict(), self.snapshots.copy()

    def return_to(self, place: tuple) -> None:
        """Be as at `place`."""
        adapter, state, metrics, snapshots = place
        self.adapter.load(adapter)
        self.known.load_state_dict(state)
        self.metrics.load_state_dict(metrics)
        self.snapshots = snapshots.copy()

    def rebuild(self, without: Collection[str], drops: Callable[[str], bool] = lambda text: False) -> list[str]:
        """See `rebuild.rebuild`."""
        return rebuild(self, without, drops)

    def reset(self) -> None:
        """To before the first message."""
        self.adapter.load(self.fresh)
        self.known.reset()
        self.snapshots.clear()
