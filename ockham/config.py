"""The typed, frozen configuration of a run: one dataclass per room, unit and range beside each field.

`configurator.py` alone turns a command line into a `RunConfig`; everybody else only reads it. nanoGPT's flat names are
fields of the root, as there; what belongs to a group (`optimizer.lr`) lives in that group's dataclass.
"""

# ruff: noqa: RUF009  (`option` makes a new field at every call)
from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from .errors import ConfigError, nearest
from .typed import option

ANCHOR_KINDS = ("l2", "decoupled", "fisher", "kl")
LARGEST_SEED = 2**63 - 1  # what the generators of torch and numpy both take


def anchor_kinds(text: str) -> tuple[str, ...]:
    """The kinds that `l2+kl` names, each once. Raises ConfigError naming the nearest."""
    kinds = tuple(dict.fromkeys(part.strip() for part in text.split("+")))
    for kind in kinds:
        if kind not in ANCHOR_KINDS:
            allowed = f"one or more of {', '.join(ANCHOR_KINDS)} joined by '+'"
            raise ConfigError(f"anchor.kind must be {allowed}, got {text!r}{nearest(kind, ANCHOR_KINDS)}")
    return kinds


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
    max_units: float = option(
        0.0, "end as finished once as many compute units are spent; 0 = max_iters alone", unit="compute units", low=0
    )
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
    eval_calibration: bool = option(False, "the whole-split evaluation also gives accuracy and expected calibration error")


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
    policy: str = option("none", "bundle of optimizer, schedule and more from config/policy/, or none")
    lambda_ockham: float = option(0.0, "price of drift from the anchor", low=0)
    surprise_threshold: float | None = option(
        None, "gate: batches below this loss are not learned; null = rate alone", unit="nats/token"
    )
    target_update_rate: float | None = option(
        None, "gate: fraction of batches to learn; null = the threshold alone", low=0, high=1
    )
    consolidate_interval: int = option(0, "iterations from one consolidation to the next; 0 = never", unit="iterations", low=0)
    reference: str = option("none", "none, or RUN: the model from whose losses a gate with surprise=excess measures")
    plugin_state: str = option("none", "none, or from:RUN: plugins begin with the states that they ended RUN with")


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

    def __post_init__(self) -> None:
        if not all(pattern.strip() for pattern in self.no_decay_patterns):
            raise ConfigError(
                f"optimizer.auto_param_groups.no_decay_patterns must not hold an empty pattern, which is in every name, "
                f"got {list(self.no_decay_patterns)}; [] spares no parameter"
            )


@dataclass(frozen=True, kw_only=True)
class LookaheadConfig:
    """Slow weights that follow the optimizer's fast ones: every k updates slow += alpha * (fast - slow), fast = slow."""

    enabled: bool = option(False, "wrap the optimizer in Lookahead; evaluation and ckpt.pt take the slow weights")
    alpha: float = option(0.5, "the slow weights' step towards the fast ones", above=0, below=1)
    k: int = option(6, "updates from one step of the slow weights to the next", unit="updates", low=1)


@dataclass(frozen=True, kw_only=True)
class EmaConfig:
    """A running average of the weights, taken at every update: average = decay * average + (1 - decay) * weights."""

    decay: float | None = option(None, "evaluation and ckpt.pt take the averaged weights; null = off", low=0, below=1)


@dataclass(frozen=True, kw_only=True)
class OptimizerConfig:
    """One optimizer: what every optimizer has, and in `options` the keyword arguments of its own class."""

    name: str = option("adamw", "the group's name")
    type: str = option("AdamW", "public class of torch.optim, or Lion")
    lr: float = option(3e-4, "peak learning rate", low=0)
    weight_decay: float = option(0.0, "weight decay", low=0)
    auto_param_groups: ParamGroupConfig = option(ParamGroupConfig, "weight decay by parameter name")
    lookahead: LookaheadConfig = option(LookaheadConfig, "slow weights over any optimizer")
    ema: EmaConfig = option(EmaConfig, "averaged weights for evaluation")
    scheduler_hook: bool = option(True, "let the scheduler set the learning rate")
    warmup_steps: int | None = option(None, "hint for the scheduler's warm-up; null = none", unit="clock ticks", low=0)
    clip_grad_norm: float | None = option(1.0, "largest gradient norm; 0 or null = no clipping", low=0)
    accumulate_steps: int = option(1, "micro-batches per iteration over all ranks", low=1)
    precision_safe: bool = option(True, "works under autocast; False: dtype=auto means float32, and low precision is refused")
    bf16_preferred: bool = option(True, "dtype=auto means bfloat16 on CUDA, where the card has it")
    fused: bool = option(False, "fused kernels, where the class and device have them")
    detect_anomaly: bool = option(False, "autograd's anomaly detection (slow)")
    log_config: bool = option(True, "write the run's section of out_dir/audit.md")
    rich_console: bool = option(True, "print the optimizer and its schedule as a table")
    hash_to_debuglog: bool = option(True, "write the config's hash into out_dir/audit.md")
    export_json: str | None = option("audit.json", "the audit for machines, a file in out_dir; null = none")
    options: Mapping[str, Any] = option({}, "the class's own keyword arguments, such as betas or momentum")


