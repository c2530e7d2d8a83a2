"""A graph over weights that stay where they are: a Body with inputs, outputs and external initializers."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from enum import Enum
from typing import Any, Protocol

import onnx
from onnx import TensorProto, helper

from ...plugins.body import DOMAIN, DOMAIN_VERSION, IR_VERSION, OPSET, Body, Dim, Value, value
from ...profiles.signature import ACTIVATION, TensorSpec
from ..checkpoint.derived import Weight, stored_in
from ..checkpoint.precision import FP32, Precision
from ..checkpoint.quantized import QuantizedWeight
from ..checkpoint.weights import WeightStore
from ..model.spec import LayerNorm, Linear

DTYPES = {
    "float32": TensorProto.FLOAT,
    "float16": TensorProto.FLOAT16,
    "int64": TensorProto.INT64,
    "bool": TensorProto.BOOL,
}
PRODUCER = "fastadasp-export"


class Rounding(Enum):
    """How finely rows are rounded where a backend multiplies a quantised matrix by rounded rows."""

    ROWS = "255 steps, up to the largest number of a row and down as far"
    FINE = "16 bits"
    AFTER_GELU = "as `ROWS`, of rows that GELU gave: no step is wasted on numbers that it never gives"


class Numbers(Protocol):
    """What a graph computes in, and how its backend multiplies by matrices in fewer bits."""

    @property
    def precision(self) -> Precision:
        """Of the activations, and of all weights without one of their own."""

    def quantized_product(
        self, g: Graph, x: str, weight: QuantizedWeight, name: str, rounding: Rounding, **output: Any
    ) -> Value:
        """x W^T for rows x, rounded no more than that."""


class Graph(Body):
    """Nodes named after the model, weights referenced by file and offset."""

    def __init__(self, name: str, store: WeightStore, numbers: Numbers) -> None:
        super().__init__()
        self.name, self.store, self.precision, self._numbers = name, store, numbers.precision, numbers
        self._inputs: list[onnx.ValueInfoProto] = []
        self._outputs: list[onnx.ValueInfoProto] = []
        self._shapes: list[onnx.ValueInfoProto] = []
        self._weights: dict[str, onnx.TensorProto] = {}

    def input(self, spec: TensorSpec) -> Value:
        """Declare an input."""
        self._inputs.append(value(spec.name, self._type(spec), spec.axes))
        return Value(spec.name)

    def output(self, spec: TensorSpec) -> None:
        """Declare an output; a node of that output name must exist."""
        self._outputs.append(value(spec.name, self._type(spec), spec.axes))

    def _type(self, spec: TensorSpec) -> int:
        return self.precision.onnx_type if spec.dtype == ACTIVATION else DTYPES[spec.dtype]

    def shaped(self, name: str, shape: Sequence[Dim], dtype: int | None = None) -> Value:
        """Annotate a value with its shape, where shape inference cannot tell it; activations by default."""
        self._shapes.append(value(name, dtype or self.precision.onnx_type, shape))
        return Value(name)

    def number(self, data: Any) -> Value:
        """A constant in the number format of the graph."""
        return self.const(data, self.precision.numpy_type)

    def to_activation(self, x: str) -> Value:
        """A float32 value in the number format of the graph."""
        return Value(x) if self.precision is FP32 else self.op("Cast", x, to=self.precision.onnx_type)

    def to_float(self, x: str) -> Value:
        """An activation in float32."""
        return Value(x) if self.precision is FP32 else self.op("Cast", x, to=TensorProto.FLOAT)

    def weight(self, tensor: Weight) -> Value:
        """The initializer of a checkpoint tensor."""
        if tensor.name not in self._weights:
            self._weights[tensor.name] = _external(tensor, self.store)
        return Value(tensor.name)

    def reads(self, tensor: Weight) -> bool:
        """Whether a node reads it already."""
        return tensor.name in self._weights

    def int4_weight(self, pairs: Weight) -> Value:
        """The initializer of bytes that hold two signed numbers each, the first in the lower bits."""
        name = self.weight(pairs)
        proto = self._weights[name]
        proto.data_type = TensorProto.INT4
        proto.dims[:] = [*pairs.shape[:-1], 2 * pairs.shape[-1]]
        return name

    def table_rows(self, table: Weight, ids: str, name: str) -> Value:
        """Rows of an embedding table, in the number format of the graph."""
        rows = self.op("Gather", self.weight(table), ids, axis=0, name=name)
        if stored_in(table, self.precision) is self.precision:
            return rows
        return self.op("Cast", rows, to=self.precision.onnx_type, name=name)

    def linear(
        self, x: str, linear: Linear, name: str, rounding: Rounding = Rounding.ROWS, **output: Any
    ) -> Value:
        """y = x W^T + b for rows x, which quantised products may round."""
        if isinstance(linear.weight, QuantizedWeight):
            return self._quantized(x, linear.weight, linear.bias, name, rounding, **output)
        bias = [self.weight(linear.bias)] if linear.bias else []
        return self.op("Gemm", x, self.weight(linear.weight), *bias, name=name, transB=1, **output)

    def _quantized(
        self,
        x: str,
        weight: QuantizedWeight,
        bias: Weight | None,
        name: str,
        rounding: Rounding,
        **output: Any,
    ) -> Value:
        if bias is None:
            return self._numbers.quantized_product(self, x, weight, name, rounding, **output)
        product = self._numbers.quantized_product(self, x, weight, f"{name}/product", rounding)
        return self.op("Add", product, self.weight(bias), name=name, **output)

    def layer_norm(self, x: str, norm: LayerNorm, eps: float, name: str) -> Value:
        """Layer normalisation over the last axis."""
        weights = self.weight(norm.weight), self.weight(norm.bias)
        return self.op("LayerNormalization", x, *weights, name=name, axis=-1, epsilon=eps)

    def rms_norm(self, x: str, weight: Weight, eps: float, name: str) -> Value:
        """Root-mean-square normalisation over the last axis."""
        return self.op("RMSNormalization", x, self.weight(weight), name=name, axis=-1, epsilon=eps)

    def model(self, functions: Iterable[onnx.FunctionProto] = (), domains: Iterable[str] = ()) -> Any:
        """The finished model."""
        graph = helper.make_graph(
            self.nodes,
            self.name,
            self._inputs,
            self._outputs,
            list(self._weights.values()),
            value_info=self._shapes,
        )
        opsets = [helper.make_opsetid("", OPSET), helper.make_opsetid(DOMAIN, DOMAIN_VERSION)]
        opsets += [helper.make_opsetid(domain, 1) for domain in domains]
        return helper.make_model(
            graph,
            opset_imports=opsets,
            ir_version=IR_VERSION,
            functions=list(functions),
            producer_name=PRODUCER,
        )


def _external(tensor: Weight, store: WeightStore) -> onnx.TensorProto:
    place = store.place(tensor)
    proto = TensorProto(name=tensor.name, data_type=place.stored.onnx_type, dims=tensor.shape)
    proto.data_location = TensorProto.EXTERNAL
    entries = {"location": place.location, "offset": place.offset, "length": place.length}
    for key, entry in entries.items():
        proto.external_data.add(key=key, value=str(entry))
    return proto
