"""The record of one start of a run: what it is made of and how to repeat it; and its way into audit.md and audit.json."""

from __future__ import annotations

import json
import os
import shlex
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import torch

from ..config import LookaheadConfig, OptimizerConfig, RunConfig
from ..configuration.files import is_simple
from ..configuration.keys import group_choices
from ..errors import ConfigError
from ..files import write_text
from ..optim import build_schedule
from ..optim.saved import NOT_OPTIONS
from ..optim.schedule import horizon, reaches_end
from ..typed import plain
from .fingerprint import (
    code_hash,
    config_hash,
    config_values,
    data_hashes,
    device_name,
    file_hash,
    git_state,
    input_hashes,
    preset_path,
    versions,
)
from .shown import as_line, as_section

FORMAT = 1
COMMON_LEAVES = ("name", "clock", "warmup_steps", "decay_steps", "min_lr")  # of schedules

Record = dict[str, Any]


def audit_record(
    config: RunConfig,
    *,
    groups: Iterable[Mapping[str, Any]],
    corpus: Path,
    argv: Sequence[str],
    iteration: int,
    device: torch.device,
    dtype: str,
    world: int = 1,
) -> Record:
    """All that has to be the same for the numbers to come again, in plain values.

    `config` is the one that holds (the model's own shape and max_iters in it), `groups` the optimizer's param_groups before
    the first step, `corpus` the folder of the data, `argv` the arguments as the user wrote them, `iteration` where this start
    begins, `dtype` the precision's name.
    """
    values, preset = config_values(config), file_hash(preset_path(config.preset))
    return {
        "time": datetime.now(UTC).isoformat(timespec="seconds"),
        "iteration": iteration,
        "command": repeat_command(argv, world),
        "config_sha256": config_hash(values),
        "optimizer": optimizer_figures(config.optimizer, groups),
        "lookahead": lookahead_figures(config.optimizer.lookahead),
        "ema": config.optimizer.ema.decay,
        "scheduler": schedule_figures(config),
        "preset": {"name": config.preset, "sha256": preset["sha256"]} if preset else None,
        "data": data_hashes(corpus),
        "inputs": input_hashes(config, argv),
        "code": {"sha256": code_hash(), "git": git_state()},
        "versions": versions(),
        "machine": machine_figures(device, dtype, world),
        "config": values,
    }


def optimizer_figures(config: OptimizerConfig, groups: Iterable[Mapping[str, Any]]) -> dict[str, Any]:
    """The optimizer as it was built: its own options, and of every group the parameters and all hyperparameters."""
    found = [group_figures(group) for group in groups]
    return {
        "name": config.name,
        "type": config.type,
        "lr": config.lr,
        "weight_decay": config.weight_decay,
        "options": plain(config.options),
        "groups": found,
        "clip_grad_norm": config.clip_grad_norm or None,
        "accumulate_steps": config.accumulate_steps,
        "fused": any(group["hyperparameters"].get("fused") for group in found),
        "detect_anomaly": config.detect_anomaly,
    }


def group_figures(group: Mapping[str, Any]) -> dict[str, Any]:
    """One parameter group in numbers."""
    left_out = ("lr", "weight_decay", *NOT_OPTIONS)
    return {
        "tensors": len(group["params"]),
        "parameters": sum(p.numel() for p in group["params"]),
        "lr": simple(group["lr"]),
        "weight_decay": simple(group.get("weight_decay")),
        "hyperparameters": {key: simple(value) for key, value in group.items() if key not in left_out},
    }


def simple(value: Any) -> Any:
    """A hyperparameter as JSON can hold it."""
    value = value.tolist() if isinstance(value, torch.Tensor) else value
    return plain(value) if is_simple(value) else repr(value)


def lookahead_figures(config: LookaheadConfig) -> dict[str, Any] | None:
    """alpha and k; None where Lookahead is off."""
    return {"alpha": config.alpha, "k": config.k} if config.enabled else None


def schedule_figures(config: RunConfig) -> dict[str, Any]:
    """The schedule as it was built; its first and last lr are read off it. Lengths in ticks of the clock.

    `decay_steps` and `min_lr` are None where the schedule never falls, as one that ends inside its warm-up.
    """
    given, lr = config.scheduler, build_schedule(config)
    name = given.name if config.optimizer.scheduler_hook else "none"
    falls = name not in ("none", "constant") and reaches_end(config)
    return {
        "name": name,
        "clock": given.clock,
        "peak": config.optimizer.lr,
        "first_lr": lr(0),
        "warmup_steps": 0 if name == "none" else config.warmup_steps,
        "decay_steps": horizon(config) if falls else None,
        "min_lr": lr(horizon(config)) if falls else None,
        **{leaf: getattr(given, leaf) for leaf in group_choices("scheduler")[name] if leaf not in COMMON_LEAVES},
    }


def machine_figures(device: torch.device, dtype: str, world: int) -> dict[str, Any]:
    """Where the run computes."""
    name, threads = device_name(device), torch.get_num_threads()
    return {"device": str(device), "name": name, "threads": threads, "dtype": dtype, "world": world}


def repeat_command(argv: Sequence[str], world: int = 1) -> str:
    """What to type in the checkout to start the run again."""
    launcher = ["python"]
    if world > 1:
        local = int(os.environ.get("LOCAL_WORLD_SIZE", world))
        launcher = ["torchrun", "--standalone", f"--nproc_per_node={local}"]
        if local < world:  # on every node, with the name of one of them for HOST
            meeting = ["--rdzv_backend=c10d", "--rdzv_endpoint=HOST:29500"]
            launcher = ["torchrun", f"--nnodes={world // local}", f"--nproc_per_node={local}", *meeting]
    return shlex.join([*launcher, "train_ockham.py", *argv])


def write_audit(out_dir: Path, record: Record, wanted: OptimizerConfig) -> None:
    """Append the record to audit.md and to the JSON file, as far as `wanted` asks for them.

    Raises ConfigError when export_json names a file that holds something else.
    """
    if wanted.log_config or wanted.hash_to_debuglog:
        text = as_section(record, wanted.hash_to_debuglog) if wanted.log_config else as_line(record)
        with open(out_dir / "audit.md", "a", encoding="utf-8") as file:
            file.write(text)
    if wanted.export_json:
        path = out_dir / wanted.export_json
        records = [*read_records(path), record] if path.exists() else [record]
        path.parent.mkdir(parents=True, exist_ok=True)
        write_text(path, json.dumps({"v": FORMAT, "records": records}, indent=1) + "\n")


def read_records(path: Path) -> list[Record]:
    """The records of an audit's JSON file, the newest last. Raises ConfigError when the file holds something else."""
    try:
        held = json.loads(path.read_bytes())
        if held["v"] == FORMAT and held["records"]:
            return held["records"]
    except (ValueError, TypeError, KeyError):
        pass
    raise ConfigError(f"{path} holds no audit of format {FORMAT}; move it away, or give optimizer.export_json another name")
