"""The spaces of the auto-tuner mean what Hydra's grammar says, and what is none is refused before anything runs."""

import sys

import pytest
from tune_stand_ins import BASE, SPACES

from ockham.__main__ import main, parser
from ockham.configuration.keys import is_known
from ockham.errors import ConfigError
from ockham.experiment.space import Choices, Range, split
from ockham.experiment.tune import check_base
from ockham.experiment.tune_flags import OWN_FLAGS

optuna = pytest.importorskip("optuna")


@pytest.mark.parametrize(("text", "space"), [
    ("optimizer.lr=interval(1e-4,1e-2)", Range("optimizer.lr", 1e-4, 1e-2, None)),
    ("optimizer.lr=tag(log,interval(1e-4,1e-2))", Range("optimizer.lr", 1e-4, 1e-2, None, True)),
    ("optimizer.lookahead.k=int(interval(3,12))", Range("optimizer.lookahead.k", 3, 12, 1)),
    ("batch_size=tag(log,int(interval(1,64)))", Range("batch_size", 1, 64, 1, True)),
    ("n_layer=range(2,7)", Range("n_layer", 2, 6, 1)),
    ("n_layer=range(2,7,2)", Range("n_layer", 2, 6, 2)),
    ("n_layer=range(6,1,-2)", Range("n_layer", 2, 6, 2)),
    ("dropout=range(0.1,0.4,0.1)", Range("dropout", 0.1, 0.3, 0.1)),
    ("rack.gate.target_update_rate=interval(0.3,0.9)", Range("rack.gate.target_update_rate", 0.3, 0.9, None)),
    ("scheduler=cosine,wsd,linear", Choices("scheduler", ("cosine", "wsd", "linear"))),
    ("bias=choice(true,false)", Choices("bias", (True, False))),
    ("optimizer.clip_grad_norm=null,0.5,1", Choices("optimizer.clip_grad_norm", (None, 0.5, 1))),
    ("optimizer.betas=[0.9,0.95],[0.9,0.99]", Choices("optimizer.betas", ([0.9, 0.95], [0.9, 0.99]))),
    ("dtype='float32','bfloat16'", Choices("dtype", ("float32", "bfloat16"))),
])  # fmt: skip
def test_a_space_is_what_hydra_says(text, space):
    assert split(["config/train_fables.py", "--seed=1", text]) == (["config/train_fables.py", "--seed=1"], [space])


def test_every_token_of_a_range_is_one_that_hydra_would_sweep():
    (space,) = split(["n_layer=range(2,9,3)"])[1]
    sampler = optuna.samplers.RandomSampler(seed=0)
    drawn = {sampler.sample_independent(None, None, "n_layer", space.distribution()) for _ in range(50)}
    assert drawn == set(range(2, 9, 3))


@pytest.mark.parametrize("text", [
    *SPACES, "optimizer.betas=[0.9,0.95],[0.9,0.99]", "optimizer.clip_grad_norm=null,0.5,1", "dropout=range(0.1,0.5,0.1)",
    "n_layer=range(2,7,2)", "bias=true,false",
])  # fmt: skip
def test_a_value_comes_back_from_its_token_and_stays_inside_optunas_distribution(text):
    (space,) = split([text])[1]
    for token in space.extremes():
        assert space.token(space.value(token)) == token
        assert space.distribution()._contains(space.distribution().to_internal_repr(token))


@pytest.mark.parametrize(("text", "value"), [
    ("dropout=interval(0.1,0.5)", 0.6), ("dropout=interval(0.1,0.5)", None), ("dropout=range(0.1,0.5,0.1)", 0.25),
    ("n_layer=range(2,7,2)", 3), ("bias=true,false", None), ("n_layer=range(0,3)", True),
])  # fmt: skip
def test_a_value_outside_has_no_token(text, value):
    with pytest.raises(ValueError):
        split([text])[1][0].token(value)


