"""The memory in a run: what it judges and keeps, resume and rollback; states, probes and verdicts that plugins bring in."""

from __future__ import annotations

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
from ockham.carried import hold_out_probe
from ockham.data import open_corpus
from ockham.evaluation import Evaluation
from ockham.experiment.kept import open_kept
from ockham.experiment.replay import other_leaves
from ockham.journal import read
from ockham.learner import OckhamLearner
from ockham.memory import OckhamMemory
from ockham.plugins import PluginHost
from ockham.rundir import Run

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


def files(out):
    return {str(p.relative_to(out)): p.read_bytes() for p in out.rglob("*") if p.is_file()}


def test_rollback_goes_on_from_the_snapshot_and_undo_leaves_the_folder_as_it_was(kept, tmp_path, capsys):
    out = tmp_path / "out"
    assert train(kept[0], out, "--memory.enabled=True", "--memory.max_snapshots=3") == 0
    before = files(out)
    first = open_kept(out).snapshots[0]
    assert ockham_main(["memory", "rollback", str(out), first.id]) == 0
    assert GPT.from_checkpoint(checkpoint.load_checkpoint(out / "ckpt.pt"))
    went_on = "--init_from=resume", "--max_iters=45", "--eval_interval=5", "--memory.min_oq_improvement=-100"
    assert train(kept[0], out, *went_on) == 0
    capsys.readouterr()
    steps = [e["iter"] for e in read(out / "journal.jsonl", "step")]
    assert steps == list(range(45))  # cut back to the snapshot, then on
    assert first.id not in [s.id for s in open_kept(out).snapshots]  # evicted since, and later ones are there
    assert ockham_main(["memory", "rollback", str(out), "--undo"]) == 0
    assert files(out) == before
    assert ockham_main(["memory", "rollback", str(out), "--undo"]) == 1
    assert "no rollback to undo" in capsys.readouterr().err


def test_a_run_that_was_rolled_back_is_told_as_such_until_it_goes_on(kept, tmp_path, capsys):
    out = shutil.copytree(kept[1], tmp_path / "out")
    first = open_kept(out).snapshots[0]

    def told(*argv):
        capsys.readouterr()
        assert ockham_main([*argv, str(out)]) == 0
        return capsys.readouterr().out

    listing, table, summary = ("memory", "list"), ("report", "--table"), ("journal", "summarize")
    before = [told(*argv) for argv in (listing, table, summary)]
    assert not any("rolled back" in text for text in before)
    assert ockham_main(["memory", "rollback", str(out), first.id]) == 0
    (row,) = [line for line in told(*listing).splitlines() if line.startswith(first.id)]
    assert row.split()[-1] == "here"
    assert f"rolled back to {first.iter_num} and has not gone on since" in told(*listing)
    assert f"| out (rolled back to {first.iter_num} since) | 1 |" in told(*table)
    assert f"  rolled back to {first.iter_num}; the journal beyond it is cut on resume\n" in told(*summary)
    assert json.loads(told(*summary, "--json"))["rolled_back_to"] == first.iter_num
    assert json.loads(told(*listing, "--json"))["rolled_back_to"] == first.iter_num
    assert train(kept[0], out, "--init_from=resume") == 0
    assert not any("rolled back" in told(*argv) for argv in (listing, table, summary))
    assert ockham_main(["memory", "rollback", str(out), "--undo"]) == 0
    assert [told(*argv) for argv in (listing, table, summary)] == before


def test_export_makes_no_folders(kept, tmp_path, capsys):
    assert ockham_main(["memory", "export", str(kept[1]), "--out", str(tmp_path / "no" / "x.pt")]) == 1
    assert f"there is no folder {tmp_path / 'no'}; make it first" in capsys.readouterr().err
    assert not (tmp_path / "no").exists()


@pytest.mark.parametrize("argv", [["list"], ["show"], ["best"], ["rollback"], ["rollback", "--undo"]])
def test_a_folder_that_is_not_there_is_said_to_be_missing(tmp_path, capsys, argv):
    assert ockham_main(["memory", argv[0], str(tmp_path / "nope"), *argv[1:]]) == 1
    assert f"there is no folder {tmp_path / 'nope'}" in capsys.readouterr().err


