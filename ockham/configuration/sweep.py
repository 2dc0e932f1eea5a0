"""The jobs of a sweep: where each writes, and whether all of them can run, found out before the first one starts."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from ..config import RunConfig
from ..errors import ConfigError

# What shows that a folder holds a run, as `ockham.rundir` has it; importing that would load torch.
SIGNS_OF_A_RUN = ("ckpt.pt", "last.pt", "journal.jsonl")
OTHER_MACHINES = ("hydra/launcher", "hydra/sweeper")  # such a plugin starts the jobs its own way, perhaps elsewhere or twice


def job_folder(number: int, overrides: list[str], swept: list[str]) -> str:
    """A sweep job's folder: its number and what it varies, as 0_seed=1."""
    pairs = [text.lstrip("+") for text in overrides if text.lstrip("+").partition("=")[0] in swept]
    return re.sub(r"[^\w.=,+-]+", "_", "_".join([str(number), ",".join(pairs)]))[:100].rstrip("_.")


def can_rehearse(overrides: list[str]) -> bool:
    """Whether Hydra's own launcher and sweeper are used, which start every job once and here."""
    return not any(text.lstrip("+").startswith(OTHER_MACHINES) for text in overrides)


@dataclass
class Rehearsal:
    """What the jobs of a sweep would do. `mistake` is the first that was found, with the job's name in it."""

    mistake: Exception | None = None
    folders: dict[str, str] = field(default_factory=dict)  # out_dir -> the job that writes there

    def look_at(self, job: str, resolve: Callable[[], RunConfig], told: Callable[[Exception], tuple[str, type]]) -> None:
        """Resolve one job and look at its folder; `told` gives an error's message, and the class to raise it as."""
        if self.mistake:
            return
        try:
            self._look_at_folder(job, resolve())
        except Exception as error:  # whatever it is, the job could not start
            message, kind = told(error)
            self.mistake = kind(f"job {job}: {message}; no job was started")

    def _look_at_folder(self, job: str, config: RunConfig) -> None:
        if config.dry_run or config.eval_only:
            return
        folder = str(Path(config.out_dir).resolve())
        other = self.folders.setdefault(folder, job)
        if other != job:
            raise ConfigError(
                f"out_dir {config.out_dir} is that of job {other} too; leave out_dir out of the sweep, and each job has a folder "
                f"of its own in it"
            )
        if config.overwrite or config.init_from == "resume":
            return
        if any((Path(folder) / name).exists() for name in SIGNS_OF_A_RUN):
            raise ConfigError(
                f"out_dir {config.out_dir} already holds a run: --init_from=resume goes on with it, --overwrite=True replaces "
                f"it, another --out_dir keeps it"
            )
