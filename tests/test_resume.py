"""N straight steps equal k steps, a kill, and the rest: bit for bit, and every part of the saved state is needed for that."""

import json
import os
import signal
import subprocess
import sys
import time

import pytest
import torch

import configurator
import train_ockham
from ockham import checkpoint
from ockham.errors import CheckpointError

TIMES = ("dt_ms",)


def arguments(corpus, out_dir, *more, dropout=0.1, preset="exploratory"):
    return [
        f"--data_dir={corpus.parent}", f"--dataset={corpus.name}", f"--out_dir={out_dir}", f"--preset={preset}", "--device=cpu",
        "--compile=False", "--block_size=16", "--n_layer=2", "--n_head=2", "--n_embd=16", "--batch_size=4", "--max_iters=40",
        f"--dropout={dropout}", "--eval_interval=10", "--log_interval=100", "--learning_rate=3e-3", "--warmup_iters=5",
        "--anchor.penalize=always", "--consolidate_interval=7", "--surprise_threshold=null", "--target_update_rate=0.6", 
        "rack.limiter.complexity_ceiling=0.0001", *more,
    ]  # fmt: skip


def train(argv) -> int:
    return configurator.run(train_ockham.main, argv)


def interrupted_at(step):
    """A stop request that comes, as a signal would, once `step` iterations are done."""

    class StopThere(train_ockham.Stop):
        asked = 0

        def requested(self):
            StopThere.asked += 1
            if StopThere.asked > step:
                self.signal = signal.SIGTERM
            return super().requested()

    return StopThere


def end_state(out_dir):
    return torch.load(out_dir / "last.pt", weights_only=True)


def journal(out_dir):
    """Steps, evaluations and interventions, without times."""
    kept = []
    for line in (out_dir / "journal.jsonl").read_text().splitlines():
        entry = {k: v for k, v in json.loads(line).items() if k not in TIMES}
        if entry["event"] not in ("resume", "checkpoint", "end"):
            kept.append(entry)
    return kept


def differences(a, b, path=""):
    """Names of the leaves in which two states differ; wall-clock figures aside."""
    if isinstance(a, torch.Tensor):
        return [] if torch.equal(a, b) else [path]
    if isinstance(a, dict):
        if a.keys() != b.keys():
            return [path]
        return [
            d
            for k in a
            if k not in ("train_s", "wall_s", "journal_bytes", "decisions_bytes", "created", "config")
            for d in differences(a[k], b[k], f"{path}/{k}")
        ]
    if isinstance(a, (list, tuple)):
        if len(a) != len(b):
            return [path]
        return [d for i, (x, y) in enumerate(zip(a, b, strict=True)) for d in differences(x, y, f"{path}/{i}")]
    return [] if a == b else [path]


@pytest.fixture
def straight(corpus, tmp_path):
    assert train(arguments(corpus, tmp_path / "straight")) == 0
    return tmp_path / "straight"


@pytest.fixture
def stopped(corpus, tmp_path, monkeypatch):
    with monkeypatch.context() as patch:
        patch.setattr(train_ockham, "Stop", interrupted_at(17))
        assert train(arguments(corpus, tmp_path / "stopped")) == 143
    state = checkpoint.load_complete(tmp_path / "stopped")
    assert state["learner"]["counters"]["iter_num"] == 17
    return tmp_path / "stopped"


def test_resumed_run_equals_a_straight_one_bit_for_bit(corpus, straight, stopped):
    assert train(arguments(corpus, stopped, "--init_from=resume")) == 0
    assert differences(end_state(straight), end_state(stopped)) == []
    assert journal(straight) == journal(stopped)


@pytest.mark.parametrize("more", [
    ["--dtype=float64"], ["--dtype=float16"], ["--dtype=bfloat16"], ["optimizer=muon"], ["--gradient_accumulation_steps=3"],
], ids=lambda more: more[0])  # fmt: skip
def test_resume_is_bit_exact_in_every_precision_and_optimizer(corpus, tmp_path, monkeypatch, more):
    straight, stopped = tmp_path / "straight", tmp_path / "stopped"
    assert train(arguments(corpus, straight, *more)) == 0
    with monkeypatch.context() as patch:
        patch.setattr(train_ockham, "Stop", interrupted_at(17))
        assert train(arguments(corpus, stopped, *more)) == 143
    assert train(arguments(corpus, stopped, *more, "--init_from=resume")) == 0
    assert differences(end_state(straight), end_state(stopped)) == []
    assert journal(straight) == journal(stopped)


