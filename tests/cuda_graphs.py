"""Graphs for the CUDA provider without one: which nodes it has no kernel for, and what bf16 would give."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

FILE = Path(__file__).with_name("export") / "graphs" / "cuda_kernels.json"
KERNELS = json.loads(FILE.read_text("utf-8"))["kernels"]
CONTRIB_TYPES = {
    "com.microsoft::SkipSimplifiedLayerNormalization": ("T", "T", "T"),
    "com.microsoft::MatMulNBits": ("T1", "T2", "T1", "T3"),
}
"""Operator -> the type parameter of each input; inputs at the end may be missing."""
OF_SHAPES = ("Shape", "Constant")
SAME_NODE = {"CastLike": "Cast"}  # which it becomes when a graph is loaded
BF16 = TensorProto.BFLOAT16


def without_kernel(graph):
    """Operators and types of a graph that the provider has no kernel for."""
    types = types_of(graph)
    for node in graph.graph.node:
        name = SAME_NODE.get(node.op_type, node.op_type)
        name = f"{node.domain}::{name}" if node.domain else name
        if name in OF_SHAPES:
            continue
        bound = bound_types(node, name, types)
        if not any(
            all(bound[key] in allowed for key, allowed in kernel.items() if key in bound)
            for kernel in KERNELS.get(name, [])
        ):
            yield name, tuple(sorted(bound.items()))


def types_of(graph):
    """Value -> its element type as the list of kernels names it."""
    own = {tensor.name: tensor.data_type for tensor in graph.graph.initializer}
    typed = onnx.ModelProto()
    typed.CopyFrom(graph)
    for node in graph.graph.node:
        if node.op_type == "MatMulNBits":  # onnx does not know it; the scales tell
            typed.graph.value_info.append(
                helper.make_tensor_value_info(node.output[0], own[node.input[2]], None)
            )
    inferred = onnx.shape_inference.infer_shapes(typed).graph
    found = {value.name: value.type.tensor_type.elem_type for value in inferred.value_info}
    found |= {value.name: value.type.tensor_type.elem_type for value in (*inferred.input, *inferred.output)}
    found |= {tensor.name: tensor.data_type for tensor in inferred.initializer}
    return {name: TensorProto.DataType.Name(number).lower() for name, number in found.items()}


def bound_types(node, name, types):
    """Type parameter of the operator -> what this node has there."""
    if node.domain:
        keys = CONTRIB_TYPES[name]
        return {key: types[value] for key, value in zip(keys, node.input, strict=False)}
    schema = onnx.defs.get_schema(node.op_type, 23)
    pairs = []
    for formals, values in ((schema.inputs, node.input), (schema.outputs, node.output)):
        last = len(formals) - 1
        pairs += [(formals[min(i, last)].type_str, value) for i, value in enumerate(values) if value]
    return {key: types[value] for key, value in pairs if "(" not in key}


def as_float32(graph, rounds):
    """A graph of bf16 as one of float32 with the same weights.

    Args:
        graph: with its weights in it.
        rounds: whether every number is rounded to bf16 as soon as it is there. Within a node the CPU computes
            in float32, as the matrix units of a GPU add up; what a kernel rounds inside is not told.
    """
    types, nodes = types_of(graph), list(graph.graph.node)
    del graph.graph.node[:], graph.graph.value_info[:]
    for node in nodes:
        _widen_attributes(node)
        outputs = [name for name in node.output if rounds and types.get(name) == "bfloat16"]
        node.output[:] = [f"{name}/exact" if name in outputs else name for name in node.output]
        graph.graph.node.append(node)
        for name in outputs:
            graph.graph.node.extend(_rounded(f"{name}/exact", name))
    for tensor in graph.graph.initializer:
        _widen(tensor)
    for each in (*graph.graph.input, *graph.graph.output):
        if each.type.tensor_type.elem_type == BF16:
            each.type.tensor_type.elem_type = TensorProto.FLOAT
    return graph


def _rounded(name, output):
    """Nodes that round float32 to numbers of bf16."""
    return [
        helper.make_node("Cast", [name], [f"{output}/bf16"], to=BF16),
        helper.make_node("Cast", [f"{output}/bf16"], [output], to=TensorProto.FLOAT),
    ]


def _widen_attributes(node):
    for attribute in node.attribute:
        if attribute.name == "to" and attribute.i == BF16:
            attribute.i = TensorProto.FLOAT
        if attribute.name == "value":
            _widen(attribute.t)


def _widen(tensor):
    if tensor.data_type == BF16:
        wide = numpy_helper.to_array(tensor).astype(np.float32)
        tensor.CopyFrom(numpy_helper.from_array(wide, tensor.name))
