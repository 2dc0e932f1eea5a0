"""What `ockham tune` writes down is the run that was measured: as the command it prints, and as a policy by its name."""

import shutil
from dataclasses import replace

import pytest
import yaml
from tune_stand_ins import Trainer, hurried, options_of

import configurator
from ockham import presets
from ockham.configuration import bundles, keys
from ockham.errors import ConfigError
from ockham.experiment import best as best_files
from ockham.experiment.best import Best, how_to_use, write_best
from ockham.experiment.space import split
from ockham.experiment.tune import tune

pytest.importorskip("optuna")


@pytest.fixture(autouse=True, scope="module")
def quick_disk():
    with hurried():
        yield


@pytest.fixture
def own_folders(tmp_path, monkeypatch):
    """config/ and presets/ of the test alone, as they come with the checkout."""
    for name, modules in (("PRESETS_DIR", (presets,)), ("CONFIG_DIR", (keys, bundles, best_files))):
        shutil.copytree(getattr(modules[0], name), tmp_path / name)
        for module in modules:
            monkeypatch.setattr(module, name, tmp_path / name)
    keys.policies.cache_clear()
    yield tmp_path
    keys.policies.cache_clear()


CASES = [
    (["config/train_fables.py"], {"optimizer.lr=interval(1e-4,1e-2)": 0.004, "dropout=0.1,0.2": 0.2}),
    (["--learning_rate=1e-3"], {"learning_rate=tag(log,interval(1e-5,1e-2))": 1e-5, "beta2=interval(0.9,0.999)": 0.97}),
    (["config/train_fables.py", "optimizer=muon"], {"optimizer.lr=interval(1e-3,1e-1)": 0.03, "optimizer.momentum=0.9,0.95": 0.9}),  # noqa: E501
    (["optimizer=sgd"], {"scheduler.min_lr=interval(0.0,1e-3)": 5e-4, "scheduler=cosine,linear": "linear"}),
    (["config/train_fables.py"], {"optimizer=adamw,muon": "muon", "n_layer=range(2,7)": 3}),
    ([], {"optimizer.betas=[0.9,0.95],[0.9,0.99]": "[0.9,0.95]", "optimizer.clip_grad_norm=null,0.5,1": None}),
    (["--preset=balanced"], {"rack.gate.target_update_rate=interval(0.3,0.9)": 0.45, "rack.eq.bands.easy=interval(0,1)": 0.25}),
    (["--preset=balanced"], {"target_update_rate=interval(0.3,0.9)": 0.45, "lambda_ockham=tag(log,interval(1e-3,1e-1))": 0.02}),
    (["--preset=balanced", "config/train_fables.py"], {"optimizer.lr=interval(1e-4,1e-2)": 0.004}),
    (["--preset=balanced", "--learning_rate=2e-3"], {"optimizer.lr=interval(1e-4,1e-2)": 0.004, "rack.eq.enabled=true,false": False}),  # noqa: E501
    (["--preset=balanced", "optimizer=muon"], {"optimizer.lr=interval(1e-3,1e-1)": 0.03}),
    (["--preset=balanced", "optimizer=muon"], {"optimizer.adamw_lr=interval(1e-4,1e-2)": 0.002}),
    (["config/train_fables.py"], {"preset=none,balanced,exploratory": "exploratory", "dropout=0.1,0.2": 0.2}),
    (["config/train_fables.py"], {"policy=none,fast_train": "fast_train"}),
    (["config/train_fables.py"], {"policy=none,best_val": "best_val", "optimizer.ema.decay=interval(0.9,0.999)": 0.97}),
    (["--surprise_threshold=2"], {"target_update_rate=interval(0.3,0.9)": 0.45}),
    (["--preset=balanced", "rack.saturation.enabled=false"], {"consolidate_interval=range(100,600,100)": 300}),
    (["--preset=balanced"], {"macro.plasticity=interval(0,1)": 0.25}),
]  # fmt: skip


