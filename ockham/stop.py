"""Reasons to stop before the last iteration: Ctrl-C, SIGTERM, a lost terminal, or the end of the time that a job has."""

from __future__ import annotations

import signal
import time
from types import FrameType

from .distributed import Ranks

EXIT_CODES = {signal.SIGINT: 130, signal.SIGTERM: 143}
if hasattr(signal, "SIGHUP"):  # a lost terminal; Windows has none
    EXIT_CODES[signal.SIGHUP] = 129


class Stop:
    """Remembers a signal until the loop asks; nothing is saved inside a handler. A second signal acts at once.

    Of `max_hours`, counted from when this object is made, it keeps free what one more iteration, evaluation and save will
    take, by those so far; before there were any, a twentieth.
    """

    def __init__(self, ranks: Ranks, max_hours: float = 0.0):
        self.ranks, self.limit_s, self.began = ranks, max_hours * 3600, time.monotonic()
        self.signal: int | None = None
        self.verdict = ""  # a plugin's reason
        self.save_s: float | None = None  # the last evaluation and save
        self.step_s = 0.0  # the slowest of the late iterations

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

    def is_signalled(self) -> bool:
        """Whether this rank got a signal."""
        return self.signal is not None

    def saw_step(self, seconds: float) -> None:
        """Hear what an iteration took."""
        self.step_s = max(seconds, 0.95 * self.step_s)

    def because(self, reason: str) -> None:
        """A plugin asks for the end of the run, on all ranks alike."""
        self.verdict = reason

    def requested(self) -> bool:
        """Whether any rank was told to stop, or is out of time, or a plugin asked for it: the same answer on all ranks."""
        reserve = 1.5 * (self.step_s + (self.limit_s / 20 if self.save_s is None else self.save_s))
        is_late = bool(self.limit_s) and time.monotonic() - self.began + reserve > self.limit_s
        return self.ranks.any(is_late or self.is_signalled() or bool(self.verdict))

    def told(self) -> bool:
        """Whether any rank was told to stop by somebody: a run that is over needs no more time."""
        return self.ranks.any(self.is_signalled() or bool(self.verdict))

    @property
    def exit_code(self) -> int:
        """130 for Ctrl-C, 143 for SIGTERM, 1 for a plugin's verdict, 0 when time was up."""
        if self.signal is not None:
            return EXIT_CODES.get(signal.Signals(self.signal), 0)
        return 1 if self.verdict else 0

    @property
    def reason(self) -> str:
        """For the journal: the signal's name, a plugin's reason, or max_hours."""
        return signal.Signals(self.signal).name if self.signal is not None else self.verdict or "max_hours"
