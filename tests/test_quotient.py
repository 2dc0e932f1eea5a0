"""The Occam Quotient against the spec's table, and the counting of costs against counts by hand."""

import math
from fractions import Fraction

import pytest
import torch
from torch import nn

from ockham.context import OccamContext
from ockham.quotient import (
    Footprint,
    active_parameters,
    inference_flops,
    memory_mb,
    occam_quotient,
    performance,
    relative_improvement,
    roi_percent,
    storage_bytes,
)

SPEC = {"A": (1.2, 2.6e12, 26_000.0, 13_000_000_000), "B": (1.3, 1.4e12, 14_000.0, 7_000_000_000)}  # loss, FLOPs, MB, params


def test_the_specs_table_comes_out():
    a, b = (occam_quotient(*row) for row in SPEC.values())
    assert [f"{performance(row[0]):.3f}" for row in SPEC.values()] == ["0.833", "0.769"]
    assert (f"{a:.2e}", f"{b:.2e}") == ("1.23e-17", "3.92e-17")
    assert f"{roi_percent(a, b):+.0f} %" == "+218 %"


def test_a_megabyte_is_a_million_bytes():
    binary = occam_quotient(1.2, 2.6e12, 26e9 / 2**20, 0)
    assert f"{binary:.2e}" != "1.23e-17"
    assert memory_mb(nn.Linear(1000, 250, bias=False)) == 1.0


def test_unknown_costs_fall_back_to_parameters_and_four_bytes_each():
    assert occam_quotient(2.0, params=1_000_000) == pytest.approx(0.5 / (1e6 * 4.0))
    assert occam_quotient(2.0, flops=10.0, params=1_000_000) == pytest.approx(0.5 / (10 * 4.0))
    assert occam_quotient(2.0) == 0.0


def test_an_improvement_is_exact_near_1e_17():
    old, new = 1e-17, 1.0000001e-17
    exact = (Fraction(new) - Fraction(old)) / Fraction(old)
    assert relative_improvement(new, old) == pytest.approx(float(exact), rel=1e-15)
    assert relative_improvement(3e-300, 2e-300) == pytest.approx(0.5)


def test_an_improvement_from_nothing_is_infinite_or_none():
    assert relative_improvement(1e-17, 0.0) == math.inf
    assert relative_improvement(0.0, 0.0) == 0.0


@pytest.mark.parametrize("loss", [-1.0, math.nan])
def test_what_is_no_loss_has_no_performance(loss):
    assert math.isnan(performance(loss))
    assert performance(0.0) == math.inf


@pytest.mark.parametrize("tokens", [1, 7])
def test_flops_of_a_linear_net_are_two_a_multiply_add(tokens):
    net = nn.Sequential(nn.Linear(5, 11), nn.ReLU(), nn.Linear(11, 3, bias=False))
    assert inference_flops(net, torch.zeros(tokens, 5)) == 2 * tokens * (5 * 11 + 11 * 3)


@pytest.mark.parametrize("T", [1, 16])
def test_flops_of_a_gpt_are_those_counted_by_hand(tiny_model, T):
    model = tiny_model()
    c = model.config
    projections = 2 * T * c.n_embd * (3 + 1 + 4 + 4) * c.n_embd  # qkv, out, up, down
    attention = 2 * (2 * T * T * c.n_embd)  # q·k and weights·v, over all pairs
    head = 2 * c.n_embd * c.vocab_size  # the last position alone
    assert inference_flops(model, torch.zeros(1, T, dtype=torch.long)) == c.n_layer * (projections + attention) + head


def test_counting_flops_leaves_modes_and_gradients_as_they_were(tiny_model):
    model = tiny_model(dropout=0.5)
    model.transformer["h"][0].eval()
    modes = [m.training for m in model.modules()]
    random = torch.get_rng_state()
    inference_flops(model, torch.zeros(1, 4, dtype=torch.long))
    assert [m.training for m in model.modules()] == modes
    assert torch.equal(torch.get_rng_state(), random)
    assert all(p.grad is None for p in model.parameters())


def test_memory_knows_dtypes_buffers_and_shared_storage():
    net = nn.Linear(10, 10)
    net.half()
    net.register_buffer("mask", torch.zeros(7, dtype=torch.bool))
    net.register_buffer("view", net.weight.detach()[:2])  # the same storage
    assert memory_mb(net) == pytest.approx((2 * 110 + 7) / 1e6, abs=1e-12)


def test_tied_weights_count_once(tiny_model):
    model = tiny_model()
    elements = sum(p.numel() for p in model.parameters())
    assert memory_mb(model) * 1e6 == 4 * elements
    assert active_parameters(model) == elements  # at init none is exactly zero: this model has no biases
    assert storage_bytes({"model": model.state_dict(), "more": [model.lm_head.weight]}) == 4 * elements


def test_active_parameters_are_those_not_zero_trainable_or_not(tiny_model):
    model = tiny_model()
    before = active_parameters(model)
    with torch.no_grad():
        model.transformer["wpe"].weight[:3] = 0
    model.transformer["wpe"].weight.requires_grad_(False)
    assert before - active_parameters(model) == 3 * model.config.n_embd


def test_a_footprint_fills_a_context_and_gives_its_quotient(tiny_model):
    model, tokens = tiny_model(), torch.zeros(1, 16, dtype=torch.long)
    footprint = Footprint.measure(model, tokens)
    assert footprint == Footprint(active_parameters(model), memory_mb(model), inference_flops(model, tokens))
    ctx = footprint.fill(OccamContext(iter_num=1, task_loss=2.0))
    by_hand = 0.5 / (footprint.flops * footprint.memory_mb)
    assert footprint.quotient(2.0) == ctx.compute_occam_quotient(0.5) == pytest.approx(by_hand)
    assert occam_quotient(2.0, footprint.flops, footprint.memory_mb, footprint.params) == footprint.quotient(2.0)


def test_a_smaller_model_of_the_same_loss_has_the_higher_quotient(tiny_model):
    tokens = torch.zeros(1, 16, dtype=torch.long)
    small, large = (Footprint.measure(tiny_model(n_layer=n), tokens).quotient(2.0) for n in (1, 4))
    assert small > large
