"""GPT-2's weights as Hugging Face keeps them, on the hub or in a folder, in nanoGPT's names and layout. Needs torch alone."""

from __future__ import annotations

import contextlib
import functools
import json
import socket
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit
from urllib.request import getproxies

import torch
from torch import Tensor

PRETRAINED = ("gpt2", "gpt2-medium", "gpt2-large", "gpt2-xl")  # names on the Hugging Face hub

# GPT2Config's own values for what a config.json leaves out, and what our block can compute.
HF_DEFAULTS = {"vocab_size": 50257, "n_positions": 1024, "n_embd": 768, "n_layer": 12, "n_head": 12}
HF_FIXED: dict[str, tuple] = {
    "layer_norm_epsilon": (1e-5,),
    "scale_attn_weights": (True,),
    "scale_attn_by_inverse_layer_idx": (False,),
    "add_cross_attention": (False,),
    "activation_function": ("gelu_new", "gelu", "gelu_pytorch_tanh"),
}
HF_CONV1D = ("attn.c_attn.weight", "attn.c_proj.weight", "mlp.c_fc.weight", "mlp.c_proj.weight")  # stored (in, out)


def read(name: str) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """config.json's settings, and the weights under nanoGPT's names, of a GPT-2 on the hub or in a local folder.

    Raises OSError without file or network, RuntimeError without a library.
    """
    settings, state = from_hub(name) if name in PRETRAINED else from_folder(Path(name))
    state = {k if k.startswith(("transformer.", "lm_head.")) else f"transformer.{k}": v for k, v in state.items()}
    state = {k: v.t() if k.endswith(HF_CONV1D) else v for k, v in state.items()}
    if "transformer.wte.weight" in state:  # files leave the tied copy out
        state.setdefault("lm_head.weight", state["transformer.wte.weight"])
    return settings, state


def shape_of(settings: Mapping[str, Any], where: str) -> dict[str, Any]:
    """GPTConfig's arguments from config.json. Raises ValueError naming the first setting that our block cannot compute."""
    if settings.get("model_type") != "gpt2":
        raise ValueError(f"{where}: model_type must be gpt2, got {settings.get('model_type')!r}")
    shape = {key: settings.get(key, default) for key, default in HF_DEFAULTS.items()}
    fixed = {**HF_FIXED, "n_inner": (None, 4 * shape["n_embd"])}
    for key, allowed in fixed.items():
        if settings.get(key, allowed[0]) not in allowed:
            raise ValueError(f"{where}: {key} must be {' or '.join(map(str, allowed))}, got {settings[key]!r}")
    return {"block_size": shape.pop("n_positions"), **shape, "bias": True}


def from_hub(name: str) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """The settings and weights of a model in the Hugging Face cache, where it is downloaded to first if it is not there."""
    try:
        from huggingface_hub import constants, snapshot_download
    except ImportError as error:
        raise RuntimeError(f"{name} needs the huggingface_hub library: pip install -e '.[online]'") from error
    fetch = functools.partial(snapshot_download, name, allow_patterns=["config.json", "model.safetensors"])
    try:
        return from_folder(Path(fetch(local_files_only=True)))
    except OSError:  # not there, or not whole
        problem = "HF_HUB_OFFLINE is set" if constants.HF_HUB_OFFLINE else silence_of(constants.ENDPOINT)
    try:
        if not problem:
            return from_folder(Path(fetch()))
    except Exception as error:  # the hub's client has many kinds of error
        problem = " ".join(f"{type(error).__name__}: {error}".split())[:200]
    raise OSError(f"cannot load {name}: not in the local cache, and {problem}; connect once, or give a local folder")


def silence_of(url: str, seconds: float = 3.0) -> str:
    """'' when the host of `url`, or its proxy, takes a connection within `seconds`, else that it does not."""
    target = urlsplit(getproxies().get(urlsplit(url).scheme) or url)
    port, answers = target.port or {"http": 80}.get(target.scheme, 443), []

    def call() -> None:
        with contextlib.suppress(OSError), socket.create_connection((target.hostname or "", port), seconds):
            answers.append(True)

    caller = threading.Thread(target=call, daemon=True)  # because no timeout bounds the look-up of the name
    caller.start()
    caller.join(seconds)
    return "" if answers else f"{target.hostname} does not answer"


def from_folder(folder: Path) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """config.json and the weights of a Hugging Face folder."""
    settings_file, safe, binary = (folder / name for name in ("config.json", "model.safetensors", "pytorch_model.bin"))
    if not settings_file.is_file():
        raise FileNotFoundError(f"{folder} is neither one of {', '.join(PRETRAINED)} nor a folder with config.json")
    settings = json.loads(settings_file.read_text(encoding="utf-8"))
    if safe.is_file():
        try:
            from safetensors.torch import load_file
        except ImportError as error:
            raise RuntimeError(f"{safe} needs the safetensors library: pip install -e '.[online]'") from error
        return settings, load_file(safe)
    if binary.is_file():
        return settings, torch.load(binary, map_location="cpu", weights_only=True)
    raise FileNotFoundError(f"{folder} has neither model.safetensors nor pytorch_model.bin (shards are not read)")
