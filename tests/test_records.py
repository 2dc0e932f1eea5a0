"""Decision records: constraints are read strictly, decided by figures, and what is decided is not changed in silence."""

import json
import math

import pytest
import torch

from ockham import checkpoint
from ockham.__main__ import main
from ockham.constraints import METRICS, Measured, parse
from ockham.errors import ShapeError, UsageError, WorldError
from ockham.experiment.odr_runs import FROM_CHECKPOINT, Run, RunPair, revert_ms
from ockham.memory import OckhamMemory
from ockham.records import Record, new_record, records

# architecture_v2.md, Occam Decision Records, word for word
SPEC = """# ODR-001: Enable TTT for User-Specific Adaptation

## Problem
Current model accuracy drops 15% on user-specific vocabulary.

## Proposed Change
Enable TTT on layers 18-24 with LoRA adapter.

## Occam Constraints
- [ ] Reversibility: Can revert in < 10ms
- [ ] Complexity Cap: Added params < 5% of base
- [ ] Quality Gate: Val loss improves by > 2%

## Outcome
OQ Delta: +0.4 → KEEP
"""
OPEN = SPEC.replace("OQ Delta: +0.4 → KEEP", "Open.")
SUMMARY = {
    "val_loss": 2.0, "best_val_loss": 2.0, "best_is_estimate": False, "compute_units": 300.0, "compute_saved": 0.1,
    "update_rate": 1.0, "complexity_cost": 0.2, "tokens_per_s": 1000.0, "wall_s": 10.0, "train_s": 8.0,
}  # fmt: skip


@pytest.fixture
def record(tmp_path):
    """A function that writes a record and gives its path."""

    def write(text=OPEN, **replaced):
        path = tmp_path / "ODR-001-x.md"
        for old, new in replaced.items():
            text = text.replace(old, new)
        path.write_text(text, encoding="utf-8")
        return path

    return write


@pytest.fixture
def run(tmp_path, tiny_model):
    """A function that writes a finished run with a real ckpt.pt and gives its folder."""

    def write(name, seed=0, shape=None, dataset="tiny", **summary):
        folder = tmp_path / name
        model = tiny_model(seed, **(shape or {}))
        figures = {**SUMMARY, **summary}
        saved = checkpoint.inference_checkpoint(
            model.state_dict(), {}, model.model_args(), 1, figures["best_val_loss"] or 0.0, {"dataset": dataset}
        )
        checkpoint.save(saved, folder / "ckpt.pt")
        (folder / "summary.json").write_text(json.dumps(figures))
        (folder / "config.yaml").write_text(f"dataset: {dataset}  # default\n")
        return folder

    return write


def measure(**figures):
    """A stand-in for two runs: metric → (before, after)."""
    return lambda metric: Measured(*figures[metric])


# constraints ----------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("text", "before", "after", "figure", "holds"),
    [
        ("val_loss improves > 2 %", 2.0, 1.9, 5.0, True),
        ("val_loss improves > 2%", 2.0, 1.98, 1.0, False),
        ("val_loss improves > 2 %", 2.0, 2.2, -10.0, False),
        ("val_loss improves >= 0.5", 2.0, 1.5, 0.5, True),
        ("val_loss improves > 0.5", 2.0, 1.5, 0.5, False),
        ("val_loss < 1.5", 2.0, 1.5, 1.5, False),
        ("val_loss <= 1.5", 2.0, 1.5, 1.5, True),
        ("val_loss < 3 %", 2.0, 2.05, 2.5, True),  # may grow by less than 3 %
        ("tokens_per_s improves > 10 %", 1000.0, 1200.0, 20.0, True),
        ("tokens_per_s > -5 %", 1000.0, 960.0, -4.0, True),  # may fall by less than 5 %
        ("compute_saved > 30 %", 0.1, 0.25, 25.0, False),
        ("compute_saved >= .25", 0.1, 0.25, 0.25, True),
        ("compute_saved improves > 10 %", 0.25, 0.375, 12.5, True),  # in points
        ("update_rate <= 60 %", 1.0, 0.5, 50.0, True),
        ("memory_mb < 1.5e2 MB", 100.0, 120.0, 120.0, True),
        ("added_params < 5 %", None, 4.0, 4.0, True),
        ("revert_ms < 10", None, 12.0, 12.0, False),
        ("oq improves > 30 %", 1.23e-17, 3.92e-17, 218.699, True),  # the Occam Quotient's table in the spec
        ("complexity_cost improves > 1 %", 0.0, 0.5, -math.inf, False),
        ("complexity_cost <= 0 %", 0.0, 0.0, 0.0, True),
    ],
)
def test_figures_worked_by_hand(text, before, after, figure, holds):
    constraint = parse(text)
    got = constraint.figure(Measured(before, after))
    assert got == pytest.approx(figure, rel=1e-4)
    assert constraint.holds(got) is holds


