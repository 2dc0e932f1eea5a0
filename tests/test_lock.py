"""One process writes a run's folder: a second one, or a rollback, is refused until the first has ended, however it ended."""

from __future__ import annotations

import importlib
import subprocess
import sys
from contextlib import contextmanager

import pytest
from conftest import write_corpus

import configurator
import train_ockham
from ockham import OckhamLearner, PluginHost, lock
from ockham.__main__ import main
from ockham.errors import WorldError
from ockham.lock import NAME, FolderLock
from ockham.rundir import Run, holds_run

HOLDER = """
import sys
from pathlib import Path
from ockham.lock import FolderLock

held = FolderLock(Path(sys.argv[1]))
print("held", flush=True)
sys.stdin.read()
"""
TRY = HOLDER.replace("sys.stdin.read()", "held.close()")
SMALL = ["--device=cpu", "--compile=False", "--block_size=16", "--n_layer=1", "--n_head=2", "--n_embd=16", "--batch_size=4",
         "--max_iters=20", "--eval_interval=10", "--memory.enabled=True", "--log_interval=100"]  # fmt: skip


@contextmanager
def another_process(root, folder):
    """A process that holds the folder's lock as a training job does; its number. It ends by SIGKILL."""
    command = [sys.executable, "-c", HOLDER, str(folder)]
    with subprocess.Popen(command, cwd=root, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout.readline() == "held\n"
            yield process.pid
        finally:
            process.kill()


def can_be_held(root, folder):
    """Whether another process gets the lock."""
    done = subprocess.run([sys.executable, "-c", TRY, str(folder)], cwd=root, capture_output=True, text=True)
    return done.returncode == 0


@pytest.fixture(scope="module")
def kept(tmp_path_factory):
    """A small finished run with a memory: (corpus, out_dir)."""
    folder = tmp_path_factory.mktemp("locked")
    corpus = write_corpus(folder / "data" / "tiny")
    assert train(corpus, folder / "out") == 0
    return corpus, folder / "out"


def train(corpus, out, *more):
    argv = [f"--data_dir={corpus.parent}", f"--dataset={corpus.name}", f"--out_dir={out}", *SMALL, *more]
    return configurator.run(train_ockham.main, argv)


def contents(folder):
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file() and path.name != NAME}


def test_a_second_process_is_told_which_one_writes_and_a_killed_one_holds_nothing(root, tmp_path):
    with another_process(root, tmp_path) as pid, pytest.raises(WorldError) as caught:
        FolderLock(tmp_path)
    assert str(caught.value) == f"{tmp_path} is training now (pid {pid}); stop it first"
    assert (tmp_path / NAME).exists()  # left by the killed one, and free
    with FolderLock(tmp_path):
        assert not can_be_held(root, tmp_path)
    assert list(tmp_path.iterdir()) == []
    assert can_be_held(root, tmp_path)


def test_in_one_process_the_newer_takes_over_and_the_older_gives_nothing_back(root, tmp_path):
    older = FolderLock(tmp_path)
    newer = FolderLock(tmp_path)
    older.close()
    assert not can_be_held(root, tmp_path)
    newer.close()
    newer.close()
    assert can_be_held(root, tmp_path)


def test_a_lock_that_nobody_refers_to_any_more_is_given_back(root, tmp_path):
    FolderLock(tmp_path)
    assert can_be_held(root, tmp_path)


def test_without_fcntl_it_has_no_effect(tmp_path, monkeypatch):
    monkeypatch.setattr(lock, "fcntl", None)
    with FolderLock(tmp_path):
        assert list(tmp_path.iterdir()) == []


def test_a_run_is_locked_as_long_as_it_is_open(root, tmp_path, tiny_model):
    model = tiny_model()
    run = Run(tmp_path / "out", OckhamLearner(model, host=PluginHost([])), model, model.model_args(), {"dataset": "tiny"})
    run.begin()
    assert not can_be_held(root, tmp_path / "out")
    (tmp_path / "out" / "journal.jsonl").unlink()
    assert not holds_run(tmp_path / "out")
    run.end({}, "done")
    assert can_be_held(root, tmp_path / "out")
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["summary.json"]


def test_a_finished_run_leaves_no_lock(kept):
    assert not (kept[1] / NAME).exists()


@pytest.mark.parametrize(
    "argv", [["memory", "rollback", "OUT", "best"], ["memory", "rollback", "OUT", "--undo"]], ids=["rollback", "undo"]
)
def test_no_rollback_while_the_run_trains(root, kept, capsys, argv):
    out = kept[1]
    assert main(["memory", "rollback", str(out)]) == 0
    before = contents(out)
    capsys.readouterr()
    with another_process(root, out) as pid:
        assert main([word.replace("OUT", str(out)) for word in argv]) == 1
    assert capsys.readouterr().err == f"error: {out} is training now (pid {pid}); stop it first\n"
    assert contents(out) == before
    assert main(["memory", "rollback", str(out), "--undo"]) == 0


@pytest.mark.parametrize("how", ["--init_from=resume", "--overwrite=True"])
def test_a_second_training_job_is_refused_and_changes_nothing(root, kept, capsys, how):
    corpus, out = kept
    before = contents(out)
    with another_process(root, out) as pid:
        assert train(corpus, out, "--max_iters=30", how) == 1
    assert f"error: {out} is training now (pid {pid}); stop it first\n" in capsys.readouterr().err
    assert contents(out) == before


def test_reports_and_evaluations_go_on_beside_a_training_job(root, kept, capsys):
    corpus, out = kept
    with another_process(root, out):
        assert train(corpus, out, "--init_from=resume", "--eval_only=True") == 0
        assert main(["journal", "summarize", str(out)]) == 0
        assert main(["memory", "list", str(out)]) == 0


@pytest.mark.parametrize("verb", ["ab", "tune"])
def test_an_experiments_folder_says_who_holds_it(tmp_path, verb):
    work, tune, search = (importlib.import_module(f"ockham.experiment.{name}") for name in ("work", "tune", "search"))
    alone, name = (work.alone, work.LOCK) if verb == "ab" else (tune.alone, search.LOCK)
    module = "work" if verb == "ab" else "tune"
    code = (
        f"import time; from pathlib import Path; from ockham.experiment.{module} import alone\n"
        f"lock = alone(Path({str(tmp_path)!r})); print('held', flush=True); time.sleep(60)"
    )
    holder = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE)
    try:
        assert holder.stdout.readline() == b"held\n"
        with pytest.raises(WorldError, match=rf"another ockham {verb} is at work in .* \(pid {holder.pid}\)"):
            alone(tmp_path)
    finally:
        holder.kill()
        holder.communicate()
    with alone(tmp_path):
        assert (tmp_path / name).is_file()
    assert not (tmp_path / name).exists()
