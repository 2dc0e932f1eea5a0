"""From argv to one typed, frozen config: nanoGPT's and Hydra's grammar, one table of names, one story for every error.

    python train_ockham.py [config/FILE.py|.yaml ...] [--key=value ...] [group=name ...] [a.b=value ...] [-m ...]

argv is translated to Hydra's grammar (ockham.configuration.command) and given to `hydra.main`; then the layers are laid
(ockham.configuration.layers) and the program is called with the result, or, under `-m seed=1,2,3`, started once for each job.
With dashes a value is one value, typed by its key; without, it is Hydra's. Nothing here imports torch: help and errors come at
once.
"""

from __future__ import annotations

import copy
import os
import sys
import tempfile
import typing
from collections.abc import Callable, Iterator, Mapping
from contextlib import nullcontext
from functools import cache
from pathlib import Path
from typing import Any

from ockham import __version__
from ockham.audit.place import check_export_json
from ockham.config import RunConfig
from ockham.configuration.command import HYDRA_ALONE, CommandLine, translate
from ockham.configuration.files import CONFIG_DIR, ROOT, SUFFIXES, read_config
from ockham.configuration.grammar import COMMAND_LINE, in_hydra, members, parse_override, parse_value, typed_text
from ockham.configuration.keys import ALIASES, real_key
from ockham.configuration.launchers import check_launchers
from ockham.configuration.layers import Layer, Provenance, last_said, make_layer
from ockham.configuration.repeats import without_repeats
from ockham.configuration.stack import Resolved, default_choices, lay
from ockham.configuration.sweep import (
    FileSweep,
    Planned,
    Rehearsal,
    by_origin,
    identity,
    key_of,
    own_sweeper,
    rehearsed,
    take_sweep,
    with_sweeps,
)
from ockham.configuration.text import config_as_yaml, explain_key, help_text, section_as_yaml, table
from ockham.errors import ConfigError, nearest
from ockham.program import BROKEN_PIPE, run_program, told, wants_debug
from ockham.typed import from_mapping, leaves, to_mapping

if typing.TYPE_CHECKING:
    from ockham.experiment.sweep import Sweep

__all__ = [
    "BROKEN_PIPE", "Provenance", "Resolved", "config_as_yaml", "explain", "flat", "parse_flags", "resolve", "run", "run_program",
]  # fmt: skip

SCRIPT = ROOT / "train_ockham.py"  # what a sweep's jobs run
Main = Callable[[RunConfig, Provenance], int | None]


def run(main: Main, argv: list[str] | None = None, script: Path | None = None) -> int:
    """Resolve argv and call `main(config, provenance)`, or, under -m, start `script` (train_ockham.py) for each job.

    The exit code. Errors become one line on stderr: 2 for what is written wrong, 1 for what the world lacks or broke, 130 for
    Ctrl-C.
    """
    given = sys.argv[1:] if argv is None else list(argv)
    return run_program(lambda: _run(main, given, script or SCRIPT), wants_debug(given))


def resolve(argv: list[str]) -> Resolved:
    """The config that argv would run, with its provenance; nothing is run or written."""
    command = translate(argv)
    if command.is_multirun:
        raise ConfigError("a sweep (-m) has no single config: leave -m out and give one value to each key")
    return laid(*read_files(command))


def explain(key: str, argv: list[str]) -> str:
    """A key's value under argv, and what each layer said of it. Raises ConfigError naming the nearest key."""
    return explain_key(key, resolve(argv).provenance)


def flat(config: RunConfig) -> dict[str, Any]:
    """The config as ckpt.pt keeps it: nanoGPT's flat names where it has them, the other keys as nested plain values."""
    nested = to_mapping(config)
    values = {key: value for key, value in nested.items() if not isinstance(value, Mapping)}
    for alias in ALIASES:
        key, index = real_key(alias)
        room, leaf = key.split(".")
        value = nested[room].get(leaf)
        values[alias] = value if index is None or value is None else value[index]
    values |= {"warmup_iters": config.warmup_steps, "min_lr": config.min_lr, "decay_lr": config.scheduler.name != "none"}
    values["lr_decay_iters"] = config.scheduler.decay_steps or config.max_iters
    return values


