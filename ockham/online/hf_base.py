"""Any causal language model of Hugging Face as the base of an adapter: a folder, or a name on the hub.

Weights are read from safetensors only, and code from a model's folder is never run. A model's chat template, which is a program,
is not used: the format is a setting (generation.prompt, generation.reply), in which the names of special tokens are those tokens.
"""

from __future__ import annotations

import inspect
import json
import re
from collections.abc import Generator, Iterable, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from ..errors import CheckpointError, WorldError
from .bases import Base, TokenRow, freeze, innermost

FILES = ["*.json", "*.safetensors", "*.txt", "*.model"]  # weights, shape and tokenizer; no pickles, no code
TOKENIZERS = ("tokenizer.json", "tokenizer.model", "vocab.json")
DOWNLOAD_GB = {"Qwen/Qwen2.5-0.5B": 0.99}  # model.safetensors, 988,097,824 bytes
FIXES = "go online once, or name a local folder (model.base_model_name), or make the small base: ockham chat --make-base"
USUAL_CONTEXT = 1024  # tokens, where a model's config names no limit


class HuggingFaceBase(Base):
    """A causal LM and its tokenizer from a folder in Hugging Face's format.

    Raises CheckpointError for a folder that cannot be read.
    """

    kind = "hf"

    def __init__(self, name: str, folder: Path, device: torch.device, dtype: torch.dtype) -> None:
        self.name, self.device, self.dtype = name, device, dtype
        model, self.tokenizer = read(folder, dtype)
        self.model = model.to(device)
        freeze(self.model)
        config = model.config.get_text_config()
        self.begin = beginning(self.tokenizer)  # put before every context, and never seen outside
        self.max_tokens = int(getattr(config, "max_position_embeddings", None) or USUAL_CONTEXT) - len(self.begin)
        self.vocab_size = config.vocab_size
        self.ends = end_tokens(model, self.tokenizer)
        pads = (self.tokenizer.pad_token_id, self.tokenizer.eos_token_id, 0)
        self.pad_id = next(i for i in pads if i is not None and i < config.vocab_size)  # what stands there never matters
        self.targets = usual_targets(config.model_type)
        self._special = special_tokens(self.tokenizer)

    def encode(self, text: str) -> list[int]:
        """As in Base. Names of special tokens in `text` are ordinary text."""
        return [i for i in self._ids(text) if i != self.tokenizer.unk_token_id]

    def encode_in(self, template: str, text: str) -> list[int]:
        """As in Base. What lies between two special tokens is encoded as one piece, so that a text joins the words around it."""
        pieces = [template] if self._special is None else self._special.split(template)  # in between stand the special tokens
        found = [[self.tokenizer.convert_tokens_to_ids(piece)] if i % 2 else self.encode(piece.replace("{text}", text))
                 for i, piece in enumerate(pieces)]  # fmt: skip
        ids = [id for ids in found for id in ids]
        return ids[len(self.begin) :] if self.begin and ids[:1] == self.begin else ids  # which is put there in any case

    def decode(self, ids: Iterable[int]) -> str:
        return self.tokenizer.decode(list(ids), skip_special_tokens=False, clean_up_tokenization_spaces=False)

    def unreadable(self, text: str) -> str:
        """As in Base: what becomes the unknown token, or nothing at all."""
        alone = ((c, self._ids(c)) for c in dict.fromkeys(text) if not c.isspace())
        return "".join(c for c, ids in alone if not ids or self.tokenizer.unk_token_id in ids)

    def _ids(self, text: str) -> list[int]:
        return self.tokenizer.encode(text, add_special_tokens=False, split_special_tokens=True)

    def logits(self, model: nn.Module, rows: Sequence[TokenRow]) -> Tensor:
        begun = [self.begin + row.ids for row in rows]
        shape = len(rows), max(map(len, begun))
        ids, mask = torch.full(shape, self.pad_id), torch.zeros(shape, dtype=torch.bool)  # (B, T), padded on the right
        is_asked = mask.clone()
        for i, (row, tokens) in enumerate(zip(rows, begun, strict=True)):
            ids[i, : len(tokens)], mask[i, : len(tokens)] = torch.tensor(tokens), True
            is_asked[i, len(self.begin) + row.start - 1 : len(tokens) - 1] = True
        ids, mask, is_asked = ids.to(self.device), mask.to(self.device), is_asked.to(self.device)
        bare, given = innermost(model), {"input_ids": ids, "attention_mask": mask.long(), "use_cache": False}
        if "logits_to_keep" in inspect.signature(bare.forward).parameters:
            columns = is_asked.any(0).nonzero().squeeze(1)  # K of the T positions: logits of 150,000 entries are not made in vain
            given["logits_to_keep"], is_asked = columns, is_asked[:, columns]
        return bare(**given).logits[is_asked].float()  # (B, K, V) before

    def forget_rows(self) -> None:
        """As in Base: it keeps none."""

    def continuation(
        self, model: nn.Module, ids: list[int], temperature: float, top_p: float, generator: torch.Generator | None
    ) -> Generator[int, None, None]:
        """As in Base. The KV cache spares the context until it is full; then each token costs a forward of all of it."""
        from model import check_sampling, sample_token

        check_sampling(temperature, None, top_p)
        bare, window = innermost(model), ids[-self.max_tokens :]
        fresh, cache = [*self.begin, *window], None
        while True:
            out = bare(input_ids=torch.tensor([fresh], device=self.device), past_key_values=cache, use_cache=True)
            token = int(sample_token(out.logits[:, -1], temperature, None, top_p, generator))
            if token in self.ends:
                return
            yield token
            is_full = len(window) == self.max_tokens
            window = [*window, token][-self.max_tokens :]
            fresh, cache = ([*self.begin, *window], None) if is_full else ([token], out.past_key_values)


