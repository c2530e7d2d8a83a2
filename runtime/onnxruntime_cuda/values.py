"""Values of ONNX Runtime on a device, from arrays and back. NumPy has no bfloat16."""

from __future__ import annotations

import ctypes
from typing import Any

import numpy as np
import numpy.typing as npt
import onnxruntime as ort

from ..onnxruntime.session import BFLOAT16
from ..tensorrt.element_types import ELEMENT_TYPES, ElementType
from .options import CPU, OnnxRuntimeCudaOptions

TYPES = {
    "tensor(float)": ELEMENT_TYPES["FLOAT"],
    "tensor(float16)": ELEMENT_TYPES["HALF"],
    "tensor(bfloat16)": ELEMENT_TYPES["BF16"],
    "tensor(int64)": ELEMENT_TYPES["INT64"],
    "tensor(bool)": ELEMENT_TYPES["BOOL"],
}
"""Type as ONNX Runtime names it -> how arrays become numbers of it."""

Array = npt.NDArray[Any]


def element_type(value: Any) -> ElementType:
    """The element type of an input, an output or a value."""
    kind = value.type if hasattr(value, "type") else value.data_type()
    return TYPES[kind]


def on_host(array: Array, element: ElementType) -> Any:
    """Numbers as a value in the memory of the host, which the array must outlive."""
    return _value_of(element.encode(array))


def on_device(bits: Array, options: OnnxRuntimeCudaOptions) -> Any:
    """A copy on the device of numbers as they are stored, bf16 as uint16; on the CPU the very same memory."""
    host = _value_of(bits)
    if options.kind == CPU:
        return host
    number = BFLOAT16 if bits.dtype == np.uint16 else bits.dtype.type
    value = ort.OrtValue.ortvalue_from_shape_and_type(list(bits.shape), number, options.kind, options.number)
    value.update_inplace(host)
    return value


def shared(bits: Array, options: OnnxRuntimeCudaOptions) -> Any:
    """A weight on the device that several sessions read where it is; it must outlive them.

    ONNX Runtime takes such memory from its users alone: what it has allocated itself goes through DLPack, to
    be as if a user had.
    """
    value = on_device(bits, options)
    return value if options.kind == CPU or not bits.size else ort.OrtValue.from_dlpack(value)


def read(value: Any) -> Array:
    """The numbers of a value, bf16 as float32; waits for the device."""
    if value.element_type() != BFLOAT16:
        array: Array = value.numpy()
        return array
    host = value
    if value.device_name() != CPU:
        host = ort.OrtValue.ortvalue_from_shape_and_type(list(value.shape()), BFLOAT16, CPU, 0)
        host.update_inplace(value)
    size = host.tensor_size_in_bytes()
    raw = (ctypes.c_char * size).from_address(host.data_ptr()) if size else b""
    bits = np.frombuffer(raw, np.uint16).reshape(host.shape()).copy()
    return TYPES["tensor(bfloat16)"].decode(bits)


def _value_of(bits: Array) -> Any:
    if bits.dtype == np.uint16:
        return ort.OrtValue.ortvalue_from_numpy_with_onnx_type(bits, BFLOAT16)
    return ort.OrtValue.ortvalue_from_numpy(bits)
