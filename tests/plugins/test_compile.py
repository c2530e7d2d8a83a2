"""Kernels are compiled by processes that end with the one that started them, however Python starts others."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("triton")

PROGRAM = """
import multiprocessing, sys
from pathlib import Path
from fastadasp.plugins import compile
multiprocessing.set_start_method("forkserver")  # the default from Python 3.14 on
compile.KERNELS = {"sum_heads": compile.KERNELS["sum_heads"]}
print(*(kernel.file for kernel in compile.compile_kernels(Path(sys.argv[1]), (80,))))
"""


def test_a_fork_server_is_not_taken_for_the_parent(tmp_path: Path) -> None:
    own = {name: value for name, value in os.environ.items() if name != "TRITON_INTERPRET"}
    command = [sys.executable, "-c", PROGRAM, str(tmp_path)]
    ran = subprocess.run(command, env=own, capture_output=True, text=True, check=False)
    assert ran.returncode == 0, ran.stderr
    assert ran.stdout.split() == ["sum_heads--0-80.cubin", "sum_heads--0-80.ptx"]
