"""OccamPlugin, the base of every plugin, SeededPlugin, that of those that draw, and Param, one checked parameter."""
# ruff: noqa: B027  hooks are empty on purpose: a plugin overrides those it needs

from __future__ import annotations

import inspect
import math
import random
import re
import typing
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

from ..context import OccamContext
from ..errors import CheckpointError, ConfigError, nearest
from ..typed import coerce

RESERVED = ("name", "enabled")
DEFAULT_SEED = 1337  # of a plugin that draws


class ParameterError(ConfigError):
    """A parameter that cannot be used; `path` leads to it, such as ("bands", "easy")."""

    def __init__(self, message: str, path: tuple[str, ...] = ()) -> None:
        super().__init__(message)
        self.path = path


@dataclass(frozen=True)
class Param:
    """One parameter: its type, its default and what is allowed.

    `kind` is an annotation such as float, int | None or str; `words` are strings accepted beside it; `keys` makes the value a
    mapping from some of these names to `kind`. Numbers must be finite and in [low, high].
    """

    name: str
    default: Any
    help: str
    kind: Any = float
    low: float | None = None
    high: float | None = None
    choices: tuple[str, ...] = ()
    words: tuple[str, ...] = ()
    keys: tuple[str, ...] = ()

    def check(self, value: Any, owner: str) -> Any:
        """`value` in the parameter's type. Raises ParameterError: what, what was given, what is allowed."""
        if not self.keys:
            return self._check_one(value, f"{owner}.{self.name}", (self.name,))
        if not isinstance(value, Mapping):
            raise ParameterError(f"{owner}.{self.name} must be {self.allowed}, got {value!r}", (self.name,))
        for key in value:
            if key not in self.keys:
                hint = nearest(str(key), self.keys)
                path = (self.name, str(key))
                raise ParameterError(f"{owner}.{self.name} has no {key!r}{hint}; allowed: {', '.join(self.keys)}", path)
        return {k: self._check_one(v, f"{owner}.{self.name}.{k}", (self.name, k)) for k, v in value.items()}

    def _check_one(self, value: Any, where: str, path: tuple[str, ...]) -> Any:
        if isinstance(value, str) and value in self.words:
            return value
        try:
            typed = coerce(value, self.kind, where)
        except ConfigError as error:
            raise ParameterError(f"{where} must be {self.allowed}, got {value!r}{_quoted_number(value)}", path) from error
        if self.choices and typed not in self.choices:
            raise ParameterError(f"{where} must be {self.allowed}, got {value!r}{nearest(str(value), self.choices)}", path)
        if isinstance(typed, (int, float)) and not isinstance(typed, bool):
            is_low = self.low is not None and typed < self.low
            is_high = self.high is not None and typed > self.high
            if not math.isfinite(typed) or is_low or is_high:
                raise ParameterError(f"{where} must be {self.allowed}, got {value!r}", path)
        return typed

    @property
    def allowed(self) -> str:
        """What is allowed, in words: '>= 1', 'in [0, 1] or null', 'one of a, b'."""
        kinds = typing.get_args(self.kind) or (self.kind,)
        if self.choices:
            text = f"one of {', '.join(self.choices)}"
        elif bool in kinds:
            text = "true or false"
        elif self.low is not None and self.high is not None:
            text = f"in [{self.low:g}, {self.high:g}]"
        elif self.low is not None:
            text = f">= {self.low:g}"
        else:
            text = "a number" if float in kinds else "text"
        if int in kinds:
            text = f"an integer {text}"
        if self.keys:
            text = f"a mapping of {', '.join(self.keys)} to numbers {text}"
        return " or ".join([text, *self.words, *(["null"] if type(None) in kinds else [])])


def _quoted_number(value: Any) -> str:
    """A hint for a number that was written as text: in quotes, in per cent, or with a comma."""
    if not isinstance(value, str):
        return ""
    for text, hint in (
        (value, "a number in quotes is text; take the quotes away"),
        (value.removesuffix("%"), "write a fraction: 60% is 0.6"),
        (value.replace(",", "."), "write a decimal point, not a comma"),
    ):
        try:
            float(text)
        except ValueError:
            continue
        return f" ({hint})"
    return ""


