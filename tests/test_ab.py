"""`ockham ab`: paired seeds, controls that cost the same, verdicts that do not flatter, and a page that stands alone."""

from __future__ import annotations

import dataclasses
import json
import os
import re
import signal
from pathlib import Path

import job_scripts
import numpy as np
import pytest
import yaml

import configurator
from ockham.__main__ import parser
from ockham.arguments import DEBUG
from ockham.commands.ab import given
from ockham.errors import ConfigError, CorpusError, UsageError
from ockham.experiment import ab as subject
from ockham.experiment import ab_page, ab_plan, variants
from ockham.experiment.ab_page import band, curves_of
from ockham.experiment.ab_verdict import compare
from ockham.experiment.jobs import Outcome
from ockham.experiment.statistics import smallest_difference
from ockham.experiment.variants import Variant, command_of, random_skip, shorter

SIX = "--seeds=1,2,3,4,5,6"


@pytest.fixture(autouse=True)
def here(tmp_path, monkeypatch):
    """No GPU, a corpus called fables, and no pictures but where an experiment is shared (six) or real."""
    monkeypatch.setattr(variants, "has_gpu", lambda: False)
    monkeypatch.setattr(ab_page, "svg", lambda draw, width, height: "<svg></svg>")
    corpus = tmp_path / "data" / "fables"
    corpus.mkdir(parents=True)
    for name in ("train.bin", "val.bin"):
        (corpus / name).touch()


def options(tmp_path, *argv):
    """What the command line gives; the base run has 100 iterations."""
    base = (f"--data_dir={tmp_path / 'data'}", "--max_iters=100", "--lr_decay_iters=100", f"--out={tmp_path / 'out'}")
    found, rest = parser().parse_known_args(["ab", "--dataset=fables", *base, *argv])
    found.rest = [arg for arg in rest if not DEBUG.fullmatch(arg)]
    found.given = given(found)
    return found


def experiment(tmp_path, *argv, shift=None, noise=0.001, failing="-"):
    script = job_scripts.ab_stand_in(tmp_path, shift, noise, failing)
    code = subject.ab(options(tmp_path, *argv), script=script)
    path = tmp_path / "out" / "ab.json"
    return code, json.loads(path.read_text()) if path.is_file() else None


def calls(tmp_path, name):
    path = tmp_path / "out" / "runs" / name / "calls.jsonl"
    return [json.loads(line) for line in path.read_text().splitlines()]


def comparison(found, right):
    return next(c for c in found["comparisons"] if c["right"] == right)


# the controls -----------------------------------------------------------------------------------------------------------
@pytest.fixture(scope="module")
def six(tmp_path_factory):
    """An experiment of 24 stand-in runs: balanced skips half, and is better than none, but not than random skipping."""
    tmp_path = tmp_path_factory.mktemp("six")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(variants, "has_gpu", lambda: False)
        for name in ("train.bin", "val.bin"):
            path = tmp_path / "data" / "fables" / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.touch()
        shift = {"balanced": -0.1, "random": -0.1}
        code, found = experiment(tmp_path, "--presets=none,balanced", SIX, "--jobs=4", shift=shift)
        yield tmp_path, code, found


def test_every_gated_variant_gets_both_controls(six):
    _, code, found = six
    assert code == 0
    kinds = [(v["name"], v["kind"], v["parent"]) for v in found["variants"]]
    assert kinds == [
        ("none", "preset", None),
        ("balanced", "preset", None),
        ("balanced+random", "random skip", "balanced"),
        ("balanced+shorter", "shorter", "balanced"),
    ]
    assert [(c["left"], c["right"]) for c in found["comparisons"]] == [
        ("balanced", "none"),
        ("balanced", "balanced+random"),
        ("balanced", "balanced+shorter"),
    ]


def test_the_random_control_skips_at_the_measured_rate_and_is_otherwise_the_gated_run(six):
    tmp_path, _, _ = six
    argv = calls(tmp_path, "balanced+random_seed3")[0]
    config = configurator.resolve(argv).config
    gated = configurator.resolve(calls(tmp_path, "balanced_seed3")[0]).config
    assert config.rack[0] == {
        "type": "RandomSkipPlugin", "name": "gate", "enabled": True, "params": {"update_rate": 0.5, "seed": None},
    }  # fmt: skip
    assert [dict(s) for s in config.rack[1:]] == [dict(s) for s in gated.rack[1:]]
    same = ("seed", "max_iters", "optimizer", "scheduler", "lambda_ockham", "consolidate_interval", "memory", "dataset")
    assert all(getattr(config, key) == getattr(gated, key) for key in same)


