"""The bench times what it says: a learner whose rack acts, and a plain loop that learns the same batches."""

import json

import torch

from ockham.__main__ import main
from ockham.experiment import bench

SHAPE = {"n_layer": 1, "n_head": 1, "n_embd": 16, "block_size": 16}


def test_both_sides_learn_every_batch():
    batch = bench.random_batch(2, 16, 0)
    for make in (bench.plain_step, lambda model: bench.rack_step(model, "balanced")):
        model = bench.build(SHAPE)
        before = [p.detach().clone() for p in model.parameters()]
        make(model)(batch)
        assert any(not torch.equal(a, b) for a, b in zip(before, model.parameters(), strict=True))


def test_the_gate_is_open_and_the_anchor_in_force():
    ctx = bench.rack_step(bench.build(SHAPE), "balanced")(bench.random_batch(2, 16, 0))
    assert (ctx.updated, ctx.anchor_available) == (True, True)


def test_bench_prints_a_line_for_machines(capsys, monkeypatch):
    monkeypatch.setattr(bench, "SIZES", {"0.8M": (SHAPE, 2, 4)})
    assert main(["bench", "--size=0.8M", "--steps=4", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["steps"] == 4
    assert found["plain_ms"] > 0