@dataclass(frozen=True, kw_only=True)
class SchedulerConfig:
    """lr(clock) as a closed form. Lengths are in ticks of the clock; an iteration that learns is one tick of each."""

    name: str = option("cosine", "learning-rate schedule", choices=("none", "constant", "linear", "cosine", "onecycle", "wsd"))
    clock: str = option(
        "iterations",
        "what moves the schedule: iterations, optimizer updates, or compute units (3 a tick)",
        choices=("iterations", "updates", "compute"),
    )
    warmup_steps: int | None = option(None, "linear warm-up; null = the optimizer's hint, else 0", unit="ticks", low=0)
    decay_steps: int | None = option(None, "where the decay ends; null = max_iters", unit="ticks", low=1)
    min_lr: float | None = option(None, "the schedule's end; null = a tenth of the peak, onecycle: by its factors", low=0)
    pct_start: float = option(0.3, "onecycle: the rise's share of decay_steps, unless warmup_steps is given", low=0, high=1)
    div_factor: float = option(25.0, "onecycle: peak / first lr", low=1)
    final_div_factor: float = option(1e4, "onecycle: first lr / last lr", low=1)
    anneal: str = option("cosine", "onecycle, wsd: the shape of rise and fall", choices=("cosine", "linear"))
    decay_fraction: float = option(0.2, "wsd: the fall's share of decay_steps", low=0, high=1)


@dataclass(frozen=True, kw_only=True)
class AnchorConfig:
    """What resists drift, and when."""

    penalize: str = option(
        "auto",
        "auto: from the start for weights brought in, else once validation stops improving",
        choices=("auto", "always", "never"),
    )
    patience: int = option(2, "auto, from scratch: evaluations in a row without improvement before the penalty engages", low=1)
    kind: str = option("l2", "what resists drift: l2, decoupled, fisher, kl, or several joined by +", may_be_empty=False)
    l2: float = option(1.0, "kind l2: its strength in units of lambda_ockham", low=0)
    decoupled: float = option(1.0, "kind decoupled: its strength in units of lambda_ockham", low=0)
    fisher: float = option(1.0, "kind fisher: its strength in units of lambda_ockham", low=0)
    kl: float = option(1.0, "kind kl: its strength in units of lambda_ockham", low=0)
    alpha: float = option(1.0, "how far a consolidation takes the anchor towards the weights", low=0, high=1)
    fisher_sequences: int = option(256, "kind fisher: sequences that the Fisher information is measured on", low=1)

    def __post_init__(self) -> None:
        anchor_kinds(self.kind)

    @property
    def laws(self) -> dict[str, Any]:
        """What an Anchor takes besides its mode: patience, kinds, the strength of each, the step of a consolidation."""
        scales = {kind: float(getattr(self, kind)) for kind in ANCHOR_KINDS}
        return {"patience": self.patience, "kind": self.kind, "scales": scales, "alpha": self.alpha}


@dataclass(frozen=True, kw_only=True)
class ReplayConfig:
    """Sequences of what was learned before, in place of new ones."""

    fraction: float = option(0.0, "share of each batch that is replayed; the batch stays as large as it is", low=0, below=1)
    corpus: str | None = option(None, "data sets joined by +; null = text generated by the model that is brought in")
    windows: int = option(2048, "size of the store", unit="windows of block_size", low=1)
    ce: float = option(1.0, "weight of the cross entropy on replayed sequences", low=0)
    kl: float = option(0.0, "weight of KL(anchor || model) on replayed sequences", low=0)
    temperature: float = option(1.0, "generated: sampling temperature", above=0)


@dataclass(frozen=True, kw_only=True)
class MemoryConfig:
    """OckhamMemory: which states of the model are worth keeping, judged at every evaluation."""

    enabled: bool = option(False, "judge every evaluated state, keep what passes; a preset that has a memory turns it on")
    quality_threshold: float | None = option(None, "largest val loss; null = any", unit="nats/token", low=0)
    complexity_threshold: float | None = option(None, "largest complexity_cost; null = any", low=0)
    min_oq_improvement: float | None = option(0.0, "least relative gain in Occam Quotient over the last one accepted; null = any")
    max_snapshots: int = option(5, "snapshots kept; the oldest off the Pareto frontier goes first", low=1)
    max_mb: float = option(0.0, "bytes of all snapshots; 0 = no cap", unit="MB", low=0)
    consolidate_on_accept: bool = option(False, "an accepted state becomes the anchor")


@dataclass(frozen=True, kw_only=True)
class MacroConfig:
    """One knob for several values of the rack; null = not turned."""

    plasticity: float | None = option(None, "0 most stable, 1 most plastic: λ, threshold, consolidation", low=0, high=1)
    accuracy: float | None = option(None, "0 sparsest, 1 most accurate: threshold, update rate", low=0, high=1)


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
    replay: ReplayConfig = option(ReplayConfig, "what was learned before")
    memory: MemoryConfig = option(MemoryConfig, "which states are kept")
    macro: MacroConfig = option(MacroConfig, "knobs over the preset")
    journal: JournalConfig = option(JournalConfig, "what is written down")
    rack: tuple[Mapping[str, Any], ...] = option((), "the preset's plugins, resolved: type, name, params")

    def __post_init__(self) -> None:
        if self.n_embd % self.n_head:
            raise ConfigError(f"n_embd must be a multiple of n_head, got n_embd={self.n_embd}, n_head={self.n_head}")

    @property
    def min_lr(self) -> float:
        """The schedule's last learning rate: scheduler.min_lr, else a tenth of the peak; onecycle's by its two factors."""
        if self.scheduler.min_lr is not None:
            return self.scheduler.min_lr
        is_cycle = self.scheduler.name == "onecycle"
        return self.optimizer.lr / (self.scheduler.div_factor * self.scheduler.final_div_factor if is_cycle else 10)

    @property
    def warmup_steps(self) -> int:
        """Warm-up: the scheduler's own value, else the optimizer file's hint, else none."""
        own = self.scheduler.warmup_steps
        return (self.optimizer.warmup_steps or 0) if own is None else own
