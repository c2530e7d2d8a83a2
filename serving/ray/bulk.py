"""Clips transcribed by Ray actors; one that dies is replaced, a clip that kills is named.

Which clips are done is known from the output alone, which the driver writes as answers come. Ray Data would
hand them over block by block, and try a clip that kills its actor again without end.
"""

from __future__ import annotations

from collections.abc import Generator, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from ...evaluation.bulk.clip_queue import ClipQueue
from ...evaluation.bulk.records import Found
from ...evaluation.bulk.worker import BulkJob, transcribe_clip
from ...evaluation.clips.clip import Clip
from ...profiles.errors import FastAdaSPError
from ...runtime import SpeechLM
from .cluster import claimed, connected, lost, need_ray


class RayEngine:
    """An `Engine` of actors that each load the artifact once and have several requests under way."""

    def __init__(self, bulk: BulkJob, workers: int) -> None:
        """For `workers` actors; those that the cluster has no room for yet join later.

        Raises:
            DependencyError: Ray is not installed.
        """
        need_ray()
        self._bulk, self._num_workers = bulk, workers

    def answers(self, clips: Sequence[Clip]) -> Generator[Found, None, None]:
        """As `Engine` says.

        A clip in flight when its actor dies is asked again, from then on alone; the third death is a
        failure of the clip.

        Raises:
            WorkerError: actors die before they have loaded the artifact.
            ArtifactError: another artifact has taken its place, or it is not on the machine of an actor.
        """
        if not clips:
            return
        workers = min(self._num_workers, len(clips))
        with connected(workers * claimed(self._bulk.job.runtime)["num_cpus"]):
            crew = _Crew(self._bulk, clips)
            try:
                for _ in range(workers):
                    crew.hire()
                yield from crew.work()
            finally:
                crew.end()


class Transcriber:
    """What an actor does; its methods run in threads, `max_batch` at once."""

    def __init__(self, bulk: BulkJob) -> None:
        self._bulk = bulk
        self._model: SpeechLM | None = None

    def load(self) -> None:
        """Load the artifact. Here an error reaches the driver as it is."""
        self._model = self._bulk.job.open()

    def answer(self, clip: Clip) -> Found:
        """The line of a clip."""
        assert self._model is not None, "it was loaded first"
        return transcribe_clip(self._model, self._bulk, clip)


@dataclass(eq=False)
class _Worker:
    """An actor, and the clips that it has; None is the artifact that it loads."""

    actor: Any
    asked: dict[Any, Clip | None] = field(default_factory=dict)  # by the reference to the answer
    is_ready: bool = False
    is_dead: bool = False

    @property
    def clips(self) -> list[Clip]:
        return [clip for clip in self.asked.values() if clip]

    def load(self) -> None:
        self.asked[self.actor.load.remote()] = None

    def give(self, clip: Clip) -> None:
        self.asked[self.actor.answer.remote(clip)] = clip


class _Crew:
    """All actors, and the clips that none of them has."""

    def __init__(self, bulk: BulkJob, clips: Sequence[Clip]) -> None:
        self._bulk, self._workers, self._queue = bulk, list[_Worker](), ClipQueue(bulk, clips, "actors")

    def hire(self) -> None:
        """Start an actor, on any machine that has room."""
        import ray

        kind = ray.remote(Transcriber).options(
            **claimed(self._bulk.job.runtime), max_concurrency=self._bulk.max_batch, max_restarts=0
        )
        worker = _Worker(kind.remote(self._bulk))
        worker.load()
        self._workers.append(worker)

    def work(self) -> Iterator[Found]:
        """Give out clips and gather lines until there are no more."""
        import ray

        while self._queue or any(filter(None, self._asked().values())):
            for worker in self._workers:
                self._feed(worker)
            (ready, *_), _ = ray.wait(list(self._asked()), num_returns=1)
            yield from self._hear(ready)

    def end(self) -> None:
        """End all of them now."""
        import ray

        for worker in self._workers:
            ray.kill(worker.actor)

    def _asked(self) -> dict[Any, Clip | None]:
        return {answer: clip for worker in self._workers for answer, clip in worker.asked.items()}

    def _feed(self, worker: _Worker) -> None:
        """Give an actor what it has room for."""
        if not worker.is_ready or worker.is_dead:
            return
        while clip := self._queue.next_for(worker.clips):
            worker.give(clip)

    def _hear(self, answer: Any) -> Iterator[Found]:
        """What has come of a clip, or of loading the artifact.

        Raises:
            FastAdaSPError: what would end no clip alone.
        """
        import ray

        worker = next(worker for worker in self._workers if answer in worker.asked)
        clip = worker.asked.pop(answer)
        try:
            found: Found | None = ray.get(answer)
        except ray.exceptions.RayTaskError as error:
            raise error.cause if isinstance(error.cause, FastAdaSPError) else error from None
        except lost():
            yield from self._lost(worker, clip)
        else:
            worker.is_ready = True
            self._queue.loaded()
            if found:
                self._feed(worker)  # before the line is written
                yield found
        if worker.is_dead and not worker.asked:
            self._workers.remove(worker)

    def _lost(self, worker: _Worker, clip: Clip | None) -> Iterator[Found]:
        """The actor has died, and with it the answer to a clip: another one for it, once."""
        if not worker.is_dead:
            worker.is_dead = True
            self.hire()
        if clip is None:
            self._queue.died_loading()
        elif found := self._queue.lost(clip):
            yield found
