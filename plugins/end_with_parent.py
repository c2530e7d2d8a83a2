"""A process that works for another one ends with it, however that ends."""

from __future__ import annotations

import ctypes
import os
import signal
import sys

SET_DEATH_SIGNAL = 1  # PR_SET_PDEATHSIG of Linux


def end_with_parent(parent: int) -> None:
    """Have the system kill this process as soon as its parent is gone; Linux alone can.

    Args:
        parent: the id of the process that started this one, which may have ended meanwhile.
    """
    if sys.platform != "linux":
        return
    ctypes.CDLL(None).prctl(SET_DEATH_SIGNAL, signal.SIGKILL, 0, 0, 0)
    if os.getppid() != parent:
        os._exit(1)


def own_id() -> str:
    """The id of this process as an argument for one that it starts, of the same length each time."""
    return f"{os.getpid():010}"
