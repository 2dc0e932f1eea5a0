"""The training program from the command line: what it writes, what it says, and how it fails."""

import json
import os
import shlex
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
import torch
from conftest import write_corpus

import configurator
import train_ockham
from ockham.__main__ import main as ockham_main
from ockham.journal import read

SMALL = ["--device=cpu", "--compile=False", "--block_size=16", "--n_layer=1", "--n_head=2", "--n_embd=16", "--batch_size=4",
         "--max_iters=12", "--eval_interval=6", "--learning_rate=1e-2"]  # fmt: skip


def train(corpus, out_dir, *more) -> int:
    return configurator.run(
        train_ockham.main, [f"--data_dir={corpus.parent}", f"--dataset={corpus.name}", f"--out_dir={out_dir}", *SMALL, *more]
    )


def program(root, *argv, **env):
    return subprocess.Popen(
        [sys.executable, root / "train_ockham.py", *map(str, argv)], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        env=os.environ | {"OMP_NUM_THREADS": "1"} | env,
    )  # fmt: skip


def test_run_folder_holds_what_the_design_lists(corpus, tmp_path, capsys):
    out = tmp_path / "out"
    assert train(corpus, out, "--preset=balanced", "--memory.quality_threshold=9") == 0
    assert {p.name for p in out.iterdir()} == {
        "ckpt.pt",
        "last.pt",
        "start.pt",
        "journal.jsonl",
        "decisions.jsonl",
        "memory",
        "config.yaml",
        "audit.md",
        "audit.json",
        "summary.json",
        "report.html",
    }
    said = capsys.readouterr().out
    assert "step 0: train loss" in said
    assert "iter 11: loss" in said
    assert "val loss (full split)" in said
    assert "AdamW" in said  # the optimizer's table
    assert ockham_main(["audit", "verify", str(out)]) == 0
    summary = json.loads((out / "summary.json").read_text())
    figures = """val_loss best_val_loss floor iters updates update_rate update_rate_recent compute_units compute_saved
        complexity_cost consolidations penalty tokens_per_s wall_s train_s"""
    assert set(figures.split()) <= set(summary)
    assert (summary["iters"], summary["updates"], summary["compute_units"]) == (12, 12, 36)
    evals = list(read(out / "journal.jsonl", "eval"))
    assert [e["iter"] for e in evals] == [0, 6, 12]
    assert evals[-1]["tokens"] == 399
    assert "<svg" in (out / "report.html").read_text()


def test_ckpt_has_nanogpts_keys_in_plain_types(corpus, tmp_path):
    assert train(corpus, tmp_path / "out") == 0
    state = torch.load(tmp_path / "out" / "ckpt.pt", weights_only=True)
    assert list(state) == ["model", "optimizer", "model_args", "iter_num", "best_val_loss", "config"]
    assert set(state["model_args"]) == {"n_layer", "n_head", "n_embd", "block_size", "bias", "vocab_size", "dropout"}
    assert state["config"]["dataset"] == "tiny"
    assert {"learning_rate", "batch_size", "gradient_accumulation_steps", "beta2", "warmup_iters"} <= set(state["config"])
    assert state["model"]["transformer.wte.weight"].data_ptr() == state["model"]["lm_head.weight"].data_ptr()


def test_folder_with_a_run_is_refused_then_replaced(corpus, tmp_path, capsys):
    out = tmp_path / "out"
    assert train(corpus, out) == 0
    before = (out / "ckpt.pt").read_bytes()
    assert train(corpus, out) == 2
    assert "--overwrite=True" in capsys.readouterr().err
    assert (out / "ckpt.pt").read_bytes() == before
    (out / "notes.txt").write_text("mine")
    assert train(corpus, out, "--overwrite=True", "--seed=2") == 0
    assert (out / "ckpt.pt").read_bytes() != before
    assert (out / "notes.txt").exists()


def test_dry_run_writes_nothing(corpus, tmp_path, capsys):
    assert train(corpus, tmp_path / "out", "--dry_run=True") == 0
    said = capsys.readouterr().out
    assert not (tmp_path / "out").exists()
    for word in ("parameters", "FLOPs per iteration", "optimizer state", "time for all iterations"):
        assert word in said


