"""Layers of configuration: who wins, what is said about it, the rack, resume, recipes."""

from __future__ import annotations

import dataclasses
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from configurator import config_as_yaml, explain, resolve
from ockham.config import RunConfig
from ockham.configuration.files import CONFIG_DIR, read_config
from ockham.errors import CheckpointError, ConfigError, PresetError
from ockham.typed import from_mapping

ROOT = Path(__file__).resolve().parents[1]
RECIPES = sorted(CONFIG_DIR.glob("*.py"))
# What nanoGPT's train.py lets a recipe set, but for the machine and where the weights come from.
NANOGPT = [
    "out_dir",
    "eval_interval",
    "log_interval",
    "eval_iters",
    "always_save_checkpoint",
    "wandb_log",
    "wandb_project",
    "wandb_run_name",
    "dataset",
    "gradient_accumulation_steps",
    "batch_size",
    "block_size",
    "n_layer",
    "n_head",
    "n_embd",
    "dropout",
    "bias",
    "learning_rate",
    "max_iters",
    "weight_decay",
    "beta1",
    "beta2",
    "grad_clip",
    "decay_lr",
    "warmup_iters",
    "lr_decay_iters",
    "min_lr",
]


@pytest.fixture(autouse=True)
def _in_an_empty_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("RANK", "WORLD_SIZE"):
        monkeypatch.delenv(name, raising=False)


def config(*argv: str) -> RunConfig:
    return resolve(list(argv)).config


def notes(*argv: str) -> list[str]:
    return resolve(list(argv)).provenance.notes


def recipe(text: str, name: str = "mine.py") -> str:
    Path(name).write_text(text)
    return name


# ---------------------------------------- layers


def test_the_layers_speak_in_their_order() -> None:
    first = recipe("learning_rate = 6e-4\nbatch_size = 3\nblock_size = 32\n")
    second = recipe("batch_size: 4\n", "second.yaml")
    got = resolve([first, second, "--preset=balanced", "--learning_rate=0.01", "--block_size=16"])
    assert (got.config.optimizer.lr, got.config.batch_size, got.config.block_size) == (0.01, 4, 16)
    history = [(s.value, s.where) for s in got.provenance["optimizer.lr"]]
    assert history == [
        (3e-4, "default"),
        (3e-4, "config/optimizer/adamw.yaml"),
        (6e-4, "mine.py"),
        (1e-3, "preset balanced"),
        (0.01, "command line"),
    ]


def test_what_a_preset_or_flag_overrides_is_printed() -> None:
    said = notes("config/train_gpt2.py", "--preset=balanced", "--batch_size=3", "--seed=5")
    assert "Overriding: optimizer.lr = 0.001 (preset balanced; config/train_gpt2.py said 0.0006)" in said
    assert "Overriding: batch_size = 3 (command line; config/train_gpt2.py said 12)" in said
    assert not any("seed" in line for line in said)  # only a default was changed


def test_explain_tells_every_layers_word() -> None:
    text = explain("learning_rate", ["config/train_gpt2.py", "--preset=balanced"])
    assert text.splitlines()[0].startswith("optimizer.lr = 0.001")
    assert "0.0006  config/train_gpt2.py" in text
    assert "0.001   preset balanced  <- holds" in text
    with pytest.raises(ConfigError, match=r"no key momentun"):
        explain("momentun", [])
    assert "scheduler.min_lr" in explain("scheduler", [])
    assert explain("decay_lr", ["--decay_lr=False"]).startswith("scheduler.name = none")
    with pytest.raises(ConfigError, match=r"no key lr in this run \(did you mean optimizer.lr\?\)"):
        explain("lr", [])


# ---------------------------------------- epochs and max_iters


