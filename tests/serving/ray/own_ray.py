"""Ray for one test: its files and its processes are its own, and none of them is left."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from importlib.util import find_spec
from pathlib import Path

import psutil
import pytest

WAIT = 240.0  # seconds for what must happen
NEEDS_RAY = pytest.mark.skipif(
    find_spec("ray") is None or "FASTADASP_RAY" not in os.environ, reason="needs Ray: make ray-test"
)


class OwnRay:
    """Programs that use Ray, in an environment of their own."""

    def __init__(self, folder: Path, log: Path) -> None:
        self.log = log
        self.environment = {
            **os.environ,
            "HOME": str(folder),
            "RAY_TMPDIR": str(folder),
            "RAY_USAGE_STATS_ENABLED": "0",
            "RAY_DEDUP_LOGS": "0",
        }
        self._folder = folder
        self._started: list[subprocess.Popen[bytes]] = []  # each has a session of its own

    def start(self, *arguments: str) -> subprocess.Popen[bytes]:
        """A program of Python; what it says goes to the log."""
        with self.log.open("ab") as log:
            command = [sys.executable, "-P", *arguments]
            process = subprocess.Popen(
                command,
                cwd=self._folder,
                env=self.environment,
                stdin=subprocess.PIPE,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        self._started.append(process)
        return process

    def processes(self, name: str = "") -> list[psutil.Process]:
        """Those that run here, of those whose command line begins so."""
        return [process for process in psutil.process_iter() if self._is_ours(process, name)]

    def _is_ours(self, process: psutil.Process, name: str) -> bool:
        try:
            sessions = {each.pid for each in self._started}
            ours = os.getsid(process.pid) in sessions and process.status() != psutil.STATUS_ZOMBIE
            return ours and " ".join(process.cmdline()).startswith(name)
        except (psutil.Error, ProcessLookupError):
            return False

    def end(self) -> None:
        """End all that is left."""
        for process in self.processes():
            with suppress(psutil.NoSuchProcess):
                process.kill()
        for started in self._started:
            with started:  # which closes its input
                started.wait(WAIT)
        psutil.wait_procs(self.processes(), WAIT)


def own_ray(log: Path) -> Iterator[OwnRay]:
    """A folder whose path is short enough for sockets, and what runs in it until the end."""
    folder = Path(tempfile.mkdtemp(prefix="ray", dir="/tmp"))
    found = OwnRay(folder, log)
    try:
        yield found
    finally:
        found.end()
        shutil.rmtree(folder)


def wait_for(happens: Callable[[], object], log: Path) -> None:
    end = time.monotonic() + WAIT
    while not happens():
        assert time.monotonic() < end, log.read_text("utf-8", "replace")[-5000:]
        time.sleep(0.05)
