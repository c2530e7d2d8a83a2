"""What answers requests: here processes of this machine, in a cluster the replicas of a deployment."""

from __future__ import annotations

from typing import BinaryIO, Protocol

from .messages import Asked
from .ticket import Ticket


class RequestPool(Protocol):
    """Requests in, tickets out. All of it is of one event loop."""

    @property
    def is_ready(self) -> bool:
        """Whether a request would find somebody to answer it."""
        ...

    def submit(self, asked: Asked, audio: bytes | BinaryIO) -> Ticket:
        """Hand a request over, with its audio; a file is closed once it is not needed any more.

        Raises:
            QueueFullError: as many wait as may.
        """
        ...

    def leave(self, ticket: Ticket) -> None:
        """Its answer is not wanted any more, or was read."""
        ...
