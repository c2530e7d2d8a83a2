"""A model with its large matrices in fewer bits; everything else stays as it is."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import fields, is_dataclass, replace
from functools import partial
from typing import Any, TypeVar

from ...profiles.errors import CheckpointError
from ..checkpoint.checkpoint import Tensor
from ..checkpoint.derived import Derived, Weight
from ..checkpoint.precision import BF16, BY_NAME, FP16, Precision
from ..checkpoint.quantized import (
    QuantizedWeight,
    blocks_of_int4,
    rows_of_int8,
    signed_blocks,
    symmetric_blocks,
)
from .spec import Linear, SpeechModelSpec

Part = TypeVar("Part")
Quantize = Callable[[Weight], QuantizedWeight]

Quantizers = Mapping[str, Quantize]
"""Format -> how a matrix is quantised."""
Blocks = Callable[[Weight, int, Precision], QuantizedWeight]

INT4_BLOCK = 32
ENGINE_BLOCK, LEAST_ENGINE_BLOCK = 64, 16
QUANTIZERS: Quantizers = {
    "int8": rows_of_int8,
    "int4": partial(blocks_of_int4, block=INT4_BLOCK),
}
"""Of graphs for ONNX Runtime alone."""
KEPT_TYPES = {BF16.safetensors_name: BF16, FP16.safetensors_name: FP16}
"""Types of a checkpoint in which an embedding table stays: its rows are widened as they are read."""


def quantizers_beside(engine_precision: str | None) -> Quantizers:
    """Of graphs for ONNX Runtime beside engines of a precision, if there are any.

    The matrices of both stand for the same numbers, so that what is found for one holds for the other.
    """
    return QUANTIZERS if engine_precision is None else _for_engines(engine_precision, symmetric_blocks)


def engine_quantizers(precision: str) -> Quantizers:
    """Of engines that compute in a precision: without zero points, scales in that precision."""
    return _for_engines(precision, signed_blocks)


def quantized(model: SpeechModelSpec, name: str, quantizers: Quantizers = QUANTIZERS) -> SpeechModelSpec:
    """All linear layers of encoder and decoder in a format of `quantizers`.

    The head is int8 in every format: each of its rows decides on a token by itself, so that an error there
    is averaged by nothing behind it. Convolutions, norms, biases and the embedding stay as they are.
    """
    decoder = _replaced(model.decoder, quantizers[name])
    decoder = replace(
        decoder,
        head=_linear(model.decoder.head, quantizers["int8"]),
        embedding=_as_stored(model.decoder.embedding),
    )
    return replace(model, encoder=_replaced(model.encoder, quantizers[name]), decoder=decoder)


def quantized_matrices(
    model: SpeechModelSpec, name: str, quantizers: Quantizers = QUANTIZERS
) -> Iterator[tuple[Weight, QuantizedWeight]]:
    """Every matrix that `quantized` replaces, as it was and as it is."""
    replaced = quantized(model, name, quantizers)
    for before, after in zip(_linears(model), _linears(replaced), strict=True):
        if isinstance(after.weight, QuantizedWeight) and not isinstance(before.weight, QuantizedWeight):
            yield before.weight, after.weight


def _for_engines(precision: str, blocks: Blocks) -> Quantizers:
    scales_in = BY_NAME[precision]
    return {
        "int8": partial(rows_of_int8, scales_in=scales_in),
        "int4": lambda weight: blocks(weight, _engine_block(weight), scales_in),
    }


def _engine_block(weight: Weight) -> int:
    """The largest block that TensorRT takes: it must divide the inputs."""
    block = math.gcd(weight.shape[1], ENGINE_BLOCK)
    if block < LEAST_ENGINE_BLOCK:
        raise CheckpointError(
            f"matrix {weight.name} has {weight.shape[1]} inputs, which blocks of {LEAST_ENGINE_BLOCK} do not "
            "divide, as engines in int4 need it; give --quantize int8"
        )
    return block


def _linears(part: object) -> Iterator[Linear]:
    if isinstance(part, Linear):
        yield part
    elif isinstance(part, tuple):
        for item in part:
            yield from _linears(item)
    elif is_dataclass(part) and not isinstance(part, Weight):
        for field in fields(part):
            yield from _linears(getattr(part, field.name))


def _replaced(part: Part, quantize: Quantize) -> Part:
    """A record or a tuple with every linear layer inside it quantised."""
    found: Any = part
    if isinstance(part, Linear):
        found = _linear(part, quantize)
    elif isinstance(part, tuple):
        found = tuple(_replaced(item, quantize) for item in part)
    elif is_dataclass(part) and not isinstance(part, Weight):
        found = replace(found, **{f.name: _replaced(getattr(part, f.name), quantize) for f in fields(part)})
    return found  # type: ignore[no-any-return]


def _linear(linear: Linear, quantize: Quantize) -> Linear:
    weight = linear.weight
    if isinstance(weight, QuantizedWeight):
        return linear
    return replace(linear, weight=quantize(weight))


def _as_stored(table: Weight) -> Weight:
    """An embedding table in the 16 bits of its checkpoint."""
    if not isinstance(table, Tensor) or table.dtype not in KEPT_TYPES:
        return table
    return Derived(
        f"{table.name}.{table.dtype}", table.shape, (table,), lambda rows: rows, KEPT_TYPES[table.dtype]
    )
