"""The rack in a transformers Trainer: RackCallback carries it, RackTrainer lets it skip a batch before its backward.

A callback alone cannot do it: Trainer (5.23) hands its callbacks no loss, and calls them before the forward and behind the
clipping, never between a batch's loss and its backward, nor between the gradients and their clipping. So RackTrainer overrides
`training_step`, in which Trainer has both; learning rate, anchor, consolidation and journal are the callback's.

    rack = RackCallback(load_preset("balanced").host(), journal=Path("journal.jsonl"))
    RackTrainer(model=model, args=args, train_dataset=dataset, rack=rack).train()

One process, one device, float32 or bfloat16. A Trainer that is resumed starts the rack and its anchor anew.
Needs transformers 5 and accelerate.
"""

from __future__ import annotations

import math
import time
from pathlib import Path
from typing import Any

import torch
from transformers import Trainer, TrainerCallback

from ockham import Anchor, Journal, Ledger, OccamContext, PluginHost
from ockham.distributed import Ranks, gradients
from ockham.errors import ConfigError
from ockham.precision import Precision
from ockham.requested import Requested

NOT_CARRIED_OUT = ("gradient_ceiling", "update_ceiling", "embedding_noise")
UPDATED, SKIPPED, NONFINITE = "UPDATED", "SKIPPED", "NONFINITE"


class RackCallback(TrainerCallback):
    """One iteration of the rack around each update step of Trainer.

    λ and τ start from `host.hyperparameters` (a preset's, or none: λ = 0, no threshold); the learning rate is what Trainer's
    schedule says, times what the plugins make of it. The anchor is the weights at the start of training. Figures of the
    last iteration are in `context`, counts in `ledger`. `consolidate_interval` 0 = only when a plugin asks.
    """

    def __init__(
        self, host: PluginHost, *, consolidate_interval: int = 1000, journal: Path | None = None, seed: int = 1337
    ) -> None:
        self.host, self.consolidate_interval, self.seed = host, consolidate_interval, seed
        self.journal = Journal(journal)
        self.ledger = Ledger()
        self.context = OccamContext(iter_num=0, task_loss=math.inf)
        self.drift, self.grad_norm, self.consolidations = 0.0, 0.0, 0

    # by RackTrainer, inside its training_step -------------------------------------------------------------------------
    def judge(self, loss: float, lr: float, tokens: int, micros: int) -> bool:
        """Whether this micro-batch is learned: the whole chain's verdict, or under accumulation the gate's alone."""
        self.lr, self.tokens = lr, tokens
        self.ledger.forward()
        self.losses.append(loss)
        if micros == 1:
            self.context = self._chain(())
            verdict = self.context.updated
        else:
            gate, tau = self.host.gate, self.host.hyperparameters.get("surprise_threshold")
            verdict = math.isfinite(loss) and (gate is None or gate.verdict(loss, tau))
        self.verdicts.append(verdict)
        if verdict:
            self.ledger.backward()
        return verdict

    def adapt(self, model: torch.nn.Module) -> None:
        """All micro-batches are through: average what was accepted, add λ∇Ω, echo and noise, ask the plugins, measure."""
        if len(self.verdicts) > 1:
            self.context = self._chain(tuple(self.verdicts))
        ctx, grads = self.context, gradients(self.anchor.parameters)
        if ctx.updated and any(self.verdicts):
            torch._foreach_mul_(grads, len(self.verdicts) / sum(self.verdicts))  # Trainer divided by all of them
            self.anchor.add_penalty_gradient(ctx.lambda_ockham)
            self.requested.shape_gradients(ctx.requests, ctx.iter_num, self.host.names())
            self.host.process_adapt(ctx)
            ctx.grad_norm = float(torch.nn.utils.get_total_norm(gradients(self.anchor.parameters)))
            ctx.updated, ctx.reason_code = math.isfinite(ctx.grad_norm), UPDATED
            if not ctx.updated:
                ctx.reason_code = NONFINITE
        else:
            ctx.updated, ctx.reason_code, ctx.grad_norm = False, ctx.reason_code or SKIPPED, 0.0
        if not ctx.updated:
            model.zero_grad(set_to_none=True)  # an optimizer leaves alone what has no gradient: weights, moments and decay

    def _chain(self, verdicts: tuple[bool, ...]) -> OccamContext:
        """The plugins' word on the mean loss. A loss that is not finite reaches no plugin."""
        ctx = OccamContext(
            iter_num=self.iter_num,
            task_loss=sum(self.losses) / len(self.losses),
            learning_rate=self.lr,
            complexity_cost=self.drift,
            grad_norm=self.grad_norm,
            update_rate=self.ledger.update_rate,
            verdicts=verdicts,
            **{"lambda_ockham": 0.0, "surprise_threshold": None, **self.base},
        )
        if not math.isfinite(ctx.task_loss):
            ctx.updated, ctx.reason_code = False, NONFINITE
            return ctx
        ctx = self.host.process_batch_start(ctx)
        self.requested.check(ctx.requests)  # Trainer has no probe batch: a plugin that wants one is refused
        if not_here := [name for name in NOT_CARRIED_OUT if getattr(ctx.requests, name)]:
            raise ConfigError(f"a plugin asks for {', '.join(not_here)}, which the Trainer does not carry out; take it out")
        return ctx

    # by Trainer --------------------------------------------------------------------------------------------------------
    def on_train_begin(self, args: Any, state: Any, control: Any, **given: Any) -> None:
        model = given["model"]
        self.anchor = Anchor(model.parameters())
        self.requested = Requested(
            model, self.anchor.parameters, self.ledger, Ranks(model.device), Precision(model.device.type), None, self.seed
        )
        self.base = {k: v for k, v in self.host.hyperparameters.items() if k in ("lambda_ockham", "surprise_threshold")}
        self.iter_num = self.consolidated_at = 0

    def on_step_begin(self, args: Any, state: Any, control: Any, **given: Any) -> None:
        self.losses: list[float] = []
        self.verdicts: list[bool] = []
        self.started = time.perf_counter()

    def on_pre_optimizer_step(self, args: Any, state: Any, control: Any, **given: Any) -> None:
        """Every group by the factor that the plugins put on the scheduled learning rate."""
        factor = self.context.learning_rate / self.lr if self.lr else 1.0
        self.scheduled = [group["lr"] for group in given["optimizer"].param_groups]
        for group, lr in zip(given["optimizer"].param_groups, self.scheduled, strict=True):
            group["lr"] = lr * factor

    def on_optimizer_step(self, args: Any, state: Any, control: Any, **given: Any) -> None:
        """Back to the schedule's own: some schedulers compute the next learning rate from this one."""
        for group, lr in zip(given["optimizer"].param_groups, self.scheduled, strict=True):
            group["lr"] = lr

    def on_step_end(self, args: Any, state: Any, control: Any, **given: Any) -> None:
        """Count, measure, tell the rack, consolidate, journal."""
        ctx = self.context
        for verdict in self.verdicts:
            self.ledger.verdict(verdict and ctx.updated, self.tokens)
        if ctx.updated:
            if ctx.requests.anchor_follow:
                self.anchor.follow(ctx.requests.anchor_follow)
            self.drift, self.grad_norm = self.anchor.drift(), ctx.grad_norm
        ctx.complexity_cost = ctx.metrics["drift"] = self.drift
        ctx.update_rate = self.ledger.update_rate
        if ctx.reason_code != NONFINITE:
            self.host.process_batch_end(ctx)
        self.iter_num += 1
        due = bool(self.consolidate_interval) and self.iter_num - self.consolidated_at >= self.consolidate_interval
        if ctx.consolidating or due:
            ctx.consolidation_cause = "plugin" if ctx.consolidating else "interval"
            self._consolidate(ctx)
        self._record(ctx)
        if ctx.requests.stop or ctx.requests.rollback:  # Trainer has nothing in memory to roll back to
            control.should_training_stop = True

    def _consolidate(self, ctx: OccamContext) -> None:
        self.anchor.move()
        self.drift, self.consolidated_at = 0.0, self.iter_num
        self.consolidations += 1
        self.host.process_consolidate(ctx)

    def _record(self, ctx: OccamContext) -> None:
        seconds = time.perf_counter() - self.started
        self.journal.step(ctx, self.ledger.tokens, self.ledger.units, 1e3 * seconds)
        if ctx.consolidation_cause:
            self.journal.write("consolidate", ctx.iter_num, cause=ctx.consolidation_cause, alpha=1.0)
        stops = [f"training stops: {reason}" for reason in (ctx.requests.stop, ctx.requests.rollback) if reason]
        for notice in [*ctx.notices, *stops]:
            print(f"warning: {notice}")
            self.journal.write("warning", ctx.iter_num, message=notice)

    def on_train_end(self, args: Any, state: Any, control: Any, **given: Any) -> None:
        self.journal.write("end", self.iter_num, reason="Trainer has ended")
        self.journal.close()


