"""Typed values: dataclass fields with unit and range, and their way from and to plain nested values, checked."""

from __future__ import annotations

import dataclasses
import math
import types
import typing
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from operator import ge, gt, le, lt
from typing import Any

from .errors import ConfigError, nearest

BOOLEAN_WORDS = {"1": True, "yes": True, "on": True, "y": True, "0": False, "no": False, "off": False, "n": False}


def option(
    default: Any,
    help: str,
    *,
    unit: str = "",
    low: float | None = None,
    high: float | None = None,
    above: float | None = None,
    below: float | None = None,
    choices: tuple = (),
    may_be_empty: bool = True,
) -> Any:
    """A dataclass field with its help text, unit and allowed range or choices; a text may be empty or not.

    `low` and `high` are themselves allowed, `above` and `below` are not.
    """
    metadata = {"help": help, "unit": unit, "choices": choices, "may_be_empty": may_be_empty}
    metadata |= {"low": low, "high": high, "above": above, "below": below}
    if isinstance(default, type):
        return field(default_factory=default, metadata=metadata)
    if isinstance(default, (dict, list)):
        return field(default_factory=lambda: type(default)(default), metadata=metadata)
    return field(default=default, metadata=metadata)


def coerce(value: Any, kind: Any, key: str) -> Any:
    """`value` as the annotated type `kind`; ints are fine for floats, nothing else is guessed; Any takes it as it is.

    Raises ConfigError naming the key, what was given and what is wanted.
    """
    origin, args = typing.get_origin(kind), typing.get_args(kind)
    if kind is Any:
        return value
    if dataclasses.is_dataclass(kind):
        return from_mapping(kind, value, key + ".")  # type: ignore[arg-type]
    if isinstance(value, float) and not math.isfinite(value) and float in (kind, *args):
        raise ConfigError(f"{key} must be a finite number, got {value!r}")
    if origin in (typing.Union, types.UnionType):
        return _as_first_that_fits(value, kind, key)
    if origin is tuple and isinstance(value, (list, tuple)):
        return tuple(coerce(v, args[0], f"{key}[{i}]") for i, v in enumerate(value))
    if isinstance(origin, type) and issubclass(origin, Mapping) and isinstance(value, Mapping):
        return dict(value)
    if kind in SCALARS and not (isinstance(value, bool) and kind is not bool):
        found = SCALARS[kind](value, key)
        if found is not None or kind is type(None) is type(value):
            return found
    raise _misfit(value, kind, key)


def _as_first_that_fits(value: Any, kind: Any, key: str) -> Any:
    for member in typing.get_args(kind):
        try:
            return coerce(value, member, key)
        except ConfigError:
            continue
    raise _misfit(value, kind, key)


def _misfit(value: Any, kind: Any, key: str) -> ConfigError:
    return ConfigError(f"{key} must be {type_name(kind)}, got {value!r}{meant_boolean(value) if kind is bool else ''}")


def _as_float(value: Any, key: str) -> float | None:
    try:
        return float(value) if isinstance(value, (int, float)) else None
    except OverflowError:
        raise ConfigError(f"{key} must be a finite number, got one of {len(str(value))} digits") from None


def _as_int(value: Any, key: str) -> int | None:
    is_whole = isinstance(value, int) or (isinstance(value, float) and value.is_integer())  # 1e6 is how people write a million
    return int(value) if is_whole else None


# Type -> the value as that type, or None for what it does not take; only bool is given a bool.
SCALARS: dict[Any, Callable[[Any, str], Any]] = {
    type(None): lambda value, key: None,
    bool: lambda value, key: value if isinstance(value, bool) else None,
    float: _as_float,
    int: _as_int,
    str: lambda value, key: str(value) if isinstance(value, (str, int, float)) else None,
}


def meant_boolean(value: Any) -> str:
    """' (did you mean True?)' for a word that means yes or no elsewhere, else ''."""
    word = str(value).lower()
    return f" (did you mean {BOOLEAN_WORDS[word]}?)" if word in BOOLEAN_WORDS else ""


def type_name(kind: Any) -> str:
    """The annotation in words: 'int', 'float or null', 'true or false', 'list of str'."""
    args = typing.get_args(kind)
    if typing.get_origin(kind) in (typing.Union, types.UnionType):
        return " or ".join(type_name(a) for a in args)
    if typing.get_origin(kind) is tuple:
        return f"list of {type_name(args[0])}"
    if kind is bool:
        return "true or false"
    return "null" if kind is type(None) else getattr(kind, "__name__", str(kind)).replace("Mapping", "mapping")


