"""Two ranks do what one process with twice the batch does, and decide alike even when their own losses disagree."""

import numpy as np
import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from conftest import TINY

from ockham.anchor import Anchor
from ockham.data import BatchSource, open_corpus
from ockham.distributed import Ranks, pick_device
from ockham.errors import ConfigError, DeviceError
from ockham.learner import OckhamLearner
from ockham.plugins import PluginHost
from ockham.precision import Precision
from ockham.presets import build_plugins
from ockham.row_source import ReplayedRows

STEPS, ROWS = 50, 3
CPU = torch.device("cpu")
RACK = (
    {"type": "OckhamGatePlugin", "name": "gate", "params": {"surprise_threshold": 2.6, "target_update_rate": 0.6}},
    {"type": "CompressorPlugin", "name": "compressor", "params": {"threshold": 1e-4}},
    {"type": "LimiterPlugin", "name": "limiter", "params": {"complexity_ceiling": 0.01}},
    {"type": "SaturationPlugin", "name": "saturation", "params": {"noise_type": "both"}},
)


CHOOSING = ({"type": "SequenceGatePlugin", "name": "sequence_gate", "params": {"share": 0.25}},)


def train(corpus, ranks: Ranks, rows: int, micro_steps: int, rack=RACK):
    """50 float64 steps under the rack: (weights, decisions and what they cost, this rank's own losses)."""
    from model import GPT, GPTConfig

    torch.set_num_threads(1)
    torch.manual_seed(0)
    model = GPT(GPTConfig(**TINY)).double()
    forward = torch.nn.parallel.DistributedDataParallel(model) if ranks.world > 1 else model
    own: list[float] = []
    forward.register_forward_hook(lambda module, inputs, out: own.append(out[1].item()))
    learner = OckhamLearner(
        forward,
        torch.optim.AdamW(model.parameters(), lr=1e-2),
        PluginHost(build_plugins(rack)),
        anchor=Anchor(model.parameters(), kind="l2+kl"),
        replay_kl=0.5,
        ranks=ranks,
        precision=Precision("cpu", torch.float64),
    )
    source = BatchSource(open_corpus(corpus).train, rows, TINY["block_size"], seed=1, rank=ranks.rank)
    source = ReplayedRows(source, np.arange(4 * (TINY["block_size"] + 1)).reshape(4, -1) % 7, 0.3)
    decisions = []
    for step in range(STEPS):
        ctx = learner.step([source.batch(step, m) for m in range(micro_steps)])
        decisions.append((ctx.updated, ctx.verdicts, ctx.reason_code, ctx.consolidation_cause, round(learner.ledger.units, 9)))
    return [p.detach() for p in learner.parameters], decisions, own


def worker(rank, corpus, folder, micro_steps, rack=RACK):
    dist.init_process_group("gloo", init_method=f"file://{folder}/meet", rank=rank, world_size=2)
    result = train(corpus, Ranks(CPU, rank=rank, world=2), ROWS, micro_steps, rack)
    torch.save(result, f"{folder}/{rank}.pt")
    dist.destroy_process_group()


@pytest.mark.parametrize("micro_steps", [1, 4])
def test_two_ranks_agree_with_one_process_of_twice_the_batch(corpus, tmp_path, micro_steps):
    mp.spawn(worker, args=(corpus, tmp_path, micro_steps), nprocs=2)
    first, second = (torch.load(tmp_path / f"{rank}.pt") for rank in (0, 1))
    weights, decisions, _ = train(corpus, Ranks(CPU), 2 * ROWS, micro_steps)
    assert first[1] == second[1] == decisions
    for a, b, c in zip(first[0], second[0], weights, strict=True):
        assert torch.equal(a, b)
        assert (a - c).abs().max() < 1e-9
    updates = [d[0] for d in decisions]
    assert 0 < sum(updates) < STEPS or micro_steps > 1
    disagree = [(a < t) != (b < t) for t in (2.6,) for a, b in zip(first[2], second[2], strict=True)]
    assert any(disagree), "the ranks' own losses should lie on opposite sides of the threshold at times"


@pytest.mark.parametrize("micro_steps", [1, 2])
def test_two_ranks_choose_the_sequences_that_one_process_chooses(corpus, tmp_path, micro_steps):
    mp.spawn(worker, args=(corpus, tmp_path, micro_steps, CHOOSING), nprocs=2)
    first, second = (torch.load(tmp_path / f"{rank}.pt") for rank in (0, 1))
    weights, decisions, _ = train(corpus, Ranks(CPU), 2 * ROWS, micro_steps, CHOOSING)
    assert first[1] == second[1] == decisions
    for a, b, c in zip(first[0], second[0], weights, strict=True):
        assert torch.equal(a, b)
        assert (a - c).abs().max() < 1e-9


def test_collectives_of_one_rank_are_the_identity():
    ranks = Ranks(CPU)
    tensors = [torch.ones(3)]
    ranks.average_(tensors)
    assert ranks.mean(torch.tensor(6.0), 4) == 1.5
    assert (ranks.any(True), ranks.any(False), ranks.gather("x")) == (True, False, ["x"])
    assert tensors[0].tolist() == [1, 1, 1]


def test_absent_cuda_says_what_to_use():
    if torch.cuda.is_available():
        pytest.skip("this machine has CUDA")
    with pytest.raises(DeviceError, match="--device=cpu"):
        pick_device("cuda")


def test_unknown_device_names_the_allowed():
    with pytest.raises(ConfigError, match="cpu, cuda"):
        pick_device("gpu")


def test_world_size_comes_from_torchrun(monkeypatch):
    from ockham.distributed import world_size

    monkeypatch.setenv("WORLD_SIZE", "4")
    assert world_size() == 1, "without RANK there is no torchrun"
    monkeypatch.setenv("RANK", "0")
    assert world_size() == 4