@pytest.mark.parametrize(("text", "why"), [
    ("dropout=interval(0.5,0.1)", "low end must be below the high end"),
    ("dropout=interval(0,inf)", "low end must be below the high end, got 0.0 and inf"),
    ("optimizer.lr=tag(log,interval(0,1))", "must be above 0"),
    ("optimizer.lr=tag(logarithmic,interval(0.1,1))", "tag 'logarithmic' means nothing here"),
    ("optimizer.lr=tag(log,choice(0.1,1))", "goes with interval"),
    ("optimizer.lr=log(1e-4,1e-2)", "not of Hydra's grammar"),
    ("n_layer=range(2,3)", "the range holds 1 values"),
    ("n_layer=range(2,9,0)", "the range holds 0 values"),
    ("n_layer=interval(2,7)", r"write int\(interval\(low,high\)\)"),
    ("n_layer=glob(*)", "a glob is not a space"),
    ("n_layer=choice(3)", "one value is no choice"),
    ("n_layer=3,4,3", "3 is given twice"),
    ("n_layer=3,interval(4,5)", "not other spaces"),
    ("--n_layer=range(2,7)", "a space is written n_layer=range"),
    ("--optimizer.lr=tag(log,interval(1e-4,1e-2))", "a space is written optimizer.lr=tag"),
    ("seed=1,2,3", "seed cannot be tuned"),
    ("dataset=fables,text", "dataset cannot be tuned"),
    ("decay_lr=true,false", "write scheduler=none,cosine"),
])  # fmt: skip
def test_what_is_no_space_is_told_with_the_fix(text, why):
    with pytest.raises(ConfigError, match=why):
        split([text])


def test_one_key_has_one_space():
    with pytest.raises(ConfigError, match=r"optimizer.lr and learning_rate are the same key"):
        split(["learning_rate=interval(1e-4,1e-2)", "optimizer.lr=interval(1e-4,1e-2)"])
    split(["beta1=interval(0.8,0.95)", "beta2=interval(0.9,0.99)"])


def test_no_flag_of_tune_is_a_key_of_a_run():
    own = {flag for action in parser().parse_args(["preset", "list"]).parser._actions for flag in action.option_strings}
    assert not any(is_known(flag.removeprefix("--")) for flag in OWN_FLAGS)
    assert not own & set(OWN_FLAGS)
    options = parser().parse_known_args(["tune", "--study=x"])[0]
    flags = {flag for action in options.parser._actions for flag in action.option_strings if flag not in ("-h", "--help")}
    assert flags == set(OWN_FLAGS)


@pytest.mark.parametrize(("arguments", "why"), [
    (["n_leyer=range(2,4)"], "unknown key n_leyer (command line) (did you mean n_layer?)"),
    (["dropout=interval(0.1,1.5)"], "dropout must be"),
    (["scheduler=cosine,wds"], "scheduler must be one of"),
    (["n_embd=choice(64,65)", "--n_head=2"], "n_embd must be a multiple of n_head"),
    (["rack.gate.target_update_rate=interval(0.3,0.9)"], "the rack of preset none has no plugin 'gate'"),
    (["--preset=balanced", "rack.gate.target_update_rate=interval(0.3,1.9)"], "target_update_rate must be"),
    ([], "nothing to tune"),
    (["n_layer=range(2,4)", "--trails=3"], "unknown key --trails (did you mean --trials?)"),
    (["n_layer=range(2,4)", "--out_dir=x"], "leave out_dir out"),
    (["n_layer=range(2,4)", "--init_from=resume"], "init_from=resume cannot be tuned"),
    (["n_layer=range(2,4)", "-m"], "tune has no sweeps"),
    (["n_layer=range(2,4)", "--trials=0"], "--trials must be 1 or more"),
    (["n_layer=range(2,4)", "--name=../x"], "--name must be letters"),
    (["n_layer=range(2,4)", "--name=balanced"], "balanced.yaml is there already"),
])  # fmt: skip
def test_what_is_written_wrong_ends_with_2_before_anything_runs(arguments, why, tmp_path, capsys):
    assert main(["tune", *arguments, f"--study={tmp_path / 'study'}"]) == 2
    assert why in capsys.readouterr().err
    assert not (tmp_path / "study").exists()


def test_without_optuna_the_fix_is_told(tmp_path, monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "optuna", None)
    assert main(["tune", *BASE, *SPACES, f"--study={tmp_path / 'study'}"]) == 1
    assert "pip install -e '.[tune]'" in capsys.readouterr().err


def test_base_flags_of_the_trials_own_are_refused():
    with pytest.raises(ConfigError, match="leave eval_only out"):
        check_base(["--eval_only"])
