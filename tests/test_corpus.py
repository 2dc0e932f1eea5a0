"""Preparing corpora: what is written is nanoGPT's format, whole or not at all, and every trouble is one clear line."""

from __future__ import annotations

import hashlib
import json
import pickle
import runpy
import subprocess
import sys
import types
from pathlib import Path

import numpy as np
import pytest

from ockham import corpus, sources
from ockham.corpus import ASCII, Recipe, choose_dtype, main
from ockham.errors import CorpusError
from ockham.sources import FileSource, HubSource, Piece, at_word_ends, download, read_text
from ockham.tokenizer import load_tokenizer, read_meta

ROOT = Path(__file__).resolve().parents[1]
SHARED = ROOT.parent / "shared" / "data"
CHAR = Recipe(name="toy", about="test", tokenizers=("char", "gpt2"))
GPT2 = Recipe(name="toy", about="test", tokenizers=("gpt2", "char"))


@pytest.fixture
def merges(monkeypatch):
    pytest.importorskip("tiktoken", reason="tiktoken is not installed")
    if not (SHARED / "tiktoken_cache").is_dir():
        pytest.skip(f"no GPT-2 merges at {SHARED / 'tiktoken_cache'}")
    monkeypatch.setenv("TIKTOKEN_CACHE_DIR", str(SHARED / "tiktoken_cache"))


@pytest.fixture
def shakespeare() -> Path:
    path = SHARED / "tinyshakespeare" / "input.txt"
    if not path.is_file():
        pytest.skip(f"no Tiny Shakespeare at {path}")
    return path


def source_file(folder: Path, text: str, name: str = "source.txt") -> Path:
    path = folder / name
    path.write_bytes(text.encode())
    return path


def prepared(recipe: Recipe, out: Path, source: Path, *args: str) -> dict:
    assert main(recipe, ["--source", str(source), "--out", str(out), *args]) == 0
    return read_meta(out)


def tokens(folder: Path, split: str) -> np.ndarray:
    return np.fromfile(folder / f"{split}.bin", dtype=np.dtype(read_meta(folder)["dtype"]))


def text_of(folder: Path, split: str) -> str:
    return load_tokenizer(folder).decode(tokens(folder, split))


def test_a_character_corpus_is_nanogpts(tmp_path):
    text = "to be, or not to be: that is the question\n" * 5
    meta = prepared(CHAR, tmp_path / "out", source_file(tmp_path, text))
    cut = int(len(text) * 0.9)
    assert meta["tokenizer"]["vocab"] == sorted(set(text))
    assert text_of(tmp_path / "out", "train") == text[:cut]
    assert text_of(tmp_path / "out", "val") == text[cut:]
    nano = pickle.loads((tmp_path / "out" / "meta.pkl").read_bytes())
    assert nano["vocab_size"] == len(set(text))
    assert [nano["itos"][nano["stoi"][c]] for c in text] == list(text)


def test_meta_holds_counts_and_hashes(tmp_path):
    path = source_file(tmp_path, "abc\n" * 100)
    meta = prepared(CHAR, tmp_path / "out", path)
    assert meta["tokens"] == {"train": 360, "val": 40}
    assert (meta["format"], meta["vocab_size"], meta["dtype"]) == (1, 4, "uint16")
    assert meta["sources"] == [{"name": str(path), "bytes": 400, "sha256": hashlib.sha256(path.read_bytes()).hexdigest()}]
    for name, digest in meta["sha256"].items():
        assert hashlib.sha256((tmp_path / "out" / name).read_bytes()).hexdigest() == digest
    assert sorted(p.name for p in (tmp_path / "out").iterdir()) == ["meta.json", "meta.pkl", "train.bin", "val.bin"]


def test_real_shakespeare_has_nanogpts_counts(tmp_path, shakespeare):
    meta = prepared(CHAR, tmp_path / "out", shakespeare)
    assert meta["tokens"] == {"train": 1_003_854, "val": 111_540}
    assert meta["vocab_size"] == 65


