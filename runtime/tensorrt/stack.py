"""Rows of caches on the device: tensors of one shape side by side, so that one copy serves all of them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import pairwise
from math import gcd

import numpy as np
import numpy.typing as npt

from ...profiles.kv_layout import blocks_of, rows_of
from .device import Box, Buffer, Device
from .tensor import DeviceTensor

ALIGNMENT = 256  # bytes: at multiples of it begin tensors that CUDA allocates one by one, too


@dataclass(frozen=True)
class Stack:
    """Tensors of keys or values, each (requests, *KV layout), in one piece of memory.

    A request has `blocks` blocks in each tensor (`kv_layout.blocks_of`), and a block `capacity` rows.
    """

    buffer: Buffer
    tensors: int
    requests: int
    blocks: int
    capacity: int  # rows
    row_bytes: int
    offset: int = 0  # of the first tensor in the buffer

    @classmethod
    def allocated(
        cls, device: Device, tensors: int, requests: int, blocks: int, capacity: int, row_bytes: int
    ) -> Stack:
        """In memory of its own, not initialised."""
        runs = _aligned_runs(requests * blocks, capacity * row_bytes)
        buffer = device.allocate(tensors * runs * capacity * row_bytes)
        return cls(buffer, tensors, requests, blocks, capacity, row_bytes)

    @classmethod
    def of(cls, tensor: DeviceTensor) -> Stack:
        """The keys or values of one request, in KV layout."""
        blocks, row = blocks_of(tensor.shape)
        row_bytes = row * tensor.type.item_bytes
        return cls(tensor.buffer, 1, 1, blocks, rows_of(tensor.shape), row_bytes, tensor.offset)

    def offset_of(self, tensor: int) -> int:
        """Where in the buffer a tensor begins, in bytes."""
        return self.offset + tensor * self._runs * self.capacity * self.row_bytes

    def tensor(self, number: int) -> Stack:
        """One of the tensors by itself."""
        return replace(self, tensors=1, offset=self.offset_of(number))

    def box(self, request: int = 0, at: int = 0) -> Box:
        """The rows from a place on, in every block from the first of a request."""
        rows = request * self.blocks * self.capacity + at
        address = self.buffer.address + self.offset + rows * self.row_bytes
        return Box(address, self.capacity * self.row_bytes, self._runs)

    @property
    def _runs(self) -> int:
        """Blocks from the begin of a tensor to that of the next."""
        return _aligned_runs(self.requests * self.blocks, self.capacity * self.row_bytes)


def copy_rows(device: Device, to: Stack, to_box: Box, source_box: Box, rows: int, requests: int = 1) -> None:
    """Copy so many rows of each block of some requests, in all tensors, between boxes of two stacks."""
    device.copy_box(to_box, source_box, rows * to.row_bytes, requests * to.blocks, to.tensors)


def clear_rows(device: Device, stack: Stack, box: Box, rows: int, requests: int = 1) -> None:
    """Make as many rows of each block zeros, in all tensors."""
    device.clear_box(box, rows * stack.row_bytes, requests * stack.blocks, stack.tensors)


def runs(rows: npt.NDArray[np.int64]) -> Iterator[tuple[int, int, int]]:
    """(place in `rows`, first row, count) of each run of rows that follow each other."""
    breaks = np.flatnonzero(np.diff(rows) != 1) + 1
    bounds = [0, *breaks.tolist(), len(rows)] if len(rows) else []
    for start, end in pairwise(bounds):
        yield start, int(rows[start]), end - start


def _aligned_runs(runs: int, run_bytes: int) -> int:
    step = ALIGNMENT // gcd(ALIGNMENT, run_bytes) if run_bytes else 1
    return -(-runs // step) * step
