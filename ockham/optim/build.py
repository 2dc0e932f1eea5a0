"""From an OptimizerConfig to a torch optimizer: the class by name, its keyword arguments checked, decay by group."""

from __future__ import annotations

import inspect
from typing import Any

import torch

from ..config import OptimizerConfig
from ..errors import ConfigError, nearest
from .groups import Named, parameter_groups, trainable
from .together import Together

ADAMW_PART = {"adamw_lr": 1e-3, "adamw_weight_decay": 0.1, "betas": (0.9, 0.95), "eps": 1e-8}  # options of Muon that AdamW takes


def optimizer_class(name: str) -> Any:
    """A public class of torch.optim by its name. Raises ConfigError naming the nearest one."""
    found = getattr(torch.optim, name, None)
    if isinstance(found, type) and issubclass(found, torch.optim.Optimizer) and found is not torch.optim.Optimizer:
        return found
    known = [n for n, c in vars(torch.optim).items() if isinstance(c, type) and issubclass(c, torch.optim.Optimizer)]
    raise ConfigError(f"optimizer.type must be a class of torch.optim, got {name!r}{nearest(name, known)}")


def keyword_arguments(cls: type, config: OptimizerConfig, device: torch.device) -> dict[str, Any]:
    """What the class is called with. Raises ConfigError for an option that its signature does not have."""
    allowed = inspect.signature(cls).parameters
    for key in config.options:
        if key not in allowed and not (cls is torch.optim.Muon and key in ADAMW_PART):
            raise ConfigError(f"optimizer.{key} is not taken by {config.type}{nearest(key, allowed)}")
    given = {k: tuple(v) if isinstance(v, list) else v for k, v in config.options.items() if k in allowed}
    if config.fused and "fused" in allowed:
        given["fused"] = True
    return given


def build_optimizer(
    model: torch.nn.Module, config: OptimizerConfig, device: torch.device
) -> tuple[torch.optim.Optimizer, list[str]]:
    """The optimizer for a model, and what had to be said about it (a fused kernel that is not there)."""
    cls, named, notes = optimizer_class(config.type), trainable(model), []
    if config.fused and "fused" not in inspect.signature(cls).parameters:
        notes.append(f"optimizer.fused: {config.type} has no fused kernel; the ordinary one is used")
    arguments = keyword_arguments(cls, config, device)
    if cls is torch.optim.Muon:
        return _muon(named, config, arguments), notes
    groups = parameter_groups(named, config.weight_decay, config.auto_param_groups)
    try:
        return cls(groups, lr=config.lr, **arguments), notes
    except (RuntimeError, ValueError) as error:
        if "fused" not in str(error) or not arguments.pop("fused", False):
            raise ConfigError(f"optimizer {config.name}: {error}") from error
        notes.append(f"optimizer.fused: not on {device.type} ({error}); the ordinary kernel is used")
        return cls(groups, lr=config.lr, **arguments), notes


def _muon(named: Named, config: OptimizerConfig, arguments: dict[str, Any]) -> Together:
    """Muon for the hidden 2-D matrices, AdamW for embeddings, head, norms and biases.

    Source: Jordan et al. 2024, Muon (kellerjordan.github.io/posts/muon).
    """
    own = {**ADAMW_PART, **{k: v for k, v in config.options.items() if k in ADAMW_PART}}
    hidden = [(n, p) for n, p in named if p.ndim == 2 and not any(part in n for part in ("wte", "wpe", "lm_head", "embed"))]
    chosen = {id(p) for _, p in hidden}
    rest = [(n, p) for n, p in named if id(p) not in chosen]
    arguments.pop("eps", None)
    muon = torch.optim.Muon([p for _, p in hidden], lr=config.lr, weight_decay=config.weight_decay, **arguments)
    groups = parameter_groups(rest, own["adamw_weight_decay"], config.auto_param_groups)
    return Together(muon, torch.optim.AdamW(groups, lr=own["adamw_lr"], betas=tuple(own["betas"]), eps=own["eps"]))