def test_a_file_that_is_no_checkpoint_is_said_in_our_own_words(kept, capsys):
    assert ockham_main(["memory", "compare", str(kept[1]), str(kept[1] / "journal.jsonl")]) == 1
    assert capsys.readouterr().err.endswith("journal.jsonl is broken or no checkpoint of tensors and plain types\n")


def test_rollback_needs_no_last_pt_and_undo_takes_the_new_one_away(kept, tmp_path):
    out = shutil.copytree(kept[1], tmp_path / "out")
    (out / "last.pt").unlink()
    before = files(out)
    assert ockham_main(["memory", "rollback", str(out)]) == 0
    assert (out / "last.pt").is_file()
    assert ockham_main(["memory", "rollback", str(out), "--undo"]) == 0
    assert files(out) == before


def test_best_and_latest_are_among_the_states_that_are_there(kept, tmp_path, capsys):
    out = shutil.copytree(kept[1], tmp_path / "out")
    *others, last = open_kept(out).snapshots
    last.path.unlink()
    for verb, *more in (["best"], ["show", "best"], ["show", "latest"], ["rollback"]):
        capsys.readouterr()
        assert ockham_main(["memory", verb, str(out), *more]) == 0
        assert others[-1].id in capsys.readouterr().out
    for snapshot in others:
        snapshot.path.unlink()
    assert ockham_main(["memory", "rollback", str(out)]) == 1
    assert f"{last.id} are gone" in capsys.readouterr().err


def events(out):
    """The journal without the clock and without what a roll-back and its resume add."""
    return [
        {k: v for k, v in e.items() if k != "dt_ms"}
        for e in read(out / "journal.jsonl")
        if e["event"] not in ("resume", "checkpoint", "end")
    ]


@pytest.fixture(scope="module")
def engaging(tmp_path_factory):
    """A run from scratch in which the penalty engages on the way and every state is kept: (corpus, out_dir, options)."""
    folder = tmp_path_factory.mktemp("engaging")
    corpus = write_corpus(folder / "data" / "tiny")
    options = ("--memory.enabled=True", "--memory.min_oq_improvement=null", "--memory.max_snapshots=20", "--lambda_ockham=0.05",
               "--learning_rate=5e-2", "--anchor.patience=1", "--eval_interval=4", "--lr_decay_iters=40")  # fmt: skip
    assert train(corpus, folder / "out", *options) == 0
    assert 0 < next(read(folder / "out" / "journal.jsonl", "engage"))["iter"] < 36
    return corpus, folder / "out", options


@pytest.mark.parametrize("where", ["before", "at", "last"])
def test_a_run_that_was_rolled_back_goes_on_as_it_did_then(engaging, tmp_path, where):
    corpus, straight, options = engaging
    out = shutil.copytree(straight, tmp_path / "out")
    engaged = next(read(straight / "journal.jsonl", "engage"))["iter"]
    iter_num = {"before": engaged - 4, "at": engaged, "last": 40}[where]
    assert ockham_main(["memory", "rollback", str(out), f"iter-{iter_num:06d}"]) == 0
    assert train(corpus, out, "--init_from=resume", *options) == 0
    assert events(out) == events(straight)
    decided = [[{**line, "timestamp": 0} for line in read_lines(run / "decisions.jsonl")] for run in (out, straight)]
    assert decided[0] == decided[1]
    assert [s.id for s in open_kept(out).snapshots] == [s.id for s in open_kept(straight).snapshots]
    ends = [checkpoint.load_complete(run) for run in (out, straight)]
    for part in ("model", "learner", "rng"):
        others = other_leaves(ends[0][part], ends[1][part])
        assert [name for name in others if not name.endswith(".lr")] == []  # the groups' rates are set at the next step
    assert ends[0]["loop"]["memory"]["counts"] == ends[1]["loop"]["memory"]["counts"]


