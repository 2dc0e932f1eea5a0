"""The anchor: weights that drift is measured from and paid against, and when the penalty is in force."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import Any

import torch

from .config import ANCHOR_KINDS, anchor_kinds
from .errors import CheckpointError, ShapeError

PENALIZE = ("auto", "always", "never")


class Anchor:
    """θ*, the drift Ω(Δθ) = Σ‖θ − θ*‖² over trainable parameters (tied weights once), and the mode of its penalty.

    Modes: `always` penalises from the start; `never` only measures; `auto` is `always` for weights that were brought in.
    From scratch, `auto` lets every improving evaluation move the anchor to the weights, and puts the penalty in force at
    the `patience`-th evaluation in a row that does not improve; the anchor is then the best state so far.

    `kind` names what resists drift, one or more joined by "+"; each acts at λ times its scale (1 unless given):
    `l2`         λ·Ω; L2-SP, Li et al. 2018 (arXiv:1802.01483)
    `fisher`     λ·Σ F·(θ − θ*)², F the diagonal Fisher information at θ* with mean 1; EWC, Kirkpatrick et al. 2017
                 (arXiv:1612.00796). F is `importance`, which `ockham.fisher` estimates
    `decoupled`  θ ← θ − lr·λ·(θ − θ*) beside the optimizer's step, as AdamW decays weights (arXiv:1711.05101); lr·λ is cut at 1
    `kl`         λ·KL(anchor's outputs ‖ the model's) on the new sequences; made by `ockham.objective`

    A consolidation goes the share `alpha` of the way from anchor to weights. Raises ConfigError for an unknown kind.
    """

    def __init__(
        self,
        parameters: Iterable[torch.nn.Parameter],
        penalize: str = "always",
        brought_in: bool = True,
        patience: int = 2,
        kind: str = "l2",
        scales: Mapping[str, float] | None = None,
        alpha: float = 1.0,
    ):
        self.kinds = anchor_kinds(kind)
        self.scales = dict.fromkeys(ANCHOR_KINDS, 1.0) | dict(scales or {})
        self.alpha = alpha
        self.importance: list[torch.Tensor] | None = None  # F, a tensor for each parameter
        self.parameters: list[torch.Tensor] = [p for p in parameters if p.requires_grad]
        self.penalize = "always" if penalize == "auto" and brought_in else penalize
        self.patience = patience
        self.in_force = self.penalize == "always"
        self.engaged_at: int | None = None  # iteration at which `auto` engaged
        self.best_loss = float("inf")
        self.evaluations_without_gain = 0
        self.weights: list[torch.Tensor] = []
        self.keeps_displacement = False  # for one who writes the weights only between add_penalty_gradient and drift
        self._kept: tuple[list[int], list[torch.Tensor]] | None = None  # version counters, θ − θ* of the last drift
        self._flat: torch.Tensor | None = None  # θ − θ* end to end, and its parts in the parameters' shapes
        self._pieces: list[torch.Tensor] = []
        self.squared_norm = 0.0
        self.moves = 0  # grows whenever the weights change, also by loading; tells that what was computed from them is stale
        self.move()

    def consolidate(self) -> None:
        """θ* ← θ* + α·(θ − θ*)."""
        self.move() if self.alpha == 1 else self.follow(self.alpha)

    @torch.no_grad()
    def move(self) -> None:
        """θ* ← θ."""
        if self.weights:
            torch._foreach_copy_(self.weights, self.parameters)
        else:
            self.weights = [p.detach().clone() for p in self.parameters]
        self._moved()

    @torch.no_grad()
    def follow(self, rate: float) -> None:
        """Go a share of the way to the weights: θ* ← θ* + rate·(θ − θ*)."""
        torch._foreach_lerp_(self.weights, self.parameters, rate)
        self._moved()

    def _moved(self) -> None:
        self.squared_norm = self._norm(self.weights) ** 2
        self.moves += 1

    def named_weights(self, module: torch.nn.Module) -> dict[str, torch.Tensor]:
        """θ* by the parameters' names in `module`, for torch.func.functional_call."""
        weight_of = {id(p): w for p, w in zip(self.parameters, self.weights, strict=True)}
        return {name: weight_of[id(p)] for name, p in module.named_parameters() if id(p) in weight_of}

    @torch.no_grad()
    def drift(self) -> float:
        """Relative squared distance Σ‖θ − θ*‖² / Σ‖θ*‖²: dimensionless, ≥ 0, in every mode; from an anchor at 0, 0 or inf."""
        self._kept, displacement = None, self._displacement()
        if self.keeps_displacement and self.in_force:
            self._kept = self._versions(), displacement
        omega = float(torch.linalg.vector_norm(self._flat)) ** 2 if self._flat is not None else self._norm(displacement) ** 2
        return omega / self.squared_norm if self.squared_norm else math.inf if omega else 0.0

    @torch.no_grad()
    def add_penalty_gradient(self, lambda_ockham: float) -> None:
        """Add ∇(λΩ) = 2λ(θ − θ*), and 2λF(θ − θ*), to the gradients, analytically: no graph, no second backward."""
        plain, weighted = (lambda_ockham * self.scales[kind] * (kind in self.kinds) for kind in ("l2", "fisher"))
        if not (plain or (weighted and self.importance)):
            return
        displacement = self._fresh_displacement()
        has = [(i, p.grad) for i, p in enumerate(self.parameters) if p.grad is not None]
        grads, moved = [grad for _, grad in has], [displacement[i] for i, _ in has]
        if plain:
            torch._foreach_add_(grads, moved, alpha=2 * plain)
        if weighted and self.importance:
            torch._foreach_addcmul_(grads, moved, [self.importance[i] for i, _ in has], value=2 * weighted)

    @torch.no_grad()
    def pull(self, groups: Iterable[Mapping[str, Any]], lambda_ockham: float) -> None:
        """The `decoupled` kind: θ ← θ − min(1, lr·λ)·(θ − θ*), with the learning rate of each parameter's group."""
        strength = lambda_ockham * self.scales["decoupled"] * ("decoupled" in self.kinds)
        if not strength:
            return
        rate_of = {id(p): min(1.0, group["lr"] * strength) for group in groups for p in group["params"]}
        for p, moved in zip(self.parameters, self._fresh_displacement(), strict=True):
            p.sub_(moved, alpha=rate_of.get(id(p), 0.0))

    def observe(self, val_loss: float, iter_num: int) -> bool:
        """Hear an evaluation; True when it puts the penalty in force (`auto`, from scratch)."""
        if self.in_force or self.penalize == "never":
            return False
        if val_loss < self.best_loss:
            self.best_loss, self.evaluations_without_gain = val_loss, 0
            self.move()
            return False
        self.evaluations_without_gain += 1
        if self.evaluations_without_gain >= self.patience:
            self.in_force, self.engaged_at = True, iter_num
        return self.in_force

    @property
    def status(self) -> str:
        """For people: 'on', 'off' or 'engaged at N'."""
        if self.engaged_at is not None:
            return f"engaged at {self.engaged_at}"
        return "on" if self.in_force else "off"

    def _fresh_displacement(self) -> list[torch.Tensor]:
        """θ − θ*: that of the last drift, where nothing was written since."""
        if self._kept is not None and self._kept[0] == self._versions():
            return self._kept[1]
        return self._displacement()

    def _displacement(self) -> list[torch.Tensor]:
        """θ − θ*, written into one buffer that is kept: new memory for it at every step would cost as much as the subtraction."""
        if self._flat is None:
            if len({(p.dtype, p.device) for p in self.parameters}) > 1:
                return list(torch._foreach_sub(self.parameters, self.weights))
            self._flat = self.parameters[0].new_empty(sum(p.numel() for p in self.parameters))
            pieces = self._flat.split([p.numel() for p in self.parameters])
            self._pieces = [piece.view(p.shape) for piece, p in zip(pieces, self.parameters, strict=True)]
        if self._flat.device.type == "cpu":
            for p, weight, piece in zip(self.parameters, self.weights, self._pieces, strict=True):
                torch.sub(p, weight, out=piece)
        else:  # few kernels rather than little memory traffic
            torch._foreach_copy_(self._pieces, self.parameters)
            torch._foreach_sub_(self._pieces, self.weights)
        return self._pieces

    def _versions(self) -> list[int]:
        """torch's counts of what was written in place; writes through `.data` are not counted."""
        return [t._version for t in (*self.parameters, *self.weights)]

    @staticmethod
    def _norm(tensors: list[torch.Tensor]) -> float:
        return float(torch.nn.utils.get_total_norm(tensors))

    def state_dict(self) -> dict[str, Any]:
        """The anchor's weights and mode."""
        plain = {k: getattr(self, k) for k in ("penalize", "in_force", "engaged_at", "best_loss", "evaluations_without_gain")}
        importance = None if self.importance is None else [f.clone() for f in self.importance]
        return {"weights": [w.clone() for w in self.weights], "importance": importance, **plain}

    @torch.no_grad()
    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take over weights and mode: the mode is decided once in a run's life. Raises ShapeError when they do not fit."""
        weights = state["weights"]
        if [w.shape for w in weights] != [p.shape for p in self.parameters]:
            raise ShapeError("the checkpoint's anchor has other shapes than the model's trainable parameters")
        if state["penalize"] not in PENALIZE:
            raise CheckpointError(f"the checkpoint's anchor mode is {state['penalize']!r}, not one of {', '.join(PENALIZE)}")
        for mine, saved in zip(self.weights, weights, strict=True):
            mine.copy_(saved)
        if (saved := state.get("importance")) is not None:  # version 0.3.0 had none
            if [f.shape for f in saved] != [p.shape for p in self.parameters]:
                raise ShapeError("the checkpoint's Fisher information has other shapes than the model's trainable parameters")
            self.importance = [torch.empty_like(p).copy_(f) for p, f in zip(self.parameters, saved, strict=True)]
        for key in ("penalize", "in_force", "engaged_at", "best_loss", "evaluations_without_gain"):
            setattr(self, key, state[key])
        self._moved()
