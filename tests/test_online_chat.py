"""`ockham chat`: flags, pipes, commands, exam and replay; one clear line and the right exit code for everything that is wrong."""

from __future__ import annotations

import importlib.util
import io
import json
import sys
from pathlib import Path

import pytest
import torch
from online_bases import tiny_ours, tiny_qwen
from online_chats import QUICK, contents, session, write_exam

from ockham.__main__ import main, parser
from ockham.online import program as online_program
from ockham.online import small_base, tombstones


@pytest.fixture(autouse=True)
def _cheap(monkeypatch):
    monkeypatch.setattr(tombstones, "SCRYPT", {"n": 2, "r": 8, "p": 1, "dklen": 32})


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    return tiny_ours(tmp_path_factory.mktemp("bases") / "ours")


@pytest.fixture
def chat(tmp_path, base, capsys, monkeypatch):
    """Runs `ockham chat --plain` on lines of input: (exit code, lines of stdout, stderr)."""

    def run(*lines, args=(), more=QUICK, state="chat", named=True, data=None):
        text = data if data is not None else "".join(f"{line}\n" for line in lines).encode()
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(text), encoding="utf-8"))
        flags = ["--base", str(base)] if named else []
        code = main(["chat", "--plain", "--state", str(tmp_path / state), *flags, *args, *more])
        out, err = capsys.readouterr()
        return code, out.splitlines(), err

    return run


def program(capsys, *args):
    """Any other form of `ockham chat`: (exit code, stdout, stderr)."""
    code = main(["chat", *map(str, args)])
    return code, *capsys.readouterr()


def refused(result, code, *words):
    """One line on stderr that begins with error:, and this exit code."""
    lines = [line for line in result[-1].splitlines() if line.startswith("error:")]
    assert result[0] == code, result
    assert len(lines) == 1, result
    assert "Traceback" not in result[-1]
    for word in words:
        assert word in lines[0]


def test_help_names_the_flags(capsys):
    with pytest.raises(SystemExit) as stop:
        parser().parse_args(["chat", "--help"])
    assert stop.value.code == 0
    out = capsys.readouterr().out
    for flag in (
        "--base",
        "--state",
        "--config",
        "--preset",
        "--plain",
        "--exam",
        "--json",
        "--replay",
        "--make-base",
        "--fall-back",
    ):
        assert flag in out


def test_over_a_pipe_each_message_has_one_line_on_stdout_and_the_notes_are_on_stderr(chat, tmp_path):
    code, out, err = chat("Tom is my friend.", "Who is Tom?", "/facts", "/quit", "Not read.")
    assert (code, len(out)) == (0, 2)
    assert "f1: trained but not well known (p 0.00 -> 0.00" in err  # a tiny base hardly learns
    assert "f1  Tom is my friend.  (is_friend, turn 1" in err
    code, out, err = chat("/facts", named=False, more=())
    assert (code, out) == (0, [])
    assert "1 fact known, 0 waiting" in err


@pytest.fixture(scope="module")
def qwen(tmp_path_factory):
    return tiny_qwen(tmp_path_factory.mktemp("bases") / "qwen")


@pytest.mark.parametrize(("flags", "is_terminal", "is_drawn"), [(["--plain"], True, False), ([], False, False), ([], True, True)])
def test_progress_bars_are_drawn_on_a_terminal_alone_and_not_with_plain(
    qwen, tmp_path, capsys, monkeypatch, flags, is_terminal, is_drawn
):
    from transformers.utils import logging

    logging.enable_progress_bar()
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(b"/facts\n")))
    monkeypatch.setattr(sys.stderr, "isatty", lambda: is_terminal)
    code, _, err = program(capsys, *flags, "--state", tmp_path / "chat", "--base", qwen, *QUICK)
    assert (code, "%|" in err) == (0, is_drawn)


