"""The scripts beside the package start, and the quick one runs to its end."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

BENCH = Path(__file__).parents[1] / "bench"
SCRIPTS = sorted(path for path in BENCH.glob("*.py") if "argparse" in path.read_text("utf-8"))


def run(*words: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, *map(str, words)], capture_output=True, text=True, check=False)


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.stem)
def test_a_script_has_help(script: Path) -> None:
    found = run(script, "--help")
    assert found.returncode == 0, found.stderr


def test_weights_are_measured(tmp_path: Path) -> None:
    folder = shutil.copytree(BENCH.parent / "demo" / "model", tmp_path / "checkpoint")
    found = run(BENCH / "weights.py", folder)
    assert found.returncode == 0, found.stderr
    assert found.stdout.count("loads, hashes match") == 2


def test_the_pages_have_the_tables_of_the_result_files(tmp_path: Path) -> None:
    found = run(BENCH / "page.py", "-o", tmp_path)
    assert found.returncode == 0, found.stderr
    for page in (
        "benchmarks.md",
        "choosing.md",
        "performance.md",
        "long_form.md",
        "openvino.md",
        "serving.md",
        "runtime.md",
        "engines.md",
    ):
        assert (tmp_path / page).read_text("utf-8") == (BENCH.parent / "docs" / page).read_text("utf-8")
    assert (tmp_path / "README.md").read_text("utf-8") == (BENCH.parent / "README.md").read_text("utf-8")
