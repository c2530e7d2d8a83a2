"""What docs/polygraphy.md tells a user to type works as it is written."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
BLOCKS = re.findall(r"^```sh\n(.*?)^```", (ROOT / "docs/polygraphy.md").read_text("utf-8"), re.M | re.S)


@pytest.fixture(scope="module")
def workplace(tmp_path_factory):
    """An empty folder that sees the demo, as a fresh clone would."""
    folder = tmp_path_factory.mktemp("polygraphy")
    (folder / "demo").symlink_to(ROOT / "demo")
    return folder


def shell(block, folder):
    """Run a block with the commands of this environment; return what it says."""
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    environment = {**os.environ, "PATH": path}
    done = subprocess.run(
        ["bash", "-e", "-c", block], cwd=folder, env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_onnx_runtime_agrees_with_the_saved_reference_within_the_tolerance_and_not_below(workplace):
    build, compare, _ = BLOCKS
    assert "agree" in shell(build, workplace)
    said = shell(compare, workplace)
    assert said.count("Pass Rate: 100.00%") == compare.count("polygraphy run") == 3
    assert "prefix_key.7" in said.partition("Graph Output")[2]
    stricter = compare.splitlines()[0].replace("1e-3", "1e-9")
    with pytest.raises(AssertionError, match="Mismatched outputs"):
        shell(stricter, workplace)


@pytest.mark.skipif(find_spec("tensorrt_rtx") is None, reason="needs the extra tensorrt-rtx")
def test_a_graph_with_plugins_becomes_a_plan(workplace):
    shell(BLOCKS[2], workplace)
    assert (workplace / "prefill.plan").stat().st_size > 10_000