def test_every_command_does_its_work(chat, tmp_path):
    facts, copy = tmp_path / "facts.jsonl", tmp_path / "copy"
    lines = ("Tom is my friend.", "/why f1", "My email is bob@x.org.", "/confirm", "My phone is 555-123-4567.", "/reject",
             "/learn frob zib knab", "/undo", "/exam", "/metrics", f"/export {facts}", f"/save {copy}",
             "/help", "/forget\tf1", "/facts")  # fmt: skip
    code, _, err = chat(*lines)
    assert code == 0, err
    for said in ("source: 'Tom is my friend.'", "detector: pattern is_relation", "f2 waits: it looks like personal data (email)",
                 "f4 is undone", "in all ", "task: last", "facts in", "saved in", "/why ID", "forgotten: f1",
                 f"the copy in {tmp_path / 'copy'} still has it", "f2  My email"):  # fmt: skip
        assert said in err
    exported = [json.loads(line) for line in (tmp_path / "facts.jsonl").read_text().splitlines()]
    assert [entry["text"] for entry in exported] == ["Tom is my friend.", "My email is bob@x.org.", "frob zib knab"]
    assert facts.stat().st_mode & 0o777 == 0o600
    assert b"Tom" not in contents(tmp_path / "chat")
    assert b"Tom" in contents(tmp_path / "copy")


def test_who_knows_a_forgotten_fact_can_ask_whether_it_was_this_one(chat, tmp_path):
    code, _, err = chat("Tom is my friend.", "/forget f1", "/why f1  tom is MY friend", "/why f1 Tom is my brother.")
    assert code == 0
    assert "f1: this is what was forgotten" in err
    assert "f1: that is not it, or in other words" in err
    assert b"Tom" not in contents(tmp_path / "chat")


@pytest.mark.parametrize(
    ("line", "is_said"),
    [
        ("The weather might be wet.", True),
        ("It lives in Oslo.", True),
        ("Tom is not my friend.", True),
        ("Good morning to you.", False),
        ("Thanks a lot, friend!", False),
        ("Who is Tom Baker?", False),
        ("Fine today.", False),
        ("Anna lives in Oslo.", False),
        ("/facts", False),
    ],
)
def test_a_statement_that_is_not_taken_for_a_fact_is_announced(chat, line, is_said):
    code, _, err = chat(line)
    assert code == 0
    assert ("not taken for a fact; /learn TEXT teaches it" in err) == is_said


def test_metrics_are_measured_when_they_are_asked_for(chat):
    code, _, err = chat("/metrics", more=(*QUICK, "metrics.interval=50"))
    assert code == 0
    assert "perplexity_drift: last 0, mean" in err
    code, _, err = chat("Tom is my friend.", "/metrics", more=())
    assert code == 0
    for name in ("perplexity", "kl", "perplexity_drift", "fact_performance", "mean_regression", "anchor_regression"):
        assert f"\n{name}: last " in err
    assert "perplexity_drift: last 0, mean" not in err  # against the base, not against itself


def test_the_table_of_metrics_is_whole_in_a_narrow_terminal(shared_session, capsys):
    from rich.console import Console

    from ockham.online.chat import Chat

    narrow = Chat(shared_session, is_plain=False)
    narrow.console = Console(width=30, soft_wrap=True)
    narrow._metrics("")
    out = capsys.readouterr().out
    assert "anchor_performance" in out
    assert "…" not in out


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("/forgt f1", "unknown command /forgt (did you mean /forget?)"),
        ("/", "unknown command /"),
        ("/why", "/why needs an id"),
        ("/why f7", "there is no fact 7"),
        ("/why f7 Tom is my friend.", "no fact was forgotten under f7"),
        ("/forget", "/forget needs an id"),
        ("/forget tom", "a fact's id is f and a number"),
        ("/forget f7", "there is no fact 7"),
        ("/confirm", "error: nothing is waiting"),
        ("/reject f3", "error: nothing is waiting"),
        ("/learn", "/learn needs the statement"),
        ("/undo", "nothing to undo"),
        ("/undo f1", "/undo takes nothing behind it, got 'f1'"),
        ("/quit now", "/quit takes nothing behind it, got 'now'; type /quit alone"),
        ("/facts f1", "/facts takes nothing behind it"),
        ("/export", "/export needs a file"),
        ("/save", "/save needs a new folder"),
    ],
)
def test_a_line_that_is_refused_gives_one_line_and_exit_code_2(shared_chat, line, said):
    refused(shared_chat(line), 2, said)


