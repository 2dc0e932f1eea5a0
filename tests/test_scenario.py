"""Scenarios: what a file may say, corpora that number their characters alike, stages that go on from one another, and figures."""

from __future__ import annotations

import json
import math

import job_scripts
import numpy as np
import pytest
import torch
from test_streams import corpus_at

import configurator
from model import GPT, GPTConfig
from ockham import checkpoint
from ockham.__main__ import parser
from ockham.arguments import DEBUG
from ockham.commands.ab import given
from ockham.configuration.files import ROOT
from ockham.data import open_corpus
from ockham.errors import ConfigError, CorpusError, PresetError, UsageError
from ockham.experiment import ab as subject
from ockham.experiment import ab_page, retention, scenario_page, variants
from ockham.experiment.corpora import prepare
from ockham.experiment.jobs import Job, Outcome, write_outcome
from ockham.experiment.matrix import figures_of
from ockham.experiment.scenario import Scenario, Stage
from ockham.experiment.scenario_file import read_scenario
from ockham.experiment.weighed import Weights
from ockham.experiment.work import ASKED, asked, finished, perform
from ockham.tokenizer import load_tokenizer

TINY = ("config/train_fables.py", "--max_iters=20", "--lr_decay_iters=20", "--batch_size=2", "--block_size=4")


def scenario_at(tmp_path, text):
    path = tmp_path / "mine.yaml"
    path.write_text(text)
    return read_scenario(str(path))


# what is written --------------------------------------------------------------------------------------------------------
def test_a_list_of_corpora_is_a_scenario_whose_last_stage_the_variants_train():
    scenario = read_scenario("a,b,c")
    assert [(stage.dataset, stage.is_shared) for stage in scenario.stages] == [("a", True), ("b", True), ("c", False)]
    assert (scenario.name, scenario.old, scenario.new) == ("a-b-c", ("a", "b"), ("c",))


def test_the_scenarios_that_are_shipped_can_be_read():
    found = {path.stem: read_scenario(f"scenarios/{path.name}") for path in (ROOT / "scenarios").glob("*.yaml")}
    assert sorted(found) == ["keep_old", "keep_old_reversed", "noisy", "redundant", "shuffled"]
    assert all(scenario.name == stem for stem, scenario in found.items())
    there, back = found["keep_old"], found["keep_old_reversed"]
    assert [stage.dataset for stage in back.stages] == [stage.dataset for stage in there.stages][::-1]
    assert [stage.args for stage in back.stages] == [stage.args for stage in there.stages]
    for scenario in found.values():
        for stage in scenario.stages:
            assert configurator.resolve([scenario.recipe, *stage.args]).config.n_embd == 128
    first = configurator.resolve([there.recipe, *there.stages[0].args]).config
    assert (first.optimizer.name, first.optimizer.lr) == ("muon", 0.02)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("stages: []", r"one stage or more.*mine.yaml:1"),
        ("stagse: [{dataset: a}]", r"did you mean stages\?.*:1"),
        ("- dataset: a", "must be a mapping"),
        ("stages:\n- dataset: a\n  stream: {kind: noise, from: a}", "either dataset.*:2"),
        ("stages:\n- dataset: ../a", "must name a corpus"),
        ("stages:\n- dataset: a\n  shared: true", "last stage.*:3"),
        ("stages:\n- {dataset: a, shared: false}\n- {dataset: b, shared: true}\n- dataset: c", "cannot follow.*:3"),
        ("stages:\n- dataset: a\n  args: --max_iters=3", "must be a list.*:3"),
        ("stages:\n- dataset: a\n  args: [--max_itres=3]", "unknown key max_itres .did you mean max_iters"),
        ("stages:\n- dataset: a\n  args: [--seed=3]", "ab sets seed itself"),
        ("stages:\n- dataset: a\n  args: [--init_from=gpt2]", "the scenario sets init_from itself"),
        ("stages:\n- dataset: a\n  args: [evil.py]", "must be --key=value"),
        ("recipe: ../evil.py\nstages: [{dataset: a}]", "file in config/.*:1"),
        ("stages:\n- stream: {kind: nois, from: a}", r"did you mean noise\?"),
        ("stages:\n- stream: {kind: noise}", "must name a corpus"),
        ("stages:\n- stream: {kind: noise, from: a, pool: 3}", "unknown key of a stream of kind noise 'pool'"),
        ("stages:\n- stream: {kind: noise, from: a, share: 2}", r"in \[0, 1\]"),
        ("stages:\n- stream: {kind: switch, from: a}", "two sources"),
        ("stages:\n- stream: {kind: mixture, from: [a, b], shares: [1]}", "2 numbers above 0"),
        ("stages:\n- stream: {kind: mixture, from: [a, b], shares: [.inf, 1]}", "2 numbers above 0"),
        ("stages:\n- stream: {kind: shuffled, from: [a, a]}", "given twice"),
        ("stages: [", "not a readable scenario.*mine.yaml"),
    ],
)  # fmt: skip
def test_what_is_written_wrong_is_told_with_its_line(tmp_path, text, said):
    with pytest.raises(PresetError, match=said):
        scenario_at(tmp_path, text)


