"""Whether regular expressions of the user's own end in good time.

Python's `re` has no time limit, and nested quantifiers, as in (a+)+b, can take for ever on a few dozen characters. So each is
tried once, where it is given, on texts that such expressions choke on, in a process that can be ended. It is no proof: one that
only chokes on other texts is not found.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Mapping

from ..errors import ConfigError

SECONDS = 3.0  # for all together, the start of the process included; harmless expressions take milliseconds
LONGEST = 300  # characters, as the longest sentence that is searched
WORDS = ("word " * 60, "a" * LONGEST, "1" * LONGEST, "Ab " * 100, " " * LONGEST, "a-b, " * 60, "a b'c " * 50)
TRY = """
import json, re, sys
for key, expression, texts in json.load(sys.stdin):
    regex = re.compile(expression, re.IGNORECASE)
    for text in texts:
        regex.search(text)
    print(json.dumps(key), flush=True)
"""


def check_times(expressions: Mapping[str, str]) -> None:
    """Raises ConfigError naming, by its key, the one that is not done within SECONDS. What is no expression is left out."""
    tasks = [(key, expression, _texts(expression)) for key, expression in expressions.items() if _is_regex(expression)]
    if not tasks:
        return
    command = [sys.executable, "-I", "-S", "-c", TRY]
    try:
        subprocess.run(command, input=json.dumps(tasks), text=True, capture_output=True, timeout=SECONDS, check=False)
    except subprocess.TimeoutExpired as error:
        done = len((error.stdout or b"").splitlines())
        key, expression, _ = tasks[done]
        raise ConfigError(
            f"{key} takes for ever on some texts, got {expression!r}: take one repetition out of the other, as in (\\w+\\s?)+"
        ) from None


def _texts(expression: str) -> list[str]:
    """Hostile texts: repetitions of words and letters, the expression's own among them, with an end that does not match."""
    letters = dict.fromkeys(re.findall(r"(?<!\\)[A-Za-z0-9]", expression)[:20])
    return [f"{text[:LONGEST]}{end}" for text in (*WORDS, *(letter * 60 for letter in letters)) for end in ("", "!", "\n~")]


def _is_regex(expression: str) -> bool:
    try:
        re.compile(expression, re.IGNORECASE)
    except (re.error, OverflowError, RecursionError, TypeError):
        return False
    return True
