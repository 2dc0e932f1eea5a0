"""Evaluation: exact over the split, silent towards training."""

from dataclasses import replace

import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as mp

from ockham.data import BatchSource, open_corpus
from ockham.distributed import Ranks
from ockham.evaluation import Evaluator
from ockham.precision import Precision


def evaluator(corpus, **kw):
    return Evaluator(open_corpus(corpus), 16, 4, Precision(), Ranks(torch.device("cpu")), **kw)


def test_sweep_is_the_token_weighted_mean_over_the_whole_split(corpus, tiny_model):
    model = tiny_model()
    data = torch.from_numpy(open_corpus(corpus).val.array().astype("int64"))
    total = 0.0
    for start in range(0, len(data) - 1, 16):
        window = data[start : start + 17][None]
        total += model(window[:, :-1], window[:, 1:])[1].item() * (window.shape[1] - 1)
    result = evaluator(corpus)(model, 0)
    assert result.val_loss == pytest.approx(total / (len(data) - 1), rel=1e-6)
    assert result.tokens == len(data) - 1


def test_evaluation_draws_nothing_and_restores_the_mode(corpus, tiny_model):
    model = tiny_model(dropout=0.5).train()
    source = BatchSource(open_corpus(corpus).train, 4, 16, seed=1)
    before, batch = torch.get_rng_state(), source.batch(3)
    for settings in ({}, {"eval_iters": 3}):
        assert evaluator(corpus, **settings)(model, 3) == evaluator(corpus, **settings)(model, 3)
    assert torch.equal(before, torch.get_rng_state())
    assert torch.equal(batch[0], source.batch(3)[0])
    assert model.training


def test_batches_stay_small_where_logits_are_large(corpus, tiny_model):
    def rows(vocab):
        plain = evaluator(corpus)
        big = replace(plain, corpus=replace(plain.corpus, vocab_size=vocab))
        return next(iter(big._swept(big.corpus.train, 0))).shape[0]

    assert rows(20) > 200
    assert rows(2**20) == 4  # the training batch: 4 windows × 16 tokens × 2²⁰ logits


def test_interrupted_sweep_gives_nothing(corpus, tiny_model):
    assert evaluator(corpus, interrupted=lambda: True)(tiny_model(), 0) is None


def test_calibration_of_an_interrupted_sweep_is_none(corpus, tiny_model):
    assert evaluator(corpus, interrupted=lambda: True).calibration(tiny_model()) is None


def test_calibration_sees_the_whole_split_and_the_same_loss(corpus, tiny_model):
    model = tiny_model(dropout=0.5).train()
    before = torch.get_rng_state()
    result, losses = evaluator(corpus, max_tokens=64).calibration(model), evaluator(corpus)(model, 0)
    assert result.tokens == losses.tokens == 399
    assert result.nll == pytest.approx(losses.val_loss, abs=1e-6)
    assert torch.equal(before, torch.get_rng_state())
    assert model.training
    assert not any(p.grad is not None for p in model.parameters())


def test_calibration_counts_the_most_probable_token_of_each_position(corpus, tiny_model):
    model = tiny_model()
    data = torch.from_numpy(open_corpus(corpus).val.array().astype("int64"))
    confidence, right = [], []
    for start in range(0, len(data) - 1, 16):
        window = data[start : start + 17][None]
        p = model(window[:, :-1], window[:, 1:])[0].softmax(-1).detach()[0]  # (T, V)
        confidence += p.max(-1).values.tolist()
        right += (p.argmax(-1) == window[0, 1:]).tolist()
    result = evaluator(corpus).calibration(model)
    assert result.accuracy == pytest.approx(sum(right) / 399)
    assert sum(n * conf for n, conf, _ in result.reliability) == pytest.approx(sum(confidence), rel=1e-6)


def share_of(rank, corpus, folder):
    from conftest import TINY

    from model import GPT, GPTConfig

    torch.set_num_threads(1)
    torch.manual_seed(0)
    dist.init_process_group("gloo", init_method=f"file://{folder}/meet", rank=rank, world_size=2)
    half = replace(evaluator(corpus), ranks=Ranks(torch.device("cpu"), rank=rank, world=2))
    half = replace(half, corpus=replace(half.corpus, vocab_size=2**20))  # small batches, so that both ranks have some
    torch.save(half.calibration(GPT(GPTConfig(**TINY))), f"{folder}/{rank}.pt")
    dist.destroy_process_group()


def test_two_ranks_give_the_calibration_of_one(corpus, tmp_path, tiny_model):
    mp.spawn(share_of, args=(corpus, tmp_path), nprocs=2)
    first, second = (torch.load(tmp_path / f"{rank}.pt", weights_only=False) for rank in (0, 1))
    alone = evaluator(corpus).calibration(tiny_model())
    assert first == second
    assert (first.tokens, first.accuracy) == (alone.tokens, alone.accuracy)
    assert [row[0] for row in first.reliability] == [row[0] for row in alone.reliability]
    assert (first.nll, first.ece) == pytest.approx((alone.nll, alone.ece), abs=1e-6)


def test_final_sweep_is_whole_whatever_the_cap(corpus, tiny_model):
    capped = evaluator(corpus, max_tokens=64)
    assert capped(tiny_model(), 0).tokens == 64
    assert capped(tiny_model(), 0, whole=True).tokens == 399
