"""Fine-tuning without forgetting, through the command line: replay, kinds of anchor, a reference, and a stop on the way."""

import json

import numpy as np
import pytest
import torch
from conftest import write_corpus
from test_resume import differences, end_state, interrupted_at, journal

import configurator
import train_ockham
from ockham.journal import read

SHAPE = ("--block_size=16", "--n_layer=2", "--n_head=2", "--n_embd=16", "--batch_size=4", "--device=cpu", "--compile=False")
KEEP = (
    "--replay.fraction=0.4", "--replay.windows=20", "--replay.ce=0.5", "--replay.kl=1", "--anchor.kind=fisher+kl+decoupled",
    "--lambda_ockham=0.1", "--anchor.fisher_sequences=8", "--consolidate_interval=11", "--anchor.alpha=0.5",
)  # fmt: skip


def train(corpus, out, *more):
    argv = [
        f"--data_dir={corpus.parent}", f"--dataset={corpus.name}", f"--out_dir={out}", "--max_iters=30", "--eval_interval=10",
        "--log_interval=100", "--learning_rate=3e-3", *SHAPE, *more,
    ]  # fmt: skip
    return configurator.run(train_ockham.main, argv)


@pytest.fixture
def base(corpus, tmp_path):
    """A trained run, and a second corpus in the same alphabet."""
    assert train(corpus, tmp_path / "base") == 0
    return tmp_path / "base", write_corpus(corpus.parent / "other", seed=5)


def summary(out):
    return json.loads((out / "summary.json").read_text())


def test_all_protections_resume_bit_for_bit(base, tmp_path, monkeypatch):
    run, other = base
    begin = f"--init_from={run}"
    assert train(other, tmp_path / "straight", begin, *KEEP) == 0
    with monkeypatch.context() as patch:
        patch.setattr(train_ockham, "Stop", interrupted_at(13))
        assert train(other, tmp_path / "parts", begin, *KEEP) == 143
    assert train(other, tmp_path / "parts", "--init_from=resume", *KEEP) == 0
    assert differences(end_state(tmp_path / "straight"), end_state(tmp_path / "parts")) == []
    assert journal(tmp_path / "straight") == journal(tmp_path / "parts")


def test_replaying_the_old_corpus_forgets_less(base, corpus, tmp_path):
    run, other = base
    constant = np.full(3600, 3, dtype="<u2")
    constant.tofile(other / "train.bin")  # learning this alone destroys what was known
    losses = {}
    for name, more in {"plain": (), "replay": ("--replay.fraction=0.5", "--replay.corpus=tiny")}.items():
        assert train(other, tmp_path / name, f"--init_from={run}", *more) == 0
        assert train(corpus, tmp_path / f"{name}-old", f"--init_from={tmp_path / name}", "--max_iters=0") == 0
        losses[name] = summary(tmp_path / f"{name}-old")["val_loss"]
    assert losses["replay"] < losses["plain"] - 0.3


def test_the_models_own_text_is_generated_once_and_charged(base, tmp_path):
    run, other = base
    assert train(other, tmp_path / "out", f"--init_from={run}", "--preset=finetune_keep", "--replay.windows=40") == 0
    windows = np.load(tmp_path / "out" / "replay.npy")
    assert windows.shape == (40, 17)
    replayed = [event["units"] for event in read(tmp_path / "out" / "journal.jsonl", "step")]
    assert summary(tmp_path / "out")["compute_units"] == pytest.approx(30 * 3 + 40 / 4 + sum_of_shares(other, 0.5), abs=1e-6)
    assert len(replayed) == 30


def sum_of_shares(corpus, fraction):
    """The anchor's forwards on replayed rows, in batches."""
    from ockham.data import BatchSource, open_corpus
    from ockham.row_source import ReplayedRows

    source = BatchSource(open_corpus(corpus).train, 4, 16, seed=1337)
    rows = ReplayedRows(source, np.zeros((1, 17)), fraction)
    return sum(rows.replayed(step, 0).mean() for step in range(30))


def test_a_lost_store_stops_a_run_that_goes_on(base, tmp_path, monkeypatch, capsys):
    run, other = base
    with monkeypatch.context() as patch:
        patch.setattr(train_ockham, "Stop", interrupted_at(13))
        assert train(other, tmp_path / "out", f"--init_from={run}", *KEEP[:4]) == 143
    (tmp_path / "out" / "replay.npy").unlink()
    assert train(other, tmp_path / "out", "--init_from=resume", *KEEP[:4]) == 1
    assert "replay.npy is missing" in capsys.readouterr().err


def test_evaluating_generates_nothing(base, tmp_path):
    run, other = base
    assert train(other, tmp_path / "out", f"--init_from={run}", "--preset=finetune_keep", "--eval_only=True") == 0
    assert not (tmp_path / "out").exists()


def test_generated_replay_from_scratch_says_what_to_give(corpus, tmp_path, capsys):
    assert train(corpus, tmp_path / "out", "--replay.fraction=0.5") == 2
    assert "--replay.corpus=NAME" in capsys.readouterr().err


def test_replay_of_another_alphabet_says_what_to_do(corpus, tmp_path, capsys):
    write_corpus(corpus.parent / "wide", vocab=19)
    assert train(corpus, tmp_path / "out", "--replay.fraction=0.5", "--replay.corpus=wide") == 1
    assert "--vocab" in capsys.readouterr().err


def test_unknown_kind_of_anchor_is_an_error(corpus, tmp_path, capsys):
    assert train(corpus, tmp_path / "out", "--anchor.kind=l3") == 2
    assert "l2, decoupled, fisher, kl" in capsys.readouterr().err


def test_a_gate_of_excess_measures_from_a_reference_run(base, tmp_path):
    run, other = base
    gate = ("--surprise_threshold=0.0", "rack.gate.surprise=excess", "--preset=balanced", f"--reference={run}")
    assert train(other, tmp_path / "out", *gate) == 0
    steps = list(read(tmp_path / "out" / "journal.jsonl", "step"))
    assert all("gate/excess" in step["metrics"] for step in steps)
    losses = np.load(tmp_path / "out" / "reference.npy")
    assert len(losses) == 3600
    assert summary(tmp_path / "out")["compute_units"] > 3600 / 64, "the reference's sweep is charged"


def test_a_gate_of_excess_without_reference_says_what_to_give(corpus, tmp_path, capsys):
    assert train(corpus, tmp_path / "out", "--preset=balanced", "rack.gate.surprise=excess") == 2
    assert "--reference=RUN" in capsys.readouterr().err


def test_start_pt_and_a_new_folder_give_the_same_weights_again(base, tmp_path):
    from ockham.experiment.replay import open_recording, repeat

    run, other = base
    assert train(other, tmp_path / "out", f"--init_from={run}", *KEEP[:4]) == 0
    outcome = repeat(open_recording(tmp_path / "out"), tmp_path / "again")
    assert outcome.exit_code == 0, outcome
    first, again = (torch.load(tmp_path / name / "last.pt", weights_only=True)["model"] for name in ("out", "again"))
    assert all(torch.equal(first[key], again[key]) for key in first)