def test_a_file_that_is_not_there_names_the_nearest():
    with pytest.raises(ConfigError, match=r"did you mean keep_old.yaml\?"):
        read_scenario("keep_odl.yaml")


def test_bands_are_sources(tmp_path):
    scenario = scenario_at(tmp_path, "stages:\n- stream: {kind: switch, from: fables, bands: [easy, hard], every: 7}")
    assert scenario.stages[0].sources == ("fables/easy", "fables/hard")
    assert scenario.stages[0].stream.params == {"every": 7}


# one vocabulary ---------------------------------------------------------------------------------------------------------
def test_corpora_get_the_union_of_their_characters_and_keep_their_text_splits_and_bands(tmp_path):
    corpus_at(tmp_path / "data" / "a", [0, 1, 2, 1] * 5, "xyz", bands=[["low", "train", 0, 7, 0.1]])
    corpus_at(tmp_path / "data" / "b", [0, 1] * 8, "az")
    prepared = prepare(["a", "b"], tmp_path / "data", tmp_path / "out", True)
    assert not (tmp_path / "out").exists()
    prepared.write()
    copies = {name: open_corpus(prepared.of(name)) for name in "ab"}
    assert load_tokenizer(copies["a"].folder).itos == ["a", "x", "y", "z"]
    assert copies["a"].vocabulary == copies["b"].vocabulary
    for name, copied in copies.items():
        old, new = load_tokenizer(tmp_path / "data" / name), load_tokenizer(copied.folder)
        source = open_corpus(tmp_path / "data" / name)
        for split in ("train", "val"):
            assert new.decode(getattr(copied, split).array()) == old.decode(getattr(source, split).array())
    assert copies["a"].meta["bands"] == [["low", "train", 0, 7, 0.1]]
    assert (copies["a"].floor, "recipe" in copies["a"].meta) == (0.5, False)


def test_corpora_that_are_alike_are_read_where_they_are(tmp_path):
    for name in "ab":
        corpus_at(tmp_path / "data" / name, [0, 1] * 8, "xy")
    prepared = prepare(["a", "b"], tmp_path / "data", tmp_path / "out", True)
    assert (prepared.folder, prepared.copies) == (tmp_path / "data", ())
    assert prepare(["a", "b"], tmp_path / "data", tmp_path / "out", False).copies


def test_characters_beside_gpt2s_tokens_are_refused_with_the_fix(tmp_path):
    corpus_at(tmp_path / "data" / "a", [0, 1] * 8, "xy")
    corpus_at(tmp_path / "data" / "b", [0, 1] * 8, kind="gpt2")
    with pytest.raises(CorpusError, match=r"corpus b has GPT-2's tokens.*--tokenizer char"):
        prepare(["a", "b"], tmp_path / "data", tmp_path / "out", True)


