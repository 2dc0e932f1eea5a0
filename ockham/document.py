"""Document: one YAML file as plain data, strictly read, with the line of every value.

No anchors, aliases or tags, at most 64 KiB and 16 levels, numbers of at most 100 characters, and no character that a terminal
would act on. Every error names file, line, what was given and what is allowed.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NoReturn

import yaml

from .errors import PresetError, nearest
from .plugins import Param, ParameterError

MAX_BYTES = 64 * 1024
MAX_DEPTH = 16  # nested collections; a preset needs five
MAX_DIGITS = 100  # characters of a number; Python refuses integers of more than 4300 digits in words of its own
NUMBERS = ("tag:yaml.org,2002:int", "tag:yaml.org,2002:float")
# A number that YAML 1.1 takes for text, such as 1e-3. Each text matches in one way at most, so a long one takes no long time.
BARE_NUMBER = re.compile(r"[-+]?(\d+(\.\d*)?|\.\d+)[eE][-+]?\d+")
# Part of what PyYAML says -> what to do about it.
FIXES = {
    "'\\t'": "indent with spaces, not with a tab",
    "<block end>": "lines of one list or mapping must start in the same column",
    "mapping values are not allowed here": "the line above is incomplete, or this one is indented too far",
    "could not find expected ':'": "write `key: value`, with a colon and a space",
    "expected ',' or": "a bracket [ or { is not closed, or a comma is missing",
}


def shown(path: Path) -> str:
    """The path relative to the working directory where it lies inside, else in full."""
    full, here = path.absolute(), Path.cwd()
    return str(full.relative_to(here)) if full.is_relative_to(here) else str(full)


def unprintable(text: str, also: str = "") -> str:
    """The first character of the text that is neither seen nor a space, '' where there is none; those in `also` are let pass.

    Terminals act on such characters: escapes clear the screen, marks of direction turn a line round.
    """
    return next((c for c in text if not (c.isprintable() or c in also or unicodedata.category(c) == "Zs")), "")


class StrictLoader(yaml.SafeLoader):
    """SafeLoader that composes plain data only: no anchors, aliases or explicit tags, and little nesting."""

    depth = 0

    def compose_node(self, parent: Any, index: Any) -> Any:
        event = self.peek_event()
        refused = ""
        if isinstance(event, yaml.AliasEvent) or event.anchor is not None:
            refused = "anchors and aliases (& and *) are not allowed; write the value out"
        elif event.tag is not None:
            refused = f"tags are not allowed, got {event.tag}; write the plain value"
        elif self.depth >= MAX_DEPTH:
            refused = f"nested deeper than {MAX_DEPTH} levels"
        if refused:
            raise yaml.composer.ComposerError(None, None, refused, event.start_mark)
        self.depth += 1
        node = super().compose_node(parent, index)
        self.depth -= 1
        return node


class Document:
    """One YAML file as plain values, with the line of each."""

    def __init__(self, path: Path, raw: bytes | None = None) -> None:
        """`raw`: the bytes, where they do not come from the file at `path`. Raises PresetError."""
        self.path = path
        self.lines: dict[tuple[Any, ...], int] = {(): 1}  # of a value's key, or of the value where it has none
        self.starts: dict[tuple[Any, ...], int] = {}  # of the value itself
        self.raw = self._read() if raw is None else self._capped(raw)
        try:
            self._loader = StrictLoader(self.raw.decode("utf-8-sig"))
            node = self._loader.get_single_node()
            self.content = {} if node is None else self._plain(node, ())
        except UnicodeDecodeError as error:
            line, byte = self.raw[: error.start].count(b"\n") + 1, self.raw[error.start]
            raise PresetError(f"not UTF-8: byte {byte:#04x}; save the file as UTF-8 ({shown(path)}:{line})") from error
        except yaml.reader.ReaderError as error:
            line = self.raw.decode("utf-8-sig")[: error.position].count("\n") + 1
            raise self._unprintable("a preset is plain text", chr(error.character), line) from error
        except (yaml.YAMLError, ValueError) as error:
            raise self._syntax_error(error) from error

    def _read(self) -> bytes:
        try:
            with open(self.path, "rb") as file:
                raw = file.read(MAX_BYTES + 1)
        except OSError as error:
            raise PresetError(f"cannot read preset {shown(self.path)}: {error.strerror}") from error
        return self._capped(raw)

    def _capped(self, raw: bytes) -> bytes:
        if len(raw) > MAX_BYTES:
            raise PresetError(f"preset {shown(self.path)} is larger than {MAX_BYTES} bytes, the most a preset may have")
        return raw

    def _syntax_error(self, error: Exception) -> PresetError:
        mark = getattr(error, "problem_mark", None)
        if "expected ':'" in str(getattr(error, "problem", "")):
            mark = getattr(error, "context_mark", None) or mark  # where the key without a colon began
        line = f":{mark.line + 1}" if mark else ""
        problem = getattr(error, "problem", None) or str(error).splitlines()[0]
        fix = next((f"; {fix}" for part, fix in FIXES.items() if part in problem), "")
        return PresetError(f"not a readable preset: {problem}{fix} ({shown(self.path)}{line})")

    def _plain(self, node: yaml.Node, at: tuple[Any, ...]) -> Any:
        self.lines.setdefault(at, node.start_mark.line + 1)
        self.starts[at] = node.start_mark.line + 1
        if isinstance(node, yaml.MappingNode):
            return self._plain_mapping(node, at)
        if isinstance(node, yaml.SequenceNode):
            return [self._plain(item, (*at, i)) for i, item in enumerate(node.value)]
        return self._plain_scalar(node)

    def _plain_scalar(self, node: yaml.Node) -> Any:
        line = node.start_mark.line + 1
        if refused := unprintable(node.value, also="\n\t"):
            raise self._unprintable("a text must be printable", refused, line)
        is_bare = isinstance(node, yaml.ScalarNode) and node.style is None and BARE_NUMBER.fullmatch(node.value)
        if (is_bare or node.tag in NUMBERS) and len(node.value) > MAX_DIGITS:
            got = f"got {len(node.value)}, {node.value[:12]}..."
            raise PresetError(f"a number may have at most {MAX_DIGITS} characters, {got} ({shown(self.path)}:{line})")
        try:
            return float(node.value) if is_bare else self._loader.construct_object(node)
        except ValueError as error:  # a date that the calendar has not
            raise PresetError(f"not a readable preset: {error}, got {node.value!r} ({shown(self.path)}:{line})") from error

    def _unprintable(self, rule: str, got: str, line: int) -> PresetError:
        return PresetError(f"{rule}, got the character {got!r}; take it out ({shown(self.path)}:{line})")

    def _plain_mapping(self, node: yaml.MappingNode, at: tuple[Any, ...]) -> dict[str, Any]:
        values: dict[str, Any] = {}
        for key_node, value_node in node.value:
            key = key_node.value
            line = key_node.start_mark.line + 1
            if not isinstance(key, str):
                raise PresetError(f"a key must be a word, got a collection ({shown(self.path)}:{line})")
            if refused := unprintable(key):
                raise self._unprintable("a key must be printable and on one line", refused, line)
            if key in values:
                raise PresetError(f"{key!r} is given twice, first on line {self.lines[*at, key]} ({shown(self.path)}:{line})")
            self.lines[*at, key] = line
            values[key] = self._plain(value_node, (*at, key))
        return values

    def at(self, path: tuple[Any, ...]) -> Any:
        """The value at `path`, None where the file has none."""
        value = self.content
        for key in path:
            value = value.get(key) if isinstance(value, dict) else value[key]
        return value

    def mapping(
        self,
        path: tuple[Any, ...],
        allowed: Sequence[str] | None,
        what: str,
        elsewhere: Callable[[str], str] = lambda key: "",
    ) -> dict[str, Any]:
        """The mapping at `path`, all of its keys among `allowed`; `elsewhere` says of a wrong key where it belongs, or ''."""
        value = self.at(path)
        where = path[-1] if path and isinstance(path[-1], str) else "a plugin" if path else "a preset"
        if not isinstance(value, dict):
            if hint := _unspaced(value):
                self.lines[path] = self.starts[path]
            self.fail(path, f"{where} must be a mapping of keys to values, got {value!r}{hint}")
        for key in value:
            if allowed is not None and key not in allowed:
                hint = elsewhere(key) or nearest(key, allowed)
                self.fail((*path, key), f"unknown {what} {key!r}{hint}; allowed: {', '.join(allowed)}")
        return value

    def values(self, path: tuple[Any, ...], params: Sequence[Param], meant: Mapping[str, str] | None = None) -> dict[str, Any]:
        """The mapping at `path`, each value checked by its Param; {} where it is missing. `meant`: wrong key -> the right one."""
        if self.at(path) is None:
            return {}
        known = {p.name: p for p in params}
        hints = {wrong: f" (did you mean {right}?)" for wrong, right in (meant or {}).items()}
        given = self.mapping(path, list(known), f"{path[-1]} key", lambda key: hints.get(key, ""))
        checked = {}
        for key, value in given.items():
            try:
                checked[key] = known[key].check(value, str(path[-1]))
            except ParameterError as error:
                self.fail((*path, *error.path), str(error))
        return checked

    def one_line(self, path: tuple[Any, ...], what: str) -> None:
        """Fails for a text at `path` that goes over several lines; what is no text, or not there, is let pass."""
        value = self.at(path)
        if isinstance(value, str) and (refused := unprintable(value)):
            self.fail(path, f"{what} must be on one line, got the character {refused!r} in {value[:60]!r}")

    def fail(self, path: tuple[Any, ...], message: str) -> NoReturn:
        """Raises PresetError with the file and the line of `path`, or of what holds it."""
        raise PresetError(f"{message} ({self.where(path)})")

    def where(self, path: tuple[Any, ...]) -> str:
        """'FILE:LINE' of `path`, or of what holds it."""
        while path not in self.lines:
            path = path[:-1]
        return f"{shown(self.path)}:{self.lines[path]}"


def _unspaced(value: Any) -> str:
    """A hint for `key:value` without the space, which YAML takes for text."""
    match = re.match(r"(\w+):(\S+)", value) if isinstance(value, str) else None
    return f" (did you mean `{match[1]}: {match[2]}`? a space belongs after ':')" if match else ""
