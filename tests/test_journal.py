"""The journal: one JSON object a line, cut back on resume."""

import json

import pytest

from ockham.context import OccamContext
from ockham.errors import CheckpointError
from ockham.journal import STEP_FIELDS, Journal, read


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
    journal.write("step", 0)
    kept = journal.flush()
    journal.write("step", 1)
    journal.close()
    journal = Journal(path, keep_bytes=kept)
    journal.write("resume", 1)
    journal.close()
    assert [e["event"] for e in read(path)] == ["step", "resume"]


def test_exchanged_journal_is_an_error(tmp_path):
    (tmp_path / "j.jsonl").write_text("{}\n")
    with pytest.raises(CheckpointError, match="shorter than the checkpoint says"):
        Journal(tmp_path / "j.jsonl", keep_bytes=100)


def test_torn_last_line_ends_reading_quietly(tmp_path):
    path = tmp_path / "j.jsonl"
    path.write_text('{"v": 1, "event": "step", "iter": 0}\n{"v": 1, "eve')
    assert len(list(read(path))) == 1


def test_other_ranks_write_nothing(tmp_path):
    journal = Journal(None)
    journal.write("step", 0)
    assert journal.flush() == 0
