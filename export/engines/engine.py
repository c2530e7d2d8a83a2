"""One engine: a graph becomes a plan in a process of its own, so that an abort becomes an error."""

from __future__ import annotations

import json
import os
import platform
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import IO, Any

from ...profiles.errors import EngineError
from .shapes import OptimizationProfile

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
class Expected:
    """What the network must have after parsing, or the build fails by name."""

    plugin_layers: Mapping[str, int]  # op type -> how many
    attention_layers: int
    causal: bool  # whether every attention layer hides the rows that follow


@dataclass(frozen=True)
class EngineRequest:
    """What one build is asked for. It crosses to the worker as JSON."""

    product: str  # the module tensorrt_rtx or tensorrt
    name: str  # that the plan carries inside
    graph: Path
    plan: Path
    profile: OptimizationProfile
    sm: int
    plugins: Path | None  # the plugin library, where the graph needs it
    expected: Expected
    reproducible: bool = False


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
        progress: told how far the library is.

    Raises:
        EngineError: the library refused the graph, ended without a plan or aborted; with the node's name
            where the log tells it. Or this system allows no reproducible build.
    """
    begin = time.perf_counter()
    with _log(log, request) as stream:
        worker = subprocess.Popen(
            [*_prefix(request), sys.executable, "-P", "-m", WORKER],
            cwd=request.graph.parent,
            env=_environment(request),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=stream,
            text=True,
        )
        facts = _follow(worker, _message(request), progress)
    if worker.returncode or not request.plan.is_file():
        raise EngineError(f"engine {request.plan.stem}: {_fault(log, worker.returncode)}")
    return EngineFacts(facts["version"], time.perf_counter() - begin, facts["peak_bytes"])


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


def _message(request: EngineRequest) -> str:
    """Paths are relative to the graph's folder, so that they do not depend on the artifact's place."""
    places = {"graph": request.graph, "plan": request.plan, "plugins": request.plugins}
    relative = {
        name: place and os.path.relpath(place, request.graph.parent) for name, place in places.items()
    }
    return json.dumps({**asdict(request), **relative})


def _follow(worker: subprocess.Popen[str], message: str, progress: Progress) -> dict[str, Any]:
    """Hand the request over, pass the progress on, return the last line's facts."""
    assert worker.stdin is not None
    assert worker.stdout is not None
    facts: dict[str, Any] = {}
    with worker:
        with suppress(BrokenPipeError), worker.stdin as pipe:  # one that has ended says why in its log
            pipe.write(message)
        for line in worker.stdout:
            entry = json.loads(line)
            if "phase" in entry:
                progress(entry["phase"], entry["done"], entry["steps"])
            else:
                facts = entry
    return facts


def _fault(log: Path, code: int) -> str:
    """The named error that the worker ends with, or the node at which the library aborted."""
    lines = log.read_text("utf-8", errors="replace").splitlines()
    if named := [line for line in lines if line.startswith("FAULT ")]:
        return named[-1].removeprefix("FAULT ")
    nodes = [line.split(PARSING, 1)[1] for line in lines if PARSING in line]
    place = f" at node {nodes[-1]}" if nodes else ""
    return f"the builder ended with code {code}{place}; its last message: {lines[-1] if lines else 'none'}"
