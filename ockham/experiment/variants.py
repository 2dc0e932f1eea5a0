"""What an A/B experiment compares: variants of one base run, and the controls of those that skip batches."""

from __future__ import annotations

import dataclasses
import hashlib
import shlex
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from ..config import RunConfig
from ..configuration.files import CONFIG_DIR, ROOT, SUFFIXES
from ..configuration.keys import policies as policy_names
from ..configuration.keys import real_key
from ..configuration.rack import GATES
from ..errors import ConfigError, CorpusError, UsageError, nearest
from ..files import write_text
from ..ledger import BACKWARD, FORWARD
from ..presets import preset_names
from ..typed import plain, to_mapping

Resolve = Callable[[list[str]], Any]  # configurator.resolve
NOT_IN_BASE = ("out_dir", "overwrite", "seed", "dry_run", "eval_only", "max_hours", "epochs")  # the experiment's own
SEQUENCES = "SequenceGatePlugin"
PRESET = "preset"
RANDOM, SHORTER, ABLATION = "random skip", "shorter", "ablation"  # kinds of variants that are made, not asked for


@dataclass(frozen=True)
class Variant:
    """One way to train: what it adds to the base run's command line."""

    name: str
    kind: str  # preset, policy, overrides, or one of those that are made
    args: tuple[str, ...]
    parent: str = ""  # of a variant that was made: the one it was made of
    config: RunConfig | None = None  # resolved; None for controls, whose configs depend on what was measured

    @property
    def gate(self) -> str | None:
        """The name of its first active plugin that leaves batches or sequences out; None where everything is learned."""
        rack = self.config.rack if self.config else ()
        return next((str(spec["name"]) for spec in rack if spec.get("enabled", True) and leaves_out(spec)), None)


def leaves_out(spec: Mapping[str, Any]) -> bool:
    """Whether a plugin is a gate of batches, or chooses sequences."""
    return spec["type"] in GATES or (spec["type"] == SEQUENCES and spec["params"].get("mode") == "select")


# ------------------------------------------------------------------------------------------------------------- the base run


def base_argv(dataset: str | None, rest: Sequence[str], recipe: str = "", recipe_of: str | None = None) -> tuple[list[str], str]:
    """The train arguments that all runs share, and a line that says which recipe was chosen, if it was.

    Without a config file among them `recipe` is taken, else that of the data set, or of `recipe_of`: the one for the CPU where
    there is no GPU. Raises UsageError.
    """
    for arg in rest:
        if arg in ("-m", "--multirun"):
            raise ConfigError(f"{arg}: ab has no sweeps; give each setting as --variant='NAME: --key=value'")
        check_own(arg, "the base run")
    said = [f"--dataset={dataset}"] * (dataset is not None)
    if any(is_file(arg) for arg in rest):
        return [*rest, *said], ""
    if recipe:
        return [recipe, *rest, *said], f"recipe: {recipe} (the scenario's)"
    known = dataset or recipe_of
    if known is None:
        raise UsageError("give --dataset=NAME, or a config file such as config/train_shakespeare_char_cpu.py")
    recipe, why = recipe_for(known)
    return [recipe, *rest, *said], f"recipe: {recipe} ({why})"


def recipe_for(dataset: str) -> tuple[str, str]:
    """The recipe of a data set, below the checkout, and why this one. Raises UsageError naming the nearest data set."""
    here = {path.stem.removeprefix("train_"): path.name for path in sorted(CONFIG_DIR.glob("train_*.py"))}
    names = [dataset] if has_gpu() else [f"{dataset}_cpu", dataset]
    for name in names:
        if name in here:
            return f"config/{here[name]}", "there is a GPU" if has_gpu() else "there is no GPU"
    if f"{dataset}_cpu" in here:
        return f"config/{here[f'{dataset}_cpu']}", "the only one there is"
    known = sorted({name.removesuffix("_cpu") for name in here})
    raise UsageError(
        f"--dataset={dataset}: no recipe config/train_{dataset}.py{nearest(dataset, known)}; there are {', '.join(known)};"
        " for another data set give a config file, too"
    )


def has_gpu() -> bool:
    """Whether this machine can train on something other than its CPU."""
    import torch

    return bool(torch.accelerator.is_available())


def check_corpus(config: RunConfig) -> None:
    """Raises CorpusError naming the prepare.py where a split is missing."""
    folder = ROOT / config.data_dir / config.dataset
    missing = [name for name in ("train.bin", "val.bin") if not (folder / name).is_file()]
    if missing:
        from ..data import absent, fix  # torch

        raise absent(folder) if len(missing) == 2 else CorpusError(f"{folder / missing[0]} is missing{fix(folder)}")


def is_file(arg: str) -> bool:
    """Whether an argument names a config file."""
    return not arg.startswith("-") and arg.endswith(SUFFIXES) and "=" not in arg


def key_of(arg: str) -> tuple[str, int | None]:
    """The real key that an argument sets."""
    return real_key(arg.lstrip("-+").partition("=")[0].removesuffix(".name"))


def check_own(arg: str, owner: str) -> None:
    """Raises ConfigError for what the experiment sets itself."""
    key = arg.lstrip("-+").partition("=")[0]
    if key in NOT_IN_BASE:
        fix = "give --seeds=1,2,3" if key == "seed" else "its folder is --out=DIR" if key == "out_dir" else "leave it out"
        raise ConfigError(f"{arg} ({owner}): ab sets {key} itself; {fix}")
    if arg.partition("=")[2] == "resume" and key == "init_from":
        raise ConfigError(f"{arg} ({owner}): the runs are new ones; name the run's folder instead")


