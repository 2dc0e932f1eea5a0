"""The fact memory: what is the same, what contradicts, what is worth how much, who goes, and what is trained again."""

import json
import random
from collections import Counter

import pytest

from ockham.errors import CheckpointError, ConfigError
from ockham.online.config import Decay, FactMemorySettings, ImportanceScoring
from ockham.online.fact_importance import first_to_go
from ockham.online.fact_matching import folded, functional_relations
from ockham.online.fact_memory import FactMemory
from ockham.online.facts import FactInfo


def info(subject="Tom", value="my friend", relation="is_relation", text="", **more):
    text = text or f"{subject} {relation} {value}"
    return FactInfo(text=text, pattern="p", relation=relation, subject=subject, value=value,
                    entities=(subject,), confidence=0.9, **more)  # fmt: skip


def memory(scoring=None, decay=None, **settings):
    return FactMemory(FactMemorySettings(importance_scoring=ImportanceScoring(**scoring or {}), decay=Decay(**decay or {}),
                                         **settings))  # fmt: skip


def tell(target, subject, value="tea", relation="likes", turn=0, **more):
    found = info(subject, value, relation)
    return target.store(found.text, found, turn, **more)


# what is told


def test_ids_count_up_and_are_never_given_twice():
    kept = memory()
    assert [tell(kept, name).id for name in ("Ann", "Bob", "Cid")] == ["f1", "f2", "f3"]
    kept.remove("f3")
    assert tell(kept, "Dan").id == "f4"


def test_a_log_that_is_folded_again_keeps_its_ids():
    kept = memory()
    assert tell(kept, "Ann", id="f7").id == "f7"
    assert tell(kept, "Bob").id == "f8"
    with pytest.raises(ConfigError, match="'7'"):
        tell(kept, "Cid", id="7")


def test_the_same_statement_in_other_case_marks_and_spaces_is_seen_again():
    kept = memory()
    kept.store("Tom is my friend.", info(), turn=3)
    again = kept.store("  tom IS my   friend!", info(value="My friend"), turn=9)
    assert (len(kept), again.id, again.turns_seen, again.first_seen, again.last_seen) == (1, "f1", 2, 3, 9)
    assert again.fact_text == "Tom is my friend."


@pytest.mark.parametrize(("one", "other"), [("He likes C++", "He likes C"), ("Tom likes tea", "Tomas likes tea")])
def test_marks_that_carry_meaning_are_not_folded_away(one, other):
    assert folded(one) != folded(other)


def test_the_same_in_other_words_is_seen_again():
    kept = memory()
    kept.store("Tom is my friend", info(), turn=0)
    assert kept.store("My friend is Tom", info(), turn=1).turns_seen == 2


def test_a_contradiction_supersedes_with_history():
    kept = memory()
    tell(kept, "Tom", "Paris", "lives in", turn=1)
    tell(kept, "Tom", "Paris", "lives in", turn=2)
    now = tell(kept, "tom", "Berlin", "lives_in", turn=5)
    assert (len(kept), now.id, now.value, now.turns_seen, now.first_seen) == (1, "f1", "Berlin", 1, 5)
    assert now.superseded == ({"value": "Paris", "fact_text": "Tom lives in Paris", "first_seen": 1, "last_seen": 2,
                               "turns_seen": 2},)  # fmt: skip
    back = tell(kept, "Tom", "Paris", "lives in", turn=6)
    assert [old["value"] for old in back.superseded] == ["Paris", "Berlin"]


def test_relations_with_several_values_keep_them_all():
    kept = memory()
    for value in ("tea", "cake"):
        tell(kept, "Tom", value, "likes")
    assert [f.value for f in kept.find("TOM", "likes")] == ["tea", "cake"]
    assert kept.contradicted(info("Tom", "beer", "likes")) is None
    assert kept.find("", "likes") == []


def test_an_exclusive_statement_takes_the_place_of_the_old_one():
    kept = memory()
    tell(kept, "Tom", "red", "votes for")
    found = info("Tom", "blue", "votes for", exclusive=True)
    assert kept.store(found.text, found, 1).superseded[0]["value"] == "red"


def test_one_value_with_other_particles_is_two_facts():
    kept = memory()
    for particle in ("afraid of", "fond of"):
        found = info("Tom", "dogs", "is", text=f"Tom is {particle} dogs", particle=particle)
        kept.store(found.text, found, 0)
    assert [f.particle for f in kept.find("Tom", "is")] == ["afraid of", "fond of"]


def test_patterns_say_which_relations_have_one_value():
    names = functional_relations([{"relation": "votes_for", "exclusive": True}, {"relation": "lives in", "exclusive": False},
                                  {"relation": "owns"}])  # fmt: skip
    assert "votes for" in names
    assert "lives in" not in names
    assert "owns" not in names
    kept = FactMemory(FactMemorySettings(), names)
    tell(kept, "Tom", "red", "votes for")
    assert tell(kept, "Tom", "blue", "votes for").superseded[0]["value"] == "red"


