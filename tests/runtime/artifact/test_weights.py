"""Mapped weights can be given back to the system, and are read again when they are used again."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

import numpy as np
import pytest

from fastadasp.runtime.artifact.artifact import open_artifact
from fastadasp.runtime.artifact.weights import map_weights


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells what of a mapping is resident")
def test_what_was_read_is_resident_until_it_is_forgotten_and_equal_afterwards(
    tiny_artifact: Path, tmp_path: Path
) -> None:
    copy = shutil.copytree(tiny_artifact, tmp_path / "copy")  # which no model of another test has mapped
    artifact = open_artifact(copy)
    weights = map_weights(artifact, artifact.weights(artifact.graphs("onnxruntime")).decoder)
    before = {name: array.copy() for name, array in weights.items()}
    assert resident_bytes(copy) >= sum(array.nbytes for array in before.values())
    weights.forget()
    assert resident_bytes(copy) == 0
    assert all(np.array_equal(array, before[name]) for name, array in weights.items())


def resident_bytes(folder: Path) -> int:
    """Of all mappings of files in a folder."""
    total, counted = 0, False
    for line in Path("/proc/self/smaps").read_text("utf-8").splitlines():
        name, _, rest = line.partition(" ")
        if not name.endswith(":"):
            counted = str(folder) in rest
        elif name == "Rss:" and counted:
            total += 1024 * int(rest.split()[0])
    return total