# figures ----------------------------------------------------------------------------------------------------------------
def test_the_figures_of_a_matrix_worked_by_hand():
    scenario = Scenario("x", (Stage("a"), Stage("b"), Stage("c", is_shared=False)))
    matrix = ((1.0, 3.0, 3.5), (1.4, 2.0, 3.0), (1.2, 2.6, 1.0))
    found = figures_of(scenario, matrix, 4.0, 0.25, [30.0, 20.0, 10.0])
    assert (found.new, found.average) == (1.0, pytest.approx(4.8 / 3))
    assert found.forgotten == {"a": pytest.approx(0.2), "b": pytest.approx(0.6)}
    assert found.forgetting == pytest.approx(0.4)
    assert found.backward == pytest.approx(-0.4)  # as each old corpus was best when it had just been learned
    assert found.forward == pytest.approx(((4 - 3.0) + (4 - 3.0)) / 2)
    assert (found.drift, found.units, found.units_all) == (0.25, 10.0, 60.0)


def test_forgetting_is_from_the_best_stage_and_backward_transfer_from_the_one_that_learned_it():
    scenario = Scenario("x", (Stage("a"), Stage("b"), Stage("c", is_shared=False)))
    found = figures_of(scenario, ((2.0, 3.0, 3.0), (1.5, 2.0, 3.0), (1.7, 2.0, 1.0)), 4.0, None, [1.0, 1.0, None])
    assert found.forgotten["a"] == pytest.approx(0.2)
    assert found.backward == pytest.approx((2.0 - 1.7 + 0.0) / 2)
    assert found.units_all is None


def test_one_stage_has_nothing_to_forget():
    found = figures_of(Scenario("x", (Stage("a", is_shared=False),)), ((1.5,),), 4.0, None, [3.0])
    assert (found.new, found.forgetting, found.backward, found.forward) == (1.5, None, None, None)


def save_model(folder, scale=0.0, vocab=8):
    """A small GPT with all weights moved by `scale` times themselves."""
    torch.manual_seed(0)
    shape = {"n_layer": 1, "n_head": 1, "n_embd": 8, "block_size": 4, "bias": False, "dropout": 0.0}
    model = GPT(GPTConfig(vocab_size=vocab, **shape))
    with torch.no_grad():
        for weight in model.parameters():
            weight.mul_(1 + scale)
    state = checkpoint.inference_checkpoint(model.state_dict(), {}, {**shape, "vocab_size": vocab}, 1, 2.0, {"dataset": "a"})
    checkpoint.save(state, folder / "ckpt.pt")
    return model


def test_a_loss_is_that_of_every_token_of_the_split_and_drift_is_relative(tmp_path):
    corpus_at(tmp_path / "a", np.random.default_rng(0).integers(0, 8, 23))
    corpus, model = open_corpus(tmp_path / "a"), save_model(tmp_path / "one")
    save_model(tmp_path / "two", scale=0.1)
    tokens = torch.tensor(corpus.val.array().astype(int))
    parts = [(tokens[i : i + 4], tokens[i + 1 : i + 5]) for i in range(0, 22, 4)]
    parts = [(x[: len(y)], y) for x, y in parts]
    with torch.no_grad():
        by_hand = sum(float(model(x[None], y[None])[1]) * len(y) for x, y in parts) / 22
    known = retention.losses_of(tmp_path / "two", tmp_path / "one", {"a": corpus})
    assert retention.val_loss(Weights.read("one", tmp_path / "one" / "ckpt.pt"), corpus) == pytest.approx(by_hand, abs=1e-6)
    assert known["drift"] == pytest.approx(0.01, rel=1e-4)


def test_a_checkpoint_is_evaluated_once_and_again_when_it_has_changed(tmp_path, monkeypatch):
    corpus_at(tmp_path / "a", np.arange(23) % 8)
    corpus, count = {"a": open_corpus(tmp_path / "a")}, []
    save_model(tmp_path / "run")
    monkeypatch.setattr(retention, "val_loss", lambda weights, corpus: count.append(1) or 1.5)
    first = retention.losses_of(tmp_path / "run", None, corpus)
    assert retention.losses_of(tmp_path / "run", None, corpus) == first
    assert len(count) == 1
    save_model(tmp_path / "run", scale=0.2)
    retention.losses_of(tmp_path / "run", None, corpus)
    assert len(count) == 2


