"""The `ockham` command: every mistake is one line with exit code 2, and the help is whole."""

import subprocess
import sys

import pytest

from ockham.__main__ import main, of_train


@pytest.mark.parametrize(
    ("args", "message"),
    [
        ("traine", "got 'traine' (did you mean train?); see ockham --help"),
        ("config", "WHAT must be given (explain); see ockham config --help"),
        ("config show", "WHAT must be explain, got 'show'"),
        ("preset shwo x", "did you mean show?"),
        ("preset list x", "unexpected argument 'x'; see ockham preset list --help"),
        ("report", "RUN must be given"),
        ("report --talbe", "unknown option --talbe (did you mean --table?); see ockham report --help"),
        ("report o1 --debgu", "unknown option --debgu"),
        ("report o1 --tab", "unknown option --tab (did you mean --table?)"),
        ("report o1 p1 --svg X --labels a", "--labels needs a name for each of the 2 runs, got 1: a"),
        ("report o1 --labels a", "give --svg, too"),
        ("report o1 --svg X --table", "not allowed with"),
        ("--vresion", "unknown option --vresion (did you mean --version?)"),
        ("config explain max_iter", "did you mean max_iters?"),
        ("config explain seed --max_iter=3", "did you mean max_iters?"),
    ],
)
def test_a_usage_error_is_one_line_and_exits_with_2(capsys, args, message):
    assert main(args.split()) == 2
    out, said = capsys.readouterr()
    assert message in said
    assert said.startswith("error: ")
    assert said.count("\n") == 1
    assert out == ""


def test_without_arguments_the_help_is_shown_and_the_exit_code_is_2(capsys):
    assert main([]) == 2
    assert "usage: ockham" in capsys.readouterr().err


def test_help_names_every_command_and_flag(capsys):
    assert main(["--help"]) == 0
    told = capsys.readouterr().out
    for part in ("train", "config explain KEY", "preset list", "preset show NAME", "report RUN", "--svg", "--table", "--labels"):
        assert part in told
    assert "--debug" in told


@pytest.mark.parametrize("args", ["--help", "config --help", "config explain --help", "preset show --help", "report --help"])
def test_every_verb_has_help(capsys, args):
    assert main(args.split()) == 0
    assert "usage: ockham" in capsys.readouterr().out


@pytest.mark.parametrize("flag", ["--debug", "--debug=True", "--debug=true"])
def test_debug_shows_the_traceback_before_the_line(tmp_path, capsys, flag):
    for args in (["report", str(tmp_path), flag], [flag, "report", str(tmp_path)]):
        assert main(args) == 1
        said = capsys.readouterr().err
        assert "Traceback" in said
        assert "error: " in said
    assert main(["report", str(tmp_path), "--debug=False"]) == 1
    assert "Traceback" not in capsys.readouterr().err


def test_explain_takes_train_arguments(capsys):
    assert main(["config", "explain", "max_iters", "--max_iters=7", "--debug=True"]) == 0
    assert "7" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("given", "arguments"),
    [
        ("train seed=1", ["seed=1"]),
        ("-m train optimizer=adamw optimizer.lr=1e-4,3e-4", ["-m", "optimizer=adamw", "optimizer.lr=1e-4,3e-4"]),
        ("--debug --multirun train seed=1,2", ["--debug", "--multirun", "seed=1,2"]),
        ("report train", None),
        ("-m report", None),
        ("-m", None),
    ],
)
def test_flags_of_a_sweep_may_stand_before_the_verb(given, arguments):
    assert of_train(given.split()) == arguments


def test_what_starts_a_sweep_loads_no_torch(root, corpus, tmp_path):
    code = "import sys; from ockham.__main__ import main; c = main(sys.argv[1:]); assert 'torch' not in sys.modules; sys.exit(c)"
    command = [sys.executable, "-c", code, "-m", "train", "seed=1,-2", f"--out_dir={tmp_path / 'out'}"]  # the second is a mistake
    command += [f"--data_dir={corpus.parent}", f"--dataset={corpus.name}"]
    done = subprocess.run(command, cwd=root, capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stderr[:40]) == (2, "error: job 1_seed=-2: seed must be in [0")
