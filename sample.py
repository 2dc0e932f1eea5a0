"""Text from a checkpoint.

    python sample.py --out_dir=out-fables --start="Once upon a time" [--num_samples=3] [--max_new_tokens=200]
    python sample.py --init_from=gpt2-xl --start=FILE:prompt.txt --top_p=0.9

`--help` lists every flag. Samples go to stdout, each followed by a line of dashes; everything else goes to stderr.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from configurator import parse_flags, run_program
from model import GPT
from ockham.checkpoint import load_checkpoint
from ockham.config import LARGEST_SEED
from ockham.data import fix
from ockham.distributed import pick_device
from ockham.errors import CheckpointError, ConfigError, CorpusError
from ockham.precision import Precision, pick_precision
from ockham.tokenizer import GPT2Tokenizer, Tokenizer, load_tokenizer, vocabulary_of
from ockham.typed import option
from pretrained import PRETRAINED

ROOT = Path(__file__).resolve().parent
DASHES = "-" * 15
USAGE = """\
usage: python sample.py [FILE.py|.yaml ...] [--key=value ...]

  --out_dir=out-fables --start="Once upon a time"     from a run of this repository
  --start='\\nROMEO:'                                 \\n and \\t stand for a line break and a tab
  --init_from=gpt2-xl --start=FILE:prompt.txt         from GPT-2's weights, with the prompt as it is in a file
  --num_samples=1 --temperature=0                     the likeliest text