def test_real_shakespeare_in_gpt2_tokens_has_nanogpts_counts(tmp_path, shakespeare, merges):
    meta = prepared(GPT2, tmp_path / "out", shakespeare)
    assert meta["tokens"] == {"train": 301_966, "val": 36_059}
    assert not (tmp_path / "out" / "meta.pkl").exists()


def test_two_corpora_can_share_one_vocabulary(tmp_path, capsys):
    first, second = tmp_path / "first", tmp_path / "second"
    prepared(CHAR, first, source_file(tmp_path, "abcd\n" * 20))
    meta = prepared(CHAR, second, source_file(tmp_path, "a cab!\n" * 20, "other.txt"), "--vocab", str(first))
    assert meta["tokenizer"] == read_meta(first)["tokenizer"]
    assert meta["dropped"] == {"total": 40, "characters": {" ": 20, "!": 20}}
    assert text_of(second, "train").startswith("acab\nacab\n")
    assert "dropped 40 characters" in capsys.readouterr().out


def test_ascii_is_printable_ascii_and_newline(tmp_path):
    assert list(map(ord, ASCII)) == [10, *range(32, 127)]
    meta = prepared(CHAR, tmp_path / "out", source_file(tmp_path, "naïve\tcafé\n" * 20), "--vocab", "ascii")
    assert meta["vocab_size"] == 96
    assert meta["dropped"]["characters"] == {"ï": 20, "\t": 20, "é": 20}


def test_a_second_run_does_nothing_and_says_so(tmp_path, capsys):
    path = source_file(tmp_path, "abc\n" * 100)
    prepared(CHAR, tmp_path / "out", path)
    before = {p: p.stat().st_mtime_ns for p in (tmp_path / "out").iterdir()}
    prepared(CHAR, tmp_path / "out", path)
    assert "nothing to do" in capsys.readouterr().out
    assert before == {p: p.stat().st_mtime_ns for p in (tmp_path / "out").iterdir()}
    prepared(CHAR, tmp_path / "out", path, "--force")
    assert before != {p: p.stat().st_mtime_ns for p in (tmp_path / "out").iterdir()}


def test_a_torn_corpus_is_rebuilt(tmp_path):
    path = source_file(tmp_path, "abc\n" * 100)
    prepared(CHAR, tmp_path / "out", path)
    (tmp_path / "out" / "val.bin").write_bytes(b"\0")
    prepared(CHAR, tmp_path / "out", path)
    assert len(tokens(tmp_path / "out", "val")) == 40


def test_a_changed_source_is_prepared_anew(tmp_path):
    prepared(CHAR, tmp_path / "out", source_file(tmp_path, "abc\n" * 100))
    prepared(CHAR, tmp_path / "out", source_file(tmp_path, "xyz\n" * 100))
    assert text_of(tmp_path / "out", "val").startswith("xyz")


def test_another_corpus_in_the_folder_is_not_replaced(tmp_path, capsys):
    prepared(CHAR, tmp_path / "out", source_file(tmp_path, "abc\n" * 100))
    other = source_file(tmp_path, "xyz\n" * 100, "other.txt")
    for args in (["--source", str(other)], ["--source", str(tmp_path / "source.txt"), "--vocab", "ascii"]):
        assert main(CHAR, [*args, "--out", str(tmp_path / "out")]) == 2
        assert "--force replaces it" in capsys.readouterr().err
    assert text_of(tmp_path / "out", "val").startswith("abc")


def test_a_failed_rebuild_leaves_the_old_corpus(tmp_path):
    out = tmp_path / "out"
    meta = prepared(CHAR, out, source_file(tmp_path, "abc\n" * 100))
    assert main(CHAR, ["--source", str(source_file(tmp_path, "a")), "--out", str(out), "--force"]) == 1
    assert read_meta(out) == meta
    assert sorted(p.name for p in out.iterdir()) == ["meta.json", "meta.pkl", "train.bin", "val.bin"]


def test_metadata_never_describes_other_tokens(tmp_path, monkeypatch):
    out = tmp_path / "out"
    prepared(CHAR, out, source_file(tmp_path, "abc\n" * 100))

    def power_cut(self):
        raise OSError("no space left on device")

    monkeypatch.setattr(corpus.TokenWriter, "publish", power_cut)
    assert main(CHAR, ["--source", str(source_file(tmp_path, "xyz\n" * 100)), "--out", str(out)]) == 1
    assert not (out / "meta.json").exists()
    assert not list(out.glob("*.partial"))


