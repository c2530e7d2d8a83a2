"""Keep a C library from writing to stderr while it decodes, and leave everybody else's stderr alone."""

from __future__ import annotations

import ctypes
import platform
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache


@cache
def _streams() -> tuple[ctypes.c_void_p, int, int] | None:
    """glibc's variable `stderr`, its value, and a stream that leads nowhere; None with another C library."""
    if platform.libc_ver()[0] != "glibc":
        return None
    library = ctypes.CDLL(None)
    library.fopen.restype = ctypes.c_void_p
    nowhere = library.fopen(b"/dev/null", b"w")
    variable = ctypes.c_void_p.in_dll(library, "stderr")
    return (variable, variable.value, nowhere) if variable.value and nowhere else None


_lock = threading.Lock()
_inside = 0


@contextmanager
def quiet() -> Iterator[None]:
    """What C code writes to its `stderr` meanwhile is lost, in all threads.

    Only the variable changes: file descriptor 2, through which Python and C++ write, stays as it is.
    """
    global _inside
    streams = _streams()
    if streams is None:
        yield
        return
    variable, loud, nowhere = streams
    with _lock:
        _inside += 1
        variable.value = nowhere
    try:
        yield
    finally:
        with _lock:
            _inside -= 1
            if not _inside:
                variable.value = loud
