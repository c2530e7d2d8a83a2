"""The process of one system: it loads a model, answers a request a line, and waits for its turn."""

from __future__ import annotations

import json
import re
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import numpy as np

Record = dict[str, Any]
Run = Callable[[int, int, str, int], Record]
"""Seconds of audio, beams, the variant of the system, and new tokens -> what `record` gives."""


@dataclass(frozen=True)
class Loading:
    """What a peer is asked to load."""

    model: str  # one of `cases.MODELS`
    form: str  # of the weights, as the peer calls it
    threads: int
    folder: Path  # with all that `models` wrote for this model
    extra: str = ""  # where the peer's own library lies, if that is no package


class Clock:
    """Milliseconds since it was made: of CPU of this process, and by the clock."""

    def __init__(self) -> None:
        self._begin = self._now()

    def read(self) -> list[float]:
        """Both."""
        return [float(each) for each in self._now() - self._begin]

    @staticmethod
    def _now() -> np.ndarray:
        return np.array([time.process_time(), time.perf_counter()]) * 1e3


def record(prefill: list[float], total: list[float], tokens: int, text: str = "") -> Record:
    """Of one request: the prefill ends with the scores of the first token."""
    step = [(all_ - first) / (tokens - 1) for all_, first in zip(total, prefill, strict=True)]
    found = {}
    for name, (cpu, wall) in {"prefill": prefill, "step": step, "total": total}.items():
        found |= {f"{name}_cpu_ms": cpu, f"{name}_wall_ms": wall}
    return {**found, "text": text}


def serve(peer: str, loading: Loading) -> None:
    """Answer the lines of the input; the first line of the output tells the versions and the load."""
    sys.stdout, answers = sys.stderr, sys.stdout  # libraries print
    module = import_module(f"peers.{peer}")
    clock = Clock()
    run: Run = module.load(loading)
    cpu, wall = clock.read()
    hello = {"versions": versions(module.LIBRARIES), "load_cpu_ms": cpu, "load_wall_ms": wall}
    print(json.dumps(hello), file=answers, flush=True)
    for line in sys.stdin:
        asked = json.loads(line)
        time.sleep(0.05)  # threads of the turn before may still spin
        found = run(*asked)
        print(json.dumps({"peak_bytes": peak_bytes(), **found}), file=answers, flush=True)


def peak_bytes(process: int | str = "self") -> int | None:
    """The most memory that a process has had resident, files that it maps included; Linux says so."""
    status = Path(f"/proc/{process}/status")
    found = re.search(r"VmHWM:\s+(\d+) kB", status.read_text()) if status.is_file() else None
    return 1024 * int(found[1]) if found else None


def versions(libraries: tuple[str, ...]) -> dict[str, str]:
    """Of the packages that this process has."""
    return {name: found for name in libraries if (found := _version(name))}


def _version(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None