def check_range(value: Any, spec: dataclasses.Field, key: str) -> None:
    """Raises ConfigError when a value lies outside its field's choices or range, or is an empty text; null is always inside."""
    choices = spec.metadata.get("choices")
    if choices and value not in choices:
        hint = (meant_boolean(value) if True in choices else "") or nearest(str(value), [str(c) for c in choices])
        raise ConfigError(f"{key} must be one of {', '.join(map(str, choices))}, got {value!r}{hint}")
    if isinstance(value, str) and not value.strip() and not spec.metadata.get("may_be_empty", True):
        raise ConfigError(f"{key} must not be empty")
    is_number = isinstance(value, (int, float)) and not isinstance(value, bool)
    if is_number and not is_within(value, spec.metadata):
        raise ConfigError(f"{key} must be {range_text(spec.metadata)}, got {value!r}")


LIMITS = {"low": (">=", ge), "above": (">", gt), "high": ("<=", le), "below": ("<", lt)}  # as `option` takes them


def is_within(value: float, limits: Mapping[str, Any]) -> bool:
    """Whether a number lies within a field's limits."""
    return all(holds(value, limits[name]) for name, (_, holds) in LIMITS.items() if limits.get(name) is not None)


def range_text(limits: Mapping[str, Any]) -> str:
    """A field's limits as they are written: 'in [0, 1)', '>= 0'; '' where there are none."""
    low, high, above, below = (limits.get(name) for name in ("low", "high", "above", "below"))
    first = f"[{low}" if low is not None else f"({above}" if above is not None else ""
    last = f"{high}]" if high is not None else f"{below})" if below is not None else ""
    if first and last:
        return f"in {first}, {last}"
    return next((f"{sign} {limits[name]}" for name, (sign, _) in LIMITS.items() if limits.get(name) is not None), "")


def from_mapping(cls: type, values: Mapping[str, Any], prefix: str = "") -> Any:
    """A frozen dataclass from nested plain values, with types, ranges and unknown keys checked.

    Keys of `optimizer` that are no field of OptimizerConfig become its `options`: the optimizer's class judges them.
    """
    if not isinstance(values, Mapping):
        raise ConfigError(f"{prefix.rstrip('.')} must be a mapping, got {values!r}")
    hints, fields = typing.get_type_hints(cls), {f.name: f for f in dataclasses.fields(cls)}
    given = dict(values)
    if "options" in fields:
        extra = {k: given.pop(k) for k in list(given) if k not in fields}
        given["options"] = {**given.get("options", {}), **extra}
    for key in given:
        if key not in fields:
            raise ConfigError(f"unknown key {prefix}{key}{nearest(key, fields)}")
    checked = {}
    for key, value in given.items():
        checked[key] = coerce(value, hints[key], prefix + key)
        check_range(checked[key], fields[key], prefix + key)
    return cls(**checked)


def to_mapping(config: Any) -> dict[str, Any]:
    """The config as nested plain values, `options` spread out: the inverse of `from_mapping`."""
    values: dict[str, Any] = {}
    for f in dataclasses.fields(config):
        value = getattr(config, f.name)
        if dataclasses.is_dataclass(value):
            values[f.name] = to_mapping(value)
        elif f.name == "options":
            values.update(plain(value))
        else:
            values[f.name] = plain(value)
    return values


@dataclass(frozen=True)
class Leaf:
    """One settable key of a dataclass tree: its annotated type and its field."""

    kind: Any
    field: dataclasses.Field

    @property
    def default(self) -> Any:
        """The field's default value."""
        made = self.field.default_factory
        return self.field.default if made is dataclasses.MISSING else made()

    @property
    def allowed(self) -> str:
        """Type, unit and range in words."""
        meta = self.field.metadata
        if meta.get("choices"):
            return " | ".join(map(str, meta["choices"]))
        is_closed = meta.get("high") is not None and meta.get("low") is not None
        limits = f"{meta['low']} to {meta['high']}" if is_closed else range_text(meta)
        return ", ".join(part for part in (type_name(self.kind), meta.get("unit"), limits) if part)


def leaves(cls: type, prefix: str = "") -> dict[str, Leaf]:
    """Every settable key of a config class, dotted, in the order of its fields; `options` is not one of them."""
    found: dict[str, Leaf] = {}
    hints = typing.get_type_hints(cls)
    for f in dataclasses.fields(cls):
        if dataclasses.is_dataclass(hints[f.name]):
            found |= leaves(hints[f.name], f"{prefix}{f.name}.")
        elif f.name != "options":
            found[prefix + f.name] = Leaf(hints[f.name], f)
    return found


def plain(value: Any) -> Any:
    """Mappings as dicts, tuples as lists, all the way down: what YAML and JSON hold."""
    if isinstance(value, Mapping):
        return {str(k): plain(v) for k, v in value.items()}
    return [plain(v) for v in value] if isinstance(value, (list, tuple)) else value
