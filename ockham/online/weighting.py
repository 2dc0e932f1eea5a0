"""Weights of the tokens in the task loss, worked out from character spans, so that any tokenizer will do."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate, pairwise
from typing import Any

import torch
from torch import Tensor

from ..errors import ConfigError, ShapeError, nearest
from .config import ImportanceWeightingSettings
from .extension import load

KEY = "importance_weighting.strategies"
OWN_KEYS = ("name", "enabled")


@dataclass(frozen=True)
class Tokens:
    """A text cut into T tokens: `spans` has [first, last + 1) of each in characters; an empty span is a token without text."""

    text: str
    spans: tuple[tuple[int, int], ...]
    entities: tuple[str, ...] = ()
    answer: str = ""

    def covering(self, found: Sequence[tuple[int, int]]) -> Tensor:
        """Whether each token shares at least one character with one of the spans found; (T,) bool."""
        return torch.tensor([any(max(a, c) < min(b, d) for c, d in found) for a, b in self.spans], dtype=torch.bool)

    def saying(self, phrase: str) -> Tensor:
        """Whether each token is part of the phrase, in any of its occurrences; (T,) bool."""
        return self.covering(occurrences(phrase, self.text))


Strategy = Callable[[Tokens, Mapping[str, Any]], "Tensor | Sequence[float]"]


def occurrences(phrase: str, text: str) -> list[tuple[int, int]]:
    """Where a phrase stands in a text, as whole words, whatever its case and spacing: 'Tom' is not in 'Tomato'."""
    words = [re.escape(word) for word in phrase.split()]
    if not words:
        return []
    before = r"(?<!\w)" if re.match(r"\w", phrase.strip()) else ""
    after = r"(?!\w)" if re.search(r"\w$", phrase.strip()) else ""
    return [m.span() for m in re.finditer(before + r"\s+".join(words) + after, text, re.IGNORECASE)]


def entity_based(tokens: Tokens, values: Mapping[str, Any]) -> Tensor:
    """`weight` for the tokens of each entity, once, however many entities they belong to."""
    found = [span for entity in tokens.entities for span in occurrences(entity, tokens.text)]
    return factor(tokens.covering(found), values["weight"])


def position_based(tokens: Tokens, values: Mapping[str, Any]) -> Tensor:
    """`first_token_weight` for the first `first_n_tokens`, times `last_token_weight` for the last `last_n_tokens`."""
    place = torch.arange(len(tokens.spans))
    first = factor(place < values["first_n_tokens"], values["first_token_weight"])
    return first * factor(place >= len(tokens.spans) - values["last_n_tokens"], values["last_token_weight"])


def repetition_based(tokens: Tokens, values: Mapping[str, Any]) -> Tensor:
    """`weight` for the tokens of words of at least `min_chars` letters that stand in the text more than once, in any case."""
    found: dict[str, list[tuple[int, int]]] = {}
    for match in re.finditer(r"\w+", tokens.text):
        found.setdefault(match.group().casefold(), []).append(match.span())
    repeated = [span for word, spans in found.items() if len(spans) > 1 and len(word) >= values["min_chars"] for span in spans]
    return factor(tokens.covering(repeated), values["weight"])


def factor(where: Tensor, weight: float) -> Tensor:
    """`weight` where true, else 1; (T,) float32."""
    return torch.ones(where.shape).masked_fill(where, weight)


# Name -> the strategy and its values where the config has none; a weight of None is the room's entity_weight.
STRATEGIES: dict[str, tuple[Strategy, Mapping[str, Any]]] = {
    "entity_based": (entity_based, {"weight": None}),
    "position_based": (
        position_based,
        {"first_n_tokens": 5, "first_token_weight": 2.0, "last_n_tokens": 0, "last_token_weight": 1.5},
    ),
    "repetition_based": (repetition_based, {"weight": 2.0, "min_chars": 1}),
}
_registered: dict[str, Strategy] = {}


def register(name: str, strategy: Strategy) -> None:
    """Makes a strategy of your own known by a name, for the weighters that are made after this.

    It is called as strategy(tokens, values), with the config entry as `values`, and gives T factors >= 0. In a config file it can
    be named as module:function instead. Raises ConfigError for a name of the built-in strategies.
    """
    if name in STRATEGIES:
        raise ConfigError(f"strategy {name!r} is built in; give yours another name")
    _registered[name] = strategy


class ImportanceWeighter:
    """w = min(max_weight, default_weight · product of the strategies' factors · fact_token_weight on the answer's tokens).

    All ones with `enabled` off. Raises ConfigError, at once, for an unknown strategy (naming the nearest), a value that is no
    value of it, or one that is not a number >= 0.
    """

    def __init__(self, settings: ImportanceWeightingSettings) -> None:
        self.settings = settings
        entries = enumerate(settings.strategies)
        self._steps = [self._step(entry, f"{KEY}[{i}]") for i, entry in entries if entry.get("enabled", True)]

    def weights(self, pieces: Sequence[str], entities: Sequence[str], answer: str, text: str) -> Tensor:
        """Weights of the pieces that the text is cut into; (T,) float32. Raises ShapeError unless the pieces join to the text."""
        if "".join(pieces) != text:
            raise ShapeError(f"the pieces must join to the text, got {''.join(pieces)[:60]!r} for {text[:60]!r}")
        ends = [0, *accumulate(len(piece) for piece in pieces)]
        return self.weights_at(list(pairwise(ends)), entities, answer, text)

    def weights_at(self, spans: Sequence[tuple[int, int]], entities: Sequence[str], answer: str, text: str) -> Tensor:
        """The same for tokens given by their spans in the text, as a tokenizer's offset mapping has them; (T,) float32."""
        tokens = Tokens(text, tuple(spans), tuple(entities), answer)
        total = torch.ones(len(tokens.spans))
        if not self.settings.enabled:
            return total
        total *= self.settings.default_weight
        for name, strategy, values in self._steps:
            total = total * _checked(strategy(tokens, values), len(total), name)
        total = total * factor(tokens.saying(answer), self.settings.fact_token_weight)
        return total.clamp(max=self.settings.max_weight)

    def _step(self, entry: Mapping[str, Any], key: str) -> tuple[str, Strategy, Mapping[str, Any]]:
        name = str(entry["name"])
        if name not in STRATEGIES:
            return name, _own_strategy(name, key), entry
        strategy, defaults = STRATEGIES[name]
        values = {**defaults, **{k: v for k, v in entry.items() if k not in OWN_KEYS}}
        if values.get("weight", 0) is None:
            values["weight"] = self.settings.entity_weight
        for k, value in values.items():
            if k not in defaults:
                raise ConfigError(f"unknown key {k} of {key} ({name}){nearest(k, defaults)}; known: {', '.join(defaults)}")
            if not isinstance(value, (int, float)) or isinstance(value, bool) or not 0 <= value < float("inf"):
                raise ConfigError(f"{key} ({name}): {k} must be a number >= 0, got {value!r}")
        return name, strategy, values