# a whole experiment -----------------------------------------------------------------------------------------------------
@pytest.fixture
def lab(tmp_path, monkeypatch):
    """Corpora a and b that are unlike, no GPU, no pictures; a script that notes its calls and leaves a checkpoint file."""
    monkeypatch.setattr(variants, "has_gpu", lambda: False)
    for module in (ab_page, scenario_page):
        monkeypatch.setattr(module, "svg", lambda draw, width, height: "<svg></svg>")
    rng = np.random.default_rng(3)
    corpus_at(tmp_path / "data" / "a", rng.integers(0, 3, 90), "xyz")
    corpus_at(tmp_path / "data" / "b", rng.integers(0, 2, 90), "ab")

    def evaluated(weights, corpus):
        """Old and new by the name of the run: keeping variants have a higher new and a lower old loss."""
        name = weights.path.parent.name
        seed = 0.01 * int(name.rpartition("seed")[2])
        if name.startswith("stage1"):
            return {"a": 1.0, "b": 3.0}[corpus.folder.name[0]] + seed
        keeps = name.startswith("keep")
        return {"a": 1.1 if keeps else 1.5, "b": 1.4 if keeps else 1.3}[corpus.folder.name[0]] + seed * (1.1 + 0.01 * len(name))

    class Weightless:
        def __init__(self, path):
            self.path = path

    monkeypatch.setattr(retention.Weights, "read", lambda name, path: Weightless(path))
    monkeypatch.setattr(retention, "val_loss", evaluated)
    monkeypatch.setattr(retention, "drift_between", lambda after, before: 0.125)
    script = job_scripts.ab_stand_in(tmp_path)
    script.write_text(script.read_text() + '\n(out / "ckpt.pt").write_text(str(out) + preset)\n')
    return tmp_path, script


def options(lab, *argv):
    base = (*TINY, f"--data_dir={lab[0] / 'data'}", f"--out={lab[0] / 'out'}")
    found, rest = parser().parse_known_args(["ab", *base, *argv])
    found.rest = [arg for arg in rest if not DEBUG.fullmatch(arg)]
    found.given = given(found)
    return found


def experiment(lab, *argv):
    code = subject.ab(options(lab, *argv), script=lab[1])
    return code, json.loads((lab[0] / "out" / "ab.json").read_text())


def calls(lab, name):
    return [json.loads(line) for line in (lab[0] / "out" / name / "calls.jsonl").read_text().splitlines()]


KEEP = ("--presets=none", "--variant", "keep: --lambda_ockham=0.1")
SIX = "--seeds=1,2,3,4,5,6"


def test_all_variants_go_on_from_one_shared_run_a_seed(lab):
    code, found = experiment(lab, "--scenario=a,b", *KEEP, "--seeds=1,2")
    assert code == 0
    assert sorted(path.name for path in (lab[0] / "out" / "stages").iterdir()) == ["stage1_seed1", "stage1_seed2"]
    shared = calls(lab, "stages/stage1_seed2")[0]
    assert "--dataset=a" in shared
    assert not [arg for arg in shared if "lambda_ockham" in arg or "init_from" in arg]
    for name in ("none", "keep"):
        argv = calls(lab, f"runs/{name}_seed2")[0]
        assert f"--init_from={lab[0] / 'out' / 'stages' / 'stage1_seed2'}" in argv
        assert {"--dataset=b", f"--data_dir={lab[0] / 'out' / 'corpora'}", "--always_save_checkpoint=True"} <= set(argv)
    run = found["variants"][1]["runs"][0]["scenario"]
    assert run["matrix"] == [[1.01, 3.01], pytest.approx([1.1, 1.4], abs=0.02)]
    assert run["drift"] == 0.125
    assert found["scenario"]["corpora"] == ["a", "b"]