def test_of_epochs_and_max_iters_the_higher_layers_word_holds() -> None:
    mine = recipe("epochs = 2\n")
    got = resolve([mine, "--max_iters=40"])
    assert (got.config.epochs, got.config.max_iters) == (0.0, 40)
    assert "Overriding: epochs = 0.0 (command line, as it gives max_iters; mine.py said 2.0)" in got.provenance.notes
    assert "command line, as it gives max_iters  <- holds" in explain("epochs", [mine, "--max_iters=40"])
    assert config(mine, recipe("max_iters = 9\n", "later.py")).epochs == 0
    assert config("later.py", mine).epochs == 2
    assert config("later.py", "--epochs=0.5").epochs == 0.5
    assert config(mine, "--epochs=0").epochs == 0


def test_one_layer_gives_epochs_or_max_iters_but_not_both() -> None:
    with pytest.raises(ConfigError, match=r"give epochs or max_iters, not both \(command line\)"):
        resolve(["--epochs=1", "--max_iters=4"])
    with pytest.raises(ConfigError, match=r"give epochs or max_iters, not both \(mine.py\)"):
        resolve([recipe("epochs = 2\nmax_iters = 4\n")])
    assert config("--epochs=0", "--max_iters=4").max_iters == 4


def test_a_run_that_was_given_epochs_is_prolonged_by_max_iters() -> None:
    saved("r", "--epochs=0.01")
    got = resolve(["--init_from=resume", "--out_dir=r", "--max_iters=400"])
    assert (got.config.epochs, got.config.max_iters) == (0.0, 400)
    assert "Resume: epochs = 0.0 (command line, as it gives max_iters; the run had 0.01)" in got.provenance.notes
    assert config("--init_from=resume", "--out_dir=r").epochs == 0.01
    assert config("r/config.yaml").epochs == 0.01  # a whole config states both


# ---------------------------------------- where weights come from


@pytest.mark.parametrize("word", ["scratch", "gpt2-xl", "some/where", "ckpt.pt", "there"])
def test_init_from_takes_words_and_paths(word: str) -> None:
    Path("there").mkdir()
    assert config(f"--init_from={word}").init_from == word


def test_a_misspelt_init_from_is_named_with_its_file() -> None:
    with pytest.raises(ConfigError, match=r"got 'gpt3' \(mine.py\) \(did you mean gpt2\?\)"):
        resolve([recipe("init_from = 'gpt3'\n")])


def test_the_config_is_frozen() -> None:
    got = config()
    with pytest.raises(dataclasses.FrozenInstanceError):
        got.seed = 1  # type: ignore[misc]
    with pytest.raises(dataclasses.FrozenInstanceError):
        got.optimizer.lr = 1.0  # type: ignore[misc]


def test_a_recipes_adam_values_stay_away_from_sgd_and_that_is_said() -> None:
    got = resolve(["config/train_shakespeare_char.py", "--preset=balanced", "optimizer=sgd"])
    assert (got.config.optimizer.lr, got.config.optimizer.weight_decay, got.config.scheduler.min_lr) == (0.01, 0.0, None)
    assert "betas" not in got.config.optimizer.options
    assert any(
        "learning_rate, min_lr, weight_decay, beta1, beta2" in n and "not used with sgd" in n for n in got.provenance.notes
    )
    assert any(n.startswith("preset balanced: not used with sgd, as meant for Adam: learning_rate") for n in got.provenance.notes)


def test_muon_takes_a_recipes_adam_values_for_its_adamw_part() -> None:
    got = resolve(["config/train_shakespeare_char.py", "optimizer=muon"])
    own = got.config.optimizer
    assert (own.lr, own.options["adamw_lr"], own.options["adamw_weight_decay"], own.options["betas"]) == (
        0.02,
        1e-3,
        0.1,
        [0.9, 0.99],
    )
    assert own.weight_decay == 0.0
    assert got.config.min_lr == pytest.approx(0.002)  # the recipe's is Adam's
    assert any("adamw_lr = 0.001" in n for n in got.provenance.notes)


def test_on_the_command_line_a_learning_rate_always_applies() -> None:
    assert config("--learning_rate=0.5", "optimizer=sgd").optimizer.lr == 0.5
    assert config("--learning_rate=0.5", "optimizer=muon").optimizer.lr == 0.5
    assert config("--beta2=.5", "optimizer=muon").optimizer.options["betas"] == [0.9, 0.5]


