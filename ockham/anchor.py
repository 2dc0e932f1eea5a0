"""The anchor: weights that drift is measured from and paid against, and when the penalty is in force."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any

import torch

from .errors import CheckpointError, ShapeError

PENALIZE = ("auto", "always", "never")


class Anchor:
    """θ*, the drift Ω(Δθ) = Σ‖θ − θ*‖² over trainable parameters (tied weights once), and the mode of its penalty.

    Modes: `always` penalises from the start; `never` only measures; `auto` is `always` for weights that were brought in.
    From scratch, `auto` lets every improving evaluation move the anchor to the weights, and puts the penalty in force at
    the `patience`-th evaluation in a row that does not improve; the anchor is then the best state so far.
    Source of the penalty: L2-SP, Li et al. 2018 (arXiv:1802.01483).
    """

    def __init__(
        self, parameters: Iterable[torch.nn.Parameter], penalize: str = "always", brought_in: bool = True, patience: int = 2
    ):
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
        self.squared_norm = 0.0
        self.moves = 0  # grows whenever the weights change, also by loading; tells that what was computed from them is stale
        self.move()

    @torch.no_grad()
    def move(self) -> None:
        """Consolidate: θ* ← θ."""
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
        omega = self._norm(displacement) ** 2
        return omega / self.squared_norm if self.squared_norm else math.inf if omega else 0.0

    @torch.no_grad()
    def add_penalty_gradient(self, lambda_ockham: float) -> None:
        """Add ∇(λΩ) = 2λ(θ − θ*) to the gradients, analytically: no graph, no second backward."""
        if lambda_ockham:
            is_fresh = self._kept is not None and self._kept[0] == self._versions()
            displacement = self._kept[1] if self._kept and is_fresh else self._displacement()
            pairs = [(p.grad, d) for p, d in zip(self.parameters, displacement, strict=True) if p.grad is not None]
            torch._foreach_add_([g for g, _ in pairs], [d for _, d in pairs], alpha=2 * lambda_ockham)

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

    def _displacement(self) -> list[torch.Tensor]:
        return list(torch._foreach_sub(self.parameters, self.weights))

    def _versions(self) -> list[int]:
        """torch's counts of what was written in place; writes through `.data` are not counted."""
        return [t._version for t in (*self.parameters, *self.weights)]

    @staticmethod
    def _norm(tensors: list[torch.Tensor]) -> float:
        return float(torch.nn.utils.get_total_norm(tensors))

    def state_dict(self) -> dict[str, Any]:
        """The anchor's weights and mode."""
        plain = {k: getattr(self, k) for k in ("penalize", "in_force", "engaged_at", "best_loss", "evaluations_without_gain")}
        return {"weights": [w.clone() for w in self.weights], **plain}

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
        for key in ("penalize", "in_force", "engaged_at", "best_loss", "evaluations_without_gain"):
            setattr(self, key, state[key])
        self._moved()
