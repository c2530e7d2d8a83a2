"""What the CUDA provider of an onnxruntime-gpu wheel takes, asked of the provider, without a GPU.

The provider's library loads if the CUDA libraries that it names are there. This compiles libraries of these
names whose functions do nothing (memory is the host's, kernels are never run), and asks the provider for its
kernels, or has it place the nodes of graphs. So the answers are those of the wheel; nothing is computed, and
nothing is said about speed or numbers.

    python bench/cuda_provider.py WHEEL_FOLDER --kernels tests/export/graphs/cuda_kernels.json
    python bench/cuda_provider.py WHEEL_FOLDER --place ART/onnxruntime-cuda.decode.onnx …

WHEEL_FOLDER is where the wheel was unpacked: `pip install --no-deps --target WHEEL_FOLDER onnxruntime-gpu`.
It needs gcc, nm, and the headers of CUDA that Triton brings.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from collections import Counter
from importlib.util import find_spec
from pathlib import Path
from typing import Any

PROVIDERS = ("libonnxruntime_providers_cuda.so", "libonnxruntime_providers_tensorrt.so")
UNVERSIONED = {"cu": "libcuda.so.1", "create": "libnvinfer.so.10", "get": "libnvinfer.so.10"}
EMPTY = ("libcurand.so.10", "libnvonnxparser.so.10")
OPSET = 23
OF_THE_GRAPHS = "CUDAExecutionProvider"
LOADED = "FASTADASP_WITHOUT_DEVICE"  # set where the libraries below are in the search path

FUNCTIONS = r"""
#include <driver_types.h>
#include <stdlib.h>
#include <string.h>
static long handle[4];
int cudaGetDeviceCount(int *n) { *n = 1; return 0; }
int cudaGetDevice(int *n) { *n = 0; return 0; }
int cudaMalloc(void **p, size_t n) { *p = aligned_alloc(256, (n + 511) / 256 * 256); return 0; }
int cudaMallocHost(void **p, size_t n) { return cudaMalloc(p, n); }
int cudaHostAlloc(void **p, size_t n, unsigned f) { return cudaMalloc(p, n); }
int cudaMallocFromPoolAsync(void **p, size_t n, void *pool, void *s) { return cudaMalloc(p, n); }
int cudaFree(void *p) { free(p); return 0; }
int cudaFreeHost(void *p) { free(p); return 0; }
int cudaFreeAsync(void *p, void *s) { free(p); return 0; }
int cudaMemGetInfo(size_t *a, size_t *b) { *a = *b = (size_t)80 << 30; return 0; }
int cudaGetDeviceProperties(struct cudaDeviceProp *p, int d) {
  memset(p, 0, sizeof *p);
  strcpy(p->name, "none");
  p->major = 8; p->totalGlobalMem = (size_t)80 << 30; p->multiProcessorCount = 108; p->warpSize = 32;
  p->maxThreadsPerBlock = 1024; p->maxThreadsPerMultiProcessor = 2048; p->sharedMemPerBlock = 49152;
  p->sharedMemPerBlockOptin = 166912; p->sharedMemPerMultiprocessor = 167936;
  p->maxThreadsDim[0] = 1024; p->maxGridSize[0] = 2147483647; p->maxGridSize[1] = p->maxGridSize[2] = 65535;
  return 0;
}
int cudaMemcpy(void *d, const void *s, size_t n, int k) { memcpy(d, s, n); return 0; }
int cudaMemcpyAsync(void *d, const void *s, size_t n, int k, void *t) { memcpy(d, s, n); return 0; }
int cudaMemset(void *d, int v, size_t n) { memset(d, v, n); return 0; }
int cudaMemsetAsync(void *d, int v, size_t n, void *s) { memset(d, v, n); return 0; }
const char *cudaGetErrorString(int e) { return "no device"; }
const char *cudaGetErrorName(int e) { return "no device"; }
int cudaStreamCreate(void **p) { *p = handle; return 0; }
int cudaStreamCreateWithFlags(void **p, unsigned f) { *p = handle; return 0; }
int cudaEventCreate(void **p) { *p = handle; return 0; }
int cudaEventCreateWithFlags(void **p, unsigned f) { *p = handle; return 0; }
int cudaDeviceGetAttribute(int *v, int a, int d) {
  *v = 8 * (a == cudaDevAttrComputeCapabilityMajor);
  return 0;
}
int cudaDriverGetVersion(int *v) { *v = 13000; return 0; }
int cudaRuntimeGetVersion(int *v) { *v = 13000; return 0; }
void **__cudaRegisterFatBinary(void *p) { static void *none[2]; return none; }
int cudaStreamIsCapturing(void *s, int *x) { *x = 0; return 0; }
int cudaPointerGetAttributes(struct cudaPointerAttributes *a, const void *p) {
  memset(a, 0, sizeof *a);
  a->type = cudaMemoryTypeDevice; a->devicePointer = a->hostPointer = (void *)p;
  return 0;
}
int cudaFuncGetAttributes(struct cudaFuncAttributes *a, const void *f) { memset(a, 0, sizeof *a); return 0; }
int cublasCreate_v2(void **p) { *p = handle; return 0; }
int cublasLtCreate(void **p) { *p = handle; return 0; }
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("wheel", type=Path, help="folder of the unpacked wheel")
    parser.add_argument(
        "--kernels", type=Path, metavar="FILE", help="write the kernels of the provider as JSON"
    )
    parser.add_argument(
        "--place", type=Path, nargs="+", metavar="GRAPH", help="say where the nodes of graphs go"
    )
    options = parser.parse_args()
    if LOADED not in os.environ:
        with tempfile.TemporaryDirectory() as folder:
            make_libraries(options.wheel, Path(folder))
            environment = {**os.environ, "LD_LIBRARY_PATH": folder, LOADED: "1", "ORT_DISABLE_TELEMETRY": "1"}
            command = [sys.executable, __file__, *map(str, sys.argv[1:])]
            sys.exit(subprocess.run(command, env=environment, check=False).returncode)
    sys.path.insert(0, str(options.wheel))
    if options.kernels:
        options.kernels.write_text(kernels_as_json(), "utf-8")
    for graph in options.place or ():
        print(f"{graph}: {placement(graph)}")


