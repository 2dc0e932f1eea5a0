"""A run's folder: what counts as the best, what is counted, and what goes when another run takes its place."""

import pytest
import torch

from ockham import OckhamLearner, PluginHost
from ockham.evaluation import Evaluation
from ockham.rundir import Run, claim


def test_evaluation_that_is_not_a_number_does_not_wipe_the_best(tiny_model, tmp_path):
    model = tiny_model()
    run = Run(tmp_path, OckhamLearner(model, host=PluginHost([])), model, model.model_args(), {"dataset": "tiny"})
    run.begin()
    best = []
    for val_loss in (3.0, float("nan"), 2.5, 2.7):
        run.record_evaluation(Evaluation(3.0, val_loss, 10))
        best.append(run.best_val_loss)
    run.journal.close()
    assert best == [3.0, 3.0, 2.5, 2.5]
    assert torch.load(tmp_path / "ckpt.pt", weights_only=True)["best_val_loss"] == 2.5


def test_updates_are_steps_of_the_optimizer_and_not_micro_batches(tiny_model, batch, tmp_path):
    model = tiny_model()
    run = Run(tmp_path, OckhamLearner(model, host=PluginHost([])), model, model.model_args(), {"dataset": "tiny"})
    for step in range(3):
        run.learner.step([batch(2 * step), batch(2 * step + 1)])
    summary = run.summary(floor=None)
    assert (summary["iters"], summary["updates"], summary["batches_learned"], summary["update_rate"]) == (3, 3, 6, 1.0)


@pytest.mark.parametrize(
    ("stated", "is_gone"), [("sub/adamw.json", True), ("audit.json", True), ("../beside.json", False), ("notes.md", False)]
)
def test_overwriting_takes_the_old_runs_audit_with_it_by_whatever_name(tmp_path, stated, is_gone):
    out = tmp_path / "out"
    (out / "sub").mkdir(parents=True)
    (out / "config.yaml").write_text(f"optimizer:\n  export_json: {stated}\n")
    for path in (out / "ckpt.pt", out / "audit.md", out / stated, out / "mine.txt"):
        path.touch()
    claim(out, overwrite=True)
    assert (out / stated).exists() != is_gone
    assert not (out / "audit.md").exists()
    assert (out / "mine.txt").exists()
