"""The frozen language model under the adapter: what every base can do, and which one a name stands for.

Shapes: T tokens, V entries of the vocabulary.
"""

from __future__ import annotations

import hashlib
import importlib.util
from abc import ABC, abstractmethod
from collections.abc import Generator, Iterable, Iterator, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from ..distributed import pick_device
from ..errors import CheckpointError, ConfigError, DeviceError, WorldError
from .config import ModelSettings

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}
ADAPTER = ".lora_"  # in the name of every weight that peft's LoRA adds
WRAPPED = ".base_layer."  # peft puts this into the name of a layer that it wraps


class TokenRow(Protocol):
    """Tokens of which those from `start` on are to be predicted."""

    @property
    def ids(self) -> list[int]:
        """(T,), at most the base's max_tokens."""

    @property
    def start(self) -> int:
        """In [1, T]."""


class Base(ABC):
    """A causal language model with its tokenizer, all weights frozen, in eval mode.

    `model` is what an adapter wraps. Methods that take a `model` take it bare or wrapped by peft.
    """

    kind: str  # "ockham" or "hf"
    name: str  # as the user gave it
    model: nn.Module
    device: torch.device
    dtype: torch.dtype  # of the weights
    max_tokens: int  # longest context
    vocab_size: int
    targets: tuple[str, ...]  # layers that LoRA adapts where the settings name none; () = none is known

    @abstractmethod
    def encode(self, text: str) -> list[int]:
        """Token ids. Raises nothing: what the base cannot read is written in plainer characters (é → e) or left out."""

    def encode_in(self, template: str, text: str) -> list[int]:
        """Token ids of a template of the settings with `text` in place of {text}: a prompt, or a reply that is learned.

        Names of special tokens are those tokens in the template, and ordinary text in `text`.
        """
        return self.encode(template.replace("{text}", text))

    @abstractmethod
    def decode(self, ids: Iterable[int]) -> str:
        """The text of token ids."""

    @abstractmethod
    def unreadable(self, text: str) -> str:
        """The characters of `text` that `encode` leaves out, each once, in their order; '' where there are none."""

    @abstractmethod
    def logits(self, model: nn.Module, rows: Sequence[TokenRow]) -> Tensor:
        """What predicts each row's tokens from its `start` on, one row after another: (Σ (T − start), V), float32."""

    @abstractmethod
    def continuation(
        self, model: nn.Module, ids: list[int], temperature: float, top_p: float, generator: torch.Generator | None
    ) -> Generator[int, None, None]:
        """Tokens behind the prompt `ids`, one at a time, until the model's own end of text; for `generate`."""

    def generate(
        self,
        model: nn.Module,
        prompt_ids: list[int],
        max_new_tokens: int,
        stop: tuple[str, ...] = (),
        temperature: float = 0.0,
        top_p: float = 1.0,
        generator: torch.Generator | None = None,
    ) -> str:
        """The text behind the prompt: up to the first of the `stop` strings, the end of text, or max_new_tokens.

        The context is the last max_tokens tokens. Always in eval mode; the modes are as before when it returns. Temperature 0
        takes the likeliest token; otherwise the draws come from `generator`, which must live on `device`. Raises ConfigError for
        a prompt without tokens and for an empty stop string.
        """
        if not prompt_ids:
            raise ConfigError("the prompt has no token that the base can read; write at least one readable character")
        if "" in stop:
            raise ConfigError("generation.stop must not hold an empty string: every reply would end at once; leave it out")
        ids: list[int] = []
        tokens = self.continuation(model, prompt_ids, temperature, top_p, generator)
        with torch.no_grad(), evaluating(model), closing(tokens):
            for token in tokens:
                ids.append(token)
                text = self.decode(ids)
                found = [at for at in (text.find(s) for s in stop) if at >= 0]
                if found:
                    return text[: min(found)]
                if len(ids) >= max_new_tokens:
                    break
        return self.decode(ids)

    def targets_of(self, rows: Sequence[TokenRow]) -> Tensor:
        """The tokens that `logits` predicts, (Σ (T − start),)."""
        return torch.tensor([token for row in rows for token in row.ids[row.start :]], device=self.device)

    def hold_rows(self, model: nn.Module, rows: Sequence[TokenRow]) -> None:  # noqa: B027
        """These very rows will come again and again; what can be computed of them once may be, all together, and is theirs alone
        until the next call.
        """

    @abstractmethod
    def forget_rows(self) -> None:
        """Leaves nothing of the rows that it was given in memory."""

    def sha256(self) -> str:
        """A hash of the frozen weights: names, shapes and values; the same with and without an adapter.

        Covers parameters and the buffers that a checkpoint holds, by name, tied ones once. Floats are hashed as float32 (or
        float64), into which bfloat16 and float16 go exactly: a base has one hash in every precision that keeps its values.
        """
        digest = hashlib.sha256()
        for name, tensor in sorted(base_tensors(self.model)):
            tensor = tensor.detach().cpu()
            if tensor.dtype in (torch.bfloat16, torch.float16):
                tensor = tensor.float()
            digest.update(f"{name} {tuple(tensor.shape)} {tensor.dtype}\n".encode())
            digest.update(tensor.contiguous().reshape(-1).view(torch.uint8).numpy().data)
        return digest.hexdigest()


