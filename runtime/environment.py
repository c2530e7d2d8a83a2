"""What a measurement ran on: machine, libraries, load and memory."""

from __future__ import annotations

import os
import platform
import re
import sys
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from .choice.figures import Machine

LIBRARIES = (
    *("fastadasp-export", "numpy", "onnxruntime", "onnxruntime-gpu", "tensorrt-rtx-cu13", "tensorrt"),
    *("cuda-python", "tokenizers", "soundfile", "soxr"),
)
CPU_INFO = Path("/proc/cpuinfo")
STATUS = Path("/proc/self/status")
CLEAR = Path("/proc/self/clear_refs")
RESET_PEAK = "5"
BUSY = 1.0  # load beyond which other work has taken a core


@dataclass(frozen=True)
class Environment:
    """Machine and moment. What this platform does not report is None."""

    time_utc: str  # when the measurement began, as ISO 8601
    cpu: str | None
    cores: int | None
    cores_usable: int | None  # by this process
    threads: int | None  # of one run
    load_average: tuple[float, ...] | None  # of the last 1, 5 and 15 minutes
    platform: str
    python: str
    libraries: Mapping[str, str]  # distribution -> version
    workers: int | None = None  # processes that share the clips of an evaluation


def environment(threads: int, libraries: Iterable[str] = ()) -> Environment:
    """What a measurement that begins now runs on.

    Args:
        threads: threads of one run; 0 for one per core.
        libraries: distributions whose versions matter beside those of the runtime.
    """
    return Environment(
        time_utc=datetime.now(UTC).isoformat(timespec="seconds"),
        cpu=cpu_model(),
        cores=os.cpu_count(),
        cores_usable=_usable_cores(),
        threads=threads or _usable_cores(),
        load_average=os.getloadavg() if hasattr(os, "getloadavg") else None,
        platform=platform.platform(),
        python=platform.python_version(),
        libraries={name: found for name in (*LIBRARIES, *libraries) if (found := _version(name))},
    )


def machine(device: str, threads: int) -> Machine:
    """What figures of latency belong to; `threads` as in `environment`."""
    return Machine(device, cpu_model(), threads or _usable_cores())


def cpu_model() -> str | None:
    """The name of the CPU."""
    return _cpu_info("model name|Model") or platform.processor() or None


def cpu_flags() -> frozenset[str]:
    """What an x86 CPU can do, by Linux's names; empty where the system does not tell."""
    return frozenset((_cpu_info("flags") or "").split())


def _cpu_info(field: str) -> str | None:
    """The first value of a field; `field` is a pattern."""
    text = CPU_INFO.read_text("utf-8") if CPU_INFO.is_file() else ""
    found = re.search(rf"^(?:{field})\s*:\s*(.+)$", text, re.MULTILINE)
    return found[1] if found else None


class PeakMemory:
    """The peak of this process's resident memory, memory-mapped weights included.

    Linux lets a process reset its own peak, so that the peak of one run can be read. Elsewhere it is the peak
    since the process began; `scope` says which.
    """

    def __init__(self) -> None:
        self.scope = "run" if self._reset() else "process"

    def reset(self) -> None:
        """Forget the peak, where the platform allows it."""
        if self.scope == "run":
            self._reset()

    def read(self) -> int | None:
        """Bytes at the peak."""
        return peak_resident_bytes()

    @staticmethod
    def _reset() -> bool:
        try:
            CLEAR.write_text(RESET_PEAK)
        except OSError:  # another platform, or a sandbox that does not allow it
            return False
        return True


def peak_resident_bytes() -> int | None:
    """The peak of this process's resident memory since it began, or since the peak was last reset."""
    if STATUS.is_file() and (found := re.search(r"VmHWM:\s*(\d+) kB", STATUS.read_text("utf-8"))):
        return int(found.group(1)) * 1024
    if sys.platform == "win32":
        return None
    import resource

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


def _usable_cores() -> int | None:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()


def _version(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None