OPTIMIZERS = ["adamw", "adam", "sgd", "rmsprop", "adafactor", "lion", "muon"]
AROUND = {
    "lookahead": ["optimizer.lookahead.enabled=true", "optimizer.lookahead.k=6"],  # 17 iterations at rate .6 end inside a cycle
    "lookahead, fused": ["optimizer.lookahead.enabled=true", "optimizer.lookahead.k=6", "optimizer.fused=true"],
    "average": ["optimizer.ema.decay=0.9"],
}


@pytest.mark.parametrize("around", AROUND)
@pytest.mark.parametrize("name", OPTIMIZERS)
def test_resume_is_bit_exact_inside_a_lookahead_cycle_and_of_an_average(corpus, tmp_path, monkeypatch, name, around):
    straight, stopped = tmp_path / "straight", tmp_path / "stopped"
    more = [f"optimizer={name}", *AROUND[around], "--max_iters=26", "--lr_decay_iters=26", "--eval_interval=13", "--n_layer=1"]
    assert train(arguments(corpus, straight, *more)) == 0
    with monkeypatch.context() as patch:
        patch.setattr(train_ockham, "Stop", interrupted_at(17))
        assert train(arguments(corpus, stopped, *more)) == 143
    state = end_state(stopped)["learner"]
    if "average" in around:
        assert state["average"]["n_averaged"] == state["counters"]["updates"] > 0
    else:
        groups = state["optimizer"]["base_optimizer"]
        assert 0 < (groups.get("parts") or [groups])[0]["param_groups"][0]["counter"] == state["counters"]["updates"] % 6
    assert train(arguments(corpus, stopped, *more, "--init_from=resume")) == 0
    assert differences(end_state(straight), end_state(stopped)) == []
    assert journal(straight) == journal(stopped)


def test_rack_acts_in_that_run(straight):
    """What the comparison above is worth: batches were skipped, parameters moved, the anchor consolidated, noise drawn."""
    events = journal(straight)
    steps = [e for e in events if e["event"] == "step"]
    assert {plugin for e in steps for plugin, *_ in e["changes"]} >= {"gate", "eq", "saturation"}
    assert 0 < sum(e["updated"] for e in steps) < len(steps)
    assert any(e["event"] == "consolidate" for e in events)


def tensors(state):
    if isinstance(state, torch.Tensor):
        return [state]
    values = state.values() if isinstance(state, dict) else state if isinstance(state, (list, tuple)) else []
    return [t for v in values for t in tensors(v)]


def forget_weights(state):
    for tensor in state["model"].values():
        tensor.mul_(1.001)


def forget_optimizer(state):
    for tensor in tensors(state["learner"]["optimizer"]["state"]):
        tensor.zero_()


def forget_updates(state):
    state["learner"]["counters"]["updates"] += 1


def forget_anchor(state):
    for tensor in state["learner"]["anchor"]["weights"]:
        tensor.mul_(1.01)


def forget_random_state(state):
    state["rng"][0]["torch"] = torch.Generator().manual_seed(1).get_state()


def forget_gate(state):
    fresh_plugins(state, "gate")


def forget_saturation(state):
    fresh_plugins(state, "saturation")


def fresh_plugins(state, name):
    from ockham.presets import load_preset

    state["learner"]["plugins"]["plugins"][name] = load_preset("exploratory").host().state_dict()["plugins"][name]


def forget_eq(state):
    fresh_plugins(state, "eq")


def forget_compressor(state):
    fresh_plugins(state, "compressor")


def forget_limiter(state):
    fresh_plugins(state, "limiter")


def forget_ledger(state):
    state["learner"]["ledger"]["updates"] += 1


def forget_clock(state):
    state["learner"]["counters"]["iter_num"] -= 1


def forget_consolidation(state):
    state["learner"]["counters"]["consolidated_at"] = 0


def forget_journal(state):
    state["loop"]["journal_bytes"] -= 1


PARTS = [value for name, value in list(globals().items()) if name.startswith("forget_")]


