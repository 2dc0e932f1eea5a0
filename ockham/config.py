"""The typed, frozen configuration of a run: one dataclass per room, unit and range beside each field.

`configurator.py` alone turns a command line into a `RunConfig`; everybody else only reads it. nanoGPT's flat names are
fields of the root, as there; what belongs to a group (`optimizer.lr`) lives in that group's dataclass.
"""

# ruff: noqa: RUF009  (`option` makes a new field at every call)
from __future__ import annotations

import dataclasses
import math
import types
import typing
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from .errors import ConfigError, nearest

LARGEST_SEED = 2**63 - 1  # what the generators of torch and numpy both take
BOOLEAN_WORDS = {"1": True, "yes": True, "on": True, "y": True, "0": False, "no": False, "off": False, "n": False}


def option(
    default: Any,
    help: str,
    *,
    unit: str = "",
    low: float | None = None,
    high: float | None = None,
    choices: tuple = (),
    may_be_empty: bool = True,
) -> Any:
    """A dataclass field with its help text, unit and allowed range [low, high] or choices; a text may be empty or not."""
    metadata = {"help": help, "unit": unit, "low": low, "high": high, "choices": choices, "may_be_empty": may_be_empty}
    if isinstance(default, type):
        return field(default_factory=default, metadata=metadata)
    if isinstance(default, (dict, list)):
        return field(default_factory=lambda: type(default)(default), metadata=metadata)
    return field(default=default, metadata=metadata)


@dataclass(frozen=True, kw_only=True)
class RunFlags:
    """Where a run writes and how it ends."""

    out_dir: str = option("out", "run folder: checkpoints, journal, report", may_be_empty=False)
    overwrite: bool = option(False, "replace the run that out_dir already holds")
    init_from: str = option(
        "scratch",
        "scratch, resume, gpt2, gpt2-medium, gpt2-large, gpt2-xl, or a checkpoint or HF folder",
        may_be_empty=False,
    )
    max_iters: int = option(600_000, "iterations in all", unit="iterations", low=0)
    epochs: float = option(0.0, "instead of max_iters: passes over the training split; 0 = use max_iters", unit="passes", low=0)
    max_hours: float = option(0.0, "save and stop with exit code 0 before this much wall time; 0 = no limit", unit="hours", low=0)
    max_nonfinite: int = option(5, "non-finite steps in a row before the run rolls back", unit="iterations", low=1)
    log_interval: int = option(1, "iterations between log lines", unit="iterations", low=1)
    checkpoint_interval: int = option(
        0, "iterations between saves of last.pt besides evaluations; 0 = only there", unit="iterations", low=0
    )
    always_save_checkpoint: bool = option(True, "write ckpt.pt at every evaluation, not only at the best")
    dry_run: bool = option(False, "print parameters, FLOPs, memory and time to be expected; write nothing")
    debug: bool = option(False, "show tracebacks")
    seed: int = option(1337, "seed of weights, batches, dropout and noise", low=0, high=LARGEST_SEED)


@dataclass(frozen=True, kw_only=True)
class EvalFlags:
    """When and on how much the model is evaluated."""

    eval_interval: int = option(2000, "iterations between evaluations", unit="iterations", low=1)
    eval_iters: int = option(
        0, "0 = one deterministic sweep; n = nanoGPT's estimate from n random batches", unit="batches", low=0
    )
    eval_max_tokens: int = option(
        1_000_000, "cap of a sweep during training (the final one is whole); 0 = none", unit="tokens", low=0
    )
    eval_only: bool = option(False, "evaluate once and exit")


@dataclass(frozen=True, kw_only=True)
class DataFlags:
    """Which corpus, and how it is cut into batches."""

    dataset: str = option("fables", "folder under data/ that holds train.bin, val.bin and meta.json", may_be_empty=False)
    data_dir: str = option("data", "folder of corpora; relative paths count from the checkout")
    batch_size: int = option(12, "sequences in one micro-batch of one rank", unit="sequences", low=1)
    block_size: int = option(1024, "context length", unit="tokens", low=1)


@dataclass(frozen=True, kw_only=True)
class ModelFlags:
    """The GPT's shape; a loaded checkpoint's own shape wins over these."""

    n_layer: int = option(12, "transformer blocks", low=1)
    n_head: int = option(12, "attention heads", low=1)
    n_embd: int = option(768, "width", low=1)
    dropout: float = option(0.0, "dropout probability", low=0, high=0.999)
    bias: bool = option(False, "biases in Linear and LayerNorm")


