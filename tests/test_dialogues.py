"""The corpus of the chat's small base: what is known has one answer, what was never said has none."""

import random
import sys
from pathlib import Path

import pytest

pytest.importorskip("tokenizers")
sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "data" / "dialogues"))

import numpy as np
from prepare import ROW_TOKENS, as_rows, write_split
from world import GAP, KNOWN_FACTS, UNKNOWN, WORDS, World, wordings

from ockham.online.exam import read_exam
from ockham.tokenizer import BpeTokenizer


@pytest.fixture(scope="module")
def world():
    return World(random.Random(3))


def asked_and_said(dialogue):
    user, assistant = dialogue.strip().split("\n")
    return user.removeprefix("User: "), assistant.removeprefix("Assistant: ")


def asked_of(facts):
    return {form.user for fact in facts for form in wordings(fact)}


def test_every_question_about_what_is_known_has_one_answer(world):
    questions = list({question for question, _ in WORDS["talk"] + WORDS["common"]} | asked_of(world.common()))
    questions += [question for fact in world.known for question in asked_of([fact])]
    assert len(world.known) == KNOWN_FACTS
    assert len(questions) == len(set(questions)) == len(world.asked)
    assert "Do you know what the capital of France is?" in questions


def test_what_is_known_is_the_same_in_every_corpus(world):
    assert [fact.text for fact in World(random.Random(4)).known] == [fact.text for fact in world.known]


def test_what_was_never_said_is_answered_with_one_sentence_and_never_asked_of_what_is_known(world):
    for _ in range(200):
        question, reply = asked_and_said(world.unknown())
        assert reply == UNKNOWN
        assert question not in world.asked


def test_a_recalled_fact_is_answered_with_it(world):
    replies = {form.reply for fact in world.known for form in wordings(fact)}
    for _ in range(50):
        question, reply = asked_and_said(world.recalled())
        assert question in world.asked
        assert reply in replies


def test_a_near_statement_shares_a_word_with_one_that_is_known(world):
    known = {word for statement in world.statements for word in statement.words}
    near = [world.near() for _ in range(100)]
    assert all(known & set(statement.words) for statement in near)
    assert sum(len(known & set(statement.words)) < len(statement.words) for statement in near) > 50  # and is another


def test_a_statement_is_its_template_with_its_words(world):
    statement = world.statements[0]
    assert GAP.sub("{}", statement.template).format(*statement.words) == statement.text == world.known[0].text


def test_no_question_of_an_exam_is_answered_by_what_the_base_knows(world):
    folder = Path(__file__).resolve().parents[1] / "data" / "dialogues"
    items = [item for name in ("exam.jsonl", "practice.jsonl", "held_out.jsonl") for item in read_exam(folder / name)]
    questions = {question for item in items for question in (item.question, *item.paraphrases)}
    common = {question for question, _ in WORDS["talk"] + WORDS["common"]} | asked_of(world.common())
    assert not (questions & world.asked) - common


def test_each_row_begins_with_a_dialogue_and_goes_on_as_the_text_does():
    text = write_split(20_000, random.Random(5))
    tokenizer = BpeTokenizer.learn([text], 400)
    (ids,) = tokenizer.encode_many([text])
    assert np.array_equal(as_rows(random.Random(1), tokenizer, "val", ids), ids)
    rows = as_rows(random.Random(1), tokenizer, "train", ids).reshape(-1, ROW_TOKENS)
    texts = [tokenizer.decode(row) for row in rows]
    assert len(rows) > 0.9 * text.count("\n\n")
    at = 0
    for row in texts:
        assert (at := text.index(row, at)) >= 0
        assert text[at - 2 : at] == "\n\n"
    assert sum(row.startswith("User: ") for row in texts) > 0.8 * len(rows)