def test_eval_only_evaluates_the_best_and_writes_nothing(corpus, tmp_path, capsys):
    out = tmp_path / "out"
    assert train(corpus, out) == 0
    stamps = {p: p.stat().st_mtime_ns for p in out.iterdir()}
    capsys.readouterr()
    assert train(corpus, out, "--eval_only=True", "--init_from=resume") == 0
    best = json.loads((out / "summary.json").read_text())["best_val_loss"]
    assert f"val loss {best:.4f}" in capsys.readouterr().out
    assert stamps == {p: p.stat().st_mtime_ns for p in out.iterdir()}


def test_weights_brought_in_are_penalised_from_the_start(corpus, tmp_path, capsys):
    assert train(corpus, tmp_path / "a") == 0
    capsys.readouterr()
    assert train(corpus, tmp_path / "b", f"--init_from={tmp_path / 'a' / 'ckpt.pt'}", "--lambda_ockham=0.01") == 0
    assert "anchor penalty always (on)" in capsys.readouterr().out
    first = next(read(tmp_path / "b" / "journal.jsonl", "step"))
    last = list(read(tmp_path / "a" / "journal.jsonl", "eval"))[-1]
    assert first["task_loss"] == pytest.approx(last["val_loss"], abs=0.3)


def test_scratch_engages_the_penalty_when_validation_stops_improving(corpus, tmp_path):
    rng = np.random.default_rng(1)
    rng.integers(0, 20, 400).astype("<u2").tofile(corpus / "val.bin")  # learning can only hurt here
    assert (
        train(corpus, tmp_path / "out", "--max_iters=40", "--eval_interval=5", "--lambda_ockham=0.05", "--anchor.patience=2") == 0
    )
    (engaged,) = read(tmp_path / "out" / "journal.jsonl", "engage")
    evals = [e for e in read(tmp_path / "out" / "journal.jsonl", "eval") if e["iter"] <= engaged["iter"]]
    losses = [e["val_loss"] for e in evals]
    assert losses.index(min(losses)) == len(losses) - 3  # two evaluations in a row did not improve
    costs = {e["iter"] < engaged["iter"]: [] for e in read(tmp_path / "out" / "journal.jsonl", "step")}
    for entry in read(tmp_path / "out" / "journal.jsonl", "step"):
        costs[entry["iter"] < engaged["iter"]].append(entry["complexity_cost"])
    assert max(costs[True]) == 0 < max(costs[False])
    assert json.loads((tmp_path / "out" / "summary.json").read_text())["penalty"] == f"engaged at {engaged['iter']}"


def poisoned(monkeypatch, when):
    """Losses that are NaN in the forwards of training for which `when(n)` holds."""
    from model import GPT

    forward, count = GPT.forward, [0]

    def nan_forward(self, x, y=None):
        logits, loss = forward(self, x, y)
        if self.training and loss is not None:
            count[0] += 1
            loss = loss * float("nan") if when(count[0]) else loss
        return logits, loss

    monkeypatch.setattr(GPT, "forward", nan_forward)


def test_nonfinite_run_rolls_back_once_and_goes_on(corpus, tmp_path, monkeypatch, capsys):
    poisoned(monkeypatch, lambda n: 8 <= n < 11)
    assert train(corpus, tmp_path / "out", "--max_nonfinite=3") == 0
    (rollback,) = read(tmp_path / "out" / "journal.jsonl", "rollback")
    assert (rollback["iter"], rollback["to"], rollback["reason_code"]) == (10, 6, "NONFINITE")
    assert "rolled back" in capsys.readouterr().out
    summary = json.loads((tmp_path / "out" / "summary.json").read_text())
    assert np.isfinite(summary["val_loss"])
    assert summary["rolled_back"]
    assert (summary["iters"], summary["updates"], summary["tokens"]) == (12, 9, 12 * 64), "what was paid is not rolled back"


def test_second_divergence_stops_with_exit_1_and_the_fix(corpus, tmp_path, monkeypatch, capsys):
    poisoned(monkeypatch, lambda n: n >= 8)
    assert train(corpus, tmp_path / "out", "--max_nonfinite=2") == 1
    assert "lower the learning rate" in capsys.readouterr().err
    assert (tmp_path / "out" / "last.pt").exists()


