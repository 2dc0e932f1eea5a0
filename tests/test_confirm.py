"""The best trial and the start are compared in pairs on fresh seeds, and the sentence says what the pairs say."""

import pytest
from tune_stand_ins import Trainer, hurried, loss_of, options_of, trials_of

from ockham.experiment import best as best_files
from ockham.experiment.confirm import Confirmation, Pair, fresh_seeds
from ockham.experiment.tune import tune

pytest.importorskip("optuna")


@pytest.fixture(autouse=True, scope="module")
def quick_disk():
    with hurried():
        yield


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
