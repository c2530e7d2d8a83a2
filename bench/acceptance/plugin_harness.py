"""The plugin library called as TensorRT would call it, by plugin_harness.cpp, and its outputs judged."""

from __future__ import annotations

import json
import subprocess
import tempfile
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np

from fastadasp.plugins.build import compiler, headers

from .plugin_cases import DTYPES, Case
from .records import HOST, Check

SOURCE = Path(__file__).parent / "plugin_harness.cpp"
FLAGS = ("-std=c++17", "-O1", "-Wall", "-Wextra", "-Werror")
FAULTY = 3  # its exit code after a fault on a device
OUTPUT = "output"
UNTOUCHED = "-"  # the file of an input that is not read: without a device nothing is


@dataclass(frozen=True)
class Harness:
    """The program, the library that it calls, and what both find on this machine."""

    program: Path
    library: Path
    creators: tuple[dict[str, Any], ...]
    device: dict[str, Any] | None  # name, uuid, sm and cuda, as the harness asked the driver
    why: str | None  # there is no device

    def checks(self, cases: Iterable[Case]) -> Iterator[Check]:
        """All that this machine can call of a plugin; with a device, its results beside the references.

        The cases share a process, up to one that has a fault.
        """
        left = list(cases)
        while left:
            with tempfile.TemporaryDirectory() as folder:
                places = [Path(folder) / str(i) for i in range(len(left))]
                for case, place in zip(left, places, strict=True):
                    _write(case, place, with_content=self.device is not None)
                said, end = _run(self.program, self.library, *places)
                answers = said[1:]
                for case, place, one in zip(left, places, answers, strict=False):
                    yield self._check(case, one, place / OUTPUT)
            if end and len(answers) < len(left):
                yield Check(left[len(answers)].name, False, None, fault=f"the harness {end}")
                answers.append({})
            left = left[len(answers) :]

    def _check(self, case: Case, said: dict[str, Any], output: Path) -> Check:
        if said["fault"] or not self.device:
            ran_on = self.device["uuid"] if self.device else HOST
            return Check(case.name, not said["fault"], ran_on, fault=said["fault"])
        return _judged(case, said, output, self.device["uuid"])


def open_harness(library: Path, folder: Path) -> Harness:
    """Compile the harness into a folder, and let it load the library.

    Raises:
        DependencyError: g++ or the headers of TensorRT are missing.
        RuntimeError: the harness does not compile, or the library does not load.
    """
    program = folder / "plugin_harness"
    places = [word for place in headers() for word in ("-isystem", str(place))]
    command = [compiler(), *FLAGS, *places, str(SOURCE), "-o", str(program), "-ldl"]
    made = subprocess.run(command, capture_output=True, text=True, check=False)
    if made.returncode:
        raise RuntimeError(f"the harness does not compile: {made.stderr[-2000:]}")
    said, end = _run(program, library)
    if end:
        raise RuntimeError(f"the harness {end}")
    return Harness(program, library, tuple(said[0]["creators"]), said[0]["device"], said[0]["why"])


def _run(program: Path, library: Path, *cases: Path) -> tuple[list[dict[str, Any]], str | None]:
    """What it says, in a process that a fault of the library may end; and how it ended, if not well."""
    ran = subprocess.run([program, library, *cases], capture_output=True, text=True, check=False)
    said = [json.loads(line) for line in ran.stdout.splitlines()]
    ended_well = ran.returncode in (0, FAULTY)
    return said, None if ended_well else f"ended with {ran.returncode}: {ran.stderr[-500:].strip()}"


def _write(case: Case, folder: Path, with_content: bool) -> None:
    folder.mkdir()
    lines = [
        f"plugin {case.plugin}",
        *(f"attribute {name} {value}" for name, value in (case.attributes or {}).items()),
    ]
    for name, tensor in case.inputs.items():
        if with_content:
            tensor.content().tofile(folder / name)
        file = name if with_content else UNTOUCHED
        lines.append(" ".join(["input", tensor.type, file, *map(str, tensor.shape)]))
    lines.append(" ".join(["output", case.output.type, OUTPUT, *map(str, case.output.shape)]))
    lines += ["timed"] if case.is_long else []
    (folder / "case.txt").write_text("\n".join(lines) + "\n", "utf-8")


def _judged(case: Case, said: dict[str, Any], output: Path, device: str) -> Check:
    """The output beside the reference; a kernel that did not run left what is no number."""
    found = np.fromfile(output, DTYPES[case.output.type]).reshape(case.output.shape)
    error = case.error(found)
    figures: dict[str, Any] = {"error": error if np.isfinite(error) else None, "tolerance": case.tolerance}
    if times := said["enqueue"]["microseconds"]:
        figures |= {"microseconds": median(times), "runs": len(times)}
    figures["workspace_bytes"] = said["workspace_bytes"]
    passed = error <= case.tolerance
    fault = None if passed else f"error {error:.3g} is above {case.tolerance:g}"
    return Check(case.name, passed, device, figures, fault)
