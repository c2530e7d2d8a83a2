"""Buffers of a device: what a step made is written into them by copies there, and never comes to the host."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from ...profiles.flops import DecoderDims
from ...profiles.kv_layout import blocks_of, kv_shape, rows_of
from ...profiles.signature import new_key, new_value, pool_key, pool_value, prefix_key, prefix_value
from ..batching.classes import rounded_up
from ..decoding.pool_buckets import SMALLEST, capacity_for
from ..session import NewRows
from .device import Device
from .element_types import ElementType
from .stack import Stack, clear_rows, copy_rows, runs
from .tensor import DeviceTensor, upload

Array = npt.NDArray[Any]


class DeviceBuffers:
    """The memory of one batch, as `StepBuffers` says.

    Pools have the same shape in all layers, so they are one stack, and so is what a step makes: writing its
    rows is one copy for a request, whatever the number of layers.
    """

    def __init__(
        self, device: Device, element: ElementType, dims: DecoderDims, prefix: Mapping[str, DeviceTensor]
    ) -> None:
        """Hold the prefix of one request, tensors in KV layout, where it is; `element` is the pool's."""
        layers = range(dims.num_layers)
        self._device, self._dims, self._element = device, dims, element
        self._prefix_names = [name(i) for i in layers for name in (prefix_key, prefix_value)]
        self._pool_names = [name(i) for i in layers for name in (pool_key, pool_value)]
        self._prefix_type = prefix[self._prefix_names[0]].type
        self._prefix = {name: Stack.of(prefix[name]) for name in self._prefix_names}
        self._pool = self._empty(element, len(self._pool_names), 1, SMALLEST)
        self._tensors: dict[int, dict[str, DeviceTensor]] = {}  # by how many requests they hold

    @property
    def pool_capacity(self) -> int:
        """Rows of the pool of a request, in use or not."""
        return self._pool.capacity

    def tensors(self, requests: int) -> dict[str, DeviceTensor]:
        """What a step of the first so many requests reads."""
        if requests not in self._tensors:
            stacks = [(name, stack, self._prefix_type) for name, stack in self._prefix.items()]
            stacks += [(name, self._pool.tensor(i), self._element) for i, name in enumerate(self._pool_names)]
            self._tensors[requests] = {
                name: DeviceTensor(
                    stack.buffer, (requests, *kv_shape(self._dims, stack.capacity)), element, stack.offset
                )
                for name, stack, element in stacks
            }
        return self._tensors[requests]

    def put(self, row: int, prefix: Mapping[str, DeviceTensor]) -> None:
        """Copy the prefix of a request into its row, which nothing that was there outlives."""
        for name, stack in self._prefix.items():
            given = Stack.of(prefix[name])
            copy_rows(self._device, stack, stack.box(row), given.box(), length := given.capacity)
            clear_rows(self._device, stack, stack.box(row, length), stack.capacity - length)
        clear_rows(self._device, self._pool, self._pool.box(row), self._pool.capacity)

    def move(self, source: int, target: int) -> None:
        """Give a request another row."""
        for stack in (*self._prefix.values(), self._pool):
            copy_rows(self._device, stack, stack.box(target), stack.box(source), stack.capacity)

    def fit(self, lengths: Sequence[Sequence[int]]) -> None:
        """Make room for requests with prefixes of these lengths, by request and layer."""
        capacities = [rounded_up(max(layer)) for layer in zip(*lengths, strict=True)]
        wanted = [capacity for capacity in capacities for _ in range(2)]  # keys and values
        pairs = list(zip(self._prefix_names, wanted, strict=True))
        enough = all(self._prefix[name].capacity >= capacity for name, capacity in pairs)
        if enough and len(lengths) <= self._pool.requests:
            return
        requests = max(len(lengths), self._pool.requests)
        self._tensors.clear()
        for name, capacity in pairs:
            old = self._prefix[name]  # which stays where there is no memory for a new one
            roomy = max(capacity, rounded_up(old.capacity))
            self._prefix[name] = self._replaced(old, self._prefix_type, requests, roomy)
            del old  # before the next one is made
        self._pool = self._replaced(self._pool, self._element, requests, self._pool.capacity)

    def fit_pool(self, rows: int) -> None:
        """Make room for so many rows in each pool."""
        if rows > self._pool.capacity:
            self._tensors.clear()
            self._pool = self._replaced(self._pool, self._element, self._pool.requests, capacity_for(rows))

    def append(self, outputs: Mapping[str, DeviceTensor], written: Sequence[NewRows]) -> None:
        """Write the rows that a step made into the pools of their requests."""
        made = new_rows(outputs, self._dims)
        for rows in written:
            into = self._pool.box(rows.request, rows.at)
            copy_rows(self._device, self._pool, into, made.box(rows.request), rows.count)

    def put_pool(self, row: int, pool: Mapping[str, Array]) -> None:
        """Copy rows to the beginning of the pool of a request."""
        for i, name in enumerate(self._pool_names):
            given, one = Stack.of(upload(self._device, pool[name], self._element)), self._pool.tensor(i)
            copy_rows(self._device, one, one.box(row), given.box(), given.capacity)

    def keep(self, row: int, rows: npt.NDArray[np.int64]) -> None:
        """Leave these rows alone in the pool of a request, in this order: by way of a copy."""
        pool = self._pool
        kept = Stack.allocated(self._device, pool.tensors, 1, pool.blocks, len(rows), pool.row_bytes)
        for at, first, count in runs(rows):
            copy_rows(self._device, kept, kept.box(0, at), pool.box(row, first), count)
        copy_rows(self._device, pool, pool.box(row), kept.box(), len(rows))

    def _replaced(self, old: Stack, element: ElementType, requests: int, capacity: int) -> Stack:
        new = self._empty(element, old.tensors, requests, capacity)
        copy_rows(self._device, new, new.box(), old.box(), old.capacity, old.requests)
        return new

    def _empty(self, element: ElementType, tensors: int, requests: int, capacity: int) -> Stack:
        blocks, row = blocks_of(kv_shape(self._dims, capacity))
        row_bytes = row * element.item_bytes
        stack = Stack.allocated(self._device, tensors, requests, blocks, capacity, row_bytes)
        clear_rows(self._device, stack, stack.box(), capacity, requests)
        return stack


def new_names(num_layers: int) -> list[str]:
    """What a step makes, in the order of the pools."""
    return [name(i) for i in range(num_layers) for name in (new_key, new_value)]


def new_rows(outputs: Mapping[str, DeviceTensor], dims: DecoderDims) -> Stack:
    """What a step made in all layers: `TensorRTStepSession` lays it out as one stack."""
    names = new_names(dims.num_layers)
    first = outputs[names[0]]
    requests, *layout = first.shape
    blocks, row = blocks_of(layout)
    row_bytes = row * first.type.item_bytes
    stack = Stack(first.buffer, len(names), requests, blocks, rows_of(layout), row_bytes, first.offset)
    places = [(tensor.buffer, tensor.offset) for tensor in (outputs[name] for name in names)]
    assert places == [(first.buffer, stack.offset_of(i)) for i in range(len(names))]
    return stack
