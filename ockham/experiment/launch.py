"""Runs started by one of Hydra's launchers, on this machine or on a cluster's: one -m call, one job for each run."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from ..configuration.grammar import in_hydra
from ..configuration.launchers import check_launchers
from ..errors import ConfigError
from .jobs import Job
from .sweep import held_back
from .work import perform

GROUP = "hydra/launcher"


def chosen(name: str | None, rest: Sequence[str], jobs: int) -> tuple[tuple[str, ...], list[str]]:
    """Hydra's words about its launcher, and the arguments without them. Raises WorldError for one that is not installed."""
    words = [arg for arg in rest if arg.startswith(("hydra/", "hydra."))]
    kept = [arg for arg in rest if arg not in words]
    if name is None:
        if words:
            raise ConfigError(f"{words[0]} is for a launcher of Hydra's: give --launcher NAME, too")
        return (), kept
    if wrong := next((word for word in words if not word.startswith("hydra.launcher.")), None):
        raise ConfigError(f"{wrong}: only hydra.launcher.KEY=VALUE goes with --launcher")
    check_launchers([f"{GROUP}={name}"])
    count = [f"hydra.launcher.n_jobs={jobs}"] if name == "joblib" and not any(".n_jobs=" in word for word in words) else []
    return (f"{GROUP}={name}", *count, *words), kept


@dataclass(frozen=True)
class Launched:
    """The runs of one -m call, as plain data that a launcher can take to another process or machine.

    All of them see the experiment's folder under the same path, as Hydra's launchers for clusters need, too.
    """

    jobs: tuple[Job, ...]
    script: str
    stop: str  # a file whose being there keeps further runs from starting and ends those that run

    def __call__(self, config: object) -> None:
        """Hydra's task: the run whose number it is."""
        from hydra.core.hydra_config import HydraConfig

        stop, job = Path(self.stop), self.jobs[HydraConfig.get().job.num]
        if stop.exists():
            return
        try:
            perform(job, stop.exists, script=Path(self.script))
        except SystemExit as told:  # a signal came to this process; it is for the whole experiment
            stop.write_text(str(int(str(told.code)) - 128), encoding="utf-8")


def launch(jobs: Sequence[Job], launcher: Sequence[str], script: Path, folder: Path) -> int:
    """Run the jobs through a launcher; each leaves its job.json in its folder. The signal that ended it, or 0."""
    import hydra
    from hydra.core.config_store import ConfigStore
    from hydra.core.utils import env_override

    ConfigStore.instance().store(name="ab_runs", node={"run": 0})
    with tempfile.TemporaryDirectory(dir=folder, prefix=".launched-") as notes:
        stop = Path(notes) / "stop"
        task = Launched(tuple(jobs), str(script), str(stop.resolve()))
        numbers = ",".join(map(str, range(len(jobs))))
        argv = ["-m", f"run={numbers}", *launcher, f"hydra.sweep.dir={in_hydra(notes)}", "hydra.output_subdir=null"]
        with env_override({"HYDRA_FULL_ERROR": "1"}), held_back(lambda number: stop.write_text(str(number))):
            run_hydra(hydra.main(None, "ab_runs", version_base="1.3")(task), argv)
        return int(stop.read_text(encoding="utf-8")) if stop.exists() else 0


def run_hydra(main: object, argv: Sequence[str]) -> None:
    """Call what `hydra.main` made with a command line of our own."""
    import sys

    before = sys.argv
    sys.argv = [before[0], *argv]
    try:
        assert callable(main)
        main()
    finally:
        sys.argv = before
