"""A replica of the model: it has the artifact loaded, and requests under way share its decode steps."""

from __future__ import annotations

import asyncio
import time
import traceback
from collections.abc import AsyncGenerator
from concurrent.futures import Future, ThreadPoolExecutor

from ...profiles.errors import EngineError
from ...runtime import Cancellation
from ..pool.answering import Answering
from ..pool.messages import Ask, Asked, Ended, Event, Failed
from ..pool.worker import Plan


class Speech:
    """What Ray Serve makes a deployment of; all but the answering is of one event loop."""

    def __init__(self, plan: Plan) -> None:
        """Load the artifact, and the prefill graph of each profile.

        Raises:
            FastAdaSPError: it cannot be loaded; Serve tells, and tries again.
        """
        self._plan = plan
        self._model = plan.job.open()
        self._model.prepare(*plan.models.profiles)
        self._threads = ThreadPoolExecutor(plan.max_batch, "answer")

    async def answer(
        self, number: int, asked: Asked, audio: bytes, seconds: float
    ) -> AsyncGenerator[Event, None]:
        """What becomes of a request, up to `Ended` or `Failed`. When this is closed, the request ends.

        It has so many `seconds` from now on: the clocks of two machines tell nothing of each other.
        """
        ask = Ask(number, asked, time.monotonic() + seconds, audio)
        loop, events, cancellation = asyncio.get_running_loop(), asyncio.Queue[Event](), Cancellation()

        def tell(event: Event) -> None:
            loop.call_soon_threadsafe(events.put_nowait, event)

        def failed(answered: Future[None]) -> None:
            if not answered.cancelled() and (error := answered.exception()):
                traceback.print_exception(error)
                tell(Failed(ask.number, EngineError("the program has failed; its log says where")))

        plan = self._plan
        answering = Answering(self._model, plan.limits, plan.max_batch, tell)
        self._threads.submit(answering.answer, ask, audio, cancellation).add_done_callback(failed)
        try:
            while True:
                event = await events.get()
                yield event
                if isinstance(event, Ended | Failed):
                    return
        finally:
            cancellation.cancel()
