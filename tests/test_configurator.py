"""The command line: both grammars, sweeps, errors in one line with the right exit code."""

from __future__ import annotations

import dataclasses
import errno
import re
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import configurator
from configurator import Provenance, flat, resolve, run, run_program
from ockham.config import RunConfig
from ockham.configuration.grammar import QUOTED
from ockham.errors import ConfigError, CorpusError

ROOT = Path(__file__).resolve().parents[1]
# nanoGPT's train.py, every key, with a value other than its default.
NANOGPT = {
    "out_dir": "x", "eval_interval": 7, "log_interval": 3, "eval_iters": 5, "eval_only": True, "always_save_checkpoint": False,
    "init_from": "gpt2", "wandb_log": True, "wandb_project": "p", "wandb_run_name": "r", "dataset": "shakespeare",
    "gradient_accumulation_steps": 4, "batch_size": 2, "block_size": 16, "n_layer": 2, "n_head": 2, "n_embd": 8, "dropout": 0.1,
    "bias": True, "learning_rate": 2e-3, "max_iters": 11, "weight_decay": 0.3, "beta1": 0.8, "beta2": 0.7, "grad_clip": 0.5,
    "decay_lr": False, "warmup_iters": 9, "lr_decay_iters": 10, "min_lr": 1e-6, "backend": "gloo", "device": "cpu",
    "dtype": "float32", "compile": False,
}  # fmt: skip


@pytest.fixture(autouse=True)
def _in_an_empty_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("RANK", "WORLD_SIZE"):
        monkeypatch.delenv(name, raising=False)


def test_a_file_of_the_runs_own_is_no_name_for_the_audit(capsys: pytest.CaptureFixture[str]) -> None:
    for argv in (["--optimizer.export_json=last.pt"], ["-m", "seed=1,2", "optimizer.export_json=../x.json"]):
        assert run(lambda c, p: pytest.fail("ran"), [*argv, "--out_dir=nowhere"], script=Path("nothing.py")) == 2
        said = capsys.readouterr().err
        assert "optimizer.export_json must be the name of a .json file inside out_dir" in said
        assert "(command line)" in said


def config(*argv: str) -> RunConfig:
    return resolve(list(argv)).config


def recipe(text: str, name: str = "mine.py") -> str:
    Path(name).write_text(text)
    return name


def collected(*argv: str) -> list[RunConfig]:
    seen: list[RunConfig] = []
    code = run(lambda c, p: seen.append(c), list(argv))
    assert code == 0
    return seen


# ---------------------------------------- grammar


@pytest.mark.parametrize("form", ["--batch_size=8", "batch_size=8", "+batch_size=8", "++batch_size=8"])
def test_a_key_takes_both_grammars(form: str) -> None:
    assert config(form).batch_size == 8


@pytest.mark.parametrize("form", ["--optimizer.lr=0.5", "optimizer.lr=0.5", "--learning_rate=0.5", "learning_rate=.5"])
def test_nanogpts_name_and_ours_mean_the_same_key(form: str) -> None:
    assert config(form).optimizer.lr == 0.5


@pytest.mark.parametrize("form", ["--optimizer=muon", "optimizer=muon", "--optimizer.name=muon", "optimizer.name=muon"])
def test_a_group_is_chosen_in_both_grammars_and_by_its_name(form: str) -> None:
    assert config(form).optimizer.type == "Muon"


@pytest.mark.parametrize("form", ["scheduler=linear", "scheduler.name=linear", "--scheduler=linear"])
def test_scheduler_name_is_the_same_as_the_scheduler_group(form: str) -> None:
    assert config(form).scheduler.name == "linear"


def test_every_key_of_nanogpt_is_accepted_and_arrives() -> None:
    got = config(*[f"--{k}={v}" for k, v in NANOGPT.items()])
    values = flat(got)
    assert {k: values[k] for k in NANOGPT} == NANOGPT
    assert got.optimizer.options["betas"] == [0.8, 0.7]
    assert got.scheduler.name == "none"


