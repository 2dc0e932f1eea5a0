"""Batches are pure functions, splits are swept once, and a broken corpus says how to mend it."""

import json
import shlex
from dataclasses import replace

import numpy as np
import pytest
import torch
from conftest import write_corpus

from ockham import corpus as corpus_module
from ockham import data
from ockham.corpus import Recipe
from ockham.data import BatchSource, TokenFile, mix, open_corpus, sweep
from ockham.errors import CorpusError

U16 = np.dtype("<u2")


def test_rows_do_not_depend_on_how_ranks_share_them(corpus):
    file = open_corpus(corpus).train
    whole = BatchSource(file, 8, 16, seed=3)
    parts = [BatchSource(file, 4, 16, seed=3, rank=r) for r in (0, 1)]
    for step, micro in ((0, 0), (5, 2)):
        together = torch.cat([p.batch(step, micro)[0] for p in parts])
        assert torch.equal(whole.batch(step, micro)[0], together)


def test_batches_are_pure_and_differ_by_seed_step_and_micro_step(corpus):
    source = BatchSource(open_corpus(corpus).train, 8, 16, seed=3)
    first = source.starts(7, 1)
    torch.rand(5), np.random.rand(5)
    assert np.array_equal(first, source.starts(7, 1))
    for other in (source.starts(8, 1), source.starts(7, 2), replace(source, seed=4).starts(7, 1)):
        assert not np.array_equal(first, other)


def test_targets_are_inputs_shifted_by_one(corpus):
    x, y = BatchSource(open_corpus(corpus).train, 4, 16, seed=0).batch(0)
    assert torch.equal(x[:, 1:], y[:, :-1])
    assert x.shape == (4, 16)


def test_starts_are_uniform_over_all_windows(corpus):
    file = open_corpus(corpus).train
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
    file = open_corpus(corpus).val
    seen = [w for rank in range(world) for w in sweep(file, 16, 7, rank=rank, world=world)]
    targets = torch.cat([w[:, 1:].flatten() for w in seen])
    assert len(targets) == file.tokens - 1
    assert torch.equal(targets.sort().values, torch.from_numpy(file.array()[1:].astype(np.int64)).sort().values)


def test_capped_sweep_is_a_fixed_spread_subset(corpus):
    file = open_corpus(corpus).train
    first, again = (torch.cat(list(sweep(file, 16, 7, max_tokens=320))) for _ in range(2))
    assert torch.equal(first, again)
    assert first[:, 1:].numel() == 320


def test_mapped_file_gives_the_same_windows_as_a_held_one(corpus):
    file = open_corpus(corpus).train
    starts = np.array([0, 5, 99])
    assert torch.equal(file.windows(starts, 17), replace(file, held=None).windows(starts, 17))


def test_missing_corpus_names_the_script(root):
    with pytest.raises(CorpusError, match=r"python data/openwebtext/prepare\.py"):
        open_corpus(root / "data" / "openwebtext")


def test_unknown_corpus_lists_the_known(root):
    with pytest.raises(CorpusError, match=r"fables.*tinystories.*python data/text/prepare\.py"):
        open_corpus(root / "data" / "nothing_here")


def test_a_mistyped_corpus_gets_the_nearest_one(root):
    with pytest.raises(CorpusError, match=r"'shakespear_char' \(did you mean shakespeare_char\?\).*--name shakespear_char"):
        open_corpus(root / "data" / "shakespear_char")


def test_a_folder_of_corpora_is_no_corpus(corpus):
    with pytest.raises(CorpusError, match=r"data is no corpus but holds corpora: name one of them"):
        open_corpus(corpus.parent)


def test_an_absent_corpus_says_what_its_folder_has(tmp_path, corpus):
    with pytest.raises(CorpusError, match=rf"'fables'; {corpus.parent} has tiny; run: python data/fables/prepare\.py --out"):
        open_corpus(corpus.parent / "fables")
    (tmp_path / "empty").mkdir()
    with pytest.raises(CorpusError, match=r"empty holds no corpora; your own text: .* --source FILE --out \S*/empty/x"):
        open_corpus(tmp_path / "empty" / "x")
    with pytest.raises(CorpusError, match=rf"there is no {tmp_path}/gone;"):
        open_corpus(tmp_path / "gone" / "x")


