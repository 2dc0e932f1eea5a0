"""Batches are pure functions, splits are swept once, and a broken corpus says how to mend it."""

import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from conftest import write_corpus

from ockham.data import BatchSource, TokenFile, mix, open_corpus, sweep
from ockham.errors import CorpusError

U16 = np.dtype("<u2")


def test_rows_do_not_depend_on_how_ranks_share_them(corpus):
    file = open_corpus(corpus, 16).train
    whole = BatchSource(file, 8, 16, seed=3)
    parts = [BatchSource(file, 4, 16, seed=3, rank=r) for r in (0, 1)]
    for step, micro in ((0, 0), (5, 2)):
        together = torch.cat([p.batch(step, micro)[0] for p in parts])
        assert torch.equal(whole.batch(step, micro)[0], together)


def test_batches_are_pure_and_differ_by_seed_step_and_micro_step(corpus):
    source = BatchSource(open_corpus(corpus, 16).train, 8, 16, seed=3)
    first = source.starts(7, 1)
    torch.rand(5), np.random.rand(5)
    assert np.array_equal(first, source.starts(7, 1))
    for other in (source.starts(8, 1), source.starts(7, 2), replace(source, seed=4).starts(7, 1)):
        assert not np.array_equal(first, other)


def test_targets_are_inputs_shifted_by_one(corpus):
    x, y = BatchSource(open_corpus(corpus, 16).train, 4, 16, seed=0).batch(0)
    assert torch.equal(x[:, 1:], y[:, :-1])
    assert x.shape == (4, 16)


def test_starts_are_uniform_over_all_windows(corpus):
    file = open_corpus(corpus, 16).train
    starts = BatchSource(file, 50_000, 16, seed=0).starts(0, 0)
    assert starts.min() == 0
    assert starts.max() == file.tokens - 17
    counts, _ = np.histogram(starts, bins=20)
    assert abs(counts / 2500 - 1).max() < 0.08  # 4 standard deviations


def test_hash_has_no_collisions_among_neighbours():
    words = mix(1, np.arange(100)[:, None], np.arange(100)[None, :])
    assert len(np.unique(words)) == 10_000


@pytest.mark.parametrize("world", [1, 2, 3])
def test_sweep_predicts_every_token_once(corpus, world):
    file = open_corpus(corpus, 16).val
    seen = [w for rank in range(world) for w in sweep(file, 16, rank=rank, world=world)]
    targets = torch.cat([w[:, 1:].flatten() for w in seen])
    assert len(targets) == file.tokens - 1
    assert torch.equal(targets.sort().values, torch.from_numpy(file.array()[1:].astype(np.int64)).sort().values)


def test_capped_sweep_is_a_fixed_spread_subset(corpus):
    file = open_corpus(corpus, 16).train
    first, again = (torch.cat(list(sweep(file, 16, max_tokens=320))) for _ in range(2))
    assert torch.equal(first, again)
    assert first[:, 1:].numel() == 320


def test_mapped_file_gives_the_same_windows_as_a_held_one(corpus):
    file = open_corpus(corpus, 16).train
    starts = np.array([0, 5, 99])
    assert torch.equal(file.windows(starts, 17), replace(file, held=None).windows(starts, 17))


def test_missing_corpus_names_the_script(root):
    with pytest.raises(CorpusError, match=r"python data/openwebtext/prepare\.py"):
        open_corpus(root / "data" / "openwebtext", 16)


def test_unknown_corpus_lists_the_known(root):
    with pytest.raises(CorpusError, match=r"fables.*tinystories.*python data/text/prepare\.py"):
        open_corpus(root / "data" / "nothing_here", 16)


def test_odd_length_is_torn(corpus):
    with open(corpus / "train.bin", "ab") as file:
        file.write(b"\0")
    with pytest.raises(CorpusError, match="not a whole number"):
        open_corpus(corpus, 16)


def test_split_shorter_than_a_block_is_named(corpus):
    with pytest.raises(CorpusError, match=r"val\.bin has 400 tokens, fewer than block_size \+ 1 = 513; lower --block_size"):
        open_corpus(corpus, 512)


def test_token_outside_the_vocabulary_is_named(corpus):
    np.array([20] * 100, dtype="<u2").tofile(corpus / "val.bin")
    with pytest.raises(CorpusError, match="token 20, but the vocabulary has 20"):
        open_corpus(corpus, 16)


def test_corpus_without_meta_is_gpt2(tmp_path):
    folder = write_corpus(tmp_path / "bare")
    (folder / "meta.json").unlink()
    assert open_corpus(folder, 16).vocab_size == 50_257


def test_uint32_files_are_read_by_their_recorded_type(tmp_path):
    folder = write_corpus(tmp_path / "wide")
    for name in ("train.bin", "val.bin"):
        np.fromfile(folder / name, "<u2").astype("<u4").tofile(folder / name)
    meta = json.loads((folder / "meta.json").read_text())
    (folder / "meta.json").write_text(json.dumps({**meta, "dtype": "uint32"}))
    assert open_corpus(folder, 16).train.tokens == 3600


def test_missing_split_is_an_error(tmp_path):
    with pytest.raises(CorpusError, match="is missing"):
        TokenFile.open(tmp_path / "train.bin", U16, 4)
