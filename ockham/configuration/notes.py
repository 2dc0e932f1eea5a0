"""What a person should hear before a run: which value gave way to which, and what was asked for but has no effect."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from .keys import group_choices
from .layers import Provenance, Source

OVERRIDABLE = ("policy", "file", "preset")  # kinds of layers whose word is worth a line when a higher one overrides it


def all_notes(said: Provenance) -> Iterable[str]:
    """The lines, in the order in which they are printed."""
    yield from overriding(said)
    yield from without_effect(said)


def overriding(said: Provenance) -> Iterable[str]:
    """What a preset or flag changed of a file or preset, a file of a policy, and whatever changed of a resumed run."""
    for key, history in said.items():
        if echoes(said, key):
            continue
        top, run = history[-1], next((s for s in history if s.kind == "run"), None)
        below = next((s for s in reversed(history[:-1]) if s.kind in OVERRIDABLE), None)
        if run and top.kind in ("file", "preset", "flag") and top.value != run.value:
            yield f"Resume: {key} = {top.value} ({top.where}; the run had {run.value})"
        elif below and top.value != below.value and (top.kind in ("preset", "flag") or below.kind == "policy"):
            yield f"Overriding: {key} = {top.value} ({top.where}; {below.where} said {below.value})"


def echoes(said: Mapping[str, list[Source]], key: str) -> bool:
    """Whether a plugin's parameter only repeats a plain key that says the same."""
    param = key.rpartition(".")[2]
    return key.startswith("rack.") and param in said and said[key][-1] == said[param][-1]


def without_effect(said: Provenance) -> Iterable[str]:
    """What the command line asks for, and what another setting keeps from acting."""
    for key, why in idle(said):
        top = said[key][-1]
        if top.kind == "flag":
            yield f"No effect: {key} = {top.value} ({top.where}), as {why}"


def idle(said: Provenance) -> Iterable[tuple[str, str]]:
    """(key, why it does not act), whoever set it."""
    schedule = str(said.value("scheduler.name"))
    hooked = bool(said.value("optimizer.scheduler_hook"))
    for key in said:
        room, _, leaf = key.partition(".")
        if room != "scheduler":
            continue
        users = [name for name, stated in group_choices("scheduler").items() if leaf in stated]
        if not hooked and schedule != "none":
            yield key, "optimizer.scheduler_hook is false"
        elif schedule not in users:
            yield key, f"scheduler {schedule} does not use it ({', '.join(users)} do)"
    if said.value("scheduler.warmup_steps") is not None:
        yield "optimizer.warmup_steps", f"scheduler.warmup_steps = {said.value('scheduler.warmup_steps')} wins over that hint"
    if not said.value("optimizer.lookahead.enabled"):
        for leaf in ("alpha", "k"):
            yield f"optimizer.lookahead.{leaf}", "optimizer.lookahead.enabled is false"
    if not said.value("optimizer.auto_param_groups.enabled"):
        for leaf in ("no_decay_patterns", "override_no_decay_weight"):
            yield f"optimizer.auto_param_groups.{leaf}", "optimizer.auto_param_groups.enabled is false"