def prepared(folder, *options, recipe="text"):
    """A corpus made by a recipe from a file of its own, as `folder`."""
    source = folder.parent / "my source.txt"
    source.parent.mkdir(parents=True, exist_ok=True)
    source.write_text("abcdefghij" * 1000)
    where = ["--source", str(source), "--out", str(folder)]
    assert corpus_module.main(Recipe(name=recipe, about="", tokenizers=("char",)), [*where, *options]) == 0
    return folder


@pytest.mark.parametrize(
    ("harm", "says"),
    [
        (lambda path: path.write_bytes(path.read_bytes()[:-1]), "it is torn"),
        (lambda path: path.write_bytes(b"\xff" * 4000), "holds token 65535, but the vocabulary has 10"),
        (lambda path: path.write_bytes(b""), "train.bin is empty"),
    ],
)
def test_a_broken_corpus_of_ones_own_says_the_very_command_that_mends_it(tmp_path, capsys, harm, says):
    folder = prepared(tmp_path / "my", "--limit=9000", "--val_fraction=0.2")
    whole = (folder / "train.bin").read_bytes()
    harm(folder / "train.bin")
    with pytest.raises(CorpusError, match=says) as caught:
        open_corpus(folder)
    python, script, *arguments = shlex.split(str(caught.value).partition("; run: ")[2])
    assert (python, script, arguments[-1]) == ("python", "data/text/prepare.py", "--force")
    assert corpus_module.main(Recipe(name="text", about="", tokenizers=("char",)), arguments) == 0
    assert (folder / "train.bin").read_bytes() == whole
    open_corpus(folder)


def test_a_corpus_below_data_is_mended_under_its_name(tmp_path, monkeypatch):
    folder = prepared(tmp_path / "data" / "my", recipe="tinystories")
    monkeypatch.setattr(data, "DATA", tmp_path / "data")
    (folder / "val.bin").unlink()
    with pytest.raises(CorpusError, match=r"is missing; run: python data/tinystories/prepare\.py .* --name my .*--force$"):
        open_corpus(folder)


def test_a_recipes_own_corpus_is_mended_where_it_stands(tmp_path):
    folder = write_corpus(tmp_path / "fables")
    (folder / "prepare.py").touch()
    (folder / "train.bin").write_bytes(b"")
    with pytest.raises(CorpusError, match=r"train\.bin is empty; run: python data/fables/prepare\.py --force$"):
        open_corpus(folder)


def test_odd_length_is_torn(corpus):
    with open(corpus / "train.bin", "ab") as file:
        file.write(b"\0")
    with pytest.raises(CorpusError, match="not a whole number"):
        open_corpus(corpus)


def test_split_shorter_than_a_block_is_named(corpus):
    with pytest.raises(CorpusError, match=r"val\.bin has 400 tokens, fewer than block_size \+ 1 = 513; lower --block_size"):
        open_corpus(corpus).check_length(512)


def test_token_outside_the_vocabulary_is_named(corpus):
    np.array([20] * 100, dtype="<u2").tofile(corpus / "val.bin")
    with pytest.raises(CorpusError, match="token 20, but the vocabulary has 20"):
        open_corpus(corpus)


def test_corpus_without_meta_is_gpt2(tmp_path):
    folder = write_corpus(tmp_path / "bare")
    (folder / "meta.json").unlink()
    assert open_corpus(folder).vocab_size == 50_257


def test_uint32_files_are_read_by_their_recorded_type(tmp_path):
    folder = write_corpus(tmp_path / "wide")
    for name in ("train.bin", "val.bin"):
        np.fromfile(folder / name, "<u2").astype("<u4").tofile(folder / name)
    meta = json.loads((folder / "meta.json").read_text())
    (folder / "meta.json").write_text(json.dumps({**meta, "dtype": "uint32"}))
    assert open_corpus(folder).train.tokens == 3600


def test_missing_split_is_an_error(tmp_path):
    with pytest.raises(CorpusError, match="is missing"):
        TokenFile.open(tmp_path / "train.bin", U16)
