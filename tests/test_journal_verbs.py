"""A journal is told in figures and in a picture; both agree with what was written into it."""

import json
import re
import statistics

import pytest

from ockham.__main__ import main
from ockham.context import OccamContext
from ockham.errors import CheckpointError, ConfigError, WorldError
from ockham.experiment.plot import fields_of, plot
from ockham.experiment.summarize import DIGITS, Tally, summarize
from ockham.journal import Journal, read

FACTORS = (0.5, 0.25, 2.0, 1.5, 0.75)


def write(folder, ended=True, torn=False):
    """Twenty steps, every fourth skipped, with a bit of all that can happen."""
    folder.mkdir()
    journal = Journal(folder / "journal.jsonl")
    for i in range(20):
        if i % 5 == 0:
            journal.write("eval", i, train_loss=3.0, val_loss=2.0 - (i == 10) * 0.5, tokens=10)
        ctx = OccamContext(iter_num=i, task_loss=float("nan") if i == 3 else 3.0 - i / 10, update_rate=0.75)
        ctx.updated = i % 4 != 3
        ctx.reason_code = "UPDATED" if ctx.updated else "SKIPPED"
        ctx.metrics |= {"drift": 0.01 * i, "gate/threshold": 2.0}
        ctx.changes.append(("eq", "learning_rate", 0.1, 0.1 * FACTORS[i % 5]))
        ctx.changes += [("gate", "updated", True, False)] * (not ctx.updated)
        journal.step(ctx, tokens=(i + 1) * 64, units=3.0 * (i + 1), dt_ms=2.0)
    for cause in ("interval", "plugin", "interval"):
        journal.write("consolidate", 19, cause=cause, alpha=1.0)
    journal.write("engage", 10, best_val_loss=1.5)
    journal.write("resume", 7)
    journal.write("rollback", 9, to=5, reason_code="NONFINITE", nonfinite=5)
    journal.write("warning", 4, message="the gate has not closed")
    for code in ("ACCEPTED_FIRST_VALID", "REJECTED_QUALITY", "REJECTED_QUALITY"):
        journal.write("memory", 10, reason_code=code)
    journal.write("eval", 20, train_loss=2.9, val_loss=1.75, tokens=10)
    journal.write("eval", 20, train_loss=2.9, val_loss=1.25, tokens=90)
    if ended:
        journal.write("end", 20, reason="done")
    journal.close()
    if torn:
        with open(folder / "journal.jsonl", "ab") as file:
            file.write(b'{"v": 1, "event": "st')
    return folder


def test_a_summary_counts_what_was_written(tmp_path):
    found = summarize(write(tmp_path / "run"))
    assert (found["iterations"], found["updates"], found["update_rate"]) == (20, 15, 0.75)
    assert found["reason_codes"] == {"UPDATED": 15, "SKIPPED": 5}
    assert found["consolidations"] == {"interval": 2, "plugin": 1}
    assert found["engagements"] == [{"iter": 10, "best_val_loss": 1.5}]
    assert (found["resumes"], found["rollbacks"][0]["to"]) == ([7], 5)
    assert found["warnings"] == {"count": 1, "messages": {"the gate has not closed": 1}}
    assert found["memory"] == {"REJECTED_QUALITY": 2, "ACCEPTED_FIRST_VALID": 1}
    assert (found["compute_units"], found["tokens"], found["train_s"]) == (60.0, 1280, 0.04)
    assert found["ended"] == "done"


def test_the_best_loss_is_not_that_of_the_final_sweep_after_an_estimate(tmp_path):
    found = summarize(write(tmp_path / "run"))
    assert (found["best"]["iter"], found["best"]["val_loss"]) == (10, 1.5)
    assert (found["last"]["iter"], found["last"]["val_loss"]) == (20, 1.25)


def test_a_plugins_changes_have_their_median_factor(tmp_path):
    eq, gate = summarize(write(tmp_path / "run"))["changes"]
    assert eq == {"plugin": "eq", "field": "learning_rate", "iterations": 20, "median_factor": statistics.median(FACTORS)}
    assert gate == {"plugin": "gate", "field": "updated", "iterations": 5, "median_factor": None}


def test_memory_does_not_grow_with_the_journal():
    tally, step = Tally(), {"event": "step", "updated": True, "dt_ms": 1.0, "reason_code": "UPDATED", "v": 1}
    for i in range(20_000):
        tally.take({**step, "iter": i, "changes": [["eq", "learning_rate", 1.0, 1 + i / 20_000]]})
        tally.take({"event": "resume", "iter": i})
        tally.take({"event": "warning", "iter": i, "message": f"at {i}"})
    assert len(tally.factors["eq", "learning_rate"]) <= 9 * 10 ** (DIGITS - 1)
    assert (len(tally.kept["resume"]), len(tally.warnings)) == (20, 20)
    assert tally.events["resume"] == tally.events["warning"] == 20_000