@dataclass(frozen=True, kw_only=True)
class LearnerFlags:
    """When to learn and how far to move: what the rack starts from."""

    preset: str = option("none", "rack preset from presets/, or none for plain training")
    lambda_ockham: float = option(0.0, "price of drift from the anchor", low=0)
    surprise_threshold: float | None = option(
        None, "gate: batches below this loss are not learned; null = rate alone", unit="nats/token"
    )
    target_update_rate: float | None = option(
        None, "gate: fraction of batches to learn; null = the threshold alone", low=0, high=1
    )
    consolidate_interval: int = option(0, "iterations from one consolidation to the next; 0 = never", unit="iterations", low=0)


@dataclass(frozen=True, kw_only=True)
class SystemFlags:
    """The machine."""

    device: str = option("auto", "auto, cpu, cuda, cuda:N or mps")
    dtype: str = option(
        "auto", "auto, or the precision of autocast", choices=("auto", "float64", "float32", "bfloat16", "float16")
    )
    compile: bool | str = option("auto", "torch.compile; auto = on CUDA", choices=("auto", True, False))
    backend: str = option("auto", "process group backend; auto = nccl on CUDA, gloo elsewhere", choices=("auto", "nccl", "gloo"))
    threads: int = option(0, "CPU threads of one process; 0 = torch's choice", low=0)
    peak_flops: float | None = option(None, "peak FLOP/s of the device for mfu; null = from a table", unit="FLOP/s", low=0)


@dataclass(frozen=True, kw_only=True)
class TrackFlags:
    """Trackers beside the journal."""

    wandb_log: bool = option(False, "log to Weights & Biases (WANDB_MODE=offline works)")
    wandb_project: str = option("nanogpt-ockham", "W&B project")
    wandb_run_name: str | None = option(None, "W&B run name; null = out_dir's name")
    tensorboard_log: bool = option(False, "write TensorBoard events to out_dir/tensorboard")


@dataclass(frozen=True, kw_only=True)
class ParamGroupConfig:
    """Which parameters are spared from weight decay; the first pattern found in a name wins."""

    enabled: bool = option(True, "spare biases and normalisation from weight decay")
    no_decay_patterns: tuple[str, ...] = option(
        ("bias", "LayerNorm.weight", "layer_norm.weight", "ln", "norm", "bn", "BatchNorm.weight"), "substrings of parameter names"
    )
    override_no_decay_weight: float = option(0.0, "their weight decay", low=0)


@dataclass(frozen=True, kw_only=True)
class OptimizerConfig:
    """One optimizer: what every optimizer has, and in `options` the keyword arguments of its own class."""

    name: str = option("adamw", "the group's name")
    type: str = option("AdamW", "public class of torch.optim")
    lr: float = option(3e-4, "peak learning rate", low=0)
    weight_decay: float = option(0.01, "weight decay", low=0)
    auto_param_groups: ParamGroupConfig = option(ParamGroupConfig, "weight decay by parameter name")
    scheduler_hook: bool = option(True, "let the scheduler set the learning rate")
    warmup_steps: int | None = option(None, "hint for the scheduler's warm-up; null = none", unit="clock ticks", low=0)
    clip_grad_norm: float | None = option(1.0, "largest gradient norm; 0 or null = no clipping", low=0)
    accumulate_steps: int = option(1, "micro-batches per iteration over all ranks", low=1)
    bf16_preferred: bool = option(True, "dtype=auto means bfloat16 on CUDA, where the card has it")
    fused: bool = option(False, "fused kernels, where the class and device have them")
    detect_anomaly: bool = option(False, "autograd's anomaly detection (slow)")
    options: Mapping[str, Any] = option({}, "the class's own keyword arguments, such as betas or momentum")


@dataclass(frozen=True, kw_only=True)
class SchedulerConfig:
    """lr(clock) as a closed form."""

    name: str = option("cosine", "learning-rate schedule", choices=("none", "constant", "linear", "cosine"))
    warmup_steps: int | None = option(None, "linear warm-up; null = the optimizer's hint, else 0", unit="iterations", low=0)
    decay_steps: int | None = option(None, "where the decay ends; null = max_iters", unit="iterations", low=1)
    min_lr: float | None = option(None, "the schedule's end; null = a tenth of the peak", low=0)


