"""Tokenizers: each decodes what it encoded, streams whole characters, and is loaded from data without running any of it."""

from __future__ import annotations

import builtins
import json
import pickle
from pathlib import Path

import numpy as np
import pytest

from ockham.errors import CorpusError
from ockham.tokenizer import CharTokenizer, GPT2Tokenizer, load_tokenizer, read_meta

CACHE = Path(__file__).resolve().parents[2] / "shared" / "data" / "tiktoken_cache"


@pytest.fixture
def gpt2(monkeypatch):
    pytest.importorskip("tiktoken", reason="tiktoken is not installed")
    if not CACHE.is_dir():
        pytest.skip(f"no GPT-2 merges at {CACHE}")
    monkeypatch.setenv("TIKTOKEN_CACHE_DIR", str(CACHE))
    return GPT2Tokenizer()


def test_characters_take_their_place_in_the_vocabulary_as_id():
    tokenizer = CharTokenizer(["\n", "a", "é", "😀"])
    assert tokenizer.vocab_size == 4
    assert tokenizer.encode("😀a\né").tolist() == [3, 1, 0, 2]
    assert tokenizer.encode("").tolist() == []
    assert tokenizer.decode(np.array([3, 1, 0, 2])) == "😀a\né"


def test_unknown_characters_are_left_out_and_counted():
    tokenizer = CharTokenizer(["a", "b"])
    assert tokenizer.encode("a?b😀?Z").tolist() == [0, 1]
    assert tokenizer.unknown("a?b😀?Z") == {"?": 2, "😀": 1, "Z": 1}


def test_strict_encoding_names_the_unknown_character():
    with pytest.raises(CorpusError, match=r"'é' \(U\+00E9\) is not in the vocabulary of 2 characters"):
        CharTokenizer(["a", "b"]).encode("abé?", strict=True)


def test_decoding_an_id_outside_the_vocabulary_is_an_error():
    for token in (-1, 2):
        with pytest.raises(CorpusError, match="outside the vocabulary of 2"):
            CharTokenizer(["a", "b"]).decode([0, token])


@pytest.mark.parametrize("itos", [[], ["a", "a"], ["ab"], ["a", 1], [""]])
def test_a_vocabulary_is_distinct_single_characters(itos):
    with pytest.raises(CorpusError, match="distinct single characters"):
        CharTokenizer(itos)


def test_gpt2_ids_are_the_published_ones(gpt2):
    assert gpt2.vocab_size == 50257
    assert gpt2.encode("hello world").tolist() == [31373, 995]
    assert gpt2.encode("hello <|endoftext|>").tolist() == [31373, 220, 50256]
    assert 50256 not in gpt2.encode_many(["a corpus may say <|endoftext|>"])[0]


def test_gpt2_streams_a_character_only_when_its_bytes_are_complete(gpt2):
    text = "naïve 😀 日本"
    ids = gpt2.encode(text)
    stream = gpt2.stream_decoder()
    parts = [stream(int(i)) for i in ids]
    assert "".join(parts) == text == gpt2.decode(ids)
    assert "" in parts
    assert not any("\ufffd" in part for part in parts)
    assert gpt2.decode_bytes(ids) == text.encode()


def test_gpt2_shows_an_id_of_a_padded_vocabulary_as_a_replacement_character(gpt2):
    assert gpt2.decode([31373, 50300]) == "hello\ufffd"


def test_gpt2_without_tiktoken_names_the_extra(monkeypatch):
    real_import = builtins.__import__

    def without_tiktoken(name, *args, **kwargs):
        if name == "tiktoken":
            raise ImportError(name)
        return real_import(name, *args, **kwargs)

    monkeypatch.setattr(builtins, "__import__", without_tiktoken)
    with pytest.raises(CorpusError, match=r"pip install -e \.\[data\]"):
        GPT2Tokenizer()


def write_pickle(folder: Path, value: object) -> None:
    (folder / "meta.pkl").write_bytes(pickle.dumps(value))


def test_meta_json_wins_over_meta_pkl(tmp_path):
    (tmp_path / "meta.json").write_text(json.dumps({"tokenizer": {"type": "char", "vocab": ["x", "y"]}}))
    write_pickle(tmp_path, {"itos": {0: "p"}})
    assert load_tokenizer(tmp_path).decode([1, 0]) == "yx"


def test_a_lone_nanogpt_meta_pkl_is_read(tmp_path):
    write_pickle(tmp_path, {"vocab_size": 3, "itos": {0: "\n", 1: "a", 2: "b"}, "stoi": {"\n": 0, "a": 1, "b": 2}})
    assert load_tokenizer(tmp_path).encode("ab\n").tolist() == [1, 2, 0]


def test_a_folder_without_meta_has_no_tokenizer(tmp_path):
    assert load_tokenizer(tmp_path) is None
    assert read_meta(tmp_path) == {}


class Touch:
    """Pickles into a call that writes a file."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self):
        return (Path.touch, (self.path,))


def test_a_pickle_that_calls_something_is_refused_before_it_runs(tmp_path):
    victim = tmp_path / "victim"
    write_pickle(tmp_path, {"itos": {0: Touch(victim)}})
    with pytest.raises(CorpusError, match=r"meta\.pkl: meta\.pkl asks for .*; only plain"):
        load_tokenizer(tmp_path)
    assert not victim.exists()
    pickle.loads((tmp_path / "meta.pkl").read_bytes())  # the witness: an ordinary unpickler would have run it
    assert victim.exists()


@pytest.mark.parametrize("data", [b"", b"not a pickle", *map(pickle.dumps, ({"itos": "ab"}, {"itos": {1: "a"}}, [1]))])
def test_a_broken_meta_pkl_is_one_clear_error(tmp_path, data):
    (tmp_path / "meta.pkl").write_bytes(data)
    with pytest.raises(CorpusError, match=r"meta\.pkl"):
        load_tokenizer(tmp_path)


@pytest.mark.parametrize("text", ["{", "[1]", '{"tokenizer": {"type": "word"}}', '{"tokenizer": {"type": "char"}}', '{"a": 1}'])
def test_a_broken_meta_json_is_one_clear_error(tmp_path, text):
    (tmp_path / "meta.json").write_text(text)
    with pytest.raises(CorpusError, match=r"meta\.json"):
        load_tokenizer(tmp_path)