def test_the_verdicts_are_about_new_loss_forgetting_and_average_loss(lab, capsys):
    code, found = experiment(lab, "--scenario=a,b", *KEEP, SIX, "--jobs=2")
    assert code == 0
    by_measure = {c["measure"]: c for c in found["comparisons"]}
    assert list(by_measure) == ["new loss", "forgetting", "average loss"]
    assert by_measure["forgetting"]["mean"] == pytest.approx(-0.4, abs=0.01)
    assert by_measure["new loss"]["mean"] == pytest.approx(0.1, abs=0.01)
    assert all(c["is_different"] for c in by_measure.values())
    out = capsys.readouterr().out
    assert "keep against none (the baseline), forgetting: forgetting is lower (better) by 0.4" in out
    page = (lab[0] / "out" / "ab.html").read_text()
    for words in ("Old against new", "Losses after every stage", "after stage", "trained once for each seed"):
        assert words in page


def test_stage_arguments_speak_louder_than_the_base_and_less_than_a_variant(lab):
    path = lab[0] / "s.yaml"
    path.write_text("stages:\n- {dataset: a, args: [--max_iters=7]}\n- {dataset: b, args: [--max_iters=9, --beta2=0.5]}")
    experiment(lab, f"--scenario={path}", "--presets=none", "--variant", "short: --max_iters=3", "--n-seeds=1")
    assert "--max_iters=7" in calls(lab, "stages/stage1_seed1")[0]
    assert {"--max_iters=9", "--beta2=0.5", "--batch_size=2"} <= set(calls(lab, "runs/none_seed1")[0])
    short = calls(lab, "runs/short_seed1")[0]
    assert "--max_iters=3" in short
    assert "--max_iters=9" not in short


def test_a_stage_that_is_not_shared_is_trained_by_each_variant_and_controls_go_on_from_the_gated_one(lab):
    path = lab[0] / "s.yaml"
    path.write_text("stages:\n- {dataset: a, shared: false}\n- dataset: b")
    code, _ = experiment(lab, f"--scenario={path}", "--presets=none,balanced", "--n-seeds=1")
    assert code == 0
    stages = lab[0] / "out" / "stages"
    assert sorted(found.name for found in stages.iterdir()) == ["stage1_balanced_seed1", "stage1_none_seed1"]
    for name in ("balanced", "balanced+random", "balanced+shorter"):
        assert f"--init_from={stages / 'stage1_balanced_seed1'}" in calls(lab, f"runs/{name}_seed1")[0]
    assert "--preset=balanced" in calls(lab, "stages/stage1_balanced_seed1")[0]


def test_a_stream_is_written_for_each_seed_and_the_val_loss_decides(lab):
    path = lab[0] / "s.yaml"
    path.write_text("name: noisy\nstages:\n- stream: {kind: noise, from: a, share: 0.5, burst: 5}")
    code, found = experiment(lab, f"--scenario={path}", "--presets=none,balanced", "--seeds=1,2", "--no-controls")
    assert code == 0
    folders = [f"stage1-noise-a_seed{seed}" for seed in (1, 2)]
    files = [(lab[0] / "out" / "corpora" / name / "train.bin").read_bytes() for name in folders]
    assert files[0] != files[1]
    assert len(files[0]) == 2 * 20 * 2 * 5  # bytes, steps, rows, tokens of a row
    assert f"--dataset={folders[1]}" in calls(lab, "runs/balanced_seed2")[0]
    assert [c["measure"] for c in found["comparisons"]] == ["val loss"]
    assert "What was learned of the stream" in (lab[0] / "out" / "ab.html").read_text()


def test_a_failed_stage_costs_its_seed_and_the_exit_code(lab):
    script = lab[1]
    script.write_text(script.read_text().replace("endswith('-')", "endswith('stage1_seed2')"))
    code, found = experiment(lab, "--scenario=a,b", *KEEP, "--seeds=1,2")
    assert code == 1
    assert [run["status"] for run in found["variants"][0]["runs"]] == ["done", "not started"]