@pytest.mark.parametrize("step_s", [0.0, 0.4])
def test_max_hours_saves_and_exits_0_in_time(corpus, tmp_path, capsys, monkeypatch, step_s):
    from model import GPT

    forward = GPT.forward

    def slow(self, x, y=None):
        time.sleep(step_s if self.training else 0)
        return forward(self, x, y)

    monkeypatch.setattr(GPT, "forward", slow)
    limit_s, began = 3.0, time.monotonic()
    assert train(corpus, tmp_path / "out", "--max_iters=1000000", "--eval_interval=100000", f"--max_hours={limit_s / 3600}") == 0
    assert list(read(tmp_path / "out" / "journal.jsonl"))[-1]["event"] == "end"
    assert time.monotonic() - began < limit_s + 2.0, "two seconds for start, report and a busy machine"
    assert "stopped by max_hours" in capsys.readouterr().out
    state = torch.load(tmp_path / "out" / "last.pt", weights_only=True)
    assert 0 < state["learner"]["counters"]["iter_num"] < 1_000_000


def test_signal_in_the_final_sweep_loses_nothing(corpus, tmp_path, monkeypatch):
    out, sweep = tmp_path / "out", train_ockham.Evaluator.__call__

    def signalled(self, model, step, whole=False):
        if step == 12:
            os.kill(os.getpid(), signal.SIGTERM)
        return sweep(self, model, step, whole)

    with monkeypatch.context() as patch:
        patch.setattr(train_ockham.Evaluator, "__call__", signalled)
        assert train(corpus, out) == 143
    assert torch.load(out / "last.pt", weights_only=True)["learner"]["counters"]["iter_num"] == 12
    assert train(corpus, out, "--init_from=resume") == 0
    assert [e["iter"] for e in read(out / "journal.jsonl", "eval")] == [0, 6, 12]


def test_best_is_not_compared_with_what_it_is_no_match_for(corpus, tmp_path, capsys):
    out = tmp_path / "out"
    assert train(corpus, out, "--eval_max_tokens=64") == 0
    evals = [(e["iter"], e["tokens"]) for e in read(out / "journal.jsonl", "eval")]
    assert evals == [(0, 64), (6, 64), (12, 64), (12, 399)]
    summary = json.loads((out / "summary.json").read_text())
    losses = [e["val_loss"] for e in read(out / "journal.jsonl", "eval")]
    assert summary["best_val_loss"] == min(losses[:3])
    assert summary["val_loss"] == losses[3]
    assert "best val loss (estimate)" in capsys.readouterr().out


def test_plain_training_never_speaks_of_a_penalty(corpus, tmp_path, capsys):
    np.random.default_rng(1).integers(0, 20, 400).astype("<u2").tofile(corpus / "val.bin")
    assert train(corpus, tmp_path / "out", "--max_iters=40", "--eval_interval=5") == 0
    assert not list(read(tmp_path / "out" / "journal.jsonl", "engage"))
    assert "now in force" not in capsys.readouterr().out
    assert json.loads((tmp_path / "out" / "summary.json").read_text())["complexity_cost"] > 0, "drift is still measured"


