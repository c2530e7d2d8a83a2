"""A worker process and its pipe, as the event loop of the server sees them: nothing here waits for it."""

from __future__ import annotations

import errno
import threading
from collections.abc import Callable
from contextlib import suppress
from multiprocessing.reduction import send_handle
from queue import SimpleQueue
from typing import BinaryIO

from ...evaluation.answers.piped import PipedProcess
from .messages import Ask, Cancel, FromWorker
from .ticket import CLOCK, Ticket
from .worker import BEATS, Plan, serve

LOADS = 10  # a worker may take that often as long to load as others took, and the time of one that hangs

Outgoing = tuple[Ask | Cancel | None, BinaryIO | None]


class Link(PipedProcess):
    """A worker: what it is told waits in a queue, and what it says is handed on by a thread."""

    def __init__(self, plan: Plan, heard: Callable[[Link, FromWorker | None], None]) -> None:
        """Start a worker; `heard` is called in a thread with what it says, and with None when it is dead.

        Raises:
            OSError: there is no room for one more process, or for its threads here.
        """
        super().__init__(serve, plan)
        self.tickets: dict[int, Ticket] = {}
        self.is_ready = False
        self.has_said_why = False  # it cannot load the artifact
        self.begin = CLOCK()
        self.silent_looks = 0  # of the watch, in a row, since it has said anything
        self._hang_seconds = plan.hang_seconds
        self._heard, self._outgoing = heard, SimpleQueue[Outgoing]()
        work = (self._listen, self._talk)
        self._threads = [
            threading.Thread(target=each, name=f"worker-{self.pid}", daemon=True) for each in work
        ]
        try:
            for thread in self._threads:
                thread.start()
        except RuntimeError as error:  # the process is in no list yet: nobody else would end it
            self._threads = [thread for thread in self._threads if thread.ident]
            self.end()
            raise OSError(errno.EAGAIN, str(error)) from None

    def ask(self, ticket: Ticket) -> None:
        """Hand over a request."""
        audio = ticket.take_audio()
        self.tickets[ticket.number] = ticket
        content, file = (audio, None) if isinstance(audio, bytes) else (None, audio)
        self._outgoing.put((Ask(ticket.number, ticket.asked, ticket.until, content), file))

    def cancel(self, ticket: Ticket) -> None:
        """Tell it that an answer is not wanted any more."""
        self._outgoing.put((Cancel(ticket.number), None))

    def dismiss(self) -> None:
        """Tell it that there is no more to do."""
        self._outgoing.put((None, None))

    def end(self) -> None:
        """End it now; files that it was to get are closed."""
        self.kill()
        self.dismiss()
        for thread in self._threads:
            thread.join()
        self.pipe.close()

    def look(self, load_seconds: float) -> str | None:
        """How it hangs, in words, as a look every `beat_seconds` finds; None: it does not.

        Silent looks are counted, so that it is not blamed for a pause of the whole machine. One that still
        loads the artifact, which took others up to `load_seconds`, says nothing before it has.
        """
        self.silent_looks += 1
        if not self.is_ready:
            patience = LOADS * load_seconds + self._hang_seconds
            is_late = self.silent_looks > BEATS * patience / self._hang_seconds
            return f"has not loaded the artifact in {patience:.0f} s" if is_late else None
        if self.silent_looks > BEATS:
            return f"has said nothing for {self._hang_seconds:g} s"
        if any(CLOCK() > ticket.until + self._hang_seconds for ticket in self.tickets.values()):
            return f"has kept a request for {self._hang_seconds:g} s beyond its deadline"
        return None

    def abandon(self) -> None:
        """End it, and wait for nothing: one that hangs in a device may take long to go."""
        threading.Thread(target=self.end, name=f"end-{self.pid}", daemon=True).start()

    def _listen(self) -> None:
        message: FromWorker | None
        while True:
            try:
                message = self.pipe.recv()
            except (EOFError, OSError):
                message = None
            with suppress(RuntimeError):  # the event loop has ended before
                self._heard(self, message)
            if message is None:
                return

    def _talk(self) -> None:
        while True:
            message, file = self._outgoing.get()
            try:
                self.pipe.send(message)
                if file and self.pid:
                    send_handle(self.pipe, file.fileno(), self.pid)
            except OSError:  # it is dead, or waits for a file that it will not get: `_listen` finds its end
                self.kill()
            if file:
                file.close()
            if message is None:
                return