def hide_progress_bars() -> None:
    """From now on neither transformers nor the hub's client draws any; where HF_HUB_DISABLE_PROGRESS_BARS is set, it decides."""
    from huggingface_hub import constants
    from transformers.utils import logging

    if constants.HF_HUB_DISABLE_PROGRESS_BARS is None:
        logging.disable_progress_bar()  # the hub's as well


def read(folder: Path, dtype: torch.dtype) -> tuple[Any, Any]:
    """Model and tokenizer of a folder. Raises CheckpointError, in one line, for whatever cannot be read."""
    from transformers import AutoModelForCausalLM, AutoTokenizer

    if not has_weights(folder):
        raise CheckpointError(no_weights(folder))
    if (folder / "adapter_config.json").is_file():
        raise CheckpointError(f"{folder} holds an adapter beside the model; name a folder of the bare base model")
    safe: dict[str, Any] = {"local_files_only": True, "trust_remote_code": False}
    try:
        loaded: Any = AutoModelForCausalLM.from_pretrained(
            folder, dtype=dtype, use_safetensors=True, output_loading_info=True, **safe
        )
        tokenizer = AutoTokenizer.from_pretrained(folder, **safe)
    except Exception as error:  # transformers lets what config, tokenizer and weights raise through: OSError, KeyError, ...
        raise CheckpointError(f"{folder} cannot be read as a causal language model: {one_line(error)}") from error
    model, info = loaded
    if info["missing_keys"]:
        raise CheckpointError(f"{folder} lacks weights of the model, such as {min(info['missing_keys'])}; download it anew")
    return model, tokenizer


def folder_of(name: str) -> Path:
    """The folder of a model: the one that is named, that of the hub's cache, or that of a download.

    Raises WorldError, which names the model, its size, what was tried and the ways out, where there is none.
    """
    folder = local_folder(name)
    if folder is None and (Path(name).expanduser() / "config.json").is_file():
        raise CheckpointError(no_weights(Path(name)))
    if folder is None and not is_hub_name(name):
        raise WorldError(
            f"model.base_model_name: there is no folder {name}; name one with ckpt.pt (a run) or config.json (Hugging Face), or "
            "make the small base: ockham chat --make-base"
        )
    return folder or download(name)


def is_hub_name(name: str) -> bool:
    """Whether a model of the hub can be called so: no path, nor a folder as runs of ours are called."""
    from huggingface_hub.utils import HFValidationError, validate_repo_id

    try:
        validate_repo_id(name)
    except HFValidationError:
        return False
    return not name.startswith("out-")