# ----------------------------------------------------------------------------------------------------------- into Hydra


def read_files(command: CommandLine) -> tuple[list[Layer], list[str]]:
    """The layers of the config files, in order, and the overrides: the command line's and before them what the files sweep."""
    layers: list[Layer] = []
    swept: list[FileSweep] = []
    given = {identity(key_of(text)) for text in command.overrides}
    for name in command.files:
        values = read_config(name)
        sweeps = take_sweep(name, values)
        swept += sweeps
        layers.append(make_layer("file", name, values.items()))
        layers[-1].swept = [one.key for one in sweeps if identity(one.key) not in given]
    return layers, with_sweeps(swept, command.overrides, command.is_multirun)


def laid(files: list[Layer], overrides: list[str], subdir: str = "") -> Resolved:
    """The layers of files and overrides, laid and checked. `subdir` is a sweep job's own folder in out_dir."""
    of_files, typed = by_origin(files, overrides)
    swept = [flags_layer(texts, f"{where}: sweep") for where, texts in of_files.items()]
    resolved = lay([*files, *swept], flags_layer(typed), _compose, subdir)
    key = "optimizer.export_json"
    check_export_json(resolved.config.optimizer.export_json, resolved.provenance[key][-1].where)
    return resolved


def flags_layer(overrides: list[str], where: str = COMMAND_LINE) -> Layer:
    """The layer of a job's overrides."""
    values: list[tuple[str, Any]] = []
    for text in overrides:
        override = parse_override(text)
        if override.is_hydra_override() or override.is_sweep_override():
            continue
        if override.package is not None:
            raise ConfigError(f"{text}: packages (@) are not used here")
        values.append((override.key_or_group, typed_text(override)))
    return make_layer("flag", where, values)


def _register() -> None:
    """The defaults, under a name that config.yaml's defaults list can give."""
    from hydra.core.config_store import ConfigStore

    defaults = to_mapping(RunConfig())
    del defaults["rack"]  # resolved from the preset; `rack.plugin.param=` must not meet a list
    del defaults["policy"]  # a folder of config/, which Hydra takes for a group
    ConfigStore.instance().store(name="base_run", node=defaults)


def _compose(choices: list[str]) -> dict[str, Any]:
    """Defaults and groups, composed by Hydra."""
    return copy.deepcopy(_composed(tuple(choices)))


@cache
def _composed(choices: tuple[str, ...]) -> dict[str, Any]:
    from hydra import compose, initialize_config_dir
    from hydra.core.global_hydra import GlobalHydra
    from omegaconf import OmegaConf

    _register()
    is_in_job = GlobalHydra.instance().is_initialized()
    with nullcontext() if is_in_job else initialize_config_dir(str(CONFIG_DIR), version_base="1.3"):
        composed = OmegaConf.to_container(compose("config", overrides=list(choices)))
    assert isinstance(composed, dict)
    composed.pop("policy", None)  # a policy's values are laid as a layer, below the recipes
    return typing.cast(dict[str, Any], composed)


def _run(main: Main, argv: list[str], script: Path) -> int:
    command = translate(argv)
    if command.wants_help:
        print(help_text(default_choices() | flags_layer(command.overrides).choices))
        return 0
    if command.wants_version:
        print(version_text())
        return 0
    if any(flag in HYDRA_ALONE for flag in command.flags):
        return _hydra_main(lambda: None, command.flags)
    if command.show == "job":
        return _show(argv, command)
    if command.info:
        return _hydra_main(lambda: None, [f"--info={command.info}", *command.flags, *command.overrides])
    if command.show:
        package = ["--package", command.package] if command.package else []
        return _hydra_main(lambda: None, ["--cfg", command.show, *package, *command.flags, *command.overrides])
    if not command.is_multirun:
        return _one_job(main, command, argv)
    if int(os.environ.get("WORLD_SIZE", "1")) > 1:
        raise ConfigError("-m does not work under torchrun: start one torchrun for each combination")
    return _sweep(command, argv, script)


