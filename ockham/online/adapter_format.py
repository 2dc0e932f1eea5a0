"""Adapter files: one safetensors file that names its base, and peft's own folder. Weights only: a pickle is never opened."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import CheckpointError, WorldError
from ..files import write_text, write_whole
from .adapter_files import as_bytes

if TYPE_CHECKING:
    from torch import Tensor

FORMAT = "ockham-adapter-1"
OWN = "own."  # before the caller's keys in the file
PICKLES = (".bin", ".pt", ".pth", ".pkl", ".ckpt")
LONGEST_HEADER = 100_000_000  # bytes, of a safetensors file; the library refuses longer ones
WEIGHTS, SETTINGS, BASE = "adapter_model.safetensors", "adapter_config.json", "ockham_base.json"

Shapes = Mapping[str, tuple[int, ...]]


@dataclass(frozen=True)
class Origin:
    """What an adapter's weights mean anything for."""

    base: str
    base_sha256: str
    rank: int
    alpha: float
    targets: tuple[str, ...]  # sorted


def write_adapter(path: Path, state: Mapping[str, Tensor], origin: Origin, sha256: str, own: Mapping[str, str]) -> None:
    """All of it in one file, whole or not there. Raises WorldError where it cannot be written."""
    metadata = {
        "format": FORMAT,
        "base": origin.base,
        "base_sha256": origin.base_sha256,
        "rank": str(origin.rank),
        "alpha": repr(origin.alpha),
        "targets": json.dumps(origin.targets),
        "sha256": sha256,
        **{OWN + key: value for key, value in own.items()},
    }
    try:
        write_whole(path, as_bytes(state, metadata))
    except OSError as error:
        raise WorldError(f"{path} cannot be written: {error.strerror}; free some space or name another place") from error


def read_adapter(path: Path, origin: Origin, shapes: Shapes) -> tuple[dict[str, Tensor], str, dict[str, str]]:
    """Weights, the hash they were written with, and the caller's metadata, of a file that was made for `origin`.

    Raises CheckpointError for a file that is missing, damaged, a pickle, of another format or of another origin.
    """
    state, metadata = read_safetensors(path)
    if metadata.get("format") != FORMAT:
        raise CheckpointError(
            f"{path} is no adapter file of this program: its format is {metadata.get('format')!r}, not {FORMAT}"
        )
    try:
        made_for = Origin(
            metadata["base"],
            metadata["base_sha256"],
            int(metadata["rank"]),
            float(metadata["alpha"]),
            tuple(json.loads(metadata["targets"])),
        )
        sha256 = metadata["sha256"]
    except (KeyError, ValueError, TypeError) as error:
        raise CheckpointError(f"{path} is damaged: its metadata has no good {error}") from error
    check_origin(path, made_for, origin)
    check_same({name: tuple(tensor.shape) for name, tensor in state.items()}, shapes, str(path))
    return state, sha256, {key.removeprefix(OWN): value for key, value in metadata.items() if key.startswith(OWN)}


