"""What every result file says of its clips, of how they were answered, and of how intervals were made."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from ...runtime.choice.figures import clips_in_words
from ...runtime.decoding.options import ResolvedSearch


@dataclass(frozen=True)
class ClipList:
    """The clips that figures are over."""

    source: str  # the path that was given
    digest: str  # of audio, references and prompts
    count: int
    measured: int  # those that every profile has answered
    recordings: int  # that these are of; several may ask about one

    @property
    def in_words(self) -> str:
        """For people: how many were measured, and of how many recordings."""
        return clips_in_words(self.measured, self.recordings)


BackendOption = bool | int | str | tuple[str, ...]


@dataclass(frozen=True)
class AnswerSettings:
    """How clips were answered, and how texts were compared.

    Threads and workers are of the environment: no answer depends on them.
    """

    search: ResolvedSearch
    backend: str
    backend_options: Mapping[str, BackendOption]  # those of the backend that an answer depends on
    normalizer: str


@dataclass(frozen=True)
class Intervals:
    """How the intervals of a file were made."""

    method: str
    resamples: int
    seed: int


@dataclass(frozen=True)
class Failure:
    """A clip that profiles could not answer, so that no figure counts it."""

    id: str
    line: int | None  # of the clip list
    profiles: tuple[str, ...]
    reason: str
