"""GPT: a decoder-only transformer with GPT-2's shape. Needs torch alone.

The state_dict has nanoGPT's names (`transformer.h.0.attn.c_attn.weight`, nn.Linear layout), so checkpoints travel both ways.
Shapes: B sequences, T tokens, C = n_embd, nh heads of size hs = C / nh, V = vocab_size. Losses are in nats/token.

What cannot be used raises ValueError, a missing file or an unreachable hub OSError, a missing library RuntimeError; each message
says the fix.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import torch.nn as nn
import torch.nn.functional as F
from torch import Tensor

import pretrained

MASK_BUFFERS = (".attn.bias", ".attn.masked_bias")  # causal masks that older checkpoints carry; not weights


@dataclass(frozen=True)
class GPTConfig:
    """The shape of a GPT: nanoGPT's seven `model_args`. Raises ValueError for a shape that cannot be built."""

    block_size: int = 1024  # longest context, tokens
    vocab_size: int = 50304  # GPT-2's 50257, padded to a multiple of 64
    n_layer: int = 12
    n_head: int = 12
    n_embd: int = 768
    dropout: float = 0.0  # probability in [0, 1)
    bias: bool = True  # biases in Linear and LayerNorm, as in GPT-2

    def __post_init__(self) -> None:
        for name in ("block_size", "vocab_size", "n_layer", "n_head", "n_embd"):
            value = getattr(self, name)
            if not isinstance(value, int) or value < 1:
                raise ValueError(f"{name} must be a whole number >= 1, got {value!r}")
        if self.n_embd % self.n_head:
            raise ValueError(f"n_embd must be a multiple of n_head, got n_embd={self.n_embd}, n_head={self.n_head}")
        if not 0 <= self.dropout < 1:
            raise ValueError(f"dropout must be in [0, 1), got {self.dropout!r}")


class LayerCache:
    """Keys and values that one attention layer has computed, with room for `size` positions."""

    def __init__(self, size: int) -> None:
        self.size, self.length = size, 0
        self.k: Tensor | None = None  # (B, nh, size, hs), allocated by the first append, in its dtype and on its device
        self.v: Tensor | None = None

    def append(self, k: Tensor, v: Tensor) -> tuple[Tensor, Tensor]:
        """Stores k and v (B, nh, T, hs) behind what is there; gives all of both, (B, nh, length, hs)."""
        if self.k is None or self.v is None:
            B, nh, _, hs = k.shape
            self.k, self.v = k.new_empty(B, nh, self.size, hs), v.new_empty(B, nh, self.size, hs)
        start, self.length = self.length, self.length + k.size(2)
        self.k[:, :, start : self.length] = k
        self.v[:, :, start : self.length] = v
        return self.k[:, :, : self.length], self.v[:, :, : self.length]