def test_an_unknown_id_is_an_error_that_lists_the_known():
    kept = memory()
    tell(kept, "Ann")
    with pytest.raises(ConfigError, match="no fact 'f9'; known: f1"):
        kept.remove("f9")


def test_remove_leaves_nothing_of_a_fact_nor_of_its_history():
    kept = memory()
    tell(kept, "Zebulon", "Quito", "lives in")
    tell(kept, "Zebulon", "Lima", "lives in", turn=1)
    tell(kept, "Ann", turn=2)
    kept.remove("f1")
    left = json.dumps(kept.state_dict())
    assert not any(word in left for word in ("Zebulon", "Quito", "Lima", "f1"))
    assert "Ann" in left


# what it is worth


@pytest.mark.parametrize(
    ("method", "expected"),
    [("repetition", 1 + 0.5 * 2), ("recency", 1 + 0.5 * 0.75), ("hybrid", 1 + 0.5 * 2 + 0.5 * 0.75)],
)
def test_importance_by_hand(method, expected):
    """Told three times, last 10 turns ago, where 40 turns are old: 1 + 0.5·(3 − 1), 1 + 0.5·(1 − 10/40), and both."""
    kept = memory({"method": method, "recency_turns": 40})
    for turn in (0, 4, 8):
        tell(kept, "Tom", turn=turn)
    kept.advance(18)
    assert kept.get("f1").importance == pytest.approx(expected)


def test_a_thousand_repetitions_cannot_raise_importance_past_its_cap():
    kept = memory({"max_importance": 3.0})
    assert max(tell(kept, "Tom", turn=turn).importance for turn in range(1000)) == 3.0
    assert kept.get("f1").turns_seen == 1000
    assert kept.relative_importance(kept.get("f1")) == 1.0


def test_decay_by_hand():
    """base 1, nothing else counts; unseen for 3 turns past the first 5, at 10 % a turn: 0.9³."""
    kept = memory({"method": "repetition"}, {"turns": 5, "rate": 0.1})
    tell(kept, "Tom", turn=2)
    kept.advance(7)
    assert kept.get("f1").importance == 1.0
    kept.advance(10)
    assert kept.get("f1").importance == pytest.approx(0.9**3)
    assert tell(kept, "Tom", turn=11).importance == pytest.approx(1.5)


def test_time_counts_not_how_often_it_is_asked_for():
    once, often = (memory(decay={"turns": 3, "removes": True}) for _ in range(2))
    for kept in (once, often):
        tell(kept, "Tom", turn=1)
    for turn in range(1, 80):
        often.advance(turn)
    assert [tell(kept, "Tom", turn=80).id for kept in (once, often)] == ["f2", "f2"]  # the first had faded and gone
    assert once.state_dict() == often.state_dict()


@pytest.mark.parametrize("removes", [False, True])
def test_a_faded_fact_is_not_replayed_and_goes_where_decay_removes(removes):
    kept = memory({"method": "repetition"}, {"turns": 6, "rate": 0.5, "threshold": 0.1, "removes": removes})
    tell(kept, "Tom", turn=0)
    tell(kept, "Ann", turn=9)
    gone = kept.advance(10)  # 0.5³ at turn 9, 0.5⁴ < 0.1 now
    assert [f.subject for f in kept.get_facts_for_replay()] == ["Ann"]
    assert [f.subject for f in kept.sample(9, random.Random(0))] == ["Ann"]
    assert [f.id for f in gone] == (["f1"] if removes else [])
    assert len(kept) == (1 if removes else 2)


# who goes


def three(policy, **scoring):
    """f1: oldest, told last, twice. f2: told least lately, four times. f3: newest, once."""
    kept = memory({"method": "repetition", **scoring}, eviction_policy=policy, max_facts=3)
    tell(kept, "Ann", turn=0)
    for turn in (1, 1, 1, 1):
        tell(kept, "Bob", turn=turn)
    tell(kept, "Cid", turn=2)
    tell(kept, "Ann", turn=3)
    return kept


@pytest.mark.parametrize(("policy", "gone"), [("fifo", "f1"), ("lru", "f2"), ("importance", "f3"), ("hybrid", "f3")])
def test_each_policy_gives_up_the_fact_that_its_law_names(policy, gone):
    """hybrid, by hand: places by last_seen are f2 0, f3 1, f1 2; by importance f3 0, f1 1, f2 2; sums 3, 2, 1 for f1, f2, f3."""
    kept = three(policy)
    before = {f.id for f in kept.facts}
    tell(kept, "Dan", turn=4)
    assert before - {f.id for f in kept.facts} == {gone}
    assert len(kept) == 3


def test_equal_values_share_a_place_in_the_hybrid_order():
    """Places by last_seen f1 0, f2 and f3 1; by importance f2 and f3 0, f1 2; sums 2, 1, 1, and f2 has the smaller number."""
    kept = memory({"method": "repetition"})
    for subject, turn in (("Ann", 0), ("Ann", 0), ("Ann", 0), ("Bob", 1), ("Cid", 1)):
        tell(kept, subject, turn=turn)
    assert first_to_go(kept.facts, 1, kept.settings).id == "f2"


