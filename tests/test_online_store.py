"""The state folder of a chat: a turn is kept whole or not at all, undone byte for byte, and forgotten without a trace."""

from __future__ import annotations

import hashlib
import json
import shutil

import pytest
from online_states import CHEAP, HEADER, SECRETS, begun, blob, contents, inside, is_whole, learned, secretive, told, without

from ockham.errors import CheckpointError, ConfigError, WorldError
from ockham.online import state_copy, store, tombstones
from ockham.online.adapter_files import as_bytes, tensors_of
from ockham.online.session_log import FORMAT, read_log
from ockham.online.state_records import FactRow, Rebuilt, Turn
from ockham.online.store import StateFolder
from ockham.online.tombstones import Tombstone


@pytest.fixture(autouse=True)
def _cheap(monkeypatch):
    monkeypatch.setattr(tombstones, "SCRYPT", CHEAP)


@pytest.fixture
def chat(tmp_path):
    with begun(tmp_path / "chat") as chat:
        yield chat


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


@pytest.mark.parametrize("is_made", [True, False])
@pytest.mark.parametrize("error", [KeyboardInterrupt(), WorldError("no space")])
def test_a_copy_that_breaks_off_is_named_where_it_is_there_and_not_where_it_is_not(chat, tmp_path, monkeypatch, is_made, error):
    chat.commit(learned(1))

    def broken(tables, adapters, target):
        if is_made:
            state_copy.write_copy(tables, adapters, target)
        raise error

    with monkeypatch.context() as patch:
        patch.setattr(store, "write_copy", broken)
        with pytest.raises(type(error)):
            chat.save(tmp_path / "copy")
    (tmp_path / "other").mkdir()
    with pytest.raises(WorldError, match="is there already"):
        chat.save(tmp_path / "other")
    done = chat.forget(1, without(chat, 1), lambda text: "Tom" in text)
    assert done.copies == ([tmp_path / "copy"] if is_made else [])


def test_a_killed_save_has_noted_the_copy_that_it_may_have_made(chat, tmp_path, monkeypatch):
    chat.commit(learned(1))
    seen = []
    write = state_copy.write_copy
    monkeypatch.setattr(store, "write_copy", lambda tables, *more: (seen.append(named(tables)), write(tables, *more)))
    chat.save(tmp_path / "copy")
    assert (seen, named(chat.tables)) == ([[str(tmp_path / name) for name in ("copy", "copy.partial")]], [str(tmp_path / "copy")])
    (tmp_path / "late.partial").mkdir()
    with pytest.raises(WorldError, match=r"late.partial is left from a copy that broke off; delete it"):
        chat.save(tmp_path / "late")
    with begun(tmp_path / "copy") as copy:
        assert named(copy.tables) == []


def named(tables):
    return [path for (path,) in map(tuple, tables.all("SELECT path FROM copies"))]


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
    with pytest.raises(CheckpointError, match=r"state.db is damaged .*--replay .*session.jsonl --state NEW"):
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
