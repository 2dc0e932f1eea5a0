"""Makers of tiny bases, for the tests of ockham chat: one of Hugging Face's kinds, one of ours."""

import json
from pathlib import Path
from typing import NamedTuple

import torch

ASCII = ["\n", *map(chr, range(32, 127))]
END = "<|endoftext|>"


class PlainRow(NamedTuple):
    """Tokens, all but the first of which are predicted."""

    ids: list[int]
    start: int = 1


def next_logits(base, model, ids: list[int]):
    """What predicts the token behind `ids`, (V,)."""
    return base.logits(model, [PlainRow([*ids, 0], len(ids))])[0]


def tiny_qwen(folder: Path, seed: int = 0, begin: bool = False, special: tuple[str, ...] = ()) -> Path:
    """A random Qwen2 of two layers with a byte-level tokenizer, in Hugging Face's format; `begin`: the tokenizer adds a BOS;
    `special`: further special tokens.
    """
    from transformers import Qwen2Config, Qwen2ForCausalLM

    tokenizer = byte_tokenizer(begin)
    tokenizer.add_special_tokens({"additional_special_tokens": list(special)})
    shape = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4}
    ends = {"bos_token_id": None, "eos_token_id": tokenizer.eos_token_id, "tie_word_embeddings": True}
    config = Qwen2Config(vocab_size=len(tokenizer), num_key_value_heads=2, max_position_embeddings=128, **shape, **ends)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = Qwen2ForCausalLM(config)
    return save(model, tokenizer, folder)


def tiny_gpt2(folder: Path, seed: int = 0) -> Path:
    """A random Hugging Face GPT-2, whose layers are Conv1D."""
    from transformers import GPT2Config, GPT2LMHeadModel

    tokenizer = byte_tokenizer()
    ends = {"bos_token_id": tokenizer.eos_token_id, "eos_token_id": tokenizer.eos_token_id}
    config = GPT2Config(vocab_size=len(tokenizer), n_positions=64, n_embd=32, n_layer=2, n_head=2, **ends)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = GPT2LMHeadModel(config)
    return save(model, tokenizer, folder)


def byte_tokenizer(begin: bool = False):
    """One token a byte, an end of text and, with `begin`, a BOS that it puts before every text."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors
    from transformers import PreTrainedTokenizerFast

    letters = sorted(pre_tokenizers.ByteLevel.alphabet())
    vocabulary = {letter: i for i, letter in enumerate([*letters, END, "<s>"])}
    core = Tokenizer(models.BPE(vocab=vocabulary, merges=[]))
    core.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    core.decoder = decoders.ByteLevel()
    if begin:
        core.post_processor = processors.TemplateProcessing(single="<s> $A", special_tokens=[("<s>", vocabulary["<s>"])])
    special = {"bos_token": "<s>"} if begin else {}
    return PreTrainedTokenizerFast(tokenizer_object=core, eos_token=END, pad_token=END, **special)


def save(model, tokenizer, folder: Path) -> Path:
    """Both in one folder."""
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def tiny_ours(folder: Path, seed: int = 0, **changes) -> Path:
    """A random GPT of ours over ASCII: ckpt.pt, and meta.json beside it."""
    from model import GPT, GPTConfig

    shape = {"block_size": 128, "vocab_size": len(ASCII), "n_layer": 2, "n_head": 2, "n_embd": 32, "bias": False}
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = GPT(GPTConfig(**{**shape, **changes}))
    folder.mkdir(parents=True, exist_ok=True)
    torch.save({"model": model.state_dict(), "model_args": model.model_args(), "config": {}}, folder / "ckpt.pt")
    meta = {"format": 1, "tokenizer": {"type": "char", "vocab": ASCII}, "vocab_size": len(ASCII), "dtype": "uint16"}
    (folder / "meta.json").write_text(json.dumps(meta))
    return folder