def base_tensors(model: nn.Module) -> Iterator[tuple[str, Tensor]]:
    """Names, as before peft wrapped anything, and tensors of the base: parameters, tied ones once, and saved buffers."""
    saved = model.state_dict().keys()
    buffers = ((name, tensor) for name, tensor in model.named_buffers() if name in saved)
    for name, tensor in [*model.named_parameters(), *buffers]:
        if ADAPTER not in name:
            yield name.replace(WRAPPED, "."), tensor


def innermost(model: nn.Module) -> Any:
    """The model inside peft's wrapper, with the adapter's layers in it; `model` itself where it is bare."""
    from peft import PeftModel

    return model.get_base_model() if isinstance(model, PeftModel) else model


def freeze(model: nn.Module) -> None:
    """No gradients, eval mode."""
    model.eval()
    for parameter in model.parameters():
        parameter.requires_grad_(False)


@contextmanager
def evaluating(model: nn.Module) -> Iterator[None]:
    """Inside, every module is in eval mode; after it, each is in the mode that it had."""
    modes = [(module, module.training) for module in model.modules()]
    model.eval()
    try:
        yield
    finally:
        for module, mode in modes:
            module.training = mode


def load_base(settings: ModelSettings) -> Base:
    """The base of a name: a checkpoint of ours, a Hugging Face folder, or a model of the hub, from its cache or downloaded.

    Raises WorldError where it is absent, CheckpointError where it is broken, DeviceError for a device or dtype that is not there.
    """
    check_libraries()
    device = pick_device(settings.device)
    file = checkpoint_of(settings.base_model_name)
    if file is not None:
        from .our_base import OurBase

        dtype = pick_dtype("float32" if settings.dtype == "auto" else settings.dtype, device)
        return OurBase(settings.base_model_name, file, device, dtype)
    from .hf_base import HuggingFaceBase, folder_of

    dtype = pick_dtype(settings.dtype, device)
    return HuggingFaceBase(settings.base_model_name, folder_of(settings.base_model_name), device, dtype)


def check_libraries() -> None:
    """Raises WorldError naming the first library of the online extra that is not installed."""
    for library in ("peft", "safetensors", "transformers"):
        if importlib.util.find_spec(library) is None:
            raise WorldError(f"ockham chat needs {library}, which is not installed; pip install -e '.[online]'")


def is_available(name: str) -> bool:
    """Whether the base is on this machine: a checkpoint, a folder, or whole in the hub's cache. Uses no network."""
    try:
        file = checkpoint_of(name)
    except CheckpointError:
        return False
    if file is not None:
        return True
    from .hf_base import local_folder

    return local_folder(name) is not None


def checkpoint_of(name: str) -> Path | None:
    """The checkpoint of ours that `name` means: a file, or a folder's ckpt.pt; None where it means a Hugging Face model.

    Raises CheckpointError for a folder of neither kind and for a .pt file that is not there.
    """
    path = Path(name).expanduser()
    if path.is_file():
        return path
    if (path / "ckpt.pt").is_file():
        return path / "ckpt.pt"
    if path.is_dir() and not (path / "config.json").is_file():
        raise CheckpointError(f"model.base_model_name: {name} holds neither ckpt.pt (a run) nor config.json (Hugging Face)")
    if path.suffix == ".pt":
        raise CheckpointError(f"model.base_model_name: there is no checkpoint {name}")
    return None


def pick_dtype(name: str, device: torch.device) -> torch.dtype:
    """The dtype of a base's weights: auto is bfloat16, else float16, on CUDA, and float32 elsewhere.

    Raises DeviceError for bfloat16 on a card that has none.
    """
    has_bf16 = device.type != "cuda" or torch.cuda.is_bf16_supported()
    if name == "auto":
        return torch.float32 if device.type != "cuda" else torch.bfloat16 if has_bf16 else torch.float16
    if name == "bfloat16" and not has_bf16:
        raise DeviceError("model.dtype=bfloat16 asked for, but this card has none; use float16")
    return DTYPES[name]
