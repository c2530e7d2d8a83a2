"""A model with its large matrices in fewer bits; everything else stays as it is."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import replace
from functools import partial
from typing import TypeVar

from ...profiles.errors import CheckpointError
from ..checkpoint.checkpoint import Tensor
from ..checkpoint.derived import Derived, Weight
from ..checkpoint.int4 import Parts
from ..checkpoint.precision import BF16, BY_NAME, FP16, FP32, Precision
from ..checkpoint.quantized import (
    QuantizedWeight,
    blocks_of_int4,
    blocks_of_int8,
    rows_of_int8,
    signed_blocks,
    symmetric_blocks,
)
from .formats import INT4_BLOCKS
from .spec import ClipEncoder, EncoderSpec, Linear, SpeechModelSpec, parts_of, with_parts

Part = TypeVar("Part")
Quantize = Callable[[Weight], QuantizedWeight]
Change = Callable[[Weight], Weight | QuantizedWeight]
Quantizers = Mapping[str, Quantize]
"""Format, or `ENCODER` or `ENCODER_LAYERS` -> how a matrix is quantised."""
Blocks = Callable[[Weight, int, Precision], QuantizedWeight]

ENCODER, ENCODER_LAYERS = "encoder", "layers of a Whisper-like encoder"
"""Keys of what their matrices are quantised by, whatever the format of the decoder."""
INT8_BLOCK = 64
ENGINE_BLOCK, LEAST_ENGINE_BLOCK = 64, 16
STORED_VALUES = re.compile(r"(?P<name>.+)\.int(?P<bits>[48])(?:\.(?P<block>\d+))?\.values")
"""How the values of a matrix are called in an artifact; the largest block of int4 is what was asked for."""
Calibrated = Mapping[str, Parts | None]
"""Matrix -> its parts in 4 bits as clips found them; None for one that stays in 8 bits."""
KEPT_TYPES = {BF16.safetensors_name: BF16, FP16.safetensors_name: FP16}
"""Types of a checkpoint in which an embedding table stays: its rows are widened as they are read."""


def block_of(weight: Weight, most: int) -> int:
    """Inputs of a block: of the sizes up to the one that is asked for, the largest that divides them all."""
    sizes = [block for block in INT4_BLOCKS if block <= most and weight.shape[1] % block == 0]
    return max(sizes, default=INT4_BLOCKS[0])


def _int4(
    weight: Weight, calibrated: Calibrated, most: int, in_8_bits: Quantize, scales_in: Precision = FP32
) -> QuantizedWeight:
    block = block_of(weight, most)
    if weight.name not in calibrated:
        return blocks_of_int4(weight, block, scales_in=scales_in)
    if (parts := calibrated[weight.name]) is None:
        return in_8_bits(weight)
    return blocks_of_int4(weight, block, lambda: parts)


def _int8_blocks(weight: Weight, scales_in: Precision = FP32) -> QuantizedWeight:
    return blocks_of_int8(weight, block_of(weight, INT8_BLOCK), scales_in)


def of_graphs(calibrated: Calibrated, block: int = INT4_BLOCKS[0]) -> Quantizers:
    """Of graphs for ONNX Runtime alone; what was not calibrated is rounded when it is written."""
    return {
        "int8": rows_of_int8,
        "int4": partial(_int4, calibrated=calibrated, most=block, in_8_bits=rows_of_int8),
        ENCODER: _int8_blocks,
        ENCODER_LAYERS: rows_of_int8,
    }


def of_openvino_graphs(calibrated: Calibrated, block: int = INT4_BLOCKS[0]) -> Quantizers:
    """The same for OpenVINO, whose products round no rows: blocks are as fast there."""
    return {**of_graphs(calibrated, block), ENCODER_LAYERS: _int8_blocks}


def of_cuda_graphs(calibrated: Calibrated, block: int, precision: str) -> Quantizers:
    """Of graphs for the CUDA provider, which multiplies by blocks alone; scales in their precision.

    A step is rounded to that format before numbers are rounded to steps, so that none is off by more.
    """
    scales_in = BY_NAME[precision]
    int8 = partial(_int8_blocks, scales_in=scales_in)
    int4 = partial(_int4, calibrated=calibrated, most=block, in_8_bits=int8, scales_in=scales_in)
    return {"int8": int8, "int4": int4, ENCODER: int8, ENCODER_LAYERS: int8}


ROUNDING = of_graphs({})


def beside_engines(precision: str) -> Quantizers:
    """Of graphs for ONNX Runtime beside engines that compute in a precision.

    The matrices of both stand for the same numbers, so that what is found for one holds for the other.
    """
    return _for_engines(precision, symmetric_blocks)


def of_engines(precision: str) -> Quantizers:
    """Of engines that compute in a precision: without zero points, scales in that precision."""
    return _for_engines(precision, signed_blocks)


def as_stored(tensors: Iterable[str]) -> tuple[Calibrated, int]:
    """What an artifact that is there was quantised by, by the names of its tensors: see `of_graphs`."""
    stored = [found for name in tensors if (found := STORED_VALUES.fullmatch(name))]
    in_8_bits = {found["name"]: None for found in stored if found["bits"] == "8"}
    blocks = {int(found["block"]) for found in stored if found["bits"] == "4"}
    return in_8_bits, max(blocks, default=INT4_BLOCKS[0])


def quantized(model: SpeechModelSpec, name: str, quantizers: Quantizers = ROUNDING) -> SpeechModelSpec:
    """All linear layers of encoder and decoder in a format of `quantizers`.

    Encoder and head are int8 in every format. Each row of the head decides on a token by itself, so that an
    error there is averaged by nothing behind it. The encoder is a small part of a model, all audio goes
    through it, and its matrices have outliers: scales of whole outputs move its rows by 4.7 % on the demo,
    scales of blocks by 2.2 % (`bench/quantizers.py encoder`). Convolutions, norms, biases and the embedding
    stay as they are.
    """
    decoder = _replaced(model.decoder, quantizers[name])
    decoder = replace(
        decoder,
        head=_linear(model.decoder.head, quantizers["int8"]),
        embedding=_table_as_is(model.decoder.embedding),
    )
    return replace(model, encoder=_encoder(model.encoder, quantizers), decoder=decoder)


def _encoder(encoder: EncoderSpec | ClipEncoder, quantizers: Quantizers) -> EncoderSpec | ClipEncoder:
    changed = _replaced(encoder, quantizers[ENCODER])
    if not isinstance(encoder, EncoderSpec) or not isinstance(changed, EncoderSpec):
        return changed
    return replace(changed, layers=_replaced(encoder.layers, quantizers[ENCODER_LAYERS]))


def quantized_matrices(
    model: SpeechModelSpec, name: str, quantizers: Quantizers = ROUNDING
) -> Iterator[tuple[Weight, QuantizedWeight]]:
    """Every matrix that `quantized` replaces, as it was and as it is."""
    replaced = quantized(model, name, quantizers)
    for before, after in zip(parts_of(model, Linear), parts_of(replaced, Linear), strict=True):
        if isinstance(after.weight, QuantizedWeight) and not isinstance(before.weight, QuantizedWeight):
            yield before.weight, after.weight


def int4_matrices(model: SpeechModelSpec) -> list[Weight]:
    """Those that int4 stores in 4 bits."""
    return [before for before, after in quantized_matrices(model, "int4") if after.form == "int4"]


def _for_engines(precision: str, blocks: Blocks) -> Quantizers:
    scales_in = BY_NAME[precision]
    return {
        "int8": partial(rows_of_int8, scales_in=scales_in),
        "int4": lambda weight: blocks(weight, _engine_block(weight), scales_in),
        ENCODER: partial(rows_of_int8, scales_in=scales_in),
        ENCODER_LAYERS: partial(rows_of_int8, scales_in=scales_in),
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


def _replaced(part: Part, change: Change) -> Part:
    """A record with the weight of every linear layer inside it changed."""
    return with_parts(part, Linear, partial(_linear, change=change))


def _linear(linear: Linear, change: Change) -> Linear:
    weight = linear.weight
    if isinstance(weight, QuantizedWeight):
        return linear
    return replace(linear, weight=change(weight))


def _table_as_is(table: Weight) -> Weight:
    """An embedding table in the 16 bits of its checkpoint."""
    if not isinstance(table, Tensor) or table.dtype not in KEPT_TYPES:
        return table
    return Derived(
        f"{table.name}.{table.dtype}", table.shape, (table,), lambda rows: rows, KEPT_TYPES[table.dtype]
    )
