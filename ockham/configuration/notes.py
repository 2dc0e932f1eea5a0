"""What a person should hear before a run: which value gave way to which, and what was asked for but has no effect."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from .keys import group_choices
from .layers import Provenance, Source

OVERRIDABLE = ("policy", "file", "preset", "macro")  # kinds of layers whose word is worth a line where another overrides it


def all_notes(said: Provenance) -> Iterable[str]:
    """The lines, in the order in which they are printed."""
    yield from overriding(said)
    yield from without_effect(said)


def overriding(said: Provenance) -> Iterable[str]:
    """What a preset, macro or flag changed of a layer below it, a file of a policy, and whatever changed of a resumed run."""
    for key, history in said.items():
        top, lower = history[-1], beaten(history)
        if not lower or top.value == lower[-1].value or echoes(said, key):
            continue
        values = f"{key} = {top.value} ({top.where}; "
        if lower[-1].kind == "run":
            if top.kind in ("file", "preset", "macro", "flag"):
                yield f"Resume: {values}the run had {lower[-1].value})"
        elif top.kind in ("preset", "macro", "flag") or lower[-1].kind == "policy":
            yield f"Overriding: {values}{', '.join(f'{s.where} said {s.value}' for s in lower)})"


def beaten(history: Sequence[Source]) -> list[Source]:
    """Whose word gave way to the top's: the resumed run's if there is one, else the next layer's below, or all macros'."""
    run = next((s for s in history if s.kind == "run"), None)
    top, lower = history[-1], [s for s in history[:-1] if s.kind in OVERRIDABLE and s.kind != history[-1].kind]
    if run or not lower:
        return [run] if run and run is not top else []
    return [s for s in lower if s.kind == "macro"] if lower[-1].kind == "macro" else lower[-1:]


def echoes(said: Mapping[str, list[Source]], key: str) -> bool:
    """Whether a plugin's parameter only repeats a plain key that says the same over the same."""
    param = key.rpartition(".")[2]
    if not key.startswith("rack.") or param not in said or said[key][-1] != said[param][-1]:
        return False
    return [s.value for s in beaten(said[key])] == [s.value for s in beaten(said[param])]


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
    if not said.value("memory.enabled"):
        for key in said:
            if key.startswith("memory.") and key != "memory.enabled":
                yield key, "memory.enabled is false"
