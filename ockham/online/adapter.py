"""The weights that learn: a LoRA adapter on a frozen base, by peft.

The model computes W·x + (alpha / rank)·B·A·x in each adapted layer; A starts random, B at zero, so a new adapter changes nothing.
Source: Hu et al. 2021 (arXiv:2106.09685).
"""

from __future__ import annotations

import hashlib
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from ..errors import ConfigError, nearest
from .adapter_format import Origin, check_same, write_peft_folder
from .bases import ADAPTER, Base
from .config import LoraSettings

NAME = "default"  # peft's own name of the only adapter


class Adapter:
    """A LoRA adapter on `base`, whose model it wraps in place: `model` is peft's, and base.model has its layers too.

    The first weights are a function of `seed` alone; the global random state is left as it was. The base stays in eval mode,
    so it is a fixed reference; `train` and `eval` switch the adapter's own dropout. Raises ConfigError for layers that the base
    has not, for biases that would learn, and where nothing could learn.
    """

    def __init__(self, base: Base, settings: LoraSettings, seed: int = 1337) -> None:
        self.base, self.settings = base, settings
        self.targets = pick_targets(base, settings)
        self.origin = Origin(base.name, base.sha256())
        self.model = wrap(base, settings, self.targets, seed)
        self.weights: dict[str, nn.Parameter] = {  # under peft's own names in files
            name.replace(f".{NAME}.", "."): p for name, p in self.model.named_parameters() if p.requires_grad
        }
        if not self.weights:
            raise ConfigError(f"model.lora.target_modules={list(self.targets)} gives no weights to learn; {layers_of(base)}")
        self._off = 0  # how many `disabled` it is inside of
        self.eval()

    def parameters(self) -> list[nn.Parameter]:
        """The weights that learn, float32; always the same objects."""
        return list(self.weights.values())

    def train(self, mode: bool = True) -> None:
        """Switches the adapter's dropout on (or off); the base's own stays off."""
        self.model.eval()
        for name, module in self.model.named_modules():
            if name.endswith(f".lora_dropout.{NAME}"):
                module.train(mode)

    def eval(self) -> None:
        """Without dropout."""
        self.train(False)

    @contextmanager
    def disabled(self) -> Iterator[None]:
        """Inside, the model is the bare base, bit for bit, and no gradients are recorded. May be nested.

        What peft's own disable_adapter() does, without its report on every layer, which takes longer than a short forward.
        """
        layers, outer = self.model.base_model, self._off
        try:
            self._off = outer + 1
            layers.disable_adapter_layers()
            with torch.no_grad():
                yield
        finally:
            self._off = outer
            if not outer:
                layers.enable_adapter_layers()

    def remove(self) -> None:
        """Unwraps the base, which is then as it was before; this adapter cannot be used any more."""
        self.model.unload()

    def state(self) -> dict[str, Tensor]:
        """A copy of the weights, on the CPU, by name."""
        return {name: p.detach().to("cpu", copy=True) for name, p in self.weights.items()}

    def load(self, state: Mapping[str, Tensor]) -> None:
        """Takes the weights of a `state`. Raises CheckpointError, and changes nothing, where names or shapes differ."""
        check_same({name: tuple(t.shape) for name, t in state.items()}, self.shapes(), "the state")
        with torch.no_grad():
            for name, parameter in self.weights.items():
                parameter.copy_(state[name])

    def shapes(self) -> dict[str, tuple[int, ...]]:
        """Of the weights, by name."""
        return {name: tuple(p.shape) for name, p in self.weights.items()}

    def sha256(self) -> str:
        """A hash of the weights: names, shapes, dtypes and bytes."""
        return state_sha256(self.state())

    def scale_towards(self, before: Mapping[str, Tensor], share: float) -> None:
        """θ ← before + share·(θ − before): a share of what was learned since `before`.

        1 leaves the weights and 0 gives `before`, both bit for bit. Raises CheckpointError where names or shapes differ.
        """
        check_same({name: tuple(t.shape) for name, t in before.items()}, self.shapes(), "the state before")
        with torch.no_grad():
            for name, parameter in self.weights.items():
                parameter.copy_(torch.lerp(before[name].to(parameter), parameter, share))

    def export(self, folder: Path) -> None:
        """The adapter in peft's own format, which other programs read, in a new folder for its owner alone.

        Raises WorldError where there is one already or it cannot be written.
        """
        write_peft_folder(self.model, folder, self.origin)


