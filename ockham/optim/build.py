"""From an OptimizerConfig to a torch optimizer: the class by name, its keyword arguments checked, decay by group, Lookahead."""

from __future__ import annotations

import inspect
from typing import Any

import torch

from ..config import OptimizerConfig
from ..errors import ConfigError, nearest
from .classes import arguments_of, classes_taking, extra, optimizer_class, takes_weight_decay
from .groups import Named, check_patterns, parameter_groups, trainable
from .probe import check_options
from .together import Together

ADAMW_PART = {"adamw_lr": 1e-3, "adamw_weight_decay": 0.1, "betas": (0.9, 0.95), "eps": 1e-8}  # options of Muon that AdamW takes
FIRST_LR_ALONE = ("Rprop",)  # classes that look at lr in their first step only; they then adapt a size of step for every weight
NOT_HIDDEN = ("wte", "wpe", "lm_head", "embed")  # matrices that look up or read out: AdamW's, also where Muon is chosen


def build_optimizer(
    model: torch.nn.Module, config: OptimizerConfig, device: torch.device
) -> tuple[torch.optim.Optimizer, list[str]]:
    """The optimizer for a model, and what had to be said about it: a kernel that is not there, an option without effect.

    Raises ConfigError for a class, an option or a pattern that cannot be used, WorldError for a package that is not installed.
    """
    cls, named, notes = optimizer_class(config.type), trainable(model), list[str]()
    check_patterns(named, config.auto_param_groups)
    if config.weight_decay and not takes_weight_decay(config.type):
        notes.append(f"optimizer.weight_decay = {config.weight_decay:g} has no effect: {config.type} has no weight decay")
    if config.type in FIRST_LR_ALONE:
        notes.append(
            f"optimizer.lr = {config.lr:g} is the size of {config.type}'s first step alone: a schedule has no effect on the rest"
        )
    build = _muon if cls is torch.optim.Muon else _single
    try:
        optimizer = build(cls, named, config, keyword_arguments(config), device, notes)
    except (ValueError, TypeError, RuntimeError) as error:
        raise ConfigError(f"optimizer {config.name}: {error}") from error
    if config.lookahead.enabled:
        optimizer = extra("pytorch_optimizer", "Lookahead")(optimizer, k=config.lookahead.k, alpha=config.lookahead.alpha)
    return optimizer, notes


def keyword_arguments(config: OptimizerConfig) -> dict[str, Any]:
    """The class's own options. Raises ConfigError for one that its signature does not have, naming the classes that take it."""
    allowed = arguments_of(config.type)
    own = {key: value for key, value in config.options.items() if config.type != "Muon" or key not in ADAMW_PART}
    for key in own:
        if key not in allowed:
            having = classes_taking(key)
            hint = f"; {', '.join(having)} take it" if having else nearest(key, allowed)
            raise ConfigError(f"optimizer.{key} is not taken by {config.type}{hint}")
    return {key: tuple(value) if isinstance(value, list) else value for key, value in own.items()}


def _single(
    cls: Any, named: Named, config: OptimizerConfig, arguments: dict[str, Any], device: torch.device, notes: list[str]
) -> torch.optim.Optimizer:
    check_options(cls, config.lr, arguments, device)
    groups = parameter_groups(named, config.weight_decay, config.auto_param_groups)
    if config.fused:
        arguments |= fused_if_there(cls, arguments, device, notes)
    return cls(groups, lr=config.lr, **arguments)


def _muon(
    cls: Any, named: Named, config: OptimizerConfig, arguments: dict[str, Any], device: torch.device, notes: list[str]
) -> torch.optim.Optimizer:
    """Muon for the hidden 2-D matrices, AdamW for embeddings, head, norms and biases.

    Source: Jordan et al. 2024, Muon (kellerjordan.github.io/posts/muon).
    """
    own = {**ADAMW_PART, **{k: v for k, v in config.options.items() if k in ADAMW_PART}}
    hidden = [(n, p) for n, p in named if p.ndim == 2 and not any(part in n for part in NOT_HIDDEN)]
    if not hidden:
        raise ConfigError("optimizer muon: the model has no hidden 2-D matrices; use optimizer=adamw")
    rest = [(n, p) for n, p in named if id(p) not in {id(q) for _, q in hidden}]
    check_options(cls, config.lr, arguments, device)
    muon = cls(parameter_groups(hidden, config.weight_decay, config.auto_param_groups), lr=config.lr, **arguments)
    if not rest:
        return muon
    adamw = {"betas": tuple(own["betas"]), "eps": own["eps"]}
    check_options(torch.optim.AdamW, own["adamw_lr"], adamw, device)
    if config.fused:
        adamw |= fused_if_there(torch.optim.AdamW, adamw, device, notes)
        notes.append("optimizer.fused: Muon has no fused kernel; it is used for the AdamW part alone")
    groups = parameter_groups(rest, own["adamw_weight_decay"], config.auto_param_groups)
    return Together(muon, torch.optim.AdamW(groups, lr=own["adamw_lr"], **adamw))


def fused_if_there(cls: Any, arguments: dict[str, Any], device: torch.device, notes: list[str]) -> dict[str, Any]:
    """{"fused": True} if the class has a fused kernel that makes a step on the device; else {}, and a note of it."""
    name = cls.__name__
    if "fused" not in inspect.signature(cls).parameters:
        notes.append(f"optimizer.fused: {name} has no fused kernel; the ordinary one is used")
        return {}
    probe = torch.zeros(1, device=device, requires_grad=True)
    probe.grad = torch.zeros_like(probe)
    try:
        cls([probe], **{**arguments, "foreach": None, "fused": True}).step()
    except RuntimeError as error:
        notes.append(f"optimizer.fused: not on {device.type} ({str(error).splitlines()[0]}); the ordinary kernel is used")
        return {}
    return {"fused": True}