def test_missing_tracker_is_found_before_anything_is_written(corpus, tmp_path, capsys, monkeypatch):
    find = train_ockham.check_trackers.__globals__["importlib"].util.find_spec
    monkeypatch.setattr("importlib.util.find_spec", lambda name, *a: None if name == "wandb" else find(name, *a))
    assert train(corpus, tmp_path / "out", "--wandb_log=True") == 1
    assert "pip install -e .[track]" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_local_folder_may_begin_with_gpt2(corpus, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert train(corpus, "gpt2-mine") == 0
    assert train(corpus, "b", "--init_from=gpt2-mine/ckpt.pt") == 0


@pytest.mark.parametrize(
    ("change", "code", "words"),
    [
        ("optimizer=muon", 2, "was trained with AdamW, and Muon cannot go on with its state"),
        ("--dtype=float16", 1, "does not fit this run's dtype: it has float16, last.pt was made with auto;"),
    ],
)
def test_resume_with_another_optimizer_or_dtype_is_one_message(corpus, tmp_path, capsys, change, code, words):
    assert train(corpus, tmp_path / "out") == 0
    capsys.readouterr()
    assert train(corpus, tmp_path / "out", "--init_from=resume", "--max_iters=20", change) == code
    said = capsys.readouterr().err
    assert words in said
    assert len(said.splitlines()) == 1


def test_other_numbering_of_characters_is_refused(corpus, tmp_path, capsys):
    assert train(corpus, tmp_path / "a") == 0
    other = write_corpus(tmp_path / "data" / "other")
    meta = json.loads((other / "meta.json").read_text())
    meta["tokenizer"]["vocab"].reverse()
    (other / "meta.json").write_text(json.dumps(meta))
    assert train(other, tmp_path / "b", f"--init_from={tmp_path / 'a'}") == 1
    assert "--vocab tiny" in capsys.readouterr().err


def test_numbering_of_a_nanogpt_checkpoint_is_looked_up_in_its_corpus(corpus, tmp_path, capsys):
    assert train(corpus, tmp_path / "a") == 0
    state = torch.load(tmp_path / "a" / "ckpt.pt", weights_only=True)
    del state["config"]["vocabulary"]
    torch.save(state, tmp_path / "a" / "ckpt.pt")
    other = write_corpus(tmp_path / "data" / "other", vocab=19)
    assert train(other, tmp_path / "b", f"--init_from={tmp_path / 'a'}") == 1
    assert "number their characters differently" in capsys.readouterr().err


def test_lone_meta_pkl_gives_the_vocabulary(corpus, tmp_path):
    import pickle

    letters = json.loads((corpus / "meta.json").read_text())["tokenizer"]["vocab"]
    meta = {"vocab_size": len(letters), "itos": dict(enumerate(letters)), "stoi": {c: i for i, c in enumerate(letters)}}
    assert train(corpus, tmp_path / "a") == 0
    (corpus / "meta.json").unlink()
    (corpus / "meta.pkl").write_bytes(pickle.dumps(meta))
    assert train(corpus, tmp_path / "b", f"--init_from={tmp_path / 'a'}") == 0
    assert torch.load(tmp_path / "b" / "ckpt.pt", weights_only=True)["model_args"]["vocab_size"] == 20


def test_shape_on_record_is_the_models_own(corpus, tmp_path, capsys):
    assert train(corpus, tmp_path / "a") == 0
    assert train(corpus, tmp_path / "b", f"--init_from={tmp_path / 'a'}", "--n_layer=3", "--bias=True") == 0
    assert "n_layer 1, bias False" in capsys.readouterr().out
    state = torch.load(tmp_path / "b" / "ckpt.pt", weights_only=True)
    assert (state["config"]["n_layer"], state["config"]["bias"]) == (1, False)


def test_finished_run_that_is_resumed_says_so_and_stays_as_it_was(corpus, tmp_path, capsys):
    out = tmp_path / "out"
    assert train(corpus, out, "--preset=balanced") == 0
    before = json.loads((out / "summary.json").read_text())
    assert train(corpus, out, "--init_from=resume") == 0
    assert "already at iteration 12 of 12" in capsys.readouterr().out
    after = json.loads((out / "summary.json").read_text())
    assert {k: v for k, v in before.items() if "_s" not in k} == {k: v for k, v in after.items() if "_s" not in k}
    assert [e["iter"] for e in read(out / "journal.jsonl", "eval")] == [0, 6, 12]


def test_reader_that_leaves_does_not_stop_the_run(corpus, tmp_path, root):
    argv = [f"--data_dir={corpus.parent}", "--dataset=tiny", f"--out_dir={tmp_path / 'out'}", *SMALL, "--max_iters=400"]
    words = " ".join(shlex.quote(str(w)) for w in (sys.executable, root / "train_ockham.py", *argv))
    command = ["bash", "-c", f"{words} | head -n 1; exit ${{PIPESTATUS[0]}}"]
    done = subprocess.run(command, capture_output=True, text=True, env=os.environ | {"OMP_NUM_THREADS": "1"}, timeout=90)
    assert (done.returncode, done.stderr) == (0, "")
    assert json.loads((tmp_path / "out" / "summary.json").read_text())["iters"] == 400


def test_unfinished_run_has_no_final_loss(corpus, tmp_path, capsys):
    assert train(corpus, tmp_path / "out", "--max_iters=1000000", "--max_hours=0.0005") == 0
    summary = json.loads((tmp_path / "out" / "summary.json").read_text())
    assert (summary["val_loss"], summary["stopped_by"]) == (None, "max_hours")
    assert "the run is unfinished" in capsys.readouterr().out


def test_a_run_that_is_over_when_its_time_is_up_is_done(corpus, tmp_path, monkeypatch):
    answers = iter([False, True])  # before the only step, and once it is made
    monkeypatch.setattr(train_ockham.Stop, "requested", lambda self: next(answers))
    assert train(corpus, tmp_path / "out", "--max_iters=1") == 0
    summary = json.loads((tmp_path / "out" / "summary.json").read_text())
    assert (summary["stopped_by"], summary["iters"], summary["rolled_back"]) == (None, 1, False)
    assert summary["val_loss"] is not None


def test_a_run_is_not_put_into_a_sweeps_folder(corpus, tmp_path, capsys):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "sweep.json").touch()
    assert train(corpus, tmp_path / "out") == 2
    assert "holds a sweep" in capsys.readouterr().err
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["sweep.json"]


