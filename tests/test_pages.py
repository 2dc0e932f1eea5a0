"""The Python of the how-to pages, and a shell block, run as they stand there, beside small corpora and runs of the same names."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys

import pytest
from conftest import write_corpus

import configurator
import train_ockham
from ockham import presets

SMALL = ["--device=cpu", "--compile=False", "--block_size=16", "--n_layer=1", "--n_head=2", "--n_embd=16", "--batch_size=4",
         "--max_iters=10", "--eval_interval=5"]  # fmt: skip
SMALLER = {"ITERATIONS, BLOCK = 300, 64": "ITERATIONS, BLOCK = 3, 16"}


@pytest.fixture
def place(tmp_path, monkeypatch):
    """A working folder with a corpus and a run under the names that the pages use."""
    write_corpus(tmp_path / "data" / "fables")
    argv = ["--dataset=fables", "--out_dir=out-shakespeare-char", "--memory.enabled=True", *SMALL]
    argv.append(f"--data_dir={tmp_path / 'data'}")
    monkeypatch.chdir(tmp_path)
    assert configurator.run(train_ockham.main, argv) == 0
    return tmp_path


def run_page(root, name):
    """All Python blocks of a page, one after the other in one namespace."""
    page = (root / "docs" / "how-to" / name).read_text(encoding="utf-8")
    code = "\n".join(re.findall(r"```python\n(.*?)```", page, re.DOTALL))
    for large, small in SMALLER.items():
        code = code.replace(large, small)
    names: dict = {"__name__": "page"}
    exec(compile(code, name, "exec"), names)
    return page, names


def test_migrate_prints_what_it_says(root, capsys):
    page, _ = run_page(root, "migrate.md")
    said = capsys.readouterr().out
    assert "2.604e-07" in said
    assert "0.00025 [('my', 'learning_rate', 0.001, 0.0005), ('my_plugin_v2', 'learning_rate', 0.0005, 0.00025)]" in said
    told = re.search(r"It prints\n\n```\n(.*?)```", page, re.DOTALL)[1]
    assert told in said


@pytest.fixture
def checkout(root, tmp_path):
    """A copy of the checkout with a small corpus, and an environment in which `ockham`, `python` and the template are its own."""
    copy, commands, site = tmp_path / "checkout", tmp_path / "bin", tmp_path / "site"
    for name in ("ockham", "presets", "config"):
        shutil.copytree(root / name, copy / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("train_ockham.py", "configurator.py", "model.py", "pretrained.py"):
        shutil.copy(root / name, copy)
    write_corpus(copy / "data" / "shakespeare_char")
    commands.mkdir()
    for name, words in (("python", ""), ("ockham", "-m ockham ")):
        (commands / name).write_text(f'#!/bin/sh\nexec "{sys.executable}" {words}"$@"\n')
        (commands / name).chmod(0o755)
    info = site / "ockham_loss_brake-1.0.dist-info"  # as pip would leave it
    info.mkdir(parents=True)
    shutil.copy(root / "examples" / "plugin-template" / "ockham_loss_brake.py", site)
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: ockham-loss-brake\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text("[ockham.plugins]\nLossBrakePlugin = ockham_loss_brake:LossBrakePlugin\n")
    path = f"{commands}{os.pathsep}{os.environ['PATH']}"
    return copy, {**os.environ, "PATH": path, "PYTHONPATH": str(site), "OMP_NUM_THREADS": "1"}


def test_a_plugin_is_put_into_a_preset_as_the_page_says(root, checkout):
    page = (root / "docs" / "how-to" / "write-a-plugin.md").read_text(encoding="utf-8")
    (block,) = [block for block in re.findall(r"```\n(.*?)```", page, re.DOTALL) if "ockham preset new" in block]
    assert "--max_iters=100" in block
    small = block.replace("--max_iters=100", "--max_iters=2 --device=cpu --compile=False")
    place, environment = checkout
    done = subprocess.run(["bash", "-e", "-c", small], cwd=place, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "  6. loss_brake (LossBrakePlugin): scales learning_rate; state 28 bytes\n" in done.stdout
    assert (place / "out-braked" / "summary.json").is_file()


def test_the_feed_is_read(root, place, capsys):
    run_page(root, "feed-for-platform-teams.md")
    said = capsys.readouterr().out
    assert "ACCEPTED_FIRST_VALID" in said
    assert "accept rate" in said


def test_every_combination_of_balanced_is_tried(root, place):
    _, names = run_page(root, "ablate-plugins.md")
    assert len(names["results"]) == 2 ** len(presets.load_preset("balanced").plugins)


def test_roi_of_the_specs_two_models(root, capsys):
    run_page(root, "roi-and-presets.md")
    said = capsys.readouterr().out
    assert "Efficiency improved by 218 %" in said
    assert "'quality_threshold': 1.5" in said
