"""What a person should hear before a run: which value gave way to which, and what was asked for but has no effect."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from ..config import RunConfig
from .keys import group_choices
from .layers import Provenance, Source

KINDS = ("default", "group", "policy", "run", "file", "preset", "macro", "flag")  # of layers, low to high
OVERRIDABLE = ("policy", "file", "preset", "macro")  # kinds of layers whose word is worth a line where another overrides it


def all_notes(said: Provenance) -> Iterable[str]:
    """The lines, in the order in which they are printed."""
    yield from overriding(said)
    yield from without_effect(said)
    yield from coupled_decay(said)


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
    """What was asked for, and what another setting keeps from acting."""
    for key, why, blocker in idle(said):
        top = said[key][-1]
        if top.kind == "flag" or (top.kind in ("policy", "file") and asks(said, key, blocker)):
            yield f"No effect: {key} = {top.value} ({top.where}), as {why}"


def asks(said: Provenance, key: str, blocker: str) -> bool:
    """Whether a policy's or a file's word is a request: it changes a value, and nothing above it keeps it from acting.

    A recipe states values that only some schedules use; that the command line chooses another one is no mistake of the recipe's.
    """
    history, above = said[key], said[blocker][-1].kind
    changes = len(history) < 2 or history[-1].value != history[-2].value
    return changes and KINDS.index(above) <= KINDS.index(history[-1].kind)


def idle(said: Provenance) -> Iterable[tuple[str, str, str]]:
    """(key, why it does not act, the key that keeps it from that), whoever set it."""
    yield from idle_in_schedule(said)
    if said.value("scheduler.warmup_steps") is not None:
        why = f"scheduler.warmup_steps = {said.value('scheduler.warmup_steps')} wins over that hint"
        yield "optimizer.warmup_steps", why, "scheduler.warmup_steps"
    for room in ("optimizer.lookahead", "optimizer.auto_param_groups", "memory"):
        switch = f"{room}.enabled"
        for key in said if not said.value(switch) else ():
            if key.startswith(f"{room}.") and key != switch:
                yield key, f"{switch} is false", switch


def idle_in_schedule(said: Provenance) -> Iterable[tuple[str, str, str]]:
    """The leaves of the schedule that the chosen one does not use; all of them where the optimizer takes none."""
    schedule = str(said.value("scheduler.name"))
    hooked = bool(said.value("optimizer.scheduler_hook"))
    for key in said:
        room, _, leaf = key.partition(".")
        if room != "scheduler":
            continue
        users = [name for name, stated in group_choices("scheduler").items() if leaf in stated]
        if not hooked and schedule != "none":
            yield key, "optimizer.scheduler_hook is false", "optimizer.scheduler_hook"
        elif schedule not in users:
            verb = "does" if len(users) == 1 else "do"
            yield key, f"scheduler {schedule} does not use it ({', '.join(users)} {verb})", "scheduler.name"


def coupled_decay(said: Provenance) -> Iterable[str]:
    """Adam with a decay that somebody else than the command line chose: it is not the decay that AdamW's authors mean."""
    key = "optimizer.weight_decay"
    top, is_decoupled = said[key][-1], "optimizer.decoupled_weight_decay"
    if said.value("optimizer.type") != "Adam" or not top.value or top.kind in ("default", "group", "flag"):
        return
    if is_decoupled in said and said.value(is_decoupled):
        return
    yield (
        f"Adam: {key} = {top.value:g} ({top.where}) is an L2 term added to the gradient; optimizer=adamw decays the weights "
        f"themselves, --weight_decay=0 leaves it out"
    )


def odd_schedule(config: RunConfig) -> Iterable[str]:
    """What is allowed and seldom meant: an end above the peak, a warm-up that leaves nothing to decay."""
    name, peak, warmup = config.scheduler.name, config.optimizer.lr, config.warmup_steps
    if not config.optimizer.scheduler_hook or name in ("none", "constant"):
        return
    if config.min_lr > peak:
        yield f"Schedule: scheduler.min_lr = {config.min_lr:g} is above the peak, optimizer.lr = {peak:g}: the rate ends higher"
    end = config.scheduler.decay_steps or (0 if config.epochs else config.max_iters)  # epochs are counted in the corpus
    if end and warmup >= end:
        yield f"Schedule: the warm-up of {warmup:,} ticks is as long as the schedule ({end:,}): the rate only rises"
