"""Streams: the same seed gives the same file, batches are what they are said to be, and a run reads them in order."""

from __future__ import annotations

import json
from collections import Counter

import numpy as np
import pytest
import torch

from ockham.data import BatchSource, open_corpus
from ockham.errors import ConfigError, CorpusError
from ockham.experiment.corpora import prepare
from ockham.experiment.scenario import Stream
from ockham.experiment.streams import Batches, kinds_learned, kinds_of, write_stream
from ockham.stream import RowSource, StreamSource, source_of

SIZE = Batches(steps=40, micro_batches=1, batch_size=3, block_size=7)
VOCAB = "abcdefgh"


def corpus_at(folder, tokens, vocab=VOCAB, bands=(), kind="char"):
    """A prepared corpus whose train and val splits are `tokens`."""
    folder.mkdir(parents=True)
    for split in ("train", "val"):
        np.asarray(tokens, dtype="<u2").tofile(folder / f"{split}.bin")
    spec = {"type": "char", "vocab": list(vocab)} if kind == "char" else {"type": "gpt2"}
    size = len(vocab) if kind == "char" else 50_257
    meta = {"tokenizer": spec, "vocab_size": size, "dtype": "uint16", "bands": list(bands), "floor": 0.5, "recipe": "text"}
    (folder / "meta.json").write_text(json.dumps(meta))


@pytest.fixture
def data(tmp_path):
    """A: an endless count to four; B: all tokens are 7; C: the bands low (0, 1) and high (5, 6)."""
    corpus_at(tmp_path / "data" / "a", np.arange(400) % 4)
    corpus_at(tmp_path / "data" / "b", np.full(300, 7))
    halves = np.concatenate([np.arange(200) % 2, 5 + np.arange(200) % 2])
    rows = [[name, split, 200 * i, 200 * i + 200, 0.1] for split in ("train", "val") for i, name in enumerate(("low", "high"))]
    corpus_at(tmp_path / "data" / "c", halves, bands=rows)
    return tmp_path


def written(data, kind, sources=("a",), seed=1, name="stream", size=SIZE, shares=(), **params):
    prepared = prepare(sources, data / "data", data / "out", False)
    prepared.write()
    folder = data / "out" / name
    write_stream(Stream(kind, tuple(sources), params, shares), prepared, size, seed, folder)
    return open_corpus(folder)


def rows_of(corpus, size=SIZE):
    """(steps, rows, block_size + 1)"""
    return corpus.train.array().reshape(size.steps, size.rows, size.block_size + 1)


# what is in the file ----------------------------------------------------------------------------------------------------
def test_a_stream_of_the_same_seed_is_the_same_file_and_of_another_is_not(data):
    one, two, other = (
        written(data, "repeats", seed=seed, name=f"s{i}", share=0.5, pool=3).train.array() for i, seed in enumerate((1, 1, 2))
    )
    assert (one == two).all()
    assert (one != other).any()


def test_a_stream_that_is_there_is_left_as_it_is_and_another_one_replaces_it(data):
    written(data, "noise", share=0.5, burst=5)
    path = data / "out" / "stream" / "train.bin"
    before = path.stat().st_mtime_ns
    written(data, "noise", share=0.5, burst=5)
    assert path.stat().st_mtime_ns == before
    assert written(data, "noise", share=0.25, burst=5).meta["ordered"]["kinds"].count("noise") == 10


def test_rows_are_windows_of_the_source(data):
    for row in rows_of(written(data, "shuffled")).reshape(-1, 8):
        assert (np.diff(row.astype(int)) % 4 == 1).all()  # a count to four goes on


def test_half_of_the_batches_come_from_a_pool_of_so_many(data):
    corpus_at(data / "data" / "random", np.random.default_rng(0).integers(0, 8, 5000))
    corpus = written(data, "repeats", ("random",), share=0.5, pool=3)
    kinds = corpus.meta["ordered"]["kinds"]
    assert Counter(kinds) == {"clean": 20, "repeat": 20}
    batches = [batch.tobytes() for batch in rows_of(corpus)]
    repeated = {batch for batch, kind in zip(batches, kinds, strict=True) if kind == "repeat"}
    fresh = {batch for batch, kind in zip(batches, kinds, strict=True) if kind == "clean"}
    assert (len(repeated), len(fresh), repeated & fresh) == (3, 20, set())


def test_noise_is_uniform_over_the_vocabulary_and_comes_in_bursts(data):
    size = Batches(200, 1, 8, 31)
    corpus = written(data, "noise", ("b",), size=size, share=0.5, burst=20)
    kinds = np.array(corpus.meta["ordered"]["kinds"])
    assert (kinds == "noise").mean() == 0.5
    assert all(len(set(kinds[i : i + 20])) == 1 for i in range(0, 200, 20))
    rows = rows_of(corpus, size)
    assert (rows[kinds == "clean"] == 7).all()
    counts = np.bincount(rows[kinds == "noise"].ravel(), minlength=8)
    from scipy import stats

    assert stats.chisquare(counts).pvalue > 0.001


def test_a_switch_gives_each_source_its_turn_and_a_mixture_each_its_share(data):
    corpus = written(data, "switch", ("a", "b"), every=10)
    kinds = corpus.meta["ordered"]["kinds"]
    assert kinds == ["a"] * 10 + ["b"] * 10 + ["a"] * 10 + ["b"] * 10
    assert [(rows == 7).all() for rows in rows_of(corpus)] == [kind == "b" for kind in kinds]
    mixed = written(data, "mixture", ("a", "b"), name="mixed", shares=(0.75, 0.25)).meta["ordered"]["kinds"]
    assert Counter(mixed) == {"a": 30, "b": 10}
    assert mixed != sorted(mixed)


