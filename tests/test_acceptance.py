"""The acceptance on a GPU tells a machine without one what is missing, before it builds anything."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent


@pytest.mark.skipif(Path("/dev/nvidia0").exists(), reason="a GPU is here: run `make accept-gpu`")
def test_without_a_gpu_it_ends_in_one_line(tmp_path):
    pytest.importorskip("cuda.bindings", reason="the backend tensorrt needs cuda-python")
    pytest.importorskip("polygraphy", reason="parity needs the extra check")
    command = [sys.executable, str(ROOT / "bench/accept_gpu.py"), "-o", "result.json"]
    ran = subprocess.run(command, capture_output=True, text=True, check=False, cwd=tmp_path)
    assert ran.returncode == 2, ran.stderr
    assert ran.stderr.startswith("accept-gpu: no GPU that CUDA can use is here")
    assert not list(tmp_path.iterdir())