@pytest.fixture(scope="module")
def shared_session(tmp_path_factory, base):
    with session(tmp_path_factory.mktemp("shared") / "chat", base) as opened:
        yield opened


@pytest.fixture
def shared_chat(shared_session, capsys, monkeypatch):
    """As `chat`, on one open session."""
    from ockham.online.chat import Chat

    def run(*lines, data=None):
        text = data if data is not None else "".join(f"{line}\n" for line in lines).encode()
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(text), encoding="utf-8"))
        code = Chat(shared_session, is_plain=True).run()
        return code, *capsys.readouterr()

    return run


def test_what_is_refused_does_not_end_the_chat(shared_chat):
    code, out, err = shared_chat(data=b"x" * 100_000 + b"\n\xff\xfe\nHello.\r\n")
    assert (code, len(out.splitlines())) == (2, 1)
    said = [line for line in err.splitlines() if line.startswith("error:")]
    assert ["100,000 characters" in said[0], "UTF-8" in said[1], len(said)] == [True, True, 2]


def test_blank_lines_in_a_pipe_are_no_messages(shared_chat):
    code, out, err = shared_chat(data=b"\n \t\r\nHello.\n\n")
    assert (code, len(out.splitlines())) == (0, 1)
    assert "error:" not in err


def test_files_that_cannot_be_written_are_one_line_and_exit_code_1(shared_chat, tmp_path):
    refused(shared_chat(f"/export {tmp_path / 'no' / 'facts.jsonl'}"), 1, "there is no folder")
    for folder in (".", "/", tmp_path):
        refused(shared_chat(f"/export {folder}"), 1, "is a folder; name a file")
    refused(shared_chat(f"/save {tmp_path}"), 1, "is there already")
    refused(shared_chat(f"/exam {tmp_path / 'none.jsonl'}"), 1, "no exam at")


def test_an_exam_inside_the_chat_leaves_the_chat_as_it_was(shared_chat, shared_session, tmp_path):
    before = shared_session.trainer.adapter.sha256()
    exam = write_exam(tmp_path / "exam.jsonl", [("Kim is my boss.", "Who is Kim?", "boss")])
    code, _, err = shared_chat(f"/exam {exam}")
    assert code == 0
    assert "1 fact, 0 learned, 1 trained but not well known" in err
    assert shared_session.trainer.adapter.sha256() == before
    assert shared_session.facts() == []


# ---- what the world lacks, and what is written wrong


def test_a_missing_base_is_one_line(capsys, tmp_path):
    refused(program(capsys, "--plain", "--base", tmp_path / "none.pt", "--state", tmp_path / "s"), 1, "there is no checkpoint")
    for absent in (tmp_path / "none", "./none", "~/none", "out-none", "a/b/none"):
        refused(program(capsys, "--plain", "--base", absent, "--state", tmp_path / "s"), 1, f"there is no folder {absent}")
    (tmp_path / "empty").mkdir()
    refused(program(capsys, "--plain", "--base", tmp_path / "empty", "--state", tmp_path / "s"), 1, "neither ckpt.pt")


def test_state_of_another_base_is_one_line_and_nothing_is_lost(chat, tmp_path):
    assert chat("Tom is my friend.")[0] == 0
    before = contents(tmp_path / "chat")
    other = tiny_ours(tmp_path / "other", seed=1)
    refused(chat("Hello.", args=["--base", str(other)], named=False), 1, "belongs to the base")
    assert contents(tmp_path / "chat") == before


def test_no_weights_to_learn_is_one_line(chat):
    refused(chat("Hello.", args=["model.lora.target_modules=[nope]"]), 2, "model.lora.target_modules", "nope")


