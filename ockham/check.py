"""What a rack does, read from a preset: what each plugin may change, where several change the same, and likely mistakes."""

from __future__ import annotations

import copy
import io
import json
import math
import random
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import redirect_stdout
from dataclasses import dataclass
from operator import attrgetter
from typing import Any

from .config import anchor_kinds
from .context import WATCHED, OccamContext, Requests
from .plugins import OccamPlugin, PluginHost
from .presets import Preset

PROBE_ITERS = 400  # long enough to fill every window of our own plugins
SEED = 0
PROBE_WINDOWS = 8  # of a run's probe, ockham.carried.PROBE_ROWS; a short corpus gives fewer
# Requests that cost passes over the probe: name -> (forwards, backwards), the most it can be: the KL's second forward falls
# away while the anchor stands still, and the slope's serves the loss, too.
PASSES = {"probe_kl": (2, 0), "probe_loss": (1, 0), "probe_slope": (1, 1)}
# Requests for which the learner holds tensors (ockham.requested): name -> how large they are, and for how long.
TENSORS = {
    "gradient_echo": "1 × weights",
    "embedding_noise": "noise (B, T, C) during the forward",
    "update_ceiling": "1 × weights during each update, 2 × while its size is measured",
    "probe_kl": f"logits (B, T, V) of the probe, B = {PROBE_WINDOWS}",
    "probe_slope": "1 × weights during an update that is measured, 3 × while it is",
}
COMMUTE = ("scales", "adds", "raises", "lowers")  # among themselves, each kind with its own
WORDS = {
    "scales": "all multiply it, so their order does not matter (up to rounding)",
    "adds": "all add to it, so their order does not matter (up to rounding)",
    "raises": "each may only set it to True, so their order does not matter",
    "lowers": "the lowest holds, so their order does not matter",
}


@dataclass(frozen=True)
class Device:
    """One plugin of the rack as it was tried out."""

    name: str
    type: str
    enabled: bool
    writes: Mapping[str, str]  # field -> how: scales, adds, raises, clamps, sets, or changes (not stated, seen in the trial)
    state_bytes: int  # its state_dict as JSON, after PROBE_ITERS iterations
    forwards: float  # passes of the probe per iteration, mean
    backwards: float
    tensors: tuple[str, ...]  # what the learner holds for it, in words

    @property
    def line(self) -> str:
        """'compressor (CompressorPlugin): scales learning_rate, clamps lambda_ockham; state 74 bytes'."""
        changes = ", ".join(f"{how} {field}" for field, how in self.writes.items()) or "changes nothing"
        tensors = f"; the learner holds {' and '.join(self.tensors)}" if self.tensors else ""
        passes = f"; per iteration up to {probe_passes([self])}" if self.costs else ""
        kind = f"{self.type}{'' if self.enabled else ', off'}"
        return f"{self.name} ({kind}): {changes}; state {self.state_bytes:,} bytes{tensors}{passes}"

    @property
    def costs(self) -> bool:
        """Whether it asks for passes of its own."""
        return bool(self.forwards or self.backwards)


def probe_passes(rack: Sequence[Device]) -> str:
    """'0.1 forwards, 0.1 backwards of the probe (8 windows)': what these plugins together cost per iteration at most."""
    forwards, backwards = (sum(getattr(device, key) for device in rack) for key in ("forwards", "backwards"))
    return f"{forwards:g} forwards, {backwards:g} backwards of the probe ({PROBE_WINDOWS} windows)"


def in_all(rack: Sequence[Device]) -> str:
    """The rack's cost in one line: the bytes of every state, and what the active plugins have the learner do and hold."""
    active = [device for device in rack if device.enabled]
    held = [f"{device.name}: {text}" for device in active for text in device.tensors]
    state = sum(device.state_bytes for device in rack)
    return f"in all: state {state:,} bytes; extra per iteration: {probe_passes(active)}; tensors: {'; '.join(held) or 'none'}"


def protections(preset: Preset) -> list[str]:
    """What resists forgetting besides the plugins, and the forwards of a batch that it costs per learned iteration."""
    anchor, replay, lines = preset.anchor or {}, preset.replay or {}, []
    strength = preset.hyperparameters.get("lambda_ockham", 0.0)
    if strength and "kl" in anchor_kinds(anchor.get("kind", "l2")):
        lines.append("anchor of kind kl: 1 forward of a batch, on the weights of the anchor")
    if any(getattr(plugin, "surprise", "") == "excess" for plugin in preset.host()):
        lines.append(
            "surprise=excess: 1 forward of a batch by the anchor; with --reference=RUN one sweep of the data before instead"
        )
    if share := replay.get("fraction", 0.0):
        kl = f", {share:g} forwards of a batch by the anchor for the KL" if replay.get("kl") else ""
        lines.append(f"replay: {share:.0%} of each batch{kl}; a generated store costs a forward for each of its windows")
    return lines


@dataclass(frozen=True)
class Conflict:
    """A field that several active plugins write."""

    field: str
    writers: tuple[str, ...]  # in chain order
    order_matters: bool
    verdict: str  # who wins

    @property
    def line(self) -> str:
        """One line for people."""
        return f"{self.field}: {', '.join(self.writers)}: {self.verdict}"