def test_the_shorter_control_is_plain_costs_the_same_and_ends_decayed(six):
    tmp_path, _, found = six
    config = configurator.resolve(calls(tmp_path, "balanced+shorter_seed2")[0]).config
    assert config.rack == ()
    assert (config.max_iters, config.scheduler.decay_steps) == (67, 67)  # 100 × 2 units of the gated run / 3
    assert config.warmup_steps == 67  # of 100, as is the recipe's whole warm-up
    units = [run["compute_units"] for v in found["variants"] if v["parent"] for run in v["runs"]]
    assert units == pytest.approx([200] * 12, abs=1.5)


def test_all_variants_have_the_same_seeds(six):
    tmp_path, _, found = six
    for name in ("none", "balanced", "balanced+random", "balanced+shorter"):
        assert [f"--seed={n}" in calls(tmp_path, f"{name}_seed{n}")[0] for n in range(1, 7)] == [True] * 6
    assert all(c["seeds"] == [1, 2, 3, 4, 5, 6] for c in found["comparisons"])


def test_accumulated_units_are_paid_back_in_shorter_iterations():
    base = ["config/train_fables.py", "--gradient_accumulation_steps=4", "--max_iters=100", "--warmup_iters=10"]
    config = configurator.resolve(shorter(base, ("--preset=none",), 600.0, configurator.resolve)).config
    assert (config.max_iters, config.warmup_steps) == (50, 5)  # 12 units an iteration


def test_a_shorter_run_is_as_long_as_the_units_pay_for_where_the_baseline_costs_more_than_learning():
    base = ["config/train_fables.py", "--max_iters=100"]
    config = configurator.resolve(shorter(base, ("--preset=none",), 200.0, configurator.resolve, each=4.0)).config
    assert config.max_iters == 50  # a third of a forward and a backward more, as an anchor's outputs cost: not 67


def test_the_baselines_own_units_decide_how_long_a_shorter_run_is(tmp_path):
    costly = job_scripts.ab_stand_in(tmp_path)
    costly.write_text(costly.read_text().replace("units = iters *", "units = (1 + (preset == 'none')) * iters *"))
    subject.ab(options(tmp_path, "--presets=none,balanced", "--n-seeds=1"), script=costly)
    assert configurator.resolve(calls(tmp_path, "balanced+shorter_seed1")[0]).config.max_iters == 33  # 200 units, 6 an iteration


def test_a_second_gate_is_switched_off_in_the_control(tmp_path):
    config = configurator.resolve(["config/train_fables.py", "--preset=balanced"]).config
    second = {**config.rack[0], "name": "other"}
    path = random_skip(dataclasses.replace(config, rack=(*config.rack, second)), 0.25, tmp_path, "x")
    rack = yaml.safe_load(path.read_text())["rack"]
    assert [(s["type"], s["enabled"]) for s in (rack[0], rack[-1])] == [("RandomSkipPlugin", True), ("OckhamGatePlugin", False)]


def test_a_gate_behind_one_of_sequences_draws_lots_too(tmp_path):
    config = configurator.resolve(["config/train_fables.py", "--preset=balanced"]).config
    sequences = configurator.resolve(["--preset=sequences"]).config.rack[0]
    path = random_skip(dataclasses.replace(config, rack=(sequences, *config.rack)), 0.25, tmp_path, "x")
    first, second = yaml.safe_load(path.read_text())["rack"][:2]
    assert first["params"]["mode"] == "random"
    assert (second["type"], second["enabled"], second["params"]["update_rate"]) == ("RandomSkipPlugin", True, 0.25)


# the verdicts -----------------------------------------------------------------------------------------------------------
def test_a_plugin_that_chooses_sequences_has_controls_too(tmp_path):
    config = configurator.resolve(["--preset=sequences"]).config
    chooses, weighs = (
        dataclasses.replace(Variant("sequences", "preset", ()), config=configurator.resolve(["--preset=sequences", *more]).config)
        for more in ([], ["rack.sequence_gate.mode=soft"])
    )
    assert [control.name for control in variants.controls(chooses)] == ["sequences+random", "sequences+shorter"]
    assert variants.controls(weighs) == [], "it leaves nothing out, so its units are those of plain training"
    path = random_skip(config, 1.0, tmp_path, "control")
    (spec,) = configurator.resolve([str(path)]).config.rack
    assert (spec["type"], spec["params"]["mode"], spec["params"]["share"]) == ("SequenceGatePlugin", "random", 0.5)