def test_a_file_that_chooses_its_optimizer_means_its_dotted_values_for_it() -> None:
    mine = recipe("optimizer = {'name': 'sgd', 'lr': 0.2, 'momentum': 0.5}\n")
    got = config(mine)
    assert (got.optimizer.lr, got.optimizer.options["momentum"]) == (0.2, 0.5)
    other = resolve([mine, "optimizer=adamw"])
    assert other.config.optimizer.lr == 3e-4
    assert any("as meant for sgd: optimizer.lr, optimizer.momentum" in n for n in other.provenance.notes)


def test_decay_lr_chooses_the_schedule_of_its_layer() -> None:
    off = recipe("decay_lr = False\n")
    assert config(off).scheduler.name == "none"
    assert config(off, "--decay_lr=True").scheduler.name == "cosine"
    assert config(off, "scheduler=linear").scheduler.name == "linear"
    assert config("scheduler=linear", "--decay_lr=True").scheduler.name == "linear"


# ---------------------------------------- rack


def params(got: RunConfig, plugin: str) -> dict:
    return next(dict(s["params"]) for s in got.rack if s["name"] == plugin)


def test_a_preset_fills_rack_and_hyperparameters() -> None:
    got = config("--preset=balanced")
    assert (got.optimizer.lr, got.lambda_ockham, got.surprise_threshold, got.target_update_rate, got.consolidate_interval) == (
        1e-3, 0.01, 2.0, 0.6, 1000)  # fmt: skip
    assert [s["type"] for s in got.rack][:2] == ["OckhamGatePlugin", "CompressorPlugin"]


def test_plain_keys_override_the_same_parameter_of_the_plugins() -> None:
    got = resolve(["--preset=balanced", "--surprise_threshold=1.5", "--target_update_rate=null"])
    gate = params(got.config, "gate")
    assert (gate["surprise_threshold"], gate["target_update_rate"], got.config.surprise_threshold) == (1.5, None, 1.5)
    assert "Overriding: surprise_threshold = 1.5 (command line; preset balanced said 2.0)" in got.provenance.notes


