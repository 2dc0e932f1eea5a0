"""The search space of `ockham tune`: KEY=SPACE in Hydra's sweep grammar, as users of its Optuna sweeper know it.

    optimizer.lr=tag(log,interval(1e-4,1e-2))   a real number, evenly on a log scale; without tag(log,...) evenly as it is
    optimizer.lookahead.k=int(interval(3,12))   a whole number, both ends included
    n_layer=range(2,7)                          2, 3, 4, 5 or 6: the end is left out, as under `train -m`
    scheduler=cosine,wsd,linear                 one of these; choice(...) is the same

What Optuna keeps of a value is its token: the value itself, but for lists, which it keeps as text.
"""

from __future__ import annotations

import math
import re
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from typing import Any

from ..configuration.files import SUFFIXES
from ..configuration.grammar import choices_of, in_hydra, kind_of, parse_override
from ..configuration.keys import real_key
from ..errors import ConfigError

FORMS = "interval(low,high), tag(log,interval(low,high)), int(interval(low,high)), range(start,stop[,step]) or a,b,c"
SPACE_IN_DASHES = re.compile(r"--([^=]+)=\s*((int|float|tag|choice|range|interval)\(.*)", re.DOTALL)
# Keys that say where, on what or how a run is judged, not how it learns.
NOT_TUNED = (
    "out_dir", "overwrite", "init_from", "dry_run", "debug", "max_hours", "seed", "dataset", "data_dir",
    "eval_interval", "eval_iters", "eval_max_tokens", "eval_only", "eval_calibration",
)  # fmt: skip


@dataclass(frozen=True)
class Space(ABC):
    """Where one key's value is looked for."""

    key: str  # as it was written

    @property
    @abstractmethod
    def described(self) -> str:
        """The space in words, the same for the same space."""

    @abstractmethod
    def distribution(self) -> Any:
        """The space as an Optuna distribution, of tokens."""

    @abstractmethod
    def extremes(self) -> list[Any]:
        """Tokens to try before anything runs: the ends of a range, every choice."""

    @abstractmethod
    def token(self, value: Any) -> Any:
        """What Optuna keeps for a value of the configuration. Raises ValueError when it lies outside."""

    def value(self, token: Any) -> Any:
        """The configuration's value of a token."""
        return token

    def assignment(self, token: Any) -> str:
        """`key=value` for the command line."""
        return f"{self.key}={in_hydra(self.value(token))}"


@dataclass(frozen=True)
class Range(Space):
    """The numbers from low to high, both included; `step` None = every real number between."""

    low: float
    high: float
    step: float | None
    is_log: bool = False

    @property
    def described(self) -> str:
        step = "" if self.step in (None, 1) else f", step {self.step!r}"
        return f"{self.low!r} to {self.high!r}{step}{', log' if self.is_log else ''}"

    @property
    def is_whole(self) -> bool:
        """Whether its numbers are whole."""
        return isinstance(self.low, int)

    def distribution(self) -> Any:
        from optuna.distributions import FloatDistribution, IntDistribution

        if self.is_whole:
            return IntDistribution(int(self.low), int(self.high), log=self.is_log, step=int(self.step or 1))
        return FloatDistribution(self.low, self.high, log=self.is_log, step=self.step)

    def extremes(self) -> list[Any]:
        return [self.low, self.high]

    def token(self, value: Any) -> Any:
        if isinstance(value, bool) or not isinstance(value, (int, float)) or not self.low <= value <= self.high:
            raise ValueError(value)
        steps = (value - self.low) / self.step if self.step else 0.0
        if abs(steps - round(steps)) > 1e-9:
            raise ValueError(value)
        return int(value) if self.is_whole else float(value)


@dataclass(frozen=True)
class Choices(Space):
    """One of the values listed. A list's token is its text, as Optuna keeps plain values only."""

    values: tuple[Any, ...]

    @property
    def described(self) -> str:
        return ", ".join(in_hydra(value) if isinstance(value, (list, dict)) else str(value) for value in self.values)

    def distribution(self) -> Any:
        from optuna.distributions import CategoricalDistribution

        return CategoricalDistribution(self.extremes())

    def extremes(self) -> list[Any]:
        return [in_hydra(value) if isinstance(value, (list, dict)) else value for value in self.values]

    def token(self, value: Any) -> Any:
        return self.extremes()[self.values.index(value)]

    def value(self, token: Any) -> Any:
        return self.values[self.extremes().index(token)]


