"""The auto-tuner: spaces mean what Hydra's grammar says, a seed gives the same trials however often it is cut off, and what
is written down is what was measured."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

import configurator
from ockham import presets
from ockham.__main__ import main, parser
from ockham.configuration.keys import is_known
from ockham.errors import ConfigError, WorldError
from ockham.experiment import best as best_files
from ockham.experiment.best import Best, how_to_use, write_best
from ockham.experiment.confirm import Confirmation, Pair, fresh_seeds
from ockham.experiment.jobs import Outcome
from ockham.experiment.search import Search
from ockham.experiment.space import Choices, Range, split
from ockham.experiment.tune import alone, check_base, make_plan, tune
from ockham.experiment.tune_flags import OWN_FLAGS
from ockham.experiment.watch import Watch

optuna = pytest.importorskip("optuna")

BASE = ["--learning_rate=1e-3", "--dropout=0.1", "--max_iters=40", "--eval_interval=10"]
SPACES = ["optimizer.lr=tag(log,interval(1e-4,1e-2))", "dropout=interval(0.0,0.5)", "scheduler=cosine,wsd,linear"]


# ------------------------------------------------------------------------------------------------------------- stand-ins


@pytest.fixture(autouse=True, scope="module")
def quick_disk():
    """Studies that do not wait for the disk at each of their many small writes."""
    from sqlalchemy import Engine, event

    def hurry(connection, _):
        connection.execute("PRAGMA synchronous=OFF")

    event.listen(Engine, "connect", hurry)
    yield
    event.remove(Engine, "connect", hurry)


def loss_of(config):
    """A loss with one lowest point: lr 3e-3, dropout 0.2, wsd."""
    from math import log10

    shape = (log10(config.optimizer.lr) + 2.52) ** 2 + (config.dropout - 0.2) ** 2
    return 1 + shape + 0.1 * (config.scheduler.name != "wsd")


def event(folder, iteration, loss):
    folder.mkdir(parents=True, exist_ok=True)
    with open(folder / "journal.jsonl", "a") as file:
        file.write(json.dumps({"v": 1, "event": "eval", "iter": iteration, "val_loss": loss}) + "\n")


class Trainer:
    """Stands in for jobs.run_job: a run whose loss falls to `loss(config)`, evaluated at 0, 10, 20, 30 and 40."""

    def __init__(self, loss=loss_of, cut_off=(), is_watched=True):
        self.loss, self.cut_off, self.is_watched = loss, list(cut_off), is_watched
        self.jobs, self.evaluations = [], []

    def __call__(self, job, watch=None, quiet=False):
        self.jobs.append(job)
        config = configurator.resolve([arg for arg in job.argv if arg != "--init_from=resume"]).config
        (job.out_dir / "journal.jsonl").unlink(missing_ok=True)
        try:
            final = self.loss(config)
        except ArithmeticError as error:
            return Outcome(job.name, str(job.out_dir), list(job.argv), 1, 1.0, str(error))
        for iteration in range(0, 50, 10):
            event(job.out_dir, iteration, final + 2 - iteration / 20)
            self.evaluations.append(job.name)
            if self.is_watched and watch and watch():
                return Outcome(job.name, str(job.out_dir), list(job.argv), 143, 1.0)
            if job.name in self.cut_off and iteration == 20:
                self.cut_off.remove(job.name)
                raise SystemExit(130)
        return Outcome(job.name, str(job.out_dir), list(job.argv), 0, 1.0, None, {"val_loss": final, "wall_s": 1.0})


def options_of(folder, *more, base=BASE, spaces=SPACES):
    options, rest = parser().parse_known_args(["tune", *base, *spaces, f"--study={folder}", *more])
    options.rest = rest
    return options


def trials_of(options):
    with Search(make_plan(options, configurator.resolve)) as search:
        return search.trials()


def told(options):
    return [(t.ordinal, t.state, t.value, t.tokens) for t in trials_of(options)]


# ---------------------------------------------------------------------------------------------------------------- spaces


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


# ---------------------------------------------------------------------------------------------------------------- search


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """13 trials in one go: ten at random, then some that learn from them, some of them pruned."""
    options = options_of(tmp_path_factory.mktemp("whole") / "study", "--trials=13", "--confirm=0")
    assert tune(options, Trainer()) == 0
    return told(options)


@pytest.mark.parametrize("seed", [0, 1])
def test_same_seed_gives_same_trials_and_another_seed_others(tmp_path, whole, seed):
    options = options_of(tmp_path, "--trials=13", "--confirm=0", f"--tune_seed={seed}")
    tune(options, Trainer(is_watched=False))  # when the journal is looked at makes no difference either
    assert len(whole) == 13
    assert {state for _, state, _, _ in whole} == {"complete", "pruned"}
    assert (told(options) == whole) == (seed == 0)
    assert told(options)[0] == whole[0]  # the start


def test_without_pruning_every_trial_ends_and_the_later_ones_learn_from_the_earlier(tmp_path):
    options = options_of(tmp_path, "--trials=20", "--confirm=0", "--no_prune")
    tune(options, Trainer())
    start, *others = trials_of(options)
    assert start.tokens == {"optimizer.lr": 1e-3, "dropout": 0.1, "scheduler": "cosine"}
    assert {t.state for t in others} == {"complete"}
    random, learned = others[:9], others[9:]
    assert sum(t.value for t in learned) / len(learned) < sum(t.value for t in random) / len(random)


def test_interrupted_and_continued_equals_uninterrupted(tmp_path, whole):
    options = options_of(tmp_path, "--trials=13", "--confirm=0")
    trainer = Trainer(cut_off=["trial_000", "trial_003", "trial_011"])
    for _ in range(3):
        with pytest.raises(SystemExit) as stop:
            tune(options, trainer)
        assert stop.value.code == 130
    assert tune(options, trainer) == 0
    assert told(options) == whole
    assert [job.name for job in trainer.jobs].count("trial_003") == 2


def test_a_few_trials_and_then_more_equal_all_at_once(tmp_path, whole):
    for n in (2, 7, 7):
        trainer = Trainer()
        tune(options_of(tmp_path, f"--trials={n}", "--confirm=0"), trainer)
    assert trainer.jobs == []
    assert told(options_of(tmp_path)) == whole[:7]


@pytest.mark.parametrize("torn", ["asked", "queued", "failed"])
def test_a_study_killed_between_two_writes_goes_on_as_if_it_had_not_been(tmp_path, whole, torn):
    options = options_of(tmp_path, "--trials=3", "--confirm=0")
    tune(options_of(tmp_path, "--trials=1", "--confirm=0"), Trainer())
    with Search(make_plan(options, configurator.resolve)) as search:
        trial = search.study.ask(search.distributions) if torn != "queued" else None  # killed before it had its number
        if trial is None:  # killed after the torn trial was queued again, before it was told
            search.run = Trainer(cut_off=["trial_001"])
            with pytest.raises(SystemExit):
                search.one()
            search.study.enqueue_trial(search.study.trials[-1].params, user_attrs={"ordinal": 1})
        elif torn == "failed":  # killed between a failure's reason and the failure
            trial.set_user_attr("ordinal", 1)
            trial.set_user_attr("error", "diverged")
    tune(options, Trainer())
    if torn == "failed":
        assert [(t.ordinal, t.state) for t in trials_of(options)] == [(0, "complete"), (1, "failed"), (2, "complete")]
    else:
        assert told(options) == whole[:3]


def test_a_cut_off_run_is_resumed_where_it_has_a_checkpoint_and_begun_anew_where_not(tmp_path):
    options = options_of(tmp_path / "study", "--trials=3", "--confirm=0")
    trainer = Trainer(cut_off=["trial_001", "trial_002"])
    for name in ("trial_001", "trial_002"):
        with pytest.raises(SystemExit):
            tune(options, trainer)
        if name == "trial_001":
            (tmp_path / "study" / name / "last.pt").touch()
    tune(options, trainer)
    last = {job.name: job.argv for job in trainer.jobs}
    assert "--init_from=resume" in last["trial_001"]
    assert "--overwrite=True" in last["trial_002"]


def test_another_space_base_or_seed_is_refused_with_the_difference(tmp_path):
    folder = tmp_path / "study"
    tune(options_of(folder, "--trials=1", "--confirm=0"), Trainer())
    for other, difference in (
        (options_of(folder, spaces=[SPACES[0], "dropout=interval(0.0,0.4)", SPACES[2]]), "space of dropout was 0.0 to 0.5, is 0.0 to 0.4"),  # noqa: E501
        (options_of(folder, spaces=SPACES[:2]), "space of scheduler was cosine, wsd, linear, is not there"),
        (options_of(folder, base=[*BASE, "--n_layer=3"]), "n_layer was 12, is 3"),
        (options_of(folder, "--tune_seed=5"), "--tune_seed was 0, is 5"),
        (options_of(folder, "--no_prune"), "pruning was True, is False"),
    ):  # fmt: skip
        with pytest.raises(ConfigError, match=difference):
            tune(other, Trainer())
    tune(options_of(folder, "--trials=2", "--confirm=0", base=[*BASE, "--debug=True"]), Trainer())


def test_a_folder_with_other_things_is_left_alone(tmp_path):
    (tmp_path / "trial_000").mkdir()
    with pytest.raises(ConfigError, match=r"holds other things and no study\.db"):
        tune(options_of(tmp_path), Trainer())


def test_two_processes_do_not_share_a_study(tmp_path):
    with alone(tmp_path / "study"), pytest.raises(WorldError, match="another ockham tune is at work"):
        tune(options_of(tmp_path / "study"), Trainer())


def test_pruning_stops_a_bad_trial(tmp_path):
    options = options_of(tmp_path / "study", "--trials=10", "--confirm=0")
    trainer = Trainer()
    tune(options, trainer)
    pruned = [t for t in trials_of(options) if t.state == "pruned"]
    complete = [t for t in trials_of(options) if t.state == "complete"]
    assert pruned
    for trial in pruned:
        assert trial.ordinal >= 4  # the first ones have nothing to be compared with
        assert trial.reached == 10  # not at 0, where weights are random
        assert trainer.evaluations.count(trial.name) == 2
    assert all(trainer.evaluations.count(trial.name) == 5 for trial in complete)


class Asked:
    """An Optuna trial that wants every evaluation pruned from `since` on."""

    def __init__(self, since=0):
        self.reports, self.since = [], since

    def report(self, value, step):
        self.reports.append((step, value))

    def should_prune(self):
        return self.reports[-1][0] >= self.since


def test_first_and_last_evaluation_are_reported_but_not_judged(tmp_path):
    trial = Asked()
    watch = Watch(tmp_path, trial, True, lambda: 20)
    event(tmp_path, 0, 4.0)
    event(tmp_path, 20, 2.0)
    event(tmp_path, 20, 2.1)  # the whole split, where training saw estimates
    assert not watch()
    assert trial.reports == [(0, 4.0), (20, 2.0)]


def test_a_torn_line_waits_and_a_journal_cut_back_is_read_again(tmp_path):
    trial, path = Asked(since=99), tmp_path / "journal.jsonl"
    watch = Watch(tmp_path, trial, True, lambda: 99)
    assert not watch()  # nothing there yet
    event(tmp_path, 0, 4.0)
    whole = path.read_text()
    path.write_text(whole + whole[:20])
    watch()
    event_10 = whole.replace('"iter": 0', '"iter": 10').replace("4.0", '"nan"')
    path.write_text(whole + event_10)
    watch()
    path.write_text(event_10.replace("10", "5"))
    watch()
    assert [step for step, _ in trial.reports] == [0, 10, 5]
    assert trial.reports[1][1] != trial.reports[1][1]


def diverging(config):
    if config.scheduler.name != "cosine":
        raise ArithmeticError("5 non-finite steps in a row")
    return loss_of(config)


def test_a_failing_trial_does_not_stop_the_study(tmp_path, capsys):
    options = options_of(tmp_path / "study", "--trials=8", "--confirm=0")
    assert tune(options, Trainer(diverging)) == 0
    states = [t.state for t in trials_of(options)]
    assert len(states) == 8
    assert {"failed", "complete"} <= set(states)
    failed = next(t for t in trials_of(options) if t.state == "failed")
    assert failed.error == "5 non-finite steps in a row"
    assert f"{failed.name}: failed after 1.0 s: 5 non-finite steps in a row" in capsys.readouterr().out


def test_a_loss_that_is_no_number_is_a_failure(tmp_path):
    options = options_of(tmp_path / "study", "--trials=2", "--confirm=0")
    tune(options, Trainer(lambda config: float("nan") if config.dropout != 0.1 else 1.0))
    assert [t.state for t in trials_of(options)] == ["complete", "failed"]


def test_when_the_first_trials_all_fail_it_is_not_the_parameters(tmp_path):
    def broken(config):
        raise ArithmeticError("corpus fables is missing")

    trainer = Trainer(broken)
    with pytest.raises(WorldError, match="the first 4 trials all failed; the last one: corpus fables is missing"):
        tune(options_of(tmp_path / "study"), trainer)
    assert len(trainer.jobs) == 4


def test_a_start_outside_the_spaces_is_measured_by_itself(tmp_path, capsys):
    trainer = Trainer()
    spaces = ["optimizer.lr=interval(2e-3,4e-3)", "scheduler=wsd,linear"]
    tune(options_of(tmp_path / "study", "--trials=2", "--confirm=1", spaces=spaces), trainer)
    out = capsys.readouterr().out
    assert "the start lies outside the spaces" in out
    assert "(the start)" not in out
    assert [job.name for job in trainer.jobs][:3] == ["start", "trial_000", "trial_001"]
    assert not any("lr" in arg for arg in trainer.jobs[0].argv if arg not in BASE)
    again = Trainer()
    tune(options_of(tmp_path / "study", "--trials=2", "--confirm=1", spaces=spaces), again)
    assert again.jobs == []  # remembered, confirmation and all


def test_time_in_all_counts_earlier_sessions(tmp_path, capsys):
    for expected in (3, 3):
        options = options_of(tmp_path / "study", "--trials=9", "--confirm=0", f"--max_hours_in_all={2.5 / 3600}")
        tune(options, Trainer())  # each trial says it took 1 s
        assert len(trials_of(options)) == expected
    assert "--max_hours_in_all is used up after 3 trials" in capsys.readouterr().out


# ---------------------------------------------------------------------------------------------------------- confirmation


def test_confirmation_is_paired_on_seeds_that_the_search_has_not_seen(tmp_path, capsys):
    trainer = Trainer(lambda config: loss_of(config) + 0.01 * (config.seed % 7))
    options = options_of(tmp_path / "study", "--trials=6", "--confirm=3")
    tune(options, trainer)
    seeds = {job.name: [arg for arg in job.argv if arg.startswith("--seed=")] for job in trainer.jobs}
    best = min((t for t in trials_of(options) if t.value), key=lambda t: t.value)
    for seed in (1338, 1339, 1340):
        assert seeds[f"confirm/start_seed{seed}"] == seeds[f"confirm/{best.name}_seed{seed}"] == [f"--seed={seed}"]
    assert not any(given for name, given in seeds.items() if name.startswith("trial"))
    gain = trials_of(options)[0].value - best.value
    out = capsys.readouterr().out
    assert out.count(f"difference {gain:+.4f} nats/token") == 3
    sentence = f"{best.name} beats the start by {gain:.4f} nats/token (mean of n=3 fresh seeds; better in 3 of 3 pairs)"
    assert sentence in out
    assert sentence in (tmp_path / "study" / "best_policy.yaml").read_text().splitlines()[2]


def lucky(config):
    """Better than the start under the seed of the search only."""
    return loss_of(config) if config.seed == 1337 else 9 - loss_of(config)


def test_a_best_that_does_not_beat_the_start_is_called_that_and_gets_no_name(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(best_files, "CONFIG_DIR", tmp_path / "config")
    tune(options_of(tmp_path / "study", "--trials=6", "--confirm=2", "--name=lucky"), Trainer(lucky))
    out = capsys.readouterr().out
    assert "does not beat the start" in out
    assert "better in 0 of 2 pairs" in out
    assert "not written as lucky" in out
    assert "does not beat the start" in (tmp_path / "study" / "best_policy.yaml").read_text()
    assert not (tmp_path / "config" / "policy" / "lucky.yaml").exists()


def test_a_start_that_is_the_best_is_said_to_be(tmp_path, capsys):
    trainer = Trainer(lambda config: abs(config.dropout - 0.1))
    tune(options_of(tmp_path / "study", "--trials=5"), trainer)
    assert "none is better than the start, so there is nothing to confirm or to write" in capsys.readouterr().out
    assert not any(job.name.startswith("confirm") for job in trainer.jobs)
    assert not list((tmp_path / "study").glob("best*"))


@pytest.mark.parametrize(("pairs", "words"), [
    ([(2.0, 1.9), (2.2, 2.3), (2.1, 1.8)], "trial_007 beats the start by 0.1000 nats/token (mean of n=3 fresh seeds; better in 2 of 3 pairs)"),  # noqa: E501
    ([(2.0, 2.1)], "trial_007 does not beat the start: 0.1000 nats/token above it (mean of n=1 fresh seed; better in 0 of 1 pair)"),  # noqa: E501
    ([(2.0, 2.0)], "trial_007 does not beat the start: 0.0000 nats/token above it (mean of n=1 fresh seed; better in 0 of 1 pair)"),  # noqa: E501
    ([], "trial_007 could not be confirmed: no pair of runs came to its end"),
])  # fmt: skip
def test_the_verdict_is_the_mean_of_the_pairs_and_their_number(pairs, words):
    found = Confirmation("trial_007", 3, tuple(Pair(1 + i, *pair) for i, pair in enumerate(pairs)))
    assert found.verdict == words
    assert "*" not in "".join(found.lines)


def test_pairs_with_a_failed_run_are_left_out_and_said(tmp_path, capsys):
    def frail(config):
        if config.seed == 1338 and config.optimizer.lr != 1e-3:
            raise ArithmeticError("diverged")
        return loss_of(config)

    tune(options_of(tmp_path / "study", "--trials=5", "--confirm=2"), Trainer(frail))
    out = capsys.readouterr().out
    assert "_seed1338: failed: diverged" in out
    assert "mean of n=1 fresh seed" in out


def test_fresh_seeds_stay_seeds():
    assert fresh_seeds(2**63 - 2, 3) == [2**63 - 1, 0, 1]


# ----------------------------------------------------------------------------------------------------------------- files


@pytest.fixture
def own_folders(tmp_path, monkeypatch):
    """config/policy and presets/ of the test alone; the presets that come with the checkout are in it."""
    folder = tmp_path / "presets"
    folder.mkdir()
    for path in presets.PRESETS_DIR.glob("*.yaml"):
        (folder / path.name).write_bytes(path.read_bytes())
    monkeypatch.setattr(presets, "PRESETS_DIR", folder)
    monkeypatch.setattr(best_files, "PRESETS_DIR", folder)
    monkeypatch.setattr(best_files, "CONFIG_DIR", tmp_path / "config")
    return tmp_path


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
    expected = {"preset": "mine"} if preset else {}
    assert {**vars(again), **expected} == {**vars(measured), **expected}
    assert policy or preset or list(tokens) == ["policy"]
    for path in filter(None, (policy, preset)):
        assert path.read_text().startswith("# Found by: a test\n")
        assert path.read_bytes() == (study / f"best_{'policy' if path == policy else 'preset'}.yaml").read_bytes()
    if preset:
        assert presets.load_preset_file(preset).title == "study"


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
    path = own_folders / "config" / "policy" / "mine.yaml"
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


# ----------------------------------------------------------------------------------------------------------- the real one


def test_base_flags_of_the_trials_own_are_refused():
    with pytest.raises(ConfigError, match="leave eval_only out"):
        check_base(["--eval_only"])


@pytest.mark.slow
def test_three_real_trials_end_to_end(corpus, tmp_path, root):
    study = tmp_path / "study"
    argv = [
        f"--data_dir={corpus.parent}", f"--dataset={corpus.name}", "--device=cpu", "--block_size=16", "--n_layer=1", "--n_head=2",
        "--n_embd=16", "--batch_size=4", "--max_iters=30", "--eval_interval=10", "--log_interval=100", "--preset=balanced",
        "--learning_rate=1e-4", "optimizer.lr=tag(log,interval(1e-4,1e-1))", "rack.gate.target_update_rate=interval(0.5,0.9)",
        f"--study={study}", "--trials=3", "--confirm=1",
    ]  # fmt: skip
    command = [sys.executable, "-m", "ockham", "tune", *argv]
    done = subprocess.run(command, cwd=root, env=os.environ | {"OMP_NUM_THREADS": "1"}, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "beats the start by" in done.stdout
    losses = [json.loads((study / f"trial_{i:03d}" / "summary.json").read_text())["val_loss"] for i in range(3)]
    assert all(f"val loss {loss:.4f}" in done.stdout for loss in losses)
    assert presets.load_preset_file(study / "best_preset.yaml").hyperparameters.get("learning_rate") is None
    use = done.stdout.splitlines()[-1].removeprefix("use it: ockham train ").split()
    measured = min(range(3), key=losses.__getitem__)
    saved = yaml.safe_load((study / f"trial_{measured:03d}" / "config.yaml").read_text())
    assert configurator.resolve([arg for arg in use if "--preset" not in arg]).config.optimizer.lr == saved["optimizer"]["lr"]
    assert Path(study / "study.db").is_file()
