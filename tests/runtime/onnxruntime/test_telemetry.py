"""ONNX Runtime leaves nothing in the user's home and sends nothing, unless the user says otherwise."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

PROGRAM = "from fastadasp.runtime import SpeechLM; import sys; SpeechLM.load(sys.argv[1], threads=1)"


def left_by_a_load(artifact: Path, home: Path, **variables: str) -> list[str]:
    """The files below an empty home after a process has loaded an artifact."""
    home.mkdir()
    kept = {
        name: value
        for name, value in os.environ.items()
        if name not in ("ORT_DISABLE_TELEMETRY", "XDG_CACHE_HOME")
    }
    environment = {**kept, "HOME": str(home), **variables}
    subprocess.run([sys.executable, "-P", "-c", PROGRAM, str(artifact)], env=environment, check=True)
    return [path.name for path in home.rglob("*") if path.is_file()]


def test_no_device_id_is_kept(tiny_artifact: Path, tmp_path: Path) -> None:
    assert left_by_a_load(tiny_artifact, tmp_path / "home") == []


def test_the_sessions_on_cuda_import_it_no_sooner() -> None:
    program = (
        "import fastadasp.runtime.onnxruntime_cuda.values, os; print(os.environ['ORT_DISABLE_TELEMETRY'])"
    )
    kept = {name: value for name, value in os.environ.items() if name != "ORT_DISABLE_TELEMETRY"}
    command = [sys.executable, "-P", "-c", program]
    assert subprocess.run(command, env=kept, check=True, capture_output=True, text=True).stdout == "1\n"


def test_only_sessions_import_onnxruntime() -> None:
    root = Path(__file__).parents[3]
    users = {
        path.relative_to(root).as_posix()
        for part in ("profiles", "plugins", "runtime", "evaluation", "export")
        for path in (root / part).rglob("*.py")
        for line in path.read_text("utf-8").splitlines()
        if line.split()[:2] in (["import", "onnxruntime"], ["from", "onnxruntime"])
    }
    of_cuda = {
        f"runtime/onnxruntime_cuda/{name}.py" for name in ("captured", "provider", "session", "values")
    }
    of_cpu = {f"runtime/onnxruntime/{name}.py" for name in ("run_options", "session")}
    assert users == of_cpu | of_cuda
