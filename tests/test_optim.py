"""Parameter groups against a hand-written list, two optimizers as one, classes, options and kernels that are not there."""

import copy

import pytest
import torch

from ockham.config import OptimizerConfig, ParamGroupConfig
from ockham.configuration.keys import group_choices
from ockham.errors import CheckpointError, ConfigError, WorldError
from ockham.optim import build_optimizer, parameter_groups
from ockham.optim.averages import COUNTED_IN_GROUPS, slow_weights
from ockham.optim.build import FIRST_LR_ALONE
from ockham.optim.classes import torch_classes
from ockham.optim.groups import trainable
from ockham.optim.saved import load_state, single
from ockham.typed import from_mapping

CPU = torch.device("cpu")


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


def shipped(name, **changes):
    """The config of a file in config/optimizer/."""
    return from_mapping(OptimizerConfig, {**group_choices("optimizer")[name], **changes})


SHIPPED = [name for name in group_choices("optimizer") if name != "lookahead"]


@pytest.mark.parametrize("name", SHIPPED)
@pytest.mark.parametrize("tied", [True, False])
def test_every_parameter_is_in_exactly_one_group(tiny_model, name, tied):
    model = tiny_model(bias=True)
    if not tied:
        model.lm_head.weight = torch.nn.Parameter(model.lm_head.weight.detach().clone())
    optimizer, notes = build_optimizer(model, shipped(name), CPU)
    held = [id(p) for group in optimizer.param_groups for p in group["params"]]
    assert len(held) == len(set(held))
    assert set(held) == {id(p) for p in model.parameters()}
    assert notes == []


@pytest.mark.parametrize("name", SHIPPED)
def test_every_shipped_optimizer_lowers_the_loss(tiny_model, batch, name):
    model = tiny_model()
    optimizer, _ = build_optimizer(model, shipped(name, lr=3e-3), CPU)
    losses = []
    for _ in range(12):
        optimizer.zero_grad()
        loss = model(*batch(0))[1]
        loss.backward()
        optimizer.step()
        losses.append(float(loss.detach()))
    assert losses[-1] < losses[0]


@pytest.mark.parametrize("name", SHIPPED)
def test_a_shipped_file_states_the_whole_contract(name):
    """spec/optimizer_configs.md, section 2."""
    stated = group_choices("optimizer")[name]
    assert {"name", "type", "lr", "weight_decay", "auto_param_groups", "lookahead", "scheduler_hook", "warmup_steps",
            "clip_grad_norm", "accumulate_steps", "precision_safe", "bf16_preferred", "fused", "detect_anomaly", "log_config",
            "rich_console", "hash_to_debuglog", "export_json"} <= set(stated)  # fmt: skip
    assert set(stated["lookahead"]) == {"enabled", "alpha", "k"}


def test_optimizer_files_hold_the_contracts_values():
    adamw, adam, sgd = (group_choices("optimizer")[name] for name in ("adamw", "adam", "sgd"))
    assert (adamw["lr"], adamw["weight_decay"], adamw["betas"], adamw["eps"], adamw["amsgrad"]) == (
        3e-4,
        1e-2,
        [0.9, 0.999],
        1e-8,
        False,
    )
    assert (adam["lr"], adam["betas"]) == (3e-4, [0.9, 0.999])
    assert (sgd["lr"], sgd["momentum"], sgd["dampening"], sgd["nesterov"], sgd["weight_decay"]) == (1e-2, 0.9, 0.0, True, 0.0)


def test_adams_decay_is_coupled_and_adamws_is_not():
    """With no gradient of the loss, AdamW shrinks a weight by lr * decay; Adam normalises the decay's gradient: a step of lr."""
    weight = torch.nn.ParameterDict({"w": torch.nn.Parameter(torch.tensor([2.0]))})
    for name, moved in (("adamw", 2.0 * 1e-2 * 0.1), ("adam", 1e-2)):
        weight["w"].data.fill_(2.0)
        weight["w"].grad = torch.zeros(1)
        optimizer, _ = build_optimizer(weight, shipped(name, lr=1e-2, weight_decay=0.1), CPU)
        optimizer.step()
        assert weight["w"].item() == pytest.approx(2.0 - moved, rel=1e-5)


def test_a_pattern_of_the_users_own_must_be_in_some_name(tiny_model):
    groups = {"no_decay_patterns": ["ln", "wtte"]}
    with pytest.raises(ConfigError, match=r"'wtte' is in no parameter's name \(did you mean wte\?\)"):
        build_optimizer(tiny_model(), shipped("adamw", auto_param_groups=groups), CPU)
    build_optimizer(tiny_model(), shipped("adamw", auto_param_groups={**groups, "enabled": False}), CPU)