def test_decisions_stand_in_where_the_journal_has_no_verdict(tmp_path):
    run = write(tmp_path / "run")
    lines = [line for line in (run / "journal.jsonl").read_text().splitlines(True) if '"memory"' not in line]
    (run / "journal.jsonl").write_text("".join(lines))
    decision = {
        "timestamp": 1,
        "iter_num": 5,
        "decision": "ACCEPT",
        "reason_code": "ACCEPTED_OQ_IMPROVEMENT",
        "metrics": {},
        "v": 1,
    }
    (run / "decisions.jsonl").write_text(json.dumps(decision) + "\n")
    assert summarize(run)["memory"] == {"ACCEPTED_OQ_IMPROVEMENT": 1}


def test_the_verb_prints_lines_or_json(tmp_path, capsys):
    run = str(write(tmp_path / "run"))
    assert main(["journal", "summarize", run]) == 0
    text = capsys.readouterr().out
    for words in ("20 iterations, ended: done", "SKIPPED 5", "at 10", "9 → 5 (NONFINITE)", "eq learning_rate", "× 0.75"):
        assert words in text
    assert main(["journal", "summarize", run, "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["updates"] == 15


def test_a_running_or_killed_run_is_summarized_and_said_to_have_no_end(tmp_path, capsys):
    assert main(["journal", "summarize", str(write(tmp_path / "run", ended=False, torn=True))]) == 0
    assert "20 iterations, no end: still running, or killed" in capsys.readouterr().out


def test_a_journal_that_has_only_begun_is_no_error(tmp_path, capsys):
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "journal.jsonl").touch()
    assert main(["journal", "summarize", str(tmp_path / "run")]) == 0
    assert "0 iterations" in capsys.readouterr().out
    assert main(["journal", "plot", str(tmp_path / "run")]) == 1
    assert "no step" in capsys.readouterr().err


@pytest.mark.parametrize("verb", ["summarize", "plot", "replay"])
def test_a_folder_without_a_run_is_one_message(tmp_path, capsys, verb):
    assert main(["journal", verb, str(tmp_path)]) == 1
    error = capsys.readouterr().err
    assert "journal.jsonl is missing" in error
    assert error.count("\n") == 1


def test_fields_are_the_numbers_of_steps_metrics_and_evaluations(tmp_path, capsys):
    run = write(tmp_path / "run")
    names = fields_of(run)
    assert {"task_loss", "drift", "gate/threshold", "updated", "val_loss", "units"} <= set(names)
    assert not {"iter", "v", "event", "reason_code", "changes", "metrics"} & set(names)
    assert main(["journal", "plot", str(run), "--fields", "help"]) == 0
    assert capsys.readouterr().out.split() == names


def panels(chart):
    return len(set(re.findall(r'id="[^"]*-(axes_\d+)"', chart)))


def test_every_field_has_a_panel_over_iterations_or_units(tmp_path, capsys):
    run = write(tmp_path / "run")
    over_iterations = plot(run, ["task_loss", "val_loss", "gate/threshold"])
    over_units = plot(run, ["task_loss", "val_loss", "gate/threshold"], "units")
    assert panels(over_iterations) == panels(over_units) == 3
    assert "iteration" in over_iterations
    assert "compute units" in over_units
    assert main(["journal", "plot", str(run), "--fields=updated", "--x=units", f"--out={tmp_path / 'p.svg'}"]) == 0
    assert (tmp_path / "p.svg").read_text().startswith("<svg")
    assert main(["journal", "plot", str(run)]) == 0
    assert (run / "journal.svg").is_file()


def test_a_journal_without_evaluation_is_drawn_without_them(tmp_path, capsys):
    run = write(tmp_path / "run")
    lines = [line for line in (run / "journal.jsonl").read_text().splitlines(True) if '"eval"' not in line]
    (run / "journal.jsonl").write_text("".join(lines))
    assert main(["journal", "plot", str(run)]) == 0
    assert panels((run / "journal.svg").read_text()) == 4
    assert main(["journal", "plot", str(run), "--fields=val_loss"]) == 2
    assert "has no 'val_loss'" in capsys.readouterr().err
    assert main(["report", str(run), f"--svg={tmp_path / 'x.svg'}"]) == 1
    assert "has no evaluation in its journal yet" in capsys.readouterr().err


@pytest.mark.parametrize(
    "argv", [["report", "RUN"], ["journal", "plot", "RUN"], ["journal", "replay", "RUN", "--mute", "nosuch"]]
)
def test_a_journal_without_a_step_is_one_message_everywhere(tmp_path, capsys, argv):
    (tmp_path / "run").mkdir()
    for name in ("journal.jsonl", "config.yaml", "last.pt"):
        (tmp_path / "run" / name).touch()
    assert main([word.replace("RUN", str(tmp_path / "run")) for word in argv]) == 1
    assert capsys.readouterr().err == (
        f"error: {tmp_path / 'run'} has no step in its journal yet: there is nothing to show; let it train on\n"
    )
    assert not (tmp_path / "run" / "report.html").exists()


def test_a_picture_is_svg_and_takes_no_other_name(tmp_path, capsys):
    run = write(tmp_path / "run")
    assert main(["journal", "plot", str(run), f"--out={tmp_path / 'g.png'}"]) == 2
    assert "g.png must end in .svg" in capsys.readouterr().err
    assert not (tmp_path / "g.png").exists()
    assert main(["journal", "plot", str(run), f"--out={tmp_path / 'g.svg'}"]) == 0


def test_metrics_that_are_no_numbers_leave_a_gap_in_the_picture(tmp_path):
    run = write(tmp_path / "run")
    text = (run / "journal.jsonl").read_text()
    (run / "journal.jsonl").write_text(text.replace('"drift": 0.05', '"drift": "none"'))
    assert panels(plot(run, ["drift"])) == 1


def test_evaluations_lie_at_what_had_been_spent_before_them(tmp_path):
    from ockham.experiment.plot import position
    from ockham.experiment.report import Record

    record = Record(write(tmp_path / "run"), ("iter", "units"))
    at = [event["iter"] for event in record.evals]
    assert list(position(record, at, "units")) == [3.0 * iteration for iteration in at]


def test_an_unknown_field_names_the_nearest(tmp_path, capsys):
    run = write(tmp_path / "run")
    with pytest.raises(ConfigError, match=r"no 'task_los' \(did you mean task_loss\?\)"):
        plot(run, ["task_los"])
    with pytest.raises(WorldError):
        fields_of(tmp_path)


@pytest.mark.parametrize(
    "damage", [b"\x00\xff\n", b'{"v": 1, "event": "st\n', b"[1, 2]\n", b"{}\n", b"7\n", b"\n", b"[" * 100_000 + b"\n"]
)
@pytest.mark.parametrize("name", ["journal.jsonl", "decisions.jsonl"])
def test_a_damaged_line_is_named_wherever_it_stands(tmp_path, name, damage):
    decision = {"v": 1, "timestamp": 1, "iter_num": 5, "decision": "REJECT", "reason_code": "REJECTED_QUALITY"}
    line = json.dumps(decision if name[0] == "d" else {"v": 1, "event": "checkpoint", "iter": 5}).encode() + b"\n"
    for before, after in ((2, 3), (0, 1), (5, 0)):
        (tmp_path / name).write_bytes(line * before + damage + line * after)
        with pytest.raises(CheckpointError, match=rf"{name}:{before + 1} is damaged") as error:
            list(read(tmp_path / name))
        assert "\n" not in str(error.value)


@pytest.mark.parametrize("torn", [b'{"v": 1, "event": "st', b'{"v": 1, "event": "st\xc3', b"\x00\x00", b"{"])
def test_only_a_last_line_without_an_end_is_left_out(tmp_path, torn):
    (tmp_path / "journal.jsonl").write_bytes(b'{"v": 1, "event": "checkpoint", "iter": 5}\n' * 2 + torn)
    assert len(list(read(tmp_path / "journal.jsonl"))) == 2


@pytest.mark.parametrize("name", ["journal.jsonl", "decisions.jsonl"])
@pytest.mark.parametrize("verb", ["summarize", "plot"])
def test_the_verbs_say_a_damaged_log_in_one_line(tmp_path, capsys, verb, name):
    run = write(tmp_path / "run")
    lines = [line for line in (run / "journal.jsonl").read_text().splitlines(True) if '"memory"' not in line]
    (run / "journal.jsonl").write_text("".join(lines))
    if name == "decisions.jsonl":
        lines = [json.dumps({"v": 1, "iter_num": i, "decision": "REJECT", "reason_code": "x"}) + "\n" for i in range(9)]
    (run / name).write_text("".join([*lines[:3], '{"v": 1, "event": "st\n', *lines[3:]]))
    if (verb, name) == ("plot", "decisions.jsonl"):
        assert main(["journal", verb, str(run)]) == 0  # which needs none of it
        return
    assert main(["journal", verb, str(run)]) == 1
    said = capsys.readouterr().err
    assert f"{run / name}:4 is damaged" in said
    assert said.count("\n") == 1


@pytest.mark.parametrize(("target", "said"), [("no/x.svg", "there is no folder"), ("", "is a folder; name a file")])
def test_a_target_that_cannot_be_written_is_said_before_the_work(tmp_path, capsys, monkeypatch, target, said):
    run = write(tmp_path / "run")
    monkeypatch.setattr("ockham.experiment.plot.plot", lambda *args: pytest.fail("it was drawn"))
    monkeypatch.setattr("ockham.experiment.replay.open_recording", lambda run: pytest.fail("it was run"))
    for argv in (["plot", "--out"], ["replay", "--each", "--json"]):
        assert main(["journal", argv[0], str(run), *argv[1:], str(tmp_path / target)]) == 1
        error = capsys.readouterr().err
        assert said in error
        assert error.count("\n") == 1
