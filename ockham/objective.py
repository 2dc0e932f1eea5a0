"""What a step minimises: the task loss of each sequence, what the anchor's outputs add, and the sequences' weights.

    L = Σ_i w_i·(c_i·CE_i + k_i·KL_i) / Σ_i w_i

over the sequences i of the batch. CE_i is the mean cross entropy of sequence i, KL_i = KL(anchor‖model) on it, both in
nats/token. New sequences have c = 1 and k = λ·(the anchor's scale of kind kl); replayed ones their own c and k, whatever λ is. w
= 1 unless a plugin weighs the sequences. Without anchor outputs, replay and weights this is the model's own mean loss, taken as
it is. KL to a former self on new data: Li & Hoiem 2016 (Learning without Forgetting, arXiv:1606.09282).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch.nn.functional import cross_entropy, kl_div, log_softmax

from .anchor import Anchor
from .errors import ConfigError
from .ledger import Ledger
from .precision import Precision

Mean = Callable[[torch.Tensor, float], float]  # (total, count) of this rank → Σ total / Σ count over the ranks
IGNORED = -1  # a target that is not learned
CHEAPER = 2 / 3  # of a batch: below it a second forward and backward of the chosen sequences costs less than one backward of all


class Rows(NamedTuple):
    """A batch of which some sequences may be replayed: tokens and targets (B, T), and for each sequence what is known of it."""

    x: torch.Tensor
    y: torch.Tensor
    replayed: torch.Tensor | None = None  # (B,) bool; None = no sequence
    reference: torch.Tensor | None = None  # (B,) nats/token, the loss that a reference model has on each

    def chosen(self, rows: torch.Tensor) -> Rows:
        """Those sequences alone; `rows` (B,) bool."""
        known = (None if part is None else part[rows] for part in self[2:])
        return Rows(self.x[rows], self.y[rows], *known)


@dataclass
class Scored:
    """One forward of a batch. `mean` is the model's own loss; `losses` (B,) each sequence's, where they are needed."""

    rows: Rows
    mean: torch.Tensor
    logits: torch.Tensor | None = None  # (B, T, V)
    losses: torch.Tensor | None = None  # (B,) nats/token, with graph
    reference: torch.Tensor | None = None  # (B,)
    weights: torch.Tensor | None = None  # (B,); None = all 1
    weight_sum: float = 0.0  # of all ranks, divided by their number

    @property
    def is_new(self) -> torch.Tensor:
        """(B,) bool: the sequences that are not replayed."""
        replayed = self.rows.replayed
        return torch.ones(len(self.rows.x), dtype=torch.bool, device=self.rows.x.device) if replayed is None else ~replayed

    @property
    def is_empty(self) -> bool:
        """Whether no sequence of any rank has a weight."""
        return self.weights is not None and not self.weight_sum

    def task(self, new: torch.Tensor) -> tuple[torch.Tensor, int]:
        """Sum over the tokens of the sequences `new`, (B,) bool, of the task loss, and how many: what is averaged over ranks."""
        if self.losses is None or self.rows.replayed is None:
            return self.mean.detach().double() * self.rows.y.numel(), self.rows.y.numel()
        length = self.rows.y.shape[1]
        return self.losses.detach().double()[new].sum() * length, int(new.sum()) * length


@dataclass
class Objective:
    """Forwards batches and makes the loss of what came out. `module` is the model inside DDP and torch.compile.

    `replay_ce` and `replay_kl` weigh the two terms of replayed sequences. `needs_rows` is set where a plugin weighs sequences,
    `needs_reference` where one compares with a reference loss: the batch's own, else the anchor's, one forward more. `mean` is
    over all ranks: by it they charge the same.
    """

    model: torch.nn.Module
    module: torch.nn.Module
    anchor: Anchor
    ledger: Ledger
    precision: Precision
    mean: Mean
    replay_ce: float = 1.0
    replay_kl: float = 0.0
    needs_rows: bool = False
    needs_reference: bool = False

    def forward(self, rows: Rows) -> Scored:
        """One forward, charged by its share of a batch. Raises ConfigError where a reference is needed and there is none."""
        self.ledger.forward()
        with self.precision.autocast():
            logits, mean = self.model(rows.x, rows.y)
        scored = Scored(rows, mean)
        if self.needs_rows or self.needs_reference or rows.replayed is not None or self._batch_kl(1.0):
            scored.logits, scored.losses = logits, sequence_losses(logits, rows.y)
        if self.needs_reference:
            scored.reference = rows.reference if rows.reference is not None else self._anchor_losses(rows)
        return scored

    def loss(self, scored: Scored, lambda_ockham: float) -> torch.Tensor:
        """The loss to differentiate; forwards the anchor, and the chosen sequences anew where that is cheaper, and charges both.

        Charges its own backward. A rank none of whose sequences are chosen gets a loss without gradient.
        """
        if scored.losses is None:
            self.ledger.backward()
            return scored.mean
        weights, share, size = scored.weights, 1.0, len(scored.rows.x)
        if weights is not None and (share := self._share(weights != 0, size)) < CHEAPER:
            scored = self._forward_chosen(scored, share)
            weights = scored.weights
        else:
            share = 1.0
        self.ledger.backward(share)
        assert scored.losses is not None
        ce, kl = self._coefficients(scored, lambda_ockham)
        terms = ce * scored.losses
        if self._has_kl(scored, lambda_ockham):
            self.ledger.forward(self._share(asked := kl != 0, size))
            if bool(asked.any()):
                terms = terms + kl * self._divergence(scored, asked)
        if weights is None:
            return terms.mean()
        return (weights * terms).sum() / scored.weight_sum if scored.weight_sum else terms.sum() * 0.0

    def _forward_chosen(self, scored: Scored, share: float) -> Scored:
        """A new forward of the sequences with a weight; the first one's graph is dropped."""
        assert scored.weights is not None
        self.ledger.forward(share)
        chosen = scored.weights != 0
        rows, weights = scored.rows.chosen(chosen), scored.weights[chosen]
        if not len(rows.x):
            empty = scored.logits.detach()[:0] if scored.logits is not None else None
            return Scored(rows, scored.mean.detach(), empty, scored.mean.detach().new_zeros(0), None, weights, scored.weight_sum)
        with self.precision.autocast():
            logits, mean = self.model(rows.x, rows.y)
        return Scored(rows, mean, logits, sequence_losses(logits, rows.y), None, weights, scored.weight_sum)

    def _batch_kl(self, lambda_ockham: float) -> float:
        return lambda_ockham * self.anchor.scales["kl"] if self.anchor.in_force and "kl" in self.anchor.kinds else 0.0

    def _coefficients(self, scored: Scored, lambda_ockham: float) -> tuple[torch.Tensor, torch.Tensor]:
        """c and k of each sequence, (B,) both."""
        assert scored.losses is not None
        ce = torch.ones_like(scored.losses)
        kl = torch.full_like(ce, self._batch_kl(lambda_ockham))
        if (replayed := scored.rows.replayed) is not None:
            ce[replayed] = self.replay_ce
            kl[replayed] = self.replay_kl if self.anchor.in_force else 0.0
        return ce, kl

    def _has_kl(self, scored: Scored, lambda_ockham: float) -> bool:
        """Whether some rank may have sequences with a KL to the anchor; the same on every rank."""
        is_replayed = scored.rows.replayed is not None and bool(self.replay_kl) and self.anchor.in_force
        return is_replayed or bool(self._batch_kl(lambda_ockham))

    def _share(self, which: torch.Tensor, size: int) -> float:
        """How many sequences of `size` a rank, mean over the ranks: all charge the same, as schedules and max_units go by it."""
        return self.mean(which.double().sum(), size)

    def _divergence(self, scored: Scored, asked: torch.Tensor) -> torch.Tensor:
        """KL(anchor‖model) of the sequences asked for, 0 for the others: (B,) nats/token."""
        assert scored.logits is not None
        assert scored.losses is not None
        theirs = self._anchor_logits(scored.rows.x[asked], scored.rows.y[asked])
        found = divergence(theirs, scored.logits[asked])
        return torch.zeros_like(scored.losses).masked_scatter(asked, found.to(scored.losses.dtype))

    def _anchor_losses(self, rows: Rows) -> torch.Tensor:
        if not self.anchor.in_force:
            raise ConfigError(
                "a gate of surprise=excess has nothing to compare with: give --reference=RUN, or begin from weights "
                "(--init_from=RUN) with an anchor in force"
            )
        self.ledger.forward()
        return sequence_losses(self._anchor_logits(rows.x, rows.y), rows.y)

    @torch.no_grad()
    def _anchor_logits(self, x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        """(B, T, V) of the anchor, without dropout."""
        was_training = self.module.training
        self.module.eval()
        try:
            with self.precision.autocast():
                return torch.func.functional_call(self.module, self.anchor.named_weights(self.module), (x, y))[0]
        finally:
            self.module.train(was_training)


def sequence_losses(logits: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
    """Mean cross entropy of each sequence over its targets other than -1: logits (B, T, V), y (B, T) → (B,), nats/token."""
    return token_losses(logits, y).sum(1) / (y != IGNORED).sum(1).clamp(min=1)


def token_losses(logits: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
    """Cross entropy of each target, 0 for -1: logits (B, T, V), y (B, T) → (B, T), nats."""
    wide = logits.to(torch.promote_types(logits.dtype, torch.float32))
    return cross_entropy(wide.flatten(0, 1), y.flatten(), ignore_index=IGNORED, reduction="none").view(y.shape)


def divergence(theirs: torch.Tensor, ours: torch.Tensor) -> torch.Tensor:
    """KL(theirs‖ours) = mean over positions of Σ_v p*·(ln p* − ln p): logits (B, T, V) both → (B,), nats/token."""
    wide = torch.promote_types(ours.dtype, torch.float32)
    each = kl_div(log_softmax(ours.to(wide), -1), log_softmax(theirs.to(wide), -1), reduction="none", log_target=True)
    return each.sum(-1).mean(-1)


def micro_batches(batch: Any) -> list[Rows]:
    """A batch, or a list of micro-batches, each (x, y) or Rows, as Rows; the sequences of (x, y) are all new."""
    micros = [batch] if isinstance(batch[0], torch.Tensor) else batch
    return [micro if isinstance(micro, Rows) else Rows(*micro) for micro in micros]
