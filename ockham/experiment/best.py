"""The best trial as files: what belongs to the rack as a preset, everything else as a policy."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from ..config import RunConfig
from ..configuration.files import CONFIG_DIR, SUFFIXES
from ..configuration.keys import real_key
from ..errors import ConfigError
from ..files import write_text
from ..presets import load_preset, load_preset_file, preset_path
from ..typed import plain
from .space import Space

OF_THE_RACK = ("lambda_ockham", "surprise_threshold", "target_update_rate", "consolidate_interval")
NAMING = ("optimizer", "optimizer.base")  # which optimizer it is
NAME = re.compile(r"[A-Za-z0-9][\w-]*")


@dataclass(frozen=True)
class Best:
    """The winning values by their spaces, and the config that was measured with them."""

    spaces: tuple[Space, ...]
    tokens: Mapping[str, Any]
    config: RunConfig

    @property
    def chosen(self) -> dict[str, Any]:
        """Real key -> value, as a config file has it: optimizer.betas[0] for beta1, optimizer for optimizer.name."""
        found = {}
        for space in self.spaces:
            key, index = real_key(space.key)
            written = key.removesuffix(".name") if key in ("optimizer.name", "scheduler.name") else key
            found[written if index is None else f"{written}[{index}]"] = space.value(self.tokens[space.key])
        return found

    def policy(self) -> dict[str, Any]:
        """What was chosen outside the rack; the optimizer is named where a value is meant for it. Empty = nothing.

        `optimizer=lookahead` is written as what it stands for: its base, and Lookahead on. A policy that was itself one of the
        choices is left to the command line: no policy can hold another.
        """
        values = {key: value for key, value in self.chosen.items() if key != "policy" and not is_of_the_rack(key)}
        if not any(key.startswith("optimizer") or key == "scheduler.min_lr" for key in values):
            return values
        optimizer = self.config.optimizer
        named: dict[str, Any] = {"optimizer": optimizer.name}
        if optimizer.lookahead.enabled:
            named["optimizer.lookahead.enabled"] = True
        return named | {key: value for key, value in values.items() if key not in NAMING}

    def preset(self, title: str) -> dict[str, Any]:
        """A complete preset: the rack that was measured. Empty = none of it was tuned, and it does not contradict the policy."""
        base = None if self.config.preset == "none" else load_preset(self.config.preset)
        stated = dict(base.hyperparameters) if base else {}
        is_adam = self.config.optimizer.type in ("Adam", "AdamW")
        is_in_policy = ("optimizer.lr" if is_adam else "optimizer.adamw_lr") in self.chosen
        hides_lr = is_in_policy and stated.pop("learning_rate", None) is not None  # a preset speaks louder than a policy
        if not hides_lr and not any(map(is_of_the_rack, self.chosen)):
            return {}
        content: dict[str, Any] = {
            "name": title,
            "description": base.description if base else "A rack found by ockham tune",
            "tags": [*(base.tags if base else ()), "tuned"],
            "hyperparameters": stated | {key: getattr(self.config, key) for key in OF_THE_RACK},
            "plugins": [plain(spec) for spec in self.config.rack],
        }
        return content | ({"memory": base.memory} if base and base.memory else {})


def is_of_the_rack(key: str) -> bool:
    """Whether a key's place is a preset."""
    return key in OF_THE_RACK or key == "preset" or key.startswith(("rack.", "macro."))


def check_name(name: str) -> None:
    """Raises ConfigError for a name that cannot be a file's, or that is taken."""
    if not NAME.fullmatch(name):
        raise ConfigError(f"--name must be letters, digits, - and _, got {name!r}")
    for path in named(name):
        if path.exists():
            raise ConfigError(f"--name={name}: {path} is there already; take another name")


def named(name: str) -> tuple[Path, Path]:
    """Where policy and preset of a name lie."""
    return CONFIG_DIR / "policy" / f"{name}.yaml", preset_path(name)


def write_best(best: Best, comment: Sequence[str], folder: Path, title: str, name: str | None) -> tuple[Path | None, Path | None]:
    """Write DIR/best_policy.yaml and DIR/best_preset.yaml, those of them that have something to say, and the same under `name`.

    Returns policy and preset as they are to be used: the named files where there is a name. An earlier best's file that does not
    hold any more is taken away.
    """
    found: list[Path | None] = []
    contents = (best.policy(), best.preset(title))
    for own, named_path, content in zip(("best_policy.yaml", "best_preset.yaml"), named(name or "none"), contents, strict=True):
        (folder / own).unlink(missing_ok=True)
        if not content:
            found.append(None)
            continue
        text = "".join(f"# {line}\n" for line in comment) + yaml.safe_dump(content, sort_keys=False, allow_unicode=True)
        for path in [folder / own, *([named_path] if name else [])]:
            path.parent.mkdir(parents=True, exist_ok=True)
            write_text(path, text)
        found.append(named_path if name else folder / own)
    policy, preset = found
    if preset:
        load_preset_file(preset)  # what we write must load
    return policy, preset


def how_to_use(argv: Sequence[str], best: Best, policy: Path | None, preset: str | None) -> list[str]:
    """The base run's arguments with the files instead of the values that were tuned.

    The policy goes last among the config files: as one of them it holds over the recipe, as `policy=NAME` it would not. Where
    it names the optimizer, the command line no longer does.
    """
    named = NAMING if policy and "optimizer" in best.policy() else ()
    tuned = {real_key(key) for key in (*["preset"] * bool(preset), *named, *(space.key for space in best.spaces))}
    kept = [arg for arg in argv if real_key(arg.lstrip("-+").partition("=")[0].removesuffix(".name")) not in tuned]
    files = [arg for arg in kept if not arg.startswith("-") and arg.endswith(SUFFIXES)]
    flags = [arg for arg in kept if arg not in files]
    below = [f"--policy={best.chosen['policy']}"] if "policy" in best.chosen else []
    return [*files, *([str(policy)] if policy else []), *flags, *below, *([f"--preset={preset}"] if preset else [])]
