"""The loss on the scales is that of the weights at hand: at their own iteration, from the evaluation that is named."""

import json
import shutil

import pytest
import torch
from conftest import write_corpus

import configurator
import train_ockham
from model import GPT
from ockham import checkpoint
from ockham.__main__ import main as ockham_main
from ockham.data import open_corpus, sweep
from ockham.errors import CheckpointError, WorldError
from ockham.experiment.kept import open_kept, weigh
from ockham.experiment.weighed import ESTIMATE, OWN_WORD, WHOLE, Weights
from ockham.journal import read

SMALL = ["--device=cpu", "--compile=False", "--block_size=16", "--n_layer=1", "--n_head=2", "--n_embd=16", "--batch_size=4",
         "--max_iters=40", "--eval_interval=10", "--log_interval=100", "--warmup_iters=0", "--decay_lr=False"]  # fmt: skip
# Resumed at a hundred times the learning rate, the newest weights are not the best.
WORSE = ("--learning_rate=1e-2", "--memory.enabled=True", "--memory.min_oq_improvement=null")


def train(corpus, out_dir, *more) -> int:
    argv = [f"--data_dir={corpus.parent}", f"--dataset={corpus.name}", f"--out_dir={out_dir}", *SMALL, *more]
    return configurator.run(train_ockham.main, argv)


@pytest.fixture(scope="module", autouse=True)
def without_pictures():
    """report.html takes longer than these runs."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("ockham.experiment.report.write_report", lambda out_dir: None)
        yield


@pytest.fixture(scope="module")
def corpus(tmp_path_factory):
    return write_corpus(tmp_path_factory.mktemp("data") / "tiny")


@pytest.fixture(scope="module")
def spoilt(corpus, tmp_path_factory):
    """A run that is best at iteration 20 and worse after it, with a ckpt.pt of iteration 40."""
    out = tmp_path_factory.mktemp("runs") / "run"
    assert train(corpus, out, *WORSE, "--max_iters=20") == 0
    assert train(corpus, out, *WORSE, "--learning_rate=1.0", "--init_from=resume") == 0
    return out


@pytest.fixture
def run(spoilt, tmp_path):
    """That run, to do with as a test likes."""
    return shutil.copytree(spoilt, tmp_path / "run")


def measured(corpus, path) -> float:
    """The val loss of a checkpoint's weights on the whole split, by a forward pass of our own."""
    state = checkpoint.load_checkpoint(path)
    model = GPT.from_checkpoint(state).eval()
    total = tokens = 0
    with torch.no_grad():
        for window in sweep(open_corpus(corpus).val, 16, 64):
            window = window.long()
            total += float(model(window[:, :-1], window[:, 1:])[1]) * window[:, 1:].numel()
            tokens += window[:, 1:].numel()
    return total / tokens


def evals(run):
    return {event["iter"]: event["val_loss"] for event in read(run / "journal.jsonl", "eval")}


def test_ckpt_s_loss_is_that_of_its_weights_and_not_the_best_of_the_run(corpus, run):
    by_folder, by_file = weigh([str(run), str(run / "ckpt.pt")])
    best = checkpoint.load_checkpoint(run / "ckpt.pt")["best_val_loss"]
    assert best == min(evals(run).values()) < evals(run)[40] - 0.1  # the witness that the two differ
    assert by_folder.loss == by_file.loss == evals(run)[40] == pytest.approx(measured(corpus, run / "ckpt.pt"), rel=1e-5)
    assert by_folder.source == WHOLE
    assert by_folder.quotient == by_folder.footprint.quotient(evals(run)[40])


def test_last_pt_and_a_snapshot_s_file_have_the_loss_of_their_iteration(corpus, run):
    memory = open_kept(run)
    names = [str(run / "last.pt"), *(str(s.path) for s in memory.snapshots), *(f"{run}:{s.id}" for s in memory.snapshots)]
    last, *others = weigh(names)
    assert last.loss == evals(run)[40]
    assert (
        [w.loss for w in others]
        == [s.loss for s in memory.snapshots] * 2
        == [evals(run)[s.iter_num] for s in memory.snapshots] * 2
    )
    assert {w.source for w in (last, *others)} == {WHOLE}
    for path, found in zip([s.path for s in memory.snapshots], others, strict=False):
        assert found.loss == pytest.approx(measured(corpus, path), rel=1e-5)


