"""Precision: which dtype a device gets, the autocast region of a forward, and the gradient scaler of fp16."""

from __future__ import annotations

import contextlib
from contextlib import AbstractContextManager
from dataclasses import dataclass, field

import torch

from .config import OptimizerConfig
from .errors import ConfigError, DeviceError

DTYPES = {"float64": torch.float64, "float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}


@dataclass
class Precision:
    """Weights stay in float32 (float64 where asked); forwards run under autocast for bfloat16 and float16."""

    device_type: str = "cpu"
    dtype: torch.dtype = torch.float32
    scaler: torch.amp.GradScaler = field(init=False)

    def __post_init__(self) -> None:
        self.scaler = torch.amp.GradScaler(self.device_type, enabled=self.dtype == torch.float16)

    @property
    def name(self) -> str:
        """float32, bfloat16, …"""
        return str(self.dtype).removeprefix("torch.")

    def autocast(self) -> AbstractContextManager[None]:
        """The region in which forwards run."""
        if self.dtype in (torch.bfloat16, torch.float16):
            return torch.autocast(self.device_type, self.dtype)
        return contextlib.nullcontext()


def pick_precision(name: str, device: torch.device, optimizer: OptimizerConfig | None = None) -> Precision:
    """The precision of a name on a device; auto is bfloat16 on CUDA cards that have it, else float32.

    An optimizer that does not prefer bf16, or is not precision_safe, makes auto float32. Raises DeviceError for what the
    device cannot do, ConfigError for autocast with an optimizer that is not precision_safe.
    """
    optimizer = optimizer or OptimizerConfig()
    if name == "auto":
        wanted = device.type == "cuda" and optimizer.bf16_preferred and optimizer.precision_safe
        name = "bfloat16" if wanted and torch.cuda.is_bf16_supported() else "float32"
    dtype = DTYPES[name]
    if dtype in (torch.bfloat16, torch.float16) and not optimizer.precision_safe:
        raise ConfigError(
            f"dtype={name} with optimizer {optimizer.name}, which says precision_safe: false; "
            f"use --dtype=float32, or --optimizer.precision_safe=True"
        )
    if device.type == "mps" and dtype in (torch.float64,):
        raise DeviceError("dtype=float64 is not on mps; use --dtype=float32")
    if device.type == "cuda" and dtype == torch.bfloat16 and not torch.cuda.is_bf16_supported():
        raise DeviceError("dtype=bfloat16 asked for, but this card has none; use --dtype=float16")
    return Precision(device.type, dtype)