def test_one_parameter_of_one_plugin_can_be_set() -> None:
    got = config("--preset=balanced", "rack.compressor.ratio=3", "--rack.eq.bands.easy=0.4", "rack.limiter.enabled=false")
    assert params(got, "compressor")["ratio"] == 3.0
    assert params(got, "eq")["bands"] == {"easy": 0.4, "medium": 1.0, "hard": 1.5}
    assert not next(s for s in got.rack if s["name"] == "limiter")["enabled"]


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (["--preset=balanced", "rack.compresor.ratio=3"], r"has no plugin 'compresor' \(did you mean compressor\?\)"),
        (["--preset=balanced", "rack.compressor.ration=3"], r"ration.*did you mean ratio.*command line"),
        (["--preset=balanced", "rack.compressor.ratio=0.5"], r"ratio.*0.5.*command line"),
        (["--preset=balanced", "rack.compressor=1"], r"written rack.PLUGIN.PARAMETER=value"),
        (["rack.gate.adaptive=True"], r"it is empty: choose a preset"),
    ],
)
def test_a_wrong_rack_parameter_names_the_nearest(argv: list[str], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        resolve(argv)


def test_a_whole_rack_in_a_file_is_checked() -> None:
    got = config(recipe("rack: [{type: CompressorPlugin, params: {ratio: 5}}]\n", "rack.yaml"))
    assert (params(got, "compressor")["ratio"], got.rack[0]["enabled"]) == (5.0, True)
    with pytest.raises(PresetError, match=r"unknown plugin type 'CompresorPlugin' \(did you mean .*rack.yaml"):
        resolve([recipe("rack: [{type: CompresorPlugin}]\n", "rack.yaml")])


def test_an_unknown_preset_names_the_nearest() -> None:
    with pytest.raises(PresetError, match=r"balanced"):
        resolve(["--preset=balnced"])


def test_without_a_preset_a_threshold_adds_a_gate_and_says_so() -> None:
    got = resolve(["--surprise_threshold=1.5", "rack.gate.adaptive=true"])
    assert [s["type"] for s in got.config.rack] == ["OckhamGatePlugin"]
    assert (params(got.config, "gate")["surprise_threshold"], params(got.config, "gate")["adaptive"]) == (1.5, True)
    assert any("added an OckhamGatePlugin for surprise_threshold = 1.5 (command line)" in n for n in got.provenance.notes)
    rate = params(config("--target_update_rate=0.5"), "gate")
    assert (rate["surprise_threshold"], rate["target_update_rate"]) == (None, 0.5)
    assert config("--lambda_ockham=0.1").rack == ()


def test_a_recipe_may_choose_preset_and_groups() -> None:
    got = config(recipe("preset = 'ockham_tight'\noptimizer = 'muon'\nrack = {'gate': {'surprise_threshold': 3.0}}\n"))
    assert (got.preset, got.optimizer.name, params(got, "gate")["surprise_threshold"]) == ("ockham_tight", "muon", 3.0)
    without = resolve(["mine.py", "--preset=none"])
    assert without.config.rack == ()
    assert "mine.py: not used with preset none: rack.gate.surprise_threshold = 3.0" in without.provenance.notes


# ---------------------------------------- what is written and shown


def test_the_written_yaml_gives_the_config_back_and_names_every_source() -> None:
    got = resolve(
        ["config/train_gpt2.py", "--preset=balanced", "optimizer=muon", "--wandb_run_name=a # b: 'c'\nd", "--compile=False"]
    )
    text = config_as_yaml(got.config, got.provenance)
    assert from_mapping(RunConfig, yaml.safe_load(text)) == got.config
    assert "  adamw_lr: 0.001  # preset balanced" in text
    assert "batch_size: 12  # config/train_gpt2.py" in text
    assert "    surprise_threshold: 2.0  # preset balanced" in text


def test_the_written_yaml_repeats_the_run() -> None:
    first = resolve(
        ["config/train_gpt2.py", "--preset=balanced", "--lambda_ockham=0.5", "rack.compressor.ratio=4", "optimizer=muon"]
    )
    Path("config.yaml").write_text(config_as_yaml(first.config, first.provenance))
    assert config("config.yaml") == first.config
    assert config("config.yaml", "--preset=ockham_tight").lambda_ockham == 0.05


# ---------------------------------------- resume


def saved(folder: str, *argv: str) -> None:
    got = resolve([*argv, f"--out_dir={folder}"])
    Path(folder).mkdir()
    (Path(folder) / "config.yaml").write_text(config_as_yaml(got.config, got.provenance))


def test_resume_starts_from_the_runs_own_config() -> None:
    saved("r", "--preset=balanced", "optimizer=sgd", "--lambda_ockham=0.5", "--overwrite", "--batch_size=3", "scheduler=linear")
    got = resolve(["--init_from=resume", "--out_dir=r"])
    c = got.config
    assert (c.optimizer.name, c.lambda_ockham, c.batch_size, c.scheduler.name, len(c.rack)) == ("sgd", 0.5, 3, "linear", 5)
    assert (c.init_from, c.overwrite, c.out_dir) == ("resume", False, "r")
    assert not got.provenance.notes


def test_what_a_resume_changes_is_printed() -> None:
    saved("r", "--learning_rate=1e-3", "--preset=balanced")
    mine = recipe("batch_size = 5\n")
    got = resolve([mine, "--init_from=resume", "--out_dir=r", "--learning_rate=5e-4", "--surprise_threshold=1.5"])
    assert "Resume: optimizer.lr = 0.0005 (command line; the run had 0.001)" in got.provenance.notes
    assert "Resume: batch_size = 5 (mine.py; the run had 12)" in got.provenance.notes
    assert params(got.config, "gate")["surprise_threshold"] == 1.5
    assert got.config.lambda_ockham == 0.01


def test_resume_with_another_optimizer_leaves_the_old_ones_values_out() -> None:
    saved("r", "optimizer=sgd", "--optimizer.momentum=0.5", "--grad_clip=2")
    got = resolve(["--init_from=resume", "--out_dir=r", "optimizer=adamw"])
    assert (got.config.optimizer.lr, got.config.optimizer.clip_grad_norm) == (3e-4, 2.0)
    assert any("as meant for sgd" in n and "optimizer.momentum" in n for n in got.provenance.notes)


def test_another_optimizer_does_not_go_on_with_a_runs_state() -> None:
    saved("r", "optimizer=sgd")
    Path("r/last.pt").touch()
    with pytest.raises(ConfigError, match=r"the run in r was trained with SGD, and AdamW cannot go on .*--init_from=r/ckpt.pt"):
        resolve(["--init_from=resume", "--out_dir=r", "optimizer=adamw"])
    assert resolve(["--init_from=resume", "--out_dir=r"]).config.optimizer.type == "SGD"
    assert resolve(["--init_from=resume", "--out_dir=r", "optimizer=adamw", "--eval_only"]).config.eval_only


def test_resume_without_its_preset_has_no_rack() -> None:
    saved("r", "--preset=balanced")
    got = resolve(["--init_from=resume", "--out_dir=r", "--preset=none"])
    assert got.config.rack == ()
    assert not [key for key in got.provenance if key.startswith("rack.")]


def test_what_a_resume_changes_in_the_rack_is_printed() -> None:
    saved("r", "--preset=balanced")
    said = notes("--init_from=resume", "--out_dir=r", "rack.eq.enabled=False", "rack.compressor.ratio=3")
    assert "Resume: rack.eq.enabled = False (command line; the run had True)" in said
    assert any(n.startswith("Resume: rack.compressor.ratio = 3 (command line; the run had ") for n in said)
    assert len(said) == 2


def test_resume_of_a_run_that_lost_its_config_is_refused_with_the_way_out() -> None:
    Path("r").mkdir()
    Path("r/last.pt").touch()
    with pytest.raises(CheckpointError, match=r"r/config.yaml is missing.*--init_from=r/ckpt.pt --out_dir=ANOTHER"):
        resolve(["--init_from=resume", "--out_dir=r"])


def test_lookahead_that_is_chosen_is_on_whatever_lies_below_the_choice() -> None:
    chosen = ["optimizer=lookahead", "optimizer.base=sgd"]
    saved("r", "optimizer=sgd", "optimizer.lookahead.k=4")
    Path("mine.yaml").write_text("optimizer: {name: sgd, lookahead: {enabled: false, k: 4}}\n")
    Path("ahead.yaml").write_text("optimizer: {name: lookahead, base: sgd}\n")
    for argv in (["--init_from=resume", "--out_dir=r", *chosen], ["mine.yaml", *chosen], ["mine.yaml", "ahead.yaml"]):
        got = config(*argv).optimizer
        assert (got.name, got.lookahead.enabled, got.lookahead.k) == ("sgd", True, 4)
    assert not config("ahead.yaml", "mine.yaml").optimizer.lookahead.enabled
    assert not config(*chosen, "optimizer.lookahead.enabled=false").optimizer.lookahead.enabled


def test_resume_without_a_saved_config_changes_nothing() -> None:
    assert config("--init_from=resume", "--out_dir=nowhere").optimizer.name == "adamw"


# ---------------------------------------- recipes


@pytest.mark.parametrize("path", RECIPES, ids=lambda p: p.stem)
def test_every_recipe_resolves_alone_with_every_optimizer_and_preset(path: Path) -> None:
    name = f"config/{path.name}"
    for argv in ([], ["--preset=balanced", "optimizer=sgd"], ["optimizer=muon"]):
        assert config(name, *argv).dataset


@pytest.mark.parametrize("path", [p for p in RECIPES if p.stem.startswith("train_")], ids=lambda p: p.stem)
def test_a_training_recipe_states_every_value_of_nanogpts(path: Path) -> None:
    assert set(NANOGPT) - set(read_config(str(path))) == set()


def test_the_shakespeare_recipe_is_nanogpts() -> None:
    c = config("config/train_shakespeare_char.py")
    assert (c.n_layer, c.n_head, c.n_embd, c.dropout, c.batch_size, c.block_size) == (6, 6, 384, 0.2, 64, 256)
    assert (c.optimizer.lr, c.min_lr, c.optimizer.weight_decay, c.optimizer.options["betas"]) == (1e-3, 1e-4, 0.1, [0.9, 0.99])
    assert (c.max_iters, c.scheduler.decay_steps, c.warmup_steps, c.optimizer.accumulate_steps) == (5000, 5000, 100, 1)


# ---------------------------------------- what is easily taken for something else


@pytest.mark.parametrize(
    ("argument", "held"),
    [
        ("optimizer.lookahead=true", "optimizer.lookahead.enabled, .alpha, .k"),
        ("--optimizer.ema=0.9", "optimizer.ema.decay"),
        ("memory=true", "memory.enabled, .quality_threshold"),
        ("--macro=0.5", "macro.plasticity, .accuracy"),
        ("anchor=l2", "anchor.penalize, .patience"),
        ("--journal=False", "journal.replayable"),
    ],
)
def test_a_group_of_keys_is_no_key(argument: str, held: str) -> None:
    with pytest.raises(ConfigError, match="is a group of keys") as caught:
        resolve([argument])
    assert held in str(caught.value)
    assert "did you mean" not in str(caught.value)


def test_adam_with_somebody_elses_decay_is_told_once_what_it_does() -> None:
    Path("mine.py").write_text("weight_decay = 0.1\n")
    (said,) = [note for note in notes("mine.py", "optimizer=adam") if note.startswith("Adam:")]
    assert said.startswith("Adam: optimizer.weight_decay = 0.1 (mine.py) is an L2 term added to the gradient")
    assert "optimizer=adamw" in said
    assert "--weight_decay=0" in said
    for argv in (["optimizer=adamw"], ["optimizer=adam", "--weight_decay=0"], ["optimizer=adam", "--weight_decay=0.2"]):
        assert not [note for note in notes("mine.py", *argv) if note.startswith("Adam:")]
    assert not [note for note in notes("optimizer=adam") if note.startswith("Adam:")]


def test_a_class_put_under_anothers_options_leads_to_its_own_file() -> None:
    with pytest.raises(
        ConfigError, match=r"optimizer.type = SGD \(command line\) has the options of .*adamw.yaml.*optimizer=sgd"
    ):
        resolve(["optimizer.type=SGD"])
    assert resolve(["optimizer.type=Adam"]).config.optimizer.type == "Adam"  # AdamW's options are Adam's


def test_one_schedule_does_and_several_do() -> None:
    assert any(note.endswith("does not use it (onecycle does)") for note in notes("--scheduler.pct_start=0.2"))
    assert any(note.endswith("(onecycle, wsd do)") for note in notes("--scheduler.anneal=linear"))


def test_help_shows_the_values_of_the_chosen_files() -> None:
    def shown(*argv: str) -> str:
        done = subprocess.run(
            [sys.executable, ROOT / "train_ockham.py", *argv, "--help"], capture_output=True, text=True, timeout=60, check=True
        )
        return done.stdout

    usual, muon = shown(), shown("optimizer=muon")
    assert "  optimizer.weight_decay=0.01 " in usual
    assert "values are those of config/optimizer/adamw.yaml" in usual
    assert "  optimizer.lr=0.02 " in muon
    assert "  optimizer.momentum=0.95: muon" in muon
    assert "  optimizer.lookahead.enabled=true" in shown("--optimizer=lookahead")
