"""The memory in a run: what it judges and keeps, resume and rollback; states, probes and verdicts that plugins bring in."""

from __future__ import annotations

import json

import pytest
import torch
from conftest import write_corpus

import configurator
import train_ockham
from model import GPT
from ockham import checkpoint
from ockham.__main__ import main as ockham_main
from ockham.carried import hold_out_probe
from ockham.data import open_corpus
from ockham.experiment.kept import open_kept
from ockham.journal import read

SMALL = ["--device=cpu", "--compile=False", "--block_size=16", "--n_layer=1", "--n_head=2", "--n_embd=16", "--batch_size=4",
         "--max_iters=40", "--eval_interval=10", "--learning_rate=1e-2", "--log_interval=100"]  # fmt: skip
WATCHDOG = "rack:\n- {{type: KLWatchdogPlugin, params: {{threshold: {threshold}, interval: 2, action: {action}}}}}\n"


def train(corpus, out_dir, *more) -> int:
    return configurator.run(
        train_ockham.main, [f"--data_dir={corpus.parent}", f"--dataset={corpus.name}", f"--out_dir={out_dir}", *SMALL, *more]
    )


@pytest.fixture(scope="module")
def kept(tmp_path_factory):
    """A run with a memory that wants 2 % more Occam Quotient: (corpus, out_dir)."""
    folder = tmp_path_factory.mktemp("kept")
    corpus = write_corpus(folder / "data" / "tiny")
    assert train(corpus, folder / "out", "--memory.enabled=True", "--memory.min_oq_improvement=0.02") == 0
    return corpus, folder / "out"


def test_every_evaluation_is_judged_and_the_log_says_why(kept):
    lines = list(read_lines(kept[1] / "decisions.jsonl"))
    assert [line["iter_num"] for line in lines] == [0, 10, 20, 30, 40]
    assert lines[0]["reason_code"] == "ACCEPTED_FIRST_VALID"
    assert {"v", "timestamp", "iter_num", "decision", "reason_code", "metrics", "figures"} <= set(lines[0])
    evals = {e["iter"]: e["val_loss"] for e in read(kept[1] / "journal.jsonl", "eval")}
    for line in lines:
        assert line["metrics"]["task_loss"] == evals[line["iter_num"]]
        assert line["decision"] == ("ACCEPT" if line["reason_code"].startswith("ACCEPTED") else "REJECT")
    events = list(read(kept[1] / "journal.jsonl", "memory"))
    assert [e["reason_code"] for e in events] == [line["reason_code"] for line in lines]
    summary = json.loads((kept[1] / "summary.json").read_text())["memory"]
    assert summary["evaluations"] == 5
    assert summary["accepted"] == sum(line["decision"] == "ACCEPT" for line in lines)


def test_a_snapshot_is_a_complete_state_of_its_iteration(kept):
    snapshot = open_kept(kept[1]).snapshots[-1]
    state = checkpoint.load_checkpoint(snapshot.path)
    assert set(checkpoint.COMPLETE) <= set(state)
    assert state["learner"]["counters"]["iter_num"] == snapshot.iter_num


def test_a_threshold_that_nothing_meets_keeps_nothing(kept, tmp_path):
    assert train(kept[0], tmp_path / "out", "--memory.enabled=True", "--memory.quality_threshold=0.01") == 0
    assert {line["reason_code"] for line in read_lines(tmp_path / "out" / "decisions.jsonl")} == {"REJECTED_QUALITY"}
    assert not list((tmp_path / "out").glob("memory/*.pt"))


def test_the_memory_does_not_touch_training(kept, tmp_path):
    assert train(kept[0], tmp_path / "plain") == 0
    a, b = (torch.load(out / "last.pt", weights_only=True)["model"] for out in (kept[1], tmp_path / "plain"))
    assert all(torch.equal(a[k], b[k]) for k in a)