def test_a_gate_that_only_skips_is_not_called_better_than_chance(six):
    _, _, found = six
    assert comparison(found, "none")["is_different"]
    assert "lower (better) by 0.09" in comparison(found, "none")["verdict"]
    by_chance = comparison(found, "balanced+random")
    assert not by_chance["is_different"]
    assert "no difference was shown" in by_chance["verdict"]
    assert f"true difference of {by_chance['smallest']:.4f}" in by_chance["verdict"]


def test_what_a_seed_does_to_all_variants_is_paired_away(six):
    found = comparison(six[2], "none")
    assert found["mean"] == pytest.approx(-0.1, abs=0.005)  # while losses differ by 0.25 from seed to seed
    assert found["high"] - found["low"] < 0.01


def test_holm_is_over_all_verdicts(six):
    ps = sorted((c["p"], c["p_holm"]) for c in six[2]["comparisons"])
    assert ps[0][1] == pytest.approx(min(1.0, 3 * ps[0][0]))
    assert all(p <= adjusted for p, adjusted in ps)


def test_five_seeds_are_no_verdict_however_large_the_difference(tmp_path, capsys):
    argv = ("--presets=none,balanced", "--no-controls", "--n-seeds=5")
    code, found = experiment(tmp_path, *argv, shift={"balanced": -1.0})
    out = capsys.readouterr().out
    assert code == 0
    assert comparison(found, "none")["verdict"].startswith("balanced against none (the baseline): not enough seeds for a verdict")
    assert comparison(found, "none")["p_holm"] is None
    assert "*" not in out
    assert "*" not in re.sub(
        r"<svg.*?</svg>|<style.*?</style>|<p>.*?</p>", "", (tmp_path / "out" / "ab.html").read_text(), flags=re.S
    )


def test_a_failed_run_is_shown_costs_the_verdict_and_the_exit_code(tmp_path, capsys):
    code, found = experiment(tmp_path, "--presets=none,balanced,ockham_tight", SIX, "--jobs=4", failing="balanced_seed4")
    out = capsys.readouterr().out
    assert code == 1
    assert "balanced_seed4: failed: the disk is full" in out
    for right in ("balanced+random", "balanced+shorter"):
        assert "no verdict, because" in comparison(found, right)["verdict"]
    verdicts = {c["left"]: c["has_verdict"] for c in found["comparisons"] if c["right"] == "none"}
    assert verdicts == {"balanced": False, "ockham_tight": True}
    page = (tmp_path / "out" / "ab.html").read_text()
    assert "failed: the disk is full" in page
    assert "not started: the run that it depends on has failed" in page


def outcomes(losses):
    return {key: Outcome(str(key), "", [], 0, 1.0, None, {"val_loss": loss}) for key, loss in losses.items()}


def test_a_null_variant_is_called_different_in_a_twentieth_of_experiments():
    generator, called = np.random.default_rng(7), 0
    family = [Variant("a", "preset", ()), Variant("b", "preset", ())]
    for _ in range(300):
        runs = outcomes({(v.name, s): float(generator.normal(2, 0.1)) for v in family for s in range(6)})
        called += compare(family, "a", range(6), runs)[0].is_different
    assert 0.02 <= called / 300 <= 0.08


def test_twice_the_smallest_difference_is_found_in_over_four_fifths_of_experiments_also_among_three():
    generator, called = np.random.default_rng(8), 0
    family = [Variant(name, "preset", ()) for name in "abcd"]
    planted = 2 * smallest_difference(0.1 * 2**0.5, 6)
    for _ in range(120):
        runs = outcomes(
            {(v.name, s): float(generator.normal(2 - planted * (v.name == "b"), 0.1)) for v in family for s in range(6)}
        )
        called += compare(family, "a", range(6), runs)[0].is_different
    assert called / 120 > 0.8


