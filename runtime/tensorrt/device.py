"""The GPU's memory and its stream: all that a session needs of CUDA."""

from __future__ import annotations

import weakref
from dataclasses import dataclass
from typing import Any, Protocol

import numpy.typing as npt

from ...profiles.errors import DependencyError, EngineError

Array = npt.NDArray[Any]


class Buffer(Protocol):
    """Memory of the device. It is given back when nothing refers to it, after the work that is under way."""

    address: int


@dataclass(frozen=True)
class Box:
    """A part of memory in three dimensions: runs of bytes, `pitch` apart, and slices of them."""

    address: int  # of the first byte
    pitch: int  # bytes from the begin of a run to that of the next
    slice_runs: int  # runs from the begin of a slice to that of the next, in the part or not


class Device(Protocol):
    """One GPU with one stream, on which everything happens in the order of the calls."""

    name: str
    sm: int  # compute capability, times ten
    stream: int

    def allocate(self, num_bytes: int) -> Buffer:
        """Uninitialised memory; an empty tensor has an address, too."""

    def upload(self, array: Array) -> Buffer:
        """A copy of a contiguous array."""

    def download(self, source: int, array: Array) -> None:
        """Fill a contiguous array from an address, once the work before it is done."""

    def copy_box(self, to: Box, source: Box, width: int, height: int, depth: int) -> None:
        """Copy `depth` slices of `height` runs of `width` bytes, from memory that has none of `to`."""

    def clear_box(self, box: Box, width: int, height: int, depth: int) -> None:
        """The same bytes become 0."""


class CudaBuffer:
    """Memory from the device's pool, ordered on its stream."""

    def __init__(self, address: int, free: Any) -> None:
        self.address = address
        weakref.finalize(self, free, address).atexit = False


class CudaDevice:
    """The first GPU that CUDA shows (CUDA_VISIBLE_DEVICES chooses it), through cuda-python."""

    def __init__(self) -> None:
        """Open the device.

        Raises:
            DependencyError: cuda-python is not installed.
            EngineError: there is no GPU, or its driver does not answer.
        """
        try:
            from cuda.bindings import runtime
        except ImportError as error:
            raise DependencyError("cuda-python is not installed; `pip install cuda-python`") from error
        self._cuda: Any = runtime
        self._check_there_is_one()
        properties = self._call("cudaGetDeviceProperties", 0)
        self.name = properties.name.decode().rstrip("\0")
        self.sm = 10 * properties.major + properties.minor
        self._call("cudaSetDevice", 0)
        self.stream = int(self._call("cudaStreamCreate"))

    def _check_there_is_one(self) -> None:
        error, count = self._cuda.cudaGetDeviceCount()
        if error != self._cuda.cudaError_t.cudaSuccess or not count:
            raise EngineError(
                f"no GPU that CUDA can use is here ({self._text(error)}): engines run on the GPU that they "
                "were built for; elsewhere use the backend onnxruntime"
            )

    def allocate(self, num_bytes: int) -> CudaBuffer:
        """Memory from the stream-ordered pool."""
        return CudaBuffer(self._call("cudaMallocAsync", max(1, num_bytes), self.stream), self._free)

    def upload(self, array: Array) -> CudaBuffer:
        """CUDA stages pageable memory, so the array is free again on return."""
        buffer = self.allocate(array.nbytes)
        if array.nbytes:
            kind = self._cuda.cudaMemcpyKind.cudaMemcpyHostToDevice
            address = array.ctypes.data
            self._call("cudaMemcpyAsync", buffer.address, address, array.nbytes, kind, self.stream)
        return buffer

    def download(self, source: int, array: Array) -> None:
        """Copy, and wait for the stream."""
        if array.nbytes:
            kind = self._cuda.cudaMemcpyKind.cudaMemcpyDeviceToHost
            address = array.ctypes.data
            self._call("cudaMemcpyAsync", address, source, array.nbytes, kind, self.stream)
        self._call("cudaStreamSynchronize", self.stream)

    def copy_box(self, to: Box, source: Box, width: int, height: int, depth: int) -> None:
        """One copy inside the device."""
        if width and height and depth:
            copy = self._cuda.cudaMemcpy3DParms()
            copy.dstPtr, copy.srcPtr = self._pitched(to, width), self._pitched(source, width)
            copy.extent = self._cuda.make_cudaExtent(width, height, depth)
            copy.kind = self._cuda.cudaMemcpyKind.cudaMemcpyDeviceToDevice
            self._call("cudaMemcpy3DAsync", copy, self.stream)

    def clear_box(self, box: Box, width: int, height: int, depth: int) -> None:
        """One call of CUDA."""
        if width and height and depth:
            extent = self._cuda.make_cudaExtent(width, height, depth)
            self._call("cudaMemset3DAsync", self._pitched(box, width), 0, extent, self.stream)

    def _pitched(self, box: Box, width: int) -> Any:
        return self._cuda.make_cudaPitchedPtr(box.address, box.pitch, width, box.slice_runs)

    def _free(self, address: int) -> None:
        self._cuda.cudaFreeAsync(address, self.stream)

    def _call(self, name: str, *arguments: Any) -> Any:
        """The value of a CUDA call; cuda-python returns (error, value…)."""
        error, *values = getattr(self._cuda, name)(*arguments)
        if error != self._cuda.cudaError_t.cudaSuccess:
            raise EngineError(f"{name}: {self._text(error)}; check the GPU with nvidia-smi")
        return values[0] if values else None

    def _text(self, error: Any) -> str:
        return f"CUDA error {int(error)}, {self._cuda.cudaGetErrorString(error)[1].decode()}"