def test_another_first_stage_trains_the_second_anew(lab):
    experiment(lab, "--scenario=a,b", *KEEP, "--n-seeds=1")
    experiment(lab, "--scenario=a,b", *KEEP, "--n-seeds=1")
    assert len(calls(lab, "runs/none_seed1")) == 1
    (lab[0] / "out" / "stages" / "stage1_seed1" / "ckpt.pt").write_text("other weights")
    experiment(lab, "--scenario=a,b", *KEEP, "--n-seeds=1")
    assert len(calls(lab, "runs/none_seed1")) == 2


@pytest.mark.parametrize(
    ("argv", "error", "said"),
    [
        (["--scenario=a,b", "--dataset=a", *KEEP], UsageError, "names its corpora itself"),
        (["--scenario=a,b", "--presets=none", "--variant", "x: --dataset=a"], ConfigError, "variant x.*sets dataset itself"),
        (["--scenario=a,,b", *KEEP], ConfigError, "separated by commas"),
        (["--scenario=a,c", *KEEP], CorpusError, "no corpus 'c'"),
        (["--scenario=a,b", "--presets=none", "--variant", "x: --replay.fraction=0.1 --replay.corpus=c"], CorpusError, "'c'"),
        (["--scenario=a,b", *KEEP, "--launcher=jolib"], ConfigError, r"did you mean joblib\?"),
        (["--scenario=a,b", *KEEP, "hydra.launcher.n_jobs=2"], ConfigError, "give --launcher NAME"),
    ],
)  # fmt: skip
def test_what_cannot_be_is_told_before_anything_runs(lab, argv, error, said):
    with pytest.raises(error, match=said):
        subject.ab(options(lab, *argv), script=lab[1])
    assert not (lab[0] / "out").exists()


def test_a_variant_that_cannot_begin_its_own_first_stage_is_told(lab):
    path = lab[0] / "s.yaml"
    path.write_text("stages:\n- {dataset: a, shared: false}\n- {dataset: b}")
    with pytest.raises(ConfigError, match=r"variant finetune_keep: .*init_from is scratch"):
        subject.ab(options(lab, f"--scenario={path}", "--presets=none,finetune_keep"), script=lab[1])


def test_a_variant_with_other_batches_than_the_stream_is_refused(lab):
    path = lab[0] / "s.yaml"
    path.write_text("stages:\n- stream: {kind: shuffled, from: a}")
    with pytest.raises(ConfigError, match="variant wide: stage 1 is a stream made for batch_size=2, got 4"):
        subject.ab(options(lab, f"--scenario={path}", "--presets=none", "--variant", "wide: --batch_size=4"), script=lab[1])


@pytest.mark.usefixtures("fresh_workers")
def test_the_runs_can_be_started_by_a_launcher_of_hydras(lab):
    code, found = experiment(lab, "--scenario=a,b", *KEEP, "--n-seeds=2", "--launcher=joblib", "--jobs=2")
    assert code == 0
    assert [run["status"] for variant in found["variants"] for run in variant["runs"]] == ["done"] * 4
    assert len(calls(lab, "stages/stage1_seed1")) == 1
    again = experiment(lab, "--scenario=a,b", *KEEP, "--n-seeds=2", "--launcher=basic")[1]
    assert len(calls(lab, "runs/keep_seed2")) == 1
    assert again["variants"] == found["variants"]


# locks and going on -----------------------------------------------------------------------------------------------------
def job_at(tmp_path, *argv):
    folder = tmp_path / "run"
    return Job("run", folder, ("a.py", *argv, f"--out_dir={folder}", "--overwrite=True"))


def run_with(code):
    """A stand-in for run_job that notes what it is given and ends with `code`."""
    started = []

    def run(job, watch=None, quiet=False, script=None):
        started.append(list(job.argv))
        job.out_dir.mkdir(parents=True, exist_ok=True)
        (job.out_dir / "last.pt").touch()
        outcome = Outcome(job.name, str(job.out_dir), list(job.argv), code, 2.0, None, {"val_loss": 1.0} if not code else {})
        write_outcome(outcome, job.out_dir / "job.json")
        return outcome

    return run, started