def test_resume_goes_on_deciding_as_a_straight_run(kept, tmp_path):
    out = tmp_path / "out"
    options = "--memory.enabled=True", "--memory.min_oq_improvement=0.02", "--lr_decay_iters=40"
    assert train(kept[0], out, *options, "--max_iters=20") == 0
    assert train(kept[0], out, *options, "--init_from=resume") == 0
    straight = [(d["iter_num"], d["reason_code"], d["figures"]) for d in read_lines(kept[1] / "decisions.jsonl")]
    assert [(d["iter_num"], d["reason_code"], d["figures"]) for d in read_lines(out / "decisions.jsonl")] == straight
    assert [s.id for s in open_kept(out).snapshots] == [s.id for s in open_kept(kept[1]).snapshots]


def test_rollback_goes_on_from_the_snapshot_and_can_be_undone(kept, tmp_path, capsys):
    out = tmp_path / "out"
    assert train(kept[0], out, "--memory.enabled=True") == 0
    before = {p.relative_to(out): p.read_bytes() for p in out.rglob("*") if p.is_file()}
    first = open_kept(out).snapshots[1]
    assert ockham_main(["memory", "rollback", str(out), first.id]) == 0
    assert GPT.from_checkpoint(checkpoint.load_checkpoint(out / "ckpt.pt"))
    assert train(kept[0], out, "--init_from=resume", "--max_iters=20") == 0
    capsys.readouterr()
    steps = [e["iter"] for e in read(out / "journal.jsonl", "step")]
    assert steps == list(range(20))  # cut back to the snapshot, then on
    assert first.id in [s.id for s in open_kept(out).snapshots]
    assert ockham_main(["memory", "rollback", str(out), "--undo"]) == 0
    for name in ("last.pt", "ckpt.pt", "journal.jsonl", "decisions.jsonl", "memory/index.json"):
        assert (out / name).read_bytes() == before[type(next(iter(before)))(name)]
    assert all(s.is_available for s in open_kept(out).snapshots)
    assert ockham_main(["memory", "rollback", str(out), "--undo"]) == 1
    assert "no rollback to undo" in capsys.readouterr().err


def test_export_holds_the_weights_that_were_judged(kept, tmp_path, capsys):
    out = tmp_path / "averaged"
    assert train(kept[0], out, "--memory.enabled=True", "--max_iters=10", "optimizer.ema.decay=0.9") == 0
    assert ockham_main(["memory", "export", str(out), "latest", "--out", str(tmp_path / "x.pt")]) == 0
    assert ockham_main(["memory", "export", str(out), "--out", str(tmp_path / "x.pt")]) == 2  # there is one already
    evaluated, exported = (checkpoint.load_checkpoint(p)["model"] for p in (out / "ckpt.pt", tmp_path / "x.pt"))
    trained = checkpoint.load_checkpoint(out / "last.pt")["model"]
    assert all(torch.equal(evaluated[k], exported[k]) for k in evaluated)
    assert any(not torch.equal(trained[k], exported[k]) for k in trained)


def test_compare_weighs_models_of_two_sizes(kept, tmp_path, capsys):
    assert train(kept[0], tmp_path / "wide", "--n_embd=32", "--max_iters=10") == 0
    capsys.readouterr()
    assert ockham_main(["memory", "compare", str(kept[1]), str(tmp_path / "wide"), f"{kept[1]}:best", "--json"]) == 0
    small, wide, snapshot = json.loads(capsys.readouterr().out)
    assert wide["flops"] > 2 * small["flops"]
    for row in (small, wide, snapshot):
        assert row["occam_quotient"] == pytest.approx(1 / row["loss"] / (row["flops"] * row["memory_mb"]), rel=1e-12)
    assert wide["roi_percent"] == pytest.approx(100 * (wide["occam_quotient"] / small["occam_quotient"] - 1), rel=1e-9)


@pytest.mark.parametrize("verb", ["list", "show", "best"])
def test_a_run_without_memory_says_how_to_get_one(corpus, tmp_path, verb, capsys):
    assert train(corpus, tmp_path / "out", "--max_iters=2") == 0
    assert ockham_main(["memory", verb, str(tmp_path / "out")]) == 1
    assert "--memory.enabled=True" in capsys.readouterr().err


