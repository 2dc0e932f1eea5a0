"""/exam in the chat: asks what was learned, or takes a whole exam beside the chat."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

from .exam import is_right, read_exam, take_exam
from .exam_report import show_result, show_row
from .forms import paraphrases
from .session import Session
from .trainer import OnlineTrainer


def quiz(session: Session) -> Iterator[str]:
    """Each active fact by the questions that it was trained on, and by other wordings of them. Changes nothing."""
    trainer = session.trainer
    right: list[bool] = []
    held: list[bool] = []
    for fact in trainer.memory.facts:
        info = trainer.teacher.info(fact.fact_text)
        asked = [form for form in trainer.teacher.forms(info) if form.kind not in ("statement", "shifted")]
        answers = [is_right(trainer.reply(form.user), form.answer or form.reply) for form in asked]
        held_out = paraphrases(info, trainer.config.training.questions)
        others = [is_right(trainer.reply(form.user), form.answer or form.reply) for form in held_out]
        right, held = right + answers, held + others
        yield f"{fact.id}  {fact.fact_text}  {sum(answers)}/{len(answers)} questions, {sum(others)}/{len(others)} other wordings"
    if not right:
        yield "no facts to ask about yet"
        return
    yield f"in all {sum(right)}/{len(right)} questions, {sum(held)}/{len(held)} other wordings"


def file_exam(session: Session, path: Path, note: Callable[[str], None]) -> Iterator[str]:
    """The exam of a file with an adapter of its own, taken away again; the chat's comes back as it was."""
    items = read_exam(path)
    kept = session.trainer.adapter.state()
    session.trainer.adapter.load(session.trainer.fresh)
    try:
        trainer = OnlineTrainer(session.base, session.trainer.adapter, session.config)
        yield show_result(take_exam(trainer, items, lambda number, row: note(show_row(number, len(items), row))))
    finally:
        session.trainer.adapter.load(kept)