def test_estimates_and_the_full_split_are_told_apart(corpus, tmp_path, capsys):
    assert train(corpus, tmp_path / "out", "--eval_iters=2") == 0
    lines = [line for line in capsys.readouterr().out.splitlines() if line.startswith("step 12: train loss")]
    assert [line.endswith("(full val split)") for line in lines] == [False, True]


def test_the_optimizer_is_told_once_and_what_a_run_cuts_off_its_schedule(corpus, tmp_path, capsys):
    assert train(corpus, tmp_path / "a", "--lr_decay_iters=3600") == 0
    said = capsys.readouterr().out
    assert "the schedule ends at 3,600, this run at 12" in said
    assert "optimizer: " not in said  # the table says it
    assert "K parameters, block 16" in said
    assert train(corpus, tmp_path / "b", "--optimizer.rich_console=False") == 0
    said = capsys.readouterr().out
    assert "optimizer: adamw, lr 0.01, schedule cosine\n" in said
    assert "the schedule ends" not in said


def test_changes_on_resume_are_printed(corpus, tmp_path, capsys):
    assert train(corpus, tmp_path / "out") == 0
    capsys.readouterr()
    assert train(corpus, tmp_path / "out", "--init_from=resume", "--max_iters=20", "--learning_rate=0.5") == 0
    assert "Resume: optimizer.lr = 0.5" in capsys.readouterr().out


def test_epochs_say_max_iters(corpus, tmp_path):
    argv = [f"--data_dir={corpus.parent}", "--dataset=tiny", f"--out_dir={tmp_path / 'out'}", *SMALL, "--epochs=0.5"]
    assert configurator.run(train_ockham.main, [word for word in argv if not word.startswith("--max_iters")]) == 0
    assert json.loads((tmp_path / "out" / "summary.json").read_text())["iters"] == round(0.5 * 3600 / 64)


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_signal_saves_then_exits_with_its_code(corpus, tmp_path, root, number, code):
    out = tmp_path / "out"
    process = program(root, f"--data_dir={corpus.parent}", "--dataset=tiny", f"--out_dir={out}", *SMALL, "--max_iters=1000000")
    while not (out / "last.pt").exists():
        assert process.poll() is None, process.communicate()
        time.sleep(0.05)
    time.sleep(0.3)
    process.send_signal(number)
    said, _ = process.communicate(timeout=30)
    assert process.returncode == code
    assert "last.pt is saved" in said


def test_torchrun_with_two_ranks_works_from_the_command_line(corpus, tmp_path, root):
    argv = [f"--data_dir={corpus.parent}", "--dataset=tiny", f"--out_dir={tmp_path / 'out'}", *SMALL, "--preset=balanced",
            "--gradient_accumulation_steps=2"]  # fmt: skip
    command = [
        sys.executable,
        "-m",
        "torch.distributed.run",
        "--standalone",
        "--nproc_per_node=2",
        str(root / "train_ockham.py"),
        *argv,
    ]
    done = subprocess.run(command, capture_output=True, text=True, env=os.environ | {"OMP_NUM_THREADS": "1"}, timeout=120)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("run summary") == 1
    summary = json.loads((tmp_path / "out" / "summary.json").read_text())
    assert summary["tokens"] == 12 * 2 * 4 * 16
    assert list(read(tmp_path / "out" / "journal.jsonl", "eval"))[-1]["tokens"] == 399


def test_trackers_get_losses_and_the_racks_meters(corpus, tmp_path):
    pytest.importorskip("tensorboard", reason="needs tensorboard (pip install -e .[track])")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    assert train(corpus, tmp_path / "out", "--preset=balanced", "--tensorboard_log=True") == 0
    events = EventAccumulator(str(tmp_path / "out" / "tensorboard"))
    events.Reload()
    assert {"train/loss", "val/loss", "iter/loss", "iter/lr", "rack/gate/open", "rack/compressor/on", "rack/limiter/on",
            "rack/eq/lr_factor", "rack/drift"} <= set(events.Tags()["scalars"])  # fmt: skip
    assert [e.step for e in events.Scalars("val/loss")] == [0, 6, 12]


