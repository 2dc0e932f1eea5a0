"""The state folder of a chat: a turn is kept whole or not at all, undone byte for byte, and forgotten without a trace."""

from __future__ import annotations

import errno
import hashlib
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

from ockham.errors import CheckpointError, ConfigError, WorldError
from ockham.online import tombstones
from ockham.online.adapter_files import as_bytes, tensors_of
from ockham.online.session_log import FORMAT, read_log
from ockham.online.state_records import FactRow, Rebuilt, Turn
from ockham.online.store import StateFolder
from ockham.online.tombstones import Tombstone

HEADER = {
    "base": "fables",
    "base_sha256": "a" * 64,
    "config": {"lr": 0.1, "lora": {"rank": 4}},
    "seed": 7,
    "version": "0",
    "threads": 1,
}
CHEAP = {"n": 2, "r": 8, "p": 1, "dklen": 32}  # scrypt, where its cost is not what is tested
CHILD = "import sys; sys.path[:0] = sys.argv[1:3]; import test_online_store as t; getattr(t, sys.argv[3])(*sys.argv[4:])"


@pytest.fixture(autouse=True)
def _cheap(monkeypatch):
    monkeypatch.setattr(tombstones, "SCRYPT", CHEAP)


@pytest.fixture
def chat(tmp_path):
    with begun(tmp_path / "chat") as chat:
        yield chat


def blob(n) -> bytes:
    """The bytes of an adapter; of another one for each n."""
    return hashlib.sha256(str(n).encode()).digest() * 300


def begun(folder, **options):
    chat = StateFolder(Path(folder), HEADER, **options)
    if chat.is_new:
        chat.begin(blob(0), {"n": 0})
    return chat


def learned(n, text="Tom is my friend", **more):
    """The turn that learns fact n."""
    row = FactRow(id=n, text=text, record={"steps": 12, "detector": "is_relation"})
    fields = {"facts": [row], "fact": n, "adapter": blob(n), "memory": {"n": n}, "is_learned": True, **more}
    return Turn(text=text, reply="Noted.", kind="fact", reason_code="LEARNED", **fields)


def contents(folder):
    """Every byte in the folder, and every name."""
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def inside(chat):
    """All that the chat is, but for the numbers of its files."""
    return chat.state(), chat.turns(), chat.facts(), chat.tombstones(), chat.previous(), chat.log.read_bytes()


def is_whole(chat):
    """Whether adapter and memory are of one turn, the log is the tables' own, and no file is without owner."""
    state, (_, lines) = chat.state(), read_log(chat.log)
    used = {path.name for path in chat.adapters.folder.iterdir()}
    owned = {chat.adapters.path(number).name for (number,) in map(tuple, chat.tables.all("SELECT number FROM adapters"))}
    partial = [name for name in contents(chat.folder) if name.endswith(".partial")]
    same_log = chat.log.read_bytes() == chat.tables.log_bytes()
    return state.adapter == blob(state.memory["n"]) and len(lines) == chat.turn and same_log and used == owned and not partial


# ---- what a turn keeps


def test_a_committed_turn_is_there_after_reopening(chat):
    number = chat.commit(learned(1, metrics={"losses": [2.5]}, losses={"task": float("nan")}, seconds=0.5, time=12.0))
    chat.close()
    with begun(chat.folder) as again:
        assert (number, again.turn, again.recovered) == (1, 1, [])
        state = again.state()
        assert (state.adapter, state.memory, state.metrics) == (blob(1), {"n": 1}, {"losses": [2.5]})
        why = again.why(1)
        assert (why["source"], why["steps"], why["detector"], why["time"]) == ("Tom is my friend", 12, "is_relation", 12.0)
        hashes = [hashlib.sha256(blob(n)).hexdigest() for n in (0, 1)]
        assert [why["adapter_sha256_before"], why["adapter_sha256_after"]] == hashes
        assert json.loads(json.dumps(again.export()))[0]["history"] == [{"turn": 1, "state": "active", "reason_code": "LEARNED"}]
    header, [line] = read_log(chat.log)
    assert header == {"format": FORMAT, **HEADER, "adapter_sha256": hashes[0]}
    assert (line["text"], line["losses"], line["adapter_sha256"]) == ("Tom is my friend", {"task": "nan"}, hashes[1])


def test_a_turn_that_learns_nothing_writes_no_adapter(chat):
    before = contents(chat.folder / "adapters")
    chat.commit(Turn(text="Hello", reply="Hi", adapter=blob(0)))
    assert contents(chat.folder / "adapters") == before
    assert chat.previous() is None