class CausalSelfAttention(nn.Module):
    """Multi-head attention in which each position sees itself and those before it."""

    def __init__(self, config: GPTConfig) -> None:
        super().__init__()
        self.n_head, self.dropout = config.n_head, config.dropout
        self.c_attn = nn.Linear(config.n_embd, 3 * config.n_embd, bias=config.bias)  # q, k, v side by side
        self.c_proj = nn.Linear(config.n_embd, config.n_embd, bias=config.bias)
        self.resid_dropout = nn.Dropout(config.dropout)

    def forward(self, x: Tensor, cache: LayerCache | None = None) -> Tensor:
        return self.resid_dropout(self.c_proj(self.attend(self.c_attn(x), cache)))

    def attend(self, qkv: Tensor, cache: LayerCache | None = None) -> Tensor:
        """Queries, keys and values side by side (B, T, 3C) → what each position takes from those before it, (B, T, C)."""
        B, T, C = qkv.size(0), qkv.size(1), qkv.size(2) // 3
        heads = (part.view(B, T, self.n_head, C // self.n_head).transpose(1, 2) for part in qkv.split(C, dim=2))
        q, k, v = heads  # (B, nh, T, hs) each
        if cache is not None:
            k, v = cache.append(k, v)  # (B, nh, past + T, hs)
        past = k.size(2) - T
        # is_causal counts from the first key, so it is right only without a past; one query may see every key.
        mask = None if past == 0 or T == 1 else torch.ones(T, past + T, dtype=torch.bool, device=q.device).tril(past)
        p = self.dropout if self.training else 0.0
        y = F.scaled_dot_product_attention(q, k, v, attn_mask=mask, dropout_p=p, is_causal=past == 0)
        return y.transpose(1, 2).reshape(B, T, C)


class MLP(nn.Module):
    """C → 4C → C with exact GELU, as nanoGPT has it (GPT-2 itself used the tanh approximation)."""

    def __init__(self, config: GPTConfig) -> None:
        super().__init__()
        self.c_fc = nn.Linear(config.n_embd, 4 * config.n_embd, bias=config.bias)
        self.c_proj = nn.Linear(4 * config.n_embd, config.n_embd, bias=config.bias)
        self.dropout = nn.Dropout(config.dropout)

    def forward(self, x: Tensor) -> Tensor:
        return self.dropout(self.c_proj(self.activate(self.c_fc(x))))

    def activate(self, x: Tensor) -> Tensor:
        """What lies between the two layers, (…, 4C) → (…, 4C)."""
        return F.gelu(x)


class Block(nn.Module):
    """x + attention(norm(x)), then x + mlp(norm(x)). (B, T, C) → (B, T, C)."""

    def __init__(self, config: GPTConfig) -> None:
        super().__init__()
        self.ln_1 = nn.LayerNorm(config.n_embd, bias=config.bias)
        self.attn = CausalSelfAttention(config)
        self.ln_2 = nn.LayerNorm(config.n_embd, bias=config.bias)
        self.mlp = MLP(config)

    def forward(self, x: Tensor, cache: LayerCache | None = None) -> Tensor:
        x = x + self.attn(self.ln_1(x), cache)
        return x + self.mlp(self.ln_2(x))


class GPT(nn.Module):
    """The language model. `lm_head.weight` is `transformer.wte.weight`: one tensor under two names."""

    def __init__(self, config: GPTConfig) -> None:
        super().__init__()
        self.config = config
        parts: dict[str, nn.Module] = {
            "wte": nn.Embedding(config.vocab_size, config.n_embd),
            "wpe": nn.Embedding(config.block_size, config.n_embd),
            "drop": nn.Dropout(config.dropout),
            "h": nn.ModuleList(Block(config) for _ in range(config.n_layer)),
            "ln_f": nn.LayerNorm(config.n_embd, bias=config.bias),
        }
        self.transformer = nn.ModuleDict(parts)
        self.lm_head = nn.Linear(config.n_embd, config.vocab_size, bias=False)
        self.lm_head.weight = self.transformer["wte"].weight  # type: ignore[assignment]
        self._init_weights()

    def _init_weights(self) -> None:
        """GPT-2's: weights N(0, .02²), biases 0; both projections into the residual stream .02/√(2·n_layer), since 2·n_layer
        of them add up there (Radford et al. 2019, section 2.3)."""
        for name, parameter in self.named_parameters():
            if name.endswith(".bias"):
                nn.init.zeros_(parameter)
            elif parameter.ndim == 2:  # the rest are LayerNorm gains, which stay 1
                std = 0.02 / math.sqrt(2 * self.config.n_layer) if name.endswith("c_proj.weight") else 0.02
                nn.init.normal_(parameter, mean=0.0, std=std)

    def hidden(self, x: Tensor, caches: list[LayerCache] | None = None) -> Tensor:
        """Tokens (B, T) → final hidden states (B, T, C). With caches, x continues what they hold."""
        past = caches[0].length if caches else 0
        if x.ndim != 2 or not 1 <= x.size(1) <= self.config.block_size - past:
            room = f"block_size={self.config.block_size}" + (f" less {past} cached tokens" if past else "")
            raise ValueError(f"tokens must have shape (B, T) with 1 <= T <= {room}, got {tuple(x.shape)}")
        parts: Any = self.transformer
        h = self.embedded(x, past)
        for i, block in enumerate(parts.h):
            h = block(h, caches[i]) if caches else block(h)
        return parts.ln_f(h)

    def embedded(self, x: Tensor, past: int = 0) -> Tensor:
        """Tokens (B, T) behind `past` others → what goes into the first block, (B, T, C)."""
        parts: Any = self.transformer
        positions = torch.arange(past, past + x.size(1), device=x.device)  # (T,)
        return parts.drop(parts.wte(x) + parts.wpe(positions))

    def forward(self, x: Tensor, y: Tensor | None = None) -> tuple[Tensor, Tensor | None]:
        """Tokens x (B, T) and targets y (B, T) → logits (B, T, V) and the loss; without targets logits (B, 1, V) of the last
        position and None.

        The loss is the mean cross entropy over targets other than -1 (NaN when there are none), in nats/token and at least
        float32. Raises ValueError when T is not in 1..block_size.
        """
        h = self.hidden(x)
        if y is None:
            return self.lm_head(h[:, -1:]), None
        logits = self.lm_head(h)  # (B, T, V)
        return logits, F.cross_entropy(at_least_float32(logits).flatten(0, 1), y.flatten(), ignore_index=-1)

    def model_args(self) -> dict[str, Any]:
        """The shape as plain values: what a checkpoint keeps under `model_args`."""
        return dataclasses.asdict(self.config)

    def num_params(self, non_embedding: bool = True) -> int:
        """Parameters, tied ones once; `non_embedding` leaves out the positions (the token table also is the output layer)."""
        total = sum(p.numel() for p in self.parameters())
        return total - self.config.block_size * self.config.n_embd if non_embedding else total

    def flops_per_token(self) -> float:
        """FLOPs of one token's forward and backward at full context: 6·N + 12·n_layer·n_embd·block_size.

        Source: PaLM, Chowdhery et al. 2022 (arXiv:2204.02311), appendix B.
        """
        c = self.config
        return 6.0 * self.num_params() + 12.0 * c.n_layer * c.n_embd * c.block_size

    def estimate_mfu(self, fwdbwd_per_iter: float, dt: float, peak_flops: float | None = None) -> float | None:
        """Model FLOPs utilisation in [0, 1]: achieved FLOP/s over the device's peak.

        fwdbwd_per_iter: sequences of block_size per iteration on this device; dt: its seconds; peak_flops: the device's,
        FLOP/s. None where no peak is known (a CPU).
        """
        return self.flops_per_token() * self.config.block_size * fwdbwd_per_iter / dt / peak_flops if peak_flops else None

    def crop_block_size(self, block_size: int) -> None:
        """Shortens the longest context by dropping the last positions. Raises ValueError outside 1..block_size."""
        if not 1 <= block_size <= self.config.block_size:
            raise ValueError(f"block_size can only be cropped to 1..{self.config.block_size}, got {block_size}")
        wpe: Any = self.transformer["wpe"]
        wpe.weight = nn.Parameter(wpe.weight[:block_size].detach().clone())
        wpe.num_embeddings = block_size
        self.config = dataclasses.replace(self.config, block_size=block_size)

    @classmethod
    def from_checkpoint(cls, checkpoint: Mapping[str, Any]) -> GPT:
        """The model of a nanoGPT checkpoint: `model_args` its shape, `model` its state_dict (also of a compiled model).

        Raises ValueError naming the first key that is missing, unexpected or of another shape.
        """
        for key in ("model", "model_args"):
            if key not in checkpoint:
                raise ValueError(f"the checkpoint has no {key!r}; it has {', '.join(sorted(map(str, checkpoint))) or 'nothing'}")
        known = {f.name for f in dataclasses.fields(GPTConfig)}
        unknown = sorted(set(checkpoint["model_args"]) - known)
        if unknown:
            raise ValueError(f"model_args.{unknown[0]} is not known to this model; known: {', '.join(sorted(known))}")
        model = cls(GPTConfig(**checkpoint["model_args"]))
        if any(tensor.dtype == torch.float64 for tensor in checkpoint["model"].values()):
            model.double()
        model._load(checkpoint["model"])
        return model

    def _load(self, state: Mapping[str, Tensor]) -> None:
        """load_state_dict, strict, with an error that names one key instead of all."""
        state = {k.removeprefix("_orig_mod."): v for k, v in state.items() if not k.endswith(MASK_BUFFERS)}
        own = self.state_dict()
        for key in own:
            if key not in state:
                raise ValueError(f"the state_dict lacks {key}")
            if state[key].shape != own[key].shape:
                raise ValueError(f"{key} must have shape {tuple(own[key].shape)}, got {tuple(state[key].shape)}")
        unexpected = next((key for key in state if key not in own), None)
        if unexpected:
            raise ValueError(f"the state_dict has {unexpected}, which a model of {self.config} has not")
        if not torch.equal(state["lm_head.weight"], state["transformer.wte.weight"]):
            raise ValueError("lm_head.weight must equal transformer.wte.weight: this model ties the two")
        self.load_state_dict(state)

    @classmethod
    def from_pretrained(cls, name_or_path: str | Path, override_args: Mapping[str, Any] | None = None) -> GPT:
        """OpenAI's GPT-2 from the hub ('gpt2', 'gpt2-medium', 'gpt2-large', 'gpt2-xl') or any GPT-2 in a local HF folder.

        override_args may set `dropout`. GELU stays exact, as in nanoGPT, where GPT-2 has its tanh approximation (less than 5e-4
        apart). Raises ValueError for another kind of model, OSError without file or network, RuntimeError without libraries.
        """
        unknown = sorted(set(override_args or {}) - {"dropout"})
        if unknown:
            raise ValueError(f"override_args can only set dropout (the weights fix the rest), got {unknown[0]}")
        settings, state = pretrained.read(str(name_or_path))
        model = cls(GPTConfig(**pretrained.shape_of(settings, str(name_or_path)), **(override_args or {})))
        model._load(state)
        return model

    def generate(
        self,
        idx: Tensor,
        max_new_tokens: int,
        temperature: float = 1.0,
        top_k: int | None = None,
        top_p: float | None = None,
        generator: torch.Generator | None = None,
        kv_cache: bool = True,
        stop: Iterable[int] | None = None,
    ) -> Tensor:
        """The prompt idx (B, T) with what `stream` yields behind it: (B, T + at most max_new_tokens)."""
        tokens = list(self.stream(idx, max_new_tokens, temperature, top_k, top_p, generator, kv_cache, stop))
        return torch.cat((idx, torch.stack(tokens, dim=1)), dim=1) if tokens else idx

    def stream(
        self,
        idx: Tensor,
        max_new_tokens: int,
        temperature: float = 1.0,
        top_k: int | None = None,
        top_p: float | None = None,
        generator: torch.Generator | None = None,
        kv_cache: bool = True,
        stop: Iterable[int] | None = None,
    ) -> Iterator[Tensor]:
        """Continues the prompt idx (B, T ≥ 1): yields one token per sequence at a time, (B,), in eval mode.

        Temperature, top_k and top_p: see `sample_token`. A sequence that has yielded one of the `stop` ids repeats it; when all
        have, the stream ends. The context is the last block_size tokens. The KV cache gives the same tokens and spares
        recomputing the context, until it is full: then every token moves every position by one, learned absolute positions
        change all keys and values, and each token costs one whole forward. Raises ValueError for arguments out of range.
        """
        check_sampling(temperature, top_k, top_p)
        if idx.ndim != 2 or idx.size(1) == 0:
            raise ValueError(f"the prompt must have shape (B, T) with T >= 1, got {tuple(idx.shape)}")
        stops = torch.tensor(sorted(stop), device=idx.device, dtype=idx.dtype) if stop is not None else None
        return self._stream(idx, max_new_tokens, (temperature, top_k, top_p, generator), kv_cache, stops)

    @torch.no_grad()
    def _stream(
        self, idx: Tensor, max_new_tokens: int, sampling: tuple, kv_cache: bool, stops: Tensor | None
    ) -> Iterator[Tensor]:
        size, was_training = self.config.block_size, self.training
        caches = [LayerCache(size) for _ in range(self.config.n_layer)] if kv_cache else None
        window = fresh = idx[:, -size:]
        token, done = idx[:, -1], torch.zeros(idx.size(0), dtype=torch.bool, device=idx.device)
        self.eval()
        try:
            for _ in range(max_new_tokens):
                logits = self.lm_head(self.hidden(fresh, caches)[:, -1])  # (B, V)
                token = torch.where(done, token, sample_token(logits, *sampling))  # (B,)
                yield token
                if stops is not None:
                    done |= torch.isin(token, stops)
                    if bool(done.all()):
                        return
                if window.size(1) == size:
                    caches = None
                window = torch.cat((window, token[:, None]), dim=1)[:, -size:]  # (B, T)
                fresh = window if caches is None else token[:, None]
        finally:
            self.train(was_training)


def at_least_float32(x: Tensor) -> Tensor:
    """x in float32 when it is of half precision, else itself."""
    return x.float() if x.dtype in (torch.float16, torch.bfloat16) else x


def check_sampling(temperature: float, top_k: int | None, top_p: float | None) -> None:
    """Raises ValueError when a sampling parameter is out of range."""
    if not (math.isfinite(temperature) and temperature >= 0):
        raise ValueError(f"temperature must be >= 0 (0 = the likeliest token), got {temperature!r}")
    if top_k is not None and top_k < 0:
        raise ValueError(f"top_k must be >= 1, or 0 or None for all tokens, got {top_k!r}")
    if top_p is not None and not 0 < top_p <= 1:
        raise ValueError(f"top_p must be in (0, 1], or None, got {top_p!r}")


def sample_token(
    logits: Tensor,
    temperature: float = 1.0,
    top_k: int | None = None,
    top_p: float | None = None,
    generator: torch.Generator | None = None,
) -> Tensor:
    """One token per row of logits (B, V) → (B,), drawn from softmax(logits / temperature); temperature 0 takes the likeliest.

    top_k keeps the k likeliest (all when k > V or 0); top_p then keeps the smallest set of likeliest tokens whose mass reaches p,
    at least one (nucleus sampling, Holtzman et al. 2020, arXiv:1904.09751).
    """
    if temperature == 0:
        return logits.argmax(dim=-1)
    logits = at_least_float32(logits) / temperature
    if top_k:
        kth = logits.topk(min(top_k, logits.size(-1)), dim=-1).values[:, -1:]  # (B, 1)
        logits = logits.masked_fill(logits < kth, -math.inf)
    probs = logits.softmax(dim=-1)
    if top_p is not None and top_p < 1:
        ranked, order = probs.sort(dim=-1, descending=True)
        ranked = ranked.masked_fill(ranked.cumsum(dim=-1) - ranked >= top_p, 0.0)  # the mass before it already suffices
        probs = torch.zeros_like(probs).scatter(-1, order, ranked)
    return torch.multinomial(probs, num_samples=1, generator=generator)[:, 0]  # scales rows to 1 itself
