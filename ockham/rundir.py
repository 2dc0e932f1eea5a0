"""A run's folder: checkpoints, journal and summary of one run, and how a run is opened, resumed, rolled back and ended."""

from __future__ import annotations

import dataclasses
import json
import math
import shutil
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from . import checkpoint
from .audit.place import own_json
from .context import OccamContext
from .errors import CheckpointError, ConfigError, TrainingError
from .evaluation import Evaluation
from .files import write_text
from .journal import DecisionLog, Journal
from .learner import OckhamLearner
from .memory import OckhamMemory

RUN_FILES = (
    "ckpt.pt",
    "last.pt",
    "start.pt",
    "journal.jsonl",
    "decisions.jsonl",
    "config.yaml",
    "audit.md",
    "audit.json",
    "summary.json",
    "report.html",
    "job.json",
)
RUN_FOLDERS = ("memory", "tensorboard", "wandb")
FLUSH_EVERY_S = 2.0
MAX_RETURNS = 3


def holds_run(out_dir: Path) -> bool:
    """Whether a folder has a run's checkpoints or journal."""
    return any((out_dir / name).exists() for name in ("ckpt.pt", "last.pt", "journal.jsonl"))


def check_free(out_dir: Path) -> None:
    """Raises ConfigError for a folder that holds a run, or a sweep, whose jobs are folders in it."""
    if holds_run(out_dir):
        raise ConfigError(
            f"out_dir {out_dir} already holds a run: --init_from=resume goes on with it, --overwrite=True replaces it, "
            f"another --out_dir keeps it"
        )
    if (out_dir / "sweep.json").exists():
        raise ConfigError(
            f"out_dir {out_dir} holds a sweep: -m --init_from=resume goes on with it, another --out_dir keeps the run apart"
        )


def claim(out_dir: Path, overwrite: bool) -> None:
    """Make an empty run folder; with `overwrite` by removing a run's own files. Raises ConfigError where it is not free."""
    if not overwrite:
        check_free(out_dir)
    elif holds_run(out_dir):
        for path in (own_json(out_dir), *(out_dir / name for name in RUN_FILES)):  # the first is named in config.yaml
            if path:
                path.unlink(missing_ok=True)
        for name in RUN_FOLDERS:
            shutil.rmtree(out_dir / name, ignore_errors=True)
    try:
        out_dir.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise TrainingError(f"cannot make out_dir {out_dir}: {error}; choose another --out_dir") from error


