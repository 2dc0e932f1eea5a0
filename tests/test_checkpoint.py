"""Checkpoint files: whole or absent, verified, and never code."""

import pickle

import pytest
import torch

from ockham import checkpoint
from ockham.errors import CheckpointError, TrainingError


def some_state():
    return {"model": {"w": torch.arange(1000.0)}, "model_args": {"n_layer": 1}}


def test_round_trip_keeps_tensors_and_types(tmp_path):
    checkpoint.save(some_state(), tmp_path / "a.pt")
    loaded = checkpoint.load_checkpoint(tmp_path / "a.pt")
    assert torch.equal(loaded["model"]["w"], some_state()["model"]["w"])
    assert not list(tmp_path.glob("*.tmp"))


def test_failed_write_keeps_the_older_file(tmp_path, monkeypatch):
    path = tmp_path / "a.pt"
    checkpoint.save(some_state(), path)
    before = path.read_bytes()

    def full(*args, **kwargs):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(torch, "save", full)
    with pytest.raises(TrainingError, match="No space left"):
        checkpoint.save({"model": {}}, path)
    assert path.read_bytes() == before
    assert not list(tmp_path.glob("*.tmp"))


def test_flipped_byte_is_found(tmp_path):
    path = tmp_path / "last.pt"
    checkpoint.save(some_state(), path)
    raw = bytearray(path.read_bytes())
    raw[raw.find(torch.arange(500.0, 510.0).numpy().tobytes())] ^= 1
    path.write_bytes(raw)
    with pytest.raises(CheckpointError, match="damaged"):
        checkpoint.load_complete(tmp_path)


@pytest.mark.parametrize("content", [b"", b"not a checkpoint", pickle.dumps({"model": 1})])
def test_what_is_no_checkpoint_is_one_message(tmp_path, content):
    path = tmp_path / "ckpt.pt"
    path.write_bytes(content)
    with pytest.raises(CheckpointError, match="broken"):
        checkpoint.load_checkpoint(path)


def test_code_in_a_checkpoint_is_refused_and_not_run(tmp_path):
    class Evil:
        def __reduce__(self):
            return (open, (str(tmp_path / "pwned"), "w"))

    torch.save({"model": Evil(), "model_args": {}}, tmp_path / "ckpt.pt")
    with pytest.raises(CheckpointError):
        checkpoint.load_checkpoint(tmp_path / "ckpt.pt")
    assert not (tmp_path / "pwned").exists()


def test_nothing_to_resume_says_what_to_do(tmp_path):
    with pytest.raises(CheckpointError, match="nothing to resume"):
        checkpoint.load_complete(tmp_path)
    (tmp_path / "ckpt.pt").touch()
    with pytest.raises(CheckpointError, match=r"--init_from=.*ckpt\.pt --out_dir=NEW"):
        checkpoint.load_complete(tmp_path)


def test_incomplete_state_names_what_is_missing(tmp_path):
    checkpoint.save(some_state(), tmp_path / "last.pt")
    with pytest.raises(CheckpointError, match="lacks format, learner, loop, rng, config"):
        checkpoint.load_complete(tmp_path)


def test_random_states_come_back():
    import random

    import numpy as np

    state = checkpoint.random_state(torch.device("cpu"))
    first = (torch.rand(3).tolist(), random.random(), np.random.rand())
    checkpoint.restore_random_state(state, torch.device("cpu"))
    assert (torch.rand(3).tolist(), random.random(), np.random.rand()) == first


@pytest.mark.parametrize("name", ["torch", "python", "numpy"])
def test_missing_random_state_is_an_error(name):
    state = checkpoint.random_state(torch.device("cpu"))
    del state[name]
    with pytest.raises(CheckpointError, match=name):
        checkpoint.restore_random_state(state, torch.device("cpu"))