exit codes: 0 done; 2 the command line is wrong; 1 the world lacks something (checkpoint, corpus, device); 130 Ctrl-C
"""
DTYPES = ("auto", "float64", "float32", "bfloat16", "float16")


@dataclass(frozen=True, kw_only=True)
class SampleConfig:
    """What to sample, from which weights, on which machine."""

    init_from: str = option(
        "resume",
        f"resume (out_dir/ckpt.pt), {', '.join(PRETRAINED)}, or a checkpoint, run or HF folder",
        may_be_empty=False,
    )
    out_dir: str = option("out", "run folder that init_from=resume reads", may_be_empty=False)
    start: str = option("\n", "the prompt, with \\n and \\t for line breaks and tabs, or FILE:path of a file that holds it")
    num_samples: int = option(10, "samples", low=1)
    max_new_tokens: int = option(500, "length of a sample", unit="tokens", low=1)
    temperature: float = option(0.8, "below 1 bolder, above 1 wilder; 0 = always the likeliest token", low=0)
    top_k: int | None = option(200, "draw among the k likeliest tokens; 0 or null = all", low=0)
    top_p: float | None = option(None, "draw among the likeliest tokens that hold this mass; null = all", low=0, high=1)
    stream: bool = option(True, "print each token as it comes; False prints whole samples")
    seed: int = option(1337, "seed of the draws", low=0, high=LARGEST_SEED)
    device: str = option("auto", "auto, cpu, cuda, cuda:N or mps")
    dtype: str = option("auto", "precision of autocast; auto = bfloat16 on CUDA cards that have it, else float32", choices=DTYPES)
    compile: bool = option(False, "torch.compile the blocks: slow to start, then faster")
    debug: bool = option(False, "show tracebacks")

    def __post_init__(self) -> None:
        if self.top_p == 0:
            raise ConfigError("top_p must be in (0, 1], or null for all tokens, got 0")


def main(argv: list[str] | None = None) -> int:
    """Load, encode, print the samples; the exit code. A reader that goes away (`| head`) ends the program quietly."""
    config = parse_flags(SampleConfig, sys.argv[1:] if argv is None else argv, USAGE)
    device = pick_device(config.device)
    precision = pick_precision(config.dtype, device)
    prompt = read_prompt(config.start)
    model, trained_with = load_model(config)
    tokenizer = pick_tokenizer(trained_with, model.config.vocab_size)
    idx = encode_prompt(prompt, tokenizer, model.config.vocab_size).to(device)  # (1, T)
    model.to(device, torch.float64 if precision.dtype == torch.float64 else torch.float32).eval()
    if config.compile:
        compile_blocks(model, idx)
    try:
        print_samples(config, model, tokenizer, prompt, idx, precision)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # else Python's own last flush complains
    return 0


def read_prompt(start: str) -> str:
    """The prompt: `start` with \\n and \\t read as a line break and a tab, or, where it is FILE:path, that file as it is.

    Raises CorpusError when the file cannot be read as UTF-8 text.
    """
    if not start.startswith("FILE:"):
        return start.replace("\\n", "\n").replace("\\t", "\t")
    path = Path(start.removeprefix("FILE:"))
    try:
        return path.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise CorpusError(f"{path} must be UTF-8 text, but byte {error.start} is not; convert it first") from error
    except OSError as error:
        raise CorpusError(f"start={start} cannot be read: {error.strerror}") from error


def load_model(config: SampleConfig) -> tuple[GPT, Mapping[str, Any]]:
    """The model that init_from names, and the config it was trained with ({} for GPT-2's own weights).

    Raises CheckpointError when there is none, or it does not fit this model.
    """
    path = Path(config.out_dir if config.init_from == "resume" else config.init_from)
    try:
        if config.init_from in PRETRAINED or (path / "config.json").is_file():
            return GPT.from_pretrained(config.init_from if config.init_from in PRETRAINED else path), {}
        if not path.exists():
            known = f"resume, {', '.join(PRETRAINED)}, or a checkpoint, a run folder or a Hugging Face folder"
            train = f"train first: python train_ockham.py --out_dir={path}"
            raise CheckpointError(f"there is no {path}; {train if config.init_from == 'resume' else 'init_from takes ' + known}")
        checkpoint = load_checkpoint(path / "ckpt.pt" if path.is_dir() else path)
        return GPT.from_checkpoint(checkpoint), checkpoint.get("config", {})
    except (ValueError, OSError, RuntimeError) as error:
        raise CheckpointError(f"{path}: {error}") from error


def pick_tokenizer(trained_with: Mapping[str, Any], vocab_size: int) -> Tokenizer:
    """The tokenizer of the corpus that the model was trained on; GPT-2's where that corpus names none.

    Raises CorpusError when the corpus is gone and the vocabulary is too small to be GPT-2's.
    """
    folder = ROOT / trained_with.get("data_dir", "data") / trained_with["dataset"] if trained_with.get("dataset") else None
    tokenizer = load_tokenizer(folder) if folder else None
    if tokenizer is not None and folder:
        if trained_with.get("vocabulary", now := vocabulary_of(folder)) != now:
            raise CorpusError(f"{folder} was prepared anew with other characters since the checkpoint; prepare it as it was")
        return tokenizer
    if vocab_size < GPT2Tokenizer.vocab_size and folder:
        raise CorpusError(
            f"{folder} has neither meta.json nor meta.pkl, and the model's vocabulary of {vocab_size} is too small for GPT-2's "
            f"tokenizer; prepare that corpus again as it was for training{fix(folder)}"
        )
    if folder:
        print(f"{folder} names no tokenizer; taking GPT-2's", file=sys.stderr)
    return GPT2Tokenizer()


def encode_prompt(prompt: str, tokenizer: Tokenizer, vocab_size: int) -> torch.Tensor:
    """The prompt as (1, T). Raises CorpusError for a character or token that is unknown, ConfigError when T is 0."""
    ids = [int(i) for i in tokenizer.encode(prompt, strict=True)]
    if not ids:
        raise ConfigError("start must hold at least one token, got ''; use --start='<|endoftext|>' for GPT-2, or a newline")
    if max(ids) >= vocab_size:
        raise CorpusError(
            f"the prompt's token {max(ids)} is outside the model's vocabulary of {vocab_size}: tokenizer and model differ; "
            "prepare the corpus again as it was for training"
        )
    return torch.tensor([ids])


def compile_blocks(model: GPT, idx: torch.Tensor) -> None:
    """torch.compile every block, tried once; a failure is announced and undone."""
    blocks: Any = model.transformer["h"]
    try:
        for block in blocks:
            block.compile(dynamic=True)
        model.generate(idx, 2)
    except Exception as error:  # whatever compiler, Python or platform is missing: eager always works
        for block in blocks:
            block._compiled_call_impl = None  # what nn.Module.compile sets; there is no public way back
        reason = str(error).strip().splitlines()[:1] or [type(error).__name__]
        print(f"torch.compile does not work here ({reason[0][:120]}); sampling without it", file=sys.stderr)


def print_samples(
    config: SampleConfig, model: GPT, tokenizer: Tokenizer, prompt: str, idx: torch.Tensor, precision: Precision
) -> None:
    """Each sample with its prompt, then a line of dashes."""
    generator = torch.Generator(idx.device).manual_seed(config.seed)
    for _ in range(config.num_samples):
        pieces = sample_text(config, model, tokenizer, idx, precision, generator)
        if config.stream:
            print(prompt, end="", flush=True)
            for piece in pieces:
                print(piece, end="", flush=True)
            print()
        else:
            print(prompt + "".join(pieces))
        print(DASHES, flush=True)


def sample_text(
    config: SampleConfig, model: GPT, tokenizer: Tokenizer, idx: torch.Tensor, precision: Precision, generator: torch.Generator
) -> Iterator[str]:
    """The text of one sample, token by token."""
    decode = tokenizer.stream_decoder()
    with precision.autocast():
        for token in model.stream(idx, config.max_new_tokens, config.temperature, config.top_k, config.top_p, generator):
            yield decode(int(token))


if __name__ == "__main__":
    sys.exit(run_program(main, debug="--debug=True" in sys.argv))
