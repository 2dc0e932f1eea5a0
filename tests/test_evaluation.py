"""Evaluation: exact over the split, silent towards training."""

import pytest
import torch

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
    from dataclasses import replace

    def rows(vocab):
        plain = evaluator(corpus)
        big = replace(plain, corpus=replace(plain.corpus, vocab_size=vocab))
        return next(iter(big._swept(big.corpus.train, 0))).shape[0]

    assert rows(20) > 200
    assert rows(2**20) == 4  # the training batch: 4 windows × 16 tokens × 2²⁰ logits


def test_interrupted_sweep_gives_nothing(corpus, tiny_model):
    assert evaluator(corpus, interrupted=lambda: True)(tiny_model(), 0) is None


def test_final_sweep_is_whole_whatever_the_cap(corpus, tiny_model):
    capped = evaluator(corpus, max_tokens=64)
    assert capped(tiny_model(), 0).tokens == 64
    assert capped(tiny_model(), 0, whole=True).tokens == 399
