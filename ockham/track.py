"""Trackers beside the journal: Weights & Biases and TensorBoard, fed with the same figures and the rack's meters."""

from __future__ import annotations

import importlib.util
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol

from .config import RunConfig
from .context import OccamContext
from .errors import WorldError
from .evaluation import Evaluation
from .typed import to_mapping


class Tracker(Protocol):
    """Takes named scalars at a step."""

    def log(self, scalars: Mapping[str, float], step: int) -> None:
        """Record scalars at a step."""

    def close(self) -> None:
        """Finish."""


class WandbTracker:
    """Weights & Biases; WANDB_MODE=offline writes locally."""

    def __init__(self, config: RunConfig):
        import wandb

        name = config.wandb_run_name or Path(config.out_dir).name
        try:
            self.run = wandb.init(project=config.wandb_project, name=name, config=to_mapping(config), dir=config.out_dir)
        except Exception as error:  # no key, no network, no disk: the client has many kinds
            raise WorldError(f"W&B cannot start ({error}); wandb login, WANDB_MODE=offline, or leave wandb_log off") from error

    def log(self, scalars: Mapping[str, float], step: int) -> None:
        """Record scalars at a step."""
        self.run.log(dict(scalars), step=step)

    def close(self) -> None:
        """Finish the run."""
        self.run.finish()


class TensorBoardTracker:
    """TensorBoard event files under out_dir/tensorboard."""

    def __init__(self, config: RunConfig):
        from torch.utils.tensorboard import SummaryWriter

        self.writer: Any = SummaryWriter(str(Path(config.out_dir) / "tensorboard"))

    def log(self, scalars: Mapping[str, float], step: int) -> None:
        """Record scalars at a step."""
        for name, value in scalars.items():
            self.writer.add_scalar(name, value, step)

    def close(self) -> None:
        """Flush and close."""
        self.writer.close()


def check_trackers(config: RunConfig) -> None:
    """Raises WorldError when a tracker that is turned on is not installed: before anything is written, on every rank."""
    for library, is_on in (("wandb", config.wandb_log), ("tensorboard", config.tensorboard_log)):
        if is_on and importlib.util.find_spec(library) is None:
            raise WorldError(f"{library}_log=True needs {library}: pip install -e .[track], or leave it off")


class Trackers:
    """All trackers that a config turns on; none on ranks other than the first."""

    def __init__(self, config: RunConfig, is_main: bool):
        self.trackers: list[Tracker] = []
        if is_main and config.wandb_log:
            self.trackers.append(WandbTracker(config))
        if is_main and config.tensorboard_log:
            self.trackers.append(TensorBoardTracker(config))

    def step(self, ctx: OccamContext, mfu: float | None) -> None:
        """Loss, lr, λ, rates and drift, and every plugin's factors and lamps under rack/."""
        if self.trackers:
            scalars = {
                "iter/loss": ctx.task_loss,
                "iter/lr": ctx.learning_rate,
                "iter/lambda_ockham": ctx.lambda_ockham,
                "iter/grad_norm": ctx.grad_norm,
                "iter/updated": float(ctx.updated),
                "iter/update_rate": ctx.update_rate,
                "iter/complexity_cost": ctx.complexity_cost,
                **{f"rack/{k}": float(v) for k, v in ctx.metrics.items()},
            }
            self._log(scalars if mfu is None else {**scalars, "iter/mfu": mfu}, ctx.iter_num)

    def evaluation(self, result: Evaluation, step: int) -> None:
        """nanoGPT's series train/loss and val/loss."""
        self._log({"train/loss": result.train_loss, "val/loss": result.val_loss}, step)

    def _log(self, scalars: Mapping[str, float], step: int) -> None:
        for tracker in self.trackers:
            tracker.log(scalars, step)

    def close(self) -> None:
        """Close all."""
        for tracker in self.trackers:
            tracker.close()