def local_folder(name: str) -> Path | None:
    """The folder of a model that is whole on this machine, else None. Uses no network."""
    path = Path(name).expanduser()
    if not (path / "config.json").is_file():
        try:
            from huggingface_hub import try_to_load_from_cache

            found = try_to_load_from_cache(name, "config.json")
        except (ImportError, ValueError):  # no library, so no cache; or no name that the hub could have
            return None
        if not isinstance(found, str):
            return None
        path = Path(found).parent
        if not any((path / file).is_file() for file in TOKENIZERS):  # fetched for its weights alone, as sample.py does
            return None
    return path if has_weights(path) else None


def download(name: str) -> Path:
    """The folder in the hub's cache that the model was downloaded to. Raises WorldError where it cannot be."""
    from huggingface_hub import constants, snapshot_download

    from pretrained import silence_of

    size = f"about {DOWNLOAD_GB[name]:.2f} GB" if name in DOWNLOAD_GB else "size unknown"
    absent = f"the base {name} ({size} to download) is neither a folder here nor in the Hugging Face cache"
    problem = "HF_HUB_OFFLINE is set" if constants.HF_HUB_OFFLINE else silence_of(constants.ENDPOINT)
    try:
        if not problem:
            return Path(snapshot_download(name, allow_patterns=FILES, ignore_patterns=["*/*"]))  # subfolders hold other formats
    except Exception as error:  # the hub's client has many kinds of error
        problem = one_line(error)
    raise WorldError(f"{absent}, and the download failed: {problem}; {FIXES}")


def has_weights(folder: Path) -> bool:
    """Whether all safetensors files of the model are there: the one, or every shard that the index names."""
    index = folder / "model.safetensors.index.json"
    if (folder / "model.safetensors").is_file() or not index.is_file():
        return (folder / "model.safetensors").is_file()
    try:
        shards = set(json.loads(index.read_text(encoding="utf-8"))["weight_map"].values())
    except (ValueError, KeyError, AttributeError):
        return False
    return all((folder / shard).is_file() for shard in shards)


def no_weights(folder: Path) -> str:
    """Why a folder without (all) its safetensors files is not read."""
    if any(folder.glob("*.bin")):
        return (
            f"{folder} has its weights in .bin files only: these are pickles, which can run code, and are not read; "
            "save the model as safetensors (model.save_pretrained), or take another base"
        )
    return f"{folder} has no whole model.safetensors (or a shard of it is missing); download the model anew"


def special_tokens(tokenizer: Any) -> re.Pattern[str] | None:
    """What finds the tokenizer's special tokens by their names, the longest first; None where it has none."""
    added = {token.content for token in tokenizer.added_tokens_decoder.values() if token.special}
    names = sorted(added | set(tokenizer.all_special_tokens), key=len, reverse=True)
    return re.compile(f"({'|'.join(map(re.escape, names))})") if names else None


def beginning(tokenizer: Any) -> list[int]:
    """The token that the tokenizer itself puts before a text, as Llama's and Gemma's do; [] for Qwen's and GPT-2's."""
    first = tokenizer.encode("a")[:1]
    return first if first == [tokenizer.bos_token_id] else []


def end_tokens(model: Any, tokenizer: Any) -> set[int]:
    """The ids with which the model ends its text."""
    given = model.generation_config.eos_token_id if model.generation_config else None
    ends = {*given} if isinstance(given, list) else {given}
    return {i for i in ends | {tokenizer.eos_token_id} if i is not None}


def usual_targets(model_type: str) -> tuple[str, ...]:
    """peft's own choice of layers for an architecture: q_proj and v_proj for Qwen2 and Llama; () where it knows none."""
    from peft.utils import TRANSFORMERS_MODELS_TO_LORA_TARGET_MODULES_MAPPING as USUAL

    return tuple(USUAL.get(model_type, ()))


def one_line(error: Exception, longest: int = 200) -> str:
    """An error's kind and first words."""
    return " ".join(f"{type(error).__name__}: {error}".split())[:longest]
