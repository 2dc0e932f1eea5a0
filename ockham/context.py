"""OccamContext: all that a plugin may see and set in one iteration."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from .errors import ReadOnlyError

READ_ONLY = ("iter_num", "task_loss")
# What the host compares before and after each plugin, and journals as a change.
WATCHED = ("learning_rate", "lambda_ockham", "surprise_threshold", "updated", "consolidating")


@dataclass(frozen=True)
class Echo:
    """A gradient echo that a plugin asks for: g ← g + mix·E, then E ← decay·E + (1 − decay)·g, of the g before."""

    mix: float
    decay: float
    restart: bool = False  # begin with E = 0


@dataclass
class Requests:
    """What plugins ask of the learner, which owns the tensors. Reset in every iteration.

    Set in on_batch_start. What is probed is measured when the step is done, and its figure is in the next context's
    `probes`: `probe_kl` gives "kl", `probe_loss` gives "loss", `probe_slope` gives "loss" and "slope", the cosine of the probe
    loss's gradient and this iteration's update. KL is left out while no anchor is in force, the slope where nothing was
    updated. A ceiling holds for this iteration's update, None = none. The embedding's noise is in the training forward of the
    next iteration, whose task_loss is measured under it. `rollback` and `stop` hold a reason, or "": the learner does neither,
    the program that called `step` reads them.
    """

    gradient_noise: float = 0.0  # σ of Gaussian gradient noise, in units of the gradient's rms
    gradient_echo: dict[str, Echo] = field(default_factory=dict)  # by the asking plugin's name, each with its own E
    gradient_ceiling: float | None = None  # the gradient's norm is scaled down to it; the run's own clipping stays
    update_ceiling: float | None = None  # ‖θ_{t+1} − θ_t‖ is scaled down to this share of ‖θ_t‖
    embedding_noise: float = 0.0  # σ of Gaussian noise on the token embedding's output, in units of the output's rms
    anchor_follow: float = 0.0  # share of the way from anchor to weights that the anchor goes after an update, in [0, 1]
    probe_kl: bool = False  # KL(anchor‖model), nats/token
    probe_loss: bool = False  # nats/token
    probe_slope: bool = False  # in [−1, 1]
    rollback: str = ""
    stop: str = ""


@dataclass
class OccamContext:
    """The state that flows through the rack in one iteration.

    `iter_num` and `task_loss` are fixed when the context is made; setting them raises ReadOnlyError. Hyperparameters hold
    this iteration's scheduled values and may be changed; metrics are those of the last step until `on_batch_end`.
    """

    iter_num: int
    task_loss: float  # nats/token, mean over the global batch

    # hyperparameters of this iteration
    learning_rate: float = 1e-3
    lambda_ockham: float = 0.01
    surprise_threshold: float | None = 2.0  # nats/token; None = no absolute threshold

    # metrics of the last step
    complexity_cost: float = 0.0  # relative drift Σ‖θ−θ*‖²/Σ‖θ*‖²; 0 while no anchor is in force
    grad_norm: float = 0.0
    update_rate: float = 1.0  # updates / batches so far

    # verdicts of this iteration
    updated: bool = True
    consolidating: bool = False
    reason_code: str = ""
    consolidation_cause: str = ""  # interval or plugin, when this iteration moved the anchor
    verdicts: tuple[bool, ...] = ()  # the gate's word on each micro-batch, under gradient accumulation

    # the model, for the Occam Quotient
    model_params: int = 0
    memory_footprint_mb: float = 0.0
    inference_flops: float = 0.0

    anchor_available: bool = True
    reference_loss: float | None = None  # nats/token, of a reference model on this batch, where a gate asks for it
    requests: Requests = field(default_factory=Requests)
    domains: Mapping[str, float] = field(default_factory=dict)  # share of the batch's tokens in each band of the corpus
    relative_step: float = 0.0  # ‖θ_{t+1} − θ_t‖ / ‖θ_t‖ as the optimizer made it; 0 where no update_ceiling was asked for
    probes: dict[str, float] = field(default_factory=dict)  # kl, loss, slope: what the last iteration's requests found
    metrics: dict[str, float] = field(default_factory=dict)  # the plugins' own figures; journaled and tracked
    changes: list[tuple[str, str, Any, Any]] = field(default_factory=list)  # (plugin, field, from, to), by the host
    notices: list[str] = field(default_factory=list)  # said once to the user and journaled as warnings

    def __setattr__(self, name: str, value: Any) -> None:
        if name in READ_ONLY and name in self.__dict__:
            raise ReadOnlyError(f"OccamContext.{name} is read-only for plugins (got {value!r})")
        object.__setattr__(self, name, value)

    def compute_occam_quotient(self, task_performance: float) -> float:
        """Occam Quotient: performance / (inference cost × memory in MB); higher is better.

        Cost is FLOPs where known, else parameters; memory falls back to 4 bytes a parameter. Zero cost gives 0.
        """
        cost = self.inference_flops or float(self.model_params)
        memory = self.memory_footprint_mb or 4 * self.model_params / 1e6
        return task_performance / (cost * memory) if cost and memory else 0.0

    def to_dict(self) -> dict[str, Any]:
        """All fields as plain values, ready for JSON."""
        return dataclasses.asdict(self)
