"""Commands that are killed: a small run of `make kill-test`."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parent.parent / "bench/kill_test.py"


@pytest.mark.skipif(sys.platform != "linux", reason="orphans are found as Linux finds them")
def test_ten_kills_leave_nothing_half_done_and_no_debris() -> None:
    command = [sys.executable, str(SCRIPT), "--kills", "10", "--only", "build --force", "eval"]
    ran = subprocess.run(command, capture_output=True, text=True, check=False, timeout=600)
    assert ran.returncode == 0, ran.stderr
    assert "build --force: 5 kills" in ran.stdout
    assert "eval: 5 kills" in ran.stdout
