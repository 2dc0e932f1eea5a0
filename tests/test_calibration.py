"""Calibration: the textbook's numbers, however the tokens are dealt into chunks, batches and ranks."""

import numpy as np
import pytest
import torch

from ockham import calibration
from ockham.calibration import BINS, CalibrationSums
from ockham.distributed import Ranks

RANKS = Ranks(torch.device("cpu"))


def calibrated(logits, targets, bins=BINS):
    sums = CalibrationSums(bins)
    sums.add(logits, targets)
    return sums.result(RANKS)


def made_up(tokens=4096, vocab=7, seed=0, sharpness=1.0):
    """Logits (B, T, V) of a model that is calibrated, as its targets (B, T) are drawn from it; `sharpness` then spoils it."""
    generator = torch.Generator().manual_seed(seed)
    logits = 2 * torch.randn(tokens, vocab, generator=generator, dtype=torch.float64)
    targets = torch.multinomial(logits.softmax(-1), 1, generator=generator)[:, 0]
    return sharpness * logits.view(4, -1, vocab), targets.view(4, -1)


def reference(logits, targets, bins=BINS):
    """(nll, accuracy, ece) in plain NumPy, bin by bin as in Guo et al. 2017, equations 2 to 5."""
    z, y = logits.double().numpy().reshape(-1, logits.shape[-1]), targets.numpy().ravel()
    p = np.exp(z - z.max(axis=1, keepdims=True))
    p /= p.sum(axis=1, keepdims=True)
    confidence, right = p.max(axis=1), p.argmax(axis=1) == y
    ece = 0.0
    for m in range(bins):
        inside = (confidence > m / bins) & (confidence <= (m + 1) / bins)
        if inside.any():
            ece += inside.mean() * abs(right[inside].mean() - confidence[inside].mean())
    return -np.log(p[np.arange(len(y)), y]).mean(), right.mean(), ece


def test_four_tokens_in_two_bins_by_hand():
    p = torch.tensor([[[0.4, 0.3, 0.3], [0.3, 0.4, 0.3]], [[0.8, 0.1, 0.1], [0.1, 0.6, 0.3]]], dtype=torch.float64)  # (2, 2, 3)
    result = calibrated(p.log(), torch.tensor([[0, 0], [0, 1]]), bins=2)
    assert np.array(result.reliability) == pytest.approx(np.array([[2, 0.4, 0.5], [2, 0.7, 1.0]]))
    assert result.accuracy == 0.75
    assert result.ece == pytest.approx(0.5 * 0.1 + 0.5 * 0.3)
    assert result.nll == pytest.approx(-np.log([0.4, 0.3, 0.8, 0.6]).mean())
    assert result.tokens == 4
    figures = result.figures()
    assert list(figures) == ["accuracy", "ece", "reliability"]
    assert figures["reliability"] == [list(row) for row in result.reliability]


def test_a_confidence_on_an_edge_falls_into_the_lower_bin_and_certainty_into_the_last():
    logits = torch.tensor([[[0.0, 0.0], [0.0, -1e4]]], dtype=torch.float64)
    assert calibrated(logits, torch.tensor([[0, 0]]), bins=2).reliability == ((1, 0.5, 1.0), (1, 1.0, 1.0))


@pytest.mark.parametrize("sharpness", [0.3, 1.0, 4.0])
def test_figures_are_those_of_plain_numpy(sharpness):
    logits, targets = made_up(sharpness=sharpness)
    result = calibrated(logits, targets)
    assert (result.nll, result.accuracy, result.ece) == pytest.approx(reference(logits, targets), rel=1e-9)


def test_a_calibrated_model_has_an_error_of_chance_alone():
    for tokens in (4096, 65536):
        logits, targets = made_up(tokens)
        result = calibrated(logits, targets)
        # E|acc_b − conf_b| = √(2/π)·σ_b, the mean of a half-normal; weighted by n_b/N
        chance = sum(np.sqrt(2 / np.pi * n * conf * (1 - conf)) for n, conf, _ in result.reliability) / tokens
        assert 0 < result.ece < 2 * chance
    assert result.ece < 0.006


def test_an_overconfident_model_errs_by_confidence_less_accuracy():
    logits, targets = made_up(tokens=65536, sharpness=4.0)
    result = calibrated(logits, targets)
    confidence = logits.softmax(-1).amax(-1).mean().item()
    assert confidence - result.accuracy > 0.1
    assert result.ece == pytest.approx(confidence - result.accuracy, abs=0.01)
    assert calibrated(logits / 4, targets).ece < result.ece / 20


def test_chunks_batches_and_ranks_change_nothing(monkeypatch):
    logits, targets = made_up()
    whole = calibrated(logits, targets)
    monkeypatch.setattr(calibration, "CHUNK_LOGITS", 7 * 100)
    parts = [CalibrationSums(), CalibrationSums()]
    for i in range(4):
        parts[i % 2].add(logits[i : i + 1], targets[i : i + 1])

    class Two(Ranks):
        def gather(self, value):
            return [part.sums for part in parts]

    result = parts[0].result(Two(torch.device("cpu")))
    assert (result.tokens, result.accuracy) == (whole.tokens, whole.accuracy)
    assert (result.nll, result.ece) == pytest.approx((whole.nll, whole.ece), rel=1e-12)
    assert np.array(result.reliability) == pytest.approx(np.array(whole.reliability), rel=1e-12)


def test_ignored_targets_are_left_out():
    logits, targets = made_up()
    some = targets.clone()
    some[1:] = -1
    assert calibrated(logits, some) == calibrated(logits[:1], targets[:1])
    assert some.min() == -1, "the targets are not touched"


def test_half_precision_logits_lose_nothing_more():
    logits, targets = made_up()
    rounded = logits.bfloat16()
    result = calibrated(rounded, targets)
    loss = torch.nn.functional.cross_entropy(rounded.float().flatten(0, 1), targets.flatten())
    assert result.nll == pytest.approx(loss.item(), abs=1e-6)


def test_a_diverged_model_has_no_figures_that_look_sound():
    result = calibrated(torch.full((1, 2, 3), torch.nan), torch.zeros(1, 2, dtype=torch.long))
    assert np.isnan([result.nll, result.accuracy, result.ece]).all()


def test_no_tokens_are_no_calibration():
    with pytest.raises(ValueError, match="at least one token"):
        CalibrationSums().result(RANKS)