def test_an_adapter_in_pickle_form_or_damaged_is_one_line(chat, tmp_path):
    import torch

    assert chat("Tom is my friend.")[0] == 0
    newest = max((tmp_path / "chat" / "adapters").iterdir())
    torch.save({"a": torch.zeros(2)}, newest)
    refused(chat("Hello."), 1, newest.name, "--fall-back")
    code, _, err = chat("/facts", args=["--fall-back"])
    assert code == 0
    assert "went back" in err


def test_a_bad_regex_in_the_settings_is_named(chat):
    patterns = "fact_detection.patterns=[{name: mine, pattern: '(\\w+) is (my', relation: is, min_confidence: 0.5}]"
    refused(chat("Hello.", args=[patterns]), 2, "mine", "missing )")
    refused(chat("Hello.", args=["safety.instruction_patterns=['(a']"]), 2, "safety.instruction_patterns[0]", "(a")


@pytest.mark.parametrize(
    ("args", "said"),
    [
        (["training.learning_rat=1"], "did you mean training.learning_rate"),
        (["training.learning_rate=-1"], "training.learning_rate"),
        (["training.lr=1"], "unknown key training.lr (did you mean training.learning_rate?)"),
        (["training.wd=1"], "did you mean training.weight_decay?"),
        (["lr=1"], "did you mean training.learning_rate?"),
        (["training.target_probs=1"], "did you mean training.target_prob?"),
        (["training.loss.target=1"], "did you mean training.loss.dynamic_kl.target"),
        (["--preset", "nope"], "no preset 'nope'"),
        (["--config", "/nope.yaml"], "/nope.yaml"),
        (["--json", "x.json"], "give --exam FILE, too"),
        (["--nope"], "unknown argument --nope"),
        (["Hello"], "unknown argument Hello"),
    ],
)
def test_what_is_written_wrong_is_exit_code_2(chat, args, said):
    refused(chat("Hello.", args=args), 2, said)


def test_flags_of_an_exam_and_of_a_chat_do_not_mix(capsys):
    refused(program(capsys, "--exam", "x", "--state", "y"), 2, "--state belongs to a chat")
    refused(program(capsys, "--make-base", "--state", "y"), 2, "--state belongs to a chat")
    refused(program(capsys, "--replay", "x", "--fall-back"), 2, "--fall-back belongs to a chat")


def test_other_settings_than_the_folders_are_refused_by_name(chat):
    assert chat("Hello.")[0] == 0
    refused(chat("Hello.", args=["training.target_prob=0.7"]), 2, "training.target_prob")


@pytest.mark.parametrize("library", ["peft", "safetensors", "transformers"])
def test_a_library_that_is_not_installed_is_named(chat, monkeypatch, library):
    original = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name, *more: None if name == library else original(name, *more))
    refused(chat("Hello."), 1, f"needs {library}", "pip install")


def test_a_state_folder_in_a_place_that_is_none_is_one_line(chat, tmp_path):
    (tmp_path / "file").write_text("x")
    refused(chat("Hello.", state="file"), 1, "is a file")
    refused(chat("Hello.", state="file/in"), 1)
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "letter.txt").write_text("x")
    refused(chat("Hello.", state="full"), 1, "letter.txt")


# ---- exam, replay, making the base


def test_an_exam_writes_its_figures_and_a_row_for_each_fact(capsys, tmp_path, base):
    exam = write_exam(tmp_path / "exam.jsonl", [("Tom is my friend.", "Who is Tom?", "friend"), ("x y", "What is x?", "y")])
    code, out, err = program(capsys, "--exam", exam, "--json", tmp_path / "out.json", "--base", base, *QUICK,
                             "fact_memory.max_facts=1")  # fmt: skip
    assert code == 0
    found = json.loads((tmp_path / "out.json").read_text())
    assert {"efficacy", "paraphrase", "locality", "steps_per_fact", "seconds_per_fact", "rows"} <= found.keys()
    assert [row["fact"] for row in found["rows"]] == ["Tom is my friend.", "x y"]
    assert "efficacy" in out
    assert "1/2 Tom is my friend." in err
    assert "fact_memory.max_facts=1" in err


