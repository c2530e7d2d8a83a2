"""Clips transcribed by processes of this machine; one that dies is replaced, a clip that kills is named."""

from __future__ import annotations

from collections.abc import Generator, Iterator, Sequence
from contextlib import suppress
from multiprocessing import connection

from ..answers.piped import PipedProcess
from ..clips.clip import Clip
from .clip_queue import ClipQueue
from .records import Found
from .worker import BulkJob, Message, Ready, serve


class LocalEngine:
    """An `Engine` of processes that each load the artifact once and have several requests under way."""

    def __init__(self, bulk: BulkJob, workers: int) -> None:
        self._bulk, self._num_workers = bulk, workers

    def answers(self, clips: Sequence[Clip]) -> Generator[Found, None, None]:
        """As `Engine` says.

        A clip in flight when its worker dies is asked again, from then on alone; the third death
        is a failure of the clip.

        Raises:
            WorkerError: workers die before they have loaded the artifact.
            ArtifactError: another artifact has taken its place.
        """
        crew = _Crew(self._bulk, clips)
        try:
            for _ in range(min(self._num_workers, len(clips))):
                crew.hire()
            yield from crew.work()
            crew.dismiss()
        finally:
            crew.end()


class _Worker(PipedProcess):
    """A process, and the clips that it has."""

    def __init__(self, bulk: BulkJob) -> None:
        super().__init__(serve, bulk)
        self.clips: dict[str, Clip] = {}
        self.is_ready = False

    def give(self, clip: Clip) -> None:
        """Hand over a clip."""
        self.clips[clip.id] = clip
        self._send(clip)

    def receive(self) -> Message | None:
        """What it has sent; None where it is dead."""
        try:
            message: Message = self.pipe.recv()
        except (EOFError, OSError):
            return None
        return message

    def dismiss(self) -> None:
        """Tell it that there are no more clips."""
        self._send(None)

    def _send(self, message: Clip | None) -> None:
        with suppress(OSError):  # it is dead, which the next `receive` tells
            self.pipe.send(message)


class _Crew:
    """All workers, and the clips that none of them has."""

    def __init__(self, bulk: BulkJob, clips: Sequence[Clip]) -> None:
        self._bulk, self._workers = bulk, list[_Worker]()
        self._queue = ClipQueue(bulk, clips, "worker processes")

    def hire(self) -> None:
        """Start a worker."""
        self._workers.append(_Worker(self._bulk))

    def work(self) -> Iterator[Found]:
        """Give out clips and gather lines until there are no more."""
        while self._queue or any(worker.clips for worker in self._workers):
            for worker in self._workers:
                self._feed(worker)
            pipes = {worker.pipe: worker for worker in self._workers}
            for pipe in connection.wait(list(pipes)):
                yield from self._hear(pipes[pipe])  # type: ignore[index]

    def dismiss(self) -> None:
        """Let all of them end by themselves."""
        for worker in self._workers:
            worker.dismiss()
        for worker in self._workers:
            worker.wait()

    def end(self) -> None:
        """End all of them now."""
        for worker in self._workers:
            worker.end()

    def _feed(self, worker: _Worker) -> None:
        """Give a worker what it has room for."""
        while clip := self._queue.next_for(worker.clips.values()):
            worker.give(clip)

    def _hear(self, worker: _Worker) -> Iterator[Found]:
        match worker.receive():
            case None:
                yield from self._replace(worker)
            case Ready():
                worker.is_ready = True
                self._queue.loaded()
            case Exception() as error:
                raise error
            case found:
                del worker.clips[found.id]
                self._feed(worker)  # before the line is written
                yield found

    def _replace(self, dead: _Worker) -> Iterator[Found]:
        """Another worker for a dead one; what becomes of the clips that it had."""
        dead.end()
        self._workers.remove(dead)
        if not dead.is_ready:
            self._queue.give_back(dead.clips.values())
            self._queue.died_loading()
        else:
            yield from filter(None, map(self._queue.lost, dead.clips.values()))
        self.hire()
