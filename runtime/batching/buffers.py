"""Buffers of the host: arrays of fixed capacity, which a session reads where they lie."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from ...profiles.flops import DecoderDims
from ...profiles.kv_layout import ROWS_AXIS, kv_shape, rows_of, take_rows
from ...profiles.signature import new_key, new_value, pool_key, pool_value, prefix_key, prefix_value
from ..decoding.pool_buckets import SMALLEST, capacity_for
from ..session import NewRows, Tensor
from .classes import rounded_up

Array = npt.NDArray[Any]
CAPACITY_AXIS = 1 + ROWS_AXIS


class HostBuffers:
    """The memory of one batch, as `StepBuffers` says."""

    def __init__(
        self,
        dims: DecoderDims,
        prefix: Mapping[str, Array],
        share: Callable[[Array], Tensor],
        read: Callable[[Tensor], Array],
    ) -> None:
        """Hold the prefix of one request, arrays in KV layout, where it is.

        Args:
            dims: sizes of the decoder.
            prefix: keys and values of all layers by name.
            share: makes a tensor whose numbers are those of an array, now and later.
            read: makes an array of an output of a step.
        """
        layers = range(dims.num_layers)
        self._dims, self._share, self._read = dims, share, read
        self._prefix_names = [name(i) for i in layers for name in (prefix_key, prefix_value)]
        self._new_names = {
            name(i): new(i) for i in layers for name, new in ((pool_key, new_key), (pool_value, new_value))
        }
        self._prefix = {name: prefix[name][None] for name in self._prefix_names}
        self._pool = {name: self._empty(1, SMALLEST) for name in self._new_names}
        self._held = 1  # rows that requests have or had: the others were never written, so they are no memory
        self._tensors: dict[int, dict[str, Tensor]] = {}  # by how many requests they hold

    @property
    def requests(self) -> int:
        """Rows for requests: those of all arrays, of which some were left small where memory ran out."""
        return min(len(array) for array in (*self._prefix.values(), *self._pool.values()))

    @property
    def pool_capacity(self) -> int:
        """Rows of the pool of a request, in use or not; of all arrays, as `requests`."""
        return min(self._capacities)

    @property
    def _largest_capacity(self) -> int:
        return max(self._capacities)

    @property
    def _capacities(self) -> list[int]:
        return [int(array.shape[CAPACITY_AXIS]) for array in self._pool.values()]

    def tensors(self, requests: int) -> dict[str, Tensor]:
        """What a step of the first so many requests reads."""
        if requests not in self._tensors:
            arrays = (self._prefix | self._pool).items()
            self._tensors[requests] = {name: self._share(array[:requests]) for name, array in arrays}
        return self._tensors[requests]

    def put(self, row: int, prefix: Mapping[str, Array]) -> None:
        """Copy the prefix of a request into its row, which nothing that was there outlives."""
        self._held = max(self._held, row + 1)
        for name, array in self._prefix.items():
            rows, given = array[row], prefix[name]
            length = rows_of(given.shape)
            take_rows(rows, slice(length))[...] = given
            take_rows(rows, slice(length, None))[...] = 0
        for array in self._pool.values():
            array[row] = 0

    def move(self, source: int, target: int) -> None:
        """Give a request another row."""
        for array in (*self._prefix.values(), *self._pool.values()):
            array[target] = array[source]

    def fit(self, lengths: Sequence[Sequence[int]]) -> None:
        """Make room for requests with prefixes of these lengths, by request and layer.

        They have the first rows, as far as they are here already. Arrays are replaced one by one, so that
        only one of them is in memory twice.
        """
        capacities = [rounded_up(max(layer)) for layer in zip(*lengths, strict=True)]
        wanted = [capacity for capacity in capacities for _ in range(2)]  # keys and values
        pairs = list(zip(self._prefix_names, wanted, strict=True))
        enough = all(self._prefix[name].shape[CAPACITY_AXIS] >= capacity for name, capacity in pairs)
        if enough and len(lengths) <= self.requests:
            return
        requests = self.requests
        while requests < len(lengths):
            requests *= 2  # so that those who are there are seldom copied
        for name, capacity in pairs:
            there = rounded_up(self._prefix[name].shape[CAPACITY_AXIS])
            self._replace(self._prefix, name, requests, max(capacity, there))
        self._replace_pool(requests, self._largest_capacity)

    def fit_pool(self, rows: int) -> None:
        """Make room for so many rows in each pool, the same in all: memory may have run out between them."""
        if rows > self.pool_capacity or self._largest_capacity > self.pool_capacity:
            self._replace_pool(self.requests, max(capacity_for(rows), self._largest_capacity))

    def append(self, outputs: Mapping[str, Tensor], written: Sequence[NewRows]) -> None:
        """Write the rows that a step made into the pools of their requests."""
        for name, new_name in self._new_names.items():
            pool, new = self._pool[name], self._read(outputs[new_name])
            for rows in written:
                into = take_rows(pool[rows.request], slice(rows.at, rows.at + rows.count))
                into[...] = take_rows(new[rows.request], slice(rows.count))

    def put_pool(self, row: int, pool: Mapping[str, Array]) -> None:
        """Copy rows to the beginning of the pool of a request."""
        for name, array in self._pool.items():
            take_rows(array[row], slice(rows_of(pool[name].shape)))[...] = pool[name]

    def keep(self, row: int, rows: npt.NDArray[np.int64]) -> None:
        """Leave these rows alone in the pool of a request, in this order."""
        for array in self._pool.values():
            take_rows(array[row], slice(len(rows)))[...] = take_rows(array[row], rows)

    def _replace_pool(self, requests: int, capacity: int) -> None:
        for name in self._new_names:
            self._replace(self._pool, name, requests, capacity)

    def _replace(self, arrays: dict[str, Array], name: str, requests: int, capacity: int) -> None:
        old = arrays[name]  # which stays where there is no memory for a new one
        shape = requests, *kv_shape(self._dims, capacity)
        if old.shape == shape:
            return
        self._tensors.clear()
        new = np.zeros(shape, old.dtype)
        new[: self._held, ..., : old.shape[CAPACITY_AXIS], :] = old[: self._held]
        arrays[name] = new

    def _empty(self, requests: int, capacity: int) -> Array:
        return np.zeros((requests, *kv_shape(self._dims, capacity)), np.float32)