class Run:
    """What one run writes. Ranks other than the first take part in gathering but write nothing.

    `model` is the raw module (neither compiled nor wrapped); `config` the flat mapping that ckpt.pt carries.
    """

    def __init__(
        self,
        out_dir: Path,
        learner: OckhamLearner,
        model: torch.nn.Module,
        model_args: Mapping[str, Any],
        config: Mapping[str, Any],
        always_save: bool = False,
        memory: OckhamMemory | None = None,
    ):
        self.out_dir, self.learner, self.model = out_dir, learner, model
        self.model_args, self.config, self.always_save = dict(model_args), dict(config), always_save
        self.ranks = learner.ranks
        self.best_val_loss = math.inf
        self.final_evaluation: Evaluation | None = None
        self.evaluated_at = -1
        self.rolled_back = False
        self.train_s = 0.0
        self.drift = 0.0  # after the last step; an improving evaluation then moves the anchor
        self.wall_s_before = 0.0
        self.started = self.flushed = time.monotonic()
        self.journal, self.decisions = Journal(None), DecisionLog(None)
        self.is_open = False
        self.returns = (-1, 0)  # the iteration that plugins asked to go back to, and how often in a row
        self.memory = memory
        if memory:
            memory.keeper = self

    LOOP = ("best_val_loss", "evaluated_at", "rolled_back", "train_s", "drift")

    @property
    def wall_s(self) -> float:
        """Seconds since the run began, over all its sessions."""
        return self.wall_s_before + time.monotonic() - self.started

    def begin(self) -> None:
        """Start a new journal."""
        self._open(0, 0)

    def _open(self, journal_bytes: int, decisions_bytes: int) -> None:
        """The journal and, where there is a memory, the log of its decisions, as far as the checkpoint knows them."""
        self.journal = Journal(self._main(self.out_dir / "journal.jsonl"), journal_bytes)
        if self.memory:
            self.decisions = DecisionLog(self._main(self.out_dir / "decisions.jsonl"), decisions_bytes)
        self.is_open = True

    def _main(self, path: Path) -> Path | None:
        return path if self.ranks.is_main else None

    def save_complete(self, name: str = "last.pt") -> None:
        """Everything a bit-exact continuation needs, to last.pt (or start.pt)."""
        self.journal.write("checkpoint", self.learner.iter_num, file=name)
        state = self.capture()
        if self.ranks.is_main:
            checkpoint.save(state, self.out_dir / name)
        self.ranks.barrier()

    def capture(self) -> dict[str, Any]:
        """The complete state, its tensors the live ones; all ranks call it together."""
        loop = {key: getattr(self, key) for key in self.LOOP}
        written = {"journal_bytes": self.journal.flush(), "decisions_bytes": self.decisions.flush()}
        return {
            "format": checkpoint.FORMAT,
            "model": self.model.state_dict(),
            "evaluated": self._evaluated_in_its_place(),
            "model_args": self.model_args,
            "learner": self.learner.state_dict(),
            "loop": {**loop, **written, "wall_s": self.wall_s, "memory": self.memory.state_dict() if self.memory else None},
            "rng": self.ranks.gather(checkpoint.random_state(self.ranks.device)),
            "config": self.config,
        }

    def _evaluated_in_its_place(self) -> dict[str, torch.Tensor] | None:
        """The weights that are evaluated where those are not the trained ones: averaged, or Lookahead's slow ones."""
        if not self.learner.evaluates_others:
            return None
        with self.learner.evaluated_weights():
            return {name: weight.clone() for name, weight in self.model.state_dict().items()}

    def restore(self, state: Mapping[str, Any]) -> None:
        """Weights, optimizer, anchor and plugins of a complete state of this run; clock and ledger go on."""
        now, updates, paid = self.learner.iter_num, self.learner.updates, self.learner.ledger.state_dict()
        self.model.load_state_dict(state["model"])
        self.learner.load_state_dict(state["learner"])
        self.learner.ledger.load_state_dict(paid)
        self.learner.iter_num, self.learner.updates = now, updates

    def resume(self, state: Mapping[str, Any]) -> None:
        """Take over a complete state and cut the journal back to it; the model has its weights already.

        Raises CheckpointError when the state does not fit this run.
        """
        if len(state["rng"]) != self.ranks.world:
            raise CheckpointError(
                f"last.pt was written by {len(state['rng'])} ranks, this run has {self.ranks.world}; start as many"
            )
        try:
            self.learner.load_state_dict(state["learner"])
        except (KeyError, ValueError, RuntimeError) as error:
            was, now = state["config"].get("dtype"), self.config.get("dtype")
            is_dtype = was != now and isinstance(error, RuntimeError)  # the loss scaler's word
            what = f"dtype: it has {now}, last.pt was made with {was}" if is_dtype else f"optimizer: {error}"
            raise CheckpointError(
                f"last.pt does not fit this run's {what}; resume with what it was started with, or start anew from "
                f"{self.out_dir}/ckpt.pt"
            ) from error
        for key in self.LOOP:
            setattr(self, key, state["loop"][key])
        self.wall_s_before = state["loop"]["wall_s"]
        checkpoint.restore_random_state(state["rng"][self.ranks.rank], self.ranks.device)
        self._open(state["loop"]["journal_bytes"], state["loop"].get("decisions_bytes", 0))
        if self.memory and state["loop"].get("memory"):
            self.memory.load_state_dict(state["loop"]["memory"])
        self.journal.write("resume", self.learner.iter_num)

    def roll_back(self) -> None:
        """After too many non-finite steps: weights, optimizer, anchor and plugins of last.pt; clock and ledger go on.

        Once in a run. Raises TrainingError the second time.
        """
        nonfinite = self.learner.nonfinite_in_a_row
        if self.rolled_back:
            self.journal.close()
            raise TrainingError(
                f"{nonfinite} non-finite steps in a row at iteration {self.learner.iter_num}, again after a roll-back; "
                f"lower the learning rate, add warm-up, or use dtype=bfloat16 or float32"
            )
        self.return_to(checkpoint.load_complete(self.out_dir), "NONFINITE", nonfinite=nonfinite)
        self.learner.nonfinite_in_a_row, self.rolled_back = 0, True

    def return_to(self, state: Mapping[str, Any], reason_code: str, **figures: Any) -> int:
        """Go back to a complete state of this run, on record; the iteration that it is from."""
        self.restore(state)
        back_to: int = state["learner"]["counters"]["iter_num"]
        self.journal.write("rollback", self.learner.iter_num, to=back_to, reason_code=reason_code, **figures)
        return back_to

    def return_to_kept(self, reason: str) -> int:
        """Go back to the state that the memory accepted last, else to last.pt, as a plugin asks; the iteration it is from.

        Raises TrainingError where the same state has not helped MAX_RETURNS times: it would lead to the same place for ever.
        """
        kept = self.memory.latest if self.memory else None
        state = self.memory.load(kept) if self.memory and kept and kept.is_available else checkpoint.load_complete(self.out_dir)
        target = state["learner"]["counters"]["iter_num"]
        self.returns = (target, self.returns[1] + 1) if self.returns[0] == target else (target, 1)
        if self.returns[1] > MAX_RETURNS:
            self.journal.close()
            raise TrainingError(
                f"{reason}; the state of iteration {target} has been gone back to {MAX_RETURNS} times already; "
                f"lower the learning rate, raise lambda_ockham, or raise the plugin's threshold"
            )
        return self.return_to(state, "PLUGIN", message=reason)

    def record_step(self, ctx: OccamContext, seconds: float) -> None:
        """Journal a step, and what came with it."""
        self.train_s += seconds
        self.drift = ctx.metrics["drift"]
        ledger = self.learner.ledger
        self.journal.step(ctx, ledger.tokens, ledger.units, seconds * 1e3)
        if ctx.consolidation_cause:
            self.journal.write("consolidate", ctx.iter_num, cause=ctx.consolidation_cause, alpha=1.0)
        for notice in ctx.notices:
            self.journal.write("warning", ctx.iter_num, message=notice)
        if time.monotonic() - self.flushed > FLUSH_EVERY_S:
            self.flushed = time.monotonic()
            self.journal.flush()

    def record_evaluation(self, evaluation: Evaluation, is_last: bool = False) -> bool:
        """Journal an evaluation, save ckpt.pt when it is the best, let the learner hear it; True when the penalty engaged.

        After the last one nothing is learned any more, so the learner is not told.
        """
        self.evaluated_at = self.learner.iter_num
        self.final_evaluation = evaluation if is_last else None
        self._journal_evaluation(evaluation)
        if self.memory:
            self._decide(self.memory, evaluation)
        engaged = not is_last and self.learner.observe(evaluation.val_loss)
        if engaged:
            self.journal.write("engage", self.learner.iter_num, best_val_loss=self.learner.anchor.best_loss)
        improved = evaluation.val_loss < self.best_val_loss
        if improved:
            self.best_val_loss = evaluation.val_loss
        if improved or self.always_save:
            self.save_for_inference()
        return engaged

    def _decide(self, memory: OckhamMemory, evaluation: Evaluation) -> None:
        """Let the memory judge the state that was evaluated, and keep it if it passes."""
        ctx = self.learner.evaluated_context(evaluation.val_loss, self.drift)
        accepted, reason_code = memory.should_accept_update(ctx, memory.latest)
        figures = memory.last.to_dict() if memory.last else {}
        figures.pop("iter_num", None)
        self.decisions.decision(ctx, reason_code, figures)
        self.journal.write("memory", ctx.iter_num, **figures)
        if not accepted:
            return
        memory.save_checkpoint(self.model, ctx)
        if memory.consolidate_on_accept and self.learner.anchor.in_force:
            self.learner.consolidate(ctx)
            self.journal.write("consolidate", ctx.iter_num, cause="memory", alpha=1.0)

    def _journal_evaluation(self, evaluation: Evaluation) -> None:
        self.journal.write("eval", self.learner.iter_num, **dataclasses.asdict(evaluation))

    def record_final(self, evaluation: Evaluation) -> None:
        """Journal a sweep of the whole val split where training saw estimates: it is no match for their best."""
        self.final_evaluation = evaluation
        self._journal_evaluation(evaluation)

    def save_for_inference(self) -> None:
        """ckpt.pt, in nanoGPT's keys, with the weights that were evaluated."""
        if self.ranks.is_main:
            self.journal.write("checkpoint", self.learner.iter_num, file="ckpt.pt")
            with self.learner.evaluated_weights():
                state = checkpoint.inference_checkpoint(
                    self.model.state_dict(),
                    self.learner.optimizer.state_dict(),
                    self.model_args,
                    self.learner.iter_num,
                    self.best_val_loss,
                    self.config,
                )
                checkpoint.save(state, self.out_dir / "ckpt.pt")

    def summary(self, floor: float | None, best_is_estimate: bool = False) -> dict[str, Any]:
        """The figures of summary.json. Losses in nats/token, times in seconds; those of an unfinished run are None."""
        learner, ledger, final = self.learner, self.learner.ledger, self.final_evaluation
        return {
            "val_loss": final.val_loss if final else None,
            "train_loss": final.train_loss if final else None,
            "best_val_loss": self.best_val_loss if math.isfinite(self.best_val_loss) else None,
            "best_is_estimate": best_is_estimate,
            "floor": floor,
            "iters": learner.iter_num,
            "updates": learner.updates,
            "batches_learned": ledger.updates,  # micro-batches, as update_rate counts them
            "update_rate": ledger.update_rate,
            "update_rate_recent": ledger.update_rate_recent,
            "compute_units": ledger.units,
            "compute_saved": ledger.saved,
            "complexity_cost": self.drift,
            "consolidations": learner.consolidations,
            "rolled_back": self.rolled_back,
            "penalty": learner.anchor.status if learner.lambda_ockham else "off",
            "memory": {**self.memory.statistics, "kept": len(self.memory.snapshots)} if self.memory else None,
            "tokens": ledger.tokens,
            "tokens_per_s": ledger.tokens / self.train_s if self.train_s else 0.0,
            "wall_s": self.wall_s,
            "train_s": self.train_s,
        }

    def end(self, summary: Mapping[str, Any], reason: str) -> None:
        """Close the journal and write summary.json, with `stopped_by`: the reason of a run that did not come to its end."""
        self.journal.write("end", self.learner.iter_num, reason=reason)
        self.journal.close()
        self.decisions.close()
        if self.ranks.is_main:
            stopped_by = None if reason == "done" else reason
            write_text(self.out_dir / "summary.json", json.dumps({**summary, "stopped_by": stopped_by}, indent=2) + "\n")
