"""Triton Inference Server, as the wheel of nvidia-pytriton bundles it, on loopback."""

from __future__ import annotations

import os
import shutil
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import tritonclient.grpc as triton

from free_port import free_port

VENV = os.environ.get("FASTADASP_TRITON")
"""A virtual environment with nvidia-pytriton, NumPy 1.26 and this package: `make triton-test` makes one."""
START = 120.0  # seconds that the server may take


class Server(NamedTuple):
    grpc: str
    http: str
    log: Path


@contextmanager
def serving(repository: Path, folder: Path) -> Iterator[Server]:
    """A server of a model repository, once its models are ready; its files go into `folder`."""
    assert VENV is not None
    venv, log = Path(VENV), folder / "tritonserver.log"
    (bundled,) = venv.glob("lib/python3.*/site-packages/pytriton/tritonserver")
    grpc, http = free_port(), free_port()
    command = [
        bundled / "bin" / "tritonserver",
        f"--model-repository={repository}",
        f"--backend-directory={backends(bundled, folder)}",
        *(f"--{kind}-address=127.0.0.1" for kind in ("grpc", "http")),
        *(f"--grpc-port={grpc}", f"--http-port={http}", "--allow-metrics=false", "--allow-gpu-metrics=false"),
        "--exit-timeout-secs=10",
    ]
    with log.open("wb") as stream:
        process = subprocess.Popen(
            command, stdout=stream, stderr=stream, env=environment(venv), start_new_session=True
        )
    try:
        wait_until_ready(process, f"127.0.0.1:{grpc}", log)
        yield Server(f"127.0.0.1:{grpc}", f"http://127.0.0.1:{http}", log)
    finally:
        process.terminate()
        process.wait(30)


def backends(bundled: Path, folder: Path) -> Path:
    """The Python backend with its stub in one folder, where the server looks for both."""
    version = next(parent.name for parent in bundled.parents if parent.name.startswith("python3."))
    place = folder / "backends" / "python"
    place.mkdir(parents=True)
    sources = (
        bundled / "backends" / "python",
        bundled / "python_backend_stubs" / version.removeprefix("python"),
    )
    for path in (path for source in sources for path in source.iterdir() if path.is_file()):
        shutil.copy(path, place)
    return place.parent


def environment(venv: Path) -> dict[str, str]:
    """The stub takes the packages of the first python3 on PATH, and the libpython that the loader finds."""
    library = subprocess.run(
        [venv / "bin" / "python", "-c", "import sysconfig; print(sysconfig.get_config_var('LIBDIR'))"],
        capture_output=True,
        text=True,
        check=True,
    ).stdout.strip()
    path = f"{venv / 'bin'}{os.pathsep}{os.environ['PATH']}"
    (libraries,) = venv.glob("lib/python3.*/site-packages/nvidia_pytriton.libs")
    kept = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    return {**kept, "PATH": path, "LD_LIBRARY_PATH": f"{library}:{libraries}", "OPENBLAS_NUM_THREADS": "1"}


def wait_until_ready(process: subprocess.Popen[bytes], address: str, log: Path) -> None:
    end = time.monotonic() + START
    while time.monotonic() < end:
        assert process.poll() is None, log.read_text()
        with triton.InferenceServerClient(address) as client:
            try:
                if client.is_server_ready():
                    return
            except triton.InferenceServerException:
                pass  # it does not listen yet
        time.sleep(0.5)
    raise AssertionError(log.read_text())
