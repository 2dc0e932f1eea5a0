"""What was told can be taken back byte for byte, told again, or told again without a fact."""

from __future__ import annotations

import pytest
from online_bases import tiny_ours
from online_chats import sha, tell, trainer

from ockham.errors import ConfigError
from ockham.memory import REJECTED_QUALITY
from ockham.online.learning import Learner


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    return tiny_ours(tmp_path_factory.mktemp("bases") / "ours")


@pytest.fixture
def chat(base):
    return trainer(base)


def record(turn):
    (only,) = turn.facts
    return only


def test_undo_is_byte_exact_and_goes_back_fact_by_fact(chat):
    hashes = [sha(chat)]
    for text in ("Tom is my friend.", "Anna lives in Oslo.", "Carlos likes tea."):
        tell(chat, text, "Hello.")
        hashes.append(sha(chat))
    for expected in reversed(hashes[:-1]):
        assert chat.take("/undo").changed
        assert sha(chat) == expected
    with pytest.raises(ConfigError, match="nothing to undo"):
        chat.take("/undo")
    assert chat.memory.next_id == "f4"


def test_undo_on_a_replay_turn_is_byte_exact_too(base):
    chat = trainer(base, "fact_memory.replay_interval=3")
    chat.take("Tom is my friend.")
    before = sha(chat)
    tell(chat, "Anna lives in Oslo.", "/undo")
    assert (chat.known.clock, sha(chat)) == (3, before)


def test_what_waits_survives_an_undo(chat):
    tell(chat, "Tom is my friend.", "My email is bob@x.org.", "/undo")
    assert list(chat.known.pending) == ["f2"]
    assert record(chat.take("/confirm"))["id"] == "f2"


TOLD = ("Tom is my friend.", "Hello.", "Anna lives in Oslo.", "Santhosh owns Tesla.", "Anna lives in Rome.")


@pytest.mark.parametrize("gone", [0, 3])
def test_rebuilding_without_a_fact_is_never_having_been_told_it(base, gone):
    chat = trainer(base, "fact_memory.replay_interval=2")
    told = {text: chat.take(text) for text in TOLD}
    before = sha(chat)
    assert chat.rebuild({told[TOLD[gone]].facts[0]["id"]}) == []
    never = trainer(base, "fact_memory.replay_interval=2")
    tell(never, *TOLD[:gone], *TOLD[gone + 1 :])
    assert sha(chat) == sha(never) != before
    assert chat.known.clock == never.known.clock
    tell(chat, "Carlos likes tea.")
    tell(never, "Carlos likes tea.")
    assert sha(chat) == sha(never)
    with pytest.raises(ConfigError, match="nothing to undo"):
        [chat.take("/undo") for _ in range(2)]


def test_rebuilding_without_a_confirmed_fact_drops_both_of_its_messages(base):
    chat, never = (trainer(base, "fact_memory.replay_interval=3") for _ in range(2))
    tell(chat, "Tom is my friend.", "My email is bob@x.org.", "/confirm", "Anna lives in Oslo.")
    chat.rebuild({"f2"})
    tell(never, "Tom is my friend.", "Anna lives in Oslo.")
    assert (sha(chat), chat.known.clock) == (sha(never), never.known.clock)


def test_rebuilding_after_an_undo_is_the_chat_without_the_fact(base):
    chat, never = (trainer(base, "fact_memory.replay_interval=2") for _ in range(2))
    told = ("Tom is my friend.", "Anna lives in Oslo.", "Hello.", "/undo", "Carlos likes tea.", "Hello.")
    tell(chat, *told[:4], "Santhosh owns Tesla.", *told[4:])
    chat.rebuild({"f3"})
    tell(never, *told)
    assert sha(chat) == sha(never)


def test_a_fact_that_is_not_learned_again_waits(base):
    chat = trainer(base)
    tell(chat, "Tom is my friend.", "Anna lives in Oslo.", "Carlos likes tea.")
    answers = iter([(False, REJECTED_QUALITY), (True, "ACCEPTED_FIRST_VALID")])
    chat.teacher.commit.memory.should_accept_update = lambda ctx, state: next(answers)
    assert chat.rebuild({"f1"}) == ["f2"]
    assert (chat.known.pending["f2"]["risks"], list(chat.known.records)) == (["REBUILT"], ["f3"])


def test_the_same_messages_give_the_same_bytes(base):
    hashes = set()
    for _ in range(2):
        chat = trainer(base)
        tell(chat, *TOLD)
        hashes.add(sha(chat))
    assert len(hashes) == 1


@pytest.mark.parametrize("error", [KeyboardInterrupt, RuntimeError])
@pytest.mark.parametrize("step", [1, 4])
def test_a_message_that_breaks_off_leaves_everything_as_before(base, monkeypatch, error, step):
    chat = trainer(base, "fact_memory.replay_interval=2")
    tell(chat, "Tom is my friend.")
    place, weights = chat.place(), sha(chat)
    done, original = [], Learner._update

    def broken(self, *args):
        done.append(1)
        original(self, *args)
        if len(done) == step:
            raise error

    monkeypatch.setattr(Learner, "_update", broken)
    with pytest.raises(error):
        chat.take("Anna lives in Oslo. Santhosh owns Tesla.")
    monkeypatch.undo()
    assert sha(chat) == weights
    assert (chat.known.state_dict(), chat.metrics.state_dict()) == place[1:3]
    other = trainer(base, "fact_memory.replay_interval=2")
    tell(chat, "Anna lives in Oslo.")
    tell(other, "Tom is my friend.", "Anna lives in Oslo.")
    assert sha(chat) == sha(other)
