"""The names of configuration: every key a user may write, nanoGPT's names for them, the members of the groups."""

from __future__ import annotations

import re
from collections.abc import Iterable
from functools import cache
from typing import Any

from ..config import OptimizerConfig, RunConfig
from ..errors import ConfigError, nearest
from ..typed import leaves
from .files import CONFIG_DIR, read_yaml

GROUPS = ("optimizer", "scheduler")
FOLDERS = (*GROUPS, "policy")  # keys that Hydra takes for groups, as config/ has a folder of that name
LEAVES = leaves(RunConfig)
ROOMS = frozenset(key.rsplit(".", 1)[0] for key in LEAVES if "." in key)  # names that hold keys, as memory and optimizer.ema
SHARED = frozenset(key.split(".")[0] for key in leaves(OptimizerConfig))  # leaves that every optimizer has
# nanoGPT's names and ours. decay_lr, its only name for a choice, is handled in `make_layer`.
ALIASES = {
    "learning_rate": "optimizer.lr",
    "weight_decay": "optimizer.weight_decay",
    "beta1": "optimizer.betas[0]",
    "beta2": "optimizer.betas[1]",
    "grad_clip": "optimizer.clip_grad_norm",
    "gradient_accumulation_steps": "optimizer.accumulate_steps",
    "warmup_iters": "scheduler.warmup_steps",
    "lr_decay_iters": "scheduler.decay_steps",
    "min_lr": "scheduler.min_lr",
}
# What people try on the trainer, but sample.py alone takes.
SAMPLE_KEYS = ("start", "num_samples", "max_new_tokens", "temperature", "top_k", "top_p", "stream")


@cache
def group_choices(group: str) -> dict[str, dict[str, Any]]:
    """The members of a group in config/, with what each states."""
    return {path.stem: read_yaml(path) for path in sorted((CONFIG_DIR / group).glob("*.yaml"))}


def owners(leaf: str) -> list[str]:
    """The optimizers that have a leaf of their own of this name."""
    return [name for name, stated in group_choices("optimizer").items() if leaf in stated and leaf not in SHARED]


@cache
def known_keys() -> tuple[str, ...]:
    """Every key that a user may write."""
    own = {f"optimizer.{leaf}" for stated in group_choices("optimizer").values() for leaf in stated}
    return tuple(dict.fromkeys([*LEAVES, *sorted(own - set(LEAVES)), *ALIASES, "decay_lr", *GROUPS]))


def real_key(written: str) -> tuple[str, int | None]:
    """The real key of a written one, and the index into its list: beta2 -> (optimizer.betas, 1)."""
    match = re.fullmatch(r"(.*?)(?:\[(\d+)\])?", ALIASES.get(written, written), re.DOTALL)
    assert match is not None  # every part is optional
    return match[1], None if match[2] is None else int(match[2])


def is_known(written: str) -> bool:
    """Whether a key can be meant; an optimizer's own leaves are judged once the optimizer is known."""
    return (
        written in known_keys()
        or written in ROOMS
        or real_key(written)[0] in LEAVES
        or written.startswith(("optimizer.", "rack."))
    )


def unknown(written: str, where: str) -> ConfigError:
    """The error for a key that nobody has: it names the nearest one, or those that end in the same word; for a room, its keys."""
    if written in ROOMS:
        held = [key.removeprefix(written) for key in LEAVES if key.startswith(f"{written}.")]
        return ConfigError(f"{written} is a group of keys ({where}), it holds {written}{', '.join(held)}; give one of them")
    return ConfigError(f"unknown key {written} ({where}){key_hint(written, known_keys())}")


def key_hint(written: str, known: Iterable[str]) -> str:
    """What may have been meant by a key that nobody has, for the end of an error's message; '' when nothing is near."""
    if written in SAMPLE_KEYS:
        return "; it belongs to sample.py"
    inside = [key for key in known_keys() if key.startswith(f"{written}.")]
    if inside:
        return f"; it holds {', '.join(inside)}"
    ends = [key for key in known_keys() if key.endswith(f".{written}")]
    return f" (did you mean {' or '.join(ends)}?)" if ends else nearest(written, known) or _room_hint(written)


def _room_hint(written: str) -> str:
    """The keys of the room that a key names before its last dot, for the end of an error's message; '' without one."""
    room = written.rpartition(".")[0]
    held = [key for key in LEAVES if room in ROOMS and key.startswith(f"{room}.")]
    return f"; there are {', '.join(held)}" if held else ""


def choice_name(group: str, value: Any, where: str) -> str:
    """A group member's name. Raises ConfigError naming the nearest one and all of them."""
    name = "none" if value is None and group == "scheduler" else value
    if name not in group_choices(group):
        known = list(group_choices(group))
        raise ConfigError(f"{group} must be one of {', '.join(known)}, got {value!r} ({where}){nearest(str(value), known)}")
    return name


def check_member(group: str, name: str) -> None:
    """Raises ConfigError for a member's file that lacks what no default can stand for."""
    stated = group_choices(group)[name]
    path = f"config/{group}/{name}.yaml"
    if stated.get("name") != name:
        raise ConfigError(f"{path} must state its own name, `name: {name}`, got {stated.get('name')!r}")
    for key in ("type", "lr") if group == "optimizer" else ():
        if key not in stated:
            raise ConfigError(f"{path} must state `{key}:`; config/optimizer/README.md has the schema")


@cache
def policies() -> tuple[str, ...]:
    """The names in config/policy/."""
    return tuple(sorted(path.stem for path in (CONFIG_DIR / "policy").glob("*.yaml")))


def check_policy(name: Any, where: str) -> None:
    """Raises ConfigError for a policy that is not there, naming the nearest one and all of them."""
    if name not in policies():
        raise ConfigError(
            f"policy must be one of {', '.join(policies())}, got {name!r} ({where}){nearest(str(name), policies())}"
        )
