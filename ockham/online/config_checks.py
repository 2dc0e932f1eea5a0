"""Checks of the chat's settings that one field alone cannot state: pairs, lists, mappings, and regular expressions.

Every message begins with the full key, so that whoever reads the files can say where it was given.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from itertools import pairwise
from typing import Any

from ..errors import ConfigError, nearest

MAX_REGEX_CHARS = 4000  # a longer one is a mistake; SRE compiles it into megabytes


def check_order(low_key: str, low: float, high_key: str, high: float) -> None:
    """Raises ConfigError unless low <= high."""
    if low > high:
        raise ConfigError(f"{low_key} must be <= {high_key}, got {low} and {high}")


def check_known(key: str, values: Iterable[str], known: Sequence[str]) -> None:
    """Raises ConfigError for a list that is empty, names something twice or names what is not known."""
    values = list(values)
    for index, value in enumerate(values):
        if value not in known:
            raise ConfigError(f"{key}[{index}] must be one of {', '.join(known)}, got {value!r}{nearest(value, known)}")
    if not values or len(set(values)) < len(values):
        raise ConfigError(f"{key} must name at least one of {', '.join(known)}, each once, got {values}")


def check_texts(key: str, values: Iterable[str]) -> None:
    """Raises ConfigError for an empty text in a list."""
    for index, value in enumerate(values):
        if not value:
            raise ConfigError(f"{key}[{index}] must not be empty; leave it out of the list")


def check_template(key: str, text: str, gap: str = "{text}") -> None:
    """Raises ConfigError unless its gap stands in a template exactly once."""
    if text.count(gap) != 1:
        raise ConfigError(f"{key} must have {gap} in it exactly once, got {text!r}")


def check_descending(key: str, values: Sequence[float]) -> None:
    """Raises ConfigError unless the values are in (0, 1], at least one, each smaller than the one before."""
    is_falling = all(a > b for a, b in pairwise(values))
    if not values or not is_falling or not all(0 < value <= 1 for value in values):
        raise ConfigError(f"{key} must be numbers in (0, 1], the largest first, got {list(values)}")


def check_numbers(key: str, values: Mapping[str, Any]) -> None:
    """Raises ConfigError for a mapping of names to what is not a number >= 0."""
    for name, value in values.items():
        is_number = isinstance(value, (int, float)) and not isinstance(value, bool)
        if not is_number or not 0 <= value < float("inf"):
            raise ConfigError(f"{key}: {name} must be a finite number >= 0, got {value!r}")


def check_strategies(key: str, entries: Iterable[Mapping[str, Any]]) -> None:
    """Raises ConfigError for a strategy without a name, one named twice, or an `enabled` that is no truth value.

    Its own values are checked by the strategy.
    """
    names: list[str] = []
    for index, entry in enumerate(entries):
        name = entry.get("name")
        if not isinstance(name, str) or not name.strip() or name in names:
            raise ConfigError(f"{key}[{index}] needs a `name` of its own, got {name!r}")
        if not isinstance(entry.get("enabled", True), bool):
            raise ConfigError(f"{key}[{index}] ({name}): enabled must be true or false, got {entry['enabled']!r}")
        names.append(name)


def check_classes(key: str, values: Iterable[str]) -> None:
    """Raises ConfigError for what is not `module:class`."""
    for index, value in enumerate(values):
        if not re.fullmatch(r"[A-Za-z_][\w.]*:[A-Za-z_]\w*", value):
            raise ConfigError(f"{key}[{index}] must be module:class, such as my_metrics:Politeness, got {value!r}")


def compiled(pattern: Any, key: str) -> re.Pattern[str]:
    """The regular expression, compiled without regard to case.

    Raises ConfigError naming the key, the expression, the position and the reason. Whether it ends in good time is tried where
    settings are read (regex_time.py).
    """
    if not isinstance(pattern, str) or not pattern:
        raise ConfigError(f"{key} must be a regular expression, got {pattern!r}")
    if len(pattern) > MAX_REGEX_CHARS:
        raise ConfigError(f"{key} must be a regular expression of at most {MAX_REGEX_CHARS} characters, got {len(pattern)}")
    try:
        return re.compile(pattern, re.IGNORECASE)
    except re.error as error:
        place = "" if error.pos is None else f" at position {error.pos}"
        raise ConfigError(f"{key}: not a regular expression: {error.msg}{place}, got '{pattern}'") from error
    except (OverflowError, RecursionError) as error:
        raise ConfigError(f"{key}: not a usable regular expression: {error}, got {pattern[:60]!r}") from error


def check_regexes(key: str, patterns: Iterable[Any]) -> None:
    """Raises ConfigError for the first that cannot be compiled."""
    for index, pattern in enumerate(patterns):
        compiled(pattern, f"{key}[{index}]")