def test_an_exam_that_cannot_be_read_or_kept_is_refused_before_the_base_is_loaded(capsys, tmp_path):
    bad = tmp_path / "bad.jsonl"
    bad.write_text('{"fact": 1}\nx\n')
    refused(program(capsys, "--exam", bad), 2, "bad.jsonl:1", "question")
    refused(program(capsys, "--exam", tmp_path / "none"), 1, "no exam at")
    good = write_exam(tmp_path / "exam.jsonl", [("Tom is my friend.", "Who is Tom?", "friend")])
    refused(program(capsys, "--exam", good, "--json", tmp_path / "no" / "out.json"), 1, "--json")


def test_what_was_learned_is_exported_in_pefts_format(chat, capsys, tmp_path, base):
    from peft import PeftModel

    from ockham.online.bases import load_base
    from ockham.online.config import ModelSettings

    assert chat("Tom is my friend.")[0] == 0
    out = tmp_path / "adapter"
    assert program(capsys, "--state", tmp_path / "chat", "--export-adapter", out)[0] == 0
    loaded = PeftModel.from_pretrained(load_base(ModelSettings(base_model_name=str(base), device="cpu")).model, out)
    assert any(bool(p.any()) for name, p in loaded.named_parameters() if "lora_B" in name)
    refused(program(capsys, "--state", tmp_path / "chat", "--export-adapter", out), 1, "there already")
    refused(program(capsys, "--state", tmp_path / "none", "--export-adapter", tmp_path / "b"), 1, "no chat in")
    assert not (tmp_path / "none").exists()


def test_a_replay_is_the_same_or_names_the_turn(chat, capsys, tmp_path, base):
    assert chat("Tom is my friend.", "Who is Tom?", "/undo")[0] == 0
    log = tmp_path / "chat" / "session.jsonl"
    code, out, _ = program(capsys, "--replay", log)
    assert (code, "3 turns told again: every reply and adapter is the same" in out) == (0, True)
    text = log.read_text()
    log.write_text(text.replace("Tom is my friend.", "Tom is my enemy."))
    code, out, _ = program(capsys, "--replay", log, "--base", base)
    assert (code, "turn 1: adapter" in out) == (1, True)
    refused(program(capsys, "--replay", tmp_path / "none.jsonl"), 1, "cannot be read")
    log.write_text(text[:-20] + "}\n")
    refused(program(capsys, "--replay", log), 1, "session.jsonl:4")


def test_a_replay_has_the_threads_of_its_session_and_names_another_torch(chat, capsys, tmp_path, base, monkeypatch):
    assert chat("Tom is my friend.")[0] == 0
    log, seen, here = tmp_path / "chat" / "session.jsonl", [], torch.get_num_threads()
    text = log.read_text()
    original = online_program.load
    monkeypatch.setattr(online_program, "load", lambda *a, **k: seen.append(torch.get_num_threads()) or original(*a, **k))
    log.write_text(text.replace(f'"threads": {here}', f'"threads": {here + 1}'))
    program(capsys, "--replay", log)
    assert (seen, torch.get_num_threads()) == ([here + 1], here)
    log.write_text(text.replace(f'"torch": "{torch.__version__}"', '"torch": "1.0"'))
    code, out, _ = program(capsys, "--replay", log)
    assert (code, "torch 1.0" in out) == (0, False)  # nothing differs, nothing to explain
    log.write_text(log.read_text().replace("Tom is my friend.", "Tom is my enemy."))
    code, out, _ = program(capsys, "--replay", log)
    assert (code, f"it was made with torch 1.0, here {torch.__version__}" in out) == (1, True)
    log.write_text(text.replace(f'"threads": {here}', '"threads": 0'))
    refused(program(capsys, "--replay", log), 1, "'threads' must be in [1, 1024], got 0")


