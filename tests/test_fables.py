"""Fables: the text gives back its derivation, so the floor is exact; answers follow from the stories."""

from __future__ import annotations

import hashlib
import json
import math
import random
import re
import subprocess
import sys
from collections import Counter
from pathlib import Path

import numpy as np
import pytest

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "data" / "fables"))

import grammar
from teller import Mismatch, Reader, Teller, Writer, require_prefix_free

ROOT = Path(__file__).resolve().parents[1]
SHAKESPEARE = set("\n !$&',-.3:;?ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz")


def tiny(t: Teller) -> None:
    """'I see a cat.' and so on: 3 animals, each with one of two endings."""
    t.say("I see a ")
    t.choose(["cat", "cow", "dog"], [2.0, 1.0, 1.0])
    if t.choose([".", ", and it is red."], [3.0, 1.0]) == ".":
        t.say("\n")


def read(program, text: str) -> Reader:
    reader = Reader(text)
    program(reader)
    assert reader.at == len(text)
    return reader


def written(program, seed: int) -> tuple[str, float]:
    writer = Writer(random.Random(seed))
    program(writer)
    return "".join(writer.told), writer.nats


def test_a_text_costs_what_hand_work_says():
    reader = read(tiny, "I see a cow.\n")
    assert reader.nats == pytest.approx(math.log(4) + math.log(4 / 3))
    by_char = dict(enumerate(reader.costs))
    assert by_char.pop(8) == pytest.approx(math.log(4 / 3))  # 'c': cat or cow, 3 of 4
    assert by_char.pop(9) == pytest.approx(math.log(3))  # 'o': cow, 1 of the remaining 3
    assert by_char.pop(11) == pytest.approx(math.log(4 / 3))  # '.': the sentence ends here, 3 of 4
    assert set(by_char.values()) == {0.0}


def test_the_probabilities_of_all_texts_sum_to_one():
    texts = {written(tiny, seed)[0] for seed in range(200)}
    assert len(texts) == 6
    assert math.fsum(math.exp(-read(tiny, text).nats) for text in texts) == pytest.approx(1, abs=1e-12)


def test_texts_come_as_often_as_their_probability_says():
    counts = Counter(written(tiny, seed)[0] for seed in range(4000))
    for text, count in counts.items():
        p = math.exp(-read(tiny, text).nats)
        assert abs(count / 4000 - p) < 4 * math.sqrt(p * (1 - p) / 4000)


def test_a_choice_that_could_not_be_read_back_is_refused():
    require_prefix_free(("ab", "ac", "b"))
    for options in (("ab", "abc"), ("x", "ab", "x"), ("", "a")):
        with pytest.raises(ValueError, match="is the beginning of"):
            require_prefix_free(options)


def test_a_text_outside_the_grammar_is_no_match():
    for text in ("I see a pig.\n", "I saw a cat.\n", "I see a cat."):
        with pytest.raises(Mismatch, match="at character"):
            read(tiny, text)


@pytest.fixture(scope="module")
def split() -> tuple[str, list]:
    return grammar.generate(150_000, random.Random(7))


@pytest.mark.parametrize("band", grammar.BANDS)
def test_parsing_every_document_gives_back_its_cost(band):
    program, rng = grammar.BANDS[band].program, random.Random(11)
    for _ in range(150):
        writer = Writer(rng)
        program(writer)
        reader = read(program, "".join(writer.told))
        assert reader.nats == pytest.approx(writer.nats, abs=1e-9)
        assert math.fsum(reader.costs) == pytest.approx(writer.nats, abs=1e-9)
        assert reader.told == writer.told


def test_section_costs_are_those_of_their_text(split):
    text, sections = split
    assert [s.start for s in sections] == [0, *(s.end for s in sections[:-1])]
    assert sections[-1].end == len(text)
    for s in sections:
        assert grammar.score(text[s.start : s.end], s.band) == pytest.approx(s.nats, abs=1e-6)


def test_bands_rise_from_easy_to_noise(split):
    rates = [s.nats / (s.end - s.start) for s in split[1]]
    assert [s.band for s in split[1]] == ["easy", "medium", "hard", "noise"]
    assert rates == sorted(rates)
    assert rates[0] < 0.08
    assert rates[3] > 2.9


def test_noise_costs_its_closed_form_entropy(split):
    """A letter costs ln 26; after each letter the word ends (p = .2) or not: H = H(.2); a word has 5 letters on average."""
    end = -0.2 * math.log(0.2) - 0.8 * math.log(0.8)
    per_word = 5 * math.log(26) + 5 * end  # nats
    exact = 24 * per_word / (24 * 6 + 1)  # 24 words of 6 characters with their space, and an empty line
    s = split[1][3]
    assert s.nats / (s.end - s.start) == pytest.approx(exact, rel=0.01)


