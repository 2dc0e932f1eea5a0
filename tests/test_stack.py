"""Policies, Lookahead over another optimizer, leaves that only the class knows, and what is told to have no effect."""

from __future__ import annotations

from pathlib import Path

import pytest

import configurator
from configurator import resolve, run
from ockham.configuration import keys
from ockham.configuration.files import CONFIG_DIR, read_yaml
from ockham.configuration.layers import Layer
from ockham.configuration.stack import lay
from ockham.errors import ConfigError

RECIPE = "config/train_shakespeare_char_cpu.py"


def notes(*argv: str) -> list[str]:
    return resolve(list(argv)).provenance.notes


@pytest.fixture
def policy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """A function that writes a policy `mine` into a config folder of its own."""

    def write(text: str) -> None:
        (tmp_path / "policy").mkdir(exist_ok=True)
        (tmp_path / "policy" / "mine.yaml").write_text(text)
        for module in ("files", "keys", "bundles"):
            monkeypatch.setattr(f"ockham.configuration.{module}.CONFIG_DIR", tmp_path)
        keys.policies.cache_clear()

    for group in keys.GROUPS:
        keys.group_choices(group)  # read before the folder is another one
    yield write
    keys.policies.cache_clear()


def test_a_policy_chooses_groups_and_values_below_the_recipe(policy) -> None:
    policy("optimizer: muon\noptimizer.lr: 0.03\nscheduler: wsd\ndropout: 0.2\nweight_decay: 0.05\n")
    plain = resolve(["policy=mine"]).config
    assert (plain.optimizer.name, plain.optimizer.lr, plain.scheduler.name, plain.dropout) == ("muon", 0.03, "wsd", 0.2)
    under_recipe = resolve([RECIPE, "policy=mine"])
    config = under_recipe.config
    assert (config.optimizer.name, config.optimizer.lr, config.scheduler.name, config.dropout) == ("muon", 0.03, "wsd", 0.0)
    assert f"Overriding: dropout = 0.0 ({RECIPE}; policy mine said 0.2)" in under_recipe.provenance.notes
    assert resolve(["policy=mine", "--dropout=0.3", "optimizer=adamw"]).config.dropout == 0.3


def test_a_policys_values_for_its_optimizer_do_not_reach_another_one(policy) -> None:
    policy("optimizer: muon\noptimizer.lr: 0.03\nscheduler: linear\n")
    found = resolve(["policy=mine", "optimizer=sgd"])
    assert (found.config.optimizer.name, found.config.optimizer.lr, found.config.scheduler.name) == ("sgd", 0.01, "linear")
    assert any("not used with sgd, as meant for muon: optimizer.lr" in note for note in found.provenance.notes)


def test_a_policy_file_is_checked(policy) -> None:
    policy("preset: balanced\n")
    with pytest.raises(ConfigError, match="preset is not a policy's to choose"):
        resolve(["policy=mine"])
    policy("optimizer: muonn\n")
    with pytest.raises(ConfigError, match=r"optimizer must be one of .*muon.*\(policy mine\)"):
        resolve(["policy=mine"])
    with pytest.raises(ConfigError, match=r"policy must be one of mine, got 'mime'.*did you mean mine"):
        resolve(["policy=mime"])


@pytest.mark.parametrize("path", sorted((CONFIG_DIR / "policy").glob("*.yaml")), ids=lambda path: path.stem)
def test_every_shipped_policy_resolves_with_and_without_a_recipe(path: Path) -> None:
    for recipe in ([], [RECIPE]):
        assert resolve([*recipe, f"policy={path.stem}"]).config.policy == path.stem


