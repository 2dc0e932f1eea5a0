"""/forget in a session: nothing of the fact is in any file, and the adapter is as if it had never been told."""

from __future__ import annotations

import json
import re

import pytest
from online_bases import tiny_ours
from online_chats import SHORT, contents, differences, raising, sessions, sha, tell
from online_states import CHEAP

from ockham.errors import ConfigError, WorldError
from ockham.online import tombstones
from ockham.online.chat_lines import why_lines
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


GUESSED = ("Tom is my friend.", "I live in Turin.", "/undo", "Mira owns a bakery.", "Hello.", "Anna lives in Oslo.",
           "Mira owns a bakery.", "Hello.")  # fmt: skip


@pytest.mark.parametrize("forgotten", [0, 3])
def test_who_guesses_a_forgotten_fact_finds_no_hash_and_no_loss_to_confirm_it(open_chat, forgotten):
    settings = ("metrics.interval=5", SHORT, "checkpoint.keep=2")
    told, never, before = (open_chat(name, *settings) for name in ("told", "never", "before"))
    tell(told, *GUESSED)
    tell(never, *(text for text in GUESSED if text != GUESSED[forgotten]))
    tell(before, *GUESSED[:forgotten]) if forgotten else None
    confirming = figures(told) - figures(never) - figures(before)
    assert len(confirming) > 50
    told.forget({0: "f1", 3: "f3"}[forgotten])
    for chat in (told, open_chat("again", *settings)):
        chat.close()
        found = contents(chat.store.folder).decode("latin-1")
        assert [figure for figure in confirming if figure in found] == []
    assert baselines(told) <= baselines(never)
    assert baselines(told)
    assert sha(told) == sha(never)


def test_of_an_undone_fact_the_texts_stay_when_another_is_forgotten(open_chat):
    chat = open_chat()
    tell(chat, "Tom is my friend.", "I live in Turin.", "/undo", "Mira owns a bakery.")
    chat.forget("f1")
    why = chat.why("f2")
    assert (why["text"], why["source"], why["relation"], why["state"]) == ("I live in Turin.",) * 2 + ("lives_in", "undone")
    assert why_lines(why)[2] == "learning: its figures went with a fact that was forgotten"
    assert not {"adapter_before", "adapter_after", "p_before", "p_after", "kl", "steps"} & why.keys()
    chat.forget("f2")
    assert b"Turin" not in contents(chat.store.folder)


def test_the_caps_of_a_session_count_what_stays_as_if_the_forgotten_had_never_been_told(open_chat):
    chat, never = open_chat("chat"), open_chat("never")
    tell(chat, "Tom is my friend.", "Anna lives in Oslo.")
    tell(never, "Tom is my friend.")
    for one in (chat, never):
        one.close()
    chat, never = open_chat("chat"), open_chat("never")
    tell(chat, "Santhosh owns Tesla.", "Carlos likes tea.")
    tell(never, "Carlos likes tea.")
    chat.forget("f2")
    chat.forget("f3")
    assert chat.trainer.known.session == never.trainer.known.session
    assert chat.trainer.known.session["facts"] == 1
    chat.forget("f4")
    assert chat.trainer.known.session == {"facts": 0, "kl": 0.0}


def baselines(chat):
    return set(chat.trainer.metrics.forgetting.baselines.values())


def figures(chat):
    """Every hash and every long number of the chat's tables, but for times."""
    rows = [{k: v for k, v in turn.items() if k not in ("time", "seconds")} for turn in chat.store.turns()]
    state = chat.store.state()
    held = [rows, state.memory, state.metrics, chat.store.export()]
    return set(re.findall(r"[0-9a-f]{64}|\d\.\d{8,}(?:e-?\d+)?", json.dumps(held)))


def test_of_two_facts_in_one_message_one_is_forgotten_and_the_other_keeps_its_words(open_chat):
    chat = open_chat()
    tell(chat, "Santhosh owns Tesla. Anna lives in Oslo.")
    chat.forget("f1")
    assert not any(word in contents(chat.store.folder).lower() for word in (b"santhosh", b"tesla"))
    assert chat.why("f2")["source"] == "Anna lives in Oslo."
    never = open_chat("never")
    tell(never, "Anna lives in Oslo.")
    assert sha(chat) == sha(never)


def test_a_fact_that_waits_can_be_forgotten(open_chat):
    chat, never = open_chat("chat", SHORT), open_chat("never", SHORT)
    tell(chat, "Tom is my friend.", "My email is bob@x.org.")
    chat.forget("f2")
    assert b"bob@x" not in contents(chat.store.folder)
    tell(never, "Tom is my friend.")
    for one in (chat, never):
        tell(one, "Hello.", "Anna lives in Oslo.")
    assert (sha(chat), chat.trainer.known.pending) == (sha(never), {})


REJECTED = ("My email is bob@x.org.", "Tom is my friend.", "My email is bob@x.org. Anna lives in Oslo.", "Is bob@x.org fine?",
            "/confirm f4")  # fmt: skip


