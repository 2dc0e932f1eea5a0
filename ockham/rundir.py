"""A run: its checkpoints, journal and summary, and how it is opened, resumed, rolled back and ended."""

from __future__ import annotations

import dataclasses
import json
import math
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from . import checkpoint, runfiles
from .context import OccamContext
from .errors import CheckpointError, TrainingError
from .evaluation import Evaluation
from .files import write_text
from .journal import Journal
from .judged import Judged, figures
from .learner import OckhamLearner
from .lock import FolderLock
from .memory import OckhamMemory
from .returns import Returns
from .runfiles import check_free, holds_run

__all__ = ["Run", "check_free", "claim", "holds_run"]
FLUSH_EVERY_S = 2.0


def claim(out_dir: Path, overwrite: bool) -> None:
    """See `runfiles.claim`. Raises WorldError where another process is training in the folder."""
    if out_dir.is_dir():
        FolderLock(out_dir).close()
    runfiles.claim(out_dir, overwrite)


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
        self.journal = Journal(None)
        self.is_open = False
        self.lock: FolderLock | None = None  # held while the run is open
        self.memory, self.judged, self.returns = memory, Judged(memory), Returns()
        self.notices: list[str] = []  # of the last evaluation, for people
        self.loop_before: dict[str, Any] | None = None  # during the last evaluation: what a snapshot holds in `loop`'s place
        if memory:
            memory.keeper = self

    LOOP = ("best_val_loss", "evaluated_at", "rolled_back", "train_s", "drift")

    @property
    def wall_s(self) -> float:
        """Seconds since the run began, over all its sessions."""
        return self.wall_s_before + time.monotonic() - self.started

    def begin(self) -> None:
        """Start a new journal."""
        self._open({})

    def _open(self, loop: Mapping[str, Any]) -> None:
        """The journal, and what is judged, as far as the checkpoint knows them. Raises WorldError while another trains there."""
        if self.ranks.is_main:
            self.out_dir.mkdir(parents=True, exist_ok=True)
            self.lock = FolderLock(self.out_dir)
        self.journal = Journal(self._main(self.out_dir / "journal.jsonl"), loop.get("journal_bytes", 0))
        self.judged.open(self._main(self.out_dir / "decisions.jsonl"), loop)
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
        return {
            "format": checkpoint.FORMAT,
            "model": self.model.state_dict(),
            "evaluated": self._evaluated_in_its_place(),
            "model_args": self.model_args,
            "learner": self.learner.state_dict(),
            "loop": self.loop_before or self._loop(),
            "rng": self.ranks.gather(checkpoint.random_state(self.ranks.device)),
            "config": self.config,
        }

    def _loop(self) -> dict[str, Any]:
        """The run's own part of a complete state, in plain values."""
        own = {key: getattr(self, key) for key in self.LOOP}
        written = {"journal_bytes": self.journal.flush(), **self.judged.state_dict()}
        return {**own, **written, "returns": self.returns.state_dict(), "wall_s": self.wall_s}

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
        self.drift = self.learner.drift

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
        self._open(state["loop"])
        if "returns" in state["loop"]:  # version 0.2.0 had none
            self.returns.load_state_dict(state["loop"]["returns"])
        self.journal.write("resume", self.learner.iter_num)

    def roll_back(self) -> None:
        """After too many non-finite steps: weights, optimizer, anchor and plugins of last.pt; clock and ledger go on.

        Once in a run. Raises TrainingError the second time.
        """
        nonfinite = self.learner.nonfinite_in_a_row
        if self.rolled_back:
            self.close()
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
        """Go back to an earlier state as a plugin asks, see `Returns`; the iteration it is from. Raises TrainingError.

        What was measured on the state at hand, or is with the earlier one, is not judged again.
        """
        try:
            state = self.returns.next_state(self.memory, self.out_dir, reason)
        except TrainingError:
            self.close()
            raise
        back_to = self.return_to(state, "PLUGIN", message=reason)
        self.learner.requested.results = {}
        return back_to

    def record_step(self, ctx: OccamContext, seconds: float) -> None:
        """Journal a step, and what came with it."""
        self.train_s += seconds
        self.drift = ctx.metrics["drift"]
        self.returns.heard(ctx)
        ledger = self.learner.ledger
        self.journal.step(ctx, ledger.tokens, ledger.units, seconds * 1e3)
        if ctx.consolidation_cause:
            self.journal.write("consolidate", ctx.iter_num, cause=ctx.consolidation_cause, alpha=self.learner.anchor.alpha)
        for notice in ctx.notices:
            self.journal.write("warning", ctx.iter_num, message=notice)
        if time.monotonic() - self.flushed > FLUSH_EVERY_S:
            self.flushed = time.monotonic()
            self.journal.flush()

    def record_evaluation(self, evaluation: Evaluation, is_last: bool = False) -> bool:
        """Journal an evaluation, let memory and learner hear it, save ckpt.pt when it is the best; True when the penalty engaged.

        After the last one nothing is learned any more, so the learner is not told. A snapshot is taken when all the rest is done:
        a run goes on from it as it went on then. That of the last evaluation is the state before it, so a run that goes on from
        there evaluates again and tells the learner.
        """
        self.loop_before = self._loop() if is_last and self.memory else None
        self.evaluated_at = self.learner.iter_num
        self.final_evaluation, self.notices = evaluation if is_last else None, []
        self._journal_evaluation(evaluation)
        ctx = self.learner.evaluated_context(evaluation.val_loss, self.drift)
        is_kept = self._judge(ctx, is_last)
        engaged = not is_last and self.learner.observe(evaluation.val_loss)
        if engaged:
            self.journal.write("engage", self.learner.iter_num, best_val_loss=self.learner.anchor.best_loss)
        improved = evaluation.val_loss < self.best_val_loss
        if improved:
            self.best_val_loss = evaluation.val_loss
        if improved or self.always_save:
            self.save_for_inference()
        if self.memory and is_kept:
            self._keep(self.memory, ctx)
        self.loop_before = None
        return engaged

    def _judge(self, ctx: OccamContext, is_last: bool) -> bool:
        """Whether the memory accepts the state that was evaluated; it then becomes the anchor, where that is asked for."""
        verdict = self.judged.judge(ctx)
        if verdict is None or self.memory is None:
            return False
        self.journal.write("memory", ctx.iter_num, **figures(verdict))
        becomes_anchor = verdict.accepted and self.memory.consolidate_on_accept and self.learner.anchor.in_force
        if becomes_anchor and not is_last:
            self.learner.consolidate(ctx)
            self.journal.write("consolidate", ctx.iter_num, cause="memory", alpha=self.learner.anchor.alpha)
        return verdict.accepted

    def _keep(self, memory: OckhamMemory, ctx: OccamContext) -> None:
        snapshot = memory.save_checkpoint(self.model, ctx)
        if notice := self.judged.oversize(snapshot.bytes):
            self.notices.append(notice)
            self.journal.write("warning", ctx.iter_num, message=notice)

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

    def close(self) -> None:
        """Close the journal and the log of decisions, and let others write in the folder."""
        self.journal.close()
        self.judged.log.close()
        if self.lock:
            self.lock.close()

    def end(self, summary: Mapping[str, Any], reason: str) -> None:
        """Close the journal and write summary.json, with `stopped_by`: the reason of a run that did not come to its end."""
        self.journal.write("end", self.learner.iter_num, reason=reason)
        self.journal.flush()
        if self.ranks.is_main:
            stopped_by = None if reason == "done" else reason
            write_text(self.out_dir / "summary.json", json.dumps({**summary, "stopped_by": stopped_by}, indent=2) + "\n")
        self.close()
