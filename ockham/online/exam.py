"""The fact exam: teach all facts in order, then ask everything, without any of it in the prompt.

A line of the file is a JSON object with `fact` (the statement that is taught), `question`, `answer`, `paraphrases` (other
wordings of the question) and `unrelated` (questions whose replies must stay those of the base). Scored on free generation with
natural stopping.
"""

from __future__ import annotations

import itertools
import json
import math
import statistics
import unicodedata
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from ..errors import ConfigError, WorldError
from .trainer import OnlineTrainer

FIELDS = ("fact", "question", "answer", "paraphrases", "unrelated")
MAX_BYTES = 10_000_000
# Words that do not count in a comparison: "my friend" is told, "your friend" is right.
SMALL_WORDS = frozenset(["a", "an", "the", "my", "your", "mine", "yours", "his", "her", "its", "our", "their"])


@dataclass(frozen=True)
class Item:
    """One line of the exam."""

    fact: str
    question: str
    answer: str
    paraphrases: tuple[str, ...] = ()
    unrelated: tuple[str, ...] = ()


@dataclass
class FactResult:
    """One fact's result."""

    fact: str
    question: str
    answer: str
    reply: str = ""
    correct: bool = False
    paraphrases: list[dict[str, Any]] = field(default_factory=list)
    unrelated: list[dict[str, Any]] = field(default_factory=list)
    learned: bool = False
    reason_code: str = ""
    steps: int = 0
    seconds: float = 0.0
    p_before: float = 0.0
    p_after: float = 0.0


def read_exam(path: Path) -> list[Item]:
    """The items of a file. Raises WorldError where there is none, ConfigError with file and line for a line that is no item."""
    if not path.is_file():
        raise WorldError(f"no exam at {path}; give a JSONL file with {', '.join(FIELDS)} in each line")
    if path.stat().st_size > MAX_BYTES:
        raise ConfigError(f"{path} has {path.stat().st_size:,} bytes; at most {MAX_BYTES:,} are read")
    try:
        lines = path.read_text(encoding="utf-8-sig").split("\n")
    except UnicodeDecodeError as error:
        raise ConfigError(f"{path} is not UTF-8 text: {error.reason} at byte {error.start}; save it as UTF-8") from None
    except OSError as error:
        raise WorldError(f"{path} cannot be read: {error.strerror}") from error
    items = [_item(line, f"{path}:{number}") for number, line in enumerate(lines, 1) if line.strip()]
    if not items:
        raise ConfigError(f"{path} is empty; each line is a JSON object with {', '.join(FIELDS)}")
    return items


def _item(line: str, place: str) -> Item:
    try:
        found = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise ConfigError(f"{place} is not valid JSON: {error}") from None
    if not isinstance(found, dict):
        raise ConfigError(f"{place} must be a JSON object with {', '.join(FIELDS)}, got {type(found).__name__}")
    texts = {}
    for key in ("fact", "question", "answer"):
        value = found.get(key)
        if isinstance(value, (int, float)) and not isinstance(value, bool):
            value = str(value)
        if not isinstance(value, str) or not value.strip():
            raise ConfigError(f"{place}: {key} must be a text that is not empty, got {value!r}")
        texts[key] = value.strip()
    paraphrases, unrelated = (_texts(found.get(key, ()), f"{place}: {key}") for key in ("paraphrases", "unrelated"))
    if any("\ud800" <= c <= "\udfff" for text in (*texts.values(), *paraphrases, *unrelated) for c in text):
        raise ConfigError(f"{place} holds half of a character (\\ud800 to \\udfff), which is no text; write it whole")
    return Item(texts["fact"], texts["question"], texts["answer"], paraphrases, unrelated)


def _texts(value: Any, place: str) -> tuple[str, ...]:
    """A text, or a list of texts, or of objects with a `question`."""
    entries = [value] if isinstance(value, (str, Mapping)) else [] if value is None else value
    if not isinstance(entries, (list, tuple)):
        raise ConfigError(f"{place} must be a list of questions, got {value!r}")
    found = [entry.get("question") if isinstance(entry, Mapping) else entry for entry in entries]
    texts = [entry.strip() for entry in found if isinstance(entry, str) and entry.strip()]
    if len(texts) < len(found):
        raise ConfigError(f"{place} must be a list of questions, got {value!r}")
    return tuple(texts)


def is_right(reply: str, answer: str) -> bool:
    """Whether the answer's words stand in the reply, one after another; case, accents and small words do not count."""
    said, wanted = folded_words(reply), folded_words(answer)
    if not wanted:
        return answer.strip().casefold() in reply.casefold()
    return any(said[i : i + len(wanted)] == wanted for i in range(len(said) - len(wanted) + 1))


