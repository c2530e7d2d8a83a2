"""A sequence of ONNX nodes: the few lines around onnx.helper that function bodies and graphs share."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any, NewType

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

OPSET = 23
IR_VERSION = 11
DOMAIN = "fastadasp"
DOMAIN_VERSION = 1
FLOAT, INT64, BOOL = TensorProto.FLOAT, TensorProto.INT64, TensorProto.BOOL

Dim = int | str | None
Value = NewType("Value", str)
"""The name of a value of a graph: what a node gives, not how the node is called."""


def value(name: str, dtype: int, shape: Sequence[Dim] | None) -> onnx.ValueInfoProto:
    """A typed value; a string names a dynamic axis, `shape=None` leaves the rank open."""
    return helper.make_tensor_value_info(name, dtype, shape)


class Body:
    """Collects nodes in execution order and names their outputs.

    `prefix` starts every value name, so that a subgraph never shadows a value of the graph around it. A body
    `within` another one adds to its nodes and shares its constants.
    """

    def __init__(self, prefix: str = "", within: Body | None = None) -> None:
        self.prefix = prefix
        self.nodes: list[onnx.NodeProto] = within.nodes if within else []
        self._constants: dict[tuple[str, tuple[int, ...], bytes], Value] = within._constants if within else {}
        self._constant_prefix: str = within._constant_prefix if within else prefix
        self._names: Counter[str] = Counter()

    def op(
        self,
        op_type: str,
        *inputs: str,
        name: str = "",
        outputs: Sequence[str] | int = 1,
        domain: str = "",
        **attributes: Any,
    ) -> Value:
        """Append a node with one output of interest; return the name of its first output."""
        return self.ops(op_type, *inputs, name=name, outputs=outputs, domain=domain, **attributes)[0]

    def ops(
        self,
        op_type: str,
        *inputs: str,
        name: str = "",
        outputs: Sequence[str] | int = 1,
        domain: str = "",
        **attributes: Any,
    ) -> list[Value]:
        """Append a node; return the names of all its outputs."""
        if isinstance(outputs, int):
            stem = f"{self.prefix}{name or op_type}_{len(self.nodes)}"
            outputs = [stem if i == 0 else f"{stem}.{i}" for i in range(outputs)]
        node_name = self._unique(f"{name}/{op_type}" if name else f"{self.prefix}{op_type}_{len(self.nodes)}")
        self.nodes.append(
            helper.make_node(op_type, inputs, outputs, name=node_name, domain=domain, **attributes)
        )
        return [Value(output) for output in outputs]

    def _unique(self, name: str) -> str:
        """The name itself, or with a number behind it where it is taken."""
        self._names[name] += 1
        return name if self._names[name] == 1 else f"{name}_{self._names[name]}"

    def const(self, data: Any, dtype: Any = np.int64) -> Value:
        """The name of a constant; equal constants are one node."""
        array = np.asarray(data, dtype)
        key = (array.dtype.str, array.shape, array.tobytes())
        if key not in self._constants:
            name = Value(f"{self._constant_prefix}const_{len(self._constants)}")
            tensor = numpy_helper.from_array(array, name)
            self.nodes.append(helper.make_node("Constant", [], [name], name=name, value=tensor))
            self._constants[key] = name
        return self._constants[key]

    def ints(self, *values: int) -> Value:
        """A 1-d int64 constant, as axes, shapes and bounds want it."""
        return self.const(values)

    def dim(self, tensor: str, axis: int) -> Value:
        """The size of one axis, int64 of shape (1,)."""
        return self.op("Shape", tensor, start=axis, end=axis + 1)

    def range(self, count: str) -> Value:
        """0 up to `count`, which is int64 of shape (1,)."""
        return self.op("Range", self.const(0), self.op("Squeeze", count, self.ints(0)), self.const(1))

    def slice(self, tensor: str, start: str, end: str, axis: int) -> Value:
        """Rows [start, end) of one axis; both bounds are int64 of shape (1,)."""
        return self.op("Slice", tensor, start, end, self.ints(axis))

    def shape(self, *dims: int | str) -> Value:
        """A shape for Reshape or Expand: integers, and the names of int64 values of shape (1,)."""
        if all(isinstance(dim, int) for dim in dims):
            return self.const(dims)
        return self.op("Concat", *(dim if isinstance(dim, str) else self.ints(dim) for dim in dims), axis=0)

    def reshape(self, tensor: str, *dims: int | str) -> Value:
        """Reshape to `dims` as `shape` takes them."""
        return self.op("Reshape", tensor, self.shape(*dims))

    def loop(
        self,
        trips: str,
        body: Body,
        inputs: Sequence[onnx.ValueInfoProto],
        outputs: Sequence[onnx.ValueInfoProto],
        carried: Sequence[str] = (),
        shapes: Sequence[onnx.ValueInfoProto] = (),
    ) -> list[Value]:
        """Append a Loop of `trips` iterations; return its carried values and stacked outputs.

        `inputs` are the iteration number, the condition and the carried values as the body names them;
        `outputs` are the body's carried values, then what it stacks. `shapes` annotate values inside.
        """
        condition = body.op("Identity", inputs[1].name)
        graph = helper.make_graph(
            body.nodes,
            f"{body.prefix}body",
            list(inputs),
            [value(condition, BOOL, []), *outputs],
            value_info=list(shapes),
        )
        always = self.const(True, np.bool_)
        return self.ops(
            "Loop",
            self.op("Squeeze", trips, self.ints(0)),
            always,
            *carried,
            outputs=len(outputs),
            body=graph,
        )


def function(
    op_type: str,
    inputs: Sequence[str],
    outputs: Sequence[str],
    body: Body,
    attributes: Sequence[str] = (),
    uses_own_ops: bool = False,
) -> onnx.FunctionProto:
    """A model-local function of the project's domain."""
    opsets = [helper.make_opsetid("", OPSET)]
    if uses_own_ops:
        opsets.append(helper.make_opsetid(DOMAIN, DOMAIN_VERSION))
    return helper.make_function(DOMAIN, op_type, inputs, outputs, body.nodes, opsets, list(attributes))