def test_a_reader_finds_every_answer_free_of_cost(split):
    text, sections = split
    for s in sections[:3]:
        part = text[s.start : s.end]
        costs = np.array(grammar.costs(part, s.band))
        answers = list(re.finditer(r"^A: .*\n", part, flags=re.MULTILINE))
        assert len(answers) > 100
        assert all(costs[m.start() : m.end()].sum() == 0 for m in answers)


def replay(story: str) -> dict[str, str]:
    """Answers of a hard story, found by reading its sentences with nothing but regular expressions."""
    owner = {item: name for name, item in re.findall(r"named (\w+) owned a (\w+ \w+)\.", story)}
    holder = dict(owner)
    moves = r"(\w+) (gave|lent|traded) the (\w+ \w+) (?:(back) )?(?:to (\w+)|for the (\w+ \w+) of (\w+))\."
    for who, deed, item, _, to, theirs, other in re.findall(moves, story):
        assert holder[item] == who
        if deed == "traded":
            owner |= {item: other, theirs: who}
            holder |= {item: other, theirs: who}
        else:
            holder[item] = to
            owner[item] = owner[item] if deed == "lent" else to
    answers = {f"Who has the {item}?": f"{name} has the {item}." for item, name in holder.items()}
    answers |= {f"Who owns the {item}?": f"{name} owns the {item}." for item, name in owner.items()}
    for kind, name in re.findall(r"A \w+ (\w+) named (\w+) owned", story):
        answers |= {f"What is {name}?": f"{name} is a {kind}.", f"Who is the {kind}?": f"{name} is the {kind}."}
    return answers


def test_answers_of_hard_stories_are_true(split):
    text, sections = split
    documents = text[sections[2].start : sections[2].end].strip().split("\n\n")
    lent = 0
    for document in documents:
        answers = replay(document)
        asked = re.findall(r"Q: (.*)\nA: (.*)", document)
        assert len(asked) == 2
        assert all(answers[question] == answer for question, answer in asked)
        lent += any(answers[q].split()[0] != answers[q.replace("owns", "has")].split()[0] for q, _ in asked if "owns" in q)
    assert lent > 5  # owning and having do come apart


def test_the_alphabet_is_part_of_shakespeares(split):
    assert set(split[0]) <= SHAKESPEARE


def prepare(folder: Path, *args: str) -> subprocess.CompletedProcess:
    command = [sys.executable, str(ROOT / "data" / "fables" / "prepare.py"), "--out", str(folder), *args]
    return subprocess.run(command, capture_output=True, text=True, cwd=folder.parent, check=False)


def test_meta_states_the_floor_of_this_very_val_split(tmp_path):
    out = tmp_path / "fables"
    assert prepare(out).returncode == 0
    meta = json.loads((out / "meta.json").read_text())
    vocab, ids = meta["tokenizer"]["vocab"], np.fromfile(out / "val.bin", "<u2")
    text = "".join(vocab[i] for i in ids)
    val = [row for row in meta["bands"] if row[1] == "val"]
    total = math.fsum(grammar.score(text[start:end], band) for band, _, start, end, _ in val)
    assert meta["floor"] == pytest.approx(total / len(text), abs=1e-12)
    assert val[-1][3] == len(text) == meta["tokens"]["val"]
    assert 1_190_000 < sum(meta["tokens"].values()) < 1_210_000
    assert hashlib.sha256((out / "val.bin").read_bytes()).hexdigest() == meta["sha256"]["val.bin"]
    # the same stories on every machine and Python
    assert hashlib.sha256(text.encode()).hexdigest() == "ffe394397ad2918b0c43fe2347194cc941348fa9a66596892d56c814d7294d02"


def test_a_second_run_is_a_no_op_and_another_seed_is_refused(tmp_path):
    out = tmp_path / "fables"
    assert prepare(out, "--size", "20000").returncode == 0
    before = (out / "train.bin").stat().st_mtime_ns
    assert "nothing to do" in prepare(out, "--size", "20000").stdout
    refused = prepare(out, "--size", "20000", "--seed", "2")
    assert refused.returncode == 2
    assert "seed=1337" in refused.stderr
    assert (out / "train.bin").stat().st_mtime_ns == before


def test_a_vocabulary_that_lacks_characters_leaves_the_floor_out(tmp_path):
    corpus = tmp_path / "letters"
    corpus.mkdir()
    (corpus / "meta.json").write_text(json.dumps({"tokenizer": {"type": "char", "vocab": list("\n abcdefgh")}}))
    assert prepare(tmp_path / "out", "--size", "20000", "--vocab", str(corpus)).returncode == 0
    meta = json.loads((tmp_path / "out" / "meta.json").read_text())
    assert meta["floor"] is None
    assert meta["dropped"]["total"] > 1000
    assert meta["vocab_size"] == 10