def test_the_new_fact_itself_is_not_evicted():
    kept = memory({"method": "repetition"}, eviction_policy="importance", max_facts=1)
    for turn in range(5):
        tell(kept, "Ann", turn=turn)
    tell(kept, "Bob", turn=5)
    assert [f.subject for f in kept.facts] == ["Bob"]


def test_ties_go_to_the_smaller_number_not_the_smaller_text():
    kept = memory(max_facts=50)
    for number in range(1, 13):
        tell(kept, f"Name{number}", turn=0)
    assert first_to_go(kept.facts[1:], 0, kept.settings).id == "f2"  # not f10


# what is trained again


def test_replay_is_due_every_interval_and_only_with_facts():
    kept = memory(replay_interval=10)
    assert not kept.should_replay(10)
    tell(kept, "Ann", turn=1)
    assert [turn for turn in range(31) if kept.should_replay(turn)] == [10, 20, 30]


def test_replay_order_is_importance_then_recency_then_id():
    kept = memory({"method": "repetition"})
    for subject, turn in (("Ann", 0), ("Bob", 0), ("Cid", 5), ("Dan", 1), ("Dan", 2)):
        tell(kept, subject, turn=turn)
    assert [f.subject for f in kept.get_facts_for_replay()] == ["Dan", "Cid", "Ann", "Bob"]
    assert [f.subject for f in kept.get_facts_for_replay(2)] == ["Dan", "Cid"]
    assert kept.get_facts_for_replay(0) == []


def test_asking_whether_replay_is_due_lets_time_pass():
    kept = memory({"method": "repetition"}, {"turns": 5, "rate": 0.5}, replay_interval=5)
    tell(kept, "Tom", turn=0)
    assert [turn for turn in range(31) if kept.should_replay(turn)] == [5]
    assert kept.get_facts_for_replay() == []


def test_a_disabled_memory_keeps_facts_and_replays_none():
    kept = memory(enabled=False)
    tell(kept, "Ann", turn=0)
    assert len(kept) == 1
    assert not kept.should_replay(10)
    assert kept.get_facts_for_replay() == kept.sample(3, random.Random(0)) == []


def test_first_draws_follow_importance():
    """Importance 1, 2 and 3: the first of a draw is each in 1/6, 2/6 and 3/6 of 6,000 draws, within four standard errors."""
    kept = memory({"method": "repetition", "repetition_weight": 1.0, "max_importance": 9.0})
    for subject, times in (("Ann", 1), ("Bob", 2), ("Cid", 3)):
        for _ in range(times):
            tell(kept, subject)
    rng = random.Random(1)
    first = Counter(kept.sample(2, rng)[0].subject for _ in range(6000))
    for subject, weight in (("Ann", 1), ("Bob", 2), ("Cid", 3)):
        p = weight / 6
        assert first[subject] / 6000 == pytest.approx(p, abs=4 * (p * (1 - p) / 6000) ** 0.5)


def test_a_draw_repeats_nothing_leaves_out_what_it_shall_and_is_the_same_for_the_same_seed():
    kept = memory()
    for number in range(6):
        tell(kept, f"Name{number}")
    drawn = [f.id for f in kept.sample(4, random.Random(3), exclude=["f2"])]
    assert len(set(drawn)) == 4
    assert "f2" not in drawn
    assert drawn == [f.id for f in kept.sample(4, random.Random(3), exclude=["f2"])]
    assert len(kept.sample(99, random.Random(3))) == 6


def test_facts_without_importance_are_drawn_last():
    kept = memory({"method": "repetition", "base_importance": 0.0}, {"threshold": 0.0})
    for subject in ("Ann", "Bob", "Cid", "Cid"):
        tell(kept, subject)
    assert [f.subject for f in kept.sample(3, random.Random(0))] == ["Cid", "Ann", "Bob"]


# the state


def test_state_is_plain_json_and_byte_equal_after_a_round_trip():
    kept = memory()
    tell(kept, "Tom", "Paris", "lives in", turn=1)
    tell(kept, "Tom", "Berlin", "lives in", turn=2)
    tell(kept, "Zoë", "crêpes", turn=140)
    written = json.dumps(kept.state_dict())
    read = memory()
    read.load_state_dict(json.loads(written))
    assert json.dumps(read.state_dict()) == written
    assert read.facts == kept.facts
    assert tell(read, "Ann", turn=141).id == tell(kept, "Ann", turn=141).id == "f3"


@pytest.mark.parametrize("broken", [{}, {"turn": 1, "next": 2, "facts": [{"id": "f1"}]},
                                    {"turn": 1, "next": 2, "facts": [{"id": "x", "fact_text": "", "entities": [],
                                                                      "superseded": []}]}])  # fmt: skip
def test_a_broken_state_is_refused_and_changes_nothing(broken):
    kept = memory()
    tell(kept, "Ann")
    before = kept.state_dict()
    with pytest.raises(CheckpointError, match="fact memory in this state is broken"):
        kept.load_state_dict(broken)
    assert kept.state_dict() == before