class RackTrainer(Trainer):
    """Trainer with a rack between each batch's loss and its backward."""

    def __init__(self, *args: Any, rack: RackCallback, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        if self.accelerator.num_processes > 1 or self.args.n_gpu > 1 or self.args.fp16:
            raise ValueError("RackTrainer works in one process on one device, in float32 or bfloat16")
        self.rack = rack
        self.add_callback(rack)

    def training_step(self, model: Any, inputs: dict[str, Any], num_items_in_batch: Any = None) -> torch.Tensor:
        """Trainer's, without its multi-device parts, and with the rack's verdict ahead of the backward."""
        model.train()
        inputs = self._prepare_inputs(inputs)
        with self.compute_loss_context_manager():
            loss = self.compute_loss(model, inputs, num_items_in_batch=num_items_in_batch)
        micros = self.current_gradient_accumulation_steps
        if not self._is_divided(num_items_in_batch):
            loss = loss / micros
        lr = self.optimizer.param_groups[0]["lr"]
        if self.rack.judge(float(loss.detach()) * micros, lr, inputs["labels"].numel(), micros):
            self.accelerator.backward(loss)
        if self.accelerator.sync_gradients:  # the last micro-batch of this update
            self.rack.adapt(model)
        return loss.detach()

    def _is_divided(self, num_items_in_batch: Any) -> bool:
        """Whether compute_loss has divided by the tokens of all micro-batches already."""
        if self.loss_is_scaled_for_ga is not None:
            return self.loss_is_scaled_for_ga
        return (self.model_accepts_loss_kwargs and num_items_in_batch is not None) or self.compute_loss_func is not None
