"""A process that answers requests: it loads the artifact once, and several of them share decode steps."""

from __future__ import annotations

import os
import signal
import threading
import time
import traceback
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from multiprocessing.connection import Connection
from multiprocessing.reduction import recv_handle
from typing import BinaryIO

from ...evaluation.answers.workers import Job, end_with_parent
from ...profiles.errors import EngineError, FastAdaSPError
from ...runtime import Cancellation, SpeechLM
from ..models import Models
from .answering import Answering, AudioLimits
from .messages import Alive, Ask, Cancel, Facts, Failed, FromWorker, Ready, ToWorker, Unloadable

BEATS = 10  # in the time after which a worker that says nothing is ended


@dataclass(frozen=True)
class Plan:
    """What every worker does."""

    job: Job
    models: Models
    limits: AudioLimits
    hang_seconds: float  # after which a worker that says nothing is ended; in a cluster, others watch

    @property
    def max_batch(self) -> int:
        """Requests that a worker has under way at once."""
        return self.job.runtime.max_batch

    @property
    def beat_seconds(self) -> float:
        """Between two words of a worker that it goes on, and between two looks at it."""
        return self.hang_seconds / BEATS


def serve(pipe: Connection, plan: Plan) -> None:
    """Load the artifact and answer what comes, until None comes or the pipe ends."""
    end_with_parent()
    signal.signal(signal.SIGTERM, signal.SIG_IGN)  # a service manager tells all; the server ends the workers
    desk = Desk(pipe)
    try:
        model = plan.job.open()
        model.prepare(*plan.models.profiles)
        facts = _facts(model, plan)
    except FastAdaSPError as error:
        desk.send(Unloadable(error))
        return
    desk.send(Ready(facts))
    threading.Thread(target=_beat, args=(desk, plan.beat_seconds), daemon=True).start()
    answering = Answering(model, plan.limits, plan.max_batch, desk.send)
    with model, ThreadPoolExecutor(plan.max_batch, "answer") as threads:
        _serve(desk, answering, threads)


def _beat(desk: Desk, seconds: float) -> None:
    """Say now and then that this process goes on; what holds it as a whole holds this, too."""
    while True:
        time.sleep(seconds)
        desk.send(Alive())


def _facts(model: SpeechLM, plan: Plan) -> Facts:
    seconds = plan.limits.whole_of(model)
    return Facts(model.device, seconds, model.request_memory(seconds).peak)


def _serve(desk: Desk, answering: Answering, threads: ThreadPoolExecutor) -> None:
    under_way: dict[int, Cancellation] = {}
    while (message := desk.receive()) is not None:
        if isinstance(message, Cancel):
            if cancellation := under_way.get(message.number):
                cancellation.cancel()
            continue
        under_way[message.number] = cancellation = Cancellation()
        source = message.audio if message.audio is not None else desk.receive_file()
        future = threads.submit(answering.answer, message, source, cancellation)
        future.add_done_callback(_ending(message, desk, under_way))
    for cancellation in tuple(under_way.values()):
        cancellation.cancel()


def _ending(ask: Ask, desk: Desk, under_way: dict[int, Cancellation]) -> Callable[[Future[None]], None]:
    """What follows an answer. A fault of the program is told of, and ends no other request."""

    def end(future: Future[None]) -> None:
        del under_way[ask.number]
        if error := future.exception():
            traceback.print_exception(error)
            desk.send(Failed(ask.number, EngineError("the program has failed; its log says where")))

    return end


class Desk:
    """The pipe to the server, which several threads share."""

    def __init__(self, pipe: Connection) -> None:
        self._pipe, self._out = pipe, threading.Lock()

    def receive(self) -> ToWorker:
        """The next message; None where the server has gone, too."""
        try:
            message: ToWorker = self._pipe.recv()
        except (EOFError, OSError):
            return None
        return message

    def receive_file(self) -> BinaryIO:
        """The file that follows a message, from its beginning."""
        file = os.fdopen(recv_handle(self._pipe), "rb")
        file.seek(0)
        return file

    def send(self, message: FromWorker) -> None:
        """Tell the server; where it has gone, this process ends soon."""
        with self._out, suppress(OSError):
            self._pipe.send(message)
