"""The exam's results for people."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from .chat_lines import KNOWN, WEAK, counted
from .exam import FactResult

# Key of the result -> what is shown, and how.
LINES = (
    ("efficacy", "efficacy (the question, after all facts)", "{:.3f}"),
    ("paraphrase", "paraphrases", "{:.3f}"),
    ("locality", "locality (unrelated replies unchanged)", "{:.3f}"),
    ("first_ten", "the first ten facts, after all", "{:.3f}"),
    ("steps_per_fact", "steps per fact", "{:.1f}"),
    ("seconds_per_fact", "seconds of learning per fact", "{:.2f}"),
    ("perplexity_ratio", "perplexity on the anchor prompts, after / before", "{:.3f}"),
    ("kl", "KL on the anchor prompts, nats/token", "{:.4f}"),
)


def show_row(number: int, count: int, row: FactResult) -> str:
    """One fact, as it is taught."""
    state = ("learned" if row.p_after >= KNOWN else WEAK) if row.learned else "not learned"
    figures = f"p {row.p_before:.2f} -> {row.p_after:.2f}, {row.steps} steps"
    return f"{number}/{count} {row.fact[:70]}: {state} ({row.reason_code}), {figures}"


def show_result(result: Mapping[str, Any]) -> str:
    """A table of the shares and costs, and what went wrong."""
    wide = max(len(label) for _, label, _ in LINES)
    lines = [f"{label:<{wide}}  {form.format(result[key]) if result[key] is not None else '-'}" for key, label, form in LINES]
    wrong = [row for row in result["rows"] if not row["correct"]]
    lines += [f"wrong: {row['question']} -> {row['reply']!r}, not {row['answer']!r}" for row in wrong[:10]]
    kept = [row["p_after"] >= KNOWN for row in result["rows"] if row["learned"]]
    weak = f", {kept.count(False)} {WEAK}" if False in kept else ""
    return "\n".join([f"{counted(result['facts'], 'fact')}, {kept.count(True)} learned{weak}", *lines])
