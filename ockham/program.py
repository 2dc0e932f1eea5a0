"""A program's outer shell: whatever it raises becomes one line on stderr and an exit code."""

from __future__ import annotations

import os
import re
import sys
import traceback
from collections.abc import Callable, Iterable

from .errors import ConfigError, OckhamError, UsageError

INTERRUPTED = 130
BROKEN_PIPE = 141  # as the shell says of a program that SIGPIPE ended


def run_program(main: Callable[[], int | None], debug: bool) -> int:
    """Call `main` and turn whatever it raises into one line on stderr (with `debug` the traceback too) and an exit code.

    A reader that goes away (`| head`) ends the program without a word.
    """
    try:
        code = _guarded(main, debug)
        sys.stdout.flush()  # here, where a reader that went away can still be dealt with
        return code
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # else Python's own last flush complains
        return BROKEN_PIPE


def _guarded(main: Callable[[], int | None], debug: bool) -> int:
    try:
        return main() or 0
    except BrokenPipeError:
        raise
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return INTERRUPTED
    except SystemExit as stop:
        return stop.code if isinstance(stop.code, int) else 0 if stop.code is None else 1
    except Exception as error:
        if debug:
            traceback.print_exc()
        message, code = story_of(error)
        if not (isinstance(error, UsageError) and os.environ.get("RANK", "0") != "0"):  # every rank would say the same
            print(f"error: {message}", file=sys.stderr)
        return code


def story_of(error: Exception) -> tuple[str, int]:
    """An error in one line, and its exit code."""
    if isinstance(error, OckhamError):
        return one_line(str(error)), error.exit_code
    if type(error).__module__.split(".")[0] in ("hydra", "omegaconf", "antlr4"):
        text = re.sub(r"\s*See https://hydra\.cc\S*( for details)?", "", str(error))
        return one_line(text), UsageError.exit_code
    if isinstance(error, OSError):
        path = f": {error.filename}" if error.filename else ""
        return one_line(f"{error.strerror or error}{path}"), 1
    return one_line(f"{type(error).__name__}: {error} (--debug=True shows where)"), 1


def told(error: Exception) -> tuple[str, type[Exception]]:
    """An error's message, and the class of our own that has its exit code."""
    message, code = story_of(error)
    return message, type(error) if isinstance(error, OckhamError) else ConfigError if code == 2 else OckhamError


def one_line(text: str) -> str:
    """Text with its line breaks turned into spaces."""
    return " ".join(text.split())


def wants_debug(argv: Iterable[str]) -> bool:
    """Whether argv asks for tracebacks; needed before it can be read in full."""
    return any(re.fullmatch(r"--debug|(--)?debug=(true|1)", arg, re.IGNORECASE) for arg in argv)
