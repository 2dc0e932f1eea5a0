"""The command lines of `ockham` and of every prepare.py: argparse, with errors of one line that name what is near."""

from __future__ import annotations

import argparse
import re
import sys
from collections.abc import Iterable, Sequence
from typing import Any, NoReturn

from .errors import UsageError, nearest

DEBUG = re.compile(r"--debug(=(true|false))?", re.IGNORECASE)
CHOICE = re.compile(r"argument (?P<what>.+?): invalid choice: (?P<got>.+?) \(choose from (?P<known>.+)\)", re.DOTALL)


class Parser(argparse.ArgumentParser):
    """An ArgumentParser whose errors are UsageErrors of one line. With `takes_rest` unknown arguments are left to the caller."""

    def __init__(self, *args: Any, takes_rest: bool = False, **kwargs: Any) -> None:
        super().__init__(*args, **{"allow_abbrev": False, **kwargs})
        self.takes_rest = takes_rest

    def parse_args(self, args: Sequence[str] | None = None, namespace: Any = None) -> Any:  # type: ignore[override]
        """The arguments. Raises UsageError."""
        options, rest = self.parse_known_args(args, namespace)
        self.refuse(rest)
        return options

    def parse_known_args(self, args: Sequence[str] | None = None, namespace: Any = None) -> Any:  # type: ignore[override]
        """The arguments and what is left over. An unknown flag is told first: a mistyped one must not count as missing."""
        given = sys.argv[1:] if args is None else list(args)
        if not self.takes_rest:
            self.refuse(arg for arg in self._own(given) if re.match(r"--?[^\W\d]", arg) and not self._knows(arg))
        return super().parse_known_args(given, namespace)

    def refuse(self, rest: Iterable[str]) -> None:
        """Raises UsageError for the first argument that nobody has taken."""
        for arg in rest:
            name = arg.partition("=")[0]
            if arg.startswith("-"):
                self.error(f"unknown option {name}{nearest(name, self._option_string_actions)}")
            self.error(f"unexpected argument {arg!r}")

    def error(self, message: str) -> NoReturn:
        """Raises UsageError: argparse's message, near names added, and where help is."""
        choice = CHOICE.fullmatch(message)
        if choice:
            got, known = choice["got"].strip("'"), re.findall(r"[^\s',]+", choice["known"])
            message = f"{choice['what']} must be {one_of(known)}, got {got!r}{nearest(got, known)}"
        elif message.startswith("the following arguments are required: "):
            message = f"{message.partition(': ')[2]} must be given{self._verbs()}"
        else:
            message = message.removeprefix("argument ")
        raise UsageError(f"{message}; see {self.prog} --help")

    def _verbs(self) -> str:
        """' (train, report, …)', where verbs are what is missing."""
        found = [a for a in self._actions if isinstance(a, argparse._SubParsersAction)]
        return f" ({', '.join(found[0].choices)})" if found else ""

    def _own(self, given: list[str]) -> list[str]:
        """The arguments that are this parser's to judge: those before a verb, or before a lone `--`."""
        has_verbs = bool(self._verbs())
        end = next((i for i, arg in enumerate(given) if arg == "--" or (has_verbs and not arg.startswith("-"))), len(given))
        return given[:end]

    def _knows(self, arg: str) -> bool:
        flags = self._option_string_actions
        return arg.partition("=")[0] in flags or (not arg.startswith("--") and arg[:2] in flags)


def one_of(names: Sequence[str]) -> str:
    """'a, b or c'."""
    return " or ".join([", ".join(names[:-1]), names[-1]] if names[1:] else names)


def fraction(text: str) -> float:
    """A number between 0 and 1, both left out."""
    value = _number(text)
    if value is None or not 0 < value < 1:
        raise argparse.ArgumentTypeError(f"must be a number above 0 and below 1, got {text!r}")
    return value


def count(text: str) -> int:
    """A whole number, 0 or more; 1e6 is one, too."""
    value = _number(text)
    if value is None or value < 0 or value % 1:
        raise argparse.ArgumentTypeError(f"must be a whole number, 0 or more, got {text!r}")
    return int(value)


def boolean(text: str) -> bool:
    """True or False."""
    if text.lower() not in ("true", "false"):
        raise argparse.ArgumentTypeError(f"must be True or False, got {text!r}")
    return text.lower() == "true"


def _number(text: str) -> float | None:
    try:
        value = float(text)
    except ValueError:
        return None
    return value if abs(value) < float("inf") else None