@pytest.mark.parametrize("position", [0, 5, (1 << 20) - 1, 1 << 20, (1 << 20) + 7])
def test_a_source_that_is_not_utf8_names_file_and_byte(tmp_path, capsys, position):
    path = tmp_path / "latin.txt"
    path.write_bytes(b"a" * position + b"\xe9tude")
    assert main(CHAR, ["--source", str(path), "--out", str(tmp_path / "out")]) == 1
    assert f"error: {path} is not UTF-8 at byte {position:,};" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_utf8_is_read_whole_across_blocks(tmp_path, monkeypatch):
    monkeypatch.setattr(sources, "BLOCK_BYTES", 3)
    path = source_file(tmp_path, "\ufeffé😀\r\na\rb\n日本")
    assert "".join(read_text(path)) == "é😀\na\nb\n日本"


def test_a_missing_source_is_named(tmp_path, capsys):
    assert main(CHAR, ["--source", str(tmp_path / "nowhere.txt"), "--out", str(tmp_path / "out")]) == 1
    assert "nowhere.txt does not exist" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (["--val_fraction", "1.5"], "must be a number above 0 and below 1"),
        (["--limit", "-1"], "must be a whole number, 0 or more"),
        (["--tokenizer", "bpe"], "--tokenizer must be char or gpt2, got 'bpe'"),
        (["--surce", "x"], "unknown option --surce (did you mean --source?); see python data/toy/prepare.py --help"),
        (["--nmae=x"], "unknown option --nmae (did you mean --name?)"),
        (["stray", "--force=maybe"], "--force: must be True or False, got 'maybe'"),
        (["--limit=abc"], "--limit: must be a whole number, 0 or more, got 'abc'"),
        (["--limit=1.5"], "--limit: must be a whole number, 0 or more, got '1.5'"),
        (["--val_fraction=half"], "must be a number above 0 and below 1, got 'half'"),
        (["--name", "../up"], "--name must be letters"),
        (["--tokenizer", "gpt2", "--vocab", "ascii"], "--vocab is for --tokenizer char"),
    ],
)
def test_a_usage_error_exits_with_2(tmp_path, capsys, args, message):
    assert main(CHAR, ["--source", str(source_file(tmp_path, "abc")), *args]) == 2
    said = capsys.readouterr().err
    assert message in said
    assert said.startswith("error: ")
    assert said.count("\n") == 1


def test_a_mistyped_source_is_no_missing_source(tmp_path, capsys):
    assert main(CHAR, ["--soruce", "x"]) == 2
    assert "did you mean --source?" in capsys.readouterr().err
    assert main(CHAR, []) == 2
    assert "--source must be given" in capsys.readouterr().err


@pytest.mark.parametrize(("below", "message"), [("", "source.txt is a file"), ("x/y", "lies below")])
def test_a_folder_that_cannot_be_one_is_named(tmp_path, capsys, below, message):
    path = source_file(tmp_path, "abc" * 100)
    assert main(CHAR, ["--source", str(path), "--out", str(path / below)]) == 2
    said = capsys.readouterr().err
    assert message in said
    assert "Errno" not in said


def test_an_error_of_the_disk_is_told_without_its_number(capsys):
    assert corpus.run_safely(Path("/nowhere/at/all").read_bytes) == 1
    assert capsys.readouterr().err == "error: /nowhere/at/all: No such file or directory\n"


def test_a_source_without_text_is_named(tmp_path, capsys):
    path = source_file(tmp_path, "")
    assert main(CHAR, ["--source", str(path), "--out", str(tmp_path / "out")]) == 1
    assert f"error: {path} holds no text" in capsys.readouterr().err
    path = source_file(tmp_path, "ÄÖ" * 100)
    assert main(CHAR, ["--source", str(path), "--out", str(tmp_path / "out"), "--vocab=ascii"]) == 1
    assert f"error: {path} holds no text that the vocabulary has" in capsys.readouterr().err


