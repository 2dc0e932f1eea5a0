"""One argument at a time: `--key=text` and `key=value` as Hydra overrides, and overrides as values.

With dashes, what is typed is one value, typed by its key and quoted for Hydra. Without, it is in Hydra's own grammar.
"""

from __future__ import annotations

import ast
import re
import types
import typing
from collections.abc import Mapping
from typing import Any

from ..errors import ConfigError
from .files import parse_yaml
from .keys import FOLDERS, LEAVES, check_policy, choice_name, is_known, real_key, unknown
from .layers import escaped

COMMAND_LINE = "command line"
WORDS = {"true": True, "false": False, "none": None, "null": None}
# A Python string literal in one piece, without line breaks or escapes that would not be one.
QUOTED = re.compile(r"""'(?:[^'\\\n]|\\['\\n"t])*'|"(?:[^"\\\n]|\\['\\n"t])*\"""")


def dashed(key: str, text: str | None, following: list[str]) -> str:
    """`--key=text` as one Hydra override: one value, typed by its key, quoted; a bare `--key` is True.

    `following` are the arguments after it, for the error's sake. Raises ConfigError with the fix.
    """
    if not is_known(key):
        raise unknown(key, COMMAND_LINE)
    kind = str if key in FOLDERS else bool if key == "decay_lr" else kind_of(key)
    if text is None:
        if bool not in members(kind):
            example = following[0] if following and not following[0].startswith("-") else "VALUE"
            raise ConfigError(f"--{key} needs a value: write --{key}={example}")
        text = "True"
    takes_commas = kind is Any or str in members(kind) or typing.get_origin(kind) is tuple
    if "," in text and (not takes_commas or key in (*FOLDERS, "preset")):
        raise ConfigError(f"--{key}={text}: with dashes a value is one value; a sweep is written -m {key}={text}")
    value = parse_value(text, kind)
    check_choice(key, value)
    return f"{'' if key in FOLDERS else '++'}{key}={in_hydra(value)}"


def undashed(arg: str, is_multirun: bool) -> str:
    """`key=value` as it is given to Hydra: groups stay, keys become `++key`, so that our own checks judge them."""
    key = arg.partition("=")[0].lstrip("+")
    if key.startswith(("hydra.", "hydra/")):
        return arg
    if key.startswith("~"):
        raise ConfigError(f"{arg}: nothing can be taken out of the config; write {key[1:]}=null or choose another value")
    if not is_known(key):
        raise unknown(key, COMMAND_LINE)
    override = f"{'' if key in FOLDERS else '++'}{arg.lstrip('+')}"
    if parse_override(override).is_sweep_override() and not is_multirun:
        text = arg.partition("=")[2]
        fix = f"; as one value: --{key}={text}" if str in members(kind_of(key)) else ""
        raise ConfigError(f"{arg} is a sweep: add -m for one run each{fix}; a list is written {key}=[{text}]")
    if key in FOLDERS:
        for choice in choices_of(parse_override(override).value()):
            check_choice(key, choice)
    return override


def check_choice(key: str, value: Any) -> None:
    """Raises ConfigError for a member that its group does not have, before Hydra looks for it; other keys pass."""
    if key == "policy":
        check_policy(value, COMMAND_LINE)
    elif key in FOLDERS:
        choice_name(key, value, COMMAND_LINE)


def choices_of(value: Any) -> list[Any]:
    """The values that an override stands for, where it lists them: one, those of a choice sweep, none for other sweeps."""
    from hydra.core.override_parser.types import ChoiceSweep, Glob, QuotedString, Sweep

    if isinstance(value, (Sweep, Glob)):
        listed = value.list if isinstance(value, ChoiceSweep) else []
        return [element.text if isinstance(element, QuotedString) else element for element in listed]
    return [value]


def kind_of(key: str) -> Any:
    """The annotated type of a written key; Any where only the optimizer or a plugin knows it."""
    real, index = real_key(key)
    if index is not None:
        return float
    return LEAVES[real].kind if real in LEAVES else Any


def members(kind: Any) -> tuple[Any, ...]:
    """The types of a union, or the type itself."""
    is_union = typing.get_origin(kind) in (typing.Union, types.UnionType)
    return typing.get_args(kind) if is_union else (kind,)


def parse_value(text: str, kind: Any) -> Any:
    """The value that was typed, for a key of this type: a Python or YAML literal, else the text itself.

    A key that takes text takes it as it is, but for one pair of quotes around all of it.
    """
    kinds = members(kind)
    if QUOTED.fullmatch(text):
        return ast.literal_eval(text)
    if text.lower() in WORDS:
        word = WORDS[text.lower()]
        if str not in kinds or type(word) in kinds:
            return word
    if str in kinds:
        return text
    try:
        literal = ast.literal_eval(text.strip())
    except (ValueError, SyntaxError, MemoryError, RecursionError):
        return parse_yaml(text, COMMAND_LINE) if text.startswith(("[", "{")) else text
    return list(literal) if isinstance(literal, tuple) else literal


def in_hydra(value: Any) -> str:
    """A plain value in Hydra's grammar: strings quoted, with `${` kept from being an interpolation."""
    from hydra.core.override_parser.types import Quote, QuotedString

    if isinstance(value, Mapping):
        return "{" + ",".join(f"{in_hydra(str(k))}:{in_hydra(v)}" for k, v in value.items()) + "}"
    if isinstance(value, (list, tuple)):
        return "[" + ",".join(map(in_hydra, value)) + "]"
    if isinstance(value, str):
        return QuotedString(escaped(value), Quote.single).with_quotes()
    return {True: "true", False: "false", None: "null"}[value] if value is None or isinstance(value, bool) else repr(value)


def as_typed(override: str) -> str:
    """An override as a person types it, `--key=value`, in quotes only where those are needed; it is read as the same value.

    What dashes cannot say, such as a reference to another key, stays in Hydra's grammar.
    """
    said = parse_override(override)
    value = typed_text(said)
    for text in spellings(value):
        try:
            again = parse_override(dashed(said.key_or_group, text, []))
        except ConfigError:
            continue
        if repr(typed_text(again)) == repr(value):
            return f"--{said.key_or_group}={text}"
    return override.lstrip("+")


def spellings(value: Any) -> list[str]:
    """Ways to type a plain value, the plainest first."""
    return [value, repr(value)] if isinstance(value, str) else [repr(value), in_hydra(value)]


def parse_override(override: str) -> Any:
    """One override, read by Hydra's parser. Raises ConfigError with the way to write any text at all."""
    from hydra.core.override_parser.overrides_parser import OverridesParser
    from hydra.errors import HydraException

    try:
        return OverridesParser.create().parse_override(override)
    except HydraException as error:
        typed = override.lstrip("+")
        raise ConfigError(
            f"{typed} is not of Hydra's grammar ({error}); with dashes a value may hold anything: --{typed}"
        ) from error


def typed_text(override: Any) -> Any:
    """An override's value; for a key that takes text, a number or word as it was typed."""
    value, kinds = override.value(), members(kind_of(override.key_or_group))
    takes_text = str in kinds and bool not in kinds and not (value is None and type(None) in kinds)
    if takes_text and not isinstance(value, (str, list, dict)):
        return override.input_line.partition("=")[2].strip()
    return value
