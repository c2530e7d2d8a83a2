"""A session on one TensorRT engine. Its tensors stay on the device, in the order of one stream."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from math import prod
from typing import Any

import numpy as np
import numpy.typing as npt

from ...profiles.errors import EngineError
from ...profiles.kv_layout import rows_of
from ...profiles.signature import prefix_key
from ..artifact.engines import EngineRecord, Shape
from .api import NOT_TOLD, Context, Engine, Log, kind
from .device import Device
from .element_types import element_type
from .tensor import DeviceTensor, read, upload


class TensorRTSession:
    """One engine with one execution context. Threads take turns; the device works in their order."""

    def __init__(
        self, name: str, engine: Engine, record: EngineRecord, device: Device, log: Log, config: Any = None
    ) -> None:
        """Make the context.

        Args:
            name: of the engine, for messages.
            engine: a deserialised engine.
            record: what the manifest says of it: shapes from least to largest.
            device: where tensors live.
            log: TensorRT's logger, with the last error at hand.
            config: a runtime config of the engine, where the product has such.

        Raises:
            EngineError: no context, mostly for want of memory.
        """
        self._name, self._engine, self._record = name, engine, record
        self._device, self._log = device, log
        context = engine.create_execution_context(*([config] if config is not None else []))
        if context is None:
            raise EngineError(f"engine {name}: no execution context: {log.last_error or NOT_TOLD}")
        self._context: Context = context
        names = [engine.get_tensor_name(i) for i in range(engine.num_io_tensors)]
        self._types = {tensor: element_type(engine.get_tensor_dtype(tensor)) for tensor in names}
        self._inputs = [tensor for tensor in names if kind(engine.get_tensor_mode(tensor)) == "INPUT"]
        self._outputs = [tensor for tensor in names if tensor not in self._inputs]
        self._on_host = {t for t in self._inputs if kind(engine.get_tensor_location(t)) == "HOST"}
        self._lock = threading.Lock()

    @property
    def number_bytes(self) -> int:
        """Bytes of one number of a cache tensor."""
        return self._types[prefix_key(0)].item_bytes

    @property
    def prefix_number_bytes(self) -> int:
        """The same: engines have one format."""
        return self.number_bytes

    def run(self, inputs: Mapping[str, Any]) -> dict[str, DeviceTensor]:
        """Run on arrays and device tensors; the outputs are device tensors, perhaps not computed yet.

        Raises:
            EngineError: shapes that the engine was not built for, or TensorRT fails.
        """
        with self._lock:
            self._log.last_error = ""  # that of an earlier run is no reason for this one
            held = [self._bind(name, inputs[name]) for name in self._inputs]
            try:
                missing = self._context.infer_shapes()
            except RuntimeError as error:
                raise EngineError(f"engine {self._name}: {self._log.last_error or error}") from error
            if missing:
                raise EngineError(f"engine {self._name}: {', '.join(missing)} are not set; report this fault")
            outputs = self._new_outputs()
            for name, tensor in outputs.items():
                self._context.set_tensor_address(name, tensor.address)
            if not self._context.execute_async_v3(self._device.stream):
                raise EngineError(f"engine {self._name}: {self._log.last_error or 'it did not run'}")
            del held  # memory is given back in the order of the stream, so after this run
            return outputs

    def read(self, tensor: DeviceTensor) -> npt.NDArray[Any]:
        """A tensor as an array, 16-bit brain floats as float32; waits for the device."""
        return read(self._device, tensor)

    def rows_of(self, tensor: DeviceTensor) -> int:
        """Rows of a cache tensor."""
        return rows_of(tensor.shape)

    def _bind(self, name: str, value: Any) -> Any:
        """Give the context one input; what has to outlive the run is returned."""
        if name in self._on_host:
            array = np.ascontiguousarray(value, self._types[name].storage)
            self._check(name, tuple(array.ravel().tolist()))
            self._set(name, array.shape, array.ctypes.data)
            return array
        tensor = value
        if not isinstance(value, DeviceTensor):
            tensor = upload(self._device, value, self._types[name])
        self._check(name, tensor.shape)
        self._set(name, tensor.shape, tensor.address)
        return tensor

    def _set(self, name: str, shape: Shape, address: int) -> None:
        done = self._context.set_input_shape(name, shape) and self._context.set_tensor_address(name, address)
        if not done:
            raise EngineError(f"engine {self._name}: {name} {shape}: {self._log.last_error or NOT_TOLD}")

    def _check(self, name: str, sizes: Shape) -> None:
        """Refuse sizes (or values, of an input that shapes depend on) outside the optimization profile."""
        if name not in self._record.shapes:
            return
        least, _, largest = self._record.shapes[name]
        if not all(low <= size <= high for low, size, high in zip(least, sizes, largest, strict=True)):
            raise EngineError(
                f"engine {self._name}: {name} {_text(sizes)} is outside of its optimization profile, "
                f"{_text(least)} to {_text(largest)}; build the engines for larger inputs"
            )

    def _new_outputs(self) -> dict[str, DeviceTensor]:
        """Memory for the outputs of a run, whose shapes are known once its inputs are set."""
        return {name: self._output(name) for name in self._outputs}

    def _output(self, name: str) -> DeviceTensor:
        shape, element = self._shape(name), self._types[name]
        return DeviceTensor(self._device.allocate(prod(shape) * element.item_bytes), shape, element)

    def _shape(self, name: str) -> Shape:
        return tuple(self._context.get_tensor_shape(name))


def _text(sizes: Shape) -> str:
    return "x".join(map(str, sizes))
