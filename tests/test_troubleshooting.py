"""spec/optimizer_configs.md, section 10: each line of its troubleshooting, reproduced with its cure."""

import json

import pytest
import torch

import train_ockham
from configurator import run
from ockham.config import LookaheadConfig, OptimizerConfig
from ockham.optim import build_optimizer

CPU = torch.device("cpu")


def train(corpus, out_dir, *more):
    argv = [
        f"--data_dir={corpus.parent}", f"--dataset={corpus.name}", f"--out_dir={out_dir}", "--device=cpu", "--compile=False",
        "--block_size=16", "--n_layer=1", "--n_head=2", "--n_embd=16", "--batch_size=4", "--max_iters=30", "--eval_interval=30",
        "--log_interval=100", *more,
    ]  # fmt: skip
    assert run(train_ockham.main, argv) == 0
    lines = [json.loads(line) for line in (out_dir / "journal.jsonl").read_text().splitlines()]
    return [line for line in lines if line["event"] == "step"]


def test_no_scheduler_effect_comes_from_the_hook_or_from_none(corpus, tmp_path, capsys):
    def rates(name, *more):
        return {s["learning_rate"] for s in train(corpus, tmp_path / name, "scheduler=linear", *more)}

    assert len(rates("on")) == 30
    assert len(rates("hook", "optimizer.scheduler_hook=false")) == 1
    assert "No effect: scheduler.name = linear (command line), as optimizer.scheduler_hook is false" in capsys.readouterr().out
    assert len(rates("none", "scheduler=none")) == 1


def test_unstable_steps_are_cured_by_lower_lr_warm_up_and_clipping(corpus, tmp_path):
    def losses(name, *more):
        wild = ["optimizer=sgd", "optimizer.lr=30", "scheduler=none", "optimizer.clip_grad_norm=0", "--max_nonfinite=50"]
        return [float(s["task_loss"]) for s in train(corpus, tmp_path / name, *wild, *more)]

    start = 3.0  # ln 20 is the loss of knowing nothing
    assert max(losses("wild")) > 10 * start
    for name, cure in {
        "lower lr": ["optimizer.lr=0.1"],
        "clipping": ["optimizer.clip_grad_norm=0.01"],
        "warm-up": ["scheduler=constant", "scheduler.warmup_steps=10000"],
    }.items():
        assert max(losses(name, *cure)) < 1.2 * start, name


def test_fp16_overflow_never_reaches_the_weights_and_bf16_has_none(corpus, tmp_path):
    """fp16's loss scale begins at 65,536, beyond what its gradients can hold; bf16 has float32's range and no scale."""

    def reasons(dtype):
        return [s["reason_code"] for s in train(corpus, tmp_path / dtype, f"--dtype={dtype}", "optimizer.fused=true")]

    assert set(reasons("bfloat16")) == {"UPDATED"}
    assert set(reasons("float16")) <= {"UPDATED", "SCALER_BACKOFF"}  # never a non-finite weight
    ordinary = train(corpus, tmp_path / "ordinary", "--dtype=bfloat16", "optimizer.fused=false")
    assert {s["reason_code"] for s in ordinary} == {"UPDATED"}


def test_adams_decay_is_normalised_away_and_adamws_is_not():
    """A weight with large gradients: Adam's coupled L2 hardly decays it, AdamW's decoupled decay does."""
    left = {}
    for name in ("Adam", "AdamW"):
        model = torch.nn.ParameterDict({"w": torch.nn.Parameter(torch.tensor([1.0]))})
        optimizer, _ = build_optimizer(model, OptimizerConfig(type=name, lr=1e-3, weight_decay=0.5), CPU)
        for step in range(400):
            model["w"].grad = torch.tensor([100.0 * (-1) ** step])
            optimizer.step()
        left[name] = model["w"].item()
    assert left["Adam"] > 0.99
    assert left["AdamW"] == pytest.approx((1 - 1e-3 * 0.5) ** 400, abs=0.01)


def test_lookahead_is_sluggish_by_its_alpha():
    """On a constant gradient the slow weights advance by alpha times the base optimizer's speed, whatever k is.

    So of the contract's two cures only a smaller k helps, by showing the progress sooner; a smaller alpha slows down.
    """

    def advance(steps, **lookahead):
        model = torch.nn.ParameterDict({"w": torch.nn.Parameter(torch.zeros(1))})
        config = OptimizerConfig(type="SGD", lr=0.1, lookahead=LookaheadConfig(enabled=True, **lookahead))
        optimizer, _ = build_optimizer(model, config, CPU)
        for _ in range(steps):
            model["w"].grad = -torch.ones(1)
            optimizer.step()
        return optimizer.state[model["w"]]["slow_params"].item() / (0.1 * steps)

    assert advance(60, alpha=0.5, k=6) == pytest.approx(0.5)
    assert advance(60, alpha=0.5, k=5) == pytest.approx(0.5)
    assert advance(60, alpha=0.3, k=6) == pytest.approx(0.3)
    assert advance(5, alpha=0.5, k=5) == pytest.approx(0.5)
    assert advance(5, alpha=0.5, k=6) == 0.0