def test_bands_are_sources_of_their_own(data):
    corpus = written(data, "switch", ("c/low", "c/high"), every=1)
    assert [int(rows.min()) for rows in rows_of(corpus)] == [0, 5] * 20
    assert sorted(set(corpus.val.array().tolist())) == [0, 1, 5, 6]
    with pytest.raises(CorpusError, match=r"no band 'hihg' \(did you mean high\?\)"):
        prepare(["c/hihg"], data / "data", data / "out", False)


def test_the_val_split_is_the_sources_clean_one(data):
    assert (written(data, "noise", share=0.9, burst=2).val.array() == np.arange(400) % 4).all()


def test_what_was_learned_is_counted_by_kind():
    assert kinds_learned(["clean", "noise"], [True, False, False, True, True]) == {"clean": (3, 2), "noise": (2, 1)}


def test_shares_are_met_at_the_edges():
    assert set(kinds_of(Stream("repeats", ("a",), {"share": 1.0, "pool": 2}), 30, 1)) == {"repeat"}
    assert set(kinds_of(Stream("noise", ("a",), {"share": 0.0, "burst": 7}), 30, 1)) == {"clean"}
    assert set(kinds_of(Stream("noise", ("a",), {"share": 1.0, "burst": 7}), 30, 1)) == {"noise"}


# how it is read ---------------------------------------------------------------------------------------------------------
def test_batches_are_read_in_order_and_start_again_at_the_end(data):
    corpus = written(data, "switch", ("a", "b"), every=1)
    source = source_of(corpus, 3, 7, seed=99)
    assert isinstance(source, StreamSource)
    rows = rows_of(corpus)
    for step in (0, 1, 39, 40, 81):
        x, y = source.batch(step)
        assert (torch.cat([x, y[:, -1:]], 1).numpy() == rows[step % 40]).all()


def test_two_ranks_and_two_micro_batches_see_the_rows_that_one_process_sees(data):
    size = Batches(10, 4, 3, 7)
    corpus = written(data, "shuffled", size=size)
    alone = source_of(corpus, 3, 7, 0, 0, world=1)
    whole = alone.global_starts(5, 4, 1)
    assert len(set(whole)) == 12
    assert (whole == np.arange(60, 72) * 8).all()
    ranks = [source_of(corpus, 3, 7, 0, rank, world=2) for rank in (0, 1)]
    parts = np.concatenate([ranks[rank].starts(5, micro) for micro in (0, 1) for rank in (0, 1)])
    assert (parts == whole).all()
    assert (ranks[1].global_starts(5, 2, 2) == whole).all()


def test_a_corpus_that_is_no_stream_is_read_at_random_as_before(data):
    source = source_of(open_corpus(data / "data" / "a"), 3, 7, seed=4)
    assert type(source) is BatchSource
    assert source.batch(0)[0].shape == (3, 7)


@pytest.mark.parametrize(("batch_size", "block_size", "key"), [(4, 7, "--batch_size=3"), (3, 6, "--block_size=7")])
def test_other_batches_than_the_streams_are_refused(data, batch_size, block_size, key):
    with pytest.raises(ConfigError, match=key):
        source_of(written(data, "shuffled"), batch_size, block_size, 0)


def test_more_micro_batches_than_the_streams_are_refused(data):
    with pytest.raises(ConfigError, match="3 rows a step"):
        source_of(written(data, "shuffled"), 3, 7, 0).batch(0, 1)


def test_a_broken_stream_is_told(data):
    corpus = written(data, "shuffled")
    corpus.meta["ordered"] = {"batch_size": 3}
    with pytest.raises(CorpusError, match="ordered must hold"):
        source_of(corpus, 3, 7, 0)


# rows -------------------------------------------------------------------------------------------------------------------
@pytest.fixture
def in_rows(tmp_path):
    """20 rows of 8 tokens; each begins with its own number."""
    rows = np.stack([np.array([20 + i] + [i % 4] * 7) for i in range(20)])
    corpus_at(tmp_path / "rows", rows.ravel(), vocab=[chr(64 + i) for i in range(40)])
    corpus = open_corpus(tmp_path / "rows")
    corpus.meta["row_tokens"] = 8
    return corpus


@pytest.mark.parametrize("block_size", [7, 4])
def test_windows_begin_where_rows_do_and_every_row_comes(in_rows, block_size):
    source = source_of(in_rows, 6, block_size, seed=1)
    assert isinstance(source, RowSource)
    firsts = np.concatenate([source.batch(step)[0][:, 0].numpy() for step in range(40)])
    assert set(firsts) == set(range(20, 40))
    counts = np.bincount(firsts - 20)
    assert counts.max() < 3 * counts.mean()


def test_rows_of_a_rank_are_its_part_of_the_whole_batch(in_rows):
    whole = source_of(in_rows, 4, 7, seed=1).batch(3)[0]
    parts = [source_of(in_rows, 2, 7, seed=1, rank=rank).batch(3)[0] for rank in (0, 1)]
    assert torch.equal(whole, torch.cat(parts))


def test_windows_longer_than_the_rows_are_refused(in_rows):
    with pytest.raises(ConfigError, match="--block_size=7"):
        source_of(in_rows, 6, 8, 0)


@pytest.mark.parametrize("row", [0, 1, "8", True, None, 10_000])
def test_a_broken_length_of_rows_is_told(in_rows, row):
    in_rows.meta["row_tokens"] = row
    with pytest.raises(CorpusError, match="row_tokens must be"):
        source_of(in_rows, 6, 4, 0)
