"""A plugin library whose kernels are empty: it is built in seconds, and loads, and no device runs it."""

from __future__ import annotations

import shutil
import subprocess
from itertools import product
from pathlib import Path

import pytest

from fastadasp.plugins import build
from fastadasp.plugins.compile import ARGUMENTS, HEAD_BLOCKS, KERNELS, TYPES, CompiledKernel, block_and_warps
from fastadasp.profiles.errors import DependencyError


def _empty_kernels(work: Path, sms: tuple[int, ...]) -> list[CompiledKernel]:
    (work / "empty").write_bytes(b"\0")
    found = []
    for (name, source), sm in product(KERNELS.items(), sms):
        arguments = source.arguments.split()
        types = TYPES if any(ARGUMENTS.get(argument) == "*T" for argument in arguments) else ("",)
        for kind, head in product(types, HEAD_BLOCKS if "BLOCK_D" in arguments else (0,)):
            block, warps = block_and_warps(source, kind)
            symbol = f"{name}:{kind}:{block}"  # as emulated_kernels.h takes it apart
            found += [
                CompiledKernel(name, symbol, kind, head, block, sm, is_ptx, warps, 0, 0, 0, "empty")
                for is_ptx in ((False, True) if sm == max(sms) else (False,))
            ]
    return found


@pytest.fixture(scope="session")
def empty_library(tmp_path_factory: pytest.TempPathFactory) -> build.PluginLibrary:
    """For compute capability 8.0 and 9.0."""
    pytest.importorskip("triton", reason="cuda.h comes with Triton")
    if shutil.which("g++") is None:
        pytest.skip("g++ is not installed")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(build, "_compile", _empty_kernels)
        try:
            return build.build_plugins(tmp_path_factory.mktemp("empty"), (80, 90))
        except DependencyError as error:
            pytest.skip(str(error))


@pytest.fixture(scope="session")
def fake_driver(tmp_path_factory: pytest.TempPathFactory, empty_library: build.PluginLibrary) -> Path:
    """The folder of a libcuda.so.1 on which everything succeeds and nothing runs."""
    folder = tmp_path_factory.mktemp("driver")
    includes = [word for place in build.headers() for word in ("-isystem", str(place))]
    source = Path(__file__).parent / "fake_driver.cpp"
    command = [
        build.compiler(),
        "-O2",
        "-mf16c",
        "-shared",
        "-fPIC",
        *includes,
        str(source),
        "-o",
        str(folder / "libcuda.so.1"),
    ]
    subprocess.run(command, check=True)
    return folder
