"""The provider of a device: whether it is there, its settings, and which nodes of a graph it did not take."""

from __future__ import annotations

import contextlib
import logging
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import onnxruntime as ort

from ...profiles.errors import DependencyError, EngineError
from ..onnxruntime.options import CPU as CPU_PROVIDER
from .options import CPU, OnnxRuntimeCudaOptions

LOGGER = logging.getLogger(__name__)
CUDA_PROVIDER = "CUDAExecutionProvider"
REMEDY = (
    'pip install "fastadasp-export[gpu]", then remove the package onnxruntime and install onnxruntime-gpu '
    "once more, because both fill the same folder"
)
RECORD = "session.record_ep_graph_assignment_info"
OF_SHAPES = {
    *("Add", "Sub", "Mul", "Div", "Mod", "Min", "Max", "Neg", "Equal", "Less", "Greater", "Where", "Cast"),
    *("Shape", "Size", "Concat", "Gather", "Slice", "Squeeze", "Unsqueeze", "Reshape", "Identity", "Range"),
}
"""Operators that compute sizes: ONNX Runtime keeps these on the host, where allocations are made, by intent.

On rows they all have kernels for CUDA, in every type of our graphs, and so go there.
"""
TENSOR_CORES_ROUND = "fp32"  # numbers of a graph that these would round


def providers(options: OnnxRuntimeCudaOptions, precision: str, captures: bool = False) -> list[Any]:
    """What ONNX Runtime takes as providers, the device first; one that `captures` needs all nodes there.

    Raises:
        DependencyError: this build of onnxruntime has no CUDA provider.
    """
    if options.kind == CPU:
        return [CPU_PROVIDER]
    if CUDA_PROVIDER not in ort.get_available_providers():
        raise DependencyError(
            f"this build of onnxruntime has no {CUDA_PROVIDER}; {REMEDY}; or use the backend onnxruntime"
        )
    with contextlib.redirect_stdout(sys.stderr):  # it prints what it cannot find
        ort.preload_dlls()
    settings = {
        "device_id": str(options.number),
        "arena_extend_strategy": "kSameAsRequested",  # doubling would take memory that no request needs
        "use_tf32": str(int(precision != TENSOR_CORES_ROUND)),  # exact for what came from 16 bits
        "enable_cuda_graph": str(int(captures)),
    }
    return [(CUDA_PROVIDER, settings), CPU_PROVIDER]


def check_placement(session: Any, path: Path, options: OnnxRuntimeCudaOptions) -> None:
    """Look where the nodes of a loaded graph went.

    Raises:
        EngineError: the provider did not start; or, with `strict`, it did not take every node.
    """
    if options.kind == CPU:
        return
    if CUDA_PROVIDER not in session.get_providers():
        raise EngineError(
            f"{path}: the CUDA provider did not start, so that the graph would run on the CPU: it needs a "
            "GPU with its driver, CUDA 13 and cuDNN 9, and says on stderr what is missing"
        )
    if not (left := left_out(session)):
        return
    words = ", ".join(f"{name} ({count})" for name, count in sorted(left.items()))
    if options.strict:
        raise EngineError(f"{path}: nodes that the CUDA provider does not take: {words}; run without strict")
    LOGGER.warning("%s: these nodes run on the CPU, and their inputs are copied there: %s", path, words)


def left_out(session: Any) -> Counter[str]:
    """Operators of nodes that went elsewhere, without those that compute sizes."""
    return Counter(
        node.op_type
        for part in session.get_provider_graph_assignment_info()
        if part.ep_name != CUDA_PROVIDER
        for node in part.get_nodes()
        if node.op_type not in OF_SHAPES
    )
