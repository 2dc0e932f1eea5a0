"""An Optuna study whose trials are training runs: asked, watched, told; it can be cut off anywhere and gone on with.

Trials are counted by their ordinal, 0, 1, 2, ...: a trial that was cut off is told FAIL in the storage and asked again under
the same ordinal, in the same folder, with the same parameters. The sampler is made anew for each ordinal, with a seed mixed
from it, so that the same --tune_seed gives the same trials, interrupted or not.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from ..errors import ConfigError, WorldError
from .jobs import Job, Outcome, run_job
from .study import Plan, Trial, ending, short, verdict
from .watch import Watch, last_iteration

STARTUP = 4  # completed trials before any is pruned
FAILURES = 4  # failed trials before any was measured: it is not the parameters
ASKED = 20  # times the sampler is asked for a point that has not failed yet
ENOUGH = 10  # completed trials before importances say anything: Optuna compares the best tenth with the rest
LOCK = "tune.lock"
STUDY = "ockham"  # the study's name in its storage


class Search:
    """The study in DIR/study.db and the runs beside it. Use it as a context manager: it holds the storage open.

    `run` is `jobs.run_job`, `say` prints a line.
    """

    def __init__(self, plan: Plan, run: Callable[..., Outcome] = run_job, say: Callable[[str], None] = print):
        self.plan, self.run, self.say = plan, run, say
        self.optuna = load_optuna()
        self.distributions = {space.key: space.distribution() for space in plan.spaces}
        self.failed: set[str] = set()  # runs that are no trials

    def __enter__(self) -> Search:
        optuna, folder = self.optuna, self.plan.folder
        path = folder / "study.db"
        if not path.is_file() and folder.is_dir() and any(name.name != LOCK for name in folder.iterdir()):
            raise ConfigError(f"--study={folder} holds other things and no study.db; give a new or empty folder")
        folder.mkdir(parents=True, exist_ok=True)
        self.storage = optuna.storages.RDBStorage(f"sqlite:///{path.resolve()}")
        try:
            self.study = optuna.create_study(
                storage=self.storage,
                study_name=STUDY,
                pruner=optuna.pruners.MedianPruner(n_startup_trials=STARTUP),
                load_if_exists=True,
            )
            self.check_identity()
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *exc: object) -> None:
        self.storage.remove_session()
        self.storage.engine.dispose()

    def check_identity(self) -> None:
        """Raises ConfigError with the differences when the folder's study is of other spaces or another base run."""
        before, now = self.study.user_attrs.get("identity"), self.plan.identity
        if before is None:
            self.study.set_user_attr("identity", now)
            return
        keys = [key for key in {**before, **now} if before.get(key, "not there") != now.get(key, "not there")]
        if keys:
            differences = [f"{k} was {before.get(k, 'not there')}, is {now.get(k, 'not there')}" for k in keys]
            raise ConfigError(
                f"--study={self.plan.folder} is of other spaces or another base run: {'; '.join(differences)}; "
                f"give what it began with, or another --study"
            )

    # -------------------------------------------------------------------------------------------------------- trials

    def go(self) -> None:
        """Run trials until there are --trials of them. Raises WorldError when the first ones all fail."""
        self.queue_again()
        if self.plan.start is None:
            self.say("the start lies outside the spaces; it is measured as a run of its own")
            self.measure("start", [])
        elif not self.study.get_trials(deepcopy=False):
            self.study.enqueue_trial(self.plan.start, user_attrs={"ordinal": 0})
        while len(self.trials()) < self.plan.trials:
            done = self.trials()
            if len(done) >= FAILURES and all(trial.state == "failed" for trial in done):
                raise WorldError(f"the first {len(done)} trials all failed; the last one: {done[-1].error}")
            if sum(trial.seconds for trial in done) >= self.plan.max_s:
                self.say(f"--max_hours_in_all is used up after {len(done)} trials; no further one is started")
                break
            self.one()

    def queue_again(self) -> None:
        """Every trial that was cut off: the same ordinal and parameters once more, and FAIL for the torn one."""
        state = self.optuna.trial.TrialState
        waiting = {t.user_attrs.get("ordinal") for t in self.study.get_trials(states=(state.WAITING,))}
        for torn in self.study.get_trials(states=(state.RUNNING,)):
            ordinal = torn.user_attrs.get("ordinal")
            is_ended = "error" in torn.user_attrs  # it had failed, and was cut off before it was told
            if ordinal is not None and ordinal not in waiting and not is_ended:
                whole = torn.params.keys() == self.distributions.keys()  # else the sampler draws all of them again
                self.study.enqueue_trial(torn.params if whole else {}, user_attrs={"ordinal": ordinal})
            self.study.tell(torn.number, state=state.FAIL)

    def one(self) -> None:
        """Ask, run, tell."""
        waiting = self.study.get_trials(states=(self.optuna.trial.TrialState.WAITING,))
        ordinal = waiting[0].user_attrs["ordinal"] if waiting else self.next_ordinal()
        trial = self.ask(ordinal)
        trial.set_user_attr("ordinal", ordinal)  # cut off before this, it is asked anew, with the same seed
        name = f"trial_{ordinal:03d}"
        shown = ", ".join(f"{key} = {short(token)}" for key, token in trial.params.items())
        self.say(f"{name}: {shown}{' (the start)' if self.plan.start == trial.params else ''}")
        folder = self.plan.folder / name
        watch = Watch(folder, trial, self.plan.prunes, lambda: last_iteration(self.plan.config, folder))
        outcome = self.start_run(name, self.plan.assignments(trial.params), watch)
        watch.finish()
        self.tell(trial, outcome, watch.is_pruned)

    def ask(self, ordinal: int) -> Any:
        """A trial that is waiting, else the sampler's: another one, ASKED times at most, where it is a point that failed."""
        failed = [trial.tokens for trial in self.trials() if trial.state == "failed"]
        for again in range(ASKED):
            seeds = [self.plan.tune_seed, ordinal, *[again] * bool(again)]
            seed = int(np.random.SeedSequence(seeds).generate_state(1)[0])
            self.study.sampler = self.optuna.samplers.TPESampler(seed=seed)
            trial = self.study.ask(self.distributions)
            if trial.params not in failed or again == ASKED - 1:
                break
            self.study.tell(trial, state=self.optuna.trial.TrialState.FAIL)  # without an ordinal it is none of ours
        return trial

    def next_ordinal(self) -> int:
        """One more than the last."""
        return 1 + max((t.user_attrs.get("ordinal", -1) for t in self.study.get_trials(deepcopy=False)), default=-1)

    def tell(self, trial: Any, outcome: Outcome, is_pruned: bool) -> None:
        """How a trial ended, to the study and to the screen."""
        state = self.optuna.trial.TrialState
        trial.set_user_attr("seconds", max(outcome.seconds, outcome.summary.get("wall_s") or 0.0))  # all sessions
        value, error = verdict(outcome)
        if is_pruned:
            self.study.tell(trial, state=state.PRUNED)
        elif value is None:
            trial.set_user_attr("error", error)
            self.study.tell(trial, state=state.FAIL)
        else:
            self.study.tell(trial, value)
        done = self.trials()
        self.say(f"{done[-1].name}: {ending(done[-1], self.best(done))}")

    def trials(self) -> list[Trial]:
        """Those that have ended, in order; cut-off ones are not among them."""
        states = self.optuna.trial.TrialState
        names = {states.COMPLETE: "complete", states.PRUNED: "pruned", states.FAIL: "failed"}
        found = []
        for t in self.study.get_trials(deepcopy=False):
            told = t.user_attrs
            if t.state in names and "ordinal" in told and (t.state != states.FAIL or "error" in told):
                value = t.value if t.state != states.FAIL else None
                how_it_went = told.get("seconds", 0.0), told.get("error", ""), t.last_step or 0
                found.append(Trial(told["ordinal"], names[t.state], value, t.params, *how_it_went))
        return sorted(found, key=lambda trial: trial.ordinal)

    @staticmethod
    def best(trials: Sequence[Trial]) -> Trial | None:
        """The completed trial of the lowest val loss, the first of equals."""
        complete = [trial for trial in trials if trial.state == "complete"]
        return min(complete, key=lambda trial: (trial.value, trial.ordinal), default=None)

    # ---------------------------------------------------------------------------------------------------------- runs

    def start_run(self, name: str, more: Sequence[str], watch: Callable[[], bool] | None = None) -> Outcome:
        """One training process in its folder: resumed where it left last.pt, else anew."""
        folder = self.plan.folder / name
        begin = "--init_from=resume" if (folder / "last.pt").is_file() else "--overwrite=True"
        argv = (*self.plan.argv, *more, f"--out_dir={folder}", begin)
        return self.run(Job(name, folder, argv), watch=watch, quiet=True)

    def measure(self, name: str, more: Sequence[str]) -> float | None:
        """The val loss of a run that is no trial, nats/token; run once, then remembered. None when it failed, which is said.

        What failed is tried again by the next command alone: the world may have changed by then.
        """
        known = self.study.user_attrs.get("measured", {})
        if name in self.failed:
            return None
        if name not in known:
            outcome = self.start_run(name, more)
            value, error = verdict(outcome)
            self.say(f"{name}: {f'failed: {error}' if value is None else f'val loss {value:.4f} nats/token'}")
            if value is None:
                self.failed.add(name)
                return None
            known = {**known, name: value}
            self.study.set_user_attr("measured", known)
        return float(known[name])

    def importances(self) -> dict[str, float]:
        """How much each parameter mattered to being among the best trials, sums to 1; {} where that cannot be said."""
        import warnings

        if sum(trial.state == "complete" for trial in self.trials()) < ENOUGH:
            return {}
        with warnings.catch_warnings():
            warnings.simplefilter("error")  # Optuna only warns when it has too few trials, and calls all parameters equal
            try:
                return dict(self.optuna.importance.get_param_importances(self.study))
            except (ImportError, RuntimeError, ValueError, UserWarning):
                return {}


def load_optuna() -> Any:
    """Optuna, quiet. Raises WorldError where it is not installed."""
    try:
        import optuna
    except ModuleNotFoundError as error:
        raise WorldError(f"ockham tune needs {error.name}: pip install -e '.[tune]'") from error
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    return optuna