def test_optimizer_lookahead_is_a_base_with_slow_weights() -> None:
    short = resolve(["optimizer=lookahead", "optimizer.base=sgd", "optimizer.lr=0.5"]).config.optimizer
    long = resolve(["optimizer=sgd", "optimizer.lookahead.enabled=true", "optimizer.lr=0.5"]).config.optimizer
    assert short == long
    assert resolve(["optimizer=lookahead"]).config.optimizer.name == "adamw"
    assert resolve(["optimizer=lookahead", "optimizer.lookahead.k=3"]).config.optimizer.lookahead.k == 3


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (["optimizer=sgd", "optimizer.base=adamw"], "base belongs to lookahead; the optimizer is sgd"),
        (["optimizer=lookahead", "optimizer.base=sdg"], r"optimizer must be one of .*got 'sdg'.*did you mean sgd"),
        (["optimizer=lookahead", "optimizer.base=lookahead"], "not lookahead itself"),
        (["optimizer.momentum=0.9"], r"momentum belongs to muon, rmsprop, sgd; the optimizer is adamw"),
        (["optimizer=adafactor", "optimizer.relative_step=false"], r"unknown key optimizer.relative_step"),
        (["optimizer.etas=[0.5,1.2]"], "etas belongs to Rprop; the optimizer is adamw"),
        (["optimizer.betas=[0.9]"], r"optimizer.betas must be a list of 2, as \[0.9, 0.999\] is, got \[0.9\] \(command line\)"),
        (["optimizer=muon", "optimizer.ns_coefficients=[1,2]"], "optimizer.ns_coefficients must be a list of 3"),
        (["optimizer.foreach=perhaps"], "optimizer.foreach must be true or false or null, got 'perhaps'"),
        (["optimizer.lookahead.alpha=1.0"], r"alpha must be in \(0, 1\), got 1.0"),
        (["optimizer.lookahead.alpha=0"], r"alpha must be in \(0, 1\), got 0"),
        (["optimizer.ema.decay=1"], r"decay must be in \[0, 1\), got 1"),
        (["optimizer.auto_param_groups.no_decay_patterns=['']"], r"must not hold an empty pattern.* got \[''\]"),
        (["optimizer.lookahead.alpha=1.5"], r"alpha must be in \(0, 1\), got 1.5"),
    ],
)
def test_a_leaf_in_the_wrong_place_says_where_it_belongs(argv: list[str], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        resolve(argv)


def test_a_leaf_that_only_the_class_knows_is_taken_and_typed() -> None:
    assert resolve(["optimizer.maximize=true"]).config.optimizer.options["maximize"] is True
    assert resolve(["optimizer=muon", "optimizer.ns_steps=6"]).config.optimizer.options["ns_steps"] == 6
    with pytest.raises(ConfigError, match="maximize must be true or false"):
        resolve(["optimizer.maximize=perhaps"])
    assert resolve(["optimizer=adafactor", "optimizer.eps=[null,1e-2]"]).config.optimizer.options["eps"] == [None, 1e-2]


@pytest.mark.parametrize(
    ("argv", "leaf", "value"),
    [
        (["optimizer.foreach=false"], "foreach", False),
        (["--optimizer.foreach=False"], "foreach", False),
        (["optimizer.foreach=null"], "foreach", None),
        (["optimizer=muon", "optimizer.adjust_lr_fn=match_rms_adamw"], "adjust_lr_fn", "match_rms_adamw"),
    ],
)
def test_an_option_without_a_default_is_typed_by_the_classs_signature(argv: list[str], leaf: str, value: object) -> None:
    assert resolve(argv).config.optimizer.options[leaf] == value


def test_a_file_or_policy_that_asks_in_vain_is_told_and_one_overruled_from_above_is_not(policy, tmp_path: Path) -> None:
    policy("optimizer.lookahead.k: 3\n")
    told = "No effect: optimizer.lookahead.k = 3 ({}), as optimizer.lookahead.enabled is false"
    assert told.format("policy mine") in notes("policy=mine")
    assert not [n for n in notes("policy=mine", "optimizer.lookahead.enabled=true") if n.startswith("No effect")]
    own = str(tmp_path / "own.yaml")
    Path(own).write_text("optimizer.lookahead.k: 3\nscheduler: constant\nmin_lr: 0.0\n")
    min_lr = f"No effect: scheduler.min_lr = 0.0 ({own}), as scheduler constant does not use it"
    assert [n.partition(" (cosine")[0] for n in notes(own)] == [min_lr, told.format(own)]
    Path(own).write_text("scheduler: onecycle\nscheduler.pct_start: 0.1\n")
    assert not [n for n in notes(own, "scheduler=constant") if n.startswith("No effect")]


def test_an_end_above_the_peak_and_a_warm_up_without_a_fall_are_told() -> None:
    assert [n for n in notes("optimizer.lr=1e-4", "scheduler.min_lr=1e-3") if "is above the peak, optimizer.lr = 0.0001" in n]
    for length in ("--max_iters=50", "--lr_decay_iters=50"):
        assert [n for n in notes("--warmup_iters=50", length) if "warm-up of 50 ticks is as long as the schedule (50)" in n]
    for acts in (["--max_iters=51"], ["--max_iters=50", "scheduler=constant"], ["--epochs=1"]):
        assert not [n for n in notes("--warmup_iters=50", *acts) if n.startswith("Schedule")]


def test_a_value_that_config_yaml_sets_over_a_group_file_is_called_config_yamls() -> None:
    """The root file composes over the groups: what it sets differs from what the group's own file states."""

    def compose(choices: list[str]) -> dict:
        composed = configurator._compose(choices)
        composed["optimizer"] |= {"lr": 0.5, "name": "renamed"}
        return composed

    found = lay([], Layer("flag", "command line"), compose)
    assert found.config.optimizer.lr == 0.5
    sources = [(s.value, s.where) for s in found.provenance["optimizer.lr"]]
    assert sources[1:] == [(3e-4, "config/optimizer/adamw.yaml"), (0.5, "config/config.yaml")]
    assert found.provenance["optimizer.betas"][-1].where == "config/optimizer/adamw.yaml"
    chosen = lay([], Layer("flag", "command line", choices={"optimizer": "sgd"}), compose).provenance
    assert chosen["optimizer.momentum"][-1].where == "config/optimizer/sgd.yaml"


@pytest.mark.parametrize(
    ("argv", "told"),
    [
        (["scheduler.pct_start=0.1"], "scheduler.pct_start = 0.1 (command line), as scheduler cosine does not use it (onecycle"),
        (["optimizer.lookahead.k=3"], "optimizer.lookahead.k = 3 (command line), as optimizer.lookahead.enabled is false"),
        (["optimizer.scheduler_hook=false", "scheduler=wsd"], "scheduler.name = wsd (command line), as optimizer.scheduler_hook"),
        (["scheduler=none", "--warmup_iters=5"], "scheduler.warmup_steps = 5 (command line), as scheduler none does not use it"),
        ([RECIPE, "optimizer.warmup_steps=7"], "optimizer.warmup_steps = 7 (command line), as scheduler.warmup_steps = 100 wins"),
        (["optimizer.auto_param_groups.enabled=false", "optimizer.auto_param_groups.override_no_decay_weight=1"],
         "optimizer.auto_param_groups.override_no_decay_weight = 1.0 (command line), as"),
    ],
)  # fmt: skip
def test_what_the_command_line_asks_in_vain_is_told(argv: list[str], told: str) -> None:
    assert [n for n in notes(*argv) if n.startswith(f"No effect: {told}")]


def test_nothing_is_told_where_everything_acts() -> None:
    assert (
        notes("scheduler=onecycle", "scheduler.pct_start=0.1", "optimizer.lookahead.enabled=true", "optimizer.lookahead.k=3")
        == []
    )
    assert not [n for n in notes(RECIPE, "scheduler=constant") if n.startswith("No effect")]  # a recipe's word is no request


def test_changing_the_schedule_touches_no_optimizer_file_and_no_optimizer_value() -> None:
    """spec/optimizer_configs.md, section 7."""
    cosine, cycle = (resolve(["optimizer=sgd", f"scheduler={name}"]).config for name in ("cosine", "onecycle"))
    assert cosine.optimizer == cycle.optimizer
    assert resolve(["scheduler.name=onecycle"]).config.scheduler == resolve(["scheduler=onecycle"]).config.scheduler


def test_a_file_without_what_no_default_can_stand_for_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    for text, lacking in (
        ({"type": "NAdam", "lr": 1}, "name: new"),
        ({"name": "new", "lr": 1}, "`type:`"),
        ({"name": "new", "type": "NAdam"}, "`lr:`"),
    ):
        monkeypatch.setattr(keys, "group_choices", lambda group, text=text: {"new": text})
        with pytest.raises(ConfigError, match=lacking):
            keys.check_member("optimizer", "new")


@pytest.mark.parametrize("name", ["best_val", "calibration_friendly", "fast_train", "none"])
@pytest.mark.parametrize("dashes", ["", "--"])
def test_every_shipped_policy_reaches_a_run_from_the_command_line(name: str, dashes: str) -> None:
    """Through Hydra itself, which takes a folder of config/ for a group and reads such an override as a choice of it."""
    seen = []
    assert run(lambda config, provenance: seen.append((config, provenance)), [f"{dashes}policy={name}"]) == 0
    [(config, provenance)] = seen
    assert config.policy == name
    stated = {} if name == "none" else read_yaml(CONFIG_DIR / "policy" / f"{name}.yaml")
    for key, value in stated.items():
        assert provenance.value(f"{key}.name" if key in keys.GROUPS else key) == value


def test_an_unknown_policy_names_the_nearest(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(lambda config, provenance: None, ["policy=fast_trian"]) == 2
    assert "policy must be one of best_val, calibration_friendly, fast_train, none, got 'fast_trian'" in capsys.readouterr().err