def split(argv: Sequence[str]) -> tuple[list[str], list[Space]]:
    """The arguments of the base run, and the spaces, each in order. Raises ConfigError for a space that cannot be used."""
    base: list[str] = []
    spaces: list[Space] = []
    for arg in argv:
        dashed = SPACE_IN_DASHES.fullmatch(arg)
        if dashed:
            raise ConfigError(f"{arg}: with dashes a value is one value; a space is written {dashed[1]}={dashed[2]}")
        is_assignment = "=" in arg and not arg.startswith("-") and not (arg.endswith(SUFFIXES) and Path(arg).is_file())
        override = parse_override(arg.lstrip("+")) if is_assignment else None
        if override is None or not override.is_sweep_override():
            base.append(arg)
        else:
            spaces.append(read_space(override))
    check_keys(spaces)
    return base, spaces


def check_keys(spaces: Sequence[Space]) -> None:
    """Raises ConfigError for a key that is not for tuning, or that has two spaces."""
    seen: dict[Any, str] = {}
    for space in spaces:
        real = real_key(space.key.removesuffix(".name"))
        if real[0] in NOT_TUNED:
            raise ConfigError(f"{space.key} cannot be tuned: it does not change how a run learns, but where or how it is judged")
        if space.key == "decay_lr":
            raise ConfigError("decay_lr cannot be tuned; write scheduler=none,cosine")
        if real in seen:
            raise ConfigError(f"{space.key} and {seen[real]} are the same key; give it one space")
        seen[real] = space.key


def read_space(override: Any) -> Space:
    """One sweep override as a space. Raises ConfigError with the forms that can be used."""
    from hydra.core.override_parser.types import ChoiceSweep, IntervalSweep, RangeSweep

    readers: dict[type, Callable[[str, Any], Space]] = {
        IntervalSweep: read_interval,
        RangeSweep: read_range,
        ChoiceSweep: read_choices,
    }
    sweep, key = override.value(), override.key_or_group
    reader = readers.get(type(sweep))
    if reader is None:
        raise refused(override.input_line, f"a {type(sweep).__name__.lower()} is not a space")
    unknown = sorted(getattr(sweep, "tags", set()) - ({"log"} if reader is read_interval else set()))
    if unknown:
        raise refused(override.input_line, f"tag {unknown[0]!r} means nothing here; tag(log,...) goes with interval")
    try:
        space = reader(key, sweep)
    except ValueError as error:
        raise refused(override.input_line, str(error)) from error
    if isinstance(space, Range) and not space.is_whole and kind_of(key) is int:
        raise ConfigError(f"{override.input_line}: {key} takes whole numbers; write int(interval(low,high)) or range(start,stop)")
    return space


def refused(text: str, why: str) -> ConfigError:
    """The error for a space that cannot be used."""
    return ConfigError(f"{text}: {why}; a space is {FORMS}")


def read_interval(key: str, sweep: Any) -> Range:
    """interval(low, high), of real or whole numbers. Raises ValueError."""
    low, high, is_log = sweep.start, sweep.end, "log" in sweep.tags
    if not (math.isfinite(low) and math.isfinite(high) and low < high):
        raise ValueError(f"the low end must be below the high end, got {low} and {high}")
    if is_log and low <= 0:
        raise ValueError(f"on a log scale the low end must be above 0, got {low}")
    return Range(key, low, high, 1 if isinstance(low, int) else None, is_log)


def read_range(key: str, sweep: Any) -> Range:
    """range(start, stop, step), the stop left out, as Hydra has it. Raises ValueError."""
    if not all(map(math.isfinite, (sweep.start, sweep.stop, sweep.step))):
        raise ValueError("a range must be finite")
    start, stop, step = (Decimal(str(value)) for value in (sweep.start, sweep.stop, sweep.step))  # in floats 0.1 + 0.2 > 0.3
    n = max(0, math.ceil((stop - start) / step)) if step else 0
    if n < 2:
        raise ValueError(f"the range holds {n} values")
    number = int if all(isinstance(value, int) for value in (sweep.start, sweep.stop, sweep.step)) else float
    low, high = sorted((start, start + (n - 1) * step))
    return Range(key, number(low), number(high), number(abs(step)))


def read_choices(key: str, sweep: Any) -> Choices:
    """a,b,c or choice(a,b,c). Raises ValueError."""
    from hydra.core.override_parser.types import Sweep

    values = [unquoted(value) for value in choices_of(sweep)]
    if any(isinstance(value, Sweep) for value in values):
        raise ValueError("a choice holds values, not other spaces")
    if len(values) < 2:
        raise ValueError("one value is no choice")
    twice = [value for i, value in enumerate(values) if value in values[:i]]
    if twice:
        raise ValueError(f"{twice[0]} is given twice")
    return Choices(key, tuple(values))


def unquoted(value: Any) -> Any:
    """A choice as a plain value, quotes taken off all the way down."""
    from hydra.core.override_parser.types import QuotedString

    if isinstance(value, list):
        return [unquoted(inner) for inner in value]
    if isinstance(value, dict):
        return {unquoted(k): unquoted(v) for k, v in value.items()}
    return value.text if isinstance(value, QuotedString) else value