def test_identical_runs_are_said_to_be_identical():
    family = [Variant("a", "preset", ()), Variant("b", "preset", ())]
    found = compare(family, "a", range(6), outcomes({(v.name, s): 2.0 + s for v in family for s in range(6)}))[0]
    assert not found.is_different
    assert "the same val loss to the last digit in all 6 pairs" in found.sentence


def test_a_loss_that_is_not_finite_is_a_failed_run():
    family = [Variant("a", "preset", ()), Variant("b", "preset", ())]
    losses = {(v.name, s): 2.0 for v in family for s in range(6)} | {("b", 3): float("nan")}
    assert compare(family, "a", range(6), outcomes(losses))[0].failed == ("b_seed3",)


# going on ---------------------------------------------------------------------------------------------------------------
def test_what_is_done_with_the_same_arguments_is_left_as_it_is(tmp_path, capsys):
    argv = ("--presets=none,balanced", "--seeds=1,2")
    first = experiment(tmp_path, *argv)[1]
    again = experiment(tmp_path, *argv)[1]
    assert capsys.readouterr().out.count("left as it is") == 8
    assert len(calls(tmp_path, "balanced+random_seed2")) == 1
    assert again == first
    experiment(tmp_path, *argv, "--batch_size=3", "--no-controls")
    assert len(calls(tmp_path, "none_seed1")) == 2


def test_what_another_experiment_left_is_replaced_but_not_in_silence(tmp_path, capsys):
    experiment(tmp_path, "--presets=none,balanced", "--n-seeds=1", "--no-controls")
    capsys.readouterr()
    experiment(tmp_path, "--presets=none,balanced", "--n-seeds=1", "--no-controls", "--batch_size=2")
    assert "2 finished runs in" in (said := capsys.readouterr().out)
    assert "another --out DIR keeps what is there" in said


def test_a_file_is_no_place_for_an_experiment(tmp_path):
    (tmp_path / "out").touch()
    with pytest.raises(UsageError, match="is a file, and an experiment needs a folder"):
        subject.ab(options(tmp_path, "--presets=none,balanced"))


def test_a_failed_run_is_tried_again(tmp_path):
    argv = ("--presets=none,balanced", "--seeds=1")
    assert experiment(tmp_path, *argv, failing="balanced_seed1")[0] == 1
    assert experiment(tmp_path, *argv)[0] == 0
    assert (len(calls(tmp_path, "none_seed1")), len(calls(tmp_path, "balanced_seed1"))) == (1, 2)


def test_a_signal_ends_the_runs_and_starts_no_more(tmp_path, capsys):
    started = []

    def run(job, watch=None, quiet=False, script=None):
        started.append(job.name)
        if job.name == "none_seed1":
            os.kill(os.getpid(), signal.SIGTERM)
            while not watch():
                pass
        return Outcome(job.name, str(job.out_dir), list(job.argv), 143)

    with pytest.raises(SystemExit) as told:
        subject.ab(options(tmp_path, "--presets=none,balanced", "--seeds=1,2"), run=run)
    assert told.value.code == 143
    assert started == ["estimate", "none_seed1"]
    assert "the same command goes on" in capsys.readouterr().out


# variants ---------------------------------------------------------------------------------------------------------------
def test_ablation_removes_each_plugin_in_turn_and_is_held_against_the_whole_rack(tmp_path):
    plan = subject.make_plan(options(tmp_path, "--presets=none,ockham_tight", "--ablate"), configurator.resolve)
    made = [v for v in plan.variants if v.kind == variants.ABLATION]
    assert [v.name for v in made] == [f"ockham_tight-{name}" for name in ("gate", "compressor", "limiter", "saturation")]
    for variant in made:
        off = [spec["name"] for spec in variant.config.rack if not spec["enabled"]]
        assert off == [variant.name.removeprefix("ockham_tight-")]
    assert [v.name for v in plan.last] == ["ockham_tight+random", "ockham_tight+shorter"]
    found = compare(plan.variants, "none", (1,), {})
    assert {c.right for c in found if c.against == variants.ABLATION} == {"ockham_tight"}