@dataclass(frozen=True, kw_only=True)
class AnchorConfig:
    """What resists drift, and when."""

    penalize: str = option(
        "auto",
        "auto: from the start for weights brought in, else once validation stops improving",
        choices=("auto", "always", "never"),
    )
    patience: int = option(2, "auto, from scratch: evaluations in a row without improvement before the penalty engages", low=1)


@dataclass(frozen=True, kw_only=True)
class JournalConfig:
    """What is written about every step."""

    replayable: bool | None = option(None, "keep start.pt, so that a run can be replayed; null = under 20 M parameters")


@dataclass(frozen=True, kw_only=True)
class RunConfig(TrackFlags, SystemFlags, LearnerFlags, ModelFlags, DataFlags, EvalFlags, RunFlags):  # fields: the last first
    """All of a run."""

    optimizer: OptimizerConfig = option(OptimizerConfig, "config/optimizer/")
    scheduler: SchedulerConfig = option(SchedulerConfig, "config/scheduler/")
    anchor: AnchorConfig = option(AnchorConfig, "what resists drift")
    journal: JournalConfig = option(JournalConfig, "what is written down")
    rack: tuple[Mapping[str, Any], ...] = option((), "the preset's plugins, resolved: type, name, params")

    def __post_init__(self) -> None:
        if self.n_embd % self.n_head:
            raise ConfigError(f"n_embd must be a multiple of n_head, got n_embd={self.n_embd}, n_head={self.n_head}")

    @property
    def min_lr(self) -> float:
        """The schedule's last learning rate: scheduler.min_lr, else a tenth of the peak."""
        return self.optimizer.lr / 10 if self.scheduler.min_lr is None else self.scheduler.min_lr

    @property
    def warmup_steps(self) -> int:
        """Warm-up: the scheduler's own value, else the optimizer file's hint, else none."""
        own = self.scheduler.warmup_steps
        return (self.optimizer.warmup_steps or 0) if own is None else own


def coerce(value: Any, kind: Any, key: str) -> Any:
    """`value` as the annotated type `kind`; ints are fine for floats, nothing else is guessed.

    Raises ConfigError naming the key, what was given and what is wanted.
    """
    if dataclasses.is_dataclass(kind):
        return from_mapping(kind, value, key + ".")  # type: ignore[arg-type]
    origin, args = typing.get_origin(kind), typing.get_args(kind)
    if isinstance(value, float) and not math.isfinite(value) and float in (kind, *args):
        raise ConfigError(f"{key} must be a finite number, got {value!r}")
    if origin in (typing.Union, types.UnionType):
        for member in args:
            try:
                return coerce(value, member, key)
            except ConfigError:
                continue
    elif kind is type(None):
        if value is None:
            return None
    elif origin is tuple:
        if isinstance(value, (list, tuple)):
            return tuple(coerce(v, args[0], f"{key}[{i}]") for i, v in enumerate(value))
    elif isinstance(origin, type) and issubclass(origin, Mapping):
        if isinstance(value, Mapping):
            return dict(value)
    elif kind is bool:
        if isinstance(value, bool):
            return value
    elif kind is float:
        if isinstance(value, (int, float)) and not isinstance(value, bool):
            try:
                return float(value)
            except OverflowError:
                raise ConfigError(f"{key} must be a finite number, got one of {len(str(value))} digits") from None
    elif kind is int:
        if isinstance(value, int) and not isinstance(value, bool):
            return value
        if isinstance(value, float) and value.is_integer():  # 1e6 is how people write a million
            return int(value)
    elif kind is str and isinstance(value, (str, int, float)) and not isinstance(value, bool):
        return str(value)
    raise ConfigError(f"{key} must be {type_name(kind)}, got {value!r}{meant_boolean(value) if kind is bool else ''}")


def meant_boolean(value: Any) -> str:
    """' (did you mean True?)' for a word that means yes or no elsewhere, else ''."""
    word = str(value).lower()
    return f" (did you mean {BOOLEAN_WORDS[word]}?)" if word in BOOLEAN_WORDS else ""


def type_name(kind: Any) -> str:
    """The annotation in words: 'int', 'float or null', 'true or false', 'list of str'."""
    args = typing.get_args(kind)
    if typing.get_origin(kind) in (typing.Union, types.UnionType):
        return " or ".join(type_name(a) for a in args)
    if typing.get_origin(kind) is tuple:
        return f"list of {type_name(args[0])}"
    if kind is bool:
        return "true or false"
    return "null" if kind is type(None) else getattr(kind, "__name__", str(kind)).replace("Mapping", "mapping")


