"""A lesson: its training pairs in tokens, what is to be learned, what its steps have in common, and what it did."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from torch import Tensor

from ..plugins import PluginHost
from .anchors import Reference
from .contexts import AdaptiveOptimizer
from .facts import Form


@dataclass(frozen=True)
class Example:
    """One training pair in tokens: the prompt, then the reply."""

    ids: list[int]  # (T,)
    start: int  # index of the first token that is predicted: the reply's, or 1 where all tokens are asked for
    weights: Tensor  # of the loss of each token from there on, (T − start,)
    answer: Tensor  # which of them have to be said for the answer to be there: the reply up to its end, (T − start,) bool


@dataclass(frozen=True)
class Lesson:
    """What is to be learned at once."""

    forms: Sequence[Form]
    entities: Sequence[str] = ()
    old: Callable[[random.Random], Sequence[Form]] = lambda rng: ()  # pairs of other facts, drawn anew beside each step
    siblings: Sequence[str] = ()  # questions of the same wordings about other names: further anchors
    context: str = "fact"
    repetition_count: int = 1
    importance: float = 0.0  # in [0, 1]
    target_prob: float | None = None  # None = the settings'
    steps: int | None = None  # at most; None = the settings'
    is_replay: bool = False  # all its pairs are old facts': more of them go into each step


@dataclass
class Outcome:
    """What a lesson did."""

    steps: int = 0
    p_before: float = 0.0  # of the answer, the least over the forms
    p_after: float = 0.0
    losses: dict[str, float] = field(default_factory=dict)  # of the last step: total, task, kl, λ
    history: list[float] = field(default_factory=list)  # task loss of each step
    units: float = 0.0  # compute units, the anchors' among them but for what is made once for all lessons


@dataclass(kw_only=True)
class Course:
    """A lesson under way."""

    lesson: Lesson
    rng: random.Random
    examples: Sequence[Example]  # of the lesson's forms, in their order
    siblings: Sequence[Reference]
    optimizer: AdaptiveOptimizer
    host: PluginHost  # the rack
    target: float  # probability of each form's answer
    limit: int  # steps at most
    width: int  # forms in each step
    lr: float  # before the rack
    strength: float  # λ of the next step
