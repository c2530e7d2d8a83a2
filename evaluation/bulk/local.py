"""Clips transcribed by processes of this machine; one that dies is replaced, a clip that kills is named."""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Generator, Iterable, Iterator, Sequence
from contextlib import suppress
from multiprocessing import connection

from ...profiles.errors import WorkerError
from ..answers.piped import PipedProcess
from ..clips.clip import Clip
from .records import Found, failed
from .worker import BulkJob, Message, Ready, serve

MOST_DEATHS = 3  # of processes that had the same clip, or in a row before they had loaded the artifact


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
        self._bulk, self._workers, self._left = bulk, list[_Worker](), deque(clips)
        self._suspects, self._deaths = deque[Clip](), Counter[str]()
        self._died_loading = 0  # in a row

    def hire(self) -> None:
        """Start a worker."""
        self._workers.append(_Worker(self._bulk))

    def work(self) -> Iterator[Found]:
        """Give out clips and gather lines until there are no more."""
        while self._left or self._suspects or any(worker.clips for worker in self._workers):
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
        """Give a worker what it has room for; a suspect goes to one that has nothing else."""
        if self._suspects:
            if not worker.clips:
                worker.give(self._suspects.popleft())
        elif not self._deaths.keys() & worker.clips.keys():
            while self._left and len(worker.clips) < self._bulk.max_batch:
                worker.give(self._left.popleft())

    def _hear(self, worker: _Worker) -> Iterator[Found]:
        match worker.receive():
            case None:
                yield from self._replace(worker)
            case Ready():
                worker.is_ready, self._died_loading = True, 0
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
            self._died_loading += 1
            for clip in reversed(dead.clips.values()):
                (self._suspects if clip.id in self._deaths else self._left).appendleft(clip)
            if self._died_loading == MOST_DEATHS:
                raise _unloadable()
        else:
            yield from self._suspected(dead.clips.values())
        self.hire()

    def _suspected(self, clips: Iterable[Clip]) -> Iterator[Found]:
        """The clips of a worker that died: those that had enough of such deaths have failed."""
        for clip in clips:
            self._deaths[clip.id] += 1
            if self._deaths[clip.id] < MOST_DEATHS:
                self._suspects.append(clip)
            else:
                yield failed(clip, self._bulk.job.profiles[0], _killer())


def _unloadable() -> WorkerError:
    return WorkerError(
        f"{MOST_DEATHS} worker processes died while they loaded the artifact, likely for lack of memory: "
        "use fewer --workers or --lean, and run again (what was answered is kept)"
    )


def _killer() -> WorkerError:
    return WorkerError(
        f"{MOST_DEATHS} worker processes died while they had this clip, twice alone, most likely for lack of "
        "memory; limit it with --max-request-memory, or give shorter audio"
    )
