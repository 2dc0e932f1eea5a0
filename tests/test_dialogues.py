"""The corpus of the chat's small base: what is known has one answer, what was never said has none."""

import random
import sys
from pathlib import Path

import pytest

pytest.importorskip("tokenizers")
sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "data" / "dialogues"))

import numpy as np
from prepare import ROW_TOKENS, as_rows, write_split
from world import GAP, KNOWN_FACTS, NO_FACT, UNKNOWN, WORDS, World, denial, wordings

from ockham.online.clause import clause_of
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


def test_what_is_denied_or_supposed_is_no_fact(world):
    said = [asked_and_said(world.denied()) for _ in range(60)]
    assert {reply for _, reply in said} == {NO_FACT}
    assert not any(world.detector.detect(statement)[0] for statement, _ in said)
    assert sum(" not " in statement or "n't " in statement for statement, _ in said) > 20


@pytest.mark.parametrize(
    ("said", "denied"),
    [
        ("Anna lives in Oslo.", "Anna does not live in Oslo."),
        ("I like tea.", "I do not like tea."),
        ("Tom is my friend.", "Tom is not my friend."),
        ("I am a baker.", "I am not a baker."),
        ("Karl built the mill.", "Karl did not build the mill."),
    ],
)
def test_a_denial_says_that_it_is_not_so(world, said, denied):
    clause = clause_of(world.detector.read(said))
    both = {denial(clause, random.Random(seed)) for seed in range(8)}
    assert both == ({denied} if " am " in denied else {denied, denied.replace(" not ", "n't ", 1)})


def test_some_words_have_letters_that_english_has_not(world):
    words = [world.word() for _ in range(2000)]
    assert 0.04 < sum(not word.isascii() for word in words) / len(words) < 0.12
    assert sum(not any(letter.isascii() for letter in word) for word in words) > 10
    assert len({letter for word in words for letter in word}) > 80


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
    texts = [tokenizer.decode(row).rstrip("\ufffd") for row in rows]  # a row may end within a letter
    assert len(rows) > 0.9 * text.count("\n\n")
    at = 0
    for row in texts:
        assert (at := text.index(row, at)) >= 0
        assert text[at - 2 : at] == "\n\n"
    assert sum(row.startswith("User: ") for row in texts) > 0.8 * len(rows)
