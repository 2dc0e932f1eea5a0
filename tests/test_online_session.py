"""A session on its folder: a turn is there whole or not at all, what is forgotten leaves nothing, the log tells it all again."""

from __future__ import annotations

import json
import os
import random
import select
import shutil
import signal
import sys
import time

import pytest
import torch
from online_attacks import ATTACKS
from online_bases import tiny_ours, tiny_qwen
from online_chats import QUICK, SHORT, contents, differences, load, raising, session, sessions, sha, tell
from online_states import CHEAP

from ockham.errors import CheckpointError, ConfigError, WorldError
from ockham.online import tombstones
from ockham.online.chat_lines import fact_line
from ockham.online.config import OnlineConfig
from ockham.online.learning import Learner
from ockham.online.retelling import replay
from ockham.online.session import Session
from ockham.online.store import StateFolder


@pytest.fixture(autouse=True)
def _cheap(monkeypatch):
    monkeypatch.setattr(tombstones, "SCRYPT", CHEAP)


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    return tiny_ours(tmp_path_factory.mktemp("bases") / "ours")


@pytest.fixture
def open_chat(tmp_path, base):
    with sessions(tmp_path, base) as make:
        yield make


# ---- committing


def test_what_was_said_is_there_when_the_folder_is_opened_again(open_chat, tmp_path, base):
    with open_chat() as chat:
        tell(chat, "Tom is my friend.", "My email is bob@x.org.")
        before, known = sha(chat), chat.trainer.known.state_dict()
    with open_chat(is_chosen=False) as chat:
        assert sha(chat) == before
        assert [(row.id, row.state) for row in chat.facts()] == [(1, "active"), (2, "pending")]
        assert chat.why("f1")["source"] == "Tom is my friend."
        assert chat.trainer.known.state_dict() == known | {"session": {"facts": 0, "kl": 0.0}, "clock": 3} | {
            "memory": known["memory"] | {"turn": 3, "facts": [f | {"importance": i} for f, i in importances(chat, known)]}
        }
        assert tell(chat, "/confirm").facts[0]["id"] == "f2"


def importances(chat, known):
    return [(fact, chat.trainer.memory.get(fact["id"]).importance) for fact in known["memory"]["facts"]]


def test_a_session_on_a_qwen_base_learns_undoes_forgets_and_replays(tmp_path):
    base = tiny_qwen(tmp_path / "qwen")
    with session(tmp_path / "chat", base) as chat:
        empty = sha(chat)
        assert tell(chat, "Santhosh owns Tesla.").facts[0]["accepted"]
        once = sha(chat)
        tell(chat, "Anna lives in Oslo.", "Who owns Tesla?", "/undo")
        assert sha(chat) == once != empty
        assert chat.say("Привет, как дела?").kind == "question"
    assert differences(tmp_path / "chat") == []
    with session(tmp_path / "chat", base, is_chosen=False) as chat:
        chat.forget("f1")
        assert sha(chat) == empty
    assert not any(word in contents(tmp_path / "chat") for word in (b"Santhosh", b"Tesla"))


def test_undo_through_the_folder_is_undo_in_memory(open_chat, tmp_path):
    told = ("Tom is my friend.", "Anna lives in Oslo. Carlos likes tea.", "My email is bob@x.org.", "Hello.", "/undo")
    chat = open_chat("chat", SHORT)
    tell(chat, *told)
    other = open_chat("other", SHORT)
    for text in told:
        other.trainer.take(text)
    assert sha(chat) == sha(other)
    assert chat.trainer.known.state_dict() == other.trainer.known.state_dict()
    assert [(row.id, row.state) for row in chat.store.facts()] == [(1, "active"), (2, "undone"), (3, "undone"), (4, "pending")]
    chat.close()
    again = open_chat("chat", SHORT)
    assert again.trainer.known.clock == other.trainer.known.clock + 1  # /begin
    assert tell(again, "Santhosh owns Tesla.").facts[0]["id"] == "f5"


