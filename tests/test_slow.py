"""Slow checks on real text: `make test-slow`."""

import json

import pytest

import configurator
import train_ockham
from ockham.corpus import main as prepare

pytestmark = pytest.mark.slow


@pytest.fixture
def shakespeare(shared, tmp_path, root):
    """Tiny Shakespeare by character, prepared in a temporary folder."""
    import runpy

    recipe = runpy.run_path(str(root / "data" / "shakespeare_char" / "prepare.py"), run_name="recipe")["RECIPE"]
    folder = tmp_path / "data" / "shakespeare_char"
    assert prepare(recipe, ["--source", str(shared / "tinyshakespeare" / "input.txt"), "--out", str(folder)]) == 0
    return folder


@pytest.mark.parametrize(("preset", "bar"), [("none", 2.35), ("balanced", 2.42)])
def test_real_text_is_learned(shakespeare, tmp_path, preset, bar):
    argv = ["config/train_shakespeare_char_cpu.py", f"--data_dir={shakespeare.parent}", f"--out_dir={tmp_path / 'out'}"]
    more = ["--max_iters=500", "--lr_decay_iters=500", "--eval_interval=500", "--eval_iters=0", "--log_interval=100"]
    assert configurator.run(train_ockham.main, [*argv, *more, f"--preset={preset}"]) == 0
    assert json.loads((tmp_path / "out" / "summary.json").read_text())["val_loss"] < bar
