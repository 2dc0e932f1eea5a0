"""A configuration for people: the resolved config as YAML with its sources, the story of one key, tables of keys."""

from __future__ import annotations

import dataclasses
import textwrap
from collections.abc import Iterable, Mapping
from typing import Any

import yaml

from ..config import AnchorConfig, JournalConfig, MacroConfig, MemoryConfig, OptimizerConfig, RunConfig, SchedulerConfig
from ..errors import ConfigError, nearest
from ..presets import preset_names
from ..typed import leaves, to_mapping
from .keys import ALIASES, GROUPS, LEAVES, group_choices, key_hint, known_keys, owners, real_key
from .layers import Provenance, flattened

USAGE = """\
usage: python train_ockham.py [config/FILE.py|.yaml ...] [--key=value ...] [group=name ...] [a.b=value ...] [-m ...]

  --batch_size=8  batch_size=8        the same; every key takes both forms
  --optimizer.lr=1e-3                 a key of a group; nanoGPT's --learning_rate=1e-3 is the same
  --compile=False  --wandb_log        True, False and None as in Python, true, false and null as in YAML; bare = True
  --dataset=a,b                       with dashes a value is one value, whatever is in it
  config/train_shakespeare_char.py    a recipe: nanoGPT's config files, or YAML
  optimizer=muon  --preset=balanced   choose a member of a group, a rack
  rack.gate.adaptive=True             one parameter of one plugin of the preset
  macro.plasticity=0.3                several values of the rack by one knob
  -m seed=1,2,3 optimizer=adamw,muon  one run for each combination, in out_dir/0_seed=1,... (without dashes)
  --cfg job [--package optimizer]     print the resolved config and stop
  --dry_run                           print parameters, FLOPs, memory and time, and stop
  --hydra-help                        Hydra's own flags, such as --shell-completion install=bash

Low to high: defaults, groups and policy, config files, preset, macros, command line.
"""
EXIT_CODES = """\
exit codes: 0 done; 2 the command line, a config file or a preset is wrong; 1 the world lacks or broke something
            (corpus, checkpoint, device, disk); 130 Ctrl-C and 143 SIGTERM, both after a checkpoint
"""
KEY_WIDTH, WIDTH = 36, 130  # of the tables of keys
ROOMS = {
    "optimizer": OptimizerConfig,
    "scheduler": SchedulerConfig,
    "anchor": AnchorConfig,
    "memory": MemoryConfig,
    "macro": MacroConfig,
    "journal": JournalConfig,
}


def help_text(chosen: Mapping[str, str]) -> str:
    """What `--help` prints: grammar, every key by room, groups, presets, exit codes.

    `chosen` is a member for each group: optimizer and scheduler show that file's values.
    """
    parts = [USAGE]
    for room in reversed(RunConfig.__mro__[1:-1]):
        parts.append(table(f"{(room.__doc__ or '').strip()}", room))
    for name, room in ROOMS.items():
        about, stated = (room.__doc__ or "").strip().splitlines()[0], dict[str, Any]()
        if name in GROUPS:
            stated = stated_by(name, chosen[name])
            about += f"\n  the values are those of config/{name}/{chosen[name]}.yaml; {name}=NAME --help has another's, --cfg job"
            about += " what holds"
        parts.append(table(f"{name}: {about}", room, f"{name}.", stated))
    choices = "\n".join(f"  {group}={' | '.join(group_choices(group))}" for group in GROUPS)
    own = {leaf for stated in group_choices("optimizer").values() for leaf in stated if owners(leaf)}
    here = stated_by("optimizer", chosen["optimizer"])
    leaf_lines = "\n".join(
        f"  optimizer.{leaf}{f'={written(here[leaf])}' if leaf in here else ''}: {', '.join(owners(leaf))}"
        for leaf in sorted(own)
    )
    aliases = textwrap.fill(", ".join(f"{a} = {k}" for a, k in ALIASES.items()), 120, initial_indent="  ", subsequent_indent="  ")
    parts.append(f"Groups (config/)\n{choices}\n")
    parts.append(f"Keys of single optimizers\n{leaf_lines}\n")
    parts.append(f"nanoGPT's names\n{aliases}, decay_lr=False = scheduler=none\n")
    parts.append(f"Presets (presets/)\n  preset=none | {' | '.join(preset_names())}\n")
    return "\n".join([*parts, EXIT_CODES])


def stated_by(group: str, name: str) -> dict[str, Any]:
    """The values of a group member's file; over those of its base, where it goes over another member, as Lookahead does."""
    own = dict(flattened(group_choices(group)[name].items()))
    return (stated_by(group, own["base"]) if "base" in own else {}) | own