def test_nan_never_holds():
    for sign in ("<", "<=", ">", ">=", "improves >", "improves >="):
        constraint = parse(f"val_loss {sign} 0")
        assert not constraint.holds(constraint.figure(Measured(2.0, math.nan)))


@pytest.mark.parametrize("name", METRICS)
def test_every_constraint_reads_back_from_its_own_words(name):
    for operator in METRICS[name].operators:
        for unit in METRICS[name].units:
            constraint = parse(f"{name} {operator} 0.25 {unit}")
            assert parse(str(constraint)) == constraint


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("val_los < 2", "there is no metric 'val_los' (did you mean val_loss?)"),
        ("val_los improves > 2 %", "there is no metric 'val_los' (did you mean val_loss?)"),
        ("< 2", "there is no metric ''"),
        ("val_loss imporves > 2 %", "val_loss cannot be compared by 'imporves >' (did you mean improves >?)"),
        ("val_loss improves < 2 %", "by 'improves <' (did you mean improves"),
        ("val_loss => 2", "by '=>' (did you mean"),
        ("val_loss = 2", "allowed: <, <=, >, >=, improves >, improves >="),
        ("update_rate improves > 1 %", "update_rate cannot be compared by 'improves >'"),
        ("val_loss 2 %", "with an operator of <, <=, >, >=, improves >, improves >=; got 'val_loss 2 %'"),
        ("val_loss < two", "val_loss needs one number, such as 2 or 0.5, and its unit, got 'two'"),
        ("val_loss < 2,5 %", "needs one number"),
        ("val_loss < ", "needs one number"),
        ("val_loss < 2 % or so", "needs one number"),
        ("memory_mb < 3 mb", "memory_mb takes MB or no unit or %, got mb (did you mean MB?)"),
        ("revert_ms < 3 %", "revert_ms takes ms or no unit, got %"),
        ("added_params < 1000", "added_params takes %, got no unit"),
        ("wall_s < 3 s", "got s"),
        ("update_rate < 60", "update_rate is a share: without % its limit is from -1 to 1, got 60 (did you mean 60 %?)"),
        ("compute_saved improves > -1.5", "without % its limit is from -1 to 1, got -1.5"),
        ("val_loss < 1e999", "val_loss needs a number that is not larger than 2e+308, got 1e999"),
        ("update_rate > -1e999 %", "got -1e999"),
    ],
)
def test_a_malformed_line_names_file_line_and_the_nearest(record, text, said):
    path = record(**{"Added params < 5% of base": text})
    with pytest.raises(UsageError) as error:
        Record(path)
    assert said in str(error.value)
    assert str(error.value).endswith(f"({path}:11)")
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("replaced", "said"),
    [
        ({"# ODR-001: E": "# E"}, "a record begins with `# ODR-001: Title`"),
        ({"## Outcome": "## Outcom"}, "section '## Outcome' is missing (is it Outcom?)"),
        ({"## Problem": "## Outcome"}, "section '## Outcome' is there twice"),
        ({"- [ ] Quality": "- Quality"}, "a constraint is `- [ ] Label: metric < number unit`, got '- Quality Gate"),
        ({"- [ ] Quality": "- [y] Quality"}, "a constraint is `- [ ] Label"),
        ({"- [ ] Quality": "-[ ] Quality"}, "a constraint is `- [ ] Label"),
        ({"- [ ] Quality": "- [] Quality"}, "a constraint is `- [ ] Label"),
        ({"- [ ] Quality": "• [ ] Quality"}, "a constraint is `- [ ] Label"),
        ({"- [ ] Quality": "> - [ ] Quality"}, "a constraint is `- [ ] Label"),
        ({"- [ ] Quality": "3. Quality"}, "a constraint is `- [ ] Label"),
        ({"- [ ] Quality": "| [x] | Quality"}, "a constraint is `- [ ] Label"),
        ({"Val loss improves by > 2%": "[ ]", "- [ ] Quality": "1. [ ] Quality"}, "with an operator of"),
        ({"- [ ] Quality": "```\n- [ ] Quality"}, "this code block has no closing ```: what comes after it would not be read"),
    ],
)
def test_a_page_that_is_no_record_says_why(record, replaced, said):
    with pytest.raises(UsageError) as error:
        Record(record(**replaced))
    assert said in str(error.value)