def test_wandb_works_offline(corpus, tmp_path, root):
    pytest.importorskip("wandb", reason="needs wandb (pip install -e .[track])")
    argv = [f"--data_dir={corpus.parent}", "--dataset=tiny", f"--out_dir={tmp_path / 'out'}", *SMALL, "--wandb_log=True"]
    process = program(root, *argv, WANDB_MODE="offline", WANDB_SILENT="true")
    _, errors = process.communicate(timeout=90)
    assert process.returncode == 0, errors
    (recorded,) = (tmp_path / "out" / "wandb").glob("offline-run-*/*.wandb")
    assert b"val/loss" in recorded.read_bytes()


def bad(corpus, tmp_path, capsys, *more):
    code = train(corpus, tmp_path / "out", *more)
    text = capsys.readouterr().err.strip()
    assert text.count("\n") == 0, "one line"
    assert "Traceback" not in text
    return code, text


@pytest.mark.parametrize(("argument", "words"), [
    ("--learning_rat=1", "learning_rate"),
    ("--n_layer=two", "n_layer must be int"),
    ("--preset=balanced2", "balanced"),
    ("--preset=../balanced", "presets/"),
    ("--preset=balanced --rack.compressor.ratio=0.5", "compressor.ratio must be >= 1, got 0.5"),
    ("--n_embd=15", "n_embd must be a multiple of n_head"),
])  # fmt: skip
def test_what_is_written_wrong_exits_2(corpus, tmp_path, capsys, argument, words):
    code, text = bad(corpus, tmp_path, capsys, *argument.split())
    assert (code, words in text) == (2, True), text
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(("argument", "words"), [
    ("--dataset=nowhere", "python data/text/prepare.py"),
    ("--block_size=512", "lower --block_size"),
    ("--init_from=resume", "nothing to resume"),
    ("--init_from=/no/such/file.pt", "no checkpoint at /no/such/file.pt"),
    ("--device=cuda", "--device=cpu"),
])  # fmt: skip
def test_what_the_world_lacks_exits_1(corpus, tmp_path, capsys, argument, words):
    if "cuda" in argument and torch.cuda.is_available():
        pytest.skip("this machine has CUDA")
    code, text = bad(corpus, tmp_path, capsys, *argument.split())
    assert (code, words in text) == (1, True), text


def test_world_size_must_divide_accumulation(corpus, tmp_path, capsys, monkeypatch):
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.setenv("RANK", "0")
    code, text = bad(corpus, tmp_path, capsys)
    assert code == 2
    assert "--gradient_accumulation_steps=2" in text


def test_broken_checkpoint_is_one_message(corpus, tmp_path, capsys):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "last.pt").write_bytes(b"PK\3\4 torn")
    (tmp_path / "out" / "config.yaml").touch()
    code, text = bad(corpus, tmp_path, capsys, "--init_from=resume")
    assert code == 1
    assert "no whole checkpoint" in text


def test_model_vocabulary_smaller_than_the_corpus_is_named(corpus, tmp_path, capsys):
    assert train(corpus, tmp_path / "a") == 0
    wide = write_corpus(tmp_path / "data" / "wide", vocab=24)
    state = torch.load(tmp_path / "a" / "ckpt.pt", weights_only=True)
    del state["config"]["vocabulary"], state["config"]["dataset"]  # as from elsewhere
    torch.save(state, tmp_path / "a" / "ckpt.pt")
    code = train(wide, tmp_path / "b", f"--init_from={tmp_path / 'a'}")
    assert code == 1
    assert "vocabulary of 24, the model only 20" in capsys.readouterr().err


def test_a_run_ends_as_finished_when_its_units_are_spent(corpus, tmp_path):
    out = tmp_path / "out"
    assert train(corpus, out, "--max_units=15", "--max_iters=1000", "scheduler.clock=compute", "--decay_lr=True") == 0
    summary = json.loads((out / "summary.json").read_text())
    assert (summary["iters"], summary["compute_units"]) == (5, 15)
    assert summary["val_loss"] is not None
    rates = [e["learning_rate"] for e in read(out / "journal.jsonl", "step")]
    assert rates[0] == pytest.approx(1e-2)
    assert rates[-1] == pytest.approx(
        1.859e-3, rel=1e-3
    )  # cosine to a tenth, a fifth of the way from the end, which is where the units end
