"""The clips that no worker has; those whose workers died are asked again alone, and fail if that goes on."""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Collection, Iterable, Sequence

from ...profiles.errors import WorkerError
from ..clips.clip import Clip
from .records import Found, failed
from .worker import BulkJob

MOST_DEATHS = 3  # of workers that had the same clip, or in a row before they had loaded the artifact


class ClipQueue:
    """What is left to give out."""

    def __init__(self, bulk: BulkJob, clips: Sequence[Clip], workers: str) -> None:
        """Of a run whose workers are called so in messages."""
        self._bulk, self._workers, self._left = bulk, workers, deque(clips)
        self._suspects, self._deaths = deque[Clip](), Counter[str]()
        self._died_loading = 0  # in a row

    def __bool__(self) -> bool:
        """Whether there are any."""
        return bool(self._left or self._suspects)

    def next_for(self, clips: Collection[Clip]) -> Clip | None:
        """One more for a worker that has these, if it has room; a suspect goes to one that has none."""
        if self._suspects:
            return None if clips else self._suspects.popleft()
        if len(clips) >= self._bulk.max_batch or any(clip.id in self._deaths for clip in clips):
            return None
        return self._left.popleft() if self._left else None

    def give_back(self, clips: Iterable[Clip]) -> None:
        """Take those that a worker had got but not begun with."""
        for clip in reversed(tuple(clips)):
            (self._suspects if clip.id in self._deaths else self._left).appendleft(clip)

    def loaded(self) -> None:
        """A worker has loaded the artifact."""
        self._died_loading = 0

    def died_loading(self) -> None:
        """A worker has died before it had; WorkerError where that goes on."""
        self._died_loading += 1
        if self._died_loading == MOST_DEATHS:
            raise WorkerError(
                f"{MOST_DEATHS} {self._workers} died while they loaded the artifact, likely for lack of "
                "memory: use fewer --workers and run again (what was answered is kept), or give --lean and "
                "another output"
            )

    def lost(self, clip: Clip) -> Found | None:
        """The worker that had a clip has died: a failure once that was often enough."""
        self._deaths[clip.id] += 1
        if self._deaths[clip.id] < MOST_DEATHS:
            self._suspects.append(clip)
            return None
        error = WorkerError(
            f"{MOST_DEATHS} {self._workers} died while they had this clip, twice alone, most likely for lack "
            "of memory; limit it with --max-request-memory, or give shorter audio"
        )
        return failed(clip, self._bulk.profile, error)
