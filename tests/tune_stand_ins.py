"""Training as the tuner sees it, without any: a run whose loss has one lowest point, and studies of it."""

import json
from contextlib import contextmanager

import configurator
from ockham.__main__ import parser
from ockham.experiment.jobs import Outcome
from ockham.experiment.search import Search
from ockham.experiment.tune import make_plan

BASE = ["--learning_rate=1e-3", "--dropout=0.1", "--max_iters=40", "--eval_interval=10"]
SPACES = ["optimizer.lr=tag(log,interval(1e-4,1e-2))", "dropout=interval(0.0,0.5)", "scheduler=cosine,wsd,linear"]


@contextmanager
def hurried():
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
