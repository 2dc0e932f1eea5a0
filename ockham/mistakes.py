"""Likely mistakes in a preset that can be read: values that work against one another, or do nothing."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from .config import ANCHOR_KINDS
from .document import Document
from .plugins import (
    CompressorPlugin,
    EQPlugin,
    KLWatchdogPlugin,
    LimiterPlugin,
    LoggerPlugin,
    OccamPlugin,
    OckhamGatePlugin,
    RandomSkipPlugin,
    SaturationPlugin,
)
from .presets import Preset

GATES = (OckhamGatePlugin, RandomSkipPlugin)
LOWEST_LOSS = 0.3  # nats/token; no text of interest is learned better than that

Found = Iterator[tuple[tuple[Any, ...], str]]  # path into the file, what is odd there
Rule = Callable[[Preset, list[OccamPlugin]], Found]


def mistakes(preset: Preset) -> list[str]:
    """One line for each, with file and line."""
    document, plugins = Document(preset.path), list(preset.host())
    return [f"{message} ({document.where(path)})" for rule in RULES for path, message in rule(preset, plugins)]


def _of(kind: type[OccamPlugin] | tuple[type[OccamPlugin], ...], plugins: list[OccamPlugin]) -> Iterator[tuple[int, Any]]:
    """The active plugins of a class, with their place in the chain."""
    return ((index, plugin) for index, plugin in enumerate(plugins) if isinstance(plugin, kind) and plugin.enabled)


def _at(index: int, *keys: str) -> tuple[Any, ...]:
    return ("plugins", index, "params", *keys)


def _gates(preset: Preset, plugins: list[OccamPlugin]) -> Found:
    judges = list(_of(GATES, plugins))
    for index, gate in judges[1:]:
        yield (
            ("plugins", index),
            f"{gate.name} is a second gate: the last verdict wins, and only {judges[0][1].name} judges micro-batches",
        )
    for index, gate in _of(OckhamGatePlugin, plugins):
        has_band = gate.floor_ratio is not None or gate.ceiling_ratio is not None
        for key in ("surprise_threshold", "target_update_rate"):
            value, top = getattr(gate, key), preset.hyperparameters.get(key)
            if key in preset.hyperparameters and value != top and value != "base":
                yield _at(index, key), f"{gate.name}.{key} is {value}, hyperparameters.{key} {top}: the gate's own one counts"
        if not has_band and (gate.target_update_rate == 1 or gate.surprise_threshold == 0):
            yield _at(index), f"{gate.name} never closes: surprise_threshold 0 or target_update_rate 1 learns every batch"
        if not has_band and gate.surprise_threshold is None and gate.target_update_rate is None:
            yield _at(index), f"{gate.name} never closes: surprise_threshold and target_update_rate are both null"
        if gate.surprise_threshold is None and gate.adaptive:
            yield _at(index, "adaptive"), f"{gate.name}.adaptive does nothing: surprise_threshold is null"


def _no_gate(preset: Preset, plugins: list[OccamPlugin]) -> Found:
    if not any(_of(GATES, plugins)):
        for key in ("surprise_threshold", "target_update_rate"):
            if preset.hyperparameters.get(key) is not None:
                yield ("hyperparameters", key), f"hyperparameters.{key} does nothing: the rack has no active gate"


def _after_the_gate(preset: Preset, plugins: list[OccamPlugin]) -> Found:
    for gate_index, gate in list(_of(OckhamGatePlugin, plugins))[:1]:
        for index, plugin in enumerate(plugins[gate_index + 1 :], gate_index + 1):
            writes = plugin.writes() or {}
            if plugin.enabled and "surprise_threshold" in writes and not isinstance(plugin, OckhamGatePlugin):
                yield ("plugins", index), f"{plugin.name} sets surprise_threshold after {gate.name} has used it: put it before"


def _price(preset: Preset, plugins: list[OccamPlugin]) -> Found:
    price = preset.hyperparameters.get("lambda_ockham")
    for index, plugin in _of(CompressorPlugin, plugins):
        if plugin.ratio == 1 and plugin.makeup_gain == 1:
            yield _at(index, "ratio"), f"{plugin.name} compresses nothing: ratio 1 and makeup_gain 1"
        if plugin.detector == "loss":
            continue
        if price == 0:
            yield ("hyperparameters", "lambda_ockham"), f"{plugin.name} cannot raise lambda_ockham: it is 0 and stays 0"
        elif price is not None and not plugin.min_lambda <= price <= plugin.max_lambda:
            key = "min_lambda" if price < plugin.min_lambda else "max_lambda"
            bounds = f"[{plugin.min_lambda:g}, {plugin.max_lambda:g}]"
            yield _at(index, key), f"lambda_ockham {price:g} lies outside {plugin.name}'s {bounds}: it is moved there at once"


def _loss_threshold(preset: Preset, plugins: list[OccamPlugin]) -> Found:
    for index, plugin in _of(CompressorPlugin, plugins):
        if plugin.detector == "loss" and plugin.threshold < LOWEST_LOSS:
            yield (
                _at(index, "threshold"),
                f"{plugin.name}.threshold {plugin.threshold:g} is in nats/token under detector loss: every batch is over it",
            )


def _ceilings(preset: Preset, plugins: list[OccamPlugin]) -> Found:
    for index, limiter in _of(LimiterPlugin, plugins):
        if limiter.limit_type != "complexity_cost":
            if limiter.limit == 0:
                yield _at(index, "ceiling"), f"{limiter.name} lets nothing be learned: its ceiling on {limiter.limit_type} is 0"
            continue
        key = "complexity_ceiling" if limiter.ceiling is None else "ceiling"
        for _, compressor in _of(CompressorPlugin, plugins):
            follows_drift = compressor.detector == "complexity"
            if limiter.force_consolidate and follows_drift and limiter.limit <= compressor.threshold:
                yield (
                    _at(index, key),
                    f"{limiter.name}.{key} {limiter.limit:g} is not above {compressor.name}.threshold"
                    f" {compressor.threshold:g}: it consolidates before {compressor.name} can act",
                )


def _nothing(preset: Preset, plugins: list[OccamPlugin]) -> Found:
    for index, plugin in enumerate(plugins):
        if not plugin.enabled:
            yield ("plugins", index, "enabled"), f"{plugin.name} is off (enabled: false): it gets no hook"
    for index, eq in _of(EQPlugin, plugins):
        if all(gain == 1 for gain in eq.bands.values()) or eq.adaptation_rate == 0:
            yield _at(index), f"{eq.name} changes nothing: every gain is 1, or adaptation_rate is 0"
    for index, saturation in _of(SaturationPlugin, plugins):
        if saturation.drive == 0:
            yield _at(index, "drive"), f"{saturation.name} adds no noise: drive is 0"


def _no_anchor(preset: Preset, plugins: list[OccamPlugin]) -> Found:
    if preset.tags and "scratch" not in preset.tags:
        return
    for index, dog in _of(KLWatchdogPlugin, plugins):
        yield (
            ("plugins", index),
            f"{dog.name} measures nothing from scratch until an anchor is in force: give --anchor.penalize=always there,"
            f" or tag the preset finetune",
        )


def _unused_strengths(preset: Preset, plugins: list[OccamPlugin]) -> Found:
    anchor, replay = preset.anchor or {}, preset.replay or {}
    kinds = str(anchor.get("kind", "l2")).split("+")
    for key in anchor:
        if key in ANCHOR_KINDS and key not in kinds:
            yield ("anchor", key), f"anchor.{key} does nothing: anchor.kind is {'+'.join(kinds)}"
    if anchor and preset.hyperparameters.get("lambda_ockham") == 0:
        yield ("hyperparameters", "lambda_ockham"), "lambda_ockham is 0, so no kind of anchor resists drift: all are in its units"
    if replay and not replay.get("fraction"):
        yield ("replay",), "replay does nothing: its fraction is 0"
    elif replay.get("ce") == 0 and not replay.get("kl"):
        yield ("replay", "ce"), "replayed sequences teach nothing: replay.ce and replay.kl are both 0"


def _logger_last(preset: Preset, plugins: list[OccamPlugin]) -> Found:
    for index, logger in _of(LoggerPlugin, plugins):
        if later := [plugin.name for plugin in plugins[index + 1 :] if plugin.enabled]:
            yield ("plugins", index), f"{logger.name} does not see what {', '.join(later)} change at the step's end: put it last"


RULES: tuple[Rule, ...] = (
    _gates,
    _no_gate,
    _after_the_gate,
    _price,
    _loss_threshold,
    _ceilings,
    _nothing,
    _no_anchor,
    _unused_strengths,
    _logger_last,
)
