"""Ranks: who we are, on which device, and the few collectives by which all ranks reach one verdict."""

from __future__ import annotations

import os
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import torch
import torch.distributed as dist

from .errors import ConfigError, DeviceError


@dataclass(frozen=True)
class Ranks:
    """This process among its peers. World size 1 needs no process group: every collective is then the identity."""

    device: torch.device
    rank: int = 0
    local_rank: int = 0
    world: int = 1

    @property
    def is_main(self) -> bool:
        """Whether this rank prints, journals and saves."""
        return self.rank == 0

    def mean(self, total: torch.Tensor, count: float) -> float:
        """Σ total / Σ count over ranks, by one all-reduce, in float64: the same number on every rank."""
        if self.world == 1:
            return float(total) / count
        both = torch.stack([total.detach().double(), torch.tensor(count, dtype=torch.float64, device=total.device)])
        dist.all_reduce(both)
        return float(both[0] / both[1])

    def any(self, flag: bool) -> bool:
        """Whether the flag is up on any rank."""
        if self.world == 1:
            return flag
        up = torch.tensor(float(flag), device=self.device)
        dist.all_reduce(up, op=dist.ReduceOp.MAX)
        return bool(up)

    def average_(self, tensors: list[torch.Tensor]) -> None:
        """Replace each tensor by its mean over ranks, in place, by one all-reduce of them laid end to end."""
        if self.world == 1:
            return
        flat = torch.cat([t.reshape(-1) for t in tensors])
        dist.all_reduce(flat)
        flat /= self.world
        for tensor, piece in zip(tensors, flat.split([t.numel() for t in tensors]), strict=True):
            tensor.copy_(piece.view_as(tensor))

    def gather(self, value: Any) -> list[Any]:
        """The value of every rank, in rank order, on every rank."""
        if self.world == 1:
            return [value]
        values: list[Any] = [None] * self.world
        dist.all_gather_object(values, value)
        return values

    def barrier(self) -> None:
        """Wait until every rank is here."""
        if self.world > 1:
            dist.barrier()

    def close(self) -> None:
        """Leave the process group, all ranks together: one that leaves while another still works may abort."""
        if self.world > 1:
            dist.barrier()
            dist.destroy_process_group()


def pick_device(name: str, local_rank: int = 0) -> torch.device:
    """The torch device of a name: auto takes CUDA, then MPS, then CPU. Raises DeviceError when it is not there."""
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "mps" if torch.backends.mps.is_available() else "cpu"
    try:
        device = torch.device(name)
    except RuntimeError:
        raise ConfigError(f"device must be auto, cpu, cuda, cuda:N or mps, got {name!r}") from None
    if device.type == "cuda":
        if not torch.cuda.is_available():
            raise DeviceError(f"device={name} asked for, but this torch ({torch.__version__}) sees no CUDA; use --device=cpu")
        index = local_rank if device.index is None else device.index
        if index >= torch.cuda.device_count():
            raise DeviceError(f"device cuda:{index} asked for, but there are {torch.cuda.device_count()}; start fewer processes")
        return torch.device("cuda", index)
    if device.type == "mps" and not torch.backends.mps.is_available():
        raise DeviceError("device=mps asked for, but this machine has none; use --device=cpu")
    return device


def world_size() -> int:
    """How many processes torchrun started; 1 without it."""
    return int(os.environ.get("WORLD_SIZE", "1")) if "RANK" in os.environ else 1


def is_main_process() -> bool:
    """Whether this process is rank 0, known before any process group exists."""
    return int(os.environ.get("RANK", "0")) == 0


def join(device_name: str, backend: str) -> Ranks:
    """Find this process's place, joining torchrun's process group when there is one.

    `backend` auto is nccl on CUDA and gloo elsewhere. Raises DeviceError when device or backend is missing.
    """
    world, rank, local_rank = world_size(), int(os.environ.get("RANK", "0")), int(os.environ.get("LOCAL_RANK", "0"))
    if world > 1 and device_name == "auto" and not torch.cuda.is_available():
        device_name = "cpu"  # process groups know CUDA and CPU
    device = pick_device(device_name, local_rank)
    if device.type == "cuda":
        torch.cuda.set_device(device)
    if world > 1:
        chosen = ("nccl" if device.type == "cuda" else "gloo") if backend == "auto" else backend
        if device.type == "mps" or (chosen == "nccl" and device.type != "cuda"):
            raise DeviceError(
                f"{world} processes with backend {chosen} do not go with device {device.type}; use --device=cpu --backend=gloo"
            )
        try:
            dist.init_process_group(chosen, device_id=device if chosen == "nccl" else None)
        except (ValueError, RuntimeError) as error:
            raise DeviceError(f"cannot join the process group ({error}); start with torchrun") from error
    return Ranks(device=device, rank=rank, local_rank=local_rank, world=world)


def gradients(parameters: Iterable[torch.nn.Parameter]) -> list[torch.Tensor]:
    """The gradients that exist, in parameter order."""
    return [p.grad for p in parameters if p.grad is not None]
