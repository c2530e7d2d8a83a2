"""The session of the decode engine: a step of several requests, whose new rows lie side by side."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy.typing as npt

from ...profiles.flops import DecoderDims
from ...profiles.kv_layout import blocks_of, rows_of
from ...profiles.signature import LOG_SUM_EXP, TOP_IDS, TOP_LOGITS, pool_key, prefix_key
from .buffers import DeviceBuffers, new_names
from .session import TensorRTSession
from .stack import Stack
from .tensor import DeviceTensor, upload

SCORES = (TOP_LOGITS, TOP_IDS, LOG_SUM_EXP)


class TensorRTStepSession(TensorRTSession):
    """As any engine, and with buffers for the caches of its requests."""

    def buffers(self, dims: DecoderDims, prefix: Mapping[str, DeviceTensor]) -> DeviceBuffers:
        """Buffers on the device, with the prefix of one request."""
        return DeviceBuffers(self._device, self._types[pool_key(0)], dims, prefix)

    def prefix(self, tensor: DeviceTensor | npt.NDArray[Any]) -> DeviceTensor:
        """Keys or values that a prefill made, or an array of them on the device."""
        if isinstance(tensor, DeviceTensor):
            return tensor
        return upload(self._device, tensor, self._types[prefix_key(0)])

    def _new_outputs(self) -> dict[str, DeviceTensor]:
        """The rows of all layers in one stack, as `new_rows` wants them."""
        names = new_names((len(self._outputs) - len(SCORES)) // 2)
        shape, element = self._shape(names[0]), self._types[names[0]]
        requests, *layout = shape
        blocks, row = blocks_of(layout)
        sizes = requests, blocks, rows_of(layout), row * element.item_bytes
        stack = Stack.allocated(self._device, len(names), *sizes)
        rows = {
            name: DeviceTensor(stack.buffer, shape, element, stack.offset_of(i))
            for i, name in enumerate(names)
        }
        return {name: self._output(name) for name in SCORES} | rows