def folded_words(text: str) -> list[str]:
    """The words that count, in lower case and without accents."""
    plain = "".join(c for c in unicodedata.normalize("NFKD", text.casefold()) if not unicodedata.combining(c))
    words = "".join(c if c.isalnum() else " " for c in plain.replace("'s", " ")).split()
    return [word for word in words if word not in SMALL_WORDS] or words


def take_exam(
    trainer: OnlineTrainer,
    items: Sequence[Item],
    progress: Callable[[int, FactResult], None] = lambda i, row: None,
    chat_turns: int = 0,
) -> dict:
    """Teaches and asks. The result as plain values: the shares, the costs, and a row for each fact.

    Between the two come `chat_turns` messages of chat, over and over the questions that are neither commands nor facts, with the
    replays that fall due.

    `seconds` of a row count learning: the lesson, the commit gate and what was due for a replay; no reply and no measuring of
    metrics. Raises ConfigError for a fact that the trainer cannot take, before anything is taught.
    """
    questions = list(dict.fromkeys(q for item in items for q in (*item.unrelated, item.question)))
    for text in (*(item.fact for item in items), *questions):
        trainer.checked(text)
    talk = [q for q in questions if not (q.startswith("/") or trainer.teacher.detector.detect(q)[0])]
    before = {question: trainer.reply(question) for question in dict.fromkeys(q for item in items for q in item.unrelated)}
    perplexity = _perplexity(trainer)
    rows = []
    for number, item in enumerate(items, 1):
        rows.append(_teach(trainer, item))
        progress(number, rows[-1])
    for message in itertools.islice(itertools.cycle(talk), chat_turns):
        trainer.take(message)
    for row, item in zip(rows, items, strict=True):
        _ask(trainer, row, item, before)
    return {"chat_turns": chat_turns, **_result(trainer, rows, _perplexity(trainer) / perplexity)}


def _teach(trainer: OnlineTrainer, item: Item) -> FactResult:
    """By the statement alone, as in the chat; a statement that the detector does not take is taught by /learn."""
    row, turns = FactResult(item.fact, item.question, item.answer), []
    if not item.fact.startswith("/"):  # which is a command in a chat
        turns = [trainer.take(item.fact, with_reply=False)]
    if not turns or turns[0].kind != "fact":
        turns.append(trainer.take(f"/learn {item.fact}", with_reply=False))
    for waiting in turns[-1].waiting:  # whoever wrote the exam has confirmed it
        turns.append(trainer.take(f"/confirm {waiting['id']}", with_reply=False))
    row.seconds = sum(turn.seconds for turn in turns)
    records = [record for turn in turns for record in turn.facts]
    for record in records:
        row.steps += record["steps"]
        row.p_before, row.p_after = record["p_before"], record["p_after"]
    row.learned = bool(records) and all(record["accepted"] for record in records)
    row.reason_code = turns[-1].reason_code
    return row


def _ask(trainer: OnlineTrainer, row: FactResult, item: Item, before: Mapping[str, str]) -> None:
    row.reply = trainer.reply(item.question)
    row.correct = is_right(row.reply, item.answer)
    for question in item.paraphrases:
        reply = trainer.reply(question)
        row.paraphrases.append({"question": question, "reply": reply, "correct": is_right(reply, item.answer)})
    for question in item.unrelated:
        reply = trainer.reply(question)
        row.unrelated.append(
            {"question": question, "before": before[question], "reply": reply, "same": reply == before[question]}
        )


def _perplexity(trainer: OnlineTrainer) -> float:
    """exp of the mean token loss on the anchor prompts' own replies."""
    return math.exp(float(trainer.learner.anchor_losses(trainer.config.anchors.prompts).mean()))


def _result(trainer: OnlineTrainer, rows: list[FactResult], ratio: float) -> dict[str, Any]:
    first = rows[:10]
    return {
        "facts": len(rows),
        "learned": sum(row.learned for row in rows),
        "efficacy": _share(row.correct for row in rows),
        "paraphrase": _share(p["correct"] for row in rows for p in row.paraphrases),
        "locality": _share(u["same"] for row in rows for u in row.unrelated),
        "first_ten": _share(row.correct for row in first),
        "steps_per_fact": statistics.fmean(row.steps for row in rows),
        "seconds_per_fact": statistics.fmean(row.seconds for row in rows),
        "perplexity_ratio": ratio,
        "kl": trainer.learner.kl(trainer.config.anchors.prompts),
        "base": trainer.base.name,
        "base_sha256": trainer.base.sha256(),
        "adapter_sha256": trainer.adapter.sha256(),
        "rows": [asdict(row) for row in rows],
    }


def _share(values: Iterable[bool]) -> float | None:
    """The share that is true; None where there is nothing to share."""
    found = list(values)
    return statistics.fmean(found) if found else None
