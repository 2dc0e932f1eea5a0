"""The fact exam: what counts as right, which files are refused, and what is counted."""

from __future__ import annotations

import itertools
import json

import pytest
from online_bases import tiny_ours
from online_chats import trainer, write_exam

from ockham.errors import ConfigError, WorldError
from ockham.online.exam import FactResult, is_right, read_exam, take_exam
from ockham.online.exam_report import show_result, show_row


@pytest.mark.parametrize(
    ("reply", "answer"),
    [
        ("Tom is your friend.", "my friend"),
        ("It is Oslo.", "oslo"),
        ("She lives in Zürich!", "Zurich"),
        ("The owner is Kim.", "the owner"),
        ("At 5 p.m.", "5 p.m."),
        ("C++ of course", "C++"),
        ("It's red", "red"),
        ("???", "?"),
    ],
)
def test_the_answers_words_in_the_reply_are_right(reply, answer):
    assert is_right(reply, answer)


@pytest.mark.parametrize(
    ("reply", "answer"),
    [
        ("", "Oslo"),
        ("Tom is your enemy.", "my friend"),
        ("Osloer", "Oslo"),
        ("New York has a new mayor", "mayor new"),
        ("I do not know.", "know me"),
    ],
)
def test_other_words_are_wrong(reply, answer):
    assert not is_right(reply, answer)


GOOD = {"fact": "Tom is my friend.", "question": "Who is Tom?", "answer": "friend"}


def written(tmp_path, *lines):
    path = tmp_path / "exam.jsonl"
    path.write_bytes(b"\n".join(line if isinstance(line, bytes) else json.dumps(line).encode() for line in lines))
    return path


def test_an_exam_is_read_with_its_numbers_lists_and_blank_lines(tmp_path):
    full = GOOD | {"answer": 5, "paraphrases": [{"question": "Tom is who?"}, "And Tom?"], "unrelated": "Who is Zoe?"}
    (item, other) = read_exam(written(tmp_path, full, b"", GOOD | {"fact": "a\u2028b"}))
    assert (item.answer, item.paraphrases, item.unrelated) == ("5", ("Tom is who?", "And Tom?"), ("Who is Zoe?",))
    assert other.fact == "a\u2028b"


@pytest.mark.parametrize(
    ("line", "message"),
    [
        (b"{nope", "exam.jsonl:2 is not valid JSON"),
        (b"[" * 100_000, "exam.jsonl:2 is not valid JSON"),
        ([1], "must be a JSON object"),
        ({"fact": "Tom is my friend.", "question": "Who?"}, "answer must be a text"),
        (GOOD | {"fact": " "}, "fact must be a text that is not empty"),
        (GOOD | {"answer": True}, "answer must be a text"),
        (GOOD | {"paraphrases": 3}, "paraphrases must be a list"),
        (GOOD | {"unrelated": [{}]}, "unrelated must be a list"),
        (GOOD | {"question": "\ud800"}, "half of a character"),
        (b"\xff\xfe", "not UTF-8"),
    ],
)
def test_a_bad_line_is_named(tmp_path, line, message):
    with pytest.raises(ConfigError, match=message):
        read_exam(written(tmp_path, GOOD, line))


def test_an_exam_that_is_not_there_or_empty_or_huge_is_refused(tmp_path):
    with pytest.raises(WorldError, match="no exam at"):
        read_exam(tmp_path / "none.jsonl")
    with pytest.raises(WorldError, match="no exam at"):
        read_exam(tmp_path)
    with pytest.raises(ConfigError, match="is empty"):
        read_exam(written(tmp_path, b"", b" "))
    with pytest.raises(ConfigError, match="at most"):
        read_exam(written(tmp_path, b"x" * 10_000_001))


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    return tiny_ours(tmp_path_factory.mktemp("bases") / "ours")


@pytest.fixture
def items(tmp_path):
    facts = [
        ("Tom is my friend.", "Who is Tom?", "friend"),
        ("My email is bob@x.org.", "What is my email?", "bob@x.org"),
        ("frob zib", "What is frob?", "zib"),
        ("/quit is a command.", "What is quit?", "command"),
        ("Том мой друг", "Кто Том?", "друг"),
    ]
    return read_exam(write_exam(tmp_path / "exam.jsonl", facts))


