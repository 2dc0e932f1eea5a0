"""The line from anchor to weights: its ends are the two models, its points the hand-worked blends, and one of them is saved."""

from __future__ import annotations

import dataclasses
import json
import shutil

import pytest
import torch
from conftest import write_corpus

import configurator
import sample
import train_ockham
from model import GPT
from ockham import checkpoint
from ockham.__main__ import main as ockham_main
from ockham.data import open_corpus, sweep
from ockham.errors import UsageError, WorldError
from ockham.experiment.blend import Line, Point, Rule, alphas_of
from ockham.journal import read

SMALL = ["--device=cpu", "--compile=False", "--block_size=16", "--n_layer=1", "--n_head=2", "--n_embd=16", "--batch_size=4",
         "--eval_interval=20", "--log_interval=100", "--warmup_iters=0", "--decay_lr=False", "--learning_rate=1e-2"]  # fmt: skip
LETTERS = [chr(97 + i) for i in range(20)]


def train(corpus, out_dir, *more) -> int:
    argv = [f"--data_dir={corpus.parent}", f"--dataset={corpus.name}", f"--out_dir={out_dir}", *SMALL, *more]
    return configurator.run(train_ockham.main, argv)


def blend(run, *more) -> int:
    return ockham_main(["memory", "blend", str(run), *map(str, more)])


