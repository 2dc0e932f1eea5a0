"""Shared pieces: a tiny corpus, a tiny model, the real files where they are."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

TINY = {"block_size": 16, "vocab_size": 20, "n_layer": 2, "n_head": 2, "n_embd": 16, "dropout": 0.0, "bias": False}


@pytest.fixture
def root() -> Path:
    """The checkout."""
    return ROOT


@pytest.fixture
def shared() -> Path:
    """The folder of real files; the test is skipped where it is absent."""
    folder = ROOT.parent / "shared" / "data"
    if not folder.is_dir():
        pytest.skip(f"needs the real files in {folder}")
    return folder


@pytest.fixture
def tiny_model():
    """A function that makes the same tiny GPT each time."""
    from model import GPT, GPTConfig

    def make(seed: int = 0, **changes):
        torch.manual_seed(seed)
        return GPT(GPTConfig(**{**TINY, **changes}))

    return make


@pytest.fixture
def fresh_workers():
    """joblib's worker processes outlive a test, and stay in the folder where they were started: none from before, none left."""
    from joblib.externals.loky import get_reusable_executor

    get_reusable_executor().shutdown(wait=True)
    yield
    get_reusable_executor().shutdown(wait=True)


def write_corpus(folder: Path, tokens: int = 4000, vocab: int = 20, seed: int = 0) -> Path:
    """A prepared corpus of noisy counting, learnable by a tiny model."""
    folder.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(seed)
    ids = ((np.arange(tokens) + (rng.random(tokens) < 0.2) * rng.integers(0, vocab, tokens)) % vocab).astype("<u2")
    cut = int(tokens * 0.9)
    ids[:cut].tofile(folder / "train.bin")
    ids[cut:].tofile(folder / "val.bin")
    letters = [chr(97 + i) for i in range(vocab)]
    meta = {"format": 1, "tokenizer": {"type": "char", "vocab": letters}, "vocab_size": vocab, "dtype": "uint16"}
    (folder / "meta.json").write_text(json.dumps(meta))
    return folder


@pytest.fixture
def corpus(tmp_path: Path) -> Path:
    """A prepared tiny corpus."""
    return write_corpus(tmp_path / "data" / "tiny")


@pytest.fixture
def batch():
    """A function that gives a seeded random batch for the tiny model."""

    def make(seed: int = 0, rows: int = 4):
        generator = torch.Generator().manual_seed(seed)
        window = torch.randint(0, TINY["vocab_size"], (rows, TINY["block_size"] + 1), generator=generator)
        return window[:, :-1].contiguous(), window[:, 1:].contiguous()

    return make
