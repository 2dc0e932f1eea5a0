"""Schedules against closed forms and torch's, parameter groups against a hand-written list, two optimizers as one."""

import copy
import math

import pytest
import torch

from ockham.config import OptimizerConfig, RunConfig, SchedulerConfig
from ockham.errors import ConfigError
from ockham.optim import build_optimizer, build_schedule, parameter_groups
from ockham.optim.groups import trainable
from ockham.typed import from_mapping

CPU = torch.device("cpu")


def schedule(name, **kw):
    given = SchedulerConfig(name=name, **kw)
    return build_schedule(RunConfig(optimizer=OptimizerConfig(lr=1e-3), scheduler=given, max_iters=100))


def test_cosine_agrees_with_torch():
    reference = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=1e-3)
    oracle = torch.optim.lr_scheduler.CosineAnnealingLR(reference, T_max=100, eta_min=1e-4)
    ours = schedule("cosine")
    for tick in range(101):
        assert ours(tick) == pytest.approx(reference.param_groups[0]["lr"], abs=1e-9)
        reference.step()
        oracle.step()


def test_linear_and_constant_follow_their_closed_form():
    assert schedule("linear", min_lr=0.0)(25) == pytest.approx(0.75e-3)
    assert {schedule("constant")(t) for t in (0, 50, 1000)} == {1e-3}


def test_warm_up_rises_from_above_zero_to_the_peak():
    ours = schedule("cosine", warmup_steps=9)
    assert [ours(t) for t in range(9)] == pytest.approx([1e-3 * (t + 1) / 10 for t in range(9)])
    assert ours(9) == pytest.approx(1e-3)


def test_decay_ends_at_min_lr_and_stays():
    ours = schedule("cosine", decay_steps=40, min_lr=2e-5)
    assert ours(40) == ours(41) == ours(10_000) == 2e-5
    assert ours(20) == pytest.approx(2e-5 + 0.5 * (1e-3 - 2e-5) * (1 + math.cos(math.pi / 2)))


def test_hook_off_means_no_schedule():
    config = RunConfig(optimizer=OptimizerConfig(lr=1e-3, scheduler_hook=False), scheduler=SchedulerConfig(warmup_steps=50))
    assert build_schedule(config)(0) == 1e-3


def test_groups_match_a_hand_written_list(tiny_model):
    model = tiny_model(bias=True, n_layer=1)
    groups = parameter_groups(trainable(model), 0.1, OptimizerConfig().auto_param_groups)
    names = {id(p): n for n, p in model.named_parameters()}
    h = "transformer.h.0."
    decayed = [
        "transformer.wte.weight",
        "transformer.wpe.weight",
        h + "attn.c_attn.weight",
        h + "attn.c_proj.weight",
        h + "mlp.c_fc.weight",
        h + "mlp.c_proj.weight",
    ]
    spared = [
        h + "ln_1.weight",
        h + "ln_1.bias",
        h + "attn.c_attn.bias",
        h + "attn.c_proj.bias",
        h + "ln_2.weight",
        h + "ln_2.bias",
        h + "mlp.c_fc.bias",
        h + "mlp.c_proj.bias",
        "transformer.ln_f.weight",
        "transformer.ln_f.bias",
    ]
    assert sorted(names[id(p)] for p in groups[0]["params"]) == sorted(decayed)
    assert sorted(names[id(p)] for p in groups[1]["params"]) == sorted(spared)
    assert [g["weight_decay"] for g in groups] == [0.1, 0.0]


def muon_config():
    return OptimizerConfig(
        name="muon",
        type="Muon",
        lr=0.02,
        weight_decay=0.0,
        options={"momentum": 0.95, "nesterov": True, "adamw_lr": 1e-3, "betas": [0.9, 0.95]},
    )


def test_muon_takes_only_hidden_matrices(tiny_model):
    model = tiny_model(n_layer=1)
    optimizer, _ = build_optimizer(model, muon_config(), CPU)
    names = {id(p): n for n, p in model.named_parameters()}
    muon, rest = (sorted(names[id(p)] for g in part.param_groups for p in g["params"]) for part in optimizer.parts)
    assert muon == sorted(f"transformer.h.0.{n}.weight" for n in ("attn.c_attn", "attn.c_proj", "mlp.c_fc", "mlp.c_proj"))
    assert rest == sorted(set(names.values()) - set(muon))


@pytest.mark.parametrize("config", [OptimizerConfig(options={"betas": [0.9, 0.99]}), muon_config()], ids=["adamw", "muon"])
def test_state_round_trip_continues_bit_for_bit(tiny_model, batch, config):
    def step(model, optimizer, i):
        optimizer.zero_grad()
        model(*batch(i))[1].backward()
        optimizer.step()

    a, b = tiny_model(), tiny_model()
    (first, _), (second, _) = (build_optimizer(m, config, CPU) for m in (a, b))
    for i in range(3):
        step(a, first, i)
    b.load_state_dict(a.state_dict())
    second.load_state_dict(copy.deepcopy(first.state_dict()))
    for i in range(3, 6):
        step(a, first, i)
        step(b, second, i)
    assert all(torch.equal(p, q) for p, q in zip(a.parameters(), b.parameters(), strict=True))


def test_unknown_type_and_option_name_the_nearest(tiny_model):
    with pytest.raises(ConfigError, match="did you mean AdamW"):
        build_optimizer(tiny_model(), OptimizerConfig(type="AdaW"), CPU)
    with pytest.raises(ConfigError, match=r"optimizer\.beta is not taken by AdamW \(did you mean betas\?\)"):
        build_optimizer(tiny_model(), from_mapping(OptimizerConfig, {"beta": 0.9}), CPU)


def test_absent_fused_kernel_falls_back_announced(tiny_model):
    config = OptimizerConfig(name="muon", type="Adadelta", fused=True)
    optimizer, notes = build_optimizer(tiny_model(), config, CPU)
    assert isinstance(optimizer, torch.optim.Adadelta)
    assert "no fused kernel" in notes[0]