def test_only_the_owner_can_read_the_state(chat, tmp_path):
    chat.commit(learned(1))
    chat.save(tmp_path / "copy")
    for folder in (chat.folder, tmp_path / "copy"):
        assert {oct(path.stat().st_mode & 0o777) for path in folder.rglob("*") if path.is_file()} == {"0o600"}
        assert {oct(path.stat().st_mode & 0o777) for path in (folder, folder / "adapters")} == {"0o700"}


def test_a_saved_copy_opens_as_the_chat_did_and_lives_apart(chat, tmp_path):
    chat.commit(learned(1))
    chat.commit(learned(2, "Anna owns a boat"))
    chat.save(tmp_path / "copy")
    there = inside(chat)
    chat.commit(learned(3, "Bob likes tea"))
    with begun(tmp_path / "copy") as copy:
        assert inside(copy) == there
        copy.undo(Turn(text="/undo", reply="", kind="command"))
    assert (chat.turn, chat.state().adapter) == (3, blob(3))
    with pytest.raises(WorldError, match="is there already; name a new folder"):
        chat.save(tmp_path / "copy")


def test_text_that_is_not_utf8_is_refused_before_anything_is_written(chat):
    before = inside(chat)
    with pytest.raises(ConfigError, match="must be UTF-8"):
        chat.commit(Turn(text="\udcff", reply=""))
    with pytest.raises(ConfigError, match="must be UTF-8"):
        chat.commit(Turn(text="x", reply="", memory={"text": "\udcff"}))
    assert inside(chat) == before


def test_an_adapter_has_the_same_bytes_in_whatever_order_its_tensors_come():
    import torch

    tensors = {"b": torch.ones(2, 3), "a": torch.zeros(3, dtype=torch.bfloat16)}
    metadata = {str(n): "x" for n in range(20)}  # in the library's own order two files are hardly ever the same
    data = as_bytes(tensors, metadata)
    assert data == as_bytes(dict(reversed(tensors.items())), dict(reversed(metadata.items())))
    back = tensors_of(data)
    assert all(torch.equal(back[name], tensor) and back[name].dtype == tensor.dtype for name, tensor in tensors.items())


# ---- undo


def test_undo_gives_back_the_bytes_and_the_facts_from_before(chat):
    chat.commit(learned(1))
    before = chat.state()
    brother = FactRow(id=2, text="Tom is my brother")
    chat.commit(learned(2, brother.text, facts=[brother, FactRow(id=1, text="Tom is my friend", state="superseded")]))
    chat.commit(Turn(text="Hi", reply="Hi", adapter=blob("replay"), memory={"n": "replay"}))  # a replay of old facts
    chat.commit(Turn(text="Write to a@b.c", reply="", facts=[FactRow(id=3, text="Write to a@b.c", state="pending")]))
    assert chat.previous().turn == 2
    chat.undo(Turn(text="/undo", reply="", kind="command", reason_code="UNDO"))
    state = chat.state()
    assert (state.adapter, state.adapter_sha256, state.memory) == (before.adapter, before.adapter_sha256, before.memory)
    assert {fact.id: fact.state for fact in chat.facts()} == {1: "active", 2: "undone", 3: "pending"}
    assert chat.facts()[0].record == learned(1).facts[0].record
    assert [entry["state"] for entry in chat.why(1)["history"]] == ["active", "superseded", "active"]
    assert [turn["is_undone"] for turn in chat.turns()] == [0, 1, 1, 0, 0]
    chat.undo(Turn(text="/undo", reply="", kind="command"))
    assert chat.state().adapter == blob(0)
    with pytest.raises(ConfigError, match="all of it is undone"):
        chat.undo(Turn(text="/undo", reply="", kind="command"))
    assert is_whole(chat)


def test_only_the_last_states_are_kept(tmp_path):
    with begun(tmp_path / "chat", keep=2) as chat:
        for n in range(1, 6):
            chat.commit(learned(n))
        assert len(list(chat.adapters.folder.iterdir())) == 3  # two before, and the one now
        for n in (4, 3):
            chat.undo(Turn(text="/undo", reply="", kind="command"))
            assert chat.state().adapter == blob(n)
        with pytest.raises(ConfigError, match="only the last 2 learned messages"):
            chat.undo(Turn(text="/undo", reply="", kind="command"))
        assert {path.name for path in chat.adapters.folder.iterdir()} == {"000004.safetensors"}
        chat.commit(learned(9))
        assert (chat.adapters.folder / "000007.safetensors").exists()  # numbers are given out once