def test_a_run_that_was_cut_off_goes_on_from_last_pt_without_its_first_weights(tmp_path):
    job = job_at(tmp_path, f"--init_from={tmp_path / 'stage1'}", "--max_iters=9")
    run, _ = run_with(143)
    perform(job, lambda: False, run)
    run, started = run_with(0)
    outcome = perform(job, lambda: False, run)
    assert started == [["a.py", "--max_iters=9", f"--out_dir={tmp_path / 'run'}", "--init_from=resume"]]
    assert (outcome.seconds, tuple(outcome.argv)) == (4.0, job.argv)
    assert finished(job) == outcome


@pytest.mark.parametrize("change", ["arguments", "weights", "failed", "no save"])
def test_a_run_starts_anew_where_it_is_not_the_same_or_has_failed(tmp_path, change):
    stage = tmp_path / "stage1"
    stage.mkdir()
    (stage / "ckpt.pt").write_text("weights")
    job = job_at(tmp_path, f"--init_from={stage}")
    perform(job, lambda: False, run_with(1 if change == "failed" else 143)[0])
    if change == "arguments":
        job = job_at(tmp_path, f"--init_from={stage}", "--beta2=0.5")
    if change == "weights":
        (stage / "ckpt.pt").write_text("others")
    if change == "no save":
        (job.out_dir / "last.pt").unlink()
    run, started = run_with(0)
    perform(job, lambda: False, run)
    assert tuple(started[0]) == job.argv


def test_what_another_corpus_gave_is_not_taken_for_done(tmp_path):
    corpus_at(tmp_path / "data" / "a", [0, 1] * 8, "xy")
    job = job_at(tmp_path, f"--data_dir={tmp_path / 'data'}", "--dataset=a")
    perform(job, lambda: False, run_with(0)[0])
    assert finished(job) is not None
    (tmp_path / "data" / "a" / "meta.json").write_text("{}")
    assert finished(job) is None
    assert json.loads((job.out_dir / ASKED).read_text()) != asked(job)


@pytest.mark.slow
def test_a_real_scenario_forgets_and_the_matrix_says_so(tmp_path):
    """Stage 2 learns text that contradicts stage 1's: the old loss rises and the new one falls."""
    corpus_at(tmp_path / "data" / "up", np.arange(4000) % 6, "abcdef")
    corpus_at(tmp_path / "data" / "down", np.arange(4000)[::-1] % 6, "abcdefg")
    tiny = ("--n_layer=1", "--n_head=1", "--n_embd=16", "--block_size=8", "--batch_size=4", "--learning_rate=3e-2", "--jobs=1")
    base = ("--max_iters=40", "--lr_decay_iters=40", "--warmup_iters=0", "--eval_interval=40", f"--data_dir={tmp_path / 'data'}")
    argv = ("config/train_fables.py", *tiny, *base, f"--out={tmp_path / 'out'}", "--scenario=up,down", "--seeds=1")
    found, rest = parser().parse_known_args(["ab", *argv, "--presets=none", "--variant", "slow: --learning_rate=1e-4"])
    found.rest = rest
    found.given = given(found)
    assert subject.ab(found) == 0
    told = json.loads((tmp_path / "out" / "ab.json").read_text())
    plain, slow = (variant["runs"][0]["scenario"] for variant in told["variants"])
    (old, unknown), (forgotten, new) = plain["matrix"]
    assert old < 0.5 < forgotten
    assert new < unknown
    assert plain["forgetting"] > slow["forgetting"]
    assert plain["matrix"][0] == slow["matrix"][0]
    assert plain["forward"] == pytest.approx(math.log(7) - unknown)
    assert plain["new"] == pytest.approx(told["variants"][0]["runs"][0]["val_loss"], abs=1e-5)