def test_a_default_pattern_in_a_list_of_the_users_own_must_be_in_some_name_too(tiny_model):
    assert "bn" in ParamGroupConfig().no_decay_patterns  # the default list may hold what is in none
    build_optimizer(tiny_model(), shipped("adamw"), CPU)
    with pytest.raises(ConfigError, match="'bn' is in no parameter's name"):
        build_optimizer(tiny_model(), shipped("adamw", auto_param_groups={"no_decay_patterns": ["bn"]}), CPU)


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("adamw", {"betas": [0.9]}, r"optimizer.betas = \[0.9\] does not work in AdamW on cpu"),
        ("adamw", {"betas": [0.9, 0.99, 0.5]}, r"optimizer.betas = \[0.9, 0.99, 0.5\] does not work"),
        ("adamw", {"differentiable": True}, "optimizer.differentiable = True does not work"),
        ("adamw", {"capturable": True}, "optimizer.capturable = True does not work in AdamW on cpu"),
        ("muon", {"ns_steps": 200}, "optimizer.ns_steps = 200 does not work in Muon on cpu"),
        ("muon", {"betas": [0.9]}, r"optimizer.betas = \[0.9\] does not work in AdamW"),
        ("lion", {"betas": [0.9]}, r"optimizer.betas = \[0.9\] does not work in Lion"),
        ("sgd", {"momentum": 0.0}, "optimizer.nesterov = True does not work in SGD"),
    ],
)
def test_an_option_that_fails_in_a_step_is_named_before_the_first_one(tiny_model, name, options, message):
    with pytest.raises(ConfigError, match=message) as caught:
        build_optimizer(tiny_model(), shipped(name, **options), CPU)
    assert len(str(caught.value).splitlines()) == 1


def test_trying_the_options_draws_no_random_number(tiny_model):
    model, before = tiny_model(), torch.get_rng_state()
    for name in SHIPPED:
        build_optimizer(model, shipped(name), CPU)
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.parametrize("name", sorted(torch_classes()))
def test_a_class_follows_its_lr_unless_it_is_told_not_to(tiny_model, batch, name):
    """After lr = 0 nothing moves, in ASGD from the second update on: but for the classes of which the note says so."""
    model = tiny_model(n_layer=1)
    optimizer, notes = build_optimizer(model, OptimizerConfig(name=name.lower(), type=name, lr=1e-2), CPU)
    for i in range(4):
        optimizer.zero_grad()
        model(*batch(i))[1].backward()
        before = [p.detach().clone() for p in model.parameters()]
        optimizer.step()
        for group in optimizer.param_groups:
            group["lr"] = 0.0
    moved = not all(map(torch.equal, before, model.parameters()))
    assert moved == (name in FIRST_LR_ALONE) == any("a schedule has no effect" in note for note in notes)


def test_own_patterns_reach_muons_matrices_too(tiny_model):
    groups = {"no_decay_patterns": ["c_proj", "ln"], "override_no_decay_weight": 0.25}
    optimizer, _ = build_optimizer(tiny_model(n_layer=1), shipped("muon", auto_param_groups=groups), CPU)
    decays = [(g["weight_decay"], len(g["params"])) for g in optimizer.param_groups]
    assert decays == [(0.0, 2), (0.25, 2), (0.1, 2), (0.25, 3)]  # matrices: the rest, c_proj; AdamW: wte and wpe, three norms


def test_classes_that_a_step_cannot_serve_are_refused(tiny_model):
    for name, why in (("LBFGS", "several times"), ("SparseAdam", "sparse"), ("Lookahead", "optimizer.base")):
        with pytest.raises(ConfigError, match=why):
            build_optimizer(tiny_model(), OptimizerConfig(type=name), CPU)


def test_option_of_another_class_names_the_classes_that_take_it(tiny_model):
    with pytest.raises(ConfigError, match=r"optimizer.momentum is not taken by AdamW; Muon, RMSprop, SGD take it"):
        build_optimizer(tiny_model(), from_mapping(OptimizerConfig, {"momentum": 0.9}), CPU)


def test_weight_decay_without_effect_is_told(tiny_model):
    _, notes = build_optimizer(tiny_model(), OptimizerConfig(name="rprop", type="Rprop", weight_decay=0.1), CPU)
    assert notes[0] == "optimizer.weight_decay = 0.1 has no effect: Rprop has no weight decay"


@pytest.mark.parametrize("name", ["adamw", "adam", "sgd", "muon"])
def test_fused_kernel_is_used_where_there_is_one(tiny_model, name):
    optimizer, _ = build_optimizer(tiny_model(), shipped(name, fused=True), CPU)
    adamw_part = optimizer.parts[1] if name == "muon" else optimizer
    assert all(group["fused"] for group in adamw_part.param_groups)


def test_fused_kernel_that_fails_in_its_first_step_falls_back_announced(tiny_model, monkeypatch):
    class Picky(torch.optim.SGD):
        def step(self, closure=None):
            if self.param_groups[0]["fused"]:
                raise RuntimeError("no such kernel")

    monkeypatch.setattr(torch.optim, "SGD", Picky)
    optimizer, notes = build_optimizer(tiny_model(), shipped("sgd", fused=True), CPU)
    assert notes == ["optimizer.fused: not on cpu (no such kernel); the ordinary kernel is used"]
    assert not optimizer.param_groups[0]["fused"]