def make_libraries(wheel: Path, folder: Path) -> None:
    """Compile a library for each name that the providers need."""
    wanted: dict[str, set[str]] = {name: set() for name in EMPTY}
    for provider in PROVIDERS:
        for symbol, library in undefined(wheel / "onnxruntime" / "capi" / provider):
            wanted.setdefault(library, set()).add(symbol)
    triton = find_spec("triton")
    assert triton, "triton is not installed; its headers are needed"
    assert triton.origin
    headers = Path(triton.origin).parent / "backends" / "nvidia" / "include"
    for library, symbols in wanted.items():
        own = [line for line in FUNCTIONS.splitlines() if line[:1].isalpha() or line[:3] == "con"]
        defined = {word.split("(")[0].lstrip("*") for line in own for word in line.split() if "(" in word}
        shared = FUNCTIONS if symbols & defined else ""
        source = shared + "".join(f"int {name}(void) {{ return 0; }}\n" for name in sorted(symbols - defined))
        version = (
            f"{library} {{ global: *; }};"
            if symbols and library not in UNVERSIONED.values()
            else "{ global: *; };"
        )
        (folder / "library.c").write_text(source)
        (folder / "version.map").write_text(version)
        command = [
            "gcc",
            "-w",
            "-shared",
            "-fPIC",
            "-fno-builtin",
            f"-I{headers}",
            "library.c",
            "-o",
            library,
        ]
        command += [f"-Wl,-soname,{library}", "-Wl,--version-script=version.map"]
        subprocess.run(command, cwd=folder, check=True)


def undefined(library: Path) -> list[tuple[str, str]]:
    """Functions of CUDA, cuBLAS, cuDNN and TensorRT that a library calls, and the library that has them."""
    listed = subprocess.run(
        ["nm", "-D", "--undefined-only", library], capture_output=True, text=True, check=True
    )
    found = []
    for line in listed.stdout.splitlines():
        symbol, _, version = line.split()[-1].partition("@")
        if version.startswith("libcu"):
            found.append((symbol, version))
        elif not version:
            owner = next((of for prefix, of in UNVERSIONED.items() if symbol.startswith(prefix)), None)
            found += [(symbol, owner)] if owner else []
    return found


def kernels_as_json() -> str:
    """Every kernel that takes a node of the opset of our graphs: name -> the types of each."""
    import onnxruntime
    from onnxruntime.capi import onnxruntime_pybind11_state as state

    kernels: dict[str, list[dict[str, list[str]]]] = {}
    for kernel in state.get_all_opkernel_def():
        first, last = kernel.version_range
        standard = kernel.domain == "" and first <= OPSET <= last
        if kernel.provider == OF_THE_GRAPHS and (standard or kernel.domain == "com.microsoft"):
            name = kernel.op_name if standard else f"{kernel.domain}::{kernel.op_name}"
            types = {key: sorted(map(plain, it)) for key, it in sorted(kernel.type_constraints.items())}
            kernels.setdefault(name, []).append(types)
    lines = [f" {json.dumps(name)}: {json.dumps(kernels[name])}" for name in sorted(kernels)]
    source = f"onnxruntime-gpu {onnxruntime.__version__}, opset {OPSET}"
    return f'{{"source": {json.dumps(source)}, "kernels": {{\n' + ",\n".join(lines) + "\n}}\n"


def plain(tensor_type: str) -> str:
    return tensor_type.removeprefix("tensor(").removesuffix(")")


def placement(graph: Path) -> dict[str, Any]:
    """How many nodes go to each provider, and the operators of those that do not go to CUDA."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    options.add_session_config_entry("session.record_ep_graph_assignment_info", "1")
    session = onnxruntime.InferenceSession(graph, options, providers=[OF_THE_GRAPHS, "CPUExecutionProvider"])
    counts: Counter[str] = Counter()
    others: Counter[str] = Counter()
    for part in session.get_provider_graph_assignment_info():
        for node in part.get_nodes():
            counts[part.ep_name] += 1
            others[node.op_type] += part.ep_name != OF_THE_GRAPHS
    return {"nodes": dict(counts), "elsewhere": {name: count for name, count in others.items() if count}}


if __name__ == "__main__":
    main()
