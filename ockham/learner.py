"""OckhamLearner: the only code that changes weights. One `step` is one iteration of the rack."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from typing import Any, NamedTuple

import torch
from torch.nn.parallel import DistributedDataParallel
from torch.optim.swa_utils import AveragedModel

from .anchor import Anchor
from .context import OccamContext
from .data import Batch
from .distributed import Ranks, gradients
from .errors import ConfigError
from .fisher import fisher, normalised
from .ledger import BACKWARD, FORWARD, Ledger
from .objective import Objective, Rows, Scored, micro_batches
from .optim.averages import evaluated_weights, kind_of, slow_weights
from .optim.saved import groups_of, load_state
from .plugins import OckhamGatePlugin, PluginHost
from .precision import Precision
from .quotient import Footprint
from .requested import Requested

EXCESS = "excess"  # of the loss over a reference's: what some gates call surprise
UPDATED, SKIPPED, NONFINITE, BACKED_OFF = "UPDATED", "SKIPPED", "NONFINITE", "SCALER_BACKOFF"


class Losses(NamedTuple):
    """Of one micro-batch, or the mean of several: what was measured, and what a reference model has. Nats/token."""

    task: float
    reference: float | None = None

    def judged_by(self, gate: Any) -> float:
        """What the gate calls surprise."""
        return self.task - self.reference if gate.surprise == EXCESS and self.reference is not None else self.task


class OckhamLearner:
    """Learns when the rack says so, and pays λΩ for drift from the anchor.

    `model(x, y)` must give `(logits, loss)`, the loss a mean over tokens in nats. Without `optimizer` the learner makes
    AdamW at lr 1e-3; without `host`, a rack of one gate at `surprise_threshold`; without `anchor`, one at the present
    weights with the penalty on. `schedule(tick)` gives the first parameter group's learning rate; every group is
    scaled by the same factor. The ticks are those of `clock`: iterations; updates made; or compute units spent, in
    iterations' worth, so that all three are the same where every batch is learned. `average` follows the weights at every
    update and stands in for them under `evaluated_weights`. `clip_grad_norm` 0 or None does not clip. `probe` is a batch that is
    never learned, for plugins that measure on one; `footprint` is what the model costs, for the contexts' Occam Quotient;
    `fisher_batches` gives the batches on which an anchor of kind fisher is measured. A batch may be `Rows`, some of whose
    sequences are replayed: `replay_ce` and `replay_kl` weigh their cross entropy and their KL to the anchor. What plugins ask of
    the caller is in the context that `step` returns: `ctx.requests.rollback` and `.stop`, each a reason or "".

    >>> learner = OckhamLearner(model=model, surprise_threshold=2.0, lambda_ockham=0.01)
    >>> ctx = learner.step((x, y))          # or a list of micro-batches
    """

    def __init__(
        self,
        model: torch.nn.Module,
        optimizer: torch.optim.Optimizer | None = None,
        host: PluginHost | None = None,
        *,
        anchor: Anchor | None = None,
        schedule: Callable[[float], float] | None = None,
        clock: str = "iterations",
        average: AveragedModel | None = None,
        lambda_ockham: float = 0.01,
        surprise_threshold: float | None = 2.0,
        consolidate_interval: int = 1000,
        clip_grad_norm: float | None = 1.0,
        ranks: Ranks | None = None,
        precision: Precision | None = None,
        probe: Batch | None = None,
        footprint: Footprint | None = None,
        fisher_batches: Callable[[], Sequence[Batch]] | None = None,
        replay_ce: float = 1.0,
        replay_kl: float = 0.0,
        seed: int = 1337,
    ):
        self.model = model
        self.parameters = [p for p in model.parameters() if p.requires_grad]
        self.optimizer = optimizer or torch.optim.AdamW(self.parameters, lr=1e-3)
        self.base_lrs = [group["lr"] for group in self.optimizer.param_groups]
        self.host = PluginHost([OckhamGatePlugin(surprise_threshold=surprise_threshold)]) if host is None else host
        self.anchor = anchor or Anchor(self.parameters)
        self.anchor.keeps_displacement = True  # only `_apply` writes the weights
        self.schedule, self.clock = schedule or (lambda tick: self.base_lrs[0]), clock
        self.average = average
        self.lambda_ockham, self.surprise_threshold = lambda_ockham, surprise_threshold
        self.consolidate_interval, self.clip_grad_norm = consolidate_interval, clip_grad_norm
        self.ranks = ranks or Ranks(self.parameters[0].device)
        self.precision = precision or Precision(self.ranks.device.type)
        self.footprint = footprint
        self.ledger = Ledger()
        self.requested = Requested(model, self.parameters, self.ledger, self.ranks, self.precision, probe, seed)
        self.objective = Objective(
            model, self.requested.module, self.anchor, self.ledger, self.precision, self.ranks.mean, replay_ce, replay_kl
        )
        self.fisher_batches = fisher_batches
        self.iter_num = 0
        self.updates = 0  # steps of the optimizer; the ledger counts micro-batches
        self.consolidations = 0
        self.consolidated_at = 0
        self.nonfinite_in_a_row = 0
        self.drift, self.grad_norm = 0.0, 0.0  # of the last step
        self.learning_rate = self.base_lrs[0]  # of the last update

    def step(self, batch: Batch | Rows | Sequence[Batch | Rows], domains: Mapping[str, float] | None = None) -> OccamContext:
        """One iteration on a batch, or on a list of micro-batches whose accepted gradients are averaged.

        `domains`: what share of the whole batch's tokens, all micro-batches and ranks, each named part of the data has.
        """
        micros = micro_batches(batch)
        lr = self.schedule(self._tick(len(micros)))
        if not self.requested.module.training:  # to walk through all modules takes time
            self.model.train()
        self.optimizer.zero_grad(set_to_none=True)
        self.objective.needs_rows = self.host.selector is not None
        self.objective.needs_reference = self.host.needs_reference
        self._measure_importance(micros[0])
        scored, losses, verdicts = self._single(micros[0]) if len(micros) == 1 else self._accumulate(micros)
        ctx = self._context(lr, losses, verdicts)
        ctx.domains = dict(domains or {})
        if math.isfinite(ctx.task_loss):
            ctx = self.host.process_batch_start(ctx)
            self.requested.check(ctx.requests)
            if ctx.updated and (any(verdicts) if scored is None else not scored.is_empty):
                self._update(ctx, scored, sum(verdicts))
            else:
                ctx.updated, ctx.reason_code = False, ctx.reason_code or SKIPPED
        else:
            ctx.updated, ctx.reason_code = False, NONFINITE
        self._finish(ctx, micros)
        return ctx

    def _tick(self, micro_steps: int) -> float:
        """Where the clock stands, in iterations' worth."""
        a_learned_iteration = (FORWARD + BACKWARD) * micro_steps
        ticks = {"iterations": self.iter_num, "updates": self.updates, "compute": self.ledger.units / a_learned_iteration}
        return ticks[self.clock]

    def _single(self, micro: Rows) -> tuple[Scored, Losses, tuple[bool, ...]]:
        with self._own_gradients():
            scored = self._forward(micro)
        losses = self._global_losses(scored)
        if self.host.selector is not None:
            self._weigh(scored)
        return scored, losses, ()

    def _accumulate(self, micros: list[Rows]) -> tuple[None, Losses, tuple[bool, ...]]:
        """Forward each micro-batch, let the gate judge its global mean loss, and backward at once those it accepts.

        The chain runs afterwards, once, on the mean loss: a threshold or a λ that another plugin sets cannot reach these verdicts
        and the KL to the anchor.
        """
        found, verdicts = [], []
        gate = self.host.gate
        with self._no_sync():
            for index, micro in enumerate(micros):
                scored = self._forward(micro, index)
                losses = self._global_losses(scored)
                found.append(losses)
                if self.host.selector is not None:
                    self._weigh(scored)
                is_open = gate is None or gate.verdict(losses.judged_by(gate), self.surprise_threshold)
                verdicts.append(math.isfinite(losses.task) and is_open and not scored.is_empty)
                if verdicts[-1]:
                    self._backward(scored, self.lambda_ockham)
        references = [losses.reference for losses in found if losses.reference is not None]
        task, reference = sum(losses.task for losses in found), sum(references) if references else None
        return None, Losses(task / len(found), reference and reference / len(found)), tuple(verdicts)

    def _forward(self, micro: Rows, index: int = 0) -> Scored:
        with self.requested.noisy_embedding(micro.x, self.iter_num, index):
            return self.objective.forward(micro)

    def _backward(self, scored: Scored, lambda_ockham: float) -> None:
        """Make the loss and differentiate it."""
        loss = self.objective.loss(scored, lambda_ockham)
        if loss.requires_grad:
            self.precision.scaler.scale(loss).backward()

    def _weigh(self, scored: Scored) -> None:
        """The selector's weight for every new sequence of every rank, of which this rank takes its own; replayed ones have 1."""
        selector, new = self.host.selector, scored.is_new
        assert selector is not None
        assert scored.losses is not None
        surprise = scored.losses.detach().double()
        if selector.surprise == EXCESS and scored.reference is not None:
            surprise = surprise - scored.reference.double()
        everyone = self.ranks.gather(surprise[new].tolist())
        flat = selector.weigh([value for own in everyone for value in own])
        first = sum(map(len, everyone[: self.ranks.rank]))
        weights = torch.ones_like(scored.losses)
        weights[new] = weights.new_tensor(flat[first : first + len(everyone[self.ranks.rank])])
        replayed = self.ranks.mean((~new).double().sum(), 1.0)
        scored.weights, scored.weight_sum = weights, sum(flat) / self.ranks.world + replayed

    def _global_losses(self, scored: Scored) -> Losses:
        """What the gate judges, over all ranks: the mean loss of the new sequences, and what a reference has on them.

        Where all sequences are replayed, as may be in a batch of one, it is their loss.
        """
        if scored.losses is None and self.ranks.world == 1:
            return Losses(float(scored.mean.detach()), None)
        new = scored.is_new
        if scored.rows.replayed is not None and not self.ranks.any(bool(new.any())):
            new = torch.ones_like(new)
        task = self.ranks.mean(*scored.task(new))
        if scored.reference is None:
            return Losses(task, None)
        return Losses(task, self.ranks.mean(scored.reference.double()[new].sum(), float(new.sum())))

    def _no_sync(self) -> AbstractContextManager[Any]:
        return self.model.no_sync() if isinstance(self.model, DistributedDataParallel) else contextlib.nullcontext()

    def _own_gradients(self) -> AbstractContextManager[Any]:
        """Within, ranks do not share gradients where a plugin chooses sequences: a rank may have none to go backward on."""
        return self._no_sync() if self.host.selector else contextlib.nullcontext()

    def _context(self, lr: float, losses: Losses, verdicts: tuple[bool, ...]) -> OccamContext:
        in_force = self.anchor.in_force
        ctx = OccamContext(
            iter_num=self.iter_num,
            task_loss=losses.task,
            reference_loss=losses.reference,
            learning_rate=lr,
            lambda_ockham=self.lambda_ockham,
            surprise_threshold=self.surprise_threshold,
            complexity_cost=self.drift if in_force else 0.0,
            grad_norm=self.grad_norm,
            update_rate=self.ledger.update_rate,
            verdicts=verdicts,
            anchor_available=in_force,
            probes=dict(self.requested.results),
        )
        return self.footprint.fill(ctx) if self.footprint else ctx

    def evaluated_context(self, val_loss: float, drift: float) -> OccamContext:
        """What a memory judges: the state now, `val_loss` its task loss, `drift` that after its last step."""
        ctx = self._context(self.learning_rate, Losses(val_loss), ())
        ctx.complexity_cost = drift if self.anchor.in_force else 0.0
        ctx.metrics["drift"] = drift
        return ctx

    def _update(self, ctx: OccamContext, scored: Scored | None, accepted: int) -> None:
        """Backward, penalty, echo, noise, plugins, clip, optimizer step; or nothing at all when a gradient is not finite."""
        if scored is not None:
            with self._own_gradients():
                self._backward(scored, ctx.lambda_ockham)
        if scored is None or self.host.selector is not None:  # else DDP has averaged, and one backward was all
            self._average_gradients(accepted or 1)
        if not self._unscale():
            ctx.updated, ctx.reason_code = False, BACKED_OFF
            return
        if self.anchor.in_force:
            self.anchor.add_penalty_gradient(ctx.lambda_ockham)
        self.requested.shape_gradients(ctx.requests, self.iter_num, self.host.names())
        self.host.process_adapt(ctx)
        grads = gradients(self.parameters)
        norm = torch.nn.utils.get_total_norm(grads)
        ctx.grad_norm = float(norm)
        if not math.isfinite(ctx.grad_norm):
            ctx.updated, ctx.reason_code = False, NONFINITE
            self.precision.scaler.update(max(1.0, self.precision.scaler.get_scale()))  # forget the unscaling, keep the scale
            return
        ceilings = [c for c in (self.clip_grad_norm or None, ctx.requests.gradient_ceiling) if c is not None]
        if ceilings:
            torch.nn.utils.clip_grads_with_norm_(self.parameters, min(ceilings), norm)
        self._apply(ctx)

    def _average_gradients(self, accepted: int) -> None:
        """The mean over accepted micro-batches and ranks; a rank that chose no sequence has gradients of 0."""
        if self.host.selector is not None and self.ranks.world > 1:
            for p in self.parameters:
                p.grad = torch.zeros_like(p) if p.grad is None else p.grad
        grads = gradients(self.parameters)
        torch._foreach_div_(grads, accepted)
        self.ranks.average_(grads)

    def _unscale(self) -> bool:
        """Undo fp16's loss scale; False when the scale overflowed, and the scaler has backed off.

        At a scale of 1 there is nothing to back off from: what is not finite then is the gradient's own fault.
        """
        scaler = self.precision.scaler
        scaler.unscale_(self.optimizer)
        if not scaler.is_enabled() or scaler.get_scale() <= 1 or math.isfinite(self._norm()):
            return True
        scaler.update()
        return False

    def _norm(self) -> float:
        return float(torch.nn.utils.get_total_norm(gradients(self.parameters)))

    def _apply(self, ctx: OccamContext) -> None:
        factor = ctx.learning_rate / self.base_lrs[0] if self.base_lrs[0] else 0.0
        for group, base in zip(self.optimizer.param_groups, self.base_lrs, strict=True):
            group["lr"] = base * factor
        self.optimizer.param_groups[0]["lr"] = self.learning_rate = ctx.learning_rate  # exact, not through the quotient
        self.requested.remember(ctx.requests)
        if self.anchor.in_force:
            self.anchor.pull(self.optimizer.param_groups, ctx.lambda_ockham)
        self.precision.scaler.step(self.optimizer)
        self.requested.limit_update(ctx)
        self.precision.scaler.update()
        self.updates += 1
        if self.average is not None:
            self.average.update_parameters(self.model)
        ctx.reason_code = UPDATED

    def _finish(self, ctx: OccamContext, micros: list[Rows]) -> None:
        """Count, measure, tell the rack, consolidate."""
        tokens = micros[0].y.numel() * self.ranks.world
        for accepted in ctx.verdicts or (ctx.updated,):
            self.ledger.verdict(accepted and ctx.updated, tokens)
        self.nonfinite_in_a_row = self.nonfinite_in_a_row + 1 if ctx.reason_code == NONFINITE else 0
        if ctx.updated:
            if self.anchor.in_force and ctx.requests.anchor_follow:
                self.anchor.follow(ctx.requests.anchor_follow)
            self.drift, self.grad_norm = self.anchor.drift(), ctx.grad_norm
        elif ctx.reason_code != NONFINITE:
            ctx.grad_norm = 0.0  # no gradient was made, or none that counts
        ctx.complexity_cost = self.drift if self.anchor.in_force else 0.0
        ctx.metrics["drift"] = self.drift
        ctx.update_rate = self.ledger.update_rate
        if ctx.reason_code != NONFINITE:
            self.host.process_batch_end(ctx)
        if math.isfinite(ctx.task_loss):  # else the rack has not seen the last figures yet
            self.requested.measure(ctx, self.anchor, micros[0].y.numel())
        self.requested.embedding_noise = ctx.requests.embedding_noise
        self.iter_num += 1
        self._maybe_consolidate(ctx)

    def _maybe_consolidate(self, ctx: OccamContext) -> None:
        due = bool(self.consolidate_interval) and self.iter_num - self.consolidated_at >= self.consolidate_interval
        if self.anchor.in_force and (ctx.consolidating or due):
            ctx.consolidation_cause = "plugin" if ctx.consolidating else "interval"
            self.consolidate(ctx)

    def consolidate(self, ctx: OccamContext) -> None:
        """Move the anchor to the weights, or the share `anchor.alpha` of the way, and tell the rack."""
        self.anchor.consolidate()
        self.drift = 0.0 if self.anchor.alpha == 1 else self.anchor.drift()
        self.anchor.importance = None  # of other weights; measured anew before the next step
        self.consolidations += 1
        self.consolidated_at = self.iter_num
        self.host.process_consolidate(ctx)

    def _measure_importance(self, micro: Rows) -> None:
        """The Fisher information at the anchor, where it has that kind, is in force and has none yet."""
        anchor = self.anchor
        if not (anchor.in_force and "fisher" in anchor.kinds and anchor.importance is None):
            return
        if self.fisher_batches is None:
            raise ConfigError(
                "anchor.kind=fisher needs data: give OckhamLearner(fisher_batches=...), a list of batches when called"
            )
        module = self.requested.module
        sums, count = fisher(module, anchor.named_weights(module), self.fisher_batches())
        anchor.importance = normalised(sums, count, self.ranks, self.ledger, len(micro.x))

    def observe(self, val_loss: float) -> bool:
        """Hear an evaluation; True when it puts the anchor's penalty in force. The interval counts from there."""
        engaged = self.anchor.observe(val_loss, self.iter_num)
        self.drift = self.anchor.drift()
        if engaged:
            self.consolidated_at = self.iter_num
        return engaged

    @property
    def evaluates_others(self) -> bool:
        """Whether other weights than the trained ones are evaluated."""
        return (self.average is not None and int(self.average.n_averaged) > 0) or bool(slow_weights(self.optimizer))

    def evaluated_weights(self) -> AbstractContextManager[None]:
        """Within, the model holds what is to be evaluated: averaged weights, Lookahead's slow ones, or its own."""
        return evaluated_weights(self.parameters, self.optimizer, self.average)

    COUNTERS = ("iter_num", "updates", "consolidations", "consolidated_at", "nonfinite_in_a_row", "drift", "grad_norm")

    def state_dict(self) -> dict[str, Any]:
        """Everything but the model's weights."""
        return {
            "optimizer": self.optimizer.state_dict(),
            "optimizer_type": kind_of(self.optimizer),
            "average": self.average.state_dict() if self.average is not None else None,
            "anchor": self.anchor.state_dict(),
            "plugins": self.host.state_dict(),
            "scaler": self.precision.scaler.state_dict(),
            "ledger": self.ledger.state_dict(),
            "requested": self.requested.state_dict(self.anchor),
            "counters": {name: getattr(self, name) for name in self.COUNTERS},
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue where `state_dict` was taken; learning rate and options stay as this learner was built."""
        if state["optimizer_type"] != kind_of(self.optimizer):
            raise ValueError(f"saved by {state['optimizer_type']}, this is {kind_of(self.optimizer)}")
        load_state(self.optimizer, state["optimizer"])
        saved = state["optimizer"]
        self.learning_rate = groups_of(saved.get("base_optimizer", saved))[0]["lr"]  # Lookahead's are its base's
        if self.average is not None and state["average"] is not None:  # else it begins here
            self.average.load_state_dict(state["average"])
        self.anchor.load_state_dict(state["anchor"])
        self.host.load_state_dict(state["plugins"])
        self.precision.scaler.load_state_dict(state["scaler"])
        self.ledger.load_state_dict(state["ledger"])
        self.requested.load_state_dict(state.get("requested"), self.anchor)  # version 0.2.0 had none
        for name in self.COUNTERS:
            setattr(self, name, state["counters"][name])
