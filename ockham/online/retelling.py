"""Telling a session again from its log, and comparing every reply and every adapter."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from .. import __version__
from ..errors import CheckpointError, ConfigError
from ..typed import from_mapping
from .adapter_files import as_bytes, digest
from .bases import Base
from .config import OnlineConfig
from .session_log import read_log
from .small_base import with_base
from .store import DAMAGED
from .trainer import OnlineTrainer, Turn

if TYPE_CHECKING:
    from .session import Session

LoadBase = Callable[[OnlineConfig], Base]
NOTHING = "."  # told in the place of a message that was rejected, and taught nothing
MOST_THREADS = 1024  # more is no machine that wrote a log
Retold = tuple[dict[str, Any], Turn | None, Sequence[str]]


def replay(path: Path, load: LoadBase, base: str | None = None, folder: Path | None = None) -> Iterator[Retold]:
    """Tells a log again: for each of its turns the line, what came of it now (None for a tombstone), and what differs.

    `base`: where the session's base lies now, if it was moved. `folder`: a new one that keeps the chat. A tombstone is only
    an id that is taken, and nothing from before it can be undone; that of a fact that was rejected is a message that taught
    nothing. Meanwhile torch has the session's number of threads, on which the last bits of a sum depend. Raises CheckpointError
    for a log that is damaged or of another base.
    """
    head, lines = read_log(path)
    with threads(head["threads"], path):
        yield from _retold(path, head, lines, load, base, folder)


def unlike(path: Path) -> str:
    """What a log was made with that is not so here, beside the threads: 'torch 2.12, here 2.13'; '' where all is alike."""
    head, _ = read_log(path)
    here = {"version": ("nanoGPT-Ockham", __version__), "torch": ("torch", torch.__version__)}
    pairs = ((name, head.get(key, now), now) for key, (name, now) in here.items())
    return "; ".join(f"{name} {then}, here {now}" for name, then, now in pairs if then != now)


@contextmanager
def threads(count: int, path: Path) -> Iterator[None]:
    """Inside, torch computes with so many threads. Raises CheckpointError for a number that no machine has."""
    if not 1 <= count <= MOST_THREADS:
        raise CheckpointError(
            f"{path}: the header's 'threads' must be in [1, {MOST_THREADS}], got {count}; put it back from a copy"
        )
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def _retold(
    path: Path, head: Mapping[str, Any], lines: Sequence[dict[str, Any]], load: LoadBase, base: str | None, folder: Path | None
) -> Iterator[Retold]:
    from .session import Session, make_trainer

    config = from_mapping(OnlineConfig, head["config"])
    found = load(with_base(config, base or head["base"]))
    if (sha := found.sha256()) != head["base_sha256"]:
        raise CheckpointError(
            f"{path} is of base {head['base']} ({head['base_sha256'][:12]}…), this is {sha[:12]}…; name that base with --base"
        )
    if folder is not None:
        with Session(folder, with_base(config, found.name), lambda settings: found) as session:
            yield from _kept(session, lines)
        return
    trainer = make_trainer(found, config)
    for line in lines:
        if "tombstone" in line:
            yield line, None, _passed(trainer, line, head["base_sha256"])
        else:
            turn, differing = _told(trainer, line, head["base_sha256"])
            yield line, turn, differing


def _passed(trainer: OnlineTrainer, line: Mapping[str, Any], base_sha256: str) -> list[str]:
    """A tombstone; its fact's id is not given again."""
    trainer.known.memory.reserve(f"f{line['tombstone']}")
    if "adapter_sha256" not in line:
        trainer.snapshots.clear()
        return []
    trainer.tick(Turn(line["turn"], ""))
    return _differing(line, None, _sha256(trainer, base_sha256))


def _told(trainer: OnlineTrainer, line: Mapping[str, Any], base_sha256: str) -> tuple[Turn, list[str]]:
    if line["reason_code"] == DAMAGED:
        turn = Turn(line["turn"], "", kind="command")
        _fall_back(trainer, lambda: _sha256(trainer, base_sha256) == line["adapter_sha256"])
    else:
        try:
            turn = trainer.take(line["text"])
        except ConfigError as error:
            turn = Turn(line["turn"], line["text"])
            return turn, [f"refused: {error}"]
    return turn, _differing(line, turn.reply, _sha256(trainer, base_sha256))


def _kept(session: Session, lines: Iterable[Mapping[str, Any]]) -> Iterator[Retold]:
    """As `replay`, in a session: the ids of facts are those of the log, its turns are numbered without the tombstones."""
    for line in lines:
        if "tombstone" in line:
            session.trainer.memory.reserve(f"f{line['tombstone']}")
            if "adapter_sha256" in line:
                session.say(NOTHING)
            yield dict(line), None, []
        elif line["reason_code"] == DAMAGED:
            turn = session.fall_back(line["adapter_sha256"])
            yield dict(line), turn, _differing(line, "", session.store.state().adapter_sha256)
        else:
            try:
                turn = session.say(line["text"])
            except ConfigError as error:
                yield dict(line), Turn(line["turn"], line["text"]), [f"refused: {error}"]
            else:
                yield dict(line), turn, _differing(line, turn.reply, session.store.state().adapter_sha256)


def _differing(line: Mapping[str, Any], reply: str | None, sha256: str) -> list[str]:
    """What is not as the log's line says; `reply` None = the line has none."""
    found = [] if reply is None or reply == line["reply"] else [f"reply {reply!r}, it was {line['reply']!r}"]
    if line["adapter_sha256"] not in (None, sha256):
        found.append(f"adapter {sha256[:12]}…, it was {line['adapter_sha256'][:12]}…")
    return found


def _sha256(trainer: OnlineTrainer, base_sha256: str) -> str:
    return digest(as_bytes(trainer.adapter.state(), {"base_sha256": base_sha256}))


def _fall_back(trainer: OnlineTrainer, is_there: Callable[[], bool]) -> None:
    """The adapter's file was damaged: to the newest state that was whole."""
    while trainer.snapshots.places:
        place = trainer.snapshots.back()
        trainer.adapter.load(place.adapter)
        trainer.known.load_state_dict(place.state)
        if is_there():
            return