def test_policies_and_overrides_are_variants_too(tmp_path):
    policy = tmp_path / "mine.yaml"
    policy.write_text("optimizer: muon\noptimizer.lr: 0.02\n")
    argv = (f"--policies=fast_train,{policy}", "--variant", "hot: --learning_rate=2e-3 n_layer=2", "--variant", "plain:")
    plan = subject.make_plan(options(tmp_path, *argv, "--baseline=plain"), configurator.resolve)
    configs = {v.name: v.config for v in plan.variants}
    assert plan.baseline == "plain"
    assert (configs["hot"].optimizer.lr, configs["hot"].n_layer) == (2e-3, 2)
    assert (configs["fast_train"].optimizer.name, configs["mine"].optimizer.lr) == ("muon", 0.02)
    assert configs["plain"].optimizer.lr == 1e-3


def test_a_variant_speaks_louder_than_the_base_run():
    argv = command_of(["a.py", "--learning_rate=1", "--beta2=0.9", "--n_layer=2"], ["optimizer.lr=3", "b.yaml", "--n_layer=5"])
    assert argv == ["a.py", "b.yaml", "--beta2=0.9", "optimizer.lr=3", "--n_layer=5"]


def test_a_gated_baseline_is_held_against_plain_training(tmp_path):
    plan = subject.make_plan(options(tmp_path, "--presets=balanced,none"), configurator.resolve)
    assert ab_plan.plain_args(plan)[1] == ("--preset=none",)
    assert "plain training" in ab_plan.described(plan, plan["balanced+shorter"])


@pytest.mark.parametrize(
    ("argv", "error", "said"),
    [
        (["--presets=none,balenced"], UsageError, r"did you mean balanced\?"),
        (["--policies=fast_trian"], UsageError, r"did you mean fast_train\?"),
        (["--policies=none.yaml"], UsageError, "no file none.yaml"),
        (["--presets=none,balanced", "--baseline=nonne"], UsageError, r"did you mean none\?"),
        (["--presets=none"], UsageError, "two variants"),
        ([], UsageError, "nothing to compare"),
        (["--presets=none,none"], UsageError, "two variants are called 'none'"),
        (["--presets=none,balanced", "--seeds=1,two"], UsageError, "--seeds must be whole numbers"),
        (["--presets=none,balanced", "--seeds=1,-2"], UsageError, "from 0 to"),
        (["--presets=none,balanced", "--n-seeds=0"], UsageError, "1 or more"),
        (["--presets=none,balanced", "--seed=3"], ConfigError, "--seeds=1,2,3"),
        (["--presets=none,balanced", "--epochs=1"], ConfigError, "epochs"),
        (["--presets=none,balanced", "--init_from=resume"], ConfigError, "the runs are new ones"),
        (["--presets=none", "--variant", "a: --out_dir=x"], ConfigError, "variant a.*--out=DIR"),
        (["--presets=none", "--variant", "no colon"], UsageError, "'NAME: --key=value"),
        (["--presets=none,finetune_keep"], ConfigError, "variant finetune_keep: .*init_from is scratch"),
        (["--presets=none,finetune_replay", "--replay.corpus=fabels"], CorpusError, r"variant .*'fabels' .did you mean fables"),
        (["--presets=none", "--variant", "x: --preset=sequences rack.sequence_gate.surprise=excess"], ConfigError, "--reference"),
        (["--presets=none", "--variant", "a: --n_leyer=2"], ConfigError, r"variant a: .*did you mean .*n_layer"),
    ],
)  # fmt: skip
def test_what_is_written_wrong_is_told_before_anything_runs(tmp_path, argv, error, said):
    with pytest.raises(error, match=said):
        experiment(tmp_path, *argv)
    assert not (tmp_path / "out").exists()


def test_a_missing_corpus_names_its_prepare_py(tmp_path):
    with pytest.raises(CorpusError, match=r"prepare\.py"):
        experiment(tmp_path, "--presets=none,balanced", f"--data_dir={tmp_path / 'nowhere'}")


def test_the_recipe_is_the_cpus_where_there_is_no_gpu(monkeypatch):
    assert variants.recipe_for("shakespeare_char")[0] == "config/train_shakespeare_char_cpu.py"
    assert variants.recipe_for("fables")[0] == "config/train_fables.py"
    monkeypatch.setattr(variants, "has_gpu", lambda: True)
    assert variants.recipe_for("shakespeare_char")[0] == "config/train_shakespeare_char.py"
    with pytest.raises(UsageError, match="did you mean fables"):
        variants.recipe_for("fable")


def test_an_unknown_flag_names_the_nearest(tmp_path):
    found = options(tmp_path, "--presets=none,balanced", "--no-contrls")
    with pytest.raises(ConfigError, match="--no-controls"):
        found.do(found)


