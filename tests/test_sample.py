"""sample.py: prompt in, text out, from checkpoints and Hugging Face folders; and what it says when it cannot."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

import sample
from model import GPT, GPTConfig
from ockham.configuration.keys import SAMPLE_KEYS, known_keys
from ockham.errors import CheckpointError, ConfigError, CorpusError, DeviceError
from ockham.tokenizer import CharTokenizer, GPT2Tokenizer
from ockham.typed import leaves

ROOT = Path(__file__).resolve().parents[1]
BPE_CACHE = ROOT.parent / "shared" / "data" / "tiktoken_cache"
ALPHABET = "\n abcdeé"


@pytest.fixture
def run(tmp_path):
    """A run folder with nanoGPT's ckpt.pt of a tiny random character model, and its corpus folder."""
    corpus, out_dir = tmp_path / "corpus", tmp_path / "out"
    corpus.mkdir()
    out_dir.mkdir()
    (corpus / "meta.json").write_text(json.dumps({"tokenizer": {"type": "char", "vocab": list(ALPHABET)}}))
    save(out_dir / "ckpt.pt", corpus, vocab_size=len(ALPHABET))
    return out_dir


def save(path: Path, corpus: Path | str, vocab_size: int) -> GPT:
    torch.manual_seed(0)
    model = GPT(GPTConfig(block_size=8, vocab_size=vocab_size, n_layer=1, n_head=2, n_embd=16, bias=False))
    state = {"_orig_mod." + k: v for k, v in model.state_dict().items()}
    config = {"dataset": str(corpus)}
    torch.save({"model": state, "model_args": model.model_args(), "iter_num": 1, "best_val_loss": 1.0, "config": config}, path)
    return model


def flags(run: Path, **more) -> list[str]:
    values = {"out_dir": run, "start": "ab", "num_samples": 2, "max_new_tokens": 20, "device": "cpu", **more}
    return [f"--{key}={value}" for key, value in values.items()]


def test_samples_start_with_the_prompt_and_end_in_dashes(run, capsys):
    assert sample.main(flags(run)) == 0
    first, second, rest = capsys.readouterr().out.split(sample.DASHES + "\n")
    assert rest == ""
    for text in (first, second):
        assert text.startswith("ab")
        assert text.endswith("\n")
        assert len(text) == 2 + 20 + 1
        assert set(text) <= set(ALPHABET)
    assert first != second


def test_output_depends_on_the_seed_and_not_on_streaming(run, capsys):
    outputs = []
    for more in ({}, {"stream": False}, {"seed": 2}):
        sample.main(flags(run, **more))
        outputs.append(capsys.readouterr().out)
    assert outputs[0] == outputs[1] != outputs[2]


def test_streaming_flushes_every_token(run, monkeypatch):
    class Terminal:
        def __init__(self):
            self.parts, self.flushed = [], 0

        def write(self, text):
            self.parts.append(text)

        def flush(self):
            self.flushed += 1

    terminal = Terminal()
    monkeypatch.setattr(sys, "stdout", terminal)
    sample.main(flags(run, num_samples=1))
    assert terminal.flushed >= 20
    assert all(part in ALPHABET for part in terminal.parts[1:21] if part)


def test_temperature_zero_prints_the_models_greedy_tokens(run, capsys):
    checkpoint = torch.load(run / "ckpt.pt", weights_only=True)
    model, tokenizer = GPT.from_checkpoint(checkpoint).eval(), CharTokenizer(list(ALPHABET))
    expected = tokenizer.decode(model.generate(torch.tensor([[2, 3]]), 20, temperature=0, kv_cache=False)[0].tolist())
    sample.main(flags(run, temperature=0, num_samples=1))
    assert capsys.readouterr().out == f"{expected}\n{sample.DASHES}\n"


@pytest.mark.parametrize("dtype", ["float32", "float64", "bfloat16"])
def test_every_precision_samples(run, capsys, dtype):
    assert sample.main(flags(run, dtype=dtype, top_k=3, top_p=0.9)) == 0
    assert capsys.readouterr().out.count(sample.DASHES) == 2