@pytest.mark.parametrize("start", ["1. [ ] ", "12) [x] ", "[ ] ", "  * [X] ", "-\t[ ] "])
def test_however_a_box_is_laid_out_its_line_is_decided(record, start):
    path = record(**{"- [ ] Quality": f"{start}Quality"})
    page = Record(path)
    assert [str(line.constraint) for line in page.constraints][2:] == ["val_loss improves > 2 %"]
    verdicts = page.check(measure(revert_ms=(None, 0.5), added_params=(None, 1.0), val_loss=(2.0, 2.1)))
    assert page.close(verdicts, 0.4, "x", "2026-01-02").endswith("REVERT")
    page.write()
    assert (
        start.replace("x", " ").replace("X", " ") + "Quality Gate: Val loss improves by > 2% (measured: -5 %)" in path.read_text()
    )


def test_what_stands_in_a_code_block_is_no_constraint_and_no_heading(record):
    code = "```text\n- [ ] Speed: wall_s < 1\n## Outcome\n```\n~~~\n1. [ ] other\n~~~\nAs [x](y.md) says.\n- [ ] Quality"
    page = Record(record(**{"- [ ] Quality": code}))
    assert [line.constraint.metric for line in page.constraints] == ["revert_ms", "added_params", "val_loss"]


# the record -----------------------------------------------------------------------------------------------------------
GOOD = {"revert_ms": (None, 0.5), "added_params": (None, 1.25), "val_loss": (2.0, 1.9)}


def test_the_spec_s_own_example_is_read_word_for_word(record):
    example = Record(record(SPEC))
    assert [str(line.constraint) for line in example.constraints] == [
        "revert_ms < 10 ms",
        "added_params < 5 %",
        "val_loss improves > 2 %",
    ]
    assert (example.number, example.title) == (1, "Enable TTT for User-Specific Adaptation")
    assert example.status == "KEEP +0.4"


def test_boxes_are_ticked_by_the_figures_which_stand_behind_the_lines(record):
    path = record()
    page = Record(path)
    verdicts = page.check(measure(**{**GOOD, "added_params": (None, 6.0)}))
    page.write()
    assert [verdict.holds for verdict in verdicts] == [True, False, True]
    lines = path.read_text().splitlines()
    assert lines[9:12] == [
        "- [x] Reversibility: Can revert in < 10ms (measured: 0.5 ms)",
        "- [ ] Complexity Cap: Added params < 5% of base (measured: 6 %)",
        "- [x] Quality Gate: Val loss improves by > 2% (measured: 5 %)",
    ]
    assert lines[:9] + lines[12:] == OPEN.splitlines()[:9] + OPEN.splitlines()[12:]  # nothing else moved


def test_checking_again_replaces_figures_and_unticks_what_now_fails(record):
    path = record()
    texts = []
    for _ in range(2):
        page = Record(path)
        page.check(measure(**GOOD))
        page.write()
        texts.append(path.read_text())
    assert texts[0] == texts[1]
    page = Record(path)
    page.check(measure(**{**GOOD, "val_loss": (2.0, 2.1)}))
    page.write()
    assert "- [ ] Quality Gate: Val loss improves by > 2% (measured: -5 %)\n" in path.read_text()


