"""Matrices in fewer bits: what is stored of one, and which numbers that means."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache, partial
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from .derived import Derived, Weight
from .int4 import LARGEST_STEP, Parts, held, in_blocks, pack, packed_parts, ranged
from .precision import FP32, INT8, UINT8, Precision
from .weights import in_precision

Floats = NDArray[np.float32]
Quantize = Callable[[Floats], Parts]

SIGNED_INT4 = "signed int4"  # without zero points, however it is stored
LARGEST_INT8 = 127
MIDDLE_OF_UINT8 = 128  # stands for 0
LEAST_INT4, LARGEST_INT4 = -8, 7
MIDDLE_OF_UINT4 = 8  # stands for 0 where blocks have no zero points


@dataclass(frozen=True)
class QuantizedRows:
    """8 bits a number, one scale an output: weight[o, i] = scales[o] * values[i, o]."""

    form: ClassVar[str] = "int8"
    name: str  # of the matrix
    shape: tuple[int, ...]  # (out, in)
    values: Derived  # (in, out) of int8, as MatMulIntegerToFloat reads them
    scales: Derived  # (out,)


@dataclass(frozen=True)
class QuantizedBlocks:
    """4 bits a number; each block of inputs has a scale and a zero point of its own, or `MIDDLE_OF_UINT4`.

    weight[o, i] = scales[o, b] * (values[o, i] - zero_points[o, b]) for input i in block b. Two numbers share
    a byte, the first in the lower bits, as MatMulNBits reads them; the last block is filled up.
    """

    name: str  # of the matrix
    shape: tuple[int, ...]  # (out, in)
    block: int  # inputs in one
    values: Derived  # (out, blocks, block / 2) of uint8
    scales: Derived  # (out, blocks)
    zero_points: Derived | None  # (out, blocks / 2, rounded up) of uint8
    moved: Derived | None = None  # (1,) of float32: see `packed_parts`; no graph reads it, `check` does

    @property
    def form(self) -> str:
        """What its numbers are."""
        return "int4" if self.zero_points else SIGNED_INT4


@dataclass(frozen=True)
class SignedBlocks:
    """4 bits a number with its sign; each block of inputs has a scale of its own.

    weight[o, i] = scales[o, b] * values[o, i] for input i in block b. Two numbers share a byte, the first in
    the lower bits, as ONNX stores int4. No block is filled up.
    """

    form: ClassVar[str] = SIGNED_INT4
    name: str  # of the matrix
    shape: tuple[int, ...]  # (out, in)
    block: int  # inputs in one
    values: Derived  # (out, in / 2) of uint8
    scales: Derived  # (out, blocks)


@dataclass(frozen=True)
class Int8Blocks:
    """8 bits a number; each block of inputs has a scale of its own.

    weight[o, i] = scales[o, b] * (values[o, i] - 128) for input i in block b; the last block is filled up.
    """

    form: ClassVar[str] = "int8"
    name: str  # of the matrix
    shape: tuple[int, ...]  # (out, in)
    block: int  # inputs in one
    values: Derived  # (out, blocks, block) of uint8
    scales: Derived  # (out, blocks)


QuantizedWeight = Int8Blocks | QuantizedRows | QuantizedBlocks | SignedBlocks
"""Scales without a precision of their own are stored in that of the graphs."""


def rows_of_int8(weight: Weight, scales_in: Precision = FP32) -> QuantizedRows:
    """A matrix (out, in) with 255 steps for each output, up to its largest number and down as far.

    Scales are numbers that `scales_in` holds, wherever they are stored.
    """
    outputs, inputs = weight.shape
    quantize = partial(_of_numbers, weight, partial(int8_rows, scales_in=scales_in), scales_in)
    part = partial(_part, weight, quantize, "int8")
    return QuantizedRows(
        weight.name,
        weight.shape,
        values=part(0, "values", (inputs, outputs), INT8),
        scales=part(1, "scales", (outputs,)),
    )


def blocks_of_int8(weight: Weight, block: int, scales_in: Precision = FP32) -> Int8Blocks:
    """A matrix (out, in) with 255 steps for each block of `block` inputs.

    Scales are numbers that `scales_in` holds, wherever they are stored.
    """
    outputs, blocks = weight.shape[0], -(-weight.shape[1] // block)
    rounding = partial(int8_blocks, block=block, scales_in=scales_in)
    rounded = partial(_of_numbers, weight, rounding, scales_in)
    part = partial(_part, weight, rounded, f"int8.{block}")
    return Int8Blocks(
        weight.name,
        weight.shape,
        block,
        values=part(0, "values", (outputs, blocks, block), UINT8),
        scales=part(1, "scales", (outputs, blocks)),
    )


def blocks_of_int4(
    weight: Weight, block: int, quantize: Callable[[], Parts] | None = None, scales_in: Precision = FP32
) -> QuantizedBlocks:
    """A matrix (out, in) with 15 steps for each block of `block` inputs; `block` is even.

    Args:
        weight: the matrix.
        block: inputs that share a scale and a zero point.
        quantize: its parts, if they are not to be made of its numbers alone.
        scales_in: what holds the scales that are made here, wherever they are stored.
    """
    outputs, blocks = weight.shape[0], -(-weight.shape[1] // block)
    rounding = partial(int4_blocks, block=block, scales_in=scales_in)
    rounded = partial(_of_numbers, weight, rounding, scales_in)
    part = partial(_part, weight, quantize or rounded, f"int4.{block}")
    return QuantizedBlocks(
        weight.name,
        weight.shape,
        block,
        values=part(0, "values", (outputs, blocks, block // 2), UINT8),
        scales=part(1, "scales", (outputs, blocks)),
        zero_points=part(2, "zero_points", (outputs, -(-blocks // 2)), UINT8),
        moved=part(3, "moved", (1,), FP32),
    )


def symmetric_blocks(weight: Weight, block: int, scales_in: Precision) -> QuantizedBlocks:
    """The numbers of `signed_blocks`, without zero points; `block` divides the inputs."""
    outputs, blocks = weight.shape[0], weight.shape[1] // block
    rounded = partial(int4_symmetric, block=block, scales_in=scales_in, signed=False)
    part = partial(_part, weight, partial(_of_numbers, weight, rounded, scales_in), f"int4.{block}")
    return QuantizedBlocks(
        weight.name,
        weight.shape,
        block,
        values=part(0, "values", (outputs, blocks, block // 2), UINT8),
        scales=part(1, "scales", (outputs, blocks)),
        zero_points=None,
    )


def signed_blocks(weight: Weight, block: int, scales_in: Precision) -> SignedBlocks:
    """A matrix (out, in) with the steps from -8 to 7 for each block of `block` inputs, which divides them.

    Scales are numbers that `scales_in` holds, wherever they are stored.
    """
    outputs, inputs = weight.shape
    rounded = partial(int4_symmetric, block=block, scales_in=scales_in, signed=True)
    part = partial(_part, weight, partial(_of_numbers, weight, rounded, scales_in), f"int4.{block}")
    return SignedBlocks(
        weight.name,
        weight.shape,
        block,
        values=part(0, "signed", (outputs, inputs // 2), UINT8),
        scales=part(1, "scales", (outputs, inputs // block)),
    )


def int8_rows(matrix: Floats, scales_in: Precision = FP32) -> Parts:
    """Values and scales of `QuantizedRows`, rounded to the nearest step."""
    scales = int8_steps(matrix, scales_in)
    steps = np.rint(matrix / scales[:, None])
    return steps.clip(-LARGEST_INT8, LARGEST_INT8).astype(np.int8).T, scales


def int8_blocks(matrix: Floats, block: int, scales_in: Precision = FP32) -> Parts:
    """Values and scales of `Int8Blocks`, rounded to the nearest step."""
    blocks = in_blocks(matrix, block)
    scales = int8_steps(blocks, scales_in)
    steps = np.rint(blocks / scales[..., None]).clip(-LARGEST_INT8, LARGEST_INT8)
    return (steps + MIDDLE_OF_UINT8).astype(np.uint8), scales


def int8_steps(blocks: Floats, scales_in: Precision = FP32) -> Floats:
    """The step of each block (..., block), as a format holds it, by which -127 to 127 reach its numbers."""
    return held(np.abs(blocks).max(-1) / LARGEST_INT8, scales_in)


def int4_blocks(matrix: Floats, block: int, scales_in: Precision = FP32) -> Parts:
    """Parts of `QuantizedBlocks`: every number at the nearest step of the range of its block.

    A grid of less squared error (`searched`) is no better here: it clips the largest numbers, and the logits
    of the demo are as far off (`bench/quantizers.py`).
    """
    blocks = in_blocks(matrix, block)
    grid = ranged(blocks).held(scales_in)
    return packed_parts(blocks, grid.nearest(blocks), grid)


def int4_symmetric(matrix: Floats, block: int, scales_in: Precision, signed: bool) -> Parts:
    """Values and scales of `SignedBlocks` or of `QuantizedBlocks`, rounded to the nearest step."""
    blocks = matrix.reshape(len(matrix), -1, block)
    scales = held(signed_steps(blocks), scales_in)
    steps = np.rint(blocks / scales[..., None]).clip(LEAST_INT4, LARGEST_INT4).astype(np.int8)
    if signed:
        return pack(steps.view(np.uint8) & LARGEST_STEP).reshape(len(matrix), -1), scales
    return pack((steps + MIDDLE_OF_UINT4).astype(np.uint8)), scales


def signed_steps(blocks: Floats) -> Floats:
    """The step of each block (..., block) by which -8 to 7 reach all of its numbers."""
    steps: Floats = np.maximum(blocks.max(-1) / LARGEST_INT4, blocks.min(-1) / LEAST_INT4)
    return steps


def _of_numbers(weight: Weight, quantize: Quantize, range_of: Precision) -> Parts:
    """The parts of a matrix whose numbers a number format can hold, for they are multiplied in it."""
    numbers = weight.read()
    in_precision(weight, numbers, range_of)
    return quantize(numbers)


def _part(
    weight: Weight,
    quantize: Callable[[], Parts],
    form: str,
    index: int,
    name: str,
    shape: tuple[int, ...],
    stored: Precision | None = None,
) -> Derived:
    return Derived(f"{weight.name}.{form}.{name}", shape, (), lambda: _parts(quantize)[index], stored)


@lru_cache(maxsize=1)  # the parts of one matrix are written one after the other
def _parts(quantize: Callable[[], Parts]) -> Parts:
    return quantize()
