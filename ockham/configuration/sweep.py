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
from .layers import Layer

# What shows that a folder holds a run, as `ockham.rundir` has it; importing that would load torch.
SIGNS_OF_A_RUN = ("ckpt.pt", "last.pt", "journal.jsonl")
# Keys that say where a run goes, whether it goes on, and how long: with another value of them it may still be the same job.
NOT_NAMED = ("out_dir", "init_from", "overwrite", "debug", "dry_run", "eval_only", "max_iters", "epochs", "max_hours")
LONGEST_NAME = 97  # letters of what a job varies; a folder's name holds its number, too
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


def by_origin(files: Iterable[Layer], overrides: Iterable[str]) -> tuple[dict[str, list[str]], list[str]]:
    """A job's overrides: those that come from a file's sweep, by file, and those of the command line."""
    origin = {identity(key): layer.where for layer in files for key in layer.swept}  # a later file replaces an earlier one
    of_files: dict[str, list[str]] = {}
    typed: list[str] = []
    for text in overrides:
        where = origin.get(identity(key_of(text)))
        (typed if where is None else of_files.setdefault(where, [])).append(text)
    return of_files, typed


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


def described(overrides: list[str], keys: Iterable[str]) -> str:
    """What a job has for some keys, as a folder's name can hold it: optimizer=sgd,seed=1."""
    pairs = [re.sub("['\"]", "", text.lstrip("+")) for text in overrides if key_of(text) in keys]  # a file's words are quoted
    return re.sub(r"[^\w.=,+-]+", "_", ",".join(pairs))[:LONGEST_NAME].strip("_.")


def job_folder(number: int, overrides: list[str], keys: Iterable[str]) -> str:
    """A sweep job's folder: its number and what it varies, as 0_seed=1."""
    return "_".join(filter(None, [str(number), described(overrides, keys)]))


@dataclass
class Rehearsal:
    """The jobs of a sweep, looked at before the first one starts.

    `swept` are the keys with several values, `bare` all that were written as a sweep's are: where none has several values, they
    name the one job. `mistake` is the first that was found, with the job's name in it. `told` gives an error's message and the
    class to raise it as; `is_done` whether a job's folder holds all that its config asks for.
    """

    swept: list[str]
    bare: list[str]
    resolve: Resolve
    told: Callable[[Exception], tuple[str, type[Exception]]]
    is_done: Callable[[RunConfig], bool]
    check: Callable[[RunConfig], None] | None = None  # asked about each job that will start
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
            name = job_folder(number, overrides, self.naming)
            self.mistake = kind(f"job {name}: {message}; no job was started")

    def planned(self, number: int, overrides: list[str]) -> Planned:
        """One job. Raises ConfigError and whatever `resolve` raises where it could not start."""
        name, in_its_own = job_folder(number, overrides, self.naming), "out_dir" not in self.swept
        config, way = self.resolve(overrides, name if in_its_own else ""), "new"
        writes = not (config.dry_run or config.eval_only)
        if writes and config.init_from == "resume":
            if in_its_own and (earlier := self._earlier_name(Path(config.out_dir), overrides)):
                name, config = earlier, self.resolve(overrides, earlier)
            way = self._way(config)
            if way == "new":
                overrides = anew(overrides, Path(config.out_dir))
                config = self.resolve(overrides, name if in_its_own else "")
                overrides += ["++init_from=scratch"] * (config.init_from == "resume")  # a file said so
        if writes:
            self._check_folder(name, config, way)
        if self.check and way != "done":
            self.check(config)
        return Planned(number, name, tuple(overrides), config.out_dir, way, writes)

    @property
    def naming(self) -> list[str]:
        """The keys whose values name a job's folder."""
        return self.swept or [key for key in self.bare if key not in NOT_NAMED]

    def _earlier_name(self, folder: Path, overrides: list[str]) -> str | None:
        """The folder beside this one in which the same job ran under another number, before the sweep was widened or cut."""
        named = {described(overrides, self.swept), described(overrides, {*self.swept, *self.bare} - {*NOT_NAMED})} - {""}
        if folder.exists():
            return None
        beside = sorted(path.name for path in folder.parent.glob("*_*") if path.is_dir())
        same = [name for name in beside if name.partition("_")[0].isdigit() and name.partition("_")[2] in named]
        return next((name for name in same if len(name.partition("_")[2]) < LONGEST_NAME), None)  # a longer one was cut off

    def _way(self, config: RunConfig) -> str:
        if self.is_done(config):
            return "done"
        return "resume" if (Path(config.out_dir) / "last.pt").exists() else "new"

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