def command_of(base: Sequence[str], args: Iterable[str]) -> list[str]:
    """A train command line: config files first, and of the base's flags those that `args` do not set anew."""
    own = list(args)
    anew = {key_of(arg) for arg in own if not is_file(arg)}
    files = [arg for arg in (*base, *own) if is_file(arg)]
    kept = [arg for arg in base if not is_file(arg) and key_of(arg) not in anew]
    return [*files, *kept, *(arg for arg in own if not is_file(arg))]


# ------------------------------------------------------------------------------------------------------------- the variants


def asked_for(presets: str | None, policies: str | None, overrides: Sequence[str]) -> list[Variant]:
    """The variants of the command line, in order. Raises UsageError naming the nearest preset or policy."""
    found = [preset_variant(name) for name in listed(presets)]
    found += [policy_variant(name) for name in listed(policies)]
    found += [override_variant(text) for text in overrides]
    names = [variant.name for variant in found]
    twice = next((name for name in names if names.count(name) > 1), None)
    if twice is not None:
        raise UsageError(f"two variants are called {twice!r}; name one otherwise: --variant='NAME: --preset={twice}'")
    return found


def listed(text: str | None) -> list[str]:
    """The parts between commas."""
    return [name.strip() for name in text.split(",")] if text else []


def preset_variant(name: str) -> Variant:
    """A rack preset by name, or none."""
    known = ["none", *preset_names()]
    if name not in known:
        raise UsageError(f"--presets: no preset {name!r}{nearest(name, known)}; there are {', '.join(known)}")
    return Variant(name, PRESET, (f"--preset={name}",))


def policy_variant(name: str) -> Variant:
    """A policy by name, or a file, which is laid over the recipe."""
    if is_file(name):
        if not Path(name).is_file():
            raise UsageError(f"--policies: no file {name}; give a policy's name or file")
        return Variant(Path(name).stem, "policy", (name,))
    known = policy_names()
    if name not in known:
        raise UsageError(f"--policies: no policy {name!r}{nearest(name, known)}; there are {', '.join(known)}")
    return Variant(name, "policy", (f"--policy={name}",))


def override_variant(text: str) -> Variant:
    """'NAME: train arguments'."""
    name, colon, rest = text.partition(":")
    name = name.strip()
    if not colon or not name or not all(c.isalnum() or c in "-_." for c in name):
        raise UsageError(f"--variant must be 'NAME: --key=value ...', NAME of letters, digits, -, _ and ., got {text!r}")
    args = tuple(shlex.split(rest))
    for arg in args:
        check_own(arg, f"variant {name}")
    return Variant(name, "overrides", args)


def resolved(variant: Variant, base: Sequence[str], resolve: Resolve) -> Variant:
    """The variant with its config, so that what is wrong is told before anything runs."""
    try:
        return dataclasses.replace(variant, config=resolve(command_of(base, variant.args)).config)
    except UsageError as error:
        raise type(error)(f"variant {variant.name}: {error}") from error


def ablations(variant: Variant) -> Iterator[Variant]:
    """The variant without each of its active plugins in turn; not yet resolved."""
    for spec in variant.config.rack if variant.config else ():
        if spec.get("enabled", True):
            off = (*variant.args, f"rack.{spec['name']}.enabled=false")
            yield Variant(f"{variant.name}-{spec['name']}", ABLATION, off, variant.name)


def controls(variant: Variant) -> list[Variant]:
    """What a gated variant has to beat: skipping at random as often, and a shorter plain run of the same compute units."""
    if variant.gate is None or variant.kind == ABLATION:
        return []
    return [Variant(f"{variant.name}+{kind.split()[0]}", kind, (), variant.name) for kind in (RANDOM, SHORTER)]


# ------------------------------------------------------------------------------------------------------------- the controls


def random_skip(config: RunConfig, update_rate: float, folder: Path, name: str) -> Path:
    """Write a whole config that is the gated one but for its gates: that of batches skips at random at the rate measured, that of
    sequences chooses as many by lot; its path.

    The file's name holds a hash of its content, so that a command line that names it says all.
    """
    rack = []
    gate = next((spec for spec in config.rack if spec["type"] in GATES and spec.get("enabled", True)), None)
    for spec in config.rack:
        if spec["type"] == SEQUENCES and leaves_out(spec):
            spec = {**spec, "params": {**spec["params"], "mode": "random", "surprise": "loss"}}
        elif spec is gate:
            spec = {**spec, "type": "RandomSkipPlugin", "params": {"update_rate": round(update_rate, 6), "seed": None}}
        elif spec["type"] in GATES:
            spec = {**spec, "enabled": False}
        rack.append(spec)
    # no thresholds: under plain keys that ask for a gate the rack would get a second one
    content = dataclasses.replace(config, rack=tuple(rack), surprise_threshold=None, target_update_rate=None)
    text = yaml.safe_dump(plain(to_mapping(content)), sort_keys=False, allow_unicode=True)
    path = folder / f"{name}_{hashlib.sha256(text.encode()).hexdigest()[:8]}.yaml"
    folder.mkdir(parents=True, exist_ok=True)
    write_text(path, text)
    return path


def shorter(
    base: Sequence[str], plain_run: Sequence[str], units: float, resolve: Resolve, each: float | None = None
) -> list[str]:
    """The command line of a plain run that costs `units`, its schedule squeezed so that it ends decayed.

    `each`: units of one of its iterations, where they were measured; else a forward and a backward of every micro-batch.
    """
    command = command_of(base, plain_run)
    config: RunConfig = resolve(command).config
    iters = max(1, round(units / (each or (FORWARD + BACKWARD) * config.optimizer.accumulate_steps)))
    warmup = round(config.warmup_steps * iters / max(1, config.max_iters))
    length = (f"--max_iters={iters}", f"--lr_decay_iters={iters}", f"--warmup_iters={warmup}")
    return command_of(command, length)
