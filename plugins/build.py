"""Kernels and C++ glue become one library that TensorRT loads."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from importlib import util
from pathlib import Path

from ..profiles.errors import DependencyError
from ..profiles.temporary import temporary_folder
from .compile import CompiledKernel
from .tensorrt_library import VERSION

LIBRARY = "libfastadasp_plugins.so"
NATIVE = Path(__file__).parent / "native"
SOURCES = ("attention_mass.cpp", "kernels.cpp", "plugin.cpp", "reduction.cpp", "registry.cpp")
SYSTEM_INCLUDES = ("/usr/include/x86_64-linux-gnu", "/usr/include")
# No path, time or symbol of this machine may reach the library: two builds are equal byte for byte.
FLAGS = ["-shared", "-fPIC", "-std=c++17", "-O2", "-g0", "-s", "-Wall", "-fvisibility=hidden"]
LINK_FLAGS = ["-Wl,--build-id=none", "-Wl,-z,nodelete", "-ldl"]


@dataclass(frozen=True)
class PluginLibrary:
    """A built library: where it is, for which compute capabilities (80 = 8.0), what its kernels use."""

    path: Path
    sms: tuple[int, ...]
    version: str
    resources: tuple[CompiledKernel, ...]


def build_plugins(folder: Path, sms: Sequence[int] = (80,)) -> PluginLibrary:
    """Write `libfastadasp_plugins.so` into `folder`.

    Raises:
        DependencyError: g++, Triton or the headers of TensorRT are missing, or a tool of them fails.
    """
    found, includes = compiler(), headers()
    folder.mkdir(parents=True, exist_ok=True)
    with temporary_folder(folder) as work:
        kernels = _compile(work, sms)
        (work / "kernels.inc").write_text(_table(kernels, work), "ascii")
        _link(found, [*includes, work], work / LIBRARY)
        part = folder / f"{LIBRARY}.part"
        shutil.copyfile(work / LIBRARY, part)
        part.replace(folder / LIBRARY)
    cubins = tuple(kernel for kernel in kernels if not kernel.is_ptx)
    return PluginLibrary(folder / LIBRARY, tuple(sorted(set(sms))), VERSION, cubins)


def compiler() -> str:
    """The C++ compiler.

    Raises:
        DependencyError: there is none.
    """
    found = shutil.which("g++")
    if found is None:
        raise DependencyError("g++ is not installed; install it, for instance with `apt-get install g++`")
    return found


def headers() -> list[Path]:
    """The folders of NvInferRuntime.h and of cuda.h.

    Raises:
        DependencyError: one of them is not there.
    """
    tensorrt = [place for place in _tensorrt_places() if (place / "NvInferRuntime.h").is_file()]
    if not tensorrt:
        raise DependencyError(
            "NvInferRuntime.h was not found; set TENSORRT_INCLUDE_DIR to the headers of TensorRT, or "
            "install them with `apt-get install libnvinfer-headers-dev` or `pip install kernel-lens`"
        )
    triton = _package("triton")
    if triton is None:
        raise DependencyError("triton is not installed; `pip install triton`")
    return [tensorrt[0], triton / "backends/nvidia/include"]


def _tensorrt_places() -> Iterator[Path]:
    if named := os.environ.get("TENSORRT_INCLUDE_DIR"):
        yield Path(named)
    yield from map(Path, SYSTEM_INCLUDES)
    if package := _package("kernel_lens"):
        yield package / "include/tensorrt"


def _package(name: str) -> Path | None:
    """The folder of an installed package, which is not imported."""
    spec = util.find_spec(name)
    return Path(spec.origin).parent if spec and spec.origin else None


def _compile(work: Path, sms: Sequence[int]) -> list[CompiledKernel]:
    # The interpreter replaces the compiler, and line tables hold the paths of this machine.
    environment = {name: text for name, text in os.environ.items() if name != "TRITON_INTERPRET"}
    environment |= {"TRITON_DISABLE_LINE_INFO": "1", "TRITON_DEFAULT_FP_FUSION": "1"}
    environment |= {"TRITON_CACHE_DIR": str(work / "cache"), "TMPDIR": str(work)}
    command = [sys.executable, "-m", "fastadasp.plugins.compile", str(work), *map(str, sorted(set(sms)))]
    _run(command, "Triton", environment)
    return [CompiledKernel(**entry) for entry in json.loads((work / "kernels.json").read_text("utf-8"))]


def _table(kernels: Sequence[CompiledKernel], work: Path) -> str:
    """`kernels.inc`: the images, and one row of `kKernels` for each."""
    images, rows = [], []
    for i, kernel in enumerate(kernels):
        data = ",".join(map(str, (work / kernel.file).read_bytes()))
        images.append(f"alignas(64) constexpr unsigned char kImage{i}[] = {{{data}}};")
        names = f'"{kernel.name}", "{kernel.symbol}", "{kernel.type}"'
        sizes = f"{kernel.head_block}, {kernel.block}, {kernel.sm}, {str(kernel.is_ptx).lower()}"
        rows.append(f"    {{{names}, {sizes}, {kernel.warps}, {kernel.shared_bytes}, kImage{i}}},")
    table = ["constexpr Kernel kKernels[] = {", *rows, "};"]
    return "\n".join(["namespace fastadasp {", "namespace {", *images, *table, "}", "}", ""])


def _link(program: str, includes: Sequence[Path], library: Path) -> None:
    words = [part for place in includes for part in ("-isystem", str(place))]
    sources = [str(NATIVE / name) for name in SOURCES]
    environment = os.environ | {"TMPDIR": str(library.parent)}
    _run([program, *FLAGS, *words, *sources, "-o", str(library), *LINK_FLAGS], "g++", environment)


def _run(command: Sequence[str], tool: str, environment: dict[str, str]) -> None:
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    if done.returncode:
        raise DependencyError(f"{tool} cannot build the plugins: {done.stderr.strip()[-2000:]}")
