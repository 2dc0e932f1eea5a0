"""Reports open offline, tables put seeds together, and a run that is not there is one message."""

import json
import re
from pathlib import Path

import numpy as np
import pytest

from ockham.context import OccamContext
from ockham.errors import WorldError
from ockham.experiment.report import Record, compare, draw_reliability, group_of, smoothed, spread, table, write_report
from ockham.journal import Journal


@pytest.fixture
def run(tmp_path):
    """A function that writes a small finished run."""

    def make(name, val=2.0, **more):
        folder = tmp_path / name
        folder.mkdir()
        journal = Journal(folder / "journal.jsonl")
        for i in range(20):
            if i % 10 == 0:
                journal.write("eval", i, train_loss=3.0, val_loss=val + 1 - i / 20, tokens=10)
            ctx = OccamContext(iter_num=i, task_loss=3.0 - i / 10, metrics={"drift": 0.01, "gate/open": 1.0})
            ctx.changes.append(("eq", "learning_rate", 0.1, 0.2))
            journal.step(ctx, 1, 1.0, 1.0)
        journal.write("engage", 10, best_val_loss=val)
        journal.close()
        figures = dict.fromkeys(("compute_saved", "consolidations", "tokens_per_s", "wall_s", "train_s"), 1.0)
        figures |= {
            "val_loss": val,
            "best_val_loss": val,
            "best_is_estimate": False,
            "update_rate_recent": 0.6,
            "update_rate": 0.6,
        }
        figures |= {"compute_units": 3.0, "complexity_cost": 0.1, "penalty": "on", "floor": 1.0, "iters": 20} | more
        (folder / "summary.json").write_text(json.dumps(figures))
        return folder

    return make


def test_report_is_one_file_without_links(run):
    text = write_report(run("a<b")).read_text()
    assert text.count("<svg") == 4
    assert "a&lt;b" in text
    assert not re.search(r"""(src|href)=["']?http|<script|<link""", text)
    assert "<td>eq</td><td>learning_rate</td><td class=n>20</td>" in text


def test_ids_of_a_page_are_its_charts_own_and_the_same_each_time(run):
    folder = run("a", reliability=[[30, 0.2, 0.1], [10, 0.9, 0.7]])
    text = write_report(folder).read_text()
    ids = [set(re.findall(r'\bid="([^"]+)"', chart)) for chart in re.findall(r"<svg.*?</svg>", text, re.DOTALL)]
    assert len(ids) == 5
    assert sum(map(len, ids)) == len(set.union(*ids))
    pointed_at = set(re.findall(r'href="#([^"]+)"', text)) | set(re.findall(r"url\(#([^)]+)\)", text))
    assert pointed_at
    assert pointed_at <= set.union(*ids)
    assert write_report(folder).read_text() == text


def test_calibration_is_shown_where_it_was_measured(run):
    measured = write_report(run("a", accuracy=0.4123, ece=0.01236, reliability=[[30, 0.2, 0.1], [10, 0.9, 0.7]])).read_text()
    for shown in ("<td>accuracy</td><td class=n>41.23%</td>", "<td>expected calibration error</td><td class=n>0.0124</td>"):
        assert shown in measured
    assert "<h2>Calibration</h2><svg" in measured
    for absent in (write_report(run("b")), write_report(run("c", accuracy=None, ece=None, reliability=None))):
        assert not re.search("calibration|accuracy", absent.read_text(), re.IGNORECASE)


def test_reliability_has_a_dot_for_each_bin_as_large_as_its_share(run):
    from matplotlib.figure import Figure

    axes = Figure().subplots()
    draw_reliability(Record(run("a", reliability=[[30, 0.2, 0.1], [10, 0.9, 0.7]])), axes)
    dots = axes.collections[-1]
    assert dots.get_offsets().tolist() == [[0.2, 0.1], [0.9, 0.7]]
    assert dots.get_sizes().tolist() == [10 + 225, 10 + 75]
    assert axes.get_xlabel() == "confidence"


def test_comparison_marks_where_the_penalty_engaged(run):
    picture = compare([run("plain"), run("anchored")], ["plain", "λ = 0.05"])
    assert picture.startswith("<svg")
    assert "λ = 0.05: penalty engages" in picture.replace("&#955;", "λ")


def test_table_puts_seeds_together(run):
    rows = table([run(f"{i}_preset=none,seed={i}", val) for i, val in enumerate((2.0, 2.2, 2.1))]).splitlines()
    assert len(rows) == 3
    assert rows[2].startswith("| preset=none | 3 | 2.100 [2.000, 2.200] |")


def test_table_has_an_ece_column_where_some_run_has_one(run):
    runs = [run("0_a,seed=1"), run("1_a,seed=2", ece=0.02), run("2_b", ece=0.01), run("3_c")]
    head, rule, *rows = table(runs).splitlines()
    assert head.split(" | ")[-2:] == ["ECE", "penalty |"]
    assert [row.split(" | ")[-2] for row in rows] == ["0.020 (1 of 2 runs)", "0.010", "n/a"]
    assert rule.count("|") == head.count("|") == rows[0].count("|")
    assert "ECE" not in table(runs[3:])


def test_group_names_drop_number_and_seed():
    assert group_of(Path("out/3_preset=balanced,seed=2")) == "preset=balanced"
    assert group_of(Path("out-fables")) == "out-fables"
    assert group_of(Path("literal/0_seed=1")) == "literal"
    assert [spread(v) for v in ([60.0], [0.5], [0.0, 0.25, 1.5])] == ["60", "0.500", "0.250 [0.000, 1.500]"]


def test_smoothing_is_a_trailing_mean():
    assert smoothed(np.array([1.0, 3.0, 5.0]), window=2).tolist() == [1.0, 2.0, 4.0]


def test_missing_run_is_one_message(tmp_path):
    with pytest.raises(WorldError, match=r"journal\.jsonl is missing"):
        Record(tmp_path)