def test_undo_names_every_fact_that_goes_and_every_one_that_goes_back(open_chat):
    chat = open_chat("chat", "checkpoint.interval=3")
    tell(chat, "Anna lives in Rome.", "Tom is my friend.", "Carlos likes tea.", "Anna lives in Oslo.", "Santhosh owns Tesla.")
    other = open_chat("other", "checkpoint.interval=3")
    other.trainer.known.load_state_dict(chat.trainer.known.state_dict())
    other.trainer.snapshots = chat.trainer.snapshots.copy()
    said = [chat.say("/undo").notes, chat.say("/undo").notes]
    assert said == [["f4 is undone; f1 is back to 'Anna lives in Rome.'"], ["f1, f2 and f3 are undone"]]
    assert [other.trainer.take("/undo").notes for _ in range(2)] == said
    assert tell(chat, "Kim is my boss.", "/undo").notes == ["f5 is undone"]


def test_with_nothing_to_undo_it_says_why(open_chat):
    chat = open_chat()
    with pytest.raises(ConfigError, match="nothing was learned yet"):
        chat.say("/undo")
    tell(chat, "Tom is my friend.")
    chat.forget("f1")
    with pytest.raises(ConfigError, match="was forgotten in turn 2"):
        chat.say("/undo")


def test_the_first_measurement_after_a_fact_is_compared_with_the_base(open_chat):
    chat = open_chat("chat", "metrics.interval=2")
    base = float(chat.trainer.learner.anchor_losses(chat.config.anchors.prompts).double().mean())
    row = tell(chat, "Tom is my friend.", "Hello.").metrics
    now = float(chat.trainer.learner.anchor_losses(chat.config.anchors.prompts).double().mean())
    assert row["perplexity_drift"] == pytest.approx(now - base)
    assert (row["perplexity_drift"] != 0, row["anchor_regression"] != 0) == (True, True)
    fresh = open_chat("fresh", "metrics.interval=2")
    row = tell(fresh, "Hello.", "Hello.").metrics
    assert (row["perplexity_drift"], row["anchor_regression"]) == (0.0, 0.0)


@pytest.mark.parametrize("error", [KeyboardInterrupt, WorldError("disk full")])
def test_a_message_that_breaks_off_is_not_there(open_chat, monkeypatch, error):
    chat = open_chat()
    tell(chat, "Tom is my friend.")
    before, known, bytes_before = sha(chat), chat.trainer.known.state_dict(), contents(chat.store.folder)
    monkeypatch.setattr(StateFolder if isinstance(error, WorldError) else Learner,
                        "commit" if isinstance(error, WorldError) else "_update", raising(error))  # fmt: skip
    with pytest.raises(type(error) if isinstance(error, Exception) else error):
        chat.say("Anna lives in Oslo.")
    monkeypatch.undo()
    assert (sha(chat), chat.trainer.known.state_dict()) == (before, known)
    assert contents(chat.store.folder) == bytes_before
    assert tell(chat, "Anna lives in Oslo.").facts[0]["id"] == "f2"


def test_interrupted_right_after_the_commit_the_session_has_what_the_folder_has(open_chat, monkeypatch):
    chat = open_chat()
    original = StateFolder.commit

    def late(self, turn, rejected):
        original(self, turn, rejected)
        raise KeyboardInterrupt

    monkeypatch.setattr(StateFolder, "commit", late)
    with pytest.raises(KeyboardInterrupt):
        chat.say("Tom is my friend.")
    monkeypatch.undo()
    assert [row.id for row in chat.facts()] == [1]
    assert chat.trainer.known.clock == 1
    tell(chat, "Anna lives in Oslo.")
    chat.close()
    assert differences(chat.store.folder) == []


def test_of_too_many_that_wait_the_oldest_is_evicted_in_the_folder_too(open_chat):
    chat = open_chat("chat", "safety.max_pending=1")
    [note] = tell(chat, "My email is bob@x.org.", "My phone is 555-123-4567.").notes
    assert note == "f1 has waited longest and is dropped: safety.max_pending facts wait"
    assert [row.id for row in chat.facts()] == [2]
    assert [(row.id, row.state) for row in chat.store.facts()] == [(1, "evicted"), (2, "pending")]
    chat.forget("f1")
    assert b"bob@x" not in contents(chat.store.folder)