def weighted_loss(losses: Tensor, weights: Tensor) -> Tensor:
    """Σ w·l / Σ w over all tokens; a scalar, nats/token. Tokens that do not count have weight 0.

    With equal weights it is the mean. Raises ShapeError where the shapes differ and ConfigError where every weight is 0.
    """
    if losses.shape != weights.shape:
        raise ShapeError(f"losses are {tuple(losses.shape)} and weights {tuple(weights.shape)}; they must be of one shape")
    total = weights.sum()
    if total <= 0:
        raise ConfigError("importance_weighting gives every token that counts weight 0; raise entity_weight or fact_token_weight")
    return (losses * weights).sum() / total


def _own_strategy(name: str, key: str) -> Strategy:
    if name in _registered:
        return _registered[name]
    if ":" not in name:
        known = [*STRATEGIES, *_registered]
        raise ConfigError(
            f"{key}: unknown strategy {name!r}{nearest(name, known)}; known: {', '.join(known)}, or module:function"
        )
    found = load(name, key)
    if not callable(found):
        raise ConfigError(f"{key}: {name!r} must be a function, got {type(found).__name__}")
    return found


def _checked(factors: Tensor | Sequence[float], count: int, name: str) -> Tensor:
    """What a strategy gave, as (T,) float32; raises ShapeError or ConfigError naming the strategy."""
    found = torch.as_tensor(factors, dtype=torch.float32)
    if found.shape != (count,):
        raise ShapeError(f"strategy {name!r} must give {count} factors, one a token, got a shape of {tuple(found.shape)}")
    if not bool(torch.isfinite(found).all() and (found >= 0).all()):
        raise ConfigError(f"strategy {name!r} gave factors that are not finite numbers >= 0")
    return found