def test_an_accepted_state_becomes_the_anchor(kept, tmp_path):
    out = tmp_path / "out"
    options = "--memory.enabled=True", "--memory.consolidate_on_accept=True", "--anchor.penalize=always", "--lambda_ockham=0.01"
    assert train(kept[0], out, *options) == 0
    causes = [e["cause"] for e in read(out / "journal.jsonl", "consolidate")]
    accepted = [d for d in read_lines(out / "decisions.jsonl") if d["decision"] == "ACCEPT"]
    assert causes == ["memory"] * len(accepted)


# ---------------------------------------- what plugins bring in


def test_plugin_states_are_carried_from_one_run_to_the_next(corpus, tmp_path, capsys):
    assert train(corpus, tmp_path / "a", "--preset=balanced") == 0
    first = torch.load(tmp_path / "a" / "last.pt", weights_only=True)["learner"]["plugins"]["plugins"]
    assert train(corpus, tmp_path / "b", "--preset=balanced", f"--plugin_state=from:{tmp_path / 'a'}", "--seed=2") == 0
    assert "plugin states from" in capsys.readouterr().out
    began = torch.load(tmp_path / "b" / "start.pt", weights_only=True)["learner"]["plugins"]["plugins"]
    assert began == first
    assert train(corpus, tmp_path / "c", "--preset=balanced", f"--plugin_state=from:{tmp_path / 'nowhere'}") == 1


def test_a_watchdog_stops_the_run_with_exit_code_1(corpus, tmp_path, capsys):
    recipe = tmp_path / "dog.yaml"
    recipe.write_text(WATCHDOG.format(threshold=1e-6, action="stop"))
    assert train(corpus, tmp_path / "out", str(recipe), "--anchor.penalize=always", "--lambda_ockham=0.001") == 1
    last = torch.load(tmp_path / "out" / "last.pt", weights_only=True)
    assert last["learner"]["counters"]["iter_num"] < 40
    assert "stopped by" in capsys.readouterr().out
    assert train(corpus, tmp_path / "out", "--init_from=resume", "rack.kl_watchdog.enabled=false") == 0  # what was saved goes on


def test_a_watchdog_goes_back_to_what_was_kept_and_not_for_ever(corpus, tmp_path, capsys):
    recipe = tmp_path / "dog.yaml"
    recipe.write_text(WATCHDOG.format(threshold=1e-6, action="rollback"))
    out = tmp_path / "out"
    assert train(corpus, out, str(recipe), "--anchor.penalize=always", "--lambda_ockham=0.001", "--memory.enabled=True") == 1
    rollbacks = list(read(out / "journal.jsonl", "rollback"))
    assert [r["reason_code"] for r in rollbacks] == ["PLUGIN"] * 3
    assert {r["to"] for r in rollbacks} == {0}
    assert "gone back to 3 times already" in capsys.readouterr().err


def test_the_probe_is_never_trained_on(corpus):
    whole = open_corpus(corpus)
    rest, (x, y) = hold_out_probe(whole, 16, torch.device("cpu"))
    assert rest.train.tokens == whole.train.tokens - 8 * 17
    held = torch.cat([x, y[:, -1:]], dim=1).flatten()
    assert torch.equal(held, torch.from_numpy(whole.train.array()[-8 * 17 :].astype("int64")))
    assert len(rest.train.array()) == rest.train.tokens
    assert rest.val.tokens == whole.val.tokens


def test_a_run_with_a_learned_gain_holds_a_probe_out(corpus, tmp_path):
    recipe = tmp_path / "gain.yaml"
    recipe.write_text("rack:\n- {type: LearnedGainPlugin, params: {interval: 2}}\n")
    assert train(corpus, tmp_path / "out", str(recipe)) == 0
    gains = [e["metrics"]["learned_gain/gain"] for e in read(tmp_path / "out" / "journal.jsonl", "step")]
    assert gains[0] == 1.0
    assert gains[-1] != 1.0


def read_lines(path):
    return [json.loads(line) for line in path.read_text().splitlines()]