def state_sha256(state: Mapping[str, Tensor]) -> str:
    """A hash of tensors: names, shapes, dtypes and bytes, whatever their order."""
    digest = hashlib.sha256()
    for name in sorted(state):
        tensor = state[name].detach().cpu().contiguous()
        digest.update(f"{name} {tuple(tensor.shape)} {tensor.dtype}\n".encode())
        digest.update(tensor.reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()


def wrap(base: Base, settings: LoraSettings, targets: tuple[str, ...], seed: int) -> Any:
    """peft's model around base.model, with first weights drawn from `seed`."""
    from peft import LoraConfig, get_peft_model

    config = LoraConfig(
        r=settings.rank,
        lora_alpha=settings.alpha,  # type: ignore[arg-type]  # which only divides it by r
        target_modules=list(targets),
        lora_dropout=settings.dropout,
        bias="none",
        fan_in_fan_out=any(is_conv1d(module) for module in base.model.modules()),  # stored (in, out), GPT-2
        task_type="CAUSAL_LM" if base.kind == "hf" else None,
    )
    with torch.random.fork_rng(devices=[]), warnings.catch_warnings():  # peft draws on the CPU, then moves
        warnings.filterwarnings("ignore", "`is_gradient_checkpointing`", FutureWarning)  # peft 0.21's, under transformers 5
        torch.default_generator.manual_seed(seed)
        model = get_peft_model(base.model, config)
    model.peft_config[NAME].base_model_name_or_path = base.name
    return model


def pick_targets(base: Base, settings: LoraSettings) -> tuple[str, ...]:
    """The layers to adapt: those of the settings, else the base's usual ones. Raises ConfigError for one that is not there."""
    if any(ADAPTER in name for name, _ in base.model.named_parameters()):
        raise ConfigError(f"{base.name} already has an adapter on it; remove() that one first")
    if settings.bias != "none":
        raise ConfigError(f"model.lora.bias={settings.bias} trains biases of the base itself, no fixed reference then; use none")
    targets, paths = settings.target_modules or base.targets, adaptable(base.model)
    if not targets:
        raise ConfigError(f"model.lora.target_modules must name layers: none are usual for this base; {layers_of(base)}")
    for target in targets:
        if not any(path == target or path.endswith("." + target) for path in paths):
            near = nearest(target, {path.rpartition(".")[2] for path in paths})
            raise ConfigError(f"model.lora.target_modules: {base.name} has no linear layer {target!r}{near}; {layers_of(base)}")
    return tuple(dict.fromkeys(targets))


def adaptable(model: nn.Module) -> list[str]:
    """Paths of the linear layers; without the output layer where it shares its weights with the embedding."""
    shared = {id(module.weight) for module in model.modules() if isinstance(module, nn.Embedding)}
    linear = ((path, module) for path, module in model.named_modules() if isinstance(module, nn.Linear) or is_conv1d(module))
    return [path for path, module in linear if id(module.weight) not in shared]


def is_conv1d(module: nn.Module) -> bool:
    """Whether it is transformers' Conv1D: a linear layer stored (in, out), as GPT-2 has it."""
    return type(module).__name__ == "Conv1D"


def layers_of(base: Base) -> str:
    """'its linear layers: c_attn, c_fc, c_proj'."""
    return "its linear layers: " + ", ".join(sorted({path.rpartition(".")[2] for path in adaptable(base.model)}))
