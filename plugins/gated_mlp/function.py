"""The SwiGLU MLP from standard ONNX ops: a Loop over row chunks, so the wide layer stays in the cache."""

from __future__ import annotations

import onnx

from ..body import BOOL, FLOAT, INT64, Body, function, value
from .op import GATED_MLP, ROW_CHUNK, STEP_MLP, STEP_PRODUCT


def gated_mlp() -> onnx.FunctionProto:
    """`GatedMLP`. As many chunks as `ROW_CHUNK` asks for, all equally long, so that few rows are computed
    twice: in the last chunk the last row stands in for those past the end, and is cut off.
    """
    b, step = Body(), Body("rows_")
    rows = b.dim("x", 0)
    chunks = _divided_up(b, rows, b.ints(ROW_CHUNK))
    size = _divided_up(b, rows, chunks)
    within = b.op("Range", b.const(0), b.op("Squeeze", size, b.ints(0)), b.const(1))
    last = b.op("Sub", rows, b.ints(1))
    start = step.op("Mul", step.op("Reshape", "rows_i", step.ints(1)), size)
    x = step.op("Gather", "x", step.op("Min", step.op("Add", start, within), last), axis=0)
    gate, up = (step.op("Gemm", x, weight, transB=1) for weight in ("gate", "up"))
    y = step.op("Gemm", _gated(step, gate, up), "down", transB=1)
    inputs = [value("rows_i", INT64, []), value("rows_go", BOOL, [])]
    (stacked,) = b.loop(chunks, step, inputs, [value(y, FLOAT, [None, None])])
    flat = b.op("Reshape", stacked, b.op("Concat", b.ints(-1), b.dim(stacked, 2), axis=0))
    b.op("Slice", flat, b.ints(0), rows, b.ints(0), outputs=["output"])
    return function(GATED_MLP, ["x", "gate", "up", "down"], ["output"], b)


def _divided_up(b: Body, x: str, by: str) -> str:
    """The quotient, rounded up."""
    return b.op("Div", b.op("Sub", b.op("Add", x, by), b.ints(1)), by)


def step_mlp() -> onnx.FunctionProto:
    """`StepMLP`: many rows are columns until the end.

    The last product is no Gemm, which ONNX Runtime would turn back to save the Transpose behind it.
    """
    b, few, many = Body(), Body("few_"), Body("many_")
    gate, up = (few.op("Gemm", "x", weight, transB=1) for weight in ("gate", "up"))
    of_few = few.op("Gemm", _gated(few, gate, up), "down", transB=1)
    gate, up = (many.op("Gemm", weight, "x", transB=1) for weight in ("gate", "up"))
    of_many = many.op("Transpose", many.op("MatMul", "down", _gated(many, gate, up)), perm=[1, 0])
    _either(b, of_many, many, of_few, few)
    return function(STEP_MLP, ["x", "gate", "up", "down", "many"], ["output"], b)


def step_product() -> onnx.FunctionProto:
    """`StepProduct`."""
    b, few, many = Body(), Body("few_"), Body("many_")
    of_few = few.op("Gemm", "x", "weight", transB=1)
    turned = many.op("MatMul", "weight", many.op("Transpose", "x", perm=[1, 0]))
    of_many = many.op("Transpose", turned, perm=[1, 0])
    _either(b, of_many, many, of_few, few)
    return function(STEP_PRODUCT, ["x", "weight", "many"], ["output"], b)


def _gated(b: Body, gate: str, up: str) -> str:
    return b.op("Mul", b.op("Mul", gate, b.op("Sigmoid", gate)), up)


def _either(b: Body, of_many: str, many: Body, of_few: str, few: Body) -> None:
    """Write `output`: what one of two bodies computes."""
    graphs = {
        name: onnx.helper.make_graph(body.nodes, name, [], [value(output, FLOAT, [None, None])])
        for name, body, output in (("then_branch", many, of_many), ("else_branch", few, of_few))
    }
    b.op("If", "many", outputs=["output"], **graphs)
