"""/forget in a session: nothing of the fact is in any file, and the adapter is as if it had never been told."""

from __future__ import annotations

import pytest
from online_bases import tiny_ours
from online_chats import SHORT, contents, sessions, sha, tell
from online_states import CHEAP

from ockham.errors import ConfigError
from ockham.online import tombstones


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


TOLD = ("Tom is my friend.", "Santhosh owns Tesla.", "Who owns Tesla?", "Anna lives in Oslo.")


def test_what_is_forgotten_leaves_no_word_in_any_file_and_was_never_learned(open_chat):
    chat, never = open_chat("chat", SHORT), open_chat("never", SHORT)
    tell(chat, *TOLD)
    done = chat.forget("f2")
    assert (done.turns, [stone.id for stone in done.tombstones]) == ([2, 3], [2])
    found = contents(chat.store.folder).lower()
    assert not any(word in found for word in (b"santhosh", b"tesla"))
    assert b"anna" in found
    tell(never, "Tom is my friend.", "Who owns Tesla?", "Anna lives in Oslo.")
    assert sha(chat) == sha(never)
    with pytest.raises(ConfigError, match="was forgotten in turn 5"):
        chat.why("f2")
    chat.close()
    again = open_chat("chat", SHORT)
    assert [row.id for row in again.facts()] == [1, 3]
    assert tell(again, "Carlos likes tea.").facts[0]["id"] == "f4"


def test_of_two_facts_in_one_message_one_is_forgotten_and_the_other_keeps_its_words(open_chat):
    chat = open_chat()
    tell(chat, "Santhosh owns Tesla. Anna lives in Oslo.")
    chat.forget("f1")
    assert not any(word in contents(chat.store.folder).lower() for word in (b"santhosh", b"tesla"))
    assert chat.why("f2")["source"] == "Anna lives in Oslo."
    never = open_chat("never")
    tell(never, "Anna lives in Oslo.")
    assert sha(chat) == sha(never)


@pytest.mark.parametrize("how", ["forget", "/reject"])
def test_a_fact_that_waits_can_be_forgotten(open_chat, how):
    chat, never = open_chat("chat", SHORT), open_chat("never", SHORT)
    tell(chat, "Tom is my friend.", "My email is bob@x.org.")
    chat.forget("f2") if how == "forget" else chat.say("/reject")
    assert b"bob@x" not in contents(chat.store.folder)
    tell(never, "Tom is my friend.")
    for one in (chat, never):
        tell(one, "Hello.", "Anna lives in Oslo.")
    assert (sha(chat), chat.trainer.known.pending) == (sha(never), {})


def test_a_fact_that_was_undone_and_told_again_is_forgotten_with_all_its_tellings(open_chat):
    chat = open_chat()
    tell(chat, "Santhosh owns Tesla.", "/undo", "Santhosh owns Tesla.", "Tom is my friend.")
    chat.forget("f2")
    assert b"Tesla" not in contents(chat.store.folder)
    assert [row.id for row in chat.store.facts()] == [3]


def test_a_superseded_value_is_forgotten_with_its_fact(open_chat):
    chat = open_chat()
    tell(chat, "Anna lives in Oslo.", "Anna lives in Rome.", "Tom is my friend.")
    chat.forget("f1")
    assert not any(word in contents(chat.store.folder) for word in (b"Oslo", b"Rome", b"Anna"))


@pytest.mark.parametrize(
    ("gone", "kept"),
    [
        ("Tom is my friend.", "My friend Tom lives in Oslo."),
        ("My favorite subject is math.", "Anna lives in Oslo."),
        ("My first total is zero.", "Anna lives in Oslo."),
        ("My car is a kl f1.", "Tom likes tea."),
        ("Tom likes tea.", "Kim is the owner of the likes."),
    ],
)
def test_words_that_the_program_or_another_fact_uses_do_not_hinder_forgetting(open_chat, gone, kept):
    chat = open_chat()
    tell(chat, f"/learn {gone}", kept)
    chat.forget("f1")
    assert [row.id for row in chat.facts()] == [2]
    assert gone.encode() not in contents(chat.store.folder)


def test_with_self_training_replies_that_mention_it_are_not_learned_again(open_chat):
    chat = open_chat("chat", "training.self_train=true")
    tell(chat, "Hello.", "Santhosh owns Tesla.", "Who owns Tesla?")
    chat.forget("f1")
    assert b"Tesla" not in contents(chat.store.folder)
    assert [event["text"] for event in chat.trainer.known.events] == ["Hello."]


def test_an_unknown_id_is_named(open_chat):
    chat = open_chat()
    tell(chat, "Tom is my friend.")
    with pytest.raises(ConfigError, match="there is no fact 9; there are: 1"):
        chat.forget("f9")
    for bad in ("", "tom", "f", "-1", "²", "9" * 30):
        with pytest.raises(ConfigError, match="a fact's id is f and a number"):
            chat.why(bad)