class OccamPlugin(ABC):
    """One device of the rack: sees and changes the context of an iteration, and keeps its own state.

    The host calls the hooks in this order: on_batch_start (hyperparameters, verdict, requests), on_adapt (gradients are
    ready, not yet clipped; only in iterations that update), on_batch_end (fresh complexity_cost and grad_norm),
    on_consolidate (the anchor has just become the weights).

    A class states its default name in `name`, its parameters in `PARAMS` and its state in `STATE`; the constructor then
    takes every parameter as a keyword, and ends with `reset()`. A class without `PARAMS` may write its own constructor: it calls
    `super().__init__(name)`, and `reset()` itself, once it has set what that needs. With `STATE = None` the checkpoint holds
    every plain attribute (numbers, text, lists, ...) that is neither a parameter of the constructor nor its name; other
    attributes are left out.

    `WRITES` tells `ockham check` what the plugin may change and how: {"learning_rate": "scales"}. The fields are those that
    the host watches (context.WATCHED) and "requests.NAME". Ways whose order does not matter: "scales" (multiplies), "adds",
    "raises" (only ever to True), "lowers" (to the least that anybody asks for); ways whose order does: "clamps" (bounds the
    value), "sets". None = tried out.
    """

    name: str = ""
    enabled: bool = True
    PARAMS: ClassVar[tuple[Param, ...]] = ()
    STATE: ClassVar[tuple[str, ...] | None] = None
    WRITES: ClassVar[Mapping[str, str] | None] = None

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        if "name" not in cls.__dict__:
            stem = cls.__name__.removesuffix("Plugin") or cls.__name__
            cls.name = re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", stem).lower()
        if "PARAMS" in cls.__dict__ and "__init__" not in cls.__dict__:
            keyword = inspect.Parameter.KEYWORD_ONLY
            own = [inspect.Parameter(p.name, keyword, default=p.default) for p in cls.PARAMS]
            name = inspect.Parameter("name", inspect.Parameter.POSITIONAL_OR_KEYWORD, default=None)
            cls.__signature__ = inspect.Signature([name, *own])  # type: ignore[attr-defined]  # for help() and editors

    def __init__(self, name: str | None = None, **params: Any) -> None:
        """Raises ParameterError for an unknown parameter or a value that is not allowed."""
        if name is not None:
            self.name = name
        self.enabled = True
        known = {p.name: p for p in self.PARAMS}
        for key in params:
            if key not in known:
                has = f"; it has {', '.join(known)}" if known else ""
                raise ParameterError(f"{self.name} has no parameter {key!r}{nearest(key, known)}{has}", (key,))
        for key, param in known.items():
            setattr(self, key, param.check(params.get(key, param.default), str(self.name)))
        if known or type(self).__init__ is OccamPlugin.__init__:
            self.check()
            self.reset()

    def check(self) -> None:
        """What must hold between parameters; raises ParameterError."""

    @abstractmethod
    def on_batch_start(self, ctx: OccamContext) -> OccamContext:
        """Sets this iteration's hyperparameters, verdict and requests; returns the context."""

    def on_adapt(self, ctx: OccamContext) -> None:
        """The gradients are ready and not yet clipped."""

    def on_batch_end(self, ctx: OccamContext) -> None:
        """The step is done; complexity_cost and grad_norm are fresh."""

    def on_consolidate(self, ctx: OccamContext) -> None:
        """The anchor has just become the weights."""

    def reset(self) -> None:
        """Back to the state at construction."""

    def writes(self) -> Mapping[str, str] | None:
        """`WRITES` as it holds under these parameters."""
        return self.WRITES

    def params(self) -> dict[str, Any]:
        """The declared parameters and their values."""
        return {p.name: getattr(self, p.name) for p in self.PARAMS}

    def get_state(self) -> dict[str, Any]:
        """For people: type, switch, parameters and state."""
        return {"type": type(self).__name__, "enabled": self.enabled, **self.params(), **self.state_dict()}

    def state_dict(self) -> dict[str, Any]:
        """For checkpoints: what the plugin has become, in plain types; parameters are not state.

        Raises ConfigError for a name in `STATE` that the plugin has not set.
        """
        return {key: _to_plain(self._state_of(key)) for key in self._state_names()}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Takes over what `state_dict` gave. Raises CheckpointError naming a missing or unknown key."""
        names = self._state_names()
        wrong = [f"{k!r} is missing" for k in names if k not in state] + [f"{k!r} is unknown" for k in state if k not in names]
        if wrong:
            raise CheckpointError(f"the state of plugin {self.name!r} ({type(self).__name__}) does not fit: {', '.join(wrong)}")
        for key in names:
            setattr(self, key, _like(self._state_of(key), state[key]))

    def _state_of(self, key: str) -> Any:
        if not hasattr(self, key):
            raise ConfigError(
                f"plugin {self.name!r} ({type(self).__name__}) has no attribute {key!r}, which its STATE names; set it in "
                "reset(), and where the class has a constructor of its own, call reset() at its end"
            )
        return getattr(self, key)

    def _state_names(self) -> tuple[str, ...]:
        if self.STATE is not None:
            return self.STATE
        params = {*RESERVED, *(p.name for p in self.PARAMS), *inspect.signature(type(self).__init__).parameters}
        return tuple(k for k, v in vars(self).items() if k not in params and _is_plain(v))

    @classmethod
    def describe(cls) -> str:
        """The parameters, one a line: name, default, what is allowed, what it does."""
        return "\n".join(f"{p.name} = {p.default!r} ({p.allowed}): {p.help}" for p in cls.PARAMS)


class SeededPlugin(OccamPlugin):
    """A plugin that draws from a generator of its own, `random`, which `reset` makes from `own_seed`.

    A subclass has a parameter `seed` (null = the run's) and "generator" among its STATE.
    """

    seed: int | None
    random: random.Random

    @property
    def own_seed(self) -> int:
        """The seed; a fixed one outside a run, which gives its own."""
        return DEFAULT_SEED if self.seed is None else self.seed

    @property
    def generator(self) -> list[Any]:
        """The generator's state in plain types."""
        version, internal, spare = self.random.getstate()
        return [version, list(internal), spare]

    @generator.setter
    def generator(self, state: list[Any]) -> None:
        version, internal, spare = state
        self.random.setstate((version, tuple(internal), spare))

    def get_state(self) -> dict[str, Any]:
        return {key: value for key, value in super().get_state().items() if key != "generator"}


def _is_plain(value: Any) -> bool:
    if isinstance(value, Mapping):
        return all(isinstance(k, str) and _is_plain(v) for k, v in value.items())
    if isinstance(value, (list, tuple, deque)):
        return all(_is_plain(v) for v in value)
    return value is None or isinstance(value, (bool, int, float, str))


def _to_plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {k: _to_plain(v) for k, v in value.items()}
    return [_to_plain(v) for v in value] if isinstance(value, (list, tuple, deque)) else value


def _like(current: Any, value: Any) -> Any:
    """A copy of the plain `value` in the container type of `current`, so that a loaded deque keeps its bound."""
    if isinstance(current, deque):
        return deque(value, maxlen=current.maxlen)
    return tuple(value) if isinstance(current, tuple) else _to_plain(value)
