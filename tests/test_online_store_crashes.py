"""The state folder of a chat where the disk refuses or the process is killed: a change is there whole or not at all."""

from __future__ import annotations

import errno
import json
import os
import random
import shutil
import signal
import sqlite3
import subprocess
import sys
import time
from pathlib import Path

import pytest
from online_states import CHEAP, begun, blob, contents, is_whole, learned, secretive, told, without

from ockham.errors import WorldError
from ockham.online import tombstones
from ockham.online.session_log import read_log
from ockham.online.state_records import FactRow, Rebuilt, Rejected, Turn

CHILD = "import sys; sys.path[:0] = sys.argv[1:3]; import test_online_store_crashes as t; getattr(t, sys.argv[3])(*sys.argv[4:])"


@pytest.fixture(autouse=True)
def _cheap(monkeypatch):
    monkeypatch.setattr(tombstones, "SCRYPT", CHEAP)


@pytest.fixture
def chat(tmp_path):
    with begun(tmp_path / "chat") as chat:
        yield chat


class Faults:
    """Breaks off the n-th step that touches the disk: flush, rename, deletion, statement; a write breaks off halfway."""

    def __init__(self, at, act):
        self.at, self.act, self.steps = at, act, 0

    def step(self):
        self.steps += 1
        if self.steps == self.at:
            self.act()

    def before(self, function):
        def wrapped(*args, **kwargs):
            self.step()
            return function(*args, **kwargs)

        return wrapped

    def halfway(self, write):
        def wrapped(handle, data):
            written = write(handle, data[: (len(data) + 1) // 2])
            self.step()
            return written + (write(handle, data[written:]) if written < len(data) else 0)

        return wrapped

    def arm(self, chat, put):
        """`put(object, name, value)` sets the traps."""
        for name in ("replace", "unlink"):
            put(os, name, self.before(getattr(os, name)))
        put(os, "fsync", self.before(lambda handle: None))  # a killed process loses nothing that it wrote, flushed or not
        chat.tables.db.execute("PRAGMA synchronous = OFF")
        put(os, "write", self.halfway(os.write))
        put(chat.tables, "db", Statements(chat.tables.db, self))


class Statements:
    """A connection whose statements are steps."""

    def __init__(self, db, faults):
        self._db, self._faults = db, faults

    def execute(self, *args):
        self._faults.step()
        return self._db.execute(*args)

    def __getattr__(self, name):
        return getattr(self._db, name)


def known(n, waiting=""):
    """A memory as the program's: with what waits, in a message with a fact that was learned."""
    event = {"turn": n, "id": "f1", "text": "Tom is my friend", "message": f"Tom is my friend, {waiting}"}
    return {"n": n, "events": [event], "records": {}, "pending": {"f2": {"text": waiting, "message": waiting}} if waiting else {}}


def waiting(folder):
    """As `secretive`, but its fact 2 only waits."""
    chat, text = begun(folder, known(0)), "Zuzanna lives in Łukaszów"
    chat.commit(learned(1, memory=known(1)))
    chat.commit(Turn(text=text, reply="", kind="fact", facts=[FactRow(id=2, text=text, state="pending")], memory=known(1, text)))
    chat.commit(learned(3, "Anna owns a boat", memory=known(3, text)))
    both = FactRow(id=1, text="Tom is my friend", record={"text": "Tom is my friend", "message": f"Tom is my friend. {text}"})
    chat.commit(learned(3, "Tom is my friend", fact=1, facts=[both], memory=known(3, text)))
    chat.commit(Turn(text="Where does she live?", reply="In Łukaszów.", kind="question"))
    return chat


def rejecting():
    """The turn that rejects fact 2, in which a replay changes the adapter."""
    return Turn(text="/reject f2", reply="", kind="command", adapter=blob(7), memory=known(7))


def made_for(kind, folder):
    (waiting if kind == "reject" else secretive)(folder).close()


def test_rejecting_leaves_the_hashes_and_the_way_back_and_takes_the_texts_of_every_state(tmp_path):
    with waiting(tmp_path / "chat") as chat:
        places = [tuple(row) for row in chat.tables.all("SELECT turn, adapter FROM snapshots")]
        hashes = [turn["adapter_sha256"] for turn in chat.turns()]
        assert change(chat, "reject")() == 6
        assert undone_or_done(chat, "reject")
        assert [tuple(row) for row in chat.tables.all("SELECT turn, adapter FROM snapshots")] == places
        assert [turn["adapter_sha256"] for turn in chat.turns()][:5] == hashes
        lines = read_log(chat.log)[1]
        assert [line.get("tombstone") for line in lines] == [None, 2, None, None, 2, 2]
        assert [lines[n]["adapter_sha256"] for n in (1, 4)] == [hashes[1], hashes[4]]
        chat.undo(Turn(text="/undo", reply="", kind="command"))
        assert (chat.state().adapter, chat.facts()[0].record["steps"]) == (blob(3), 12)
        assert not any(told(data.decode(errors="replace")) for data in contents(chat.folder).values())


def test_a_fact_that_was_learned_or_that_another_one_tells_cannot_be_rejected(tmp_path):
    with waiting(tmp_path / "chat") as chat:
        assert chat.can_reject(Rejected([2], told))
        assert not chat.can_reject(Rejected([1], lambda text: False))
        assert not chat.can_reject(Rejected([2], lambda text: "Anna" in text))


def change(chat, kind):
    """One change of a chat that `made_for` made, to be called."""
    rebuilt, facts = without(chat, 2), [FactRow(id=1, text="x", state="evicted"), FactRow(id=7, text="Bob likes tea")]
    going = Rejected([2], told)
    return {
        "reject": lambda: chat.can_reject(going) and chat.commit(rejecting(), going),
        "commit": lambda: chat.commit(learned(7, "Bob likes tea", facts=facts)),
        "undo": lambda: chat.undo(Turn(text="/undo", reply="", kind="command")),
        "forget": lambda: chat.forget(2, rebuilt, told),
    }[kind]


def undone_or_done(chat, kind):
    """Whether the change has happened; fails where it happened in part."""
    assert is_whole(chat), contents(chat.folder).keys()
    assert chat.turn in (5, 6)
    is_done = chat.turn == 6
    memory = {"commit": 7, "undo": 2, "forget": "without", "reject": 7}[kind] if is_done else 3
    states = {"commit": {1: "evicted", 2: "active", 3: "active", 7: "active"}, "undo": {1: "active", 2: "active", 3: "undone"},
              "forget": {1: "active", 3: "active"}, "reject": {1: "active", 3: "active"}}[kind] if is_done else {
                  1: "active", 2: "pending" if kind == "reject" else "active", 3: "active"}  # fmt: skip
    assert chat.state().memory["n"] == memory
    assert {fact.id: fact.state for fact in chat.facts()} == states
    if kind in ("forget", "reject") and is_done:
        assert not any(told(data.decode(errors="replace")) for data in contents(chat.folder).values())
    return is_done


def no_space():
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def sqlite_full():
    raise sqlite3.OperationalError("database or disk is full")


def interrupt():
    raise KeyboardInterrupt


@pytest.mark.parametrize("kind", ["commit", "undo", "forget", "reject"])
@pytest.mark.parametrize("act", [no_space, sqlite_full, interrupt])
def test_a_disk_that_refuses_at_any_step_costs_nothing(tmp_path, monkeypatch, kind, act):
    made_for(kind, tmp_path / "made")
    outcomes = set()
    for at in range(1 + (act is not no_space), 200, 1 if act is no_space else 4):
        shutil.copytree(tmp_path / "made", tmp_path / "chat")
        with begun(tmp_path / "chat") as chat:
            faults, error, changes = Faults(at, act), None, change(chat, kind)
            with monkeypatch.context() as patch:
                faults.arm(chat, patch.setattr)
                try:
                    changes()
                except (WorldError, KeyboardInterrupt) as caught:
                    error = caught
            is_done = undone_or_done(chat, kind)
            if isinstance(error, WorldError):
                assert ("turn 6 is kept all the same" if is_done else "the turn was not kept; nothing") in str(error)
            outcomes.add((is_done, error is None))
            chat.commit(Turn(text="And on", reply="", kind="chat"))
            assert is_whole(chat)
        shutil.rmtree(tmp_path / "chat")
        if faults.steps < at:
            break
    assert faults.steps < at
    assert {(False, False), (True, True)} <= outcomes


def test_where_even_the_cleaning_fails_the_next_write_does_it(chat, monkeypatch):
    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", lambda handle: no_space())
        with pytest.raises(WorldError, match=r"No space left on device; the turn was not kept; nothing before it is lost"):
            chat.commit(learned(1))
    assert chat.commit(learned(1)) == 1
    assert is_whole(chat)


def die():
    os.kill(os.getpid(), signal.SIGKILL)


def die_at_each_step(folder, kind, stride):
    """In a child: a fork is killed at each step of the change, the folder then opened and checked. Prints the outcomes."""
    tombstones.SCRYPT = CHEAP
    made, place = Path(folder, "made"), Path(folder, kind)
    at, outcomes, status = 1, [], 1
    while status:
        shutil.copytree(made, place)
        pid = os.fork()
        if pid == 0:
            chat = begun(place)
            changes = change(chat, kind)
            Faults(at, die).arm(chat, setattr)
            changes()
            os._exit(0)
        status = os.waitpid(pid, 0)[1]
        assert status in (0, signal.SIGKILL), status
        with begun(place) as chat:
            outcomes.append(undone_or_done(chat, kind))
            assert chat.commit(Turn(text="And on", reply="")) == chat.turn
        shutil.rmtree(place)
        at += int(stride)
    print(json.dumps(outcomes))


def child(root, *args):
    command = [sys.executable, "-c", CHILD, str(root), str(root / "tests"), *map(str, args)]
    return subprocess.Popen(command, cwd=root, stdout=subprocess.PIPE, text=True)


@pytest.mark.parametrize("stride", [7, pytest.param(1, marks=pytest.mark.slow)])
@pytest.mark.parametrize("kind", ["commit", "undo", "forget", "reject"])
def test_a_process_killed_at_any_step_leaves_the_whole_change_or_none_of_it(root, tmp_path, kind, stride):
    made_for(kind, tmp_path / "made")
    with child(root, "die_at_each_step", tmp_path, kind, stride) as process:
        outcomes = json.loads(process.communicate()[0])
    assert outcomes == sorted(outcomes)  # first none of it, from some step on all of it
    assert not outcomes[0]
    assert outcomes[-1]


def go_on(folder, told=sys.stdout):
    """In a child: turns without end, each told when it is committed."""
    tombstones.SCRYPT = CHEAP
    with begun(folder) as chat:
        while True:
            n = chat.turn + 1
            if n % 13 == 0 and (facts := chat.facts("active")):
                rest = [fact for fact in chat.facts() if fact.id != facts[0].id]
                chat.forget(facts[0].id, Rebuilt(adapter=blob(n), memory={"n": n}, facts=rest), lambda text: False)
            elif n % 7 == 0 and chat.previous():
                chat.undo(Turn(text="/undo", reply="", kind="command"))
            else:
                chat.commit(learned(n))
            print(n, file=told, flush=True)


def kill_again_and_again(folder, kills):
    """In a child, which has no threads: forks that chat in one folder are killed; prints [told, found, whole, memory] of each."""
    rng, found = random.Random(int(kills)), []
    for _ in range(int(kills)):
        out, into = os.pipe()
        pid = os.fork()
        if pid == 0:
            go_on(folder, open(into, "w"))  # noqa: SIM115
        os.close(into)
        with open(out) as told:
            first = told.readline()
            time.sleep(rng.uniform(0, 0.1))
            os.kill(pid, signal.SIGKILL)
            last = [first, *told][-1]
        os.waitpid(pid, 0)
        with begun(folder) as chat:
            found.append([int(last), chat.turn, is_whole(chat), chat.state().memory["n"]])
    print(json.dumps(found))


@pytest.mark.parametrize("kills", [10, pytest.param(50, marks=pytest.mark.slow)])
def test_a_killed_chat_returns_to_its_last_committed_turn(root, tmp_path, kills):
    with child(root, "kill_again_and_again", tmp_path / "chat", kills) as process:
        found = json.loads(process.communicate()[0])
    assert len(found) == kills
    for last, turn, whole, memory in found:
        assert turn in (last, last + 1)  # it may have been killed before it could tell
        assert whole
        assert memory == turn or turn % 7 == 0
    assert found[-1][0] > kills


def test_a_second_chat_on_a_state_folder_is_told_the_first_ones_pid(root, tmp_path):
    folder = tmp_path / "chat"
    with child(root, "go_on", folder) as process:
        try:
            process.stdout.readline()
            with pytest.raises(WorldError) as caught:
                begun(folder)
        finally:
            process.kill()
    assert f"another chat has {folder} open (pid {process.pid})" in str(caught.value)
    assert caught.value.exit_code == 1
    with begun(folder) as chat:
        assert is_whole(chat)


def test_opening_says_what_a_crash_cut_off(chat):
    chat.commit(learned(1))
    chat.close()
    line = chat.log.read_bytes().splitlines(keepends=True)[1]
    whole = line.replace(b'"turn": 1', b'"turn": 2')
    for tail, lost in ((whole, "; its message was 'Tom is my friend': say it again"), (whole[:30], "")):
        chat.log.write_bytes(chat.log.read_bytes() + tail)
        (chat.adapters.folder / "000003.safetensors").write_bytes(blob(3))
        (chat.adapters.folder / "000003.safetensors.partial").write_bytes(b"half")
        with begun(chat.folder) as again:
            assert again.recovered[0] == f"turn 2 was not finished and was dropped{lost}"
            assert again.recovered[1] == "000003.safetensors was not finished and was deleted"
            assert (again.turn, is_whole(again)) == (1, True)
    chat.log.write_bytes(b"")
    with begun(chat.folder) as again:
        assert "was written anew from state.db" in again.recovered[0]
        assert is_whole(again)
