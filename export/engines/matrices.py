"""The quantised matrices of a graph for TensorRT, and whether its plan holds them in as few bits."""

from __future__ import annotations

import math
from collections import Counter
from pathlib import Path

import onnx
from onnx import TensorProto

from ...profiles.errors import EngineError

FORMS = {TensorProto.INT8: ("int8", 8), TensorProto.INT4: ("int4", 4)}
"""Type of a matrix -> what it is called, and its bits."""

BITS_OF_ENGINES = 16
KERNEL_BYTES = 1 << 20  # beside each matrix, at most: plans of TensorRT-RTX 1.7.1 have a quarter of it


def matrices_by_form(graph: Path) -> dict[str, int]:
    """How many matrices of each form a graph has."""
    return dict(Counter(FORMS[matrix.data_type][0] for matrix in _matrices(_read(graph))))


def check_plan_size(graph: Path, plan: Path) -> None:
    """Refuse a plan for which the builder made 16-bit matrices of the quantised ones.

    Plans hold matrices as they are, and kernels. In a small model the kernels hide all that is saved, so that
    nothing is refused; in a large one more than half of it must be there.

    Raises:
        EngineError: with the bytes of both.
    """
    model = _read(graph)
    matrices = _matrices(model)
    saved = sum(_numbers(each) * (BITS_OF_ENGINES - FORMS[each.data_type][1]) // 8 for each in matrices)
    stored = sum(map(_stored_bytes, model.initializer))
    allowed = stored + max(saved // 2, KERNEL_BYTES * len(matrices))
    if matrices and (found := plan.stat().st_size) > allowed:
        raise EngineError(
            f"engine {plan.stem}: the plan has {found} bytes, its weights {stored}: the library has stored "
            "quantised matrices in 16 bits; build without --quantize, or with another version of it"
        )


def _read(graph: Path) -> onnx.GraphProto:
    return onnx.load(str(graph), load_external_data=False).graph


def _matrices(model: onnx.GraphProto) -> list[onnx.TensorProto]:
    """Initializers that a node makes numbers of."""
    initializers = {initializer.name: initializer for initializer in model.initializer}
    return [initializers[node.input[0]] for node in model.node if node.op_type == "DequantizeLinear"]


def _numbers(tensor: onnx.TensorProto) -> int:
    return math.prod(tensor.dims)


def _stored_bytes(tensor: onnx.TensorProto) -> int:
    external = {entry.key: entry.value for entry in tensor.external_data}
    return int(external["length"]) if external else len(tensor.raw_data)