@pytest.mark.parametrize(("base", "found"), CASES, ids=[" ".join([*base, *found])[:60] for base, found in CASES])
def test_what_is_written_gives_the_run_that_was_measured(base, found, own_folders, monkeypatch):
    spaces = split(list(found))[1]
    tokens = dict(zip((space.key for space in spaces), found.values(), strict=True))
    measured = configurator.resolve([*base, *(space.assignment(tokens[space.key]) for space in spaces)]).config
    best = Best(tuple(spaces), tokens, measured)
    study = own_folders / "study"
    study.mkdir()
    policy, preset = write_best(best, ["Found by: a test"], study, "study", "mine")
    use = how_to_use(base, best, policy, preset.stem if preset else None)
    again = configurator.resolve(use).config
    expected = {"preset": "mine", "macro": None} if preset else {}  # a macro's values stand in the preset, without its name
    assert {**vars(again), **expected} == {**vars(measured), **expected}
    assert policy or preset or list(tokens) == ["policy"]
    for path in filter(None, (policy, preset)):
        assert path.read_text().startswith("# Found by: a test\n")
        assert path.read_bytes() == (study / f"best_{'policy' if path == policy else 'preset'}.yaml").read_bytes()
    if preset:
        assert presets.load_preset_file(preset).title == "study"


AHEAD = [
    (["optimizer=lookahead"], {"optimizer.base=sgd,adamw": "sgd"}),
    (["optimizer=lookahead"], {"optimizer.lookahead.k=2,3": 3}),
    (["optimizer.lookahead.enabled=true"], {"optimizer.lookahead.k=2,3": 3}),
    (["optimizer=lookahead", "optimizer.base=sgd"], {"optimizer.lr=interval(1e-3,1e-1)": 0.05}),
    ([], {"optimizer=lookahead,adamw": "lookahead", "optimizer.lookahead.alpha=0.3,0.8": 0.3}),
    (["optimizer=sgd"], {"optimizer.lookahead.enabled=true,false": True}),
]


@pytest.mark.parametrize(("base", "found"), AHEAD, ids=[" ".join([*base, *found]) for base, found in AHEAD])
def test_a_policy_with_lookahead_gives_it_by_name_and_by_the_command_that_is_printed(base, found, own_folders):
    spaces = tuple(split(list(found))[1])
    tokens = dict(zip((space.key for space in spaces), found.values(), strict=True))
    measured = configurator.resolve([*base, *(space.assignment(tokens[space.key]) for space in spaces)]).config
    assert measured.optimizer.lookahead.enabled
    best = Best(spaces, tokens, measured)
    policy, _ = write_best(best, ["Found by: a test"], own_folders, "study", "mine")
    assert configurator.resolve(how_to_use(base, best, policy, None)).config == measured
    keys.policies.cache_clear()  # the new one
    assert configurator.resolve(["policy=mine"]).config == replace(measured, policy="mine")


def test_a_policy_holds_no_value_of_the_rack_and_a_preset_no_other(own_folders):
    spaces = split(["dropout=0.1,0.2", "rack.gate.target_update_rate=interval(0.3,0.9)"])[1]
    tokens = {"dropout": 0.2, "rack.gate.target_update_rate": 0.45}
    config = configurator.resolve(["--preset=balanced", "dropout=0.2", "rack.gate.target_update_rate=0.45"]).config
    best = Best(tuple(spaces), tokens, config)
    assert best.policy() == {"dropout": 0.2}
    content = best.preset("mine")
    assert content["hyperparameters"].keys() == presets.load_preset("balanced").hyperparameters.keys()
    assert content["plugins"][0]["params"]["target_update_rate"] == 0.45


def test_a_name_that_beats_the_start_is_written_and_then_taken(own_folders, capsys):
    study = own_folders / "study"
    tune(options_of(study, "--trials=6", "--confirm=1", "--name=mine"), Trainer())
    path = own_folders / "CONFIG_DIR" / "policy" / "mine.yaml"
    assert path.read_bytes() == (study / "best_policy.yaml").read_bytes()
    assert yaml.safe_load(path.read_text())["optimizer"] == "adamw"
    first, second, third = path.read_text().splitlines()[:3]
    assert first.startswith("# Found by: ockham tune --learning_rate=1e-3")
    assert "'optimizer.lr=tag(log,interval(1e-4,1e-2))'" in first
    assert second.startswith("# 6 trials")
    assert third.startswith("# Gain: ")
    use = capsys.readouterr().out.splitlines()[-1]
    assert use.startswith(f"use it: ockham train {path} --max_iters=40")  # without the lr and dropout that were tuned
    assert "learning_rate" not in use
    with pytest.raises(ConfigError, match=r"mine\.yaml is there already"):
        tune(options_of(study, "--name=mine"), Trainer())
