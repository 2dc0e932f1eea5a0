"""What an optimizer class does with its options, tried on a parameter of no consequence before the model's are touched."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch

from ..errors import ConfigError


def probe_parameter(device: torch.device, ndim: int = 2, dtype: torch.dtype = torch.float32) -> torch.nn.Parameter:
    """A small parameter with a gradient of ones; it draws from no random generator."""
    probe = torch.nn.Parameter(torch.ones([2] * ndim, device=device, dtype=dtype))
    probe.grad = torch.ones_like(probe)
    return probe


def check_options(cls: Any, lr: float, arguments: Mapping[str, Any], device: torch.device) -> None:
    """Raises ConfigError when the class cannot be built with the arguments or make a step, naming the argument that it is."""
    failure = failure_of(cls, lr, arguments, device)
    if not failure:
        return
    for key, value in arguments.items():
        value = list(value) if isinstance(value, tuple) else value
        rest = {k: v for k, v in arguments.items() if k != key}
        if not failure_of(cls, lr, rest, device):
            raise ConfigError(f"optimizer.{key} = {value} does not work in {cls.__name__} on {device.type}: {failure}")
    raise ConfigError(f"optimizer.type {cls.__name__} does not work on {device.type} with {dict(arguments)}: {failure}")


def failure_of(cls: Any, lr: float, arguments: Mapping[str, Any], device: torch.device) -> str:
    """Why the class cannot make a step, in a line; '' where it can."""
    probe = probe_parameter(device)
    try:
        cls([probe], lr=lr, **arguments).step()
    except Exception as error:  # another package's class: whatever it raises, the options are why
        return (str(error).splitlines() or [type(error).__name__])[0]
    return ""


def missing_state(optimizer: torch.optim.Optimizer, group: Mapping[str, Any], parameter: torch.Tensor) -> str:
    """The first entry that a step would look for in a parameter's state and not find; '' where it finds all."""
    held = optimizer.state[parameter]
    probe = probe_parameter(parameter.device, parameter.ndim, parameter.dtype)
    own = {key: value for key, value in group.items() if key not in ("params", "param_names")}
    cls: Any = type(optimizer)
    fresh = cls([{**own, "params": [probe]}], lr=group["lr"])
    fresh.step()
    fresh.state[probe] = {key: value for key, value in fresh.state[probe].items() if key in held}
    try:
        fresh.step()
    except KeyError as error:
        return str(error.args[0])
    return ""
