"""What answers the clips of a bulk transcription: here processes of this machine, another time a cluster."""

from __future__ import annotations

from collections.abc import Generator, Sequence
from typing import Protocol

from ..clips.clip import Clip
from .records import Found


class Engine(Protocol):
    """Clips in, lines out. It keeps nothing: which clips are done is known from the output alone."""

    def answers(self, clips: Sequence[Clip]) -> Generator[Found, None, None]:
        """A line for each clip, exactly one, in the order in which they are found.

        What the engine holds is let go of when the generator is closed, however far it has got.

        Raises:
            FastAdaSPError: what would end no clip alone: an artifact that was replaced, no memory to load it.
        """
        ...