def test_flat_tells_the_schedule_in_nanogpts_names() -> None:
    values = flat(config("max_iters=50", "optimizer.lr=1", "--decay_lr=True"))
    assert (values["lr_decay_iters"], values["min_lr"], values["decay_lr"], values["warmup_iters"]) == (50, 0.1, True, 0)


def test_python_and_yaml_literals_are_read() -> None:
    got = config(
        *("--overwrite=True", "--bias=true", "--learning_rate=1e-3", "--target_update_rate=None", "--surprise_threshold=null"),
        *("--max_iters=1e6", "--dropout=0", "--dataset='quoted name'", "--optimizer.betas=(0.5, 0.6)"),
    )
    assert (got.overwrite, got.bias, got.target_update_rate) == (True, True, None)
    assert (got.optimizer.lr, got.max_iters) == (1e-3, 1_000_000)
    assert (got.dropout, got.dataset, got.optimizer.options["betas"]) == (0.0, "quoted name", [0.5, 0.6])


def test_a_bare_flag_is_true_for_a_boolean_and_an_error_for_a_number() -> None:
    got = config("--overwrite", "--compile")
    assert got.overwrite is True
    assert got.compile is True
    with pytest.raises(ConfigError, match=r"--seed needs a value: write --seed=3"):
        resolve(["--seed", "3"])
    with pytest.raises(ConfigError, match=r"write --overwrite=True"):
        resolve(["--overwrite", "True"])


@pytest.mark.parametrize(
    "text", ["5", "1.50", "true", "1e3", "a,b", "Hello (x)", "~/x", "a=b", "${x}", "$", "[", "{a: b}", "'", "\\", ""]
)
def test_a_string_key_keeps_its_text(text: str) -> None:
    (got,) = collected(f"--wandb_run_name={text}", f"--wandb_project={text}")
    assert (got.wandb_run_name, got.wandb_project) == (text, text)


@given(
    st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=12) | st.text("\\'\"${}=,()[]~ \n\ta", max_size=10)
)
@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_any_string_survives_the_translation(text: str) -> None:
    if QUOTED.fullmatch(text) or text.lower() in ("none", "null"):
        return
    assert config(f"--wandb_run_name={text}").wandb_run_name == text


def test_hydra_grammar_types_by_the_schema_too() -> None:
    got = config("wandb_run_name=1.50", "dataset=5", "optimizer.betas=[0.1,0.2]", "optimizer.clip_grad_norm=null")
    assert (got.wandb_run_name, got.dataset, got.optimizer.options["betas"]) == ("1.50", "5", [0.1, 0.2])
    assert got.optimizer.clip_grad_norm is None


def test_a_hydra_interpolation_sees_what_holds() -> None:
    got = config("out_dir=out/${optimizer.name}_${seed}_${optimizer.lr}", "optimizer=sgd", "seed=4", "--preset=none")
    assert got.out_dir == "out/sgd_4_0.01"