@pytest.mark.parametrize(("val", "decision"), [(1.9, "KEEP"), (2.1, "REVERT")])
def test_keep_iff_every_constraint_holds(record, val, decision):
    page = Record(record())
    verdicts = page.check(measure(**{**GOOD, "val_loss": (2.0, val)}))
    assert page.close(verdicts, 0.4, "before `a`, after `b`", "2026-01-02") == f"OQ Delta: +0.4 → {decision}"
    page.write()
    assert page.path.read_text().endswith(
        f"## Outcome\nOQ Delta: +0.4 → {decision}\n\n"
        f"Closed 2026-01-02: before `a`, after `b`; {2 + (val < 2)} of 3 constraints hold\n"
    )


def test_a_closed_record_is_changed_only_when_it_is_reopened_and_says_so(record):
    page = Record(record(SPEC))
    with pytest.raises(UsageError, match=r"is closed \(OQ Delta: \+0.4 → KEEP\); to decide again: --reopen"):
        page.check(measure(**GOOD))
    page.reopen("2026-01-02")
    assert page.outcome == ""
    page.close(page.check(measure(**GOOD)), -0.1, "before `a`, after `b`", "2026-01-03")
    text = "\n".join(page.lines)
    assert text.count("OQ Delta: -0.1 → KEEP") == 1
    assert "Reopened 2026-01-02; it was OQ Delta: +0.4 → KEEP" in text
    assert "Open." not in text


def test_what_people_write_into_the_outcome_stays(record):
    page = Record(record(**{"Open.": "Open.\n\nAsk Ida first.\n\n## Notes\nmore"}))
    page.close(page.check(measure(**GOOD)), 0.0, "x", "2026-01-02")
    text = "\n".join(page.lines)
    assert "hold\n\nAsk Ida first.\n\n## Notes\nmore" in text


def test_windows_line_ends_stay(record):
    path = record()
    path.write_bytes(OPEN.replace("\n", "\r\n").encode())
    page = Record(path)
    page.check(measure(**GOOD))
    page.write()
    assert path.read_bytes().count(b"\r\n") == path.read_bytes().count(b"\n") == OPEN.count("\n")


def test_new_records_are_numbered_and_hold_the_spec_s_sections(tmp_path):
    folder = tmp_path / "odr"
    first = new_record("Muon on the matrices", folder)
    assert first.name == "ODR-001-muon-on-the-matrices.md"
    (folder / "ODR-007-x.md").write_text("")
    assert new_record("Über: a/b\n c!", folder).name == "ODR-008-über-a-b-c.md"
    assert [number for number, _ in records(folder)] == [1, 7, 8]
    page = Record(first)
    assert page.title == "Muon on the matrices"
    assert [str(line.constraint) for line in page.constraints] == [
        "revert_ms < 10", "added_params < 5 %", "val_loss improves > 2 %",
    ]  # fmt: skip
    with pytest.raises(UsageError, match="TITLE needs a letter or a digit, got '!!'"):
        new_record("!!", folder)


# two real runs --------------------------------------------------------------------------------------------------------
def test_params_memory_and_quotient_are_those_of_the_checkpoints(run, tiny_model):
    pair = RunPair(run("a"), run("b", shape={"n_layer": 3}, best_val_loss=1.0))
    small, large = tiny_model(0), tiny_model(0, n_layer=3)
    for metric, of in (
        ("params", lambda m: sum(int(p.count_nonzero()) for p in m.parameters())),
        ("memory_mb", lambda m: sum(p.numel() for p in m.parameters()) * 4e-6),
    ):
        got = pair.measure(metric)
        assert (got.before, got.after) == (pytest.approx(of(small)), pytest.approx(of(large)))
    params = pair.measure("params")
    assert pair.measure("added_params").after == pytest.approx(100 * (params.after / params.before - 1))
    oq, memory = pair.measure("oq"), pair.measure("memory_mb")
    flops = [1 / loss / value / mb for loss, value, mb in ((2, oq.before, memory.before), (1, oq.after, memory.after))]
    # a layer's products: 12·C² weights a token but attention's 2·T²·C twice, 2 FLOPs a multiply-add; the head on one position
    T, C, V = 16, 16, 20
    assert flops == [pytest.approx(n * (2 * 12 * C * C * T + 4 * T * T * C) + 2 * C * V) for n in (2, 3)]


