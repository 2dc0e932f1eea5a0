"""examples/transformers_trainer.py: the rack acts in a transformers Trainer, and an empty rack changes nothing."""

import importlib.util

import pytest
import torch

from ockham import EQPlugin, LimiterPlugin, OccamGatePlugin, OccamPlugin, PluginHost, journal, load_preset

transformers = pytest.importorskip("transformers", reason="needs transformers: pip install -e .[online]")
pytest.importorskip("accelerate", reason="transformers' Trainer needs accelerate, which no extra of ours brings")

STEPS, ROWS, T, V = 6, 4, 8, 17


@pytest.fixture(scope="module")
def example():
    from conftest import ROOT

    spec = importlib.util.spec_from_file_location("transformers_trainer", ROOT / "examples" / "transformers_trainer.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def train(example, tmp_path):
    """A function that trains a tiny GPT-2 for six steps: (its weights before, after, the logged losses, the trainer)."""

    def go(rack=None, **changes):
        torch.manual_seed(0)
        config = transformers.GPT2Config(
            vocab_size=V, n_positions=T, n_embd=16, n_layer=1, n_head=2, resid_pdrop=0, embd_pdrop=0, attn_pdrop=0,
            bos_token_id=0, eos_token_id=0, pad_token_id=0,
        )  # fmt: skip
        model = transformers.GPT2LMHeadModel(config)
        rows = torch.randint(0, V, (64, T), generator=torch.Generator().manual_seed(1))
        data = [{"input_ids": row, "labels": row} for row in rows]
        options = {
            "output_dir": str(tmp_path), "max_steps": STEPS, "per_device_train_batch_size": ROWS, "learning_rate": 1e-2,
            "logging_steps": 1, "report_to": [], "save_strategy": "no", "use_cpu": True, "disable_tqdm": True, "seed": 0,
            "dataloader_pin_memory": False,
        }  # fmt: skip
        args = transformers.TrainingArguments(**{**options, **changes})
        before = [p.detach().clone() for p in model.parameters()]
        cls, extra = (transformers.Trainer, {}) if rack is None else (example.RackTrainer, {"rack": rack})
        trainer = cls(model=model, args=args, train_dataset=data, **extra)
        trainer.train()
        losses = [entry["loss"] for entry in trainer.state.log_history if "loss" in entry]
        return before, [p.detach() for p in model.parameters()], losses, trainer

    return go


def same(a, b):
    return all(torch.equal(x, y) for x, y in zip(a, b, strict=True))


@pytest.mark.parametrize("accumulation", [1, 2])
def test_an_empty_rack_is_the_plain_trainer_bit_for_bit(example, train, accumulation):
    _, plain, plain_losses, _ = train(gradient_accumulation_steps=accumulation)
    _, racked, losses, _ = train(example.RackCallback(PluginHost()), gradient_accumulation_steps=accumulation)
    assert losses == plain_losses
    assert len(losses) == STEPS
    assert same(plain, racked)


@pytest.mark.parametrize("accumulation", [1, 2])
def test_a_closed_gate_leaves_weights_and_optimizer_state_untouched(example, train, accumulation):
    rack = example.RackCallback(PluginHost([OccamGatePlugin(surprise_threshold=100.0)]))
    before, after, losses, trainer = train(rack, gradient_accumulation_steps=accumulation)
    assert same(before, after)
    assert len(losses) == STEPS
    assert trainer.optimizer.state_dict()["state"] == {}
    assert rack.ledger.update_rate == 0
    assert rack.ledger.units == STEPS * accumulation  # forwards alone
    assert rack.context.reason_code.startswith("SKIPPED")


def test_a_gate_that_never_closes_changes_nothing(example, train):
    _, plain, _, _ = train()
    before, racked, _, _ = train(example.RackCallback(PluginHost([OccamGatePlugin(surprise_threshold=0.0)])))
    assert same(plain, racked)
    assert not same(before, racked)


class Half(OccamPlugin):
    """Halves every learning rate."""

    def on_batch_start(self, ctx):
        ctx.learning_rate *= 0.5
        return ctx


def test_a_plugin_that_halves_the_rate_is_a_trainer_at_half_the_rate(example, train):
    _, half, _, _ = train(learning_rate=0.5e-2)
    _, racked, _, _ = train(example.RackCallback(PluginHost([Half()])))
    for a, b in zip(half, racked, strict=True):
        torch.testing.assert_close(a, b, rtol=0, atol=1e-7)


def test_the_penalty_holds_the_weights_near_the_anchor(example, train):
    drifts = []
    for strength in (0.0, 30.0):
        rack = example.RackCallback(PluginHost(hyperparameters={"lambda_ockham": strength}), consolidate_interval=0)
        train(rack, optim="sgd", max_grad_norm=0.0)
        drifts.append(rack.drift)
    assert 0 < drifts[1] < 0.5 * drifts[0]


class OnlyFirst(OccamGatePlugin):
    """Accepts the first micro-batch of each pair."""

    turn = 0

    def verdict(self, loss, threshold=None):
        self.turn += 1
        return self.turn % 2 == 1


def test_accepted_micro_batches_are_averaged_over_themselves(example, train):
    """One accepted micro-batch of two gives the gradient that it gives alone, not half of it."""
    rack = example.RackCallback(PluginHost([OnlyFirst()]))
    before, after, _, _ = train(rack, gradient_accumulation_steps=2, max_steps=1, optim="sgd", max_grad_norm=0.0)
    start, alone, _, _ = train(max_steps=1, optim="sgd", max_grad_norm=0.0)
    assert same(before, start)
    for a, b in zip(after, alone, strict=True):
        torch.testing.assert_close(a, b, rtol=0, atol=1e-7)
    assert rack.ledger.update_rate == 0.5


def test_the_whole_of_balanced_runs_and_is_journaled(example, train, tmp_path):
    path = tmp_path / "journal.jsonl"
    rack = example.RackCallback(load_preset("balanced").host(), consolidate_interval=2, journal=path)
    train(rack)
    steps = list(journal.read(path, "step"))
    assert [step["iter"] for step in steps] == list(range(STEPS))
    assert any(step["changes"] for step in steps)
    assert [step["iter"] for step in journal.read(path, "consolidate")][:1] == [1]
    assert len(list(journal.read(path, "end"))) == 1


def test_a_limiter_moves_the_anchor(example, train):
    rack = example.RackCallback(PluginHost([EQPlugin(), LimiterPlugin(complexity_ceiling=1e-9)]), consolidate_interval=0)
    train(rack)
    assert rack.consolidations >= STEPS - 1
    assert rack.drift < 1e-2


class Stopper(OccamPlugin):
    """Asks to stop in iteration 2."""

    def on_batch_start(self, ctx):
        if ctx.iter_num == 2:
            ctx.requests.stop = "enough"
        return ctx


def test_a_plugin_can_stop_the_trainer(example, train, capsys):
    rack = example.RackCallback(PluginHost([Stopper()]))
    train(rack)
    assert rack.iter_num == 3
    assert "training stops: enough" in capsys.readouterr().out


def test_what_the_example_cannot_do_is_refused(example, train):
    from ockham import KLWatchdogPlugin
    from ockham.errors import ConfigError

    with pytest.raises(ConfigError, match="probe"):
        train(example.RackCallback(PluginHost([KLWatchdogPlugin(interval=1)])))