def read_safetensors(path: Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    """Tensors and metadata. Raises CheckpointError for a file that is missing, damaged or a pickle."""
    from safetensors import SafetensorError, safe_open

    try:
        with open(path, "rb") as file:
            start = file.read(8)
    except OSError as error:
        raise CheckpointError(f"there is no adapter {path} to read: {error.strerror}") from error
    if is_pickle(path, start):
        raise CheckpointError(f"{path} is a pickle, which can run code when it is opened; only safetensors files are read")
    try:
        with safe_open(path, framework="pt") as file:
            return {name: file.get_tensor(name) for name in file.keys()}, file.metadata() or {}  # noqa: SIM118
    except SafetensorError as error:
        raise CheckpointError(f"{path} is damaged or no safetensors file ({error}); take an older file") from error


def is_pickle(path: Path, start: bytes) -> bool:
    """Whether a file is one by its name, or by its first 8 bytes, which in a safetensors file are its header's length."""
    is_other = int.from_bytes(start, "little") > LONGEST_HEADER
    return path.suffix in PICKLES or (is_other and start.startswith((b"PK\x03\x04", b"\x80")))  # torch.save's zip; bare


def check_origin(path: Path, made_for: Origin, this: Origin) -> None:
    """Raises CheckpointError where an adapter was made for another base, or scaled or placed in another way."""
    if made_for.base_sha256 != this.base_sha256:
        raise CheckpointError(
            f"{path}: the adapter was made for base {made_for.base} (sha {made_for.base_sha256[:12]}…), this is {this.base} "
            f"(sha {this.base_sha256[:12]}…); use that base, or start a new adapter"
        )
    for key, name in (("rank", "rank"), ("alpha", "alpha"), ("targets", "target_modules")):
        then, now = getattr(made_for, key), getattr(this, key)
        if then != now:
            shown = list(then) if isinstance(then, tuple) else then
            raise CheckpointError(
                f"{path}: the adapter was made with {name}={shown}, now it is {list(now) if isinstance(now, tuple) else now}; "
                f"set model.lora.{name}={shown}"
            )


def check_same(given: Shapes, wanted: Shapes, what: str) -> None:
    """Raises CheckpointError naming the first weight that is missing, unexpected or of another shape."""
    for name, shape in wanted.items():
        if name not in given:
            raise CheckpointError(f"{what} lacks the adapter's weight {name}")
        if given[name] != shape:
            raise CheckpointError(f"{what}: {name} must have shape {shape}, got {given[name]}")
    unexpected = next((name for name in given if name not in wanted), None)
    if unexpected is not None:
        raise CheckpointError(f"{what} has the weight {unexpected}, which this adapter has not")


def write_peft_folder(model: Any, folder: Path, origin: Origin) -> None:
    """adapter_config.json, adapter_model.safetensors and a card, by peft, and the hash of the base."""
    try:
        model.save_pretrained(folder, save_embedding_layers=False)
        write_text(folder / BASE, json.dumps({"base": origin.base, "base_sha256": origin.base_sha256}) + "\n")
    except OSError as error:
        raise WorldError(f"{folder} cannot be written: {error.strerror}; name another place") from error


def read_peft_folder(folder: Path, origin: Origin, shapes: Shapes) -> dict[str, Tensor]:
    """The weights of a LoRA adapter in peft's format that fits `origin`. Raises CheckpointError where it does not."""
    settings = read_json(folder / SETTINGS)
    if not (folder / WEIGHTS).is_file() and (folder / "adapter_model.bin").is_file():
        raise CheckpointError(
            f"{folder / 'adapter_model.bin'} is a pickle, which can run code when it is opened; only {WEIGHTS} is read"
        )
    plain = settings.get("peft_type") == "LORA" and settings.get("bias", "none") == "none"
    if not plain or settings.get("use_dora") or settings.get("use_rslora"):
        raise CheckpointError(f"{folder} must hold plain LoRA (no DoRA, no rsLoRA, bias none); it does not")
    known = read_json(folder / BASE) if (folder / BASE).is_file() else {}
    targets = settings.get("target_modules")
    made_for = Origin(
        str(settings.get("base_model_name_or_path")),
        known.get("base_sha256", origin.base_sha256),  # where it is not known, names and shapes have to do
        settings.get("r", 0),
        float(settings.get("lora_alpha", 0)),
        tuple(sorted(targets if isinstance(targets, list) else [str(targets)])),
    )
    check_origin(folder, made_for, origin)
    state, _ = read_safetensors(folder / WEIGHTS)
    check_same({name: tuple(tensor.shape) for name, tensor in state.items()}, shapes, str(folder / WEIGHTS))
    return state


def read_json(path: Path) -> dict[str, Any]:
    """A JSON object. Raises CheckpointError where there is none."""
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise CheckpointError(f"{path} cannot be read as JSON ({error})") from error
    if not isinstance(found, dict):
        raise CheckpointError(f"{path} must hold a JSON object, got {type(found).__name__}")
    return found
