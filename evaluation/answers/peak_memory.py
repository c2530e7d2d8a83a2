"""What one request takes in memory at its largest, measured in a process that does nothing else."""

from __future__ import annotations

from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from multiprocessing import get_context

from ...profiles.errors import WorkerError
from ...runtime.environment import peak_resident_bytes
from ..clips.clip import Clip
from .spawning import without_ctrl_c
from .workers import Job, answer_in_worker, start_worker

SCOPE = (
    "resident memory at its largest of a process of its own that loads one profile and answers the longest "
    "clip; libraries and mapped weights count"
)


def peak_memory(job: Job, clip: Clip) -> int | None:
    """Bytes, as `SCOPE` says; None where the system does not tell.

    Raises:
        WorkerError: the process died.
    """
    # Spawned, so that nothing of this process is counted.
    pool = ProcessPoolExecutor(1, get_context("spawn"), start_worker, (job,))
    try:
        with without_ctrl_c():
            measured = pool.submit(_peak, clip)
        return measured.result()
    except BrokenProcessPool:
        raise WorkerError(
            f"the process that measured the memory of {job.profiles[0]} died, most likely for lack of it; "
            "run anew with --lean, or with fewer formats"
        ) from None
    finally:
        pool.shutdown()


def _peak(clip: Clip) -> int | None:
    answer_in_worker(clip)
    return peak_resident_bytes()
