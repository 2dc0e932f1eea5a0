"""Which parameter decays: every trainable parameter in exactly one group, tied weights once."""

from __future__ import annotations

from typing import Any

import torch

from ..config import ParamGroupConfig
from ..errors import ConfigError, nearest

Named = list[tuple[str, torch.nn.Parameter]]
DEFAULT_PATTERNS = ParamGroupConfig().no_decay_patterns  # written for many models; not every one has a batch norm


def trainable(model: torch.nn.Module) -> Named:
    """(name, parameter) of everything that trains; `named_parameters` gives tied weights once, under their first name."""
    return [(name, p) for name, p in model.named_parameters() if p.requires_grad]


def parameter_groups(named: Named, weight_decay: float, config: ParamGroupConfig) -> list[dict[str, Any]]:
    """Two groups: those that decay, and those whose name holds one of the no-decay patterns. Empty groups are left out.

    `param_names` is torch's own key: it goes into the saved state, so that a resumed run finds each parameter by its name.
    """

    def spared(name: str) -> bool:
        return config.enabled and any(pattern in name for pattern in config.no_decay_patterns)

    def group(members: Named, decay: float) -> dict[str, Any]:
        return {"params": [p for _, p in members], "param_names": [n for n, _ in members], "weight_decay": decay}

    groups = [
        group([(n, p) for n, p in named if not spared(n)], weight_decay),
        group([(n, p) for n, p in named if spared(n)], config.override_no_decay_weight),
    ]
    return [group for group in groups if group["params"]]


def check_patterns(named: Named, config: ParamGroupConfig) -> None:
    """Raises ConfigError for a pattern that is in no parameter's name, as it does nothing; the default list may hold such."""
    names = [name for name, _ in named]
    for pattern in config.no_decay_patterns if config.enabled and config.no_decay_patterns != DEFAULT_PATTERNS else ():
        if not any(pattern in name for name in names):
            words = {word for name in names for word in (name, *name.split("."))}
            raise ConfigError(
                f"optimizer.auto_param_groups.no_decay_patterns: {pattern!r} is in no parameter's name"
                f"{nearest(pattern, words)}; the names are like {names[0]}, {names[-1]}"
            )
