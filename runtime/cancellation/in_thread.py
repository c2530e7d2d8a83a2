"""A request as a coroutine: it runs in a thread of the event loop's pool, and ends with its task."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from contextlib import suppress
from contextvars import copy_context
from typing import TypeVar

from .cancellation import Cancellation

Answer = TypeVar("Answer")


async def in_thread(call: Callable[[], Answer], cancellation: Cancellation) -> Answer:
    """What a call returns or raises. If the task is cancelled, so is the call, and its end is waited for.

    Only a call that has not begun yet, because all threads of the pool are taken, is not waited for: it
    ends before its first stage. `cancellation` is the call's own.
    """
    began = threading.Event()

    def begin() -> Answer:
        began.set()
        return call()

    found = asyncio.get_running_loop().run_in_executor(None, copy_context().run, begin)
    try:
        return await asyncio.shield(found)
    except asyncio.CancelledError:
        cancellation.cancel()
        if not began.is_set():
            found.cancel()
        while not found.done():
            with suppress(asyncio.CancelledError):  # the task ends with the first one in any case
                await asyncio.wait([found])
        raise
