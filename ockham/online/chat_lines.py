"""What the chat says about facts and turns, in lines of text."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from ..memory import REJECTED_COMPLEXITY, REJECTED_QUALITY
from ..plugins.gate import SKIPPED
from .state_records import FactRow
from .tellings import source_of
from .trainer import Turn

# Reason code -> what it means to the one who told the fact.
REASONS = {
    REJECTED_QUALITY: "not kept: it did not learn it well enough",
    REJECTED_COMPLEXITY: "not kept: it would have changed too much else",
    SKIPPED: "known already",
}
GONE = "learning: its figures went with a fact that was forgotten"
KNOWN = 0.5  # p of the answer from which on a fact counts as learned, and not as trained only
WEAK = "trained but not well known"
# How greetings, thanks and the like begin; the same words as in their pattern in fact_detection.ignored.
SMALL_TALK = re.compile(
    r"(?:hi|hello|hey|greetings|welcome|bye|goodbye|cheers|thanks?|thx|congratulations|congrats|sorry|nice|great|wow|well done|"
    r"good (?:morning|evening|night|afternoon|day|luck|job|work|bye|news|idea)|no problem|of course|see you|take care|have an?|"
    r"happy|merry|how|what an?|all right|never mind)\b",
    re.IGNORECASE,
)
RISKS = {
    "CAP_FACTS": "many facts in this session",
    "CAP_KL": "much has changed in this session",
    "INSTRUCTION": "it reads like an instruction",
    "MIXED_SCRIPT": "it mixes alphabets",
    "OTHER_SCRIPT": "it is not in Latin letters",
    "DISGUISED": "it holds hidden or scattered letters",
    "TOO_LONG": "it is very long",
    "MARKUP": "it holds markup",
    "REBUILT": "it was not learned again when another fact was forgotten",
}


def untaken_line(turn: Turn) -> str:
    """For a statement that was not taken for a fact; '' for facts, questions, commands, greetings, thanks and short words."""
    is_said = turn.kind == "chat" and len(turn.text.split()) >= 3 and not SMALL_TALK.match(turn.text.strip())
    return "not taken for a fact; /learn TEXT teaches it" if is_said else ""


def counted(number: int, thing: str) -> str:
    """1 fact, 2 facts."""
    return f"{number} {thing}" if number == 1 else f"{number} {thing}s"


def told_lines(record: Mapping[str, Any]) -> str:
    """What became of one fact."""
    if not record["accepted"]:
        reason = REASONS.get(record["reason_code"], record["reason_code"])
        reached = f"p {record['p_reached']:.2f} after {record['steps']} steps, taken back to {record['p_after']:.2f}"
        return f"{reason}; all is as before ({reached}; {record['reason_code']})"
    p = f"p {record['p_before']:.2f} -> {record['p_after']:.2f}"
    part = "" if record["scale"] in (0.0, 1.0) else f", {record['scale']:g} of the update"
    verb = REASONS[SKIPPED] if record["reason_code"] == SKIPPED else "learned" if record["p_after"] >= KNOWN else WEAK
    old = f", in place of {record['superseded'][-1]['value']!r}" if record["superseded"] else ""
    return f"{record['id']}: {verb}{old} ({p}, {record['steps']} steps{part}, KL {record['kl_cost']:+.4f})"


def waiting_line(entry: Mapping[str, Any]) -> str:
    """Why a fact waits, and what to do."""
    why = "; ".join(RISKS.get(risk, f"it looks like personal data ({risk.removeprefix('PERSONAL_').lower()})"
                              if risk.startswith("PERSONAL_") else risk) for risk in entry["risks"])  # fmt: skip
    return f"{entry['id']} waits: {why}; /confirm {entry['id']} learns it, /reject {entry['id']} drops it"


def metric_line(turn: Turn) -> str:
    """The turn's figures; '' for a command that learned nothing."""
    figures = [f"{name} {turn.losses[name]:.3f}" for name in ("total", "task", "kl", "lambda") if name in turn.losses]
    if turn.kind == "command" and not figures:
        return ""
    return " · ".join([f"turn {turn.number}", turn.kind, *figures, f"{turn.seconds:.2f} s"])


def fact_line(row: FactRow) -> str:
    """One fact in a list."""
    record = row.record
    if "risks" in record:
        return f"f{row.id}  {row.text}  (waits: {', '.join(record['risks'])})"
    state = "evicted: no longer rehearsed, still in the weights; " if row.state == "evicted" else ""
    first = source_of(row)
    figures = f", p {record['p_after']:.2f}, {first['steps']} steps" if "steps" in first else ""
    return f"f{row.id}  {first['text']}  ({state}{record['relation']}, turn {first['turn']}{figures})"


def why_lines(found: Mapping[str, Any]) -> list[str]:
    """All that is known of a fact."""
    lines = [f"f{found['id']}  {found['text']}  ({found['state']})", f"source: {found['source']!r}, turn {found['turn']}"]
    if "risks" in found:
        return [*lines, f"waits, or waited, for: {', '.join(found['risks'])}"]
    return [*lines, *(_learning_lines(found) if "steps" in found else [GONE]), *_history_lines(found)]


def _learning_lines(found: Mapping[str, Any]) -> list[str]:
    return [
        f"detector: pattern {found['pattern']}, relation {found['relation']}, confidence {found['confidence']:.2f}",
        f"learning: {found['steps']} steps, {found['units']:.0f} compute units, p {found['p_before']:.3f} -> "
        f"{found['p_after']:.3f}, scale {found['scale']:g}, {found['reason_code']}",
        f"cost: KL {found['kl_cost']:+.5f} nats/token on the anchor prompts, {found['kl']:.5f} after it",
        f"adapter: {found['adapter_before'][:16]}… -> {found['adapter_after'][:16]}…",
    ]


def _history_lines(found: Mapping[str, Any]) -> list[str]:
    left = [f"the answer before it: p {found['p_old']:.3f} after the lesson"] if "p_old" in found else []
    return left + [f"history: {line}" for line in found["lines"]]