def table(title: str, cls: type, prefix: str = "", stated: Mapping[str, Any] | None = None) -> str:
    """A config class as lines of key, default, type with unit and range, and help; `stated` values stand before defaults."""
    lines, stated = [title], stated or {}
    for key, leaf in leaves(cls).items():
        value = stated.get(key, leaf.default)
        shown = prefix + key if value is dataclasses.MISSING else f"{prefix}{key}={written(value)}"
        text = f"{leaf.field.metadata.get('help', '')} [{leaf.allowed}]"
        lines += [f"  {shown}"] if len(shown) > KEY_WIDTH else []
        head = f"  {shown if len(shown) <= KEY_WIDTH else '':<{KEY_WIDTH}} "
        lines += textwrap.wrap(text, WIDTH, initial_indent=head, subsequent_indent=" " * len(head))
    return "\n".join(lines) + "\n"


def written(value: Any) -> str:
    """A value as one line of YAML."""
    plain = list(value) if isinstance(value, tuple) else value
    style = '"' if isinstance(plain, str) and ("\n" in plain or not plain.isprintable()) else None
    text = yaml.safe_dump(
        plain, default_flow_style=True, default_style=style, width=float("inf"), allow_unicode=True, sort_keys=False
    )
    return text.removesuffix("...\n").strip()


def config_as_yaml(config: RunConfig, provenance: Provenance) -> str:
    """The resolved config as YAML, each value with its source in a comment.

    `yaml.safe_load` and `RunConfig`'s `from_mapping` give the config back; given to the command line as a config file, it
    repeats the run.
    """
    return "\n".join(_lines(to_mapping(config), provenance, "", "")) + "\n"


def section_as_yaml(config: RunConfig, provenance: Provenance, package: str) -> str:
    """One room or value of the resolved config. Raises ConfigError naming the nearest room."""
    part: Any = to_mapping(config)
    for name in package.split("."):
        if not isinstance(part, Mapping) or name not in part:
            raise ConfigError(
                f"--package {package}: the config has no such part{nearest(package, [*to_mapping(config), *LEAVES])}"
            )
        part = part[name]
    if not isinstance(part, Mapping):
        return written(part) + "\n"
    return "\n".join(_lines(part, provenance, f"{package}.", "")) + "\n"


def _lines(values: Mapping[str, Any], provenance: Provenance, prefix: str, indent: str) -> Iterable[str]:
    for key, value in values.items():
        if prefix + key == "rack" and value:
            yield "rack:"
            for spec in value:
                yield from _spec_lines(spec, provenance)
        elif isinstance(value, Mapping) and value:
            yield f"{indent}{written(key)}:"
            yield from _lines(value, provenance, f"{prefix}{key}.", indent + "  ")
        else:
            yield f"{indent}{written(key)}: {written(value)}{source(prefix + key, value, provenance)}"


def _spec_lines(spec: Mapping[str, Any], provenance: Provenance) -> Iterable[str]:
    first = True
    for key, value in spec.items():
        lead, first = ("- " if first else "  "), False
        if isinstance(value, Mapping) and value:
            yield f"{lead}{key}:"
            yield from _lines(value, provenance, f"rack.{spec['name']}.", "    ")
        else:
            yield f"{lead}{key}: {written(value)}"


def source(key: str, value: Any, provenance: Provenance) -> str:
    """The comment that says where a value came from."""
    history = provenance.get(key)
    if not history:
        return ""
    return f"  # {history[-1].where if history[-1].value == value else 'set by the program'}".replace("\n", " ")


def explain_key(key: str, provenance: Provenance) -> str:
    """A key's value and every layer's word on it, low to high; for a room, those of all its keys.

    Raises ConfigError naming the nearest key.
    """
    real = "scheduler.name" if key == "decay_lr" else real_key(key)[0]
    keys = [real] if real in provenance else [k for k in provenance if k.startswith(f"{real}.")]
    if not keys:
        having = owners(real.removeprefix("optimizer."))
        belongs = f"; it belongs to {', '.join(having)}" if having else key_hint(key, [*provenance, *known_keys()])
        raise ConfigError(f"no key {key} in this run{belongs}")
    return "\n".join(_story(k, provenance) for k in keys)


def _story(key: str, provenance: Provenance) -> str:
    leaf = LEAVES.get(key)
    about = f"  # {leaf.field.metadata['help']} [{leaf.allowed}]" if leaf else ""
    history = provenance[key]
    width = max(len(written(s.value)) for s in history)
    lines = [f"  {written(s.value):<{width}}  {s.where}{'  <- holds' if s is history[-1] else ''}" for s in history]
    return "\n".join([f"{key} = {written(history[-1].value)}{about}", *lines])