def test_with_an_interval_undo_goes_back_to_every_second_state(tmp_path):
    with begun(tmp_path / "chat", interval=2) as chat:
        for n in range(1, 5):
            chat.commit(learned(n))
        for n in (2, 0):
            chat.undo(Turn(text="/undo", reply="", kind="command"))
            assert chat.state().adapter == blob(n)


# ---- forgetting

SECRETS = ("Zuzanna", "Łukaszów", "quetzal")


def told(text):
    return any(word.casefold() in text.casefold() for word in SECRETS)


def secretive(folder):
    """A chat in which fact 2 holds the secrets, between two others."""
    chat = begun(folder)
    chat.commit(learned(1))
    chat.commit(learned(2, "Zuzanna lives in Łukaszów", memory={"n": 2, "facts": ["Zuzanna lives in Łukaszów"] * 40}))
    chat.commit(Turn(text="Where does she live?", reply="In Łukaszów.", kind="question", losses={"task": 0.1}))
    chat.commit(learned(3, "Anna owns a boat", memory={"n": 3, "facts": ["Zuzanna lives in Łukaszów", "Anna owns a boat"]}))
    chat.commit(Turn(text="/why 2", reply="You said so.", kind="command", fact=2, metrics={"last": "quetzal"}))
    return chat


def without(chat, *gone):
    kept = [fact for fact in chat.facts() if fact.id not in gone]
    return Rebuilt(adapter=blob("without"), memory={"n": "without"}, facts=kept, metrics={})


def test_nothing_of_a_forgotten_fact_is_left_in_any_file(tmp_path):
    with secretive(tmp_path / "chat") as chat:
        files = contents(chat.folder)
        assert all(any(word.encode() in data for data in files.values()) for word in SECRETS)  # the search finds what is there
        hashes = [hashlib.sha256(blob(n)).hexdigest() for n in (2, 3)]
        done = chat.forget(2, without(chat, 2), told)
        assert (done.turns, [stone.id for stone in done.tombstones]) == ([2, 3, 5], [2])
        for state in ("open", "closed"):
            for name, data in contents(chat.folder).items():
                text = data.decode("latin-1").casefold()
                for word in SECRETS:
                    escaped = json.dumps(word)[1:-1].casefold()
                    assert word.casefold() not in data.decode(errors="replace").casefold(), (state, name)
                    assert escaped not in text, (state, name)
                assert not any(sha256 in text or bytes.fromhex(sha256) in data for sha256 in hashes), (state, name)
                assert data not in (blob(2), blob(3))
            chat.close()
        _, lines = read_log(chat.log)
    assert [line.get("tombstone") for line in lines] == [None, 2, 2, None, 2, 2]
    with begun(chat.folder) as again:
        assert (again.recovered, again.state().adapter, is_whole(again)) == ([], blob("without"), True)
        assert [fact.id for fact in again.facts()] == [1, 3]
        assert again.next_fact_id() == 4
        assert again.previous() is None
        with pytest.raises(ConfigError, match="forgotten in turn 6, and no state from before"):
            again.undo(Turn(text="/undo", reply="", kind="command"))
        with pytest.raises(ConfigError, match="fact 2 was forgotten in turn 6"):
            again.why(2)
        again.commit(learned(4, "Bob likes tea"))
        assert again.previous().adapter == blob("without")
        assert again.why(3)["history"] == [{"turn": 4, "state": "active", "reason_code": "LEARNED"}]


def test_who_knows_the_fact_can_check_that_it_was_forgotten(chat, monkeypatch):
    chat.commit(learned(1))
    monkeypatch.undo()
    [stone] = chat.forget(1, without(chat, 1), lambda text: "Tom" in text).tombstones
    assert chat.tombstones() == [stone]
    assert stone.is_of("  tom is MY friend. ")
    assert not stone.is_of("Tom is my brother")
    known = hashlib.sha256(b"tom is my friend").digest()
    assert stone.digest == hashlib.scrypt(known, salt=stone.salt, n=2**15, r=8, p=3, maxmem=2**26, dklen=32)
    monkeypatch.setattr(tombstones, "SCRYPT", CHEAP)
    assert len({Tombstone.of(1, "Tom is my friend", 1, 0.0).digest for _ in range(2)}) == 2  # salted


