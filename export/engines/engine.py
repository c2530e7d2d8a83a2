"""One engine: a graph becomes a plan in a process of its own, so that an abort becomes an error."""

from __future__ import annotations

import os
import platform
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import IO

from ...plugins.end_with_parent import own_id
from ...profiles.errors import EngineError
from .messages import EngineRequest, Outcome, Step, answer_from_json

WORKER = "fastadasp.export.engines.worker"
PARSING = "Parsing node: "
SAME_MEMORY = {
    "MALLOC_ARENA_MAX": "1",  # one heap for all threads
    "PYTHONHASHSEED": "0",
    "PYTHONPYCACHEPREFIX": os.devnull,  # compiled modules are neither found nor left there
    "PYTHONDONTWRITEBYTECODE": "1",
}
SHARED_MEMORY = "/dev/shm"
KEPT_VARIABLES = ("PATH", "HOME", "LD_LIBRARY_PATH", "PYTHONPATH", "CUDA_VISIBLE_DEVICES")

Progress = Callable[[str, int, int], None]
"""Called while an engine is built: which phase of the library, steps done, steps in all."""


@dataclass(frozen=True)
class EngineFacts:
    """What came out of it."""

    version: str  # of the product
    seconds: float
    peak_bytes: int | None  # resident memory of the worker at its largest


def build_engine(request: EngineRequest, log: Path, progress: Progress = lambda *_: None) -> EngineFacts:
    """Build one plan.

    Args:
        request: the graph, where the plan goes, shapes and target.
        log: every message of the library is written here.
        progress: called with how far the library is.

    Raises:
        EngineError: the library refused the graph, ended without a plan or aborted; with the node's name
            where the log tells it. Or this system allows no reproducible build.
    """
    begin = time.perf_counter()
    with _log(log, request) as stream:
        worker = subprocess.Popen(
            [*_prefix(request), sys.executable, "-P", "-m", WORKER, own_id()],
            cwd=request.graph.parent,
            env=_environment(request),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=stream,
            text=True,
        )
        made = request.graph.with_suffix(".made")  # beside the graph: what the worker is told has one length
        outcome = _follow(worker, replace(request, plan=made).seen_from(request.graph.parent), progress)
    if made.is_file():
        shutil.move(made, request.plan)
    if worker.returncode or outcome is None or not request.plan.is_file():
        raise EngineError(f"engine {request.plan.stem}: {_fault(log, worker.returncode)}")
    return EngineFacts(outcome.version, time.perf_counter() - begin, outcome.peak_bytes)


def check_reproducible() -> None:
    """Find out whether this system allows reproducible builds.

    TensorRT-RTX numbers the symbols of dynamic shapes in an order that depends on which of its threads is
    faster and on where its memory lies. Both stand still on one core, under real-time scheduling, without
    address randomisation.

    Raises:
        EngineError: with what the system said.
    """
    try:
        done = subprocess.run([*_one_core(), "true"], capture_output=True, text=True, check=False)
    except FileNotFoundError as error:
        raise EngineError(f"reproducible builds need {error.filename} (package util-linux)") from None
    if done.returncode:
        raise EngineError(
            f"reproducible builds are not allowed here ({done.stderr.strip()}): they need the right to "
            "real-time scheduling (CAP_SYS_NICE) and to switch address randomisation off; build without "
            "--reproducible"
        )


@contextmanager
def _log(path: Path, request: EngineRequest) -> Iterator[IO[str]]:
    """The file that gets the log; in a reproducible build not before the end, for no write may wait."""
    if not request.reproducible:
        with path.open("w", encoding="utf-8") as stream:
            yield stream
        return
    with tempfile.TemporaryFile("w+", encoding="utf-8", dir=SHARED_MEMORY) as stream:
        yield stream
        stream.seek(0)
        path.write_text(stream.read(), "utf-8")


def _prefix(request: EngineRequest) -> list[str]:
    return _one_core() if request.reproducible else []


def _one_core() -> list[str]:
    core = str(min(os.sched_getaffinity(0)))
    return ["setarch", platform.machine(), "-R", "taskset", "-c", core, "chrt", "--fifo", "1"]


def _environment(request: EngineRequest) -> dict[str, str] | None:
    """Memory must lie the same way each time, so the worker gets no other variables and `SAME_MEMORY`."""
    if not request.reproducible:
        return None
    kept = {name: os.environ[name] for name in KEPT_VARIABLES if name in os.environ}
    return {**kept, **SAME_MEMORY}


def _follow(worker: subprocess.Popen[str], request: EngineRequest, progress: Progress) -> Outcome | None:
    """Hand the request over, pass the progress on; None where the worker ends without an outcome."""
    assert worker.stdin is not None
    assert worker.stdout is not None
    outcome = None
    with _ended_with(worker):
        with suppress(BrokenPipeError), worker.stdin as pipe:  # one that has ended says why in its log
            pipe.write(request.to_json())
        for line in worker.stdout:
            answer = answer_from_json(line)
            if isinstance(answer, Step):
                progress(answer.phase, answer.done, answer.steps)
            else:
                outcome = answer
    return outcome


@contextmanager
def _ended_with(worker: subprocess.Popen[str]) -> Iterator[None]:
    """Wait for a process at the end; where there is a fault or a signal on this side, end it."""
    with worker:
        try:
            yield
        except BaseException:
            worker.kill()
            raise


def _fault(log: Path, code: int) -> str:
    """The named error that the worker ends with, or the node at which the library aborted."""
    lines = log.read_text("utf-8", errors="replace").splitlines()
    if named := [line for line in lines if line.startswith("FAULT ")]:
        return named[-1].removeprefix("FAULT ")
    nodes = [line.split(PARSING, 1)[1] for line in lines if PARSING in line]
    place = f" at node {nodes[-1]}" if nodes else ""
    return f"the builder ended with code {code}{place}; its last message: {lines[-1] if lines else 'none'}"