def test_what_is_rejected_leaves_no_word_and_takes_nothing_else_with_it(open_chat, monkeypatch):
    chat = open_chat()
    tell(chat, *REJECTED)
    before, clock, told = sha(chat), chat.trainer.known.clock, chat.why("f2")
    monkeypatch.setattr(chat.trainer, "rebuild", raising(AssertionError("it only waited")))
    assert [row.state for row in chat.facts()] == ["pending", "active", "pending", "active"]
    assert chat.say("/reject f1").notes == ["it is not learned, and not kept"]
    assert (sha(chat), chat.trainer.known.clock, chat.why("f2")) == (before, clock + 1, told)
    assert (b"bob@x" in contents(chat.store.folder), chat.store.was_forgotten(1, "My email is bob@x.org.")) == (False, True)
    assert (chat.why("f4")["message"], chat.trainer.known.pending) == ("Anna lives in Oslo.", {})
    assert [turn["tombstone"] for turn in chat.store.turns()] == [1, None, 1, 1, None, 1]
    assert chat.say("/undo").notes == ["f4 is undone"]
    assert chat.say("/undo").notes == ["f2 is undone"]
    assert (sha(chat), list(chat.trainer.known.pending)) == (sha(open_chat("fresh")), ["f4"])
    with pytest.raises(ConfigError, match="all of it is undone"):
        chat.say("/undo")
    assert b"bob@x" not in contents(chat.store.folder)


def test_a_session_with_a_rejected_fact_replays_and_goes_on_as_if_it_had_been_small_talk(open_chat):
    chat, other = open_chat("chat", SHORT), open_chat("other", SHORT)
    for one, said in ((chat, "My email is bob@x.org."), (other, "Hello.")):
        tell(one, "Tom is my friend.", said, "Anna lives in Oslo.")
    tell(chat, "/reject f2")
    tell(other, "Hello.")
    chat.close()
    chat = open_chat("chat", SHORT)  # /begin
    tell(other, "Hello.")
    for one in (chat, other):
        tell(one, "/undo", "Carlos likes tea.", "Hello.", "Santhosh owns Tesla.", "/undo", "Hello.")
    assert sha(chat) == sha(other)
    assert tell(chat, "My phone is 555-123-4567.", "/confirm f6").facts[0]["id"] == "f6"
    chat.close()
    assert differences(chat.store.folder) == []
    lines = [json.loads(line) for line in (chat.store.folder / "session.jsonl").read_text().splitlines()]
    assert [line["turn"] for line in lines[1:] if "tombstone" in line] == [2, 4]
    line = json.dumps(lines[2] | {"adapter_sha256": "0" * 64})
    (chat.store.folder / "session.jsonl").write_text("\n".join([*map(json.dumps, lines[:2]), line]) + "\n")
    assert [turn for turn, _ in differences(chat.store.folder)] == [2]


@pytest.mark.parametrize(
    ("waits", "after", "options"),
    [
        ("My email is bob@x.org.", ["/confirm", "/undo"], [SHORT]),
        ("Anna lives in Oslo.", ["Is Anna in Oslo?"], ["training.self_train=true", "safety.max_facts_per_session=1"]),
    ],
)
def test_what_is_rejected_is_forgotten_where_more_rests_on_it(open_chat, waits, after, options):
    chat = open_chat("chat", *options)
    tell(chat, "Tom is my friend.", waits, *after)
    assert [row.state for row in chat.facts()] == ["active", "pending"]
    hashes = {turn["adapter_sha256"] for turn in chat.store.turns()[1:]}
    chat.say("/reject f2")
    assert not any(word in contents(chat.store.folder) for word in (b"bob@x", b"Oslo"))
    with pytest.raises(ConfigError, match="nothing to undo: a fact was forgotten"):
        chat.say("/undo")
    never = open_chat("never", *options)
    tell(never, "Tom is my friend.")
    assert sha(chat) == sha(never)
    assert len(hashes) > 1


@pytest.mark.parametrize("error", [KeyboardInterrupt, WorldError("disk full")])
def test_a_reject_that_breaks_off_has_not_happened(open_chat, monkeypatch, error):
    chat = open_chat()
    tell(chat, "Tom is my friend.", "My email is bob@x.org.")
    before, known, places = contents(chat.store.folder), chat.trainer.known.state_dict(), chat.trainer.snapshots.places
    monkeypatch.setattr(StateFolder, "commit", raising(error))
    with pytest.raises(type(error) if isinstance(error, Exception) else error):
        chat.say("/reject")
    monkeypatch.undo()
    assert (contents(chat.store.folder), chat.trainer.known.state_dict()) == (before, known)
    assert chat.trainer.snapshots.places == places
    chat.say("/reject")
    assert b"bob@x" not in contents(chat.store.folder)


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


def test_a_word_that_is_also_a_key_of_ours_gives_a_fact_away(open_chat):
    chat = open_chat()
    tell(chat, "/learn Memory is my cat.", "Is Memory hungry?", "Anna lives in Oslo.")
    chat.forget("f1")
    log = (chat.store.folder / "session.jsonl").read_text()
    assert ("Memory" in log, "Oslo" in log) == (False, True)
    assert [turn["tombstone"] for turn in chat.store.turns()] == [1, 1, None, 1]


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
