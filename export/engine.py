"""One engine: a graph becomes a plan in a process of its own, so that an abort becomes an error."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

from ..profiles.errors import EngineError
from .optimization_profile import OptimizationProfile

WORKER = "fastadasp.export.engine_worker"
PARSING = "Parsing node: "


@dataclass(frozen=True)
class EngineRequest:
    """What one build is asked for. It crosses to the worker as JSON."""

    graph: Path
    plan: Path
    profile: OptimizationProfile
    sm: int
    plugins: Path | None  # the plugin library, where the graph needs it
    plugin_layers: Mapping[str, int]  # op type -> how many layers the network must have


@dataclass(frozen=True)
class EngineFacts:
    """What came out of it."""

    product: str  # "tensorrt_rtx"
    version: str
    seconds: float


def build_engine(request: EngineRequest, log: Path) -> EngineFacts:
    """Build one plan.

    Args:
        request: the graph, where the plan goes, shapes and target.
        log: every message of the library is written here.

    Raises:
        EngineError: the library refused the graph, ended without a plan or aborted; with the node's name
            where the log tells it.
    """
    begin = time.perf_counter()
    with log.open("w", encoding="utf-8") as stream:
        done = subprocess.run(
            [sys.executable, "-m", WORKER],
            input=json.dumps(asdict(request), default=str),
            stdout=subprocess.PIPE,
            stderr=stream,
            text=True,
            check=False,
        )
    if done.returncode or not request.plan.is_file():
        raise EngineError(f"engine {request.plan.stem}: {_fault(log, done.returncode)}")
    facts = json.loads(done.stdout.splitlines()[-1])
    return EngineFacts(facts["product"], facts["version"], time.perf_counter() - begin)


def _fault(log: Path, code: int) -> str:
    """The named error that the worker ends with, or the node at which the library aborted."""
    lines = log.read_text("utf-8", errors="replace").splitlines()
    if named := [line for line in lines if line.startswith("FAULT ")]:
        return named[-1].removeprefix("FAULT ")
    nodes = [line.split(PARSING, 1)[1] for line in lines if PARSING in line]
    place = f" at node {nodes[-1]}" if nodes else ""
    return f"the builder ended with code {code}{place}; its last message: {lines[-1] if lines else 'none'}"
