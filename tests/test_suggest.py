"""`ockham preset suggest`: every preset gets the same compute, and the ranking says how far it may be trusted."""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import pytest

from ockham.__main__ import main
from ockham.errors import ConfigError, UsageError, WorldError
from ockham.experiment import suggest as subject

# A run that costs 3 units an iteration, or 1.5 under a preset that skips; its val loss is known.
STUB = """
import json, sys
from pathlib import Path

said = dict(arg.lstrip("-").split("=", 1) for arg in sys.argv[1:] if "=" in arg)
out, preset, seed = Path(said["out_dir"]), said["preset"], int(said["seed"])
if preset == "exploratory":
    print("error: no corpus here", file=sys.stderr)
    sys.exit(1)
out.mkdir(parents=True, exist_ok=True)
with open(out / "calls.jsonl", "a") as file:
    file.write(json.dumps(sys.argv[1:]) + "\\n")
cost = {"none": 3.0, "balanced": 1.5}.get(preset, 1.2)
iters = min(int(said["max_iters"]), round(float(said["max_units"]) / cost))
loss = {"none": 2.0, "balanced": 1.8}.get(preset, 2.2) + SPREAD * (seed % 3)
figures = {"val_loss": loss, "compute_units": cost * iters, "iters": iters, "update_rate": (cost - 1) / 2}
(out / "summary.json").write_text(json.dumps(figures))
"""


def options(tmp_path, rest=("config/train_shakespeare_char_cpu.py",), **changes):
    given = {"units": 300, "presets": "none,balanced,ockham_tight", "seeds": "1", "out": tmp_path / "out", "rest": list(rest)}
    return argparse.Namespace(**given | changes)


def script(tmp_path, spread=0.0):
    path = tmp_path / "stub.py"
    path.write_text(STUB.replace("SPREAD", str(spread)))
    return path


def calls(folder: Path):
    return [json.loads(line) for line in (folder / "calls.jsonl").read_text().splitlines()]


def test_presets_are_ranked_by_val_loss_at_equal_compute(tmp_path, capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "120")
    assert subject.suggest(options(tmp_path), script=script(tmp_path)) == 0
    out = capsys.readouterr().out
    table = [line.split() for line in out.splitlines() if line.split()[:1] in (["none"], ["balanced"], ["ockham_tight"])]
    assert [row[0] for row in table] == ["balanced", "none", "ockham_tight"]
    assert [row[2] for row in table] == ["300", "300", "300"]
    assert [row[3] for row in table] == ["200", "100", "250"]
    assert "one seed is no verdict" in out


def test_a_run_ends_with_its_units_and_its_schedule_with_it(tmp_path):
    subject.suggest(options(tmp_path), script=script(tmp_path))
    [argv] = calls(tmp_path / "out" / "balanced_seed1")
    assert {"--max_units=300", "--max_iters=300", "--scheduler.clock=compute", "--scheduler.decay_steps=100"} <= set(argv)


@pytest.mark.parametrize(("spread", "words"), [(0.01, "every seed of it is better"), (0.3, "their seeds overlap")])
def test_seeds_say_whether_they_tell_presets_apart(tmp_path, capsys, spread, words):
    subject.suggest(options(tmp_path, seeds="1,2,3"), script=script(tmp_path, spread))
    out = capsys.readouterr().out
    assert words in out
    assert "mean of 3 seeds" in out


def test_a_failed_preset_is_last_and_named(tmp_path, capsys):
    assert subject.suggest(options(tmp_path, presets="exploratory,none"), script=script(tmp_path)) == 0
    out = capsys.readouterr().out
    assert "exploratory_seed1: no corpus here" in out
    assert "--preset=none" in out


def test_when_all_fail_it_is_an_error_of_the_world(tmp_path):
    with pytest.raises(WorldError, match="no run came to its end; the last error: no corpus here"):
        subject.suggest(options(tmp_path, presets="exploratory"), script=script(tmp_path))


def test_max_iters_stands_for_the_units_of_as_many_learned_iterations(tmp_path):
    from configurator import resolve

    plan = subject.make_plan(options(tmp_path, ["--max_iters=50", "--gradient_accumulation_steps=4"], units=None), resolve)
    assert (plan.units, plan.iteration_units, plan.argv) == (600, 12, ("--gradient_accumulation_steps=4",))


@pytest.mark.parametrize(
    ("rest", "changes", "error", "message"),
    [
        (["--preset=balanced"], {}, ConfigError, "suggest sets preset itself"),
        (["--out_dir=x"], {}, ConfigError, "suggest sets out_dir itself"),
        (["--init_from=resume"], {}, ConfigError, "name the run's folder instead"),
        (["--max_iter=3"], {}, ConfigError, "did you mean max_iters"),
        ([], {"presets": "balancd"}, UsageError, r"'balancd' \(did you mean balanced\?\)"),
        ([], {"seeds": "a"}, UsageError, "--seeds must be whole numbers separated by commas, got 'a'"),
        ([], {"units": 2}, UsageError, "--units must pay one learned iteration at least, 3, got 2"),
    ],
)
def test_a_usage_error_stops_before_anything_runs(tmp_path, rest, changes, error, message):
    with pytest.raises(error, match=message):
        subject.suggest(options(tmp_path, rest, **changes), run=None)


@pytest.mark.parametrize("wrong", [["--presets=balancd"], ["--seeds=a"], ["--units=2"], ["--max_iter=3"]])
def test_what_is_written_wrong_is_said_before_the_folder_is_looked_at(tmp_path, capsys, wrong):
    (tmp_path / "x").touch()
    assert main(["preset", "suggest", f"--out={tmp_path}", *wrong]) == 2
    assert "is not empty" not in capsys.readouterr().err


def test_a_folder_with_runs_is_left_alone(tmp_path, capsys):
    (tmp_path / "x").touch()
    assert main(["preset", "suggest", f"--out={tmp_path}"]) == 2
    assert "is not empty; give a new folder" in capsys.readouterr().err


@pytest.mark.slow
def test_a_real_run_spends_the_budget(tmp_path, corpus):
    tiny = [
        "--n_layer=1", "--n_head=1", "--n_embd=8", "--block_size=16", "--batch_size=4", "--device=cpu", "--eval_interval=1000",
        f"--data_dir={corpus.parent}", "--dataset=tiny", "--log_interval=1000", "--surprise_threshold=null", "--threads=1",
    ]  # fmt: skip
    plan = subject.make_plan(options(tmp_path, tiny, units=150, presets="ockham_tight"), __import__("configurator").resolve)
    result = subject.measured(plan, "ockham_tight", subject.run_job, subject.SCRIPT)
    assert result.errors == ()
    assert 0.98 * 150 <= result.units <= 1.1 * 150
    assert result.iters > 50