def devices(preset: Preset) -> list[Device]:
    """Every plugin of the preset, tried out alone. Raises OckhamError naming a plugin that fails."""
    types = {spec["name"]: spec["type"] for spec in preset.specs}
    found = []
    for plugin in preset.host():
        enabled, plugin.enabled = plugin.enabled, True
        seen, asked = try_out(plugin, preset.hyperparameters)
        stated = plugin.writes()
        size = len(json.dumps(plugin.state_dict(), default=str).encode())
        writes = dict(stated) if stated is not None else dict.fromkeys(sorted(seen), "changes")
        tensors = tuple(words for name, words in TENSORS.items() if asked[name])
        found.append(Device(plugin.name, types[plugin.name], enabled, writes, size, *passes(asked), tensors))
    return found


def passes(asked: Mapping[str, int]) -> tuple[float, float]:
    """Forwards and backwards of the probe per iteration, for how often each request was made in PROBE_ITERS iterations."""
    forwards, backwards = (sum(asked[name] * cost[way] for name, cost in PASSES.items()) for way in (0, 1))
    return forwards / PROBE_ITERS, backwards / PROBE_ITERS


def probe(plugin: OccamPlugin, hyperparameters: Mapping[str, Any]) -> tuple[set[str], tuple[float, float]]:
    """The fields that a plugin changes in the trial, and the passes of the probe that it asks for per iteration."""
    seen, asked = try_out(plugin, hyperparameters)
    return seen, passes(asked)


def try_out(plugin: OccamPlugin, hyperparameters: Mapping[str, Any]) -> tuple[set[str], Counter[str]]:
    """Runs one plugin over PROBE_ITERS made-up iterations: the fields it changed, and how often it made each request.

    A loss asked for together with a slope is not counted: it comes with it.
    """
    host, seen, asked, requests = PluginHost([plugin]), set[str](), Counter[str](), Requests()
    with redirect_stdout(io.StringIO()):  # a logger's lines
        for ctx in contexts(hyperparameters):
            ctx.probes = probed(requests, ctx)
            before = _fields(ctx)
            ctx = host.process_batch_start(ctx)
            if ctx.updated:
                host.process_adapt(ctx)
            host.process_batch_end(ctx)
            after, requests = _fields(ctx), ctx.requests
            seen |= {field for field in after if after[field] != before.get(field)}
            made = {name for name, value in vars(requests).items() if value != getattr(Requests(), name)}
            asked.update(made - {"probe_loss"} if "probe_slope" in made else made)
            if ctx.consolidating:
                host.process_consolidate(ctx)
    return seen, asked


def probed(requests: Requests, ctx: OccamContext) -> dict[str, float]:
    """Made-up figures for what was asked in the iteration before."""
    found: dict[str, float] = {"kl": 10 * ctx.complexity_cost} if requests.probe_kl else {}
    if requests.probe_loss or requests.probe_slope:
        found["loss"] = ctx.task_loss
    return found | ({"slope": math.tanh(ctx.task_loss - 2)} if requests.probe_slope else {})


def contexts(hyperparameters: Mapping[str, Any], seed: int = SEED) -> Iterator[OccamContext]:
    """Made-up iterations, the same for every plugin: a loss that falls noisily, drift that rises, an anchor after a while."""
    draw = random.Random(seed)
    names = ("learning_rate", "lambda_ockham", "surprise_threshold")
    given = {name: hyperparameters[name] for name in names if name in hyperparameters}
    for step in range(PROBE_ITERS):
        share = step / PROBE_ITERS
        yield OccamContext(
            step, 1 + 3 * math.exp(-4 * share) + draw.gauss(0, 0.3), **given,
            complexity_cost=0.8 * share, grad_norm=draw.expovariate(1), anchor_available=step >= PROBE_ITERS // 20,
            domains={"easy": 1 - share, "hard": share},
        )  # fmt: skip


def _fields(ctx: OccamContext) -> dict[str, Any]:
    values = attrgetter(*WATCHED)(ctx)
    requests = copy.deepcopy(vars(ctx.requests))
    return dict(zip(WATCHED, values, strict=True)) | {f"requests.{name}": value for name, value in requests.items()}


def conflicts(rack: list[Device]) -> list[Conflict]:
    """The fields that several plugins write, those that are off left out."""
    active = [device for device in rack if device.enabled]
    fields = dict.fromkeys(field for device in active for field in device.writes)
    found = []
    for field in fields:
        writers = [(device.name, device.writes[field]) for device in active if field in device.writes]
        if len(writers) > 1:
            names, ways = zip(*writers, strict=True)
            one_way = len(set(ways)) == 1 and ways[0] in COMMUTE
            verdict = WORDS[ways[0]] if one_way else _who_wins(writers)
            found.append(Conflict(field, names, not one_way, verdict))
    return found


def _who_wins(writers: list[tuple[str, str]]) -> str:
    """What the order decides: the last that sets wins over all before it, and bounds hold for what came before them."""
    ways, names = [how for _, how in writers], [name for name, _ in writers]
    words = ["the order matters"]
    if "sets" in ways:
        last = len(ways) - 1 - ways[::-1].index("sets")
        if last:
            words.append(f"{names[last]} comes later than {', '.join(names[:last])} and wins")
        if names[last + 1 :]:
            words.append(f"{', '.join(names[last + 1 :])} then works on what {names[last]} has set")
    if "clamps" in ways:
        last = len(ways) - 1 - ways[::-1].index("clamps")
        after = names[last + 1 :]
        words.append(f"{names[last]} bounds it" + (f", and {', '.join(after)} may leave the bounds again" if after else " last"))
    if "changes" in ways:
        unknown = ", ".join(name for name, how in writers if how == "changes")
        words.append(f"{unknown} does not state how (WRITES); what the last one, {names[-1]}, leaves is what counts")
    return "; ".join(words)