def test_a_fact_told_twice_is_forgotten_with_its_double(chat):
    chat.commit(learned(1))
    chat.commit(learned(2, "My friend is Tom"))
    with pytest.raises(ValueError, match="still mentioned in fact 2"):
        chat.forget(1, without(chat, 1), lambda text: "Tom" in text)
    chat.commit(Turn(text="Hi", reply="Hi", metrics={"last": ["Tom"]}))
    with pytest.raises(ValueError, match="still mentioned in metrics"):
        chat.forget(1, Rebuilt(adapter=b"", memory={}, facts=[]), lambda text: "Tom" in text)
    done = chat.forget(2, without(chat, 1, 2), lambda text: "Tom" in text)
    assert ([stone.id for stone in done.tombstones], chat.facts()) == ([2, 1], [])
    with pytest.raises(ConfigError, match="there is no fact 9; there are: none yet"):
        chat.forget(9, without(chat, 9), told)


def test_question_and_answer_that_tell_a_fact_together_go_too(chat):
    chat.commit(learned(1))
    chat.commit(Turn(text="Who is Tom?", reply="Your friend.", kind="question"))
    chat.commit(Turn(text="Tom has a dog", reply="Nice.", kind="chat"))
    done = chat.forget(1, without(chat, 1), lambda text: "Tom" in text and "friend" in text)
    assert done.turns == [1, 2]


def test_forgetting_names_the_copies_that_it_does_not_reach(chat, tmp_path):
    chat.commit(learned(1))
    for name in ("kept", "Tom", "deleted"):
        chat.save(tmp_path / name)
    shutil.rmtree(tmp_path / "deleted")
    done = chat.forget(1, without(chat, 1), lambda text: "Tom" in text)
    assert sorted(path.name for path in done.copies) == ["Tom", "kept"]
    assert not any(b"Tom" in data for data in contents(chat.folder).values())


# ---- crashes and refusals of the disk


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


def change(chat, kind):
    """One change of a chat that `secretive` made, to be called."""
    rebuilt, facts = without(chat, 2), [FactRow(id=1, text="x", state="evicted"), FactRow(id=7, text="Bob likes tea")]
    return {
        "commit": lambda: chat.commit(learned(7, "Bob likes tea", facts=facts)),
        "undo": lambda: chat.undo(Turn(text="/undo", reply="", kind="command")),
        "forget": lambda: chat.forget(2, rebuilt, told),
    }[kind]


def undone_or_done(chat, kind):
    """Whether the change has happened; fails where it happened in part."""
    assert is_whole(chat), contents(chat.folder).keys()
    assert chat.turn in (5, 6)
    is_done = chat.turn == 6
    memory = {"commit": 7, "undo": 2, "forget": "without"}[kind] if is_done else 3
    states = {"commit": {1: "evicted", 2: "active", 3: "active", 7: "active"}, "undo": {1: "active", 2: "active", 3: "undone"},
              "forget": {1: "active", 3: "active"}}[kind] if is_done else {1: "active", 2: "active", 3: "active"}  # fmt: skip
    assert chat.state().memory["n"] == memory
    assert {fact.id: fact.state for fact in chat.facts()} == states
    if kind == "forget" and is_done:
        assert not any(told(data.decode(errors="replace")) for data in contents(chat.folder).values())
    return is_done


def no_space():
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def sqlite_full():
    raise sqlite3.OperationalError("database or disk is full")


def interrupt():
    raise KeyboardInterrupt


@pytest.mark.parametrize("kind", ["commit", "undo", "forget"])
@pytest.mark.parametrize("act", [no_space, sqlite_full, interrupt])
def test_a_disk_that_refuses_at_any_step_costs_nothing(tmp_path, monkeypatch, kind, act):
    secretive(tmp_path / "made").close()
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
@pytest.mark.parametrize("kind", ["commit", "undo", "forget"])
def test_a_process_killed_at_any_step_leaves_the_whole_change_or_none_of_it(root, tmp_path, kind, stride):
    secretive(tmp_path / "made").close()
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
    for told, turn, whole, memory in found:
        assert turn in (told, told + 1)  # it may have been killed before it could tell
        assert whole
        assert memory == turn or turn % 7 == 0
    assert found[-1][0] > kills


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


# ---- folders that cannot be used


def test_a_damaged_adapter_is_named_and_the_one_before_it_offered(chat):
    for n in (1, 2, 3):
        chat.commit(learned(n))
    chat.close()
    (chat.adapters.folder / "000004.safetensors").write_bytes(b"other")
    (chat.adapters.folder / "000003.safetensors").unlink()
    with pytest.raises(CheckpointError, match=r"000004.safetensors is damaged: .* the state before turn 2 is whole"):
        begun(chat.folder)
    with begun(chat.folder, fall_back=True) as again:
        assert "went back to the state before turn 2" in again.recovered[-1]
        assert (again.state().adapter, [fact.state for fact in again.facts()]) == (blob(1), ["active", "undone", "undone"])
        assert is_whole(again)


