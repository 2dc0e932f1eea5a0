"""The Python of the how-to pages runs as it stands there, in a folder with small corpora and runs of the same names."""

from __future__ import annotations

import re

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
