"""Reasons to stop before the last iteration: Ctrl-C, SIGTERM, or the end of the time that a job has."""

from __future__ import annotations

import signal
import time
from types import FrameType

from .distributed import Ranks

EXIT_CODES = {signal.SIGINT: 130, signal.SIGTERM: 143}


class Stop:
    """Remembers a signal until the loop asks; nothing is saved inside a handler. A second signal acts at once."""

    def __init__(self, ranks: Ranks, max_hours: float = 0.0):
        self.ranks, self.deadline = ranks, time.monotonic() + max_hours * 3600 if max_hours else None
        self.signal: int | None = None
        self.reserve_s = 0.0  # what the last evaluation and save took: kept free before the deadline

    def __enter__(self) -> Stop:
        self.before = {number: signal.signal(number, self._remember) for number in EXIT_CODES}
        return self

    def __exit__(self, *exc: object) -> None:
        for number, handler in self.before.items():
            signal.signal(number, handler)

    def _remember(self, number: int, frame: FrameType | None) -> None:
        if self.signal is not None:
            raise KeyboardInterrupt
        self.signal = number

    def requested(self) -> bool:
        """Whether any rank was told to stop, or is out of time: the same answer on all ranks."""
        late = self.deadline is not None and time.monotonic() + 1.5 * self.reserve_s + 1.0 > self.deadline
        return self.ranks.any(self.signal is not None or late)

    @property
    def exit_code(self) -> int:
        """130 for Ctrl-C, 143 for SIGTERM, 0 when time was up."""
        return EXIT_CODES.get(signal.Signals(self.signal), 0) if self.signal is not None else 0

    @property
    def reason(self) -> str:
        """For the journal: the signal's name, or max_hours."""
        return signal.Signals(self.signal).name if self.signal is not None else "max_hours"
