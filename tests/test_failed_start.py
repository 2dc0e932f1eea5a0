"""`ockham tune` and a start that fails: it is said once, and not run again."""

from pathlib import Path

import pytest
from tune_stand_ins import Trainer, hurried, options_of

import configurator
from ockham.experiment.search import Search
from ockham.experiment.tune import make_plan, tune

pytest.importorskip("optuna")


@pytest.fixture(autouse=True, scope="module")
def quick_disk():
    with hurried():
        yield


def breaks_at(scheduler: str):
    def loss(config) -> float:
        if config.scheduler.name == scheduler:
            raise ArithmeticError("the loss is not finite")
        return 2.0

    return loss


def test_a_start_outside_the_spaces_that_fails_is_run_once(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    trainer = Trainer(breaks_at("cosine"))
    options = options_of(tmp_path / "s", "--trials=2", "--confirm=0", spaces=["scheduler=wsd,linear"])
    assert tune(options, trainer) == 0
    assert [job.name for job in trainer.jobs].count("start") == 1
    assert "start: failed: the loss is not finite" in capsys.readouterr().out


def test_a_point_that_failed_is_not_tried_again_while_there_are_others(tmp_path: Path) -> None:
    trainer = Trainer(breaks_at("cosine"))
    options = options_of(tmp_path / "s", "--trials=6", spaces=["scheduler=cosine,wsd"])
    with Search(make_plan(options, configurator.resolve), trainer, say=lambda line: None) as search:
        search.go()
        states = [(trial.tokens["scheduler"], trial.state) for trial in search.trials()]
    assert states[0] == ("cosine", "failed")  # the start
    assert [name for name, _ in states[1:]] == ["wsd"] * 5