def test_a_split_without_a_token_to_predict_is_refused_and_a_short_one_warned_of(tmp_path, capsys):
    path, out = source_file(tmp_path, "abcd" * 1000), tmp_path / "out"
    assert main(CHAR, ["--source", str(path), "--out", str(out), "--val_fraction=0.0001"]) == 1
    assert "the val split is too short, it has 1 of at least 2 tokens" in capsys.readouterr().err
    assert not out.exists()
    prepared(CHAR, out, path, "--val_fraction=0.001")
    said = capsys.readouterr().err
    assert "warning: val has 4 tokens, block_size can be 3 at most; more text or a larger --val_fraction (now 0.001)" in said
    prepared(CHAR, tmp_path / "long", path, "--val_fraction=0.4")
    assert capsys.readouterr().err == ""


def test_a_vocabulary_that_is_not_there_names_the_prepare_script(tmp_path, capsys):
    path = source_file(tmp_path, "abc")
    assert main(CHAR, ["--source", str(path), "--out", str(tmp_path / "o"), "--vocab", "tinystoris"]) == 1
    assert "did you mean tinystories?" in capsys.readouterr().err


def test_debug_shows_the_traceback(tmp_path):
    with pytest.raises(CorpusError):
        main(CHAR, ["--source", str(tmp_path / "nowhere"), "--out", str(tmp_path / "out"), "--debug=True"])


def test_a_vocabulary_past_uint16_takes_uint32(tmp_path, capsys):
    big = "".join(chr(c) for c in range(0x20000, 0x20000 + 65_540)) + "a" * 8000
    path = source_file(tmp_path, big)
    meta = prepared(CHAR, tmp_path / "out", path)
    assert (meta["dtype"], meta["vocab_size"]) == ("uint32", 65_541)
    assert text_of(tmp_path / "out", "train") + text_of(tmp_path / "out", "val") == big
    assert main(CHAR, ["--source", str(path), "--out", str(tmp_path / "small"), "--dtype", "uint16"]) == 1
    assert "vocabulary of 65,541 does not fit uint16" in capsys.readouterr().err
    assert [choose_dtype("auto", n) for n in (65_535, 65_536)] == ["uint16", "uint32"]


STORIES = ["One day a cat sat.\n\nIt sat long.", "Two dogs ran.", "Three hens sang.", "Four goats ate."] * 5


def story_files(folder: Path) -> list[Path]:
    pa = pytest.importorskip("pyarrow", reason="pyarrow is not installed")
    parquet = pytest.importorskip("pyarrow.parquet")
    marked = source_file(folder, "".join(f"\n{s}\n<|endoftext|>" for s in STORIES), "stories.txt")
    lines = source_file(folder, "".join(json.dumps({"text": s}) + "\n" for s in STORIES), "stories.jsonl")
    parquet.write_table(pa.table({"n": range(len(STORIES)), "text": STORIES}), folder / "stories.parquet")
    return [marked, lines, folder / "stories.parquet"]


def test_txt_jsonl_and_parquet_of_the_same_stories_give_the_same_tokens(tmp_path):
    for i, path in enumerate(story_files(tmp_path)):
        prepared(CHAR, tmp_path / f"out{i}", path)
        whole = text_of(tmp_path / f"out{i}", "train") + text_of(tmp_path / f"out{i}", "val")
        assert whole == "".join(f"{s}\n" for s in STORIES)
        assert text_of(tmp_path / f"out{i}", "val") == "".join(f"{s}\n" for s in STORIES[-3:])  # no story is cut


def test_gpt2_documents_end_with_the_end_of_text_token(tmp_path, merges):
    prepared(GPT2, tmp_path / "out", story_files(tmp_path)[1])
    train, val = (tokens(tmp_path / "out", split) for split in ("train", "val"))
    assert (train[-1], val[-1]) == (50256, 50256)
    assert (train == 50256).sum() + (val == 50256).sum() == len(STORIES)


