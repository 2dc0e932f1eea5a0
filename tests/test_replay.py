"""A replay gives a run again, bit for bit; what differs is named; and a muted plugin is missing from the same batches."""

import json
import shutil
import signal

import pytest
import torch
from conftest import write_corpus

import configurator
import train_ockham
from ockham.__main__ import main
from ockham.errors import ConfigError, WorldError
from ockham.experiment import marginal, replay
from ockham.experiment.jobs import LOG, Outcome, read_json
from ockham.experiment.replay import compare, open_recording, other_leaves, repeat

ALL_ACT = ("--surprise_threshold=null", "--target_update_rate=0.6", "--anchor.penalize=always", "--consolidate_interval=7")


def train(corpus, out_dir, *more, preset=("--preset=exploratory",)):
    argv = [
        f"--data_dir={corpus.parent}", f"--dataset={corpus.name}", f"--out_dir={out_dir}", *preset, "--device=cpu",
        "--compile=False", "--block_size=16", "--n_layer=1", "--n_head=2", "--n_embd=16", "--batch_size=4", "--max_iters=30",
        "--dropout=0.1", "--eval_interval=10", "--log_interval=100", "--warmup_iters=5", *ALL_ACT, *more,
    ]  # fmt: skip
    return configurator.run(train_ockham.main, argv)


def here(job, quiet=False):
    """A job in this process: what run_job gives, in a tenth of the time."""
    code = configurator.run(train_ockham.main, list(job.argv))
    return Outcome(job.name, str(job.out_dir), list(job.argv), code, summary=read_json(job.out_dir / "summary.json"))


def stop_after(monkeypatch, iterations):
    """Let training be told to stop, as by a signal, once it has done that many iterations."""

    class StopThere(train_ockham.Stop):
        asked = 0

        def requested(self):
            StopThere.asked += 1
            if StopThere.asked > iterations:
                self.signal = signal.SIGTERM
            return super().requested()

    monkeypatch.setattr(train_ockham, "Stop", StopThere)


def replayed(run, work):
    recording = open_recording(run)
    assert repeat(recording, work, run=here).exit_code == 0
    return compare(recording, work)


@pytest.fixture(autouse=True)
def without_pictures(monkeypatch):
    """report.html takes longer than these runs."""
    monkeypatch.setattr("ockham.experiment.report.write_report", lambda out_dir: None)


@pytest.fixture(scope="module")
def corpus(tmp_path_factory):
    return write_corpus(tmp_path_factory.mktemp("data") / "tiny")