@pytest.mark.parametrize("where", ["ckpt.pt", ""])
def test_init_from_takes_a_checkpoint_or_a_run_folder(run, capsys, where):
    sample.main(flags(run))
    expected = capsys.readouterr().out
    sample.main(flags("nowhere", init_from=run / where))
    assert capsys.readouterr().out == expected


def test_prompt_from_a_file_keeps_every_character(run, tmp_path, capsys):
    (tmp_path / "prompt.txt").write_text("é a\nb", encoding="utf-8")
    sample.main(flags(run, start=f"FILE:{tmp_path / 'prompt.txt'}", num_samples=1))
    assert capsys.readouterr().out.startswith("é a\nb")


def test_compile_falls_back_when_there_is_no_compiler(run, capsys, monkeypatch):
    sample.main(flags(run))
    expected = capsys.readouterr().out

    def broken(*args, **kwargs):
        raise RuntimeError("no C++ compiler")

    monkeypatch.setattr(torch, "compile", broken)
    assert sample.main(flags(run, compile=True)) == 0
    out, err = capsys.readouterr()
    assert out == expected
    assert "torch.compile does not work here (no C++ compiler)" in err


@pytest.mark.parametrize(("typed", "meant"), [("\\nROMEO:", "\nROMEO:"), ("a\\tb", "a\tb"), ("\n", "\n"), ("a\\b", "a\\b")])
def test_escapes_for_line_breaks_and_tabs_are_read(typed, meant):
    assert sample.read_prompt(typed) == meant


def test_a_prompt_file_keeps_its_backslashes(tmp_path):
    (tmp_path / "prompt.txt").write_text("a\\nb")
    assert sample.read_prompt(f"FILE:{tmp_path}/prompt.txt") == "a\\nb"


def test_help_has_usage_examples_and_exit_codes(capsys):
    with pytest.raises(SystemExit):
        sample.main(["--help"])
    text = capsys.readouterr().out
    assert text.startswith("usage: python sample.py")
    for words in (r"--start='\nROMEO:'", "exit codes: 0 done", "--top_k=200"):
        assert words in text


def test_the_keys_that_the_trainer_sends_here_are_ours():
    assert set(SAMPLE_KEYS) == set(leaves(sample.SampleConfig)) - set(known_keys())


# --- what it says when it cannot


def test_unknown_character_in_the_prompt_is_named(run):
    with pytest.raises(CorpusError, match="'Q'"):
        sample.main(flags(run, start="abQ"))


def test_an_empty_prompt_is_refused(run):
    with pytest.raises(ConfigError, match="at least one token"):
        sample.encode_prompt("", CharTokenizer(list(ALPHABET)), 8)


@pytest.mark.skipif(torch.cuda.is_available(), reason="CUDA is there")
def test_absent_cuda_is_a_device_error(run):
    with pytest.raises(DeviceError, match="cuda"):
        sample.main(flags(run, device="cuda"))


def test_unreadable_prompts_are_named(run, tmp_path):
    with pytest.raises(CorpusError, match=r"nothing.txt cannot be read"):
        sample.main(flags(run, start=f"FILE:{tmp_path}/nothing.txt"))
    (tmp_path / "latin.txt").write_bytes(b"caf\xe9")
    with pytest.raises(CorpusError, match=r"latin.txt must be UTF-8 text, but byte 3"):
        sample.main(flags(run, start=f"FILE:{tmp_path}/latin.txt"))


def test_missing_weights_say_what_to_do(run, tmp_path):
    with pytest.raises(CheckpointError, match=r"train first: python train_ockham.py --out_dir="):
        sample.main(flags(tmp_path / "empty"))
    with pytest.raises(CheckpointError, match="init_from takes resume, gpt2"):
        sample.main(flags(run, init_from=tmp_path / "nothing"))
    with pytest.raises(CheckpointError, match=r"corpus/ckpt.pt"):
        sample.main(flags(run, init_from=tmp_path / "corpus"))


