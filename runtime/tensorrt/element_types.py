"""Numbers as TensorRT names them, and what they are on the host. NumPy has no bfloat16."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from .api import kind

Array = npt.NDArray[Any]


@dataclass(frozen=True)
class ElementType:
    """One number format: how arrays of any type become its bytes, and how these become an array."""

    storage: Any  # the NumPy type that holds the bytes
    encode: Callable[[Array], Array]
    decode: Callable[[Array], Array]

    @property
    def item_bytes(self) -> int:
        """Bytes of one number."""
        return int(np.dtype(self.storage).itemsize)


def bfloat16_bits(array: Array) -> Array:
    """The bits of each number, rounded to nearest, ties to even; NaN stays NaN. uint16 of the same shape."""
    numbers = np.ascontiguousarray(array, np.float32)
    bits = numbers.view(np.uint32)
    rounded = ((bits + 0x7FFF + ((bits >> 16) & 1)) >> 16).astype(np.uint16)
    return np.where(np.isnan(numbers), np.uint16(0x7FC0), rounded)


def bfloat16_numbers(bits: Array) -> Array:
    """What `bfloat16_bits` made, as float32."""
    return (bits.astype(np.uint32) << 16).view(np.float32)


def _plain(dtype: Any) -> ElementType:
    def encode(array: Array) -> Array:
        with np.errstate(over="ignore"):  # beyond the range is infinite, as on the device
            return np.ascontiguousarray(array, dtype)

    return ElementType(dtype, encode, lambda array: array)


ELEMENT_TYPES = {
    "FLOAT": _plain(np.float32),
    "HALF": _plain(np.float16),
    "BF16": ElementType(np.uint16, bfloat16_bits, bfloat16_numbers),
    "INT64": _plain(np.int64),
    "INT32": _plain(np.int32),
    "BOOL": _plain(np.bool_),
}
"""By the name of TensorRT's DataType."""


def element_type(data_type: object) -> ElementType:
    """The element type of a TensorRT DataType."""
    return ELEMENT_TYPES[kind(data_type)]