def test_from_the_last_snapshot_a_longer_run_goes_on_as_one_that_never_ended(engaging, tmp_path):
    corpus, straight, options = engaging
    out = shutil.copytree(straight, tmp_path / "out")
    assert train(corpus, tmp_path / "long", *options, "--max_iters=48") == 0
    assert ockham_main(["memory", "rollback", str(out), "latest"]) == 0
    assert train(corpus, out, "--init_from=resume", *options, "--max_iters=48") == 0
    assert events(out) == events(tmp_path / "long")


def test_after_a_rollback_the_best_is_counted_from_the_snapshot(engaging, tmp_path):
    out = shutil.copytree(engaging[1], tmp_path / "out")
    worse = max(open_kept(out).snapshots, key=lambda s: s.loss)
    assert ockham_main(["memory", "rollback", str(out), worse.id]) == 0
    assert checkpoint.load_complete(out)["loop"]["best_val_loss"] == worse.loss
    assert checkpoint.load_checkpoint(out / "ckpt.pt")["best_val_loss"] == worse.loss


def test_a_session_without_the_memory_leaves_what_it_knew(kept, tmp_path):
    out = shutil.copytree(kept[1], tmp_path / "out")
    told, counted = (out / "decisions.jsonl").read_bytes(), checkpoint.load_complete(out)["loop"]["memory"]
    # last.pt is from before the last evaluation, which every session judges again
    known = b"".join(told.splitlines(keepends=True)[:-1])
    assert train(kept[0], out, "--init_from=resume", "--memory.enabled=False", "--max_iters=50") == 0
    saved = checkpoint.load_complete(out)["loop"]
    assert (saved["decisions_bytes"], saved["memory"]) == (len(known), counted)
    assert (out / "decisions.jsonl").read_bytes() == told
    assert train(kept[0], out, "--init_from=resume", "--memory.enabled=True", "--max_iters=60") == 0
    assert (out / "decisions.jsonl").read_bytes().startswith(known)
    assert [line["iter_num"] for line in read_lines(out / "decisions.jsonl")] == [0, 10, 20, 30, 50, 60]
    assert json.loads((out / "summary.json").read_text())["memory"]["evaluations"] == 6


def test_after_a_return_the_memory_judges_with_the_drift_of_the_state_it_is_at(tiny_model, batch, tmp_path):
    model = tiny_model()
    learner, memory = OckhamLearner(model, host=PluginHost([])), OckhamMemory(folder=tmp_path / "memory")
    run = Run(tmp_path, learner, model, model.model_args(), {}, memory=memory)
    run.begin()
    run.record_evaluation(Evaluation(3.0, 3.0, 10))  # at the anchor: a drift of 0
    for step in range(3):
        run.record_step(learner.step(batch(step)), 0.0)
    assert run.drift > 0
    assert run.return_to_kept("over") == 0
    run.record_evaluation(Evaluation(3.0, 3.0, 10))
    run.close()
    assert memory.last.complexity_cost == 0


@pytest.mark.parametrize(
    ("more", "said"),
    [
        (["--lambda_ockham=0.01"], "waiting: memory.complexity_threshold, as no anchor is in force yet (anchor.penalize=auto"),
        (
            ["--anchor.penalize=never", "--lambda_ockham=0.01"],
            "no effect: memory.complexity_threshold, as anchor.penalize=never\n",
        ),
        ([], "as anchor.penalize=never, as lambda_ockham is 0 and the rack is empty"),
        (["--anchor.penalize=always", "--lambda_ockham=0.01"], ""),
    ],
)
def test_a_gate_that_waits_for_an_anchor_is_announced_once(corpus, tmp_path, capsys, more, said):
    options = "--memory.enabled=True", "--memory.complexity_threshold=0.1", "--lambda_ockham=0", "--max_iters=2"
    assert train(corpus, tmp_path / "out", *options, *more) == 0
    out = capsys.readouterr().out
    assert out.count("memory.complexity_threshold") == bool(said)
    assert said in out
    assert ockham_main(["memory", "list", str(tmp_path / "out")]) == 0
    assert {"complexity", "drift"} <= set(capsys.readouterr().out.splitlines()[0].split())