def test_every_metric_of_the_table_can_be_measured(run):
    pair = RunPair(run("a"), run("b", seed=1))
    for metric in METRICS:
        assert math.isfinite(pair.measure(metric).after)
        if metric not in FROM_CHECKPOINT:
            assert metric in SUMMARY


def test_a_revert_is_the_memory_s_rollback_and_changes_neither_model(tiny_model, monkeypatch):
    before, after = tiny_model(0), tiny_model(1)
    kept = [[p.detach().clone() for p in model.parameters()] for model in (before, after)]
    seen = []

    def watched(held, snapshot, model=None, go_back=OckhamMemory.rollback):
        go_back(held, snapshot, model)
        seen.append(all(torch.equal(a, b) for a, b in zip(kept[0], after.parameters(), strict=True)))

    monkeypatch.setattr(OckhamMemory, "rollback", watched)
    assert 0 < revert_ms(before, after) < 1e3
    assert len(seen) > 20
    assert all(seen)  # each time the after-run's model had the before-run's weights
    for model, weights in zip((before, after), kept, strict=True):
        assert all(torch.equal(a, b) for a, b in zip(weights, model.parameters(), strict=True))


@pytest.mark.parametrize("shape", [{"n_embd": 32}, {"n_layer": 3}])
def test_what_no_rollback_can_do_never_holds_and_says_why(run, tiny_model, shape):
    with pytest.raises(ShapeError, match="the snapshot is of another model"):
        revert_ms(tiny_model(0), tiny_model(0, **shape))
    pair = RunPair(run("a"), run("b", shape=shape))
    constraint = parse("revert_ms < 10")
    assert not constraint.holds(constraint.figure(pair.measure("revert_ms")))
    assert pair.notes[0].startswith("revert_ms: a rollback cannot go from ")


def test_losses_of_two_corpora_are_not_compared(run):
    pair = RunPair(run("a"), run("b", dataset="other"))
    assert pair.measure("wall_s").after == 10.0
    with pytest.raises(WorldError, match=r"was evaluated on tiny, .* on other"):
        pair.measure("val_loss")


def test_an_estimated_loss_is_noted(run):
    pair = RunPair(run("a"), run("b", best_is_estimate=True))
    for metric in ("val_loss", "best_val_loss", "best_val_loss"):
        pair.measure(metric)
    assert len(pair.notes) == 1
    assert "is an estimate" in pair.notes[0]


def test_the_quotient_is_of_the_loss_that_ckpt_s_own_weights_had(run):
    """ckpt.pt is of iteration 1; the run was best at 0, and its summary knows no more than that best."""
    a, b = run("a"), run("b")
    for iteration, loss in ((0, 2.0), (1, 4.0)):
        line = {"v": 1, "event": "eval", "iter": iteration, "train_loss": loss, "val_loss": loss, "tokens": 399}
        with open(b / "journal.jsonl", "a") as file:
            file.write(json.dumps(line) + "\n")
    pair = RunPair(a, b)
    assert pair.measure("best_val_loss").after == 2.0
    assert pair.measure("oq").after == pytest.approx(pair.measure("oq").before / 2)
    (note,) = pair.notes
    assert note == f"oq: the val loss of {a}/ckpt.pt, 2.0000, is not of the full val split: as the checkpoint says (its best)"


def test_a_summary_of_a_run_that_was_rolled_back_is_refused(run):
    folder = run("a", iters=40)
    (folder / "memory" / "before-rollback").mkdir(parents=True)
    for iteration in (20, 40):
        torch.save({"model": {}, "model_args": {}, "learner": {"counters": {"iter_num": iteration}}}, folder / "last.pt")
        if iteration == 40:
            assert Run(folder).figure("val_loss") == 2.0  # it went on to its end again
        else:
            with pytest.raises(WorldError, match="is of iteration 40, and the run was rolled back to 20 since"):
                Run(folder).figure("val_loss")


def test_the_page_lists_every_metric_as_the_table_has_it(root):
    page = (root / "docs" / "how-to" / "decision-records.md").read_text(encoding="utf-8")
    rows = [
        f"| `{name}` | {m.help} | {m.better or '–'} | {', '.join(unit or 'none' for unit in m.units)} |\n"
        for name, m in METRICS.items()
    ]
    assert "".join(rows) in page


