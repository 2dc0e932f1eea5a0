"""A run's folder: what counts as the best."""

import torch

from ockham import OckhamLearner, PluginHost
from ockham.evaluation import Evaluation
from ockham.rundir import Run


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
