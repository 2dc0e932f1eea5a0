"""Rebuilding: everything that was learned, learned again from the first adapter, without some of it."""

from __future__ import annotations

from bisect import bisect
from collections.abc import Callable, Collection, Iterable, Mapping
from typing import TYPE_CHECKING, Any

from .turn import Turn

if TYPE_CHECKING:
    from .knowledge import Knowledge
    from .trainer import OnlineTrainer

SOURCE = ("turn", "confidence", "pattern")  # what /why says of where a fact came from stays as it was


def rebuild(trainer: OnlineTrainer, without: Collection[str], drops: Callable[[str], bool]) -> list[str]:
    """Does everything again as if the messages that told these facts had never come.

    The state is then the one, bit for bit, of a chat without those messages: learned, waiting or confirmed. With self_train on,
    replies that mention what is forgotten (`drops`) are not learned again; the others are as they were given, though without the
    fact they might have been others. Nothing from before can be undone, and the metrics begin anew with the facts as they are
    learned now. Gives the ids of other facts that did not pass the commit gate this time: they wait for /confirm.
    """
    known = trainer.known
    clock, records, following, since = known.clock, known.records, known.memory.next_id, _session_begin(known)
    kept = [event for event in known.events if not _goes(event, without, drops)]
    pending = {id: entry for id, entry in known.pending.items() if id not in without}
    gone = sorted(_turns(known.events, known.pending) - _turns(kept, pending))

    def now(turn: int) -> int:
        return turn - bisect(gone, turn)

    undone = [[now(first), now(last)] for first, last in known.undone]
    due: dict[int, list[dict[str, Any]]] = {}
    for event in kept:
        due.setdefault(now(event["turn"]), []).append(event)
    trainer.reset()
    trainer.metrics.clear()
    known.undone = undone
    for number in range(1, clock - len(gone) + 1):
        if number == now(since) + 1:
            known.begin_session()
        turn = Turn(number, "")
        for event in due.get(number, ()):
            _again(trainer, turn, event, records, now)
        trainer.tick(turn)
    if known.clock == now(since):
        known.begin_session()
    known.pending = {id: {**entry, "turn": now(entry["turn"])} for id, entry in pending.items()}
    missing = _missing(known, kept, now)
    known.memory.reserve(f"f{int(following[1:]) - 1}")
    trainer.snapshots.clear()
    return missing


def _goes(event: Mapping[str, Any], without: Collection[str], drops: Callable[[str], bool]) -> bool:
    if "id" in event:
        return event["id"] in without
    return drops(f"{event['text']}\n{event['reply']}")


def _turns(events: Iterable[Mapping[str, Any]], pending: Mapping[str, Mapping[str, Any]]) -> set[int]:
    """Of the messages that told, confirmed or trained something."""
    return {event[key] for event in (*events, *pending.values()) for key in ("turn", "told") if key in event}


def _session_begin(known: Knowledge) -> int:
    """The turn before the first one that taught something in this session."""
    taught = [event["turn"] for event in known.events if "id" in event]
    return [*taught, known.clock + 1][len(taught) - known.session["facts"]] - 1


def _again(
    trainer: OnlineTrainer, turn: Turn, event: Mapping[str, Any], records: Mapping[str, Any], now: Callable[[int], int]
) -> None:
    known, teacher = trainer.known, trainer.teacher
    if "id" not in event:
        turn.text, turn.kind, turn.reply = event["text"], event["kind"], event["reply"]
        teacher.self_train(turn)
        return
    entry = {"id": event["id"], "message": event["message"]} | ({"turn": now(event["told"])} if "told" in event else {})
    teacher.learn(turn, teacher.info(event["text"]), entry)
    if event["id"] in known.records:
        known.records[event["id"]] |= {key: records[event["id"]][key] for key in SOURCE}
    if turn.facts[-1]["accepted"]:
        trainer.metrics.learned(event["id"], turn.number, turn.facts[-1]["p_after"])


def _missing(known: Knowledge, kept: Iterable[Mapping[str, Any]], now: Callable[[int], int]) -> list[str]:
    """Facts that were learned and are not now: each waits."""
    last = {event["id"]: event for event in kept if "id" in event and event["id"] not in known.records}
    for id, event in last.items():
        turn = now(event["turn"])
        known.pending[id] = {"id": id, "text": event["text"], "message": event["message"], "turn": turn, "risks": ["REBUILT"]}
    return sorted(last, key=lambda id: int(id[1:]))
