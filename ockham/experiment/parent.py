"""A job ends with the process that started it, also where that one was killed and could tell nobody."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Mapping

STARTED_BY = "OCKHAM_STARTED_BY"  # in a job's environment: the process that waits for it
PR_SET_PDEATHSIG = 1  # linux/prctl.h


def environment() -> Mapping[str, str]:
    """This process's environment, for a job that is to end with it."""
    return os.environ | {STARTED_BY: str(os.getpid())}


def end_with_parent() -> None:
    """Have Linux send this process SIGTERM, upon which training saves and ends, when the one that started it as a job has died.

    Said by the job of itself, as what runs between fork and exec must not be Python in a process with threads. Other systems
    have nothing like it: there a job outlives a sweep that is killed with SIGKILL.
    """
    if os.environ.pop(STARTED_BY, "") != str(os.getppid()) or sys.platform != "linux":
        return
    import ctypes

    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGTERM, 0, 0, 0)
