"""Requested: carries out what plugins ask of the learner, and owns the tensors that this takes."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Collection, Iterator, Mapping
from contextlib import AbstractContextManager
from typing import Any

import torch
from torch.nn.functional import kl_div, log_softmax
from torch.nn.parallel import DistributedDataParallel

from .anchor import Anchor
from .context import Echo, OccamContext, Requests
from .data import Batch, mix
from .distributed import Ranks, gradients
from .errors import ConfigError, ShapeError
from .ledger import Ledger
from .precision import Precision

PROBES = ("probe_kl", "probe_loss", "probe_slope")


class EmbeddingNoise:
    """A forward hook on a module's token embedding, its first nn.Embedding: h ← h + rms(h)·noise, where noise is set.

    `noise` has h's shape (B, T, C); None leaves h alone. rms(h) is over this forward's tokens and takes no gradient.
    """

    def __init__(self, module: torch.nn.Module, is_compiled: bool):
        self.embedding = next((m for m in module.modules() if isinstance(m, torch.nn.Embedding)), None)
        self.noise: torch.Tensor | None = None
        self.is_compiled, self.is_hooked = is_compiled, False

    def __call__(self, module: torch.nn.Module, inputs: tuple[torch.Tensor, ...], h: torch.Tensor) -> torch.Tensor | None:
        if self.noise is None:
            return None
        if h.shape != self.noise.shape:
            raise ShapeError(
                f"the model's first nn.Embedding gives {tuple(h.shape)}, its tokens' would be {tuple(self.noise.shape)}; "
                f"register the token embedding first, or take embedding noise out of the rack"
            )
        return h + self.noise.to(h.dtype) * h.detach().square().mean().sqrt()

    @contextlib.contextmanager
    def added(self, tokens: torch.Tensor, sigma: float, seed: int) -> Iterator[None]:
        """Within, forwards of `tokens` (B, T) hear σ·N(0, 1), drawn from `seed`."""
        assert self.embedding is not None
        if not self.is_hooked:
            self.embedding.register_forward_hook(self)
            self.is_hooked = True
            if self.is_compiled:
                torch.compiler.reset()  # what is compiled already does not see a new hook; it is compiled once more, with it
        weight = self.embedding.weight
        generator = torch.Generator(weight.device).manual_seed(seed)
        shape = (*tokens.shape, self.embedding.embedding_dim)  # (B, T, C)
        self.noise = sigma * torch.randn(shape, generator=generator, device=weight.device, dtype=weight.dtype)
        try:
            yield
        finally:
            self.noise = None


class Requested:
    """The learner's hand for `ctx.requests`: gradient echo, noise, a ceiling on the update, and figures on the probe batch.

    The probe is measured in eval mode, with forked random generators and without touching any `.grad`, on the module inside
    DDP and torch.compile. Every figure is averaged over ranks, weighted by tokens, so all ranks read the same. Its forwards and
    backwards are charged in units of a training batch, by tokens. `results` is what the next context gets.
    """

    def __init__(
        self,
        model: torch.nn.Module,
        parameters: list[torch.nn.Parameter],
        ledger: Ledger,
        ranks: Ranks,
        precision: Precision,
        probe: Batch | None,
        seed: int,
    ):
        inner = model.module if isinstance(model, DistributedDataParallel) else model
        self.module: torch.nn.Module = getattr(inner, "_orig_mod", inner)  # what torch.compile wrapped
        self.parameters, self.ledger, self.ranks, self.precision, self.seed = parameters, ledger, ranks, precision, seed
        self.probe = None if probe is None else (probe[0].to(ranks.device), probe[1].to(ranks.device))
        self.share = 1.0  # tokens of the probe / tokens of a training batch
        self.echoes: dict[str, list[torch.Tensor]] = {}  # plugin -> E, a tensor for each parameter
        self.before: list[torch.Tensor] | None = None  # the weights before this iteration's update, where that is asked for
        self.embedding = EmbeddingNoise(self.module, inner is not self.module)
        self.embedding_noise = 0.0  # σ in the next training forward
        self.results: dict[str, float] = {}
        self.anchor_logits: torch.Tensor | None = None  # (B, T, V) of the anchor on the probe
        self.scored_at = 0  # anchor.moves of the last charged forward of the anchor; 0 = none
        self.has_warned = False

    def check(self, requests: Requests) -> None:
        """Raises ConfigError when a probe is asked for and there is none, or noise on an embedding that is not there."""
        if requests.embedding_noise and self.embedding.embedding is None:
            raise ConfigError(
                "a plugin asks for embedding_noise, but the model has no nn.Embedding; "
                "give it another noise_type, or take it out of the rack"
            )
        if self.probe is None and (asked := [name for name in PROBES if getattr(requests, name)]):
            raise ConfigError(
                f"a plugin asks for {', '.join(asked)}, but the learner has no probe batch; "
                f"give OckhamLearner(probe=(x, y)), held-out data, or take the plugin out of the rack"
            )

    # gradients ------------------------------------------------------------------------------------------------------
    @torch.no_grad()
    def shape_gradients(self, requests: Requests, iter_num: int, rack: Collection[str]) -> None:
        """Echo, then noise, on averaged, unscaled gradients. The echo of a plugin that has left the rack is freed."""
        self.echoes = {name: echo for name, echo in self.echoes.items() if name in rack}
        if requests.gradient_echo:
            self._add_echoes(requests.gradient_echo)
        if requests.gradient_noise:
            self._add_noise(requests.gradient_noise, iter_num)

    def _add_echoes(self, asked: Mapping[str, Echo]) -> None:
        """g ← g + Σ mix·E, and each E ← decay·E + (1 − decay)·g of the g before; nothing when g is not finite."""
        if not math.isfinite(float(torch.nn.utils.get_total_norm(gradients(self.parameters)))):
            return
        for name, echo in asked.items():
            if echo.restart or name not in self.echoes:
                self.echoes[name] = [torch.zeros_like(p) for p in self.parameters]
        for i, p in enumerate(self.parameters):
            if p.grad is not None:
                heard = torch.zeros_like(p.grad)
                for name, echo in asked.items():
                    heard.add_(self.echoes[name][i], alpha=echo.mix)
                    self.echoes[name][i].mul_(echo.decay).add_(p.grad, alpha=1 - echo.decay)
                p.grad.add_(heard)

    def _add_noise(self, sigma: float, iter_num: int) -> None:
        """g ← g + σ·rms(g)·N(0, 1); the draw is a pure function of (seed, iteration), so all ranks add the same."""
        grads = gradients(self.parameters)
        count = sum(g.numel() for g in grads)
        rms = torch.nn.utils.get_total_norm(grads) / count**0.5
        generator = torch.Generator(grads[0].device).manual_seed(int(mix(self.seed, iter_num, 0x6E6F6973)[0] >> 1))
        for grad in grads:
            noise = torch.randn(grad.shape, generator=generator, device=grad.device, dtype=grad.dtype)
            grad.add_(noise * (sigma * rms))

    # embedding and update -------------------------------------------------------------------------------------------
    def noisy_embedding(self, tokens: torch.Tensor, iter_num: int, micro: int) -> AbstractContextManager[None]:
        """Within, the training forward hears the noise asked for in the iteration before, if any.

        The draw is a pure function of (seed, iteration, micro-batch, rank).
        """
        if not self.embedding_noise:
            return contextlib.nullcontext()
        seed = int(mix(self.seed, iter_num, micro, self.ranks.rank, 0x656D6265)[0] >> 1)
        return self.embedding.added(tokens, self.embedding_noise, seed)

    def remember(self, requests: Requests) -> None:
        """Keep the weights of before the update, where its slope or a ceiling is asked for: a copy of all of them."""
        if requests.probe_slope or requests.update_ceiling is not None:
            self.before = [p.detach().clone() for p in self.parameters]

    @torch.no_grad()
    def limit_update(self, ctx: OccamContext) -> None:
        """θ ← θ_before + Δθ·min(1, ceiling·‖θ_before‖ / ‖Δθ‖), and the ratio ‖Δθ‖ / ‖θ_before‖ as it was into the context.

        Weights that are all 0 have no scale to go by, and move freely.
        """
        ceiling, before = ctx.requests.update_ceiling, self.before
        if ceiling is None or before is None:
            return
        steps = [p - b for p, b in zip(self.parameters, before, strict=True)]
        size, scale = (float(torch.nn.utils.get_total_norm(list(ts))) for ts in (steps, before))
        ctx.relative_step = size / scale if scale else 0.0
        if ctx.relative_step > ceiling and math.isfinite(size):
            for p, b, step in zip(self.parameters, before, steps, strict=True):
                p.copy_(b).add_(step, alpha=ceiling * scale / size)

    # the probe ------------------------------------------------------------------------------------------------------

    def measure(self, ctx: OccamContext, anchor: Anchor, batch_tokens: int) -> None:
        """Replace `results` by what this iteration's requests find; `batch_tokens` of a micro-batch on this rank."""
        before, self.before, self.results, asked = self.before, None, {}, ctx.requests
        self._warn(ctx, anchor)
        if self.probe is None or not any(getattr(asked, name) for name in PROBES):
            return
        self.share = self.probe[1].numel() / batch_tokens
        with self._undisturbed():
            if asked.probe_slope and before is not None:
                self._measure_slope(before)
            elif asked.probe_loss:
                self._measure_loss()
            if asked.probe_kl and anchor.in_force:
                self._measure_kl(anchor)

    def _warn(self, ctx: OccamContext, anchor: Anchor) -> None:
        if not ctx.requests.probe_kl or anchor.in_force or self.has_warned:
            return
        self.has_warned = True
        ctx.notices.append(
            "a plugin asks for the KL to the anchor, but anchor.penalize=never, so none is ever in force and none is "
            "measured; set anchor.penalize to auto or always"
            if anchor.penalize == "never"
            else "a plugin asks for the KL to the anchor, but none is in force yet (anchor.penalize=auto, from scratch), so none "
            "is measured until validation stops improving; anchor.penalize=always has one from the start"
        )

    @contextlib.contextmanager
    def _undisturbed(self) -> Iterator[None]:
        """Eval mode and forked generators: training goes on as if nothing had been measured."""
        devices = [self.ranks.device] if self.ranks.device.type == "cuda" else []
        was_training = self.module.training
        self.module.eval()
        try:
            with torch.random.fork_rng(devices):
                yield
        finally:
            self.module.train(was_training)

    def _forward(self) -> tuple[torch.Tensor, torch.Tensor]:
        """Logits (B, T, V) and loss of the model on the probe."""
        assert self.probe is not None
        self.ledger.forward(self.share)
        with self.precision.autocast():
            return self.module(*self.probe)

    def _mean(self, value: torch.Tensor) -> float:
        """A mean over this rank's probe tokens → the mean over all ranks'."""
        assert self.probe is not None
        tokens = self.probe[1].numel()
        return self.ranks.mean(value.detach().double() * tokens, tokens)

    @torch.no_grad()
    def _measure_loss(self) -> None:
        self.results["loss"] = self._mean(self._forward()[1])

    def _measure_slope(self, before: list[torch.Tensor]) -> None:
        """⟨∇L_probe(θ), Δθ⟩ / (‖∇L_probe‖·‖Δθ‖) of the update just made; a figure that is not finite is left out.

        ∇L_probe is averaged over ranks, so the figure is that of one process with the whole probe. fp16's loss
        scale keeps small gradients from vanishing, and cancels in the quotient.
        """
        loss = self._forward()[1]
        self.ledger.backward(self.share)
        grads = torch.autograd.grad(loss * self.precision.scaler.get_scale(), self.parameters, allow_unused=True)
        with torch.no_grad():
            self.ranks.average_([g for g in grads if g is not None])
            used = [(g, p - b) for g, p, b in zip(grads, self.parameters, before, strict=True) if g is not None]
            dot = torch.stack([(g * d).sum().double() for g, d in used]).sum()
            steepness, length = (torch.nn.utils.get_total_norm(list(ts)).double() for ts in zip(*used, strict=True))
            cosine = torch.where(steepness * length > 0, dot / (steepness * length), dot)  # 0 where either is 0
        slope = self._mean(cosine.clamp(-1, 1))
        self.results["loss"] = self._mean(loss)
        if math.isfinite(slope):
            self.results["slope"] = slope

    @torch.no_grad()
    def _measure_kl(self, anchor: Anchor) -> None:
        """KL(anchor‖model) = mean over positions of Σ_v p*·(ln p* − ln p), nats/token; row by row, for a small peak of memory."""
        theirs, ours = self._logits_of(anchor), self._forward()[0]
        wide = torch.promote_types(ours.dtype, torch.float32)
        rows = [
            kl_div(log_softmax(a.to(wide), -1), log_softmax(b.to(wide), -1), reduction="sum", log_target=True)
            for a, b in zip(ours, theirs, strict=True)
        ]
        kl = self._mean(torch.stack(rows).double().sum() / ours[..., 0].numel())
        self.results["kl"] = max(kl, 0.0)  # rounding may go below; NaN stays

    def _logits_of(self, anchor: Anchor) -> torch.Tensor:
        """The anchor's logits on the probe, kept until it moves. Computing them again after a resume is not charged again."""
        if self.anchor_logits is None or self.scored_at != anchor.moves:
            if self.scored_at != anchor.moves:
                self.ledger.forward(self.share)
            self.anchor_logits, self.scored_at = None, anchor.moves
            with self.precision.autocast():
                self.anchor_logits = torch.func.functional_call(self.module, anchor.named_weights(self.module), self.probe)[0]
        return self.anchor_logits

    # state ----------------------------------------------------------------------------------------------------------
    def state_dict(self, anchor: Anchor) -> dict[str, Any]:
        """Echoes and figures that wait for the next iteration."""
        return {
            "echoes": {name: [e.clone() for e in echo] for name, echo in self.echoes.items()},
            "results": dict(self.results),
            "embedding_noise": self.embedding_noise,
            "is_anchor_scored": self.scored_at == anchor.moves,
            "has_warned": self.has_warned,
        }

    def load_state_dict(self, state: Mapping[str, Any] | None, anchor: Anchor) -> None:
        """Take over a state, None = an empty one; `anchor` has been loaded. Raises ShapeError when an echo does not fit."""
        state = state or {"echoes": {}, "results": {}, "is_anchor_scored": False, "has_warned": False}
        for name, echo in state["echoes"].items():
            if [e.shape for e in echo] != [p.shape for p in self.parameters]:
                raise ShapeError(f"the checkpoint's echo of {name!r} has other shapes than the model's trainable parameters")
        self.echoes = {
            name: [torch.empty_like(p).copy_(e) for p, e in zip(self.parameters, echo, strict=True)]
            for name, echo in state["echoes"].items()
        }
        self.before, self.anchor_logits = None, None
        self.embedding_noise = state.get("embedding_noise", 0.0)  # version 0.2.0 had none
        self.results, self.has_warned = dict(state["results"]), state["has_warned"]
        self.scored_at = anchor.moves if state["is_anchor_scored"] else 0
