"""A bar on the terminal while something is learned, which is gone afterwards."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager


@contextmanager
def no_bar(limit: int) -> Iterator[Callable[[], None]]:
    """Shows nothing: over pipes, and for the library."""
    yield lambda: None


@contextmanager
def bar(limit: int) -> Iterator[Callable[[], None]]:
    """A bar of at most `limit` steps on stderr; each call of what it gives is a step. A lesson may end long before its limit."""
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn

    columns = TextColumn("learning"), BarColumn(), MofNCompleteColumn(), TextColumn("steps at most")
    with Progress(*columns, console=Console(stderr=True), transient=True) as shown:
        task = shown.add_task("learning", total=limit)
        yield lambda: shown.advance(task)
