"""The optimizer classes that a config may name, and what each of them takes."""

from __future__ import annotations

import importlib
import inspect
from collections.abc import Mapping
from functools import cache
from typing import Any

import torch

from ..errors import ConfigError, WorldError, nearest

EXTRAS = {"Lion": "pytorch_optimizer"}  # class -> the package that has it
UNUSABLE = {
    "LBFGS": "it evaluates the loss several times in one step",
    "SparseAdam": "it takes sparse gradients only",
}


def torch_classes() -> dict[str, Any]:
    """The public optimizers of torch.optim by name, without those that a training step cannot serve."""
    found = {n: c for n, c in vars(torch.optim).items() if isinstance(c, type) and issubclass(c, torch.optim.Optimizer)}
    return {n: c for n, c in found.items() if c is not torch.optim.Optimizer and n not in UNUSABLE}


def optimizer_class(name: str) -> Any:
    """The class of a name. Raises ConfigError naming the nearest one, WorldError where its package is not installed."""
    if name in EXTRAS:
        return extra(EXTRAS[name], name)
    if name in torch_classes():
        return torch_classes()[name]
    if name == "Lookahead":
        raise ConfigError("optimizer.type: Lookahead wraps an optimizer: write optimizer=lookahead optimizer.base=sgd")
    if name in UNUSABLE:
        raise ConfigError(f"optimizer.type {name} cannot be used here: {UNUSABLE[name]}")
    known = [*torch_classes(), *EXTRAS]
    raise ConfigError(f"optimizer.type must be one of {', '.join(sorted(known))}, got {name!r}{nearest(name, known)}")


def extra(package: str, name: str) -> Any:
    """An attribute of an optional package. Raises WorldError with what to install."""
    try:
        return getattr(importlib.import_module(package), name)
    except ImportError as error:
        raise WorldError(f"{name} is in {package}, which is not installed: pip install -e '.[optim]'") from error


@cache
def arguments_of(name: str) -> Mapping[str, Any]:
    """The keyword arguments of a class with their defaults, but for the parameters and what its config states by other names."""
    taken = inspect.signature(optimizer_class(name)).parameters.values()
    named = [p for p in taken if p.kind in (p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY)]
    return {p.name: p.default for p in named if p.name not in ("params", "lr", "weight_decay", "fused")}


def kind_of_argument(name: str, argument: str) -> Any:
    """The type that a class's signature gives an argument: `bool | None`; Any where it gives none."""
    kind = inspect.signature(optimizer_class(name)).parameters[argument].annotation
    return Any if kind is inspect.Parameter.empty or isinstance(kind, str) else kind


def takes_weight_decay(name: str) -> bool:
    """Whether a class has weight decay at all; Rprop has none."""
    return "weight_decay" in inspect.signature(optimizer_class(name)).parameters


def classes_taking(argument: str) -> list[str]:
    """The classes that take a keyword argument."""
    return sorted(name for name in torch_classes() if argument in arguments_of(name))