def test_an_evicted_fact_is_told_and_listed_and_forgotten_out_of_the_weights(open_chat):
    chat, never = (open_chat(name, "fact_memory.max_facts=2") for name in ("chat", "never"))
    assert tell(chat, "Tom is my friend.", "Anna lives in Oslo.").notes == []
    said = "f1 is evicted: no longer rehearsed, still in the weights; /forget f1 takes it out"
    assert tell(chat, "Carlos likes tea.").notes == [said]
    assert tell(chat, "Hello.").notes == []
    assert [(row.id, row.state) for row in chat.facts()] == [(1, "evicted"), (2, "active"), (3, "active")]
    assert "(evicted: no longer rehearsed, still in the weights; is_friend, turn 1, p " in fact_line(chat.facts()[0])
    chat.forget("f1")
    assert [row.id for row in chat.facts()] == [2, 3]
    tell(never, "Anna lives in Oslo.", "Carlos likes tea.", "Hello.")
    assert sha(chat) == sha(never)


# ---- telling again


def test_a_replay_gives_every_reply_and_every_adapter(open_chat):
    chat = open_chat("chat", SHORT, "generation.temperature=1.0", "checkpoint.interval=2")
    tell(chat, "Tom is my friend.", "Anna lives in Oslo. Carlos likes tea.", "/undo", "My email is bob@x.org.", "/confirm",
         "Who is Tom?", "Santhosh owns Tesla.")  # fmt: skip
    chat.close()
    chat = open_chat("chat", SHORT, "generation.temperature=1.0", "checkpoint.interval=2")
    tell(chat, "Anna lives in Rome.", "/undo", "/undo", "Hello.", "/learn frob zib knab")
    chat.close()
    assert differences(chat.store.folder) == []
    log = chat.store.folder / "session.jsonl"
    lines = log.read_text().splitlines()
    line = json.loads(lines[1])
    lines[1] = json.dumps(line | {"text": "Tom is my enemy."})
    log.write_text("\n".join(lines) + "\n")
    assert differences(chat.store.folder)[0][0] == 1


def test_a_tombstone_replays_as_nothing_and_undo_stops_at_it(open_chat):
    chat = open_chat()
    tell(chat, "Tom is my friend.", "Santhosh owns Tesla.")
    chat.forget("f2")
    tell(chat, "Anna lives in Oslo.", "/undo")
    chat.close()
    turns = [turn for _, turn, found in replay(chat.store.folder / "session.jsonl", load) if found == []]
    assert [None if turn is None else turn.text for turn in turns] == [
        "Tom is my friend.", None, None, "Anna lives in Oslo.", "/undo"]  # fmt: skip


# ---- folders that do not fit


def test_other_settings_are_refused_by_name(open_chat):
    open_chat().close()
    with pytest.raises(ConfigError, match=r"other settings \(training.learning_rate\)"):
        open_chat("chat", "training.learning_rate=0.5")
    with open_chat("chat", "training.learning_rate=0.5", is_chosen=False) as chat:
        assert chat.config.training.learning_rate == 1e-3


def test_a_base_that_was_moved_is_still_the_same_and_another_one_is_refused(open_chat, tmp_path, base):
    open_chat().close()
    moved = shutil.copytree(base, tmp_path / "moved")
    session(tmp_path / "chat", moved, is_chosen=False, asked_for=str(moved)).close()
    session(tmp_path / "chat", moved, asked_for=str(moved)).close()
    other = tiny_ours(tmp_path / "other", seed=1)
    with pytest.raises(CheckpointError, match="belongs to the base"):
        session(tmp_path / "chat", other, asked_for=str(other))


def test_a_base_that_changes_during_the_chat_is_an_error(open_chat):
    chat = open_chat()
    with torch.no_grad():
        next(p for n, p in chat.base.model.named_parameters() if "lora" not in n).add_(1)
    with pytest.raises(CheckpointError, match="changed during the chat"):
        chat.close()


def test_a_folder_that_holds_other_things_is_refused_before_a_base_is_loaded(tmp_path):
    (tmp_path / "thesis").mkdir()
    (tmp_path / "thesis" / "thesis.txt").write_text("mine")
    with pytest.raises(CheckpointError, match="holds other files"):
        Session(tmp_path / "thesis", OnlineConfig(), lambda config: pytest.fail("the base was loaded"))


