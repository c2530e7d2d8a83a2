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

    def cancel() -> None:
        cancellation.cancel()
        if not began.is_set():
            found.cancel()

    found = asyncio.get_running_loop().run_in_executor(None, copy_context().run, begin)
    return await ending_with_task(found, cancel)


async def ending_with_task(found: asyncio.Future[Answer], cancel: Callable[[], None]) -> Answer:
    """What a future gives. If the task is cancelled, `cancel` is called, and the future's end waited for."""
    try:
        return await asyncio.shield(found)
    except asyncio.CancelledError:
        cancel()
        while not found.done():
            with suppress(asyncio.CancelledError):  # the task ends with the first one in any case
                await asyncio.wait([found])
        raise