def test_where_all_was_rejected_list_says_the_counts_and_the_others_what_to_loosen(kept, tmp_path, capsys):
    out = tmp_path / "out"
    assert train(kept[0], out, "--memory.enabled=True", "--memory.quality_threshold=0.01", "--max_iters=20") == 0
    capsys.readouterr()
    said = "all 3 rejected: REJECTED_QUALITY 3; loosen memory.quality_threshold"
    assert ockham_main(["memory", "list", str(out)]) == 0
    assert said in capsys.readouterr().out
    assert ockham_main(["memory", "list", str(out), "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == {
        "snapshots": [],
        "verdicts": {"REJECTED_QUALITY": 3},
        "rolled_back_to": None,
    }
    for verb in ("show", "best", "rollback"):
        assert ockham_main(["memory", verb, str(out)]) == 1
        assert said in capsys.readouterr().err


def test_one_snapshot_over_the_cap_is_said_once(kept, tmp_path, capsys):
    out = tmp_path / "out"
    assert train(kept[0], out, "--memory.enabled=True", "--memory.max_mb=0.001") == 0
    assert capsys.readouterr().out.count("over memory.max_mb=0.001: only the newest is kept") == 1
    assert len(list(out.glob("memory/*.pt"))) == 1
    assert len(list(read(out / "journal.jsonl", "warning"))) == 1


def test_a_file_in_the_memorys_place_is_named_before_training(corpus, tmp_path, capsys):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "memory").touch()
    assert train(corpus, tmp_path / "out", "--memory.enabled=True") == 2
    assert "memory is a file; move it away" in capsys.readouterr().err


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
    assert causes == ["memory"] * len([d for d in accepted if d["iter_num"] < 40])  # after the last one nothing is learned


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
    assert "gone back 3 times already" in capsys.readouterr().err


def test_a_watchdog_without_a_memory_does_not_go_back_for_ever_either(corpus, tmp_path, capsys):
    recipe = tmp_path / "dog.yaml"
    recipe.write_text(WATCHDOG.format(threshold=1e-6, action="rollback"))
    out = tmp_path / "out"
    assert train(corpus, out, str(recipe), "--anchor.penalize=always", "--lambda_ockham=0.001", "--eval_interval=2") == 1
    assert len(list(read(out / "journal.jsonl", "rollback"))) == 3  # last.pt is another at every evaluation
    assert "gone back 3 times already" in capsys.readouterr().err


def test_a_returns_state_is_not_judged_by_what_was_measured_before(corpus, tmp_path):
    recipe = tmp_path / "dog.yaml"
    recipe.write_text(WATCHDOG.format(threshold=1e-6, action="rollback"))
    out = tmp_path / "out"
    options = "--anchor.penalize=always", "--lambda_ockham=0.001", "--eval_interval=1", "--memory.enabled=True"
    assert train(corpus, out, str(recipe), *options, "--memory.min_oq_improvement=null", "--memory.max_snapshots=20") == 1
    rollbacks = list(read(out / "journal.jsonl", "rollback"))
    asked = {e["iter"]: "kl_watchdog/kl" in e["metrics"] for e in read(out / "journal.jsonl", "step")}
    assert all(asked[r["iter"] - 1] for r in rollbacks)
    assert all(not asked.get(r["iter"], False) for r in rollbacks)  # the iteration after a return has no figure yet
    assert [r["to"] for r in rollbacks] == [1, 0, 0]  # each return is to an older state, as long as there is one


def test_a_watchdog_without_an_anchor_says_once_that_it_waits(corpus, tmp_path, capsys):
    recipe = tmp_path / "dog.yaml"
    recipe.write_text(WATCHDOG.format(threshold=0.5, action="log"))
    assert train(corpus, tmp_path / "out", str(recipe), "--lambda_ockham=0.001") == 0
    assert capsys.readouterr().out.count("none is in force yet (anchor.penalize=auto, from scratch)") == 1


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