def test_a_checkpoint_that_does_not_fit_names_the_tensor(run):
    checkpoint = torch.load(run / "ckpt.pt", weights_only=True)
    checkpoint["model"].pop("_orig_mod.transformer.wpe.weight")
    torch.save(checkpoint, run / "ckpt.pt")
    with pytest.raises(CheckpointError, match=r"lacks transformer.wpe.weight"):
        sample.main(flags(run))


def test_a_lost_corpus_is_named_when_the_vocabulary_cannot_be_gpt2s(run, tmp_path):
    save(run / "ckpt.pt", tmp_path / "gone", vocab_size=8)
    with pytest.raises(
        CorpusError, match=r"gone has neither meta.json nor meta.pkl.*prepare that corpus again as it was for training"
    ):
        sample.main(flags(run))


def test_a_prompt_token_beyond_the_model_is_refused(run, tmp_path):
    save(run / "ckpt.pt", tmp_path / "corpus", vocab_size=3)
    with pytest.raises(CorpusError, match="token 3 is outside the model's vocabulary of 3"):
        sample.main(flags(run))


@pytest.mark.parametrize(
    "wrong", [{"out_dir": ""}, {"top_p": 0}, {"top_p": 1.5}, {"top_k": -1}, {"temperature": -1}, {"dtype": "int8"}]
)
def test_flags_out_of_range_are_config_errors(run, wrong):
    with pytest.raises(ConfigError, match=next(iter(wrong))):
        sample.main(flags(run, **wrong))


# --- as a program


def program(arguments: list[str], **more) -> subprocess.Popen:
    command = [sys.executable, str(ROOT / "sample.py"), *arguments]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment, **more)


def test_program_fails_with_one_line_and_exit_1(run, tmp_path):
    process = program(flags(run, start="Q"), cwd=tmp_path)
    out, err = process.communicate(timeout=60)
    assert (process.returncode, out) == (1, "")
    assert "'Q'" in err
    assert "Traceback" not in err
    assert len(err.strip().splitlines()) == 1


def test_a_reader_that_goes_away_ends_the_program_quietly(run):
    process = program(flags(run, num_samples=1000, max_new_tokens=200))
    assert process.stdout is not None
    assert process.stderr is not None
    process.stdout.readline()
    process.stdout.close()
    assert process.wait(timeout=60) == 0
    assert process.stderr.read() == ""
    process.stderr.close()


# --- other weights and tokenizers


@pytest.fixture
def bpe(monkeypatch):
    pytest.importorskip("tiktoken", reason="tiktoken is not installed")
    if not BPE_CACHE.is_dir():
        pytest.skip(f"{BPE_CACHE} is absent")
    monkeypatch.setenv("TIKTOKEN_CACHE_DIR", str(BPE_CACHE))


def test_local_hf_folder_samples_with_gpt2s_tokenizer(tmp_path, capsys, bpe):
    transformers = pytest.importorskip("transformers", reason="transformers is not installed")
    torch.manual_seed(0)
    transformers.GPT2LMHeadModel(transformers.GPT2Config(n_positions=16, n_embd=4, n_layer=1, n_head=1)).save_pretrained(tmp_path)
    assert sample.main(flags(tmp_path, init_from=tmp_path, start="Hello <|endoftext|>", max_new_tokens=5)) == 0
    out = capsys.readouterr().out
    assert out.startswith("Hello <|endoftext|>")
    assert out.count(sample.DASHES) == 2


def test_tokens_of_a_padded_vocabulary_print_as_replacement_characters(run, tmp_path, capsys, bpe, monkeypatch):
    save(run / "ckpt.pt", tmp_path / "gone", vocab_size=50304)
    monkeypatch.setattr(GPT, "stream", lambda self, *args: iter(torch.tensor([[15496], [50300], [995]])))
    sample.main(flags(run, start="Hi", num_samples=1))
    out, err = capsys.readouterr()
    assert out == f"HiHello\ufffd world\n{sample.DASHES}\n"
    assert "taking GPT-2's" in err
    assert GPT2Tokenizer.vocab_size == 50257
