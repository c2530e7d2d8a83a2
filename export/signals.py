"""SIGTERM and SIGHUP end a command as an exception does: what it has begun is removed on the way out."""

from __future__ import annotations

import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

INTERRUPTED = 128 + signal.SIGINT  # the exit code that a shell gives a command that Ctrl-C has ended
ENDING = ("SIGTERM", "SIGHUP")  # of which a system may lack some


@contextmanager
def ended_by_signals() -> Iterator[None]:
    """Raise `SystemExit` at such a signal, with the exit code that a shell gives: 143 or 129.

    A signal that is ignored, as under nohup, stays so; where this is not the main thread, nothing changes.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    known = [getattr(signal, name) for name in ENDING if hasattr(signal, name)]
    ours = [number for number in known if signal.getsignal(number) is signal.SIG_DFL]

    def end(number: int, _: FrameType | None) -> None:
        for each in ours:  # a second one would stop the tidying up
            signal.signal(each, signal.SIG_IGN)
        sys.exit(128 + number)

    for number in ours:
        signal.signal(number, end)
    try:
        yield
    finally:
        for number in ours:
            signal.signal(number, signal.SIG_DFL)
