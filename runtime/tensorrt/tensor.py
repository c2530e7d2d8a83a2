"""A tensor on the device."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from ..artifact.engines import Shape
from .device import Buffer, Device
from .element_types import ElementType

Array = npt.NDArray[Any]


@dataclass(frozen=True)
class DeviceTensor:
    """Numbers in the memory of the device."""

    buffer: Buffer
    shape: Shape
    type: ElementType
    offset: int = 0  # bytes of the buffer before it

    @property
    def address(self) -> int:
        """Of its first number."""
        return self.buffer.address + self.offset


def upload(device: Device, array: Array, element: ElementType) -> DeviceTensor:
    """A copy of an array as numbers of a type."""
    return DeviceTensor(device.upload(element.encode(array)), array.shape, element)


def read(device: Device, tensor: DeviceTensor) -> Array:
    """A tensor as an array, 16-bit brain floats as float32; waits for the device."""
    array = np.empty(tensor.shape, tensor.type.storage)
    device.download(tensor.address, array)
    return tensor.type.decode(array)
