"""The journal: one JSON object a line, cut back on resume."""

import json

import pytest

from ockham.context import OccamContext
from ockham.errors import CheckpointError, WorldError
from ockham.journal import STEP_FIELDS, Journal, check_begun, read


def test_step_carries_every_field_of_the_schema(tmp_path):
    journal = Journal(tmp_path / "j.jsonl")
    ctx = OccamContext(iter_num=3, task_loss=1.5, metrics={"gate/open": 1.0})
    ctx.changes.append(("eq", "learning_rate", 0.1, 0.2))
    journal.step(ctx, tokens=64, units=3.0, dt_ms=1.25)
    journal.close()
    (entry,) = read(tmp_path / "j.jsonl")
    expected = {"v", "event", "iter", *STEP_FIELDS, "tokens", "units", "dt_ms", "changes", "metrics"}
    assert set(entry) == expected
    assert entry["changes"] == [["eq", "learning_rate", 0.1, 0.2]]


def test_nonfinite_numbers_stay_readable_json(tmp_path):
    journal = Journal(tmp_path / "j.jsonl")
    journal.step(OccamContext(iter_num=0, task_loss=float("nan")), 0, 0, 0)
    journal.close()
    line = (tmp_path / "j.jsonl").read_text()
    assert json.loads(line, parse_constant=pytest.fail)["task_loss"] == "nan"


def test_resume_cuts_back_to_the_checkpoint(tmp_path):
    path = tmp_path / "j.jsonl"
    journal = Journal(path)
    journal.write("checkpoint", 0, file="last.pt")
    kept = journal.flush()
    journal.write("checkpoint", 1, file="last.pt")
    journal.close()
    journal = Journal(path, keep_bytes=kept)
    journal.write("resume", 1)
    journal.close()
    assert [e["event"] for e in read(path)] == ["checkpoint", "resume"]


def test_exchanged_journal_is_an_error(tmp_path):
    (tmp_path / "j.jsonl").write_text("{}\n")
    with pytest.raises(CheckpointError, match="shorter than the checkpoint says"):
        Journal(tmp_path / "j.jsonl", keep_bytes=100)


def test_torn_last_line_ends_reading_quietly(tmp_path):
    path = tmp_path / "j.jsonl"
    path.write_text('{"v": 1, "event": "engage", "iter": 0}\n{"v": 1, "eve')
    assert len(list(read(path))) == 1


def test_other_ranks_write_nothing(tmp_path):
    journal = Journal(None)
    journal.write("step", 0)
    assert journal.flush() == 0


STEP = {
    "v": 1, "event": "step", "iter": 3, "task_loss": 1.5, "updated": True, "reason_code": "UPDATED", "dt_ms": 2.0, "units": 3.0,
    "changes": [["eq", "learning_rate", 0.1, 0.2]], "metrics": {"drift": 0.1}, "surprise_threshold": None, "tokens": 64,
}  # fmt: skip
GOOD = {
    "step": STEP,
    "eval": {"v": 1, "event": "eval", "iter": 3, "train_loss": 1.5, "val_loss": "inf", "tokens": 9},
    "memory": {"v": 1, "event": "memory", "iter": 3, "reason_code": "REJECTED_QUALITY"},
    "rollback": {"v": 1, "event": "rollback", "iter": 3, "to": 1, "reason_code": "NONFINITE"},
    "consolidate": {"v": 1, "event": "consolidate", "iter": 3, "cause": "interval"},
    "warning": {"v": 1, "event": "warning", "iter": 3, "message": "words"},
    "end": {"v": 1, "event": "end", "iter": 3, "reason": "done"},
    "decision": {"v": 1, "iter_num": 3, "decision": "REJECT", "reason_code": "REJECTED_QUALITY"},
}


@pytest.mark.parametrize(
    ("kind", "key"),
    [("step", key) for key in ("task_loss", "updated", "reason_code", "dt_ms", "units", "changes", "metrics")]
    + [("eval", "train_loss"), ("eval", "val_loss"), ("eval", "tokens"), ("memory", "reason_code"), ("rollback", "to"),
       ("consolidate", "cause"), ("warning", "message"), ("end", "reason")],
)  # fmt: skip
def test_an_event_without_what_its_kind_has_is_named_with_file_and_line(tmp_path, kind, key):
    path = tmp_path / "j.jsonl"
    bad = {name: value for name, value in GOOD[kind].items() if name != key}
    path.write_text("".join(json.dumps(line) + "\n" for line in (GOOD[kind], bad, GOOD[kind])))
    with pytest.raises(CheckpointError, match=rf"j.jsonl:2 is damaged: {kind} has no '{key}'; put the file back"):
        list(read(path))


@pytest.mark.parametrize(
    ("kind", "change", "said"),
    [
        ("step", {"iter": None}, "step's 'iter' must be a whole number, got None"),
        ("resume", {"event": "resume", "iter": "abc"}, "resume's 'iter' must be a whole number, got 'abc'"),
        ("step", {"event": ["step"]}, "an event's name must be text, got ['step']"),
        ("step", {"task_loss": "x"}, "step's 'task_loss' must be a number, got 'x'"),
        ("step", {"task_loss": None}, "step's 'task_loss' must be a number, got None"),
        ("step", {"learning_rate": "fast"}, "step's 'learning_rate' must be a number or null, got 'fast'"),
        ("step", {"learning_rate": [0.1]}, "step's 'learning_rate' must be a number or null, got [0.1]"),
        ("step", {"updated": 1}, "step's 'updated' must be true or false, got 1"),
        ("step", {"metrics": []}, "step's 'metrics' must be an object, got []"),
        ("step", {"changes": [["eq", "learning_rate"]]}, "step's 'changes' must be a list of [plugin, field, from, to], got [["),
        ("step", {"changes": [[["eq"], "b", 1, 2]]}, "step's 'changes' must be a list of [plugin, field, from, to], got [["),
        ("eval", {"val_loss": "low"}, "eval's 'val_loss' must be a number, got 'low'"),
        ("eval", {"val_loss": True}, "eval's 'val_loss' must be a number, got True"),
        ("decision", {"iter_num": 1.5}, "decision's 'iter_num' must be a whole number, got 1.5"),
    ],
)
def test_a_value_of_another_type_is_named_with_file_and_line(tmp_path, kind, change, said):
    path = tmp_path / "j.jsonl"
    path.write_text(json.dumps({**GOOD.get(kind, {}), **change}) + "\n")
    with pytest.raises(CheckpointError) as caught:
        list(read(path))
    assert f"j.jsonl:1 is damaged: {said}" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_what_the_program_writes_and_wrote_is_read(tmp_path):
    path = tmp_path / "j.jsonl"
    bare = {key: value for key, value in STEP.items() if key not in ("surprise_threshold", "tokens")}
    lines = [*GOOD.values(), bare, {**STEP, "task_loss": "nan"}, {"v": 1, "event": "knob", "iter": 5, "of": "later versions"}]
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    assert list(read(path)) == lines


def test_a_run_without_a_step_is_told_from_one_without_a_journal(tmp_path):
    with pytest.raises(WorldError, match=r"journal\.jsonl is missing"):
        check_begun(tmp_path)
    (tmp_path / "journal.jsonl").write_text(json.dumps(GOOD["eval"]) + "\n")
    with pytest.raises(WorldError, match="has no step in its journal yet"):
        check_begun(tmp_path)
    (tmp_path / "journal.jsonl").write_text(json.dumps(STEP) + "\n")
    check_begun(tmp_path)