# what is shown ----------------------------------------------------------------------------------------------------------
def test_a_dry_run_prints_every_command_and_the_time_and_trains_nothing(tmp_path, capsys):
    assert experiment(tmp_path, "--presets=none,balanced", "--seeds=1,2", "--dry-run") == (0, None)
    out = capsys.readouterr().out
    assert "recipe: config/train_fables.py (there is no GPU)" in out
    assert out.count(": train config/train_fables.py") == 4
    assert re.search(r"8 runs, of them 4 controls; at most about \d+ s", out)
    assert not (tmp_path / "out" / "runs").exists()


def test_the_page_stands_alone_and_says_what_was_done(six):
    page = (six[0] / "out" / "ab.html").read_text()
    assert not re.search(r"""(src|href)\s*=\s*["']?(https?:)?//|<script|<link|@import|url\(["']?http""", page)
    assert page.count("<svg") == 4
    for words in ("trained on the corpus <b>fables</b>", "the same 6 seeds", "no difference was shown", "ockham ab", "Verdicts"):
        assert words in page
    assert all(c["verdict"].split(":")[0] in page for c in six[2]["comparisons"])


def test_names_cannot_write_into_the_page(tmp_path):
    experiment(tmp_path, "--presets=none,balanced", "--seeds=1", "--no-controls", "--wandb_run_name=<b>x</b>")
    assert "<b>x</b>" not in (tmp_path / "out" / "ab.html").read_text()


def test_the_json_has_a_version_and_every_run(six):
    _, _, found = six
    assert found["version"] == 1
    assert found["command"].startswith("ockham ab ")
    assert [len(v["runs"]) for v in found["variants"]] == [6] * 4
    assert all(Path(run["out_dir"], "journal.jsonl").is_file() for v in found["variants"] for run in v["runs"])


def test_a_curve_is_placed_at_the_units_paid_before_the_evaluation(six):
    curves = curves_of(six[0] / "out" / "runs" / "balanced_seed1")
    units, losses = curves.loss_by_units
    assert units.tolist() == [0, 50, 100, 150, 200]
    assert losses[0] - losses[-1] == pytest.approx(1.0)
    assert curves.loss_by_time[0][-1] == pytest.approx(0.2)


def test_a_band_is_the_seeds_mean_least_and_greatest_at_the_same_share_of_their_lengths():
    fast, slow = (np.array([0.0, 1.0, 2.0]), np.array([4.0, 3.0, 1.0])), (np.array([0.0, 3.0, 6.0]), np.array([4.0, 2.0, 2.0]))
    x, mean, least, greatest = band([fast, slow])
    assert (x[0], x[-1]) == (0.0, 4.0)
    assert (mean[0], mean[-1], least[-1], greatest[-1]) == (4.0, 1.5, 1.0, 2.0)
    middle = np.argmin(np.abs(x - 2.0))
    assert mean[middle] == pytest.approx(2.5, abs=0.03)
    assert band([]) is None
    assert band([(np.array([0.0]), np.array([np.nan]))]) is None


@pytest.mark.slow
def test_a_real_gate_is_matched_by_its_controls(tmp_path, capsys, root):
    tiny = ("--n_layer=1", "--n_head=1", "--n_embd=16", "--batch_size=4", "--block_size=16", "--eval_max_tokens=2000")
    if not (root / "data" / "fables" / "train.bin").is_file():
        pytest.skip("needs python data/fables/prepare.py")
    argv = ("--data_dir=data", "--warmup_iters=2", "--eval_interval=20", "--seeds=1", "--max_iters=40", "--lr_decay_iters=40")
    gated = ("--presets=none", "--variant", "half: --target_update_rate=0.5 --surprise_threshold=null")
    assert subject.ab(options(tmp_path, *argv, *tiny, *gated)) == 0
    found = json.loads((tmp_path / "out" / "ab.json").read_text())
    runs = {v["name"]: v["runs"][0] for v in found["variants"]}
    assert runs["half"]["update_rate"] < 0.8
    assert runs["half+random"]["update_rate"] == pytest.approx(runs["half"]["update_rate"], abs=0.05)
    assert runs["half+shorter"]["compute_units"] == pytest.approx(runs["half"]["compute_units"], abs=2)
    assert (tmp_path / "out" / "ab.html").read_text().count("<svg") == 4
