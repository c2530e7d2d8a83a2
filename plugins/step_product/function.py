"""The product of a decode step from standard ONNX ops: few rows from the left, many from the right."""

from __future__ import annotations

import onnx

from ..body import FLOAT, Body, function, value
from .op import STEP_PRODUCT


def step_product() -> onnx.FunctionProto:
    """`StepProduct`. Of many rows it is no Gemm: ONNX Runtime would turn that back, to save a Transpose."""
    b, few, many = Body(), Body("few_"), Body("many_")
    turned = many.op("MatMul", "weight", many.op("Transpose", "x", perm=[1, 0]))
    of_many = many.op("Transpose", turned, perm=[1, 0])
    of_few = few.op("Gemm", "x", "weight", transB=1)
    branches = (("then_branch", many, of_many), ("else_branch", few, of_few))
    graphs = {
        name: onnx.helper.make_graph(body.nodes, name, [], [value(output, FLOAT, [None, None])])
        for name, body, output in branches
    }
    b.op("If", "many", outputs=["output"], **graphs)
    return function(STEP_PRODUCT, ["x", "weight", "many"], ["output"], b)