def test_a_second_chat_on_the_folder_is_refused(open_chat, tmp_path, base):
    open_chat()
    if (child := os.fork()) == 0:  # another process
        try:
            session(tmp_path / "chat", base)
        except WorldError as error:
            os._exit(7 if f"another chat has {tmp_path / 'chat'} open" in str(error) else 1)
        finally:
            os._exit(1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 7


def test_a_damaged_adapter_offers_the_newest_whole_state_and_takes_it_when_asked(open_chat):
    chat = open_chat()
    tell(chat, "Tom is my friend.")
    before = sha(chat)
    tell(chat, "Anna lives in Oslo.")
    chat.close()
    newest = max((chat.store.folder / "adapters").iterdir())
    newest.write_bytes(b"damaged")
    with pytest.raises(CheckpointError, match="--fall-back"):
        open_chat()
    chat = open_chat(fall_back=True)
    assert sha(chat) == before
    assert "went back" in chat.recovered[0]
    assert tell(chat, "Carlos likes tea.").facts[0]["id"] == "f3"
    chat.close()
    assert differences(chat.store.folder) == []


# ---- attacks and crashes


def test_no_attack_is_committed_without_confirmation(open_chat):
    chat = open_chat("chat", "generation.max_new_tokens=1", "metrics.interval=1000")
    before, messages = sha(chat), [text for texts in ATTACKS.values() for text in texts]
    assert len(messages) >= 100
    for text in messages:
        turn = chat.say(text)
        assert turn.facts == [], text
    assert sha(chat) == before
    assert {row.state for row in chat.store.facts()} <= {"pending", "evicted"}


MESSAGES = ["Tom is my friend.", "Hello.", "Anna lives in Oslo.", "My email is bob@x.org.", "/confirm", "Carlos likes tea.",
            "Santhosh owns Tesla.", "/undo", "Who is Tom?", "Anna lives in Rome."]  # fmt: skip


def killed_chats(folder, base, kills, seed):
    """Kills so many real chats over a pipe, each at some moment; every one goes on with what the last one has not committed."""
    rng, told = random.Random(seed), []
    messages = [MESSAGES[i % len(MESSAGES)] for i in range(10 * kills)]
    for _ in range(kills):
        acknowledged = kill_one(folder, base, messages[len(told):], rng)  # fmt: skip
        lines = [json.loads(line) for line in (folder / "session.jsonl").read_text().splitlines()[1:]] if folder.exists() else []
        with session(folder, base, is_chosen=False) as chat:
            texts = [turn["text"] for turn in chat.store.turns() if turn["text"] != "/begin"]
        assert texts == messages[: len(texts)]
        assert len(told) + acknowledged <= len(texts)
        assert len(lines) >= acknowledged
        told = texts
    return told


def kill_one(folder, base, messages, rng):
    """Replies that the chat gave before it was killed."""
    (stdin, to_chat), (from_chat, stdout) = os.pipe(), os.pipe()
    child = os.fork()
    if child == 0:
        run_chat(folder, base, stdin, stdout, (to_chat, from_chat))
    os.close(stdin)
    os.close(stdout)
    os.write(to_chat, "".join(f"{text}\n" for text in messages).encode())
    got = b""
    until = time.monotonic() + 60
    while b"\n" not in got and time.monotonic() < until:
        got += os.read(from_chat, 4096)
    time.sleep(rng.uniform(0, 0.6))
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    while select.select([from_chat], [], [], 0)[0] and (more := os.read(from_chat, 4096)):
        got += more
    os.close(to_chat)
    os.close(from_chat)
    return got.count(b"\n")


def run_chat(folder, base, stdin, stdout, others):
    """In the child: the program itself."""
    from ockham.__main__ import main

    try:
        for fd in others:
            os.close(fd)
        sys.stdin, sys.stdout = os.fdopen(stdin), os.fdopen(stdout, "w")
        sys.stderr = open(os.devnull, "w")  # noqa: SIM115
        main(["chat", "--plain", "--state", str(folder), "--base", str(base), *QUICK])
    finally:
        os._exit(1)


def check_kills(tmp_path, base, kills):
    told = killed_chats(tmp_path / "chat", base, kills, seed=kills)
    assert len(told) > kills
    assert differences(tmp_path / "chat") == []


def test_a_chat_that_is_killed_three_times_loses_nothing_that_it_answered(tmp_path, base):
    check_kills(tmp_path, base, 3)


@pytest.mark.slow
def test_a_chat_that_is_killed_fifty_times_loses_nothing_that_it_answered(tmp_path, base):
    check_kills(tmp_path, base, 50)
