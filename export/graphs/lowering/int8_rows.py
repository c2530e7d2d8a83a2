"""Products of int8 on ONNX Runtime: each row of activations gets a scale of its own, so no row costs another.

The activations are uint8 around 128, as the kernels of MatMulIntegerToFloat want them.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from onnx import numpy_helper

from ....plugins.body import Value
from ...checkpoint.quantized import LARGEST_INT8, MIDDLE_OF_UINT8, QuantizedRows
from ..graph import Graph

CONTRIB = "com.microsoft"
SMALLEST_SCALE = 1e-12  # of a row of zeros


def product(g: Graph, x: str, weight: QuantizedRows, name: str, **output: Any) -> Value:
    """x W^T, float32 in and out."""
    rows, scales = _quantized(g, x, name)
    values, steps = g.weight(weight.values), g.weight(weight.scales)
    whole = g.op(
        "MatMulIntegerToFloat",
        *(rows, values, g.const(1, np.float32), steps, g.const(MIDDLE_OF_UINT8, np.uint8)),
        name=f"{name}/int8",
        domain=CONTRIB,
    )
    return g.op("Mul", whole, g.op("Unsqueeze", scales, g.ints(1)), name=name, **output)


def _quantized(g: Graph, x: str, name: str) -> tuple[Value, Value]:
    """Rows (rows, in) as uint8, and the scale of each, (rows,). Equal nodes are merged when a graph loads."""
    largest = g.op("ReduceMax", g.op("Abs", x), g.ints(1), keepdims=0)
    scales = g.op("Mul", largest, g.const(1 / LARGEST_INT8, np.float32))
    scales = g.op("Max", scales, g.const(SMALLEST_SCALE, np.float32))
    middle = numpy_helper.from_array(np.array([MIDDLE_OF_UINT8], np.uint8))
    middles = g.op("ConstantOfShape", g.op("Shape", scales), value=middle)
    return g.op("QuantizeLinear", x, scales, middles, name=f"{name}/rows", axis=0), scales
