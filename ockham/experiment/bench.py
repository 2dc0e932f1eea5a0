"""What the rack costs: steps of the learner and of a plain training loop in turn, on the same batches, in one process."""

from __future__ import annotations

import importlib
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass

import torch

from ..anchor import Anchor
from ..data import Batch
from ..learner import OckhamLearner
from ..presets import load_preset

SIZES = {  # name: model shape, rows of a batch, steps
    "0.8M": ({"n_layer": 4, "n_head": 4, "n_embd": 128, "block_size": 64}, 12, 200),
    "10.65M": ({"n_layer": 6, "n_head": 6, "n_embd": 384, "block_size": 256}, 16, 12),
}
VOCAB, LR, CLIP, WARM_UP = 65, 1e-3, 1.0, 3
Step = Callable[[Batch], object]


@dataclass(frozen=True)
class Overhead:
    """Medians over steps made in turn."""

    size: str
    plain_ms: float
    rack_ms: float
    ratio: float  # median of the pairs' ratios: rack / plain
    steps: int

    @property
    def percent(self) -> float:
        """What the rack adds to a plain step, in per cent."""
        return 100 * (self.ratio - 1)


def overhead(size: str, preset: str = "balanced", steps: int = 0) -> Overhead:
    """Time the preset's rack, its anchor in force and λ paid, against forward, backward, clip and AdamW in plain PyTorch.

    The gate stays open, as a random model's loss is over every threshold: both sides learn every batch. `steps` 0: the size's.
    """
    shape, rows, own_steps = SIZES[size]
    plain, rack = plain_step(build(shape)), rack_step(build(shape), preset)
    times: list[tuple[float, float]] = []
    for turn in range(WARM_UP + (steps or own_steps)):
        batch, pair = random_batch(rows, shape["block_size"], turn), {}
        for name, step in (("plain", plain), ("rack", rack)) if turn % 2 else (("rack", rack), ("plain", plain)):
            began = time.perf_counter()
            step(batch)
            pair[name] = time.perf_counter() - began
        times.append((pair["plain"], pair["rack"]))
    counted = times[WARM_UP:]
    medians = [1e3 * statistics.median(side) for side in zip(*counted, strict=True)]
    return Overhead(size, medians[0], medians[1], statistics.median(r / p for p, r in counted), len(counted))


def build(shape: dict[str, int]) -> torch.nn.Module:
    """The same GPT each time."""
    module = importlib.import_module("model")
    torch.manual_seed(0)
    model: torch.nn.Module = module.GPT(module.GPTConfig(vocab_size=VOCAB, dropout=0.0, bias=False, **shape))
    return model


def random_batch(rows: int, block_size: int, seed: int) -> Batch:
    """Random tokens: as every batch is a new one nothing can be learned, and the loss stays near ln 65 = 4.2."""
    window = torch.randint(0, VOCAB, (rows, block_size + 1), generator=torch.Generator().manual_seed(seed))
    return window[:, :-1].contiguous(), window[:, 1:].contiguous()


def plain_step(model: torch.nn.Module) -> Step:
    """A training step without anything of ours."""
    optimizer = torch.optim.AdamW(model.parameters(), lr=LR)

    def step(batch: Batch) -> None:
        optimizer.zero_grad(set_to_none=True)
        loss = model(*batch)[1]
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), CLIP)
        optimizer.step()
        float(loss.detach())

    return step


def rack_step(model: torch.nn.Module, preset: str) -> Step:
    """The learner's step under a preset, drift measured and paid for."""
    chosen = load_preset(preset)
    learner = OckhamLearner(
        model,
        torch.optim.AdamW(model.parameters(), lr=LR),
        chosen.host(),
        anchor=Anchor(model.parameters(), "always"),
        lambda_ockham=chosen.hyperparameters["lambda_ockham"],
        clip_grad_norm=CLIP,
    )
    return learner.step
