"""Samples as callers hold them: arrays, lists, tensors, buffers of numbers, each with its rate or without."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from numbers import Real
from typing import Any

import numpy as np
import numpy.typing as npt

from ...profiles.errors import AudioError
from ...profiles.faults import shown
from .containers.decode import BLOCK, Block

MAX_CHANNELS = 64  # more columns than this mean that an array is laid out the other way round
MAX_RATE = 1 << 22  # Hz

# Array dtype (kind and bytes) -> the factor that makes full scale 1.0.
SCALE = {"f2": 1.0, "f4": 1.0, "f8": 1.0, "i2": 2.0**-15, "i4": 2.0**-31}


@dataclass(frozen=True, eq=False)
class Samples:
    """Numbers with their rate, if the caller gave one."""

    array: npt.NDArray[Any]  # (n,) or (n, channels)
    rate: int | None  # Hz

    def blocks(self, rate: int) -> Iterator[Block]:
        """The samples as float32 with full scale 1.0, a little at a time."""
        array = self.array[:, None] if self.array.ndim == 1 else self.array
        scale = np.float32(SCALE[_dtype(array)])
        step = max(1, BLOCK // array.shape[1])
        for at in range(0, len(array), step):
            with np.errstate(over="ignore"):  # the level is checked by who takes the block
                floats = array[at : at + step].astype(np.float32)
            yield Block(floats if scale == 1.0 else floats * scale, rate)


def samples_of(source: object, place: str) -> Samples | None:
    """What `source` holds, if it is samples and not a file.

    Raises `AudioError` for samples of a shape or type that cannot be told.
    """
    if isinstance(source, tuple) and len(source) == 2 and _has_rate(source):
        numbers, rate = source if _is_number(source[1]) else source[::-1]
        inner = samples_of(numbers, place)
        if inner is None:
            raise AudioError(f"{place}: {type(numbers).__name__} with a rate; give (samples, rate)")
        return Samples(inner.array, checked_rate("rate", rate))
    array = _array_of(source, place)
    if array is None:
        return None
    _check(array)
    return Samples(array, None)


def checked_rate(name: str, rate: object) -> int:
    """A rate in Hz.

    Raises `AudioError` for what is no whole number, or out of range.
    """
    if not _is_rate(rate):
        raise AudioError(f"{name} {shown(rate)} is no whole number; give a rate in Hz from 1 to {MAX_RATE}")
    number: int = int(rate)  # type: ignore[call-overload]
    if not 1 <= number <= MAX_RATE:
        raise AudioError(f"{name} {shown(number)} is out of range; give a rate in Hz from 1 to {MAX_RATE}")
    return number


def _has_rate(pair: tuple[Any, ...]) -> bool:
    """Two floats are two samples; but one number beside anything else is meant as its rate."""
    return any(map(_is_rate, pair)) or sum(map(_is_number, pair)) == 1


def _is_number(value: object) -> bool:
    return isinstance(value, Real) and not isinstance(value, bool)


def _is_rate(value: object) -> bool:
    return isinstance(value, int | np.integer) and not isinstance(value, bool)


def _array_of(source: object, place: str) -> npt.NDArray[Any] | None:
    """The numbers of a source, or None when it has none."""
    if isinstance(source, np.ndarray):
        return source
    if isinstance(source, memoryview) and source.itemsize > 1:
        return np.asarray(source)
    if isinstance(source, list | tuple):
        return _from_list(source, place)
    if not hasattr(source, "__array__") and type(source).__module__ != "array":
        return None
    try:  # a torch tensor may need gradients or be on a GPU; torch is not imported for it
        return np.asarray(source.detach().cpu() if hasattr(source, "detach") else source)
    except (TypeError, ValueError, RuntimeError) as error:  # bfloat16, or a device
        raise AudioError(f"{place}: {type(source).__name__} is no array ({error}); give float32") from None


def _from_list(source: list[Any] | tuple[Any, ...], place: str) -> npt.NDArray[Any]:
    try:
        array = np.asarray(source)
    except (TypeError, ValueError, OverflowError):
        raise AudioError(
            f"{place}: a {type(source).__name__} of unequal rows; give (n,) or (n, channels)"
        ) from None
    values = array.flat if array.dtype.kind == "O" else ()
    if array.dtype.kind in "US" or any(
        isinstance(each, os.PathLike) or hasattr(each, "read") for each in values
    ):
        raise AudioError(f"{place}: a {type(source).__name__} of files; give one: a request has one clip")
    return array


def _dtype(array: npt.NDArray[Any]) -> str:
    return f"{array.dtype.kind}{array.dtype.itemsize}"


def _check(array: npt.NDArray[Any]) -> None:
    if array.ndim not in (1, 2):
        raise AudioError(f"audio array of shape {array.shape}: give (n,) or (n, channels)")
    if array.ndim == 2 and not 1 <= array.shape[1] <= MAX_CHANNELS:
        raise AudioError(
            f"audio array of shape {array.shape} has {array.shape[1]} channels, not 1 to {MAX_CHANNELS}; "
            "give (n, channels), so transpose it if channels come first"
        )
    if _dtype(array) not in SCALE:
        raise AudioError(f"audio array of dtype {array.dtype}: give float32 (full scale 1.0), int16 or int32")