def test_missing_package_says_what_to_install(tiny_model, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "pytorch_optimizer", None)
    with pytest.raises(WorldError, match=r"pip install -e '\.\[optim\]'"):
        build_optimizer(tiny_model(), OptimizerConfig(name="lion", type="Lion"), CPU)


OTHER_GROUPS = {"no_decay_patterns": ["c_proj", "ln"], "override_no_decay_weight": 0.0}


def trained(model, config, batch, updates=3):
    optimizer, _ = build_optimizer(model, config, CPU)
    for i in range(updates):
        optimizer.zero_grad()
        model(*batch(i))[1].backward()
        optimizer.step()
    return optimizer


@pytest.mark.parametrize("around", [{}, {"lookahead": {"enabled": True, "k": 2}}], ids=["alone", "lookahead"])
@pytest.mark.parametrize("name", ["adamw", "muon", "lion"])
def test_every_parameter_finds_its_own_state_in_other_groups(tiny_model, batch, name, around):
    model = tiny_model()
    first = trained(model, shipped(name, **around), batch)
    second, _ = build_optimizer(model, shipped(name, **around, auto_param_groups=OTHER_GROUPS), CPU)
    load_state(second, copy.deepcopy(first.state_dict()))
    assert [len(g["params"]) for g in second.param_groups] != [len(g["params"]) for g in first.param_groups]
    for ours, theirs in zip(single(second), single(first), strict=True):
        for p in model.parameters():
            assert ours.state[p].keys() == theirs.state[p].keys()
            assert all(torch.equal(torch.as_tensor(ours.state[p][k]), torch.as_tensor(v)) for k, v in theirs.state[p].items())
    assert all(torch.equal(slow, slow_weights(first)[p]) for p, slow in slow_weights(second).items())
    assert len(slow_weights(second)) == len(slow_weights(first))
    for counted in COUNTED_IN_GROUPS:
        assert {g.get(counted) for g in second.param_groups} == {g.get(counted) for g in first.param_groups}
    second.step()


def test_a_state_of_other_parameters_names_them(tiny_model, batch):
    first = trained(tiny_model(n_layer=1), shipped("adamw"), batch)
    second, _ = build_optimizer(tiny_model(n_layer=2), shipped("adamw"), CPU)
    with pytest.raises(CheckpointError, match=r"has none for transformer.h.1.attn.c_attn.weight, .* more; start a new run"):
        load_state(second, first.state_dict())


@pytest.mark.parametrize("name", ["adamw", "muon"])
@pytest.mark.parametrize("around", [{}, {"lookahead": {"enabled": True}}], ids=["alone", "lookahead"])
def test_a_state_without_names_is_loaded_by_position(tiny_model, batch, name, around):
    model = tiny_model()
    first = trained(model, shipped(name, **around), batch)
    old = copy.deepcopy(first.state_dict())
    base = old.get("base_optimizer", old)
    for group in [g for part in base.get("parts", [base]) for g in part["param_groups"]]:
        del group["param_names"]
    second, _ = build_optimizer(model, shipped(name, **around), CPU)
    load_state(second, old)
    for ours, theirs in zip(single(second), single(first), strict=True):
        assert all(torch.equal(ours.state[p][k], v) for p in theirs.state for k, v in theirs.state[p].items())
    assert all("param_names" in group for group in second.param_groups)


@pytest.mark.parametrize(
    ("name", "options", "around"),
    [
        ("adamw", {"amsgrad": True}, {}),
        ("adamw", {"amsgrad": True}, {"lookahead": {"enabled": True}}),
        ("rmsprop", {"momentum": 0.9}, {}),
        ("rmsprop", {"centered": True}, {}),
    ],
)
def test_an_option_whose_state_was_never_kept_cannot_be_switched_on(tiny_model, batch, name, options, around):
    model = tiny_model()
    state = trained(model, shipped(name, **around), batch).state_dict()
    optimizer, _ = build_optimizer(model, shipped(name, **around, **options), CPU)
    [(key, value)] = options.items()
    with pytest.raises(CheckpointError, match=rf"optimizer.{key} = {value} cannot be switched on .*--init_from="):
        load_state(optimizer, state)


def test_options_that_keep_no_state_may_change_in_mid_run(tiny_model, batch):
    model = tiny_model()
    for name, options in (
        ("sgd", {"momentum": 0.8}),
        ("adamw", {"betas": [0.8, 0.9], "foreach": False}),
        ("muon", {"ns_steps": 4}),
    ):
        state = trained(model, shipped(name), batch).state_dict()
        optimizer, _ = build_optimizer(model, shipped(name, **options), CPU)
        load_state(optimizer, state)
        [key, *_], group = options, optimizer.param_groups[0]
        assert group[key] == (tuple(options[key]) if key == "betas" else options[key])
        optimizer.step()