@pytest.fixture(scope="module", autouse=True)
def without_pictures():
    """report.html takes longer than these runs."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("ockham.experiment.report.write_report", lambda out_dir: None)
        yield


@pytest.fixture(scope="module")
def corpora(tmp_path_factory):
    """Two corpora of one vocabulary: counting up, and the same backwards."""
    up = write_corpus(tmp_path_factory.mktemp("data") / "up")
    down = shutil.copytree(up, up.parent / "down")
    for name in ("train.bin", "val.bin"):
        (down / name).write_bytes(torch.frombuffer(bytearray((up / name).read_bytes()), dtype=torch.int16).flip(0).numpy())
    return up, down


@pytest.fixture(scope="module")
def tuned(corpora, tmp_path_factory):
    """A run on `down` that began at the weights of one on `up`."""
    folder = tmp_path_factory.mktemp("runs")
    assert train(corpora[0], folder / "base", "--max_iters=60") == 0
    assert train(corpora[1], folder / "run", f"--init_from={folder / 'base'}", "--max_iters=40") == 0
    return folder / "run"


@pytest.fixture(scope="module")
def blended(tuned, tmp_path_factory):
    out = tmp_path_factory.mktemp("blends") / "out"
    assert blend(tuned, "--alpha=0.25,0.5", "--choose=0.5", f"--out={out}") == 0
    return out


def loss_of(path, corpus) -> float:
    """The val loss of a ckpt.pt on the whole split, by a forward pass of our own."""
    model, total, tokens = GPT.from_checkpoint(checkpoint.load_checkpoint(path)).eval(), 0.0, 0
    with torch.no_grad():
        for window in sweep(open_corpus(corpus).val, 16, 64):
            total += float(model(window[:, :-1].contiguous(), window[:, 1:].contiguous())[1]) * window[:, 1:].numel()
            tokens += window[:, 1:].numel()
    return total / tokens


def test_alpha_takes_a_range_a_list_or_one_number():
    assert alphas_of("0.5..0.9") == (0.5, 0.6, 0.7, 0.8, 0.9)
    assert alphas_of("1,0.25,0.5,0.25") == (0.25, 0.5, 1.0)
    assert alphas_of("0.75") == (0.75,)


@pytest.mark.parametrize(
    ("text", "told"),
    [("0.5..1.2", "got 1.2"), ("-0.1", "got -0.1"), ("nan", "got nan"), ("0.9..0.5", "goes up"), ("half", "must be a range")],
)
def test_alpha_outside_the_line_is_told(text, told):
    with pytest.raises(UsageError, match=told):
        alphas_of(text)


POINTS = [Point(0.0, 1.0, 2.0), Point(0.5, 1.1, 1.5), Point(0.75, 1.3, 1.34), Point(1.0, 1.6, 1.3)]


@pytest.mark.parametrize(
    ("rule", "asked", "alpha"),
    [
        (Rule(), (0.5, 0.75), 0.5),  # means 1.30, 1.32
        (Rule(), (0.0, 0.75, 1.0), 0.75),  # 1.5, 1.32, 1.45
        (Rule(alpha=0.75), (0.5,), 0.75),
        (Rule(within=0.05), (0.5, 0.75, 1.0), 0.75),
        (Rule(within=0.0), (0.5, 0.75, 1.0), 1.0),
        (Rule(max_loss_new=1.5), (0.5, 0.75), 0.5),
    ],
)
def test_the_rules_are_the_hand_worked_cases(rule, asked, alpha):
    assert rule.pick(POINTS, asked).alpha == alpha


def test_where_no_point_is_good_enough_the_best_is_named():
    with pytest.raises(WorldError, match=r"1\.3500 or less; the lowest is 1\.5000 at α = 0\.5"):
        Rule(within=0.05).pick(POINTS, (0.5,))


def test_the_ends_are_the_two_models_and_their_losses_are_the_runs_own(tuned, blended, corpora):
    first, *_, last = json.loads((blended / "blend.json").read_text())["points"]
    assert (first["alpha"], last["alpha"], first["forgetting"]) == (0, 1, 0)
    evals = {event["iter"]: event["val_loss"] for event in read(tuned / "journal.jsonl", "eval")}
    assert first["new_loss"] == pytest.approx(evals[0], rel=1e-5)
    assert last["new_loss"] == pytest.approx(evals[40], rel=1e-5)
    assert first["old_loss"] == pytest.approx(loss_of(tuned.parent / "base" / "ckpt.pt", corpora[0]), rel=1e-5)
    assert last["new_loss"] < first["new_loss"] - 0.1  # the witness: between the two something was learned and forgotten
    assert last["forgetting"] > 0.1


def test_the_saved_weights_lie_on_the_line(tuned, blended, corpora):
    state, base = checkpoint.load_complete(tuned), checkpoint.load_checkpoint(tuned.parent / "base" / "ckpt.pt")
    saved = checkpoint.load_checkpoint(blended / "ckpt.pt")
    for name, theta in state["model"].items():
        expected = (base["model"][name].double() + theta.double()) / 2
        torch.testing.assert_close(saved["model"][name].double(), expected, rtol=1e-6, atol=1e-7)
    point = next(p for p in json.loads((blended / "blend.json").read_text())["points"] if p["alpha"] == 0.5)
    assert saved["best_val_loss"] == point["new_loss"] == pytest.approx(loss_of(blended / "ckpt.pt", corpora[1]), rel=1e-5)
    assert point["old_loss"] == pytest.approx(loss_of(blended / "ckpt.pt", corpora[0]), rel=1e-5)


def test_both_ends_are_exact_to_the_bit(tuned):
    line = Line.open(tuned)
    for alpha, end in ((0.0, line.anchor), (1.0, line.weights), (0.3, None)):
        line.go_to(alpha)
        own = list(line.model.parameters())
        assert end is None or all(torch.equal(p, e) for p, e in zip(own, end, strict=True))
        assert line.model.lm_head.weight is line.model.transformer["wte"].weight


def test_sample_and_init_from_take_the_blend(blended, corpora, tmp_path, capsys):
    assert set(checkpoint.load_checkpoint(blended / "ckpt.pt")) == set(
        checkpoint.inference_checkpoint({}, {}, dict.fromkeys(checkpoint.MODEL_ARGS), 0, 0.0, {})
    )
    assert sample.main([f"--out_dir={blended}", "--start=a", "--num_samples=1", "--max_new_tokens=4", "--device=cpu"]) == 0
    assert train(corpora[0], tmp_path / "on", f"--init_from={blended}", "--max_iters=2") == 0


def test_the_table_marks_both_ends_and_a_picture_lies_beside(tuned, tmp_path, capsys):
    assert blend(tuned, "--alpha=0.25,0.75", f"--out={tmp_path / 'out'}") == 0
    said = capsys.readouterr().out
    rows = [line.split() for line in said.splitlines()]
    assert [row[-1] for row in rows if row[:1] in (["0"], ["1"])] == ["anchor", "weights"]
    assert [row[0] for row in rows if len(row) == 5 and row[0] != "α"] == ["0.25", "0.75"]
    assert "old up, new down" in said
    assert f"weights brought in from {tuned.parent / 'base'}" in said
    assert "<svg" in (tmp_path / "out" / "blend.svg").read_text()


def test_averaged_weights_are_the_ones_blended(corpora, tuned, tmp_path):
    more = f"--init_from={tuned.parent / 'base'}", "--max_iters=20", "--optimizer.ema.decay=0.9"
    assert train(corpora[1], tmp_path / "run", *more) == 0
    state = checkpoint.load_complete(tmp_path / "run")
    assert blend(tmp_path / "run", "--alpha=1") == 0  # into run-blend
    saved = checkpoint.load_checkpoint(tmp_path / "run-blend" / "ckpt.pt")["model"]
    assert all(torch.equal(saved[name], state["evaluated"][name]) for name in saved)
    assert any(not torch.equal(saved[name], state["model"][name]) for name in saved)


def test_a_place_that_is_taken_is_refused_and_a_run_never_replaced(tuned, blended, tmp_path, capsys):
    out = shutil.copytree(blended, tmp_path / "out")
    assert blend(tuned, f"--out={out}") == 2
    assert "--overwrite replaces the blend in it" in capsys.readouterr().err
    assert blend(tuned, f"--out={out}", "--alpha=0.75", "--overwrite") == 0
    assert json.loads((out / "blend.json").read_text())["chosen"] == 0.75
    assert blend(tuned, f"--out={tuned.parent / 'base'}", "--overwrite") == 2
    assert "never replaces" in capsys.readouterr().err


def test_random_weights_are_no_anchor_but_another_can_be_named(corpora, tuned, tmp_path, capsys):
    assert train(corpora[1], tmp_path / "run", "--max_iters=5", "--anchor.penalize=never") == 0
    capsys.readouterr()
    assert blend(tmp_path / "run", "--old=up") == 1
    assert "began at random weights, and they are still its anchor (anchor.penalize=never); --anchor" in capsys.readouterr().err
    assert blend(tmp_path / "run", f"--anchor={tuned.parent / 'base'}", "--alpha=0.5") == 0
    assert f"anchor: {tuned.parent / 'base'}; old up, new down" in capsys.readouterr().out


def test_an_anchor_that_has_moved_is_said_to_have(corpora, tuned, tmp_path, capsys):
    more = f"--init_from={tuned.parent / 'base'}", "--max_iters=20", "--lambda_ockham=0.01", "--consolidate_interval=8"
    assert train(corpora[1], tmp_path / "run", *more) == 0
    assert blend(tmp_path / "run") == 0
    assert "moved to the weights 2 times, last before iteration 1" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("flags", "code", "told"),
    [
        (["--old=down"], 2, "the old corpus and the new one are both down"),
        (["--old=other"], 1, "numbers its characters otherwise"),
        (["--old=nowhere"], 1, "there is no corpus 'nowhere'"),
        (["--choose=1.5"], 2, "within 0 and 1, got 1.5"),
        (["--choose=best"], 2, "--choose must be mean, or an α"),
        (["--within=-1"], 2, "--within must be 0 or more"),
        (["--max-loss-new=0"], 2, "--max-loss-new must be over 0"),
        (["--alpha=2"], 2, "got 2"),
        (["--max-loss-new=0.1"], 1, "has a new loss of 0.1000 or less"),
    ],
)
def test_what_cannot_be_is_told_in_one_line(tuned, corpora, tmp_path, capsys, flags, code, told):
    other = write_corpus(corpora[0].parent / "other", vocab=19)
    assert other.is_dir()
    assert blend(tuned, *flags, f"--out={tmp_path / 'out'}") == code
    assert told in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_where_the_old_run_is_gone_its_corpus_must_be_named(tuned, tmp_path, capsys):
    run = shutil.copytree(tuned, tmp_path / "run")
    records = json.loads((run / "audit.json").read_text())
    records["records"][0]["config"]["init_from"] = str(tmp_path / "gone")
    (run / "audit.json").write_text(json.dumps(records))
    assert blend(run) == 2
    assert "name the corpus whose loss is the old one: --old CORPUS" in capsys.readouterr().err
    assert blend(run, "--old=up") == 0


def test_a_folder_without_last_pt_and_one_without_a_line_are_told(corpora, tuned, tmp_path, capsys):
    assert blend(tmp_path) == 1
    assert "has no last.pt, which holds the anchor" in capsys.readouterr().err
    assert train(corpora[1], tmp_path / "run", f"--init_from={tuned.parent / 'base'}", "--max_iters=0") == 0
    assert blend(tmp_path / "run") == 1
    assert "the anchor lies at the weights" in capsys.readouterr().err


def test_a_rule_says_itself():
    assert {str(Rule(**{field.name: 0.5})) for field in dataclasses.fields(Rule)} | {str(Rule())} == {
        "as asked for",
        "the least α whose new loss is within 0.5 of that at α = 1",
        "the least α whose new loss is 0.5 at most",
        "lowest mean of both losses",
    }