def test_a_sweep_needs_m_and_is_written_without_dashes() -> None:
    with pytest.raises(ConfigError, match=r"seed=1,2 is a sweep: add -m"):
        resolve(["seed=1,2"])
    with pytest.raises(ConfigError, match=r"a sweep is written -m seed=1,2"):
        resolve(["-m", "--seed=1,2"])
    with pytest.raises(ConfigError, match=r"a sweep is written -m preset=balanced,none"):
        resolve(["--preset=balanced,none"])


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (["dataset=a=b"], r"with dashes a value may hold anything: --dataset=a=b"),
        (["~scheduler"], r"unexpected argument"),
        (["~seed=1"], r"nothing can be taken out"),
        (["-x"], r"unknown flag -x"),
        (["train_gpt2"], r"write config/train_gpt2.py"),
        (["config/train_gpt3.py"], r"does not exist \(did you mean train_gpt2.py\?\)"),
        (["--cfg", "jb"], r"--cfg must be job, hydra or all, got 'jb'"),
        (["--cfg"], r"--cfg needs a value"),
        (["--package", "optimizer"], r"--package goes with --cfg: write --cfg job --package optimizer"),
        (["--info=confg"], r"--info must be one of all, config.*, got 'confg' \(did you mean config\?\)"),
    ],
)
def test_what_is_not_of_the_grammar_is_refused_with_the_fix(argv: list[str], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        resolve(argv)


# ---------------------------------------- keys and types


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (["--lerning_rate=1"], r"unknown key lerning_rate \(command line\) \(did you mean learning_rate\?\)"),
        (["batchsize=1"], r"unknown key batchsize \(command line\) \(did you mean batch_size\?\)"),
        (["optimizer.lrr=1"], r"unknown key optimizer.lrr \(command line\) \(did you mean optimizer.lr\?\)"),
        (["--momentum=.9"], r"unknown key momentum \(command line\) \(did you mean optimizer.momentum\?\)"),
        (["anchor.patienc=3"], r"did you mean anchor.patience"),
        (["optimizer.momentum=.9"], r"momentum belongs to muon, rmsprop, sgd; the optimizer is adamw"),
        (["--beta2=.9", "optimizer=sgd"], r"beta2 belongs to adam, adamw, lion, muon; the optimizer is sgd"),
        (["optimizer=muonn"], r"optimizer must be one of .*, got 'muonn' .*\(did you mean muon\?\)"),
        (["--learning_rate=abc"], r"learning_rate must be float, got 'abc' \(command line\)"),
        (["--batch_size=0"], r"batch_size must be >= 1, got 0 \(command line\)"),
        (["--batch_size=1.5"], r"batch_size must be int, got 1.5"),
        (["--bias=3"], r"bias must be true or false, got 3"),
        (["--dtype=float"], r"dtype must be one of .*float32"),
        (["seed[0]=1"], r"not of Hydra's grammar|has no element"),
        (["--bias=1"], r"bias must be true or false, got 1 \(did you mean True\?\) \(command line\)"),
        (["--bias=no"], r"bias must be true or false, got 'no' \(did you mean False\?\)"),
        (["--compile=1"], r"compile must be one of auto, True, False, got '1' \(did you mean True\?\)"),
        (["--top_k=3"], r"unknown key top_k \(command line\); it belongs to sample.py"),
        (["--seed=99999999999999999999999"], r"seed must be in \[0, 9223372036854775807\], got 9999"),
        (["--weight_decay=1e400"], r"weight_decay must be a finite number, got inf \(command line\)"),
        (["--peak_flops=1e400"], r"peak_flops must be a finite number, got inf"),
        (["--optimizer.momentum=1e400", "optimizer=sgd"], r"optimizer.momentum must be a finite number"),
        (["--weight_decay=1" + "0" * 400], r"weight_decay must be a finite number, got one of 401 digits"),
        (["--out_dir="], r"out_dir must not be empty \(command line\)"),
        (["--dataset="], r"dataset must not be empty"),
        (["init_from=' '"], r"init_from must not be empty"),
        (
            ["--init_from=scrach"],
            r"init_from must be one of scratch, .*, got 'scrach' \(command line\) \(did you mean scratch\?\)",
        ),
        (["--optimizer.nesterov=5", "optimizer=sgd"], r"optimizer.nesterov must be true or false, got 5"),
    ],
)
def test_a_wrong_key_or_value_is_named_with_the_nearest(argv: list[str], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        resolve(argv)


def test_ints_are_fine_for_floats() -> None:
    assert config("--learning_rate=1").optimizer.lr == 1.0


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("lerning_rate = 1", r"unknown key lerning_rate \(mine.py\) \(did you mean learning_rate\?\)"),
        ("batch_size = 'x'", r"batch_size must be int, got 'x' \(mine.py\)"),
        ("a = \n", r"mine.py:1: invalid syntax"),
        ("_x = 1\n_y = 1 / 0\n", r"mine.py:2: ZeroDivisionError"),
        ("import sys\nsys.exit(3)", r"mine.py:2: SystemExit"),
        ("out_dir = object()", r"mine.py: out_dir must be a number, string.* got a object"),
        ("optimizer = 'adma'", r"optimizer must be one of .*\(mine.py\) \(did you mean adam\?\)"),
    ],
)
def test_a_bad_config_file_is_named_with_its_line(text: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        resolve([recipe(text)])


def test_a_recipe_has_its_own_namespace_and_helpers() -> None:
    got = config(recipe("import math\nfrom pathlib import Path\n_n = 3\ndef f(): return 4\nbatch_size = f() * _n\n"))
    assert got.batch_size == 12


def test_yaml_files_are_flat_or_nested_and_read_1e_3_as_a_number() -> None:
    flat_file = recipe("learning_rate: 1e-3\noptimizer.weight_decay: 5E-2\n", "flat.yaml")
    nested = recipe(
        "optimizer: {name: sgd, lr: 1e-1, auto_param_groups: {enabled: false}}\nanchor:\n  patience: 7\n", "nested.yaml"
    )
    assert (config(flat_file).optimizer.lr, config(flat_file).optimizer.weight_decay) == (1e-3, 5e-2)
    got = config(nested)
    assert (got.optimizer.name, got.optimizer.lr, got.optimizer.auto_param_groups.enabled, got.anchor.patience) == (
        "sgd",
        0.1,
        False,
        7,
    )


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("seed: &a 1\nbatch_size: *a\n", r"aliases are not allowed"),
        ("seed: 1\nseed: 2\n", r"x.yaml:2: .*seed is given twice"),
        ("- 1\n", r"must hold key: value lines"),
        ("seed: [1\n", r"x.yaml:2: not valid YAML"),
        ("seed: !!python/object/apply:os.getcwd []\n", r"not valid YAML"),
    ],
)
def test_yaml_is_data_only(text: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        resolve([recipe(text, "x.yaml")])


# ---------------------------------------- run, sweeps


def test_run_gives_main_config_and_provenance_and_its_exit_code(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    seen: list[tuple[RunConfig, Provenance]] = []

    def main(c: RunConfig, p: Provenance) -> int:
        seen.append((c, p))
        return 7

    assert run(main, ["config/train_gpt2.py", "--preset=balanced"]) == 7
    assert seen[0][1]["optimizer.lr"][-1].where == "preset balanced"
    assert "Overriding: optimizer.lr" in capsys.readouterr().out
    assert list(tmp_path.iterdir()) == []  # Hydra writes nothing of its own


def test_run_resolves_as_resolve_does() -> None:
    argv = [
        "config/train_shakespeare_char.py",
        "--preset=exploratory",
        "optimizer=muon",
        "--beta2=.5",
        "rack.gate.adaptive=false",
    ]
    assert collected(*argv) == [config(*argv)]


def test_only_the_first_rank_prints(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setenv("RANK", "1")
    assert run(lambda c, p: None, ["config/train_gpt2.py", "--preset=balanced"]) == 0
    assert run(lambda c, p: None, ["--nothing=1"]) == 2
    assert capsys.readouterr() == ("", "")


# ---------------------------------------- errors


@pytest.mark.parametrize(
    ("error", "code", "line"),
    [
        (ConfigError("a\n b"), 2, "error: a b"),
        (CorpusError("c"), 1, "error: c"),
        (OSError(errno.ENOSPC, "No space left on device", "f"), 1, "error: No space left on device: f"),
        (KeyboardInterrupt(), 130, "interrupted"),
        (RuntimeError("x"), 1, "error: RuntimeError: x (--debug=True shows where)"),
    ],
)
def test_every_error_is_one_line_and_an_exit_code(
    error: BaseException, code: int, line: str, capsys: pytest.CaptureFixture[str]
) -> None:
    def main() -> int:
        raise error

    assert run_program(main, False) == code
    assert capsys.readouterr().err == line + "\n"


def test_debug_shows_the_traceback(capsys: pytest.CaptureFixture[str]) -> None:
    def main(c: RunConfig, p: Provenance) -> None:
        raise CorpusError("c")

    assert run(main, ["--debug=True"]) == 1
    assert "Traceback" in capsys.readouterr().err
    assert run(main, ["seed=1"]) == 1
    assert "Traceback" not in capsys.readouterr().err


def test_a_program_starts_without_torch_and_fails_in_one_line() -> None:
    code = (
        "import sys, configurator\n"
        "code = configurator.run(lambda c, p: 5, sys.argv[1:])\n"
        "assert not {'torch', 'numpy'} & set(sys.modules), 'slow start'\n"
        "sys.exit(code)"
    )

    def start(*argv: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-c", code, *argv], cwd=ROOT, capture_output=True, text=True, timeout=30, check=False
        )

    good, bad = start("--preset=balanced"), start("--sed=1")
    assert (good.returncode, good.stderr) == (5, "")
    assert (bad.returncode, bad.stdout, bad.stderr) == (2, "", "error: unknown key sed (command line) (did you mean seed?)\n")


def test_the_public_names_are_these() -> None:
    assert set(configurator.__all__) >= {"run", "resolve", "explain", "parse_flags", "run_program", "config_as_yaml", "flat"}


# ---------------------------------------- shown instead of run


def test_cfg_job_prints_the_resolved_config_and_nothing_else(capsys: pytest.CaptureFixture[str]) -> None:
    assert (
        run(lambda c, p: pytest.fail("ran"), ["batch_size=3", "--cfg", "job", "--preset=balanced", "config/train_gpt2.py"]) == 0
    )
    out, err = capsys.readouterr()
    shown = yaml.safe_load(out)
    assert (shown["batch_size"], shown["optimizer"]["lr"], shown["rack"][0]["type"]) == (3, 0.001, "OckhamGatePlugin")
    assert "Overriding: optimizer.lr" in err
    assert run(lambda c, p: None, ["--cfg", "job", "--package", "scheduler", "seed=1"]) == 0
    assert yaml.safe_load(capsys.readouterr().out)["name"] == "cosine"
    assert run(lambda c, p: None, ["--cfg", "job", "-p", "schedulr"]) == 2
    assert "scheduler" in capsys.readouterr().err


def test_cfg_hydra_is_hydras(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(lambda c, p: None, ["seed=1", "--cfg", "hydra"]) == 0
    assert "hydra:" in capsys.readouterr().out


def test_help_lists_every_key_group_preset_and_exit_code(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(lambda c, p: pytest.fail("ran"), ["seed=1", "--help"]) == 0
    text = capsys.readouterr().out
    optimizers = "optimizer=adafactor | adam | adamw | lion | lookahead | muon | rmsprop | sgd"
    for word in ("max_iters=600000", "anchor.patience=2", "nats/token", optimizers, "balanced", "130"):
        assert word in text
    for f in dataclasses.fields(RunConfig):
        assert f.name in text


def test_info_is_hydras_with_our_arguments_translated() -> None:
    code = "import configurator, sys; sys.exit(configurator.run(lambda c, p: 5, sys.argv[1:]))"
    argv = ["--info", "config", "--batch_size=3", "optimizer=sgd"]  # in a process of its own, whose logging Hydra sets up
    done = subprocess.run([sys.executable, "-c", code, *argv], cwd=ROOT, capture_output=True, text=True, timeout=30, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    assert "batch_size: 3" in done.stdout
    assert "name: sgd" in done.stdout


def test_version_names_the_program_and_hydra(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(lambda c, p: pytest.fail("ran"), ["--version"]) == 0
    assert re.fullmatch(r"nanoGPT-Ockham \d+\.\d+\.\d+ \(Hydra 1\.\d+\.\d+\)\n", capsys.readouterr().out)


def test_a_reader_that_goes_away_ends_a_program_without_a_word() -> None:
    code = "import configurator, sys; sys.exit(configurator.run_program(lambda: print('x' * int(sys.argv[1])), False))"
    for length in ("10", "1000000"):  # within Python's buffer, and beyond it
        process = subprocess.Popen(
            [sys.executable, "-c", f"input(); {code}", length],
            cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        )  # fmt: skip
        assert process.stdout is not None
        process.stdout.close()
        process.stdout = None
        assert process.communicate("go\n", timeout=30)[1] == ""
        assert process.returncode == configurator.BROKEN_PIPE