def test_every_fact_is_taught_waiting_or_not_over_the_caps_and_over_the_memory(base, items):
    chat = trainer(base, "safety.max_facts_per_session=1", "fact_memory.max_facts=2")
    seen = []
    result = take_exam(chat, items, lambda number, row: seen.append(number))
    assert [row["learned"] for row in result["rows"]] == [True] * 4 + [False]
    assert result["rows"][4]["reason_code"] == "UNREADABLE"
    assert (result["facts"], result["learned"], seen) == (5, 4, [1, 2, 3, 4, 5])
    assert (len(chat.memory), chat.known.pending) == (2, {})
    assert result["steps_per_fact"] == sum(row["steps"] for row in result["rows"]) / 5
    assert result["seconds_per_fact"] > 0
    assert {"efficacy", "paraphrase", "locality", "first_ten", "perplexity_ratio", "kl"} <= result.keys()
    json.dumps(result, allow_nan=False)
    assert "5 facts, 0 learned, 4 trained but not well known" in show_result(result)  # a tiny base hardly learns
    for row in result["rows"][:3]:
        row["p_after"] = 0.5
    assert "5 facts, 3 learned, 1 trained but not well known" in show_result(result)


def test_efficacy_paraphrase_and_locality_are_shares_of_right_and_unchanged_replies(base, items, monkeypatch):
    """Worked by hand: the replies are given, not generated."""
    chat = trainer(base)
    replies = {"Who is Tom?": "Your friend.", "What is my email?": "No idea."}
    taught = []
    monkeypatch.setattr(chat, "reply", lambda text: replies.get(text, "same") if taught else "same")
    original = chat.take
    monkeypatch.setattr(chat, "take", lambda text, with_reply=True: taught.append(text) or original(text, with_reply))
    result = take_exam(chat, items[:2])
    assert (result["efficacy"], result["paraphrase"], result["locality"]) == (0.5, 0.5, 1.0)
    replies["Who is Zoe?"] = "changed"
    assert take_exam(trainer_like(chat, taught), items[:1])["locality"] == 0.0


def trainer_like(chat, taught):
    taught.clear()
    return chat


def test_chat_between_teaching_and_asking_takes_turns_in_which_replays_fall_due(base, items, monkeypatch):
    chat, told, replayed = trainer(base, "fact_memory.replay_interval=3"), [], []
    take, again = chat.take, chat.teacher.replay
    monkeypatch.setattr(chat, "take", lambda text, with_reply=True: told.append(text) or take(text, with_reply))
    monkeypatch.setattr(chat.teacher, "replay", lambda turn: replayed.append(turn.number) or again(turn))
    result = take_exam(chat, items[:1], chat_turns=7)
    assert told[1:] == list(itertools.islice(itertools.cycle([*items[0].unrelated, items[0].question]), 7))
    assert (result["chat_turns"], chat.known.clock, replayed) == (7, 8, [3, 6])


def test_chat_in_an_exam_is_of_questions_alone(base, tmp_path, monkeypatch):
    chat, told = trainer(base), []
    take = chat.take
    monkeypatch.setattr(chat, "take", lambda text, with_reply=True: told.append(text) or take(text, with_reply))
    line = {"fact": "Tom is my friend.", "question": "Who is Tom?", "answer": "friend"}
    path = tmp_path / "exam.jsonl"
    path.write_text(json.dumps(line | {"unrelated": ["/undo", "Ann is my aunt.", "Who is Rolf?"]}))
    result = take_exam(chat, read_exam(path), chat_turns=3)
    assert told == ["Tom is my friend.", "Who is Rolf?", "Who is Tom?", "Who is Rolf?"]
    assert (result["learned"], len(chat.memory)) == (1, 1)


def test_a_fact_that_cannot_be_taken_ends_the_exam_before_anything_is_taught(base, items):
    chat = trainer(base, "safety.max_message_chars=17")
    with pytest.raises(ConfigError, match="at most 17"):
        take_exam(chat, items)
    assert chat.known.clock == 0


def test_a_row_is_shown_in_one_line():
    row = FactResult(
        "Tom is my friend.", "Who is Tom?", "friend", learned=True, reason_code="X", steps=3, p_before=0.1, p_after=0.9
    )
    assert show_row(1, 2, row) == "1/2 Tom is my friend.: learned (X), p 0.10 -> 0.90, 3 steps"
    row.p_after = 0.1
    assert show_row(1, 2, row) == "1/2 Tom is my friend.: trained but not well known (X), p 0.10 -> 0.10, 3 steps"