def test_after_a_rollback_the_loss_is_that_of_the_snapshot(corpus, run):
    first = open_kept(run).snapshots[1]
    assert ockham_main(["memory", "rollback", str(run), first.id]) == 0
    weighed, last = weigh([str(run), str(run / "last.pt")])
    assert weighed.loss == last.loss == first.loss == pytest.approx(measured(corpus, run / "ckpt.pt"), rel=1e-5)


def test_an_estimate_is_called_one_and_the_whole_sweep_goes_before_it(corpus, tmp_path):
    for flags in (["--eval_iters=2"], ["--eval_max_tokens=100"]):
        out = tmp_path / flags[0].strip("-")
        assert train(corpus, out, *flags, "--max_iters=20", "--memory.enabled=True", "--always_save_checkpoint=False") == 0
        events = [event for event in read(out / "journal.jsonl", "eval") if event["iter"] == 20]
        assert len(events) == 2
        assert checkpoint.load_checkpoint(out / "ckpt.pt")["iter_num"] == 20
        weighed, snapshot, early = weigh([str(out), f"{out}:iter-000020", f"{out}:iter-000000"])
        assert (weighed.loss, weighed.source) == (events[1]["val_loss"], WHOLE)
        assert weighed.loss == pytest.approx(measured(corpus, out / "ckpt.pt"), rel=1e-5)
        assert (snapshot.loss, snapshot.source, early.source) == (events[0]["val_loss"], ESTIMATE, ESTIMATE)


def test_a_cap_that_is_larger_than_the_split_is_no_estimate(corpus, tmp_path):
    assert train(corpus, tmp_path / "out", "--eval_max_tokens=5000", "--max_iters=10") == 0
    assert weigh([str(tmp_path / "out")])[0].source == WHOLE


def test_weights_between_two_evaluations_have_no_loss(run):
    state = checkpoint.load_checkpoint(run / "last.pt")
    state["learner"]["counters"]["iter_num"] = 33
    torch.save(state, run / "last.pt")
    with pytest.raises(WorldError, match=r"last\.pt holds iteration 33, at which there was no evaluation"):
        weigh([str(run / "last.pt")])


def test_a_best_that_the_journal_does_not_know_is_taken_by_its_word(run):
    """Written by a session that was killed; the next one cut the journal back and went another way."""
    state = checkpoint.load_checkpoint(run / "ckpt.pt")
    torch.save({**state, "best_val_loss": 0.5, "config": {**state["config"], "always_save_checkpoint": False}}, run / "ckpt.pt")
    (weighed,) = weigh([str(run)])
    assert (weighed.loss, weighed.source) == (0.5, OWN_WORD)


def test_a_file_without_a_journal_is_taken_by_its_word_and_one_without_a_word_is_refused(run, tmp_path):
    lone = shutil.copy2(run / "ckpt.pt", tmp_path / "lone.pt")
    (weighed,) = weigh([str(lone)])
    assert (weighed.loss, weighed.source) == (checkpoint.load_checkpoint(lone)["best_val_loss"], OWN_WORD)
    state = checkpoint.load_checkpoint(lone)
    for best, said in ((None, "says no val loss"), (float("inf"), "has no val loss to weigh: it is inf")):
        torch.save({**state, "best_val_loss": best}, lone)
        with pytest.raises(WorldError, match=said):
            weigh([str(lone)])


def test_a_damaged_journal_is_an_error_and_not_another_loss(run):
    text = (run / "journal.jsonl").read_text().splitlines(True)
    (run / "journal.jsonl").write_text("".join([*text[:3], "torn\n", *text[3:]]))
    with pytest.raises(CheckpointError, match=r"journal\.jsonl:4 is damaged"):
        weigh([str(run)])


def test_the_command_says_which_evaluation_it_was(run, capsys):
    assert ockham_main(["memory", "compare", str(run), str(run / "last.pt"), "--json"]) == 0
    rows = json.loads(capsys.readouterr().out)
    assert [(row["loss"], row["loss_from"]) for row in rows] == [(evals(run)[40], WHOLE)] * 2
    assert ockham_main(["memory", "compare", f"{run}:iter-9"]) == 1
    assert "no snapshot 'iter-9'" in capsys.readouterr().err


def test_what_cannot_be_built_is_one_error(run):
    state = checkpoint.load_checkpoint(run / "ckpt.pt")
    del state["model"]["transformer.wte.weight"]
    with pytest.raises(CheckpointError, match="cannot be built"):
        _ = Weights("x", run / "ckpt.pt", state).model
