"""Products of int8 on ONNX Runtime: each row of activations gets a scale of its own, so no row costs another.

The activations are uint8 around a middle, as the kernels of MatMulIntegerToFloat want them.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from onnx import numpy_helper

from ....plugins.body import Body, Value
from ...checkpoint.quantized import LARGEST_INT8, MIDDLE_OF_UINT8, QuantizedRows
from ..graph import Graph, Rounding

CONTRIB = "com.microsoft"
SMALLEST_SCALE = 1e-12  # of a row of zeros
LARGEST_UINT8 = 255
GELU_LEAST = 0.17  # GELU gives nothing below the negative of it
GELU_MIDDLE = 16  # stands for 0 in rows that GELU gave: steps below it are needed for `GELU_LEAST` alone
REST_SCALE = 0.5 / LARGEST_INT8  # of what rounding leaves of a row, half a step at most, to the row's own


@dataclass(frozen=True)
class _Rows:
    """Rows (rows, in) as uint8: x = scales * (values - middle)."""

    values: Value
    scales: Value  # (rows,)
    middle: int


def product(
    g: Graph, x: str, weight: QuantizedRows, name: str, rounding: Rounding = Rounding.ROWS, **output: Any
) -> Value:
    """x W^T, float32 in and out."""
    rows = _after_gelu(g, x, name) if rounding is Rounding.AFTER_GELU else _around_zero(g, x, name)
    whole = _fine(g, x, rows, weight, name) if rounding is Rounding.FINE else _product(g, rows, weight, name)
    return g.op("Mul", whole, g.op("Unsqueeze", rows.scales, g.ints(1)), name=name, **output)


def scales_of(b: Body, largest: str, steps: int = LARGEST_INT8) -> Value:
    """The scales by which so many steps reach these numbers."""
    scales = b.op("Mul", largest, b.const(1 / steps, np.float32))
    return b.op("Max", scales, b.const(SMALLEST_SCALE, np.float32))


def around(b: Body, x: str, scales: str, middle: int, dtype: Any, name: str) -> Value:
    """Whole steps of each part along the first axis, (parts, ...), around an integer that stands for 0."""
    filling = numpy_helper.from_array(np.array([middle], dtype))
    middles = b.op("ConstantOfShape", b.op("Shape", scales), value=filling)
    return b.op("QuantizeLinear", x, scales, middles, name=name, axis=0)


def _product(g: Graph, rows: _Rows, weight: QuantizedRows, name: str) -> Value:
    """The product of the integers, times the scales of the outputs.

    ONNX Runtime cannot copy a weight that two nodes read to uint8 (`WEIGHTS_AS_UINT8` of the runtime).
    """
    assert not g.reads(weight.values), f"{name}: {weight.values.name} is read by another node"
    values, steps = g.weight(weight.values), g.weight(weight.scales)
    return g.op(
        "MatMulIntegerToFloat",
        *(rows.values, values, g.const(1, np.float32), steps, g.const(rows.middle, np.uint8)),
        name=f"{name}/int8",
        domain=CONTRIB,
    )


def _fine(g: Graph, x: str, rows: _Rows, weight: QuantizedRows, name: str) -> Value:
    """As `_product`, and that of what rounding left of the rows, in one: both stand one below the other."""
    both = g.op("Concat", rows.values, _rest(g, x, rows, name), axis=0, name=f"{name}/both")
    found = _product(g, replace(rows, values=both), weight, name)
    whole, rest = g.ops("Split", found, outputs=2, num_outputs=2, axis=0, name=f"{name}/parts")
    return g.op("Add", whole, g.op("Mul", rest, g.const(REST_SCALE, np.float32)), name=f"{name}/whole")


def _around_zero(g: Graph, x: str, name: str) -> _Rows:
    """Equal nodes are merged when a graph loads: rows are rounded once for several matrices."""
    scales = scales_of(g, g.op("ReduceMax", g.op("Abs", x), g.ints(1), keepdims=0))
    return _Rows(around(g, x, scales, MIDDLE_OF_UINT8, np.uint8, f"{name}/rows"), scales, MIDDLE_OF_UINT8)


def _after_gelu(g: Graph, x: str, name: str) -> _Rows:
    """Nearly all steps are for positive numbers."""
    scales = scales_of(g, g.op("ReduceMax", x, g.ints(1), keepdims=0), LARGEST_UINT8 - GELU_MIDDLE)
    scales = g.op("Max", scales, g.const(GELU_LEAST / GELU_MIDDLE, np.float32))
    return _Rows(around(g, x, scales, GELU_MIDDLE, np.uint8, f"{name}/rows"), scales, GELU_MIDDLE)


def _rest(g: Graph, x: str, rows: _Rows, name: str) -> Value:
    """What rounding left of the rows, as integers around the same middle; their scales times `REST_SCALE`."""
    middle = numpy_helper.from_array(np.array([rows.middle], np.uint8))
    middles = g.op("ConstantOfShape", g.op("Shape", rows.scales), value=middle)
    rounded = g.op("DequantizeLinear", rows.values, rows.scales, middles, name=f"{name}/rounded", axis=0)
    rest = g.op("Sub", x, rounded, name=f"{name}/rest")
    scales = g.op("Mul", rows.scales, g.const(REST_SCALE, np.float32))
    return around(g, rest, scales, rows.middle, np.uint8, f"{name}/rest/rows")