def test_limit_keeps_the_first_documents_or_characters(tmp_path):
    prepared(CHAR, tmp_path / "a", story_files(tmp_path)[1], "--limit", "4")
    assert text_of(tmp_path / "a", "train") + text_of(tmp_path / "a", "val") == "".join(f"{s}\n" for s in STORIES[:4])
    meta = prepared(CHAR, tmp_path / "b", source_file(tmp_path, "abcdefghij" * 10), "--limit", "50")
    assert meta["tokens"] == {"train": 45, "val": 5}


def test_plain_files_follow_one_another_on_lines_of_their_own(tmp_path):
    paths = [source_file(tmp_path, text, f"{i}.txt") for i, text in enumerate(("one", "two\n", "three"))]
    assert "".join(p.text for p in FileSource(paths, 0.5).pieces()) == "one\ntwo\nthree"


@pytest.mark.parametrize(
    ("name", "data", "message"),
    [
        ("a.jsonl", b'{"text": "x"}\n{"txt": "y"}\n', "a.jsonl:2 must be a JSON object"),
        ("a.jsonl", b"[1]\n", "a.jsonl:1 must be a JSON object"),
        ("a.jsonl", b'{"text": "\\ud800"}\n', "a.jsonl:1 must be a JSON object"),
        ("a.jsonl", b'{"text": "x"}\n{"text": "\xe9"}\n', "a.jsonl is not UTF-8 at byte 24"),
        ("a.parquet", b"PAR1 no", "a.parquet is not a readable parquet file"),
    ],
)
def test_a_broken_source_is_one_clear_line(tmp_path, capsys, name, data, message):
    pytest.importorskip("pyarrow", reason="pyarrow is not installed")
    (tmp_path / name).write_bytes(data)
    assert main(CHAR, ["--source", str(tmp_path / name), "--out", str(tmp_path / "out")]) == 1
    assert message in capsys.readouterr().err


@pytest.mark.parametrize("block", [7, 50, 1000])
def test_pieces_cut_at_word_ends_have_the_tokens_of_the_whole_text(merges, block):
    from ockham.tokenizer import GPT2Tokenizer

    text = "Say 'tis  true,\n\n   my lord!  I've 1234 ships \t\nat sea — naïve?  \n" * 20
    pieces = [Piece("train", text[i : i + block], False) for i in range(0, len(text), block)]
    parts = [p.text for p in at_word_ends(pieces)]
    assert "".join(parts) == text
    assert len(parts) > 1 or block == 1000
    tokenizer = GPT2Tokenizer()
    assert np.concatenate(tokenizer.encode_many(parts)).tolist() == tokenizer.encode_many([text])[0].tolist()


class Rows(list):
    def take(self, n: int) -> Rows:
        return Rows(self[:n])


@pytest.fixture
def hub(monkeypatch) -> list:
    """A stand-in for the datasets package; the calls it got."""
    calls: list = []
    splits = {
        split: Rows({"text": f"{word} {i}"} for i in range(n))
        for split, word, n in (("train", "story", 10), ("validation", "val", 3))
    }

    def load_dataset(name, split, streaming, revision=None):
        calls.append((name, split, streaming, revision))
        if name == "has/script" and revision is None:
            raise RuntimeError("Dataset scripts are no longer supported, but found script.py")
        return splits[split]

    monkeypatch.setitem(sys.modules, "datasets", types.SimpleNamespace(load_dataset=load_dataset))
    monkeypatch.setattr(sources, "_require_host", lambda url: None)
    return calls


def test_a_hub_dataset_is_streamed_and_every_nth_document_is_val(hub):
    pieces = list(HubSource("some/data", val_fraction=0.25).pieces())
    assert [p.text for p in pieces if p.split == "val"] == ["story 0", "story 4", "story 8"]
    assert hub == [("some/data", "train", True, None)]
    assert [p.text for p in HubSource("some/data", 0.25, limit=2).pieces()] == ["story 0", "story 1"]


def test_a_hub_datasets_own_validation_split_is_val(hub):
    pieces = list(HubSource("some/data", 0.1, val_split="validation").pieces())
    assert [p.text for p in pieces if p.split == "val"] == ["val 0", "val 1", "val 2"]
    assert len(pieces) == 13


