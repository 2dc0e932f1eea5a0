"""Byte-pair encoding of one's own: against the library's own file, and as a corpus's tokenizer."""

import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ockham.bpe import BpeTokenizer
from ockham.errors import CorpusError
from ockham.tokenizer import description, load_tokenizer, vocabulary_of

TEXTS = ["User: Who is Tom?\nAssistant: Tom is your friend.\n", "User: Who is Ann?\nAssistant: Ann is your sister.\n"] * 20


@pytest.fixture(scope="module")
def bpe():
    return BpeTokenizer.learn(TEXTS, 300)


@settings(max_examples=60, deadline=None)
@given(text=st.text(max_size=80))
def test_every_text_comes_back(bpe, text):
    clean = text.encode("utf-8", "ignore").decode()
    assert bpe.decode(bpe.encode(clean)) == clean


def test_it_encodes_as_the_library_reads_its_own_file(bpe, tmp_path):
    from tokenizers import Tokenizer, models, pre_tokenizers

    path = tmp_path / "vocab.json", tmp_path / "merges.txt"
    path[0].write_text(json.dumps({token: id for id, token in enumerate(bpe.vocab)}))
    path[1].write_text("\n".join(" ".join(pair) for pair in bpe.merges))
    reference = Tokenizer(models.BPE.from_file(str(path[0]), str(path[1])))
    reference.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    for text in (*TEXTS[:2], "Zoë owns 3 boats — naïve?"):
        assert bpe.encode(text).tolist() == reference.encode(text).ids


def test_frequent_words_are_one_token_and_lengths_add_up(bpe):
    assert len(bpe.encode(" Assistant")) < len(" Assistant")
    assert len(bpe.encode(TEXTS[0])) < len(TEXTS[0]) / 2
    many = bpe.encode_many(TEXTS[:2])
    assert all(np.array_equal(one, bpe.encode(text)) for one, text in zip(many, TEXTS, strict=False))


def test_the_same_texts_give_the_same_vocabulary(bpe):
    again = BpeTokenizer.learn(TEXTS, 300)
    assert (again.vocab, again.merges) == (bpe.vocab, bpe.merges)


def test_a_corpus_folder_gives_it_back_and_names_its_vocabulary(bpe, tmp_path):
    (tmp_path / "meta.json").write_text(json.dumps({"tokenizer": description(bpe)}))
    found = load_tokenizer(tmp_path)
    assert isinstance(found, BpeTokenizer)
    assert (found.vocab, found.merges) == (bpe.vocab, bpe.merges)
    other = tmp_path / "other"
    other.mkdir()
    (other / "meta.json").write_text(json.dumps({"tokenizer": description(BpeTokenizer.learn(TEXTS, 280))}))
    assert vocabulary_of(tmp_path) != vocabulary_of(other)


def test_a_stream_waits_for_the_whole_character(bpe):
    decode, ids = bpe.stream_decoder(), bpe.encode("é")
    assert [decode(int(id)) for id in ids] == [""] * (len(ids) - 1) + ["é"]


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (lambda: BpeTokenizer.learn(TEXTS, 255), "at least 256"),
        (lambda: BpeTokenizer(["a", "b"], [("a", "c")]), "do not fit together"),
    ],
)
def test_what_cannot_be_is_said(make, says):
    with pytest.raises(CorpusError, match=says):
        make()


def test_an_id_outside_is_an_error(bpe):
    with pytest.raises(CorpusError, match="outside the vocabulary"):
        bpe.decode([bpe.vocab_size])
