"""Clips answered one after another in this process, or by several that each load the artifact once."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass, replace
from multiprocessing import get_context, parent_process
from pathlib import Path

from ...profiles.errors import ArtifactError, WorkerError
from ...runtime import SpeechLM
from ...runtime.artifact.artifact import open_artifact
from ...runtime.artifact.verification import Verify
from ...runtime.decoding.options import SearchOptions
from ...runtime.runtime_options import RuntimeOptions
from ..clips.clip import Clip
from .answers import Asked, ClipAnswers, answer_clip
from .spawning import without_ctrl_c


@dataclass(frozen=True)
class Job:
    """What every clip is answered with."""

    artifact: Path
    digest: str  # of its manifest
    profiles: tuple[str, ...]
    search: SearchOptions
    runtime: RuntimeOptions
    verify: Verify = "cached"
    token_loss: bool = False  # the probability of the references is wanted, too
    at_once: int = 1  # profiles of a clip that share steps

    def load(self) -> Callable[[Clip], ClipAnswers]:
        """Load the artifact; what is returned answers a clip. The error is that of `open`."""
        model = self.open()
        asked = Asked(self.profiles, self.search, self.token_loss, shares=self.at_once > 1)
        return lambda clip: answer_clip(model, clip, asked)

    def open(self) -> SpeechLM:
        """The model under the first of the profiles.

        Raises:
            ArtifactError: another artifact has taken its place.
        """
        opened = open_artifact(self.artifact, verify=self.verify)
        if opened.manifest.digest != self.digest:
            raise ArtifactError(f"artifact {self.artifact}: it was replaced meanwhile; run the command again")
        runtime = self.runtime if self.at_once == 1 else replace(self.runtime, max_batch=self.at_once)
        return SpeechLM(opened, self.profiles[0], runtime)


def answer_clips(job: Job, clips: Sequence[Clip], workers: int) -> Iterator[ClipAnswers]:
    """The answers, in the order in which they are found; what they are depends on no other clip.

    Raises:
        WorkerError: a process died.
    """
    workers = min(workers, len(clips))
    if workers <= 1:
        yield from map(job.load(), clips) if clips else ()
        return
    runtime = job.runtime.sharing(max(1, usable_cores() // workers))
    yield from _in_processes(replace(job, runtime=runtime), clips, workers)


def usable_cores() -> int:
    """Cores that this process may run on."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _in_processes(job: Job, clips: Sequence[Clip], workers: int) -> Iterator[ClipAnswers]:
    # Processes are spawned, not forked: the threads of a loaded ONNX Runtime do not survive a fork.
    pool = ProcessPoolExecutor(workers, get_context("spawn"), start_worker, (job,))
    try:
        with without_ctrl_c():  # the first one starts the processes
            futures = [pool.submit(answer_in_worker, clip) for clip in clips]
        yield from (future.result() for future in as_completed(futures))
    except BrokenProcessPool:
        raise WorkerError(
            f"one of {workers} worker processes died, most likely for lack of memory; run again with fewer "
            "--workers (with -o, what was answered is kept), or anew with --lean"
        ) from None
    finally:
        pool.shutdown(cancel_futures=True)


class _Worker:
    """The state of a worker process."""

    job: Job
    answer: Callable[[Clip], ClipAnswers] | None = None


def start_worker(job: Job) -> None:
    """Set up a worker."""
    end_with_parent()
    _Worker.job = job


def end_with_parent() -> None:
    """Let this process, which was spawned, end with its parent, which alone minds Ctrl-C."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_exit_after_parent, daemon=True).start()


def answer_in_worker(clip: Clip) -> ClipAnswers:
    """Answer a clip. The first one loads the artifact: here an error reaches the parent as it is."""
    if _Worker.answer is None:
        _Worker.answer = _Worker.job.load()
    return _Worker.answer(clip)


def _exit_after_parent() -> None:
    parent = parent_process()
    assert parent is not None
    parent.join()
    os._exit(1)
