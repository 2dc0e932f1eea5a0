"""The auto-tuner's search: a seed gives the same trials however often it is cut off, and a failure is only a failure."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from tune_stand_ins import BASE, SPACES, Trainer, event, hurried, loss_of, options_of, told, trials_of

import configurator
from ockham import presets
from ockham.errors import ConfigError, WorldError
from ockham.experiment.search import Search
from ockham.experiment.tune import make_plan, tune
from ockham.experiment.watch import Watch

pytest.importorskip("optuna")


@pytest.fixture(autouse=True, scope="module")
def quick_disk():
    with hurried():
        yield


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


# ----------------------------------------------------------------------------------------------------------- the real one


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
