"""The jobs of a sweep: what is swept, where each job writes, and whether all can run, found out before the first one starts."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ..config import RunConfig
from ..errors import ConfigError
from .grammar import choices_of, in_hydra, parse_override
from .keys import GROUPS, choice_name, is_known, real_key, unknown

# What shows that a folder holds a run, as `ockham.rundir` has it; importing that would load torch.
SIGNS_OF_A_RUN = ("ckpt.pt", "last.pt", "journal.jsonl")
LAUNCHER = ("hydra/launcher", "hydra.launcher")  # when and where jobs start
SWEEPER = "hydra/sweeper"  # which jobs there are


# ------------------------------------------------------------------------------------------------------ what is swept


@dataclass(frozen=True)
class FileSweep:
    """One key that a config file sweeps: an override in Hydra's grammar."""

    where: str
    key: str
    override: str

    @classmethod
    def parse(cls, where: str, key: str, values: Any) -> FileSweep:
        """A list of values, or text in Hydra's grammar such as range(1,4). Raises ConfigError."""
        if not is_known(key):
            raise unknown(key, f"{where}: sweep")
        if not isinstance(values, (list, tuple, str)) or not values:
            raise ConfigError(f"{where}: sweep: {key} must be a list of values, or text such as 'range(1,4)', got {values!r}")
        text = values if isinstance(values, str) else ",".join(map(in_hydra, values))
        override = f"{'' if key in GROUPS else '++'}{key}={text}"
        parsed = parse_override(override)
        for choice in choices_of(parsed.value()) if key in GROUPS else ():
            choice_name(key, choice, f"{where}: sweep")
        return cls(where, key, override)


def take_sweep(where: str, values: dict[str, Any]) -> list[FileSweep]:
    """What a config file sweeps, taken out of its values. Raises ConfigError."""
    swept = values.pop("sweep", {})
    if not isinstance(swept, Mapping):
        raise ConfigError(f"{where}: sweep must hold key: [value, ...] lines, got a {type(swept).__name__}")
    return [FileSweep.parse(where, key, listed) for key, listed in swept.items()]


def with_sweeps(swept: Iterable[FileSweep], overrides: list[str], is_multirun: bool) -> list[str]:
    """The overrides with what files sweep before them; the command line's word on a key replaces a file's sweep of it.

    Raises ConfigError where a sweep is left and -m is missing.
    """
    given = {identity(key_of(text)) for text in overrides}
    left = {identity(one.key): one for one in swept if identity(one.key) not in given}  # a later file replaces an earlier one
    if left and not is_multirun:
        one = next(iter(left.values()))
        raise ConfigError(f"{one.where} holds a sweep: add -m for one run each, or give {one.key} one value")
    return [*(one.override for one in left.values()), *overrides]


def key_of(override: str) -> str:
    """The key of an override in Hydra's grammar."""
    return override.lstrip("+").partition("=")[0]


def identity(key: str) -> tuple[str, int | None]:
    """The same for all names of a key: learning_rate and optimizer.lr, optimizer and optimizer.name."""
    return real_key(key.removesuffix(".name") if key.removesuffix(".name") in GROUPS else key)


def own_sweeper(overrides: Iterable[str]) -> bool:
    """Whether Hydra's own sweeper is used: only its jobs are known beforehand."""
    return not any(key_of(text).startswith(SWEEPER) for text in overrides)


def rehearsed(overrides: Iterable[str]) -> list[str]:
    """The overrides with Hydra's own launcher, which goes through the jobs here and now."""
    return [*(text for text in overrides if not key_of(text).startswith(LAUNCHER)), "hydra/launcher=basic"]


# ---------------------------------------------------------------------------------------------------- what the jobs are


@dataclass(frozen=True)
class Planned:
    """A job of a sweep, as plain data. `way` is new, resume, or done: left as it is."""

    number: int
    name: str
    overrides: tuple[str, ...]
    out_dir: str
    way: str
    writes: bool  # False for dry_run and eval_only


Resolve = Callable[[list[str], str], RunConfig]  # overrides, folder in out_dir -> config


def job_folder(number: int, overrides: list[str], swept: list[str]) -> str:
    """A sweep job's folder: its number and what it varies, as 0_seed=1."""
    pairs = [re.sub("['\"]", "", text.lstrip("+")) for text in overrides if key_of(text) in swept]  # a file's words are quoted
    return re.sub(r"[^\w.=,+-]+", "_", "_".join([str(number), ",".join(pairs)]))[:100].rstrip("_.")


@dataclass
class Plan:
    """The jobs of a sweep, looked at before the first one starts.

    `mistake` is the first that was found, with the job's name in it. `told` gives an error's message and the class to raise it
    as; `is_done` whether the job in a folder has ended well.
    """

    swept: list[str]
    resolve: Resolve
    told: Callable[[Exception], tuple[str, type[Exception]]]
    is_done: Callable[[Path], bool]
    jobs: list[Planned] = field(default_factory=list)
    mistake: Exception | None = None

    def look_at(self, number: int, overrides: list[str]) -> None:
        """Plan one job; nothing is planned after a mistake."""
        if self.mistake:
            return
        try:
            self.jobs.append(self.planned(number, overrides))
        except Exception as error:  # whatever it is, the job could not start
            message, kind = self.told(error)
            name = job_folder(number, overrides, self.swept)
            self.mistake = kind(f"job {name}: {message}; no job was started")

    def planned(self, number: int, overrides: list[str]) -> Planned:
        """One job. Raises ConfigError and whatever `resolve` raises where it could not start."""
        name = job_folder(number, overrides, self.swept)
        subdir = "" if "out_dir" in self.swept else name
        config, way = self.resolve(overrides, subdir), "new"
        writes = not (config.dry_run or config.eval_only)
        if writes and config.init_from == "resume":
            way = self._way(Path(config.out_dir))
            if way == "new":
                overrides = anew(overrides, Path(config.out_dir))
                config = self.resolve(overrides, subdir)
                overrides += ["++init_from=scratch"] * (config.init_from == "resume")  # a file said so
        if writes:
            self._check_folder(name, config, way)
        return Planned(number, name, tuple(overrides), config.out_dir, way, writes)

    def _way(self, out_dir: Path) -> str:
        if self.is_done(out_dir):
            return "done"
        return "resume" if (out_dir / "last.pt").exists() else "new"

    def _check_folder(self, name: str, config: RunConfig, way: str) -> None:
        folder = Path(config.out_dir).resolve()
        other = next((job.name for job in self.jobs if job.writes and Path(job.out_dir).resolve() == folder), None)
        if other:
            raise ConfigError(
                f"out_dir {config.out_dir} is that of job {other} too; leave out_dir out of the sweep, and each job has a folder "
                f"of its own in it"
            )
        if config.overwrite or way != "new":
            return
        if any((folder / sign).exists() for sign in SIGNS_OF_A_RUN):
            raise ConfigError(
                f"out_dir {config.out_dir} already holds a run: --init_from=resume goes on with it, --overwrite=True replaces "
                f"it, another --out_dir keeps it"
            )


def anew(overrides: list[str], out_dir: Path) -> list[str]:
    """The overrides of a job that is to be resumed but has nothing to go on from: init_from is what the files say.

    A journal without any checkpoint is all that a job leaves that was killed in its first seconds; it may be replaced.
    """
    fresh = [text for text in overrides if key_of(text) != "init_from"]
    has_weights = (out_dir / "ckpt.pt").exists()
    return [*fresh, "++overwrite=true"] if (out_dir / "journal.jsonl").exists() and not has_weights else fresh