def version_text() -> str:
    """Our version and Hydra's."""
    import hydra

    return f"nanoGPT-Ockham {__version__} (Hydra {hydra.__version__})"


def _show(argv: list[str], command: CommandLine) -> int:
    resolved = resolve(argv)
    for note in resolved.provenance.notes:
        print(note, file=sys.stderr)
    if command.package and command.package != "_global_":
        text = section_as_yaml(resolved.config, resolved.provenance, command.package)
    else:
        text = config_as_yaml(resolved.config, resolved.provenance)
    sys.stdout.write(text)
    return 0


def _one_job(main: Main, command: CommandLine, argv: list[str]) -> int:
    """The run, inside hydra.main."""
    from ockham.experiment.parent import end_with_parent

    end_with_parent()
    files, overrides = read_files(command)
    codes: list[int] = []

    def program() -> int | None:
        resolved = laid(files, _this_job()[1])
        resolved.provenance.argv = argv
        if os.environ.get("RANK", "0") == "0":
            print(*resolved.provenance.notes, sep="\n", end="\n" * bool(resolved.provenance.notes), flush=True)
        return main(resolved.config, resolved.provenance)

    # guarded here, because Hydra would print more than a line
    _hydra_main(lambda: codes.append(run_program(program, wants_debug(argv))), [*command.flags, *overrides])
    return codes[0]


def _sweep(command: CommandLine, argv: list[str], script: Path) -> int:
    """Every job of the sweep, each in a process of its own; the sweep's exit code.

    A sweep is gone through twice: the first time its jobs are only looked at, so that a mistake in the last costs nothing. With
    a sweeper that makes its jobs up as it goes, each is looked at when it comes.
    """
    from ockham.experiment.sweep import run_sweep

    files, overrides = read_files(command)
    overrides, notes = without_repeats(overrides)
    plan = _rehearse(files, overrides, command, check_corpus if script == SCRIPT else None)
    print(*notes, sep="\n", end="\n" * bool(notes), flush=True)
    folder = _sweep_folder(files, overrides)
    with tempfile.TemporaryDirectory() as nowhere:
        is_written = not plan.jobs or any(job.writes for job in plan.jobs)
        hydra_dir = f"hydra.sweep.dir={in_hydra(str(folder) if is_written else nowhere)}"

        def launch(sweep: Sweep) -> None:
            _hydra_main(_job_of(sweep, plan), [*command.flags, hydra_dir, *overrides])

        return run_sweep(command.files, script, plan.jobs, launch, folder, argv)


def plan_sweep(command: CommandLine) -> list[Planned]:
    """The jobs of a sweep, none of them started. Raises the first mistake in any of them."""
    files, overrides = read_files(command)
    return _rehearse(files, without_repeats(overrides)[0], command).jobs


def check_corpus(config: RunConfig) -> None:
    """Raises CorpusError where a job's corpus is not there, or not prepared."""
    folder = ROOT / config.data_dir / config.dataset
    if not (folder / "train.bin").exists():
        from ockham.data import absent  # torch: only where there is something to explain

        raise absent(folder)


def _rehearse(
    files: list[Layer], overrides: list[str], command: CommandLine, check: Callable[[RunConfig], None] | None = None
) -> Rehearsal:
    """A sweep's jobs, looked at; none where another sweeper will make them up. `check` is asked about each that will start."""
    from ockham.experiment.sweep import is_done

    check_launchers(overrides)

    def config_of(overrides: list[str], subdir: str) -> RunConfig:
        return laid(files, overrides, subdir).config

    swept = [o.key_or_group for o in map(parse_override, overrides) if o.is_sweep_override()]
    of_files = [key for layer in files for key in layer.swept]
    plan = Rehearsal(swept, [*of_files, *command.bare], config_of, told, is_done, check)
    if own_sweeper(overrides):
        with tempfile.TemporaryDirectory() as nowhere:
            to_nowhere = f"hydra.sweep.dir={in_hydra(nowhere)}"
            _hydra_main(lambda: plan.look_at(*_this_job()), [*command.flags, *rehearsed(overrides), to_nowhere])
    if plan.mistake:
        raise plan.mistake
    return plan