@pytest.fixture(scope="module")
def finished(corpus, tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs") / "run"
    assert train(corpus, folder) == 0
    return folder


@pytest.fixture
def run(finished, tmp_path):
    """A finished run, to do with as a test likes."""
    return shutil.copytree(finished, tmp_path / "run")


def test_a_replay_is_the_run_bit_for_bit(run, tmp_path):
    verdict = replayed(run, tmp_path / "again")
    assert verdict.is_equal
    assert verdict.text == "replayed 30 iterations: weights, optimizer and every journal line equal"
    losses = [json.loads((folder / "summary.json").read_text())["val_loss"] for folder in (run, tmp_path / "again")]
    assert losses[0] == losses[1]


def test_without_start_pt_the_seed_gives_the_run_again(corpus, tmp_path):
    more = ("optimizer=muon", "--dtype=bfloat16", "--gradient_accumulation_steps=2")
    assert train(corpus, tmp_path / "run", "--journal.replayable=False", *more) == 0
    assert not (tmp_path / "run" / "start.pt").exists()
    assert replayed(tmp_path / "run", tmp_path / "again").is_equal


@pytest.mark.parametrize(("stop", "anchor"), [(17, True), (20, False)], ids=["between evaluations", "after one"])
def test_an_unfinished_run_is_replayed_to_its_last_state(corpus, tmp_path, monkeypatch, stop, anchor):
    with monkeypatch.context() as patch:
        stop_after(patch, stop)
        assert train(corpus, tmp_path / "run") == 143
    verdict = replayed(tmp_path / "run", tmp_path / "again")
    assert verdict.is_equal, verdict.text
    assert f"replayed {stop} iterations" in verdict.text
    assert ("the anchor is not compared" in verdict.text) is not anchor


def resumed(corpus, run, monkeypatch, *more):
    with monkeypatch.context() as patch:
        stop_after(patch, 17)
        assert train(corpus, run) == 143
    assert train(corpus, run, "--init_from=resume", *more) == 0
    return run


def test_a_run_that_was_stopped_and_resumed_is_replayed_in_one_go(corpus, tmp_path, monkeypatch):
    assert replayed(resumed(corpus, tmp_path / "run", monkeypatch), tmp_path / "again").is_equal


def test_a_session_with_other_flags_is_named(corpus, tmp_path, monkeypatch):
    run = resumed(corpus, tmp_path / "run", monkeypatch, "--lambda_ockham=0.02")
    verdict = replayed(run, tmp_path / "again")
    assert not verdict.is_equal
    assert "iteration 0 differs in lambda_ockham: 0.001 recorded, 0.02 replayed" in verdict.text
    assert "resumed at iteration 17" in verdict.text
    assert "from iteration 17 on it had other flags (lambda_ockham 0.001 → 0.02)" in verdict.text


def test_one_changed_line_and_one_changed_bit_are_found(run, tmp_path):
    recording, again = open_recording(run), tmp_path / "again"
    assert repeat(recording, again, run=here).exit_code == 0
    state = torch.load(again / "last.pt", weights_only=True)
    state["model"]["transformer.wpe.weight"].view(torch.int32)[0, 0] ^= 1
    torch.save(state, again / "last.pt")
    assert (
        "every journal line is equal, but 1 parts of the final state differ: model.transformer.wpe.weight"
        in compare(recording, again).text
    )
    lines = (again / "journal.jsonl").read_text().splitlines()
    at = next(i for i, line in enumerate(lines) if '"event": "step", "iter": 12' in line)
    step = json.loads(lines[at])
    lines[at] = json.dumps(step | {"metrics": step["metrics"] | {"gate/open": -1.0}, "dt_ms": 0.5})
    (again / "journal.jsonl").write_text("\n".join(lines))
    assert "iteration 12 differs in metrics.gate/open: " in compare(recording, again).text


def test_leaves_are_compared_bit_for_bit():
    nan, zero = torch.tensor(float("nan")), torch.zeros(2)
    assert list(other_leaves({"a": [nan, 1.0]}, {"a": [nan.clone(), 1.0]})) == []
    assert list(other_leaves({"a": {"b": zero}}, {"a": {"b": -zero}})) == ["a.b"]
    assert list(other_leaves({"a": 1, "b": 2}, {"a": 1.0})) == ["a", "b"]


def test_a_changed_corpus_is_an_error_that_names_the_file(run, corpus, capsys):
    data = (corpus / "train.bin").read_bytes()
    (corpus / "train.bin").write_bytes(bytes([data[0] ^ 1]) + data[1:])
    try:
        assert main(["journal", "replay", str(run)]) == 1
    finally:
        (corpus / "train.bin").write_bytes(data)
    text = capsys.readouterr().err
    assert str(corpus / "train.bin") in text
    assert "prepare it as it was" in text


def test_weights_that_are_gone_are_named(run, corpus, tmp_path):
    assert train(corpus, tmp_path / "tuned", f"--init_from={run}/ckpt.pt", "--journal.replayable=False", "--max_iters=3") == 0
    recording = open_recording(tmp_path / "tuned")
    (run / "ckpt.pt").unlink()
    with pytest.raises(WorldError, match=r"no start\.pt .*the weights that it began with are gone: .*ckpt\.pt"):
        repeat(recording, tmp_path / "again", run=here)


def test_a_muted_plugin_changes_nothing_on_the_same_batches(run, tmp_path):
    recording = open_recording(run)
    rows = marginal.run_variants(
        recording, [marginal.as_it_was(), marginal.without(recording, ["gate"])], tmp_path / "v", True, run=here
    )
    assert [row.name for row in rows] == ["as it was", "without gate"]
    assert rows[0].figures["update_rate"] < 1 == rows[1].figures["update_rate"]  # the gate's witness
    assert rows[1].effect["update_rate"] == rows[0].figures["update_rate"] - 1
    first, muted = (next(replay.steps(folder, 1)) for folder in (run, tmp_path / "v" / "without_gate"))
    assert first["task_loss"] == muted["task_loss"]
    assert not [c for s in replay.steps(tmp_path / "v" / "without_gate", 30) for c in s["changes"] if c[0] == "gate"]


def test_solo_leaves_one_plugin_on_and_an_empty_rack_none(run, tmp_path):
    recording = open_recording(run)
    variants = [marginal.only(recording, ["saturation"]), marginal.empty(recording)]
    rows = marginal.run_variants(recording, variants, tmp_path / "v", True, marginal.recorded(recording), here)
    who = [
        {c[0] for s in replay.steps(tmp_path / "v" / name, 30) for c in s["changes"]}
        for name in ("only_saturation", "empty_rack")
    ]
    assert who == [{"saturation"}, set()]
    assert rows[0].effect["val_loss"] == rows[0].figures["val_loss"] - rows[1].figures["val_loss"] != 0


def test_each_has_two_rows_for_every_plugin_and_two_more(run):
    names = [variant.name for variant in marginal.each(open_recording(run))]
    assert names[:3] == ["as it was", "without gate", "only gate"]
    assert (names[-1], len(names)) == ("empty rack", 2 * 5 + 2)


def test_a_table_shows_effects_and_errors(run, tmp_path):
    figures = {"val_loss": 2.5, "update_rate": 0.6, "drift": 0.1, "compute_units": 1234.0}
    effect = {"val_loss": -0.25, "update_rate": -0.4, "drift": 0.0, "compute_units": -1000.0}
    rows = [
        marginal.VariantFigures("as it was", figures),
        marginal.VariantFigures("without gate", figures, effect),
        marginal.VariantFigures("only eq", {}, None, "no room"),
    ]
    text = marginal.table(rows).splitlines()
    assert len({len(line) for line in text}) == 1
    assert "| 2.5000 (-0.2500) | 0.600 (-0.400) | 0.1000 (0) | 1,234 (-1,000) |" in text[3]
    assert "no room" in text[4]
    marginal.as_json(open_recording(run), rows, tmp_path / "table.json")
    assert json.loads((tmp_path / "table.json").read_text())["rows"][1]["effect"] == effect


@pytest.mark.parametrize(("argv", "code", "words"), [
    (["--mute", "gat"], 2, "no plugin 'gat' (did you mean gate?); it has gate, compressor, eq, limiter, saturation"),
    (["--solo", "reverb"], 2, "no plugin 'reverb'"),
    (["--json", "t.json"], 2, "--json writes the table of --mute, --solo or --each"),
    (["--mute", "gate", "--each"], 2, "not allowed with"),
])  # fmt: skip
def test_what_is_asked_wrong_is_one_line(run, capsys, argv, code, words):
    assert main(["journal", "replay", str(run), *argv]) == code
    assert words in capsys.readouterr().err


def test_what_cannot_be_replayed_says_why(run, tmp_path, capsys):
    assert main(["journal", "replay", str(tmp_path / "nowhere")]) == 1
    assert "journal.jsonl is missing" in capsys.readouterr().err
    recording = open_recording(run)
    with pytest.raises(ConfigError, match="already holds a run"):
        repeat(recording, run, run=here)
    (run / "last.pt").unlink()
    assert main(["journal", "replay", str(run)]) == 1
    assert "last.pt is missing" in capsys.readouterr().err


@pytest.fixture(scope="module")
def halted(corpus, tmp_path_factory):
    """A run that the watchdog stopped, at the first measurement that is over its threshold."""
    folder = tmp_path_factory.mktemp("halted")
    recipe = folder / "dog.yaml"
    recipe.write_text("rack:\n- {type: KLWatchdogPlugin, params: {threshold: 1.0e-6, action: stop, interval: 5}}\n")
    assert train(corpus, folder / "run", str(recipe), "--lambda_ockham=0.001", preset=()) == 1
    return folder / "run"


def test_a_run_that_a_plugin_stopped_is_replayed(halted, tmp_path):
    recording = open_recording(halted)
    assert recording.ended.startswith("kl_watchdog: ")
    outcome = repeat(recording, tmp_path / "again", run=here)
    assert replay.end_of(tmp_path / "again") == recording.ended
    assert replay.finished(outcome).status.startswith("stopped")
    verdict = compare(recording, tmp_path / "again")
    assert verdict.is_equal, verdict.text


def test_as_it_was_is_a_row_without_an_error_where_a_plugin_stopped_the_run(halted, tmp_path):
    recording = open_recording(halted)
    variants = [marginal.as_it_was(), marginal.without(recording, ["kl_watchdog"])]
    rows = marginal.run_variants(recording, variants, tmp_path / "v", True, run=here)
    assert [row.error for row in rows] == [None, None]
    assert rows[1].effect["compute_units"] > 0  # the probes that it asked for


def failing(code, reason=None, error=None):
    """A job that ends with this code, and with this reason in its journal."""

    def run(job, quiet=False):
        job.out_dir.mkdir(parents=True, exist_ok=True)
        (job.out_dir / LOG).write_text("".join(f"line {i}\n" for i in range(100)))
        if reason:
            (job.out_dir / "journal.jsonl").write_text(json.dumps({"v": 1, "event": "end", "iter": 5, "reason": reason}) + "\n")
        return Outcome(job.name, str(job.out_dir), list(job.argv), code, error=error)

    return run


def test_another_reason_or_another_code_is_a_failure(halted, finished, tmp_path):
    stopped, done = open_recording(halted), open_recording(finished)
    for i, (recording, job) in enumerate([
        (stopped, failing(1, "kl_watchdog: something else")),
        (stopped, failing(1, stopped.ended, error="no room")),
        (stopped, failing(143, stopped.ended)),
        (stopped, failing(1)),
        (done, failing(1, "done")),
    ]):  # fmt: skip
        outcome = repeat(recording, tmp_path / str(i), run=job)
        with pytest.raises(WorldError, match="the replay "):
            replay.finished(outcome)


def test_a_log_that_will_be_gone_is_shown_to_its_last_line(run, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(replay.repeat, "__defaults__", (None, failing(1, error="no room")))
    assert main(["journal", "replay", str(run)]) == 1
    said = capsys.readouterr().err.splitlines()
    assert said[0] == f"line {100 - replay.TAIL}"
    assert said[-2] == "line 99"
    assert said[-1] == "error: the replay failed: no room; above is the end of its log, --keep DIR keeps all of it"
    assert main(["journal", "replay", str(run), "--keep", str(tmp_path / "kept")]) == 1
    assert capsys.readouterr().err == f"error: the replay failed: no room; its log: {tmp_path / 'kept' / LOG}\n"


def test_a_table_that_cannot_be_written_is_printed(run, tmp_path, capsys):
    rows = [marginal.VariantFigures("as it was", dict.fromkeys(marginal.FIGURES, 1.0))]
    with pytest.raises(
        WorldError, match=r"--json .*x\.json cannot be written: No such file or directory; it was printed instead"
    ):
        marginal.as_json(open_recording(run), rows, tmp_path / "no" / "x.json")
    assert json.loads(capsys.readouterr().out)["rows"][0]["run"] == "as it was"


@pytest.mark.slow
def test_300_iterations_of_balanced_are_replayed_bit_for_bit(corpus, tmp_path, capsys):
    assert train(corpus, tmp_path / "run", "--preset=balanced", "--max_iters=300") == 0
    assert main(["journal", "replay", str(tmp_path / "run"), "--keep", str(tmp_path / "again")]) == 0
    out = capsys.readouterr().out
    assert "replayed 300 iterations: weights, optimizer and every journal line equal" in out
    assert open_recording(tmp_path / "again").iterations == 300
