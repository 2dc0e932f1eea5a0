"""The commit gate: what is over its budget, or not learned well enough, is kept in part or taken back, and said so."""

from __future__ import annotations

import pytest
import torch
from online_bases import tiny_ours
from online_chats import sha, trainer

from ockham.errors import ConfigError
from ockham.memory import REJECTED_COMPLEXITY, REJECTED_QUALITY
from ockham.online.chat_lines import told_lines
from ockham.online.learning import Learner


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    return tiny_ours(tmp_path_factory.mktemp("bases") / "ours")


def record(turn):
    (only,) = turn.facts
    return only


def test_an_update_over_the_budget_is_halved_and_halved_again(base, monkeypatch):
    chat = trainer(base, "commit.kl_budget=0.1")
    before = chat.adapter.state()
    costs = iter([0.5, 0.2, 0.05])
    monkeypatch.setattr(Learner, "kl", lambda self, prompts: next(costs))
    told = record(chat.take("Tom is my friend."))
    assert (told["scale"], told["accepted"], told["kl"]) == (0.25, True, 0.05)
    after = chat.adapter.state()
    monkeypatch.undo()
    whole = trainer(base)
    whole.take("Tom is my friend.")
    for name, tensor in whole.adapter.state().items():
        torch.testing.assert_close(after[name] - before[name], 0.25 * (tensor - before[name]), atol=1e-7, rtol=1e-3)


def test_an_update_that_stays_over_the_budget_is_taken_back_byte_for_byte(base):
    chat = trainer(base, "commit.kl_budget=1e-9")
    before, known = sha(chat), chat.known.state_dict()
    turn = chat.take("Tom is my friend.")
    assert (record(turn)["reason_code"], record(turn)["accepted"], record(turn)["id"]) == (REJECTED_COMPLEXITY, False, "")
    assert (sha(chat), turn.changed, chat.memory.facts) == (before, False, [])
    assert chat.known.state_dict() == known | {"clock": 1, "memory": known["memory"] | {"turn": 1}}
    with pytest.raises(ConfigError, match="nothing to undo"):
        chat.take("/undo")


def test_a_fact_that_is_not_learned_well_enough_is_taken_back(base):
    chat = trainer(base, "commit.min_prob=0.5")
    before = sha(chat)
    assert record(chat.take("Tom is my friend."))["reason_code"] == REJECTED_QUALITY
    assert sha(chat) == before


def test_of_a_fact_that_is_taken_back_the_figures_are_those_after_it(base):
    chat = trainer(base, "commit.min_prob=0.5")
    turn = chat.take("Tom is my friend.")
    told = record(turn)
    forms = chat.teacher.forms(chat.teacher.info("Tom is my friend."))
    assert told["p_reached"] > told["p_after"] == told["p_before"] == chat.learner.least_probability(forms)
    assert (told["kl"], told["kl_cost"], turn.losses) == (0.0, 0.0, {})
    line = told_lines({**told, "p_reached": 0.31, "p_after": 0.02})
    assert "all is as before (p 0.31 after 2 steps, taken back to 0.02; REJECTED_QUALITY)" in line


def test_a_fact_that_is_taken_back_leaves_the_turn_the_losses_of_the_one_before_it(base, monkeypatch):
    chat, alone = trainer(base), trainer(base)
    answers = iter([(True, "ACCEPTED_FIRST_VALID"), (False, REJECTED_QUALITY)])
    monkeypatch.setattr(chat.teacher.commit.memory, "should_accept_update", lambda ctx, state: next(answers))
    turn = chat.take("Tom is my friend. Anna lives in Oslo.")
    assert [told["accepted"] for told in turn.facts] == [True, False]
    assert turn.losses == alone.take("Tom is my friend.").losses


def test_a_contradiction_that_is_taken_back_leaves_the_old_fact(base, monkeypatch):
    chat = trainer(base)
    chat.take("Anna lives in Oslo.")
    before, known = sha(chat), chat.memory.get("f1")
    monkeypatch.setattr(chat.teacher.commit.memory, "should_accept_update", lambda ctx, state: (False, REJECTED_QUALITY))
    chat.take("Anna lives in Rome.")
    assert sha(chat) == before
    assert chat.memory.get("f1").value == known.value == "Oslo"