def _job_of(sweep: Sweep, plan: Rehearsal) -> Callable[[], float | None]:
    """What a launcher calls for each job, in whatever process; it must hold nothing but plain data and functions."""
    known = {job.number: job for job in plan.jobs}

    def job() -> float | None:
        number, overrides = _this_job()
        if number in known:
            return sweep.start(known[number])
        try:
            planned = plan.planned(number, overrides)
        except Exception as error:
            sweep.refuse(number, f"{number}", told(error)[0])
            return None
        return sweep.start(planned)

    return job


def _this_job() -> tuple[int, list[str]]:
    """The number of the job that Hydra is in, and its overrides."""
    from hydra.core.hydra_config import HydraConfig
    from omegaconf import OmegaConf

    hydra = HydraConfig.get()
    number = 0 if OmegaConf.is_missing(hydra.job, "num") else hydra.job.num
    return number, typing.cast(list[str], OmegaConf.to_container(hydra.overrides.task, resolve=False))


def _sweep_folder(files: list[Layer], overrides: list[str]) -> Path:
    """Where a sweep's own files go: the out_dir that its jobs have in common; multirun where there is none."""
    out_dir = str(last_said([*files, flags_layer(overrides)], "out_dir", RunConfig().out_dir)[0])
    is_swept = any(o.key_or_group == "out_dir" and o.is_sweep_override() for o in map(parse_override, overrides))
    return Path("multirun" if is_swept or "${" in out_dir else out_dir)


def _hydra_main(job: Callable[[], Any], argv: list[str]) -> int:
    """Hand translated argv to hydra.main. HYDRA_FULL_ERROR makes it raise, so that the errors are told by us."""
    import hydra
    from hydra.core.utils import env_override

    _register()

    def task(config: Any) -> Any:
        return job()

    before = sys.argv
    sys.argv = [before[0], *argv]
    try:
        with env_override({"HYDRA_FULL_ERROR": "1"}):
            hydra.main(str(CONFIG_DIR), "config", version_base="1.3")(task)()
    finally:
        sys.argv = before
    return 0


# --------------------------------------------------------------------------------------------------- programs without Hydra


def parse_flags(cls: type, argv: list[str], usage: str = "") -> Any:
    """An instance of a frozen config dataclass from config files and `--key=value` or `key=value`.

    `--help` prints `usage` and the keys, and exits with 0. Raises ConfigError for whatever cannot be used, naming the nearest
    key.
    """
    known, values = leaves(cls), dict[str, Any]()
    if "--help" in argv or "-h" in argv:
        print("\n".join(part for part in (usage, table((cls.__doc__ or "").strip(), cls, "--")) if part))
        raise SystemExit(0)
    for previous, arg, following in zip(["", *argv], argv, [*argv[1:], "-"], strict=False):
        key, eq, text = arg.removeprefix("--").partition("=")
        if not eq and not arg.startswith("-"):
            if previous.startswith("--") and "=" not in previous and not arg.endswith(SUFFIXES):
                raise ConfigError(f"unexpected argument {arg!r}: write {previous}={arg}")
            values |= dict(_file_values(arg, known))
            continue
        if key not in known:
            raise ConfigError(f"unknown key {key} ({COMMAND_LINE}){nearest(key, known)}; --help lists them")
        if not eq and bool not in members(known[key].kind):
            raise ConfigError(f"--{key} needs a value: write --{key}={'VALUE' if following.startswith('-') else following}")
        values[key] = parse_value(text if eq else "True", known[key].kind)
    return from_mapping(cls, values)


def _file_values(name: str, known: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    for key, value in read_config(name).items():
        if key not in known:
            raise ConfigError(f"unknown key {key} ({name}){nearest(key, known)}")
        yield key, value