def test_another_base_is_refused_and_another_config_is_told(chat):
    chat.close()
    with pytest.raises(CheckpointError) as caught:
        StateFolder(chat.folder, {**HEADER, "base": "qwen", "base_sha256": "b" * 64})
    assert all(part in str(caught.value) for part in ("fables (SHA-256 aaaaaaaaaaaa…)", "qwen (SHA-256 bbbbbbbbbbbb…)"))
    with StateFolder(chat.folder, {**HEADER, "config": {"lr": 0.1, "lora": {"rank": 2}, "new": 1}}) as other:
        assert other.differing() == ["lora.rank", "new"]
        assert other.header == HEADER


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


def test_a_folder_that_is_no_state_folder_is_left_alone(tmp_path):
    (tmp_path / "thesis.txt").write_text("years of work")
    mode = tmp_path.stat().st_mode
    with pytest.raises(CheckpointError, match=r"holds other files \(thesis.txt, …\) and no chat"):
        begun(tmp_path)
    assert (list(contents(tmp_path)), tmp_path.stat().st_mode) == (["thesis.txt"], mode)
    with pytest.raises(CheckpointError, match="is a file"):
        begun(tmp_path / "thesis.txt")


def test_broken_tables_are_told_with_the_way_out(chat):
    chat.commit(learned(1))
    chat.close()
    db = chat.folder / "state.db"
    db.write_bytes(b"SQLite format 3\0" + b"x" * 5000)
    with pytest.raises(CheckpointError, match=r"state.db is damaged .*--replay session.jsonl"):
        begun(chat.folder)
    db.unlink()
    with pytest.raises(CheckpointError, match=r"state.db is missing; .*--replay"):
        begun(chat.folder)


def test_tables_of_another_format_are_refused(chat):
    chat.tables.db.execute("PRAGMA user_version = 99")
    chat.close()
    with pytest.raises(CheckpointError, match="is of format 99, this program reads format 1; use the version that wrote it"):
        begun(chat.folder)


# ---- reading a log


def test_a_copied_log_is_read_without_its_folder_and_without_its_torn_end(chat, tmp_path):
    chat.commit(Turn(text="Łukasz said “hello”\nand left", reply="Ok"))
    chat.commit(Turn(text="Bye", reply="Bye"))
    copy = tmp_path / "session.jsonl"
    data = chat.log.read_bytes()
    for cut in (0, 1, 40):
        copy.write_bytes(data[: len(data) - cut])
        header, turns = read_log(copy)
        assert header["base_sha256"] == HEADER["base_sha256"]
        assert [turn["text"] for turn in turns] == ["Łukasz said “hello”\nand left", "Bye"][: 1 if cut == 40 else 2]


@pytest.mark.parametrize(
    ("old", "new", "line", "says"),
    [
        (b'"turn": 2', b'"turn": 3', 3, "the line of turn 2 must stand here"),
        (b'"kind": "chat"', b'"kind": "joke"', 2, "'kind' must be one of chat, question, fact, command, got 'joke'"),
        (b'"text": "Bye"', b'"text": 5', 3, "'text' must be str, got 5"),
        (b'"seconds"', b'"secs"', 2, "wrong or missing: seconds, secs"),
        (b'{"turn": 2', b'[{"turn": 2', 3, "it is no JSON object"),
        (b'"format": 1', b'"format": 0', 1, "it is of format 0, this program reads format 1"),
        (b'"threads": 1, ', b"", 1, "the header has no 'threads'"),
    ],
)
def test_a_damaged_line_is_named(chat, tmp_path, old, new, line, says):
    chat.commit(Turn(text="Hi", reply="Hi"))
    chat.commit(Turn(text="Bye", reply="Bye"))
    path = tmp_path / "session.jsonl"
    path.write_bytes(chat.log.read_bytes().replace(old, new))
    with pytest.raises(CheckpointError) as caught:
        read_log(path)
    assert str(caught.value).startswith(f"{path}:{line}: ")
    assert says in str(caught.value) or set(says.split(", ")) <= set(str(caught.value).split(", "))


def test_a_log_that_is_empty_or_missing_is_told(tmp_path):
    path = tmp_path / "session.jsonl"
    with pytest.raises(CheckpointError, match="cannot be read: No such file"):
        read_log(path)
    path.write_bytes(b'{"format": 1, "ba')
    with pytest.raises(CheckpointError, match="holds no session"):
        read_log(path)