def check_range(value: Any, spec: dataclasses.Field, key: str) -> None:
    """Raises ConfigError when a value lies outside its field's choices or range, or is an empty text; null is always inside."""
    low, high, choices = spec.metadata.get("low"), spec.metadata.get("high"), spec.metadata.get("choices")
    if choices and value not in choices:
        hint = (meant_boolean(value) if True in choices else "") or nearest(str(value), [str(c) for c in choices])
        raise ConfigError(f"{key} must be one of {', '.join(map(str, choices))}, got {value!r}{hint}")
    if isinstance(value, str) and not value.strip() and not spec.metadata.get("may_be_empty", True):
        raise ConfigError(f"{key} must not be empty")
    is_number = isinstance(value, (int, float)) and not isinstance(value, bool)
    if is_number and ((low is not None and value < low) or (high is not None and value > high)):
        allowed = f"in [{low}, {high}]" if high is not None else f">= {low}"
        raise ConfigError(f"{key} must be {allowed}, got {value!r}")


def from_mapping(cls: type, values: Mapping[str, Any], prefix: str = "") -> Any:
    """A frozen dataclass from nested plain values, with types, ranges and unknown keys checked.

    Keys of `optimizer` that are no field of OptimizerConfig become its `options`: the optimizer's class judges them.
    """
    if not isinstance(values, Mapping):
        raise ConfigError(f"{prefix.rstrip('.')} must be a mapping, got {values!r}")
    hints, fields = typing.get_type_hints(cls), {f.name: f for f in dataclasses.fields(cls)}
    given = dict(values)
    if "options" in fields:
        extra = {k: given.pop(k) for k in list(given) if k not in fields}
        given["options"] = {**given.get("options", {}), **extra}
    for key in given:
        if key not in fields:
            raise ConfigError(f"unknown key {prefix}{key}{nearest(key, fields)}")
    checked = {}
    for key, value in given.items():
        checked[key] = coerce(value, hints[key], prefix + key)
        check_range(checked[key], fields[key], prefix + key)
    return cls(**checked)


def to_mapping(config: Any) -> dict[str, Any]:
    """The config as nested plain values, `options` spread out: the inverse of `from_mapping`."""
    values: dict[str, Any] = {}
    for f in dataclasses.fields(config):
        value = getattr(config, f.name)
        if dataclasses.is_dataclass(value):
            values[f.name] = to_mapping(value)
        elif f.name == "options":
            values.update(plain(value))
        else:
            values[f.name] = plain(value)
    return values


@dataclass(frozen=True)
class Leaf:
    """One settable key of a dataclass tree: its annotated type and its field."""

    kind: Any
    field: dataclasses.Field

    @property
    def default(self) -> Any:
        """The field's default value."""
        made = self.field.default_factory
        return self.field.default if made is dataclasses.MISSING else made()

    @property
    def allowed(self) -> str:
        """Type, unit and range in words."""
        meta = self.field.metadata
        if meta.get("choices"):
            return " | ".join(map(str, meta["choices"]))
        low, high = meta.get("low"), meta.get("high")
        limits = f", {low} to {high}" if high is not None else f", >= {low}" if low is not None else ""
        return type_name(self.kind) + (f", {meta['unit']}" if meta.get("unit") else "") + limits


def leaves(cls: type, prefix: str = "") -> dict[str, Leaf]:
    """Every settable key of a config class, dotted, in the order of its fields; `options` is not one of them."""
    found: dict[str, Leaf] = {}
    hints = typing.get_type_hints(cls)
    for f in dataclasses.fields(cls):
        if dataclasses.is_dataclass(hints[f.name]):
            found |= leaves(hints[f.name], f"{prefix}{f.name}.")
        elif f.name != "options":
            found[prefix + f.name] = Leaf(hints[f.name], f)
    return found


def plain(value: Any) -> Any:
    """Mappings as dicts, tuples as lists, all the way down: what YAML and JSON hold."""
    if isinstance(value, Mapping):
        return {str(k): plain(v) for k, v in value.items()}
    return [plain(v) for v in value] if isinstance(value, (list, tuple)) else value