@pytest.mark.parametrize("forget", PARTS, ids=[f.__name__ for f in PARTS])
def test_every_part_of_the_state_is_needed(corpus, straight, stopped, forget):
    state = end_state(stopped)
    forget(state)
    checkpoint.save(state, stopped / "last.pt")
    code = train(arguments(corpus, stopped, "--init_from=resume"))
    try:
        same = code == 0 and differences(end_state(straight), end_state(stopped)) == [] and journal(straight) == journal(stopped)
    except json.JSONDecodeError:  # a journal cut in mid-line
        same = False
    assert not same


@pytest.mark.parametrize("part", ["learner", "rng", "loop"])
def test_missing_part_is_an_error_not_a_shrug(corpus, stopped, part, capsys):
    state = end_state(stopped)
    del state[part]
    checkpoint.save(state, stopped / "last.pt")
    assert train(arguments(corpus, stopped, "--init_from=resume")) == 1
    assert f"lacks {part}" in capsys.readouterr().err


def test_sigkill_between_checkpoints_loses_nothing_but_time(corpus, straight, tmp_path, root):
    out_dir = tmp_path / "killed"
    argv = arguments(corpus, out_dir, "--max_iters=4000", "--lr_decay_iters=40", "--checkpoint_interval=13")
    process = subprocess.Popen(
        [sys.executable, root / "train_ockham.py", *argv], stdout=subprocess.DEVNULL, env=os.environ | {"OMP_NUM_THREADS": "1"}
    )
    while not (out_dir / "last.pt").exists() or checkpoint.load_complete(out_dir)["learner"]["counters"]["iter_num"] < 13:
        assert process.poll() is None
        time.sleep(0.02)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    reached = checkpoint.load_complete(out_dir)["learner"]["counters"]["iter_num"]
    reference = tmp_path / "reference"
    total = reached + 20
    more = [f"--max_iters={total}", "--lr_decay_iters=40", "--checkpoint_interval=13"]
    assert train(arguments(corpus, reference, *more)) == 0
    assert train(arguments(corpus, out_dir, *more, "--init_from=resume")) == 0
    assert differences(end_state(reference), end_state(out_dir)) == []
    assert journal(reference) == journal(out_dir)


def test_other_number_of_ranks_is_refused(stopped):
    state = end_state(stopped)
    state["rng"] = state["rng"] * 2
    checkpoint.save(state, stopped / "last.pt")
    run = train_ockham.rundir.Run.__new__(train_ockham.rundir.Run)
    run.ranks = train_ockham.Ranks(torch.device("cpu"))
    with pytest.raises(CheckpointError, match="written by 2 ranks, this run has 1"):
        run.resume(state)


@pytest.mark.parametrize("more", [[], ["optimizer.lookahead.enabled=true"]], ids=["alone", "lookahead"])
def test_other_groups_on_resume_leave_every_parameter_its_own_moments(corpus, tmp_path, monkeypatch, more):
    """Where both groups decay by 0, it cannot matter which parameter is in which."""
    straight, stopped = tmp_path / "straight", tmp_path / "stopped"
    more = [*more, "--weight_decay=0"]
    assert train(arguments(corpus, straight, *more)) == 0
    with monkeypatch.context() as patch:
        patch.setattr(train_ockham, "Stop", interrupted_at(17))
        assert train(arguments(corpus, stopped, *more)) == 143
    others = "optimizer.auto_param_groups.no_decay_patterns=[c_proj,ln_1]"
    assert train(arguments(corpus, stopped, *more, "--init_from=resume", others)) == 0
    assert differences(end_state(straight)["model"], end_state(stopped)["model"]) == []


def test_last_pt_without_names_still_resumes_bit_for_bit(corpus, straight, stopped):
    state = end_state(stopped)
    for group in state["learner"]["optimizer"]["param_groups"]:
        del group["param_names"]
    checkpoint.save(state, stopped / "last.pt")
    assert train(arguments(corpus, stopped, "--init_from=resume")) == 0
    assert differences(end_state(straight), end_state(stopped)) == []


def test_amsgrad_switched_on_at_resume_is_one_line_with_the_way_out(corpus, stopped, capsys):
    capsys.readouterr()
    assert train(arguments(corpus, stopped, "--init_from=resume", "optimizer.amsgrad=true")) == 1
    [line] = capsys.readouterr().err.strip().splitlines()
    assert "optimizer.amsgrad = True cannot be switched on in mid-run" in line
    assert "--init_from=" in line
