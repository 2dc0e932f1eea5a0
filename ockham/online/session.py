"""A chat on a state folder: every message is committed whole, and can be undone, forgotten, explained and told again."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import torch

from .. import __version__
from ..errors import CheckpointError, ConfigError, WorldError
from ..files import check_target
from ..typed import from_mapping, to_mapping
from .adapter import Adapter
from .adapter_files import as_bytes, tensors_of
from .bases import Base
from .config import OnlineConfig
from .fact_rows import is_learned, rows_now, rows_without, texts_of
from .mentions import mention_test
from .private_files import write_private
from .small_base import with_base
from .snapshots import what_went
from .state_records import FactRow, Forgotten, Rebuilt, Rejected
from .state_records import Turn as Kept
from .state_view import stored_header
from .store import DAMAGED, StateFolder, check_free
from .trainer import OnlineTrainer, Turn
from .trimming import trim_state

LoadBase = Callable[[OnlineConfig], Base]
EVICTED = "f{0} is evicted: no longer rehearsed, still in the weights; /forget f{0} takes it out"
MOVABLE = ("model.base_model_name", "model.fallback")  # where the base lies; its hash says which one it is


class Session:
    """An open chat. `say` takes messages and the commands that change what is known; the rest are methods.

    is_chosen  the settings are what the user asks for: a folder that was begun with others is refused; else its own are taken
    base       the base that the user asks for by name; else a folder's own is loaded
    fall_back  where the adapter's file is damaged, go back to the newest state that is whole
    """

    def __init__(
        self,
        folder: Path,
        config: OnlineConfig,
        load: LoadBase,
        *,
        is_chosen: bool = True,
        base: str | None = None,
        fall_back: bool = False,
    ):
        begun = stored_header(folder)
        if begun and not is_chosen:
            config = from_mapping(OnlineConfig, begun["config"])
        if name := base or (begun["base"] if begun else None):
            config = with_base(config, name)
        self.config = config
        check_free(folder)  # before the base, which may take minutes
        self.base = load(config)
        self.trainer = make_trainer(self.base, config)
        settings = config.checkpoint
        self.store = StateFolder(
            folder, header(self.base, config), keep=settings.keep, interval=settings.interval, fall_back=fall_back
        )
        try:
            self._open(folder)
        except BaseException:
            self.store.close()
            raise

    def _open(self, folder: Path) -> None:
        self.base_sha256 = self.store.header["base_sha256"]
        if self.store.is_new:
            self.store.begin(self._adapter(), self.trainer.known.state_dict(), self.trainer.metrics.state_dict())
        elif differing := [key for key in self.store.differing(_up_to_date) if key not in MOVABLE]:
            named = ", ".join(differing[:3]) + (", …" if len(differing) > 3 else "")
            raise ConfigError(
                f"{folder} was begun with other settings ({named}); leave them out to go on with its own, or name another folder "
                "with --state"
            )
        self._take_up()
        self.recovered = self.store.recovered
        if any(self.trainer.known.session.values()):
            self.say("/begin")

    def _take_up(self) -> None:
        """Be as the folder says."""
        state, trainer = self.store.state(), self.trainer
        trainer.adapter.load(tensors_of(state.adapter))
        trainer.known.load_state_dict(state.memory)
        trainer.known.memory.reserve(f"f{self.store.next_fact_id() - 1}")
        trainer.metrics.load_state_dict(state.metrics)
        self.rows = {row.id: row for row in self.store.facts()}

    def close(self) -> None:
        """Give the folder back. Raises CheckpointError where the base has changed meanwhile."""
        self.store.close()
        if self.base.sha256() != self.base_sha256:
            raise CheckpointError(f"the weights of the base {self.base.name} changed during the chat; start it anew")

    def __enter__(self) -> Session:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    # what changes it ----------------------------------------------------------------------------------------------------
    def say(self, text: str) -> Turn:
        """One message, or one of the trainer's commands. Raises ConfigError for one that is refused, WorldError where the disk
        refuses; nothing is lost by either.
        """
        verb, _, rest = text.strip().replace("\t", " ").partition(" ")
        if verb == "/undo":
            return self._undo(text.strip())
        if verb == "/reject":
            return self._reject(text.strip(), self.trainer.waiting(rest.strip())["id"])
        before, place = self.store.turn, self.trainer.place()
        try:
            turn = self.trainer.take(text)
            self._commit(turn)
        except BaseException:
            self._return(before, place)
            raise
        return turn

    def forget(self, id: str) -> Forgotten:
        """Rebuilds everything without a fact, and leaves nothing of it but a tombstone. Raises ConfigError for an unknown id."""
        number = self._number(id)
        before, place = self.store.turn, self.trainer.place()
        try:
            done = self._forget(number)
        except BaseException:
            self._return(before, place)
            raise
        finally:
            self.trainer.teacher.forget_texts()
        self.rows = {row.id: row for row in self.store.facts()}
        return done

    def _going(self, number: int) -> Rejected:
        """What goes with a fact: itself, and what waits and says the same; and the test for texts that mention it."""
        gone = texts_of(self.rows[number])
        same = [row.id for row in self.rows.values() if row.state == "pending" and row.text in gone and row.id != number]
        ids = [number, *same]
        staying = [text for row in rows_now(self.trainer.known, {}) if row.id not in ids for text in texts_of(row)]
        return Rejected(ids, mention_test(gone, staying, self.trainer.teacher.info))

    def _reject(self, text: str, id: str) -> Turn:
        """What only waited goes, and nothing else is lost; where more rests on it, it is forgotten."""
        going = self._going(self._number(id))
        notes = ["it is not learned, and not kept"]
        if not self.store.can_reject(going):
            self.forget(id)
            return Turn(self.store.turn, text, kind="command", notes=notes)
        before, place = self.store.turn, self.trainer.place()
        try:
            turn = self.trainer.take(text)
            trim = partial(trim_state, without=[f"f{n}" for n in going.ids], mentions=going.mentions)
            trim(vars(self.trainer.known))
            self.trainer.snapshots.reword(trim)
            self._commit(turn, going)
        except BaseException:
            self._return(before, place)
            raise
        finally:
            self.trainer.teacher.forget_texts()
        turn.notes = notes
        return turn

    def _forget(self, number: int) -> Forgotten:
        known, going = self.trainer.known, self._going(number)
        mentions, ids = going.mentions, {f"f{n}" for n in going.ids}
        self.trainer.rebuild(ids, mentions)
        trim_state(vars(known), (), mentions)
        kept = {n: row for n, row in self.rows.items() if n not in going.ids[1:]}
        rebuilt = Rebuilt(
            adapter=self._adapter(),
            memory=known.state_dict(),
            facts=rows_without(known, kept, number, mentions),
            metrics=self.trainer.metrics.state_dict(),
        )
        return self.store.forget(number, rebuilt, mentions)

    def _undo(self, text: str) -> Turn:
        """Back to before the last fact, byte for byte, from the folder."""
        before, place, snapshot = self.store.turn, self.trainer.place(), self.store.previous()
        known, records = self.trainer.known, self.trainer.known.records
        turn = Turn(known.clock + 1, text, kind="command", changed=True)
        try:
            if snapshot is not None:
                self.trainer.go_back(tensors_of(snapshot.adapter), snapshot.memory)
                turn.notes.append(what_went(records, known.records))
                self.trainer.tick(turn)
            turn.number = self.store.undo(Kept(text=text, reply="", kind="command", memory=known.state_dict()))
        except BaseException:
            self._return(before, place)
            raise
        self.rows = {row.id: row for row in self.store.facts()}
        return turn

    def fall_back(self, adapter_sha256: str | None) -> Turn:
        """Back to the newest state with this adapter, as opening a damaged folder does; the oldest where none has it."""
        while self.store.previous() is not None:
            self.store.undo(Kept(text="", reply="", kind="command", reason_code=DAMAGED))
            self._take_up()
            if self.store.state().adapter_sha256 == adapter_sha256:
                break
        return Turn(self.store.turn, "", kind="command", reason_code=DAMAGED)

    def _return(self, turn: int, place: tuple) -> None:
        """Something broke off: to the last turn that the folder has, which may be the one that was being committed."""
        self.trainer.return_to(place)
        if self.store.turn != turn:
            self.trainer.snapshots.clear()
            self._take_up()

    # what is known ------------------------------------------------------------------------------------------------------
    def facts(self) -> list[FactRow]:
        """Active and waiting facts and those that were learned and evicted, in order."""
        return [row for row in self.store.facts("active", "pending", "evicted") if row.state != "evicted" or is_learned(row)]

    def why(self, id: str) -> dict[str, Any]:
        """All that is known of a fact."""
        return self.store.why(self._number(id))

    def was_forgotten(self, id: str, text: str) -> bool:
        """Whether the fact that was forgotten under this id said `text`. Raises ConfigError where none was."""
        found = self.store.was_forgotten(_digits(id), text)
        if found is None:
            raise ConfigError(f"no fact was forgotten under {id.strip()}; /why {id.strip()} alone says what is known of it")
        return found

    def export(self, path: Path) -> int:
        """Every fact as a line of JSON, in a file for its owner alone; how many. Raises WorldError where it cannot be written."""
        check_target("/export", path)
        found = self.store.export()
        try:
            write_private(path, "".join(json.dumps(entry, ensure_ascii=False) + "\n" for entry in found).encode())
        except OSError as error:
            raise WorldError(f"cannot write {path}: {error.strerror}; name another file") from error
        return len(found)

    def save(self, target: Path) -> None:
        """A copy of the whole state in a new folder."""
        self.store.save(target)

    # inside -------------------------------------------------------------------------------------------------------------
    def _number(self, id: str) -> int:
        number = _digits(id)
        self.store.why(number)  # raises for an unknown id
        return number

    def _adapter(self) -> bytes:
        return as_bytes(self.trainer.adapter.state(), {"base_sha256": self.base_sha256})

    def _was_active(self, row: FactRow) -> bool:
        return row.id in self.rows and self.rows[row.id].state == "active"

    def _commit(self, turn: Turn, rejected: Rejected | None = None) -> None:
        told = [int(entry["id"][1:]) for entry in (*turn.facts, *turn.waiting) if entry["id"]]
        now = rows_now(self.trainer.known, self.rows, told)
        turn.notes += [EVICTED.format(row.id) for row in now if row.state == "evicted" and self._was_active(row)]
        kept = Kept(
            text=turn.text,
            reply=turn.reply,
            kind=turn.kind,
            reason_code=turn.reason_code,
            losses=turn.losses,
            seconds=round(turn.seconds, 4),
            fact=told[0] if told else None,
            facts=[row for row in now if self.rows.get(row.id) != row],
            adapter=self._adapter() if turn.changed else None,
            memory=self.trainer.known.state_dict(),
            metrics=self.trainer.metrics.state_dict(),
            is_learned=any(record["accepted"] for record in turn.facts),
        )
        turn.number = self.store.commit(kept, rejected)
        self.rows = {row.id: row for row in self.store.facts()}


def _digits(id: str) -> int:
    digits = id.strip().removeprefix("f")
    if not (digits.isascii() and digits.isdecimal() and len(digits) < 10):
        raise ConfigError(f"a fact's id is f and a number, as /facts shows it, got {id.strip()[:40]!r}")
    return int(digits)


def header(base: Base, config: OnlineConfig) -> dict[str, Any]:
    """What a session is begun with."""
    return {
        "base": base.name,
        "base_sha256": base.sha256(),
        "config": to_mapping(config),
        "seed": config.model.seed,
        "version": __version__,
        "torch": str(torch.__version__),
        "threads": torch.get_num_threads(),
    }


def _up_to_date(settings: Mapping[str, Any]) -> Mapping[str, Any]:
    """Settings of a folder that is older than some keys: these have their defaults."""
    return to_mapping(from_mapping(OnlineConfig, settings))


def make_trainer(base: Base, config: OnlineConfig) -> OnlineTrainer:
    """A trainer with a fresh adapter."""
    return OnlineTrainer(base, Adapter(base, config.model.lora, config.model.seed), config)