# the command ----------------------------------------------------------------------------------------------------------
def odr(*args):
    return main(["odr", *map(str, args)])


def test_check_and_close_end_to_end(record, run, capsys):
    path, a, b = record(), run("a"), run("b", seed=1, val_loss=1.9, best_val_loss=1.0)
    both = ("--before", a, "--after", b)
    assert odr("check", path, *both) == 0
    assert "holds  Quality Gate: val_loss improves > 2 %  (measured: 5 %)" in capsys.readouterr().out
    assert odr("check", path, "--before", b, "--after", a) == 1  # the other way round it gets worse
    assert "FAILS  Quality Gate" in capsys.readouterr().out
    assert odr("close", path, *both) == 0
    assert "OQ Delta: +1 → KEEP" in capsys.readouterr().out  # the same cost at half the loss
    text = path.read_text()
    assert f"before `{a}`, after `{b}`" in text
    for verb in ("check", "close"):
        assert odr(verb, path, *both) == 2
        assert "--reopen" in capsys.readouterr().err
    assert path.read_text() == text
    assert odr("close", path, "--before", b, "--after", a, "--reopen", "--json") == 0
    told = json.loads(capsys.readouterr().out)
    assert told["outcome"] == "OQ Delta: -0.5 → REVERT"
    assert [c["holds"] for c in told["constraints"]] == [True, True, False]
    assert odr("list", "--dir", path.parent) == 0
    assert capsys.readouterr().out == "ODR-001  REVERT -0.5     Enable TTT for User-Specific Adaptation\n"


def test_a_record_is_found_by_the_id_that_the_list_shows(record, run, capsys):
    path, a, b = record(), run("a"), run("b", seed=1, val_loss=1.9, best_val_loss=1.0)
    both = ("--before", a, "--after", b, "--dir", path.parent)
    for id in ("ODR-001", "odr-1"):
        assert odr("check", id, *both) == 0
    assert odr("check", "ODR-002", *both) == 1
    assert "has none of that number; ockham odr list has them" in capsys.readouterr().err
    (path.parent / "ODR-001-another.md").write_text(OPEN)
    assert odr("check", "ODR-001", *both) == 1
    assert "are that; give one's path" in capsys.readouterr().err
    assert odr("check", path, *both) == 0


def test_a_run_that_lacks_something_leaves_the_record_as_it_was(record, run, tmp_path, capsys):
    path, a = record(), run("a")
    (tmp_path / "empty").mkdir()
    torn = run("torn")
    (torn / "ckpt.pt").unlink()
    for after, said in (
        (tmp_path / "none", "is no folder"),
        (tmp_path / "empty", "summary.json is missing"),
        (torn, "no checkpoint at"),
        (run("short", val_loss=None), "has no val_loss (got None)"),
    ):
        assert odr("check", path, "--before", a, "--after", after) == 1
        said_now = capsys.readouterr().err
        assert said in said_now
        assert said_now.count("\n") == 1
    assert path.read_text() == OPEN


def test_mistakes_on_the_command_line_exit_with_2(record, run, tmp_path, capsys):
    path = record(**{"Added params < 5% of base": "added_parms < 5 %"})
    a = run("a")
    for args, code, said in (
        (["check", path, "--before", a, "--after", a], 2, "did you mean added_params?"),
        (["check", path, "--before", a], 2, "--after must be given"),
        (["chekc"], 2, "did you mean check?"),
        (["check", tmp_path / "no.md", "--before", a, "--after", a], 1, "no record at"),
        (["list", "--dir", tmp_path / "no"], 1, "no folder"),
        (["list", "--dir", tmp_path], 2, "ODR-001  cannot be read"),
    ):
        assert odr(*args) == code
        assert said in capsys.readouterr().err


def test_new_prints_where_the_record_is(tmp_path, capsys):
    assert odr("new", "Try it", "--dir", tmp_path) == 0
    assert capsys.readouterr().out == f"{tmp_path}/ODR-001-try-it.md\n"