def test_a_repository_with_a_script_is_read_from_its_parquet_copy(hub):
    assert len(list(HubSource("has/script", 0.5).pieces())) == 10
    assert hub[-1] == ("has/script", "train", True, "refs/convert/parquet")


def test_no_network_says_to_use_source(tmp_path, monkeypatch, capsys):
    pytest.importorskip("datasets", reason="datasets is not installed")

    def no_address(*args):
        raise OSError("Name or service not known")

    monkeypatch.setattr(sources.socket, "getaddrinfo", no_address)
    monkeypatch.setattr(sources.urllib.request, "getproxies", dict)
    monkeypatch.delenv("HF_HUB_OFFLINE", raising=False)
    recipes = [Recipe(name="h", about="", hub="a/b"), Recipe(name="u", about="", url="http://nowhere.invalid/x", sha256="0")]
    for recipe in recipes:
        assert main(recipe, ["--out", str(tmp_path / recipe.name)]) == 1
        assert "pass --source FILE" in capsys.readouterr().err
        assert not (tmp_path / recipe.name).exists()


def test_a_download_with_another_hash_is_thrown_away(tmp_path):
    path = source_file(tmp_path, "not the text")
    with pytest.raises(CorpusError, match="has SHA-256"):
        download(path.as_uri(), "0" * 64, tmp_path / "got" / "input.txt")
    assert not (tmp_path / "got").exists()
    digest = hashlib.sha256(b"not the text").hexdigest()
    assert download(path.as_uri(), digest, tmp_path / "got" / "input.txt").read_text() == "not the text"


def test_a_prepared_download_needs_neither_network_nor_file(tmp_path, capsys):
    path = source_file(tmp_path, "abc\n" * 100)
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    recipe = Recipe(name="u", about="", url=path.as_uri(), sha256=digest)
    assert main(recipe, ["--out", str(tmp_path / "out")]) == 0
    (tmp_path / "out" / "input.txt").unlink()
    path.unlink()
    assert main(recipe, ["--out", str(tmp_path / "out")]) == 0
    assert "nothing to do" in capsys.readouterr().out


@pytest.mark.parametrize("name", ["shakespeare_char", "shakespeare", "openwebtext", "tinystories", "text"])
def test_every_prepare_script_has_a_recipe_of_its_folders_name(name):
    recipe = runpy.run_path(str(ROOT / "data" / name / "prepare.py"))["RECIPE"]
    assert recipe.name == name
    if recipe.url:
        assert recipe.sha256 == "86c4e6aa9db7c042ec79f339dcb96d42b0075e16b8fc2e86bf0ca57e2dc565ed"


def test_the_pinned_hash_is_that_of_the_real_text(shakespeare):
    assert sources.sha256_of(shakespeare) == "86c4e6aa9db7c042ec79f339dcb96d42b0075e16b8fc2e86bf0ca57e2dc565ed"


def test_a_prepare_script_runs_from_any_folder(tmp_path):
    path = source_file(tmp_path, "abc\n" * 100)
    script = ROOT / "data" / "text" / "prepare.py"
    command = [sys.executable, "-P", str(script), "--source", path.name, "--out", "out"]
    done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, check=False)
    assert done.returncode == 0, done.stderr
    assert read_meta(tmp_path / "out")["tokens"] == {"train": 360, "val": 40}
    assert subprocess.run([sys.executable, str(script)], capture_output=True, check=False).returncode == 2


def test_real_tinystories_are_read_by_character_and_by_gpt2_token(tmp_path, merges):
    path = SHARED / "tinystories" / "sample.txt"
    if not path.is_file():
        pytest.skip(f"no TinyStories sample at {path}")
    recipe = runpy.run_path(str(ROOT / "data" / "tinystories" / "prepare.py"))["RECIPE"]
    meta = prepared(recipe, tmp_path / "char", path, "--tokenizer", "char")
    assert sum(meta["tokens"].values()) == len(path.read_text())
    meta = prepared(recipe, tmp_path / "bpe", path)
    assert meta["tokenizer"] == {"type": "gpt2"}
    text = path.read_text()
    assert text_of(tmp_path / "bpe", "val") == text[int(len(text) * 0.9) :]
