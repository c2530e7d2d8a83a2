"""Matrices in fewer bits: what is stored of one, and which numbers that means."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache, partial
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from .derived import Derived, Weight
from .precision import FP32, INT8, UINT8, Precision

Floats = NDArray[np.float32]
Parts = tuple[NDArray[Any], ...]

LARGEST_INT8 = 127
LARGEST_UINT4 = 15


@dataclass(frozen=True)
class QuantizedRows:
    """8 bits a number, one scale an output: weight[o, i] = scales[o] * values[i, o]."""

    form: ClassVar[str] = "int8"
    name: str  # of the matrix
    shape: tuple[int, ...]  # (out, in)
    values: Derived  # (in, out) of int8, as MatMulIntegerToFloat reads them
    scales: Derived  # (out,) of float32


@dataclass(frozen=True)
class QuantizedBlocks:
    """4 bits a number; each block of inputs has a scale and a zero point of its own.

    weight[o, i] = scales[o, b] * (values[o, i] - zero_points[o, b]) for input i in block b. Two numbers share
    a byte, the first in the lower bits, as MatMulNBits reads them; the last block is filled up.
    """

    form: ClassVar[str] = "int4"
    name: str  # of the matrix
    shape: tuple[int, ...]  # (out, in)
    block: int  # inputs in one
    values: Derived  # (out, blocks, block / 2) of uint8
    scales: Derived  # (out, blocks) of float32
    zero_points: Derived  # (out, blocks / 2, rounded up) of uint8


QuantizedWeight = QuantizedRows | QuantizedBlocks


def rows_of_int8(weight: Weight) -> QuantizedRows:
    """A matrix (out, in) with 255 steps for each output, up to its largest number and down as far."""
    outputs, inputs = weight.shape
    part = partial(_part, weight, int8_rows, "int8")
    return QuantizedRows(
        weight.name,
        weight.shape,
        values=part(0, "values", (inputs, outputs), INT8),
        scales=part(1, "scales", (outputs,), FP32),
    )


def blocks_of_int4(weight: Weight, block: int) -> QuantizedBlocks:
    """A matrix (out, in) with 15 steps for each block of `block` inputs; `block` is even."""
    outputs, blocks = weight.shape[0], -(-weight.shape[1] // block)
    part = partial(_part, weight, partial(int4_blocks, block=block), f"int4.{block}")
    return QuantizedBlocks(
        weight.name,
        weight.shape,
        block,
        values=part(0, "values", (outputs, blocks, block // 2), UINT8),
        scales=part(1, "scales", (outputs, blocks), FP32),
        zero_points=part(2, "zero_points", (outputs, -(-blocks // 2)), UINT8),
    )


def int8_rows(matrix: Floats) -> Parts:
    """Values and scales of `QuantizedRows`, rounded to the nearest step."""
    scales = np.abs(matrix).max(1) / LARGEST_INT8
    scales[scales == 0] = 1
    return np.rint(matrix / scales[:, None]).astype(np.int8).T, scales


def int4_blocks(matrix: Floats, block: int) -> Parts:
    """Values, scales and zero points of `QuantizedBlocks`, rounded to the nearest step.

    The steps of a block go from its least to its largest number, 0 among them, which stays exact.
    """
    padded = np.pad(matrix, ((0, 0), (0, -matrix.shape[1] % block))).reshape(len(matrix), -1, block)
    least, largest = padded.min(2).clip(max=0), padded.max(2).clip(min=0)
    scales = (largest - least) / LARGEST_UINT4
    scales[scales == 0] = 1
    zeros = np.rint(-least / scales)
    steps = np.rint(padded / scales[..., None]) + zeros[..., None]
    return pack(steps.clip(0, LARGEST_UINT4).astype(np.uint8)), scales, pack(zeros.astype(np.uint8))


def pack(nibbles: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Pairs of 4-bit numbers along the last axis as bytes, the first in the lower bits; an odd end gets 0."""
    even = np.pad(nibbles, [(0, 0)] * (nibbles.ndim - 1) + [(0, nibbles.shape[-1] % 2)])
    first, second = even[..., ::2], even[..., 1::2]
    return (first | second << 4).astype(np.uint8)


def _part(
    weight: Weight, quantize: Any, form: str, index: int, name: str, shape: tuple[int, ...], stored: Precision
) -> Derived:
    return Derived(f"{weight.name}.{form}.{name}", shape, (), lambda: _parts(weight, quantize)[index], stored)


@lru_cache(maxsize=1)  # the parts of one matrix are written one after the other
def _parts(weight: Weight, quantize: Any) -> Parts:
    parts: Parts = quantize(weight.read())
    return parts