@pytest.mark.parametrize("how", ["missing", "damaged"])
def test_a_chat_whose_tables_are_lost_is_made_again_as_the_message_says(chat, capsys, tmp_path, how):
    assert chat("Tom is my friend.", "My email is bob@x.org.", "Anna lives in Oslo.", "/undo", "/confirm f2")[0] == 0
    tables = tmp_path / "chat" / "state.db"
    tables.unlink() if how == "missing" else tables.write_bytes(b"x" * 5000)
    said = chat("/facts", more=())
    log, new = tmp_path / "chat" / "session.jsonl", tmp_path / "new"
    refused(said, 1, f"ockham chat --replay {log} --state NEW")
    code, out, err = program(capsys, "--replay", log, "--state", new)
    assert (code, "5 turns told again: every reply and adapter is the same" in out) == (0, True)
    assert f"kept in {new}" in err
    code, _, err = chat("/facts", state="new", named=False, more=())
    assert code == 0
    assert "2 facts known, 0 waiting" in err
    refused(program(capsys, "--replay", log, "--state", new), 2, "holds a chat already")


def test_a_replay_counts_what_is_told_and_says_how_many_turns_are_forgotten(chat, capsys, tmp_path):
    assert chat("Tom is my friend.", "Who is Tom?", "/forget f1", "My email is bob@x.org.", "/confirm f2")[0] == 0
    for flags in ((), ("--state", tmp_path / "new")):
        code, out, _ = program(capsys, "--replay", tmp_path / "chat" / "session.jsonl", *flags)
        assert (code, out) == (0, "2 turns told again (3 forgotten): every reply and adapter is the same\n")
    _, _, err = chat("/facts", state="new", named=False, more=())
    assert "f2  My email is bob@x.org." in err


def test_making_the_base_prepares_trains_and_says_what_it_can_do(capsys, monkeypatch, tmp_path):
    ran = []

    def run(command):
        ran.append(command)
        if out := [arg.partition("=")[2] for arg in command if arg.startswith("--out_dir=")]:
            (Path(out[0])).mkdir()
            (Path(out[0]) / "ckpt.pt").write_text("made")

    monkeypatch.setattr(small_base, "_run", run)
    monkeypatch.setattr(small_base.shutil, "copyfile", lambda source, target: ran.append([str(target)]))
    code, _, err = program(capsys, "--make-base", f"model.fallback={tmp_path / 'small'}")
    assert code == 0
    assert [command[0].rsplit("/", 1)[-1] for command in ran] == ["prepare.py", "train_ockham.py", "meta.json"]
    assert f"--out_dir={tmp_path / 'small'}.partial" in ran[1]  # a base that is half made is none
    assert (tmp_path / "small" / "ckpt.pt").read_text() == "made"
    assert "It answers what you have told it" in err
    refused(program(capsys, "--make-base", f"model.fallback={tmp_path / 'small'}"), 1, "small is there already")


def test_where_the_model_is_absent_and_nobody_can_be_asked_nothing_is_made(chat, monkeypatch, tmp_path):
    monkeypatch.setattr(small_base, "make_small_base", lambda *_: pytest.fail("seven minutes that nobody asked for"))
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    result = chat("Tom is my friend.", args=[f"model.fallback={tmp_path / 'small'}"], named=False)
    refused(result, 1, "Qwen/Qwen2.5-0.5B (0.99 GB)", "ockham chat --make-base")
    assert not (tmp_path / "small").exists()


def test_where_the_model_is_absent_the_small_base_is_made_when_it_is_agreed_to(chat, monkeypatch, tmp_path, base):
    import shutil

    made = []

    def make(folder, said):
        made.append(folder)
        shutil.copytree(base, folder)

    monkeypatch.setattr(small_base, "make_small_base", make)
    monkeypatch.setattr(online_program, "offer", lambda: True)
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    small = tmp_path / "small"
    args = [f"model.fallback={small}"]
    code, _, err = chat("Tom is my friend.", args=args, named=False)
    assert (code, made) == (0, [small])
    assert "is not on this machine" in err
    assert chat("/facts", named=False, more=())[0] == 0
    assert made == [small]
