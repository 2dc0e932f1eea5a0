"""Replay: what is stored, which rows are replayed, and that the model's own text can stand for a corpus that is gone."""

import collections

import numpy as np
import pytest
import torch

from ockham.data import BatchSource, open_corpus
from ockham.distributed import Ranks
from ockham.reference import reference_losses
from ockham.replay_store import Reservoir, generate_windows, kept_array, sample_windows
from ockham.row_source import ReplayedRows

CPU = torch.device("cpu")


def items(n):
    return np.stack([np.zeros(n, dtype=np.int64), np.arange(n)], axis=1)


def one_by_one(capacity, n, seed):
    """Algorithm R, literally."""
    kept, generator = [], np.random.default_rng(seed)
    draws = generator.integers(0, np.arange(capacity + 1, n + 1))
    for i in range(n):
        if i < capacity:
            kept.append(i)
        elif (place := draws[i - capacity]) < capacity:
            kept[place] = i
    return kept


def test_the_reservoir_is_algorithm_r():
    reservoir = Reservoir(5, seed=3)
    reservoir.offer(items(60))
    assert reservoir.items[:, 1].tolist() == one_by_one(5, 60, seed=3)


def test_every_item_is_kept_equally_often():
    counts = collections.Counter()
    for seed in range(2000):
        reservoir = Reservoir(4, seed)
        reservoir.offer(items(6))
        reservoir.offer(items(14)[6:])  # offered in two parts
        counts.update(reservoir.items[:, 1].tolist())
    assert sum(counts.values()) == 8000
    expected = 2000 * 4 / 14
    chi2 = sum((counts[i] - expected) ** 2 / expected for i in range(14))
    assert chi2 < 34.5, "13 degrees of freedom, p = 0.001"


def test_a_store_holds_windows_of_its_corpus(corpus):
    file = open_corpus(corpus).train
    windows = sample_windows([file], 8, 20, seed=1)
    text = file.array().tolist()
    assert windows.shape == (20, 9)
    assert all(any(text[s : s + 9] == row for s in range(len(text))) for row in windows.tolist())


def rows_of(corpus, fraction, rank=0, rows=6):
    source = BatchSource(open_corpus(corpus).train, rows, 8, seed=1, rank=rank)
    return ReplayedRows(source, np.full((5, 9), 3), fraction)


def test_the_batch_does_not_grow_and_the_share_is_met(corpus):
    replaying = rows_of(corpus, 0.3)
    batches = [replaying.batch(step) for step in range(200)]
    assert {tuple(rows.x.shape) for rows in batches} == {(6, 8)}
    counts = [int(rows.replayed.sum()) for rows in batches]
    assert set(counts) <= {1, 2}
    assert sum(counts) / (200 * 6) == pytest.approx(0.3, abs=0.01)
    for rows in batches:
        assert (rows.x[rows.replayed] == 3).all()
        assert (rows.y[rows.replayed] == 3).all()


def test_new_rows_are_those_of_a_run_without_replay(corpus):
    replaying, plain = rows_of(corpus, 0.3).batch(7), rows_of(corpus, 0.0).batch(7)
    assert torch.equal(replaying.x[~replaying.replayed], plain.x[~replaying.replayed])
    assert plain.replayed is None


def test_ranks_share_the_rows_of_one_process(corpus):
    whole = rows_of(corpus, 0.3, rows=6).batch(5)
    halves = [rows_of(corpus, 0.3, rank=rank, rows=3).batch(5) for rank in (0, 1)]
    assert torch.equal(whole.x, torch.cat([half.x for half in halves]))
    assert torch.equal(whole.replayed, torch.cat([half.replayed for half in halves]))


def test_generated_windows_go_on_from_one_another(tiny_model):
    model = tiny_model()
    size = model.config.block_size
    made = [generate_windows(model.generate, 0, size, 300, seed=4, device=CPU) for _ in range(2)]
    assert (made[0] == made[1]).all(), "seeded"
    assert made[0].shape == (300, size + 1)
    assert (made[0][:256, 0] == 0).all()
    quarter = max(1, size // 4)
    assert (made[0][256:, :quarter] == made[0][: 300 - 256, -quarter:]).all()


def test_a_kept_store_is_read_again(tmp_path):
    path = tmp_path / "replay.npy"
    first, is_made = kept_array(path, lambda: np.arange(6).reshape(2, 3), Ranks(CPU))
    again, is_made_again = kept_array(path, lambda: pytest.fail("made anew"), Ranks(CPU))
    assert (is_made, is_made_again) == (True, False)
    assert (first == again).all()


def test_reference_losses_lie_at_their_tokens(corpus, tiny_model):
    file, model = open_corpus(corpus).train, tiny_model()
    from ockham.objective import token_losses

    def losses(windows):
        x, y = windows[:, :-1], windows[:, 1:]
        with torch.no_grad():
            return token_losses(model(x, y)[0], y)

    found = reference_losses(file, 8, 16, losses)
    assert len(found) == file.tokens
    window = file.windows(np.array([16]), 9)
    assert np.allclose(found[17:25], losses(window)[0].numpy(), atol=2e-3)
