"""The SwiGLU MLP from standard ONNX ops: a Loop over row chunks, so the wide layer stays in the cache."""

from __future__ import annotations

import onnx

from ..body import BOOL, FLOAT, INT64, Body, function, value
from .op import GATED_MLP, ROW_CHUNK


def gated_mlp() -> onnx.FunctionProto:
    """`GatedMLP`. As many chunks as `ROW_CHUNK` asks for, all equally long, so that few rows are computed
    twice: in the last chunk the last row stands in for those past the end, and is cut off.
    """
    b, step = Body(), Body("rows_")
    rows = b.dim("x", 0)
    chunks = _divided_up(b, rows, b.ints(ROW_CHUNK))
    size = _divided_up(b, rows, chunks)
    within = b.range(size)
    last = b.op("Sub", rows, b.ints(1))
    start = step.op("Mul", step.op("Reshape", "rows_i", step.ints(1)), size)
    x = step.op("Gather", "x", step.op("Min", step.op("Add", start, within), last), axis=0)
    gate, up = (step.op("Gemm", x, weight, transB=1) for weight in ("gate", "up"))
    gated = step.op("Mul", step.op("Mul", gate, step.op("Sigmoid", gate)), up)
    y = step.op("Gemm", gated, "down", transB=1)
    inputs = [value("rows_i", INT64, []), value("rows_go", BOOL, [])]
    (stacked,) = b.loop(chunks, step, inputs, [value(y, FLOAT, [None, None])])
    flat = b.op("Reshape", stacked, b.op("Concat", b.ints(-1), b.dim(stacked, 2), axis=0))
    b.op("Slice", flat, b.ints(0), rows, b.ints(0), outputs=["output"])
    return function(GATED_MLP, ["x", "gate", "up", "down"], ["output"], b)


def _divided_up(b: Body, x: str, by: str) -> str:
    """The quotient, rounded up."""
    return b.op("Div", b.op("Sub", b.op("Add", x, by), b.ints(1)), by)
