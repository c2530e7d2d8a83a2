"""The seam between the runtime and a backend: one loaded graph, run on tensors that stay with the backend."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from ..profiles.flops import DecoderDims

Tensor = Any
"""A tensor of the backend: only its own session looks inside. Inputs may also be NumPy arrays."""


class Session(Protocol):
    """One loaded graph. Safe to run from several threads at once.

    A run that can be stopped from another thread asks `cancellation.guard` whether it may have to be.
    """

    @property
    def number_bytes(self) -> int:
        """Bytes of one number of the pool."""
        ...

    @property
    def prefix_number_bytes(self) -> int:
        """The same of the prompt's keys and values, of a session that takes or makes them."""
        ...

    def run(self, inputs: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Run the graph on tensors named as its inputs; return its outputs by name.

        RequestCancelled: the request for which it runs ended meanwhile, on a backend that can stop a run.
        """
        ...

    def read(self, tensor: Tensor) -> npt.NDArray[Any]:
        """A tensor as a NumPy array."""
        ...

    def rows_of(self, tensor: Tensor) -> int:
        """The rows of a cache tensor, which is in KV layout."""
        ...


@dataclass(frozen=True)
class NewRows:
    """Where the rows that a step made for a request go: behind those in use in its pool."""

    request: int  # its row of the buffers
    at: int  # rows in use
    count: int  # beams, whose rows are the first of what the step made


class StepBuffers(Protocol):
    """Keys and values of several requests in buffers of fixed capacity, which are written in place.

    A buffer has a row for each request, and behind it KV layout. What is not in use is finite, so that a mask
    can hide it. A request that is alone keeps the tensors of its prefill as they are; they are copied when
    another one joins.
    """

    @property
    def pool_capacity(self) -> int:
        """Rows of the pool of a request, in use or not."""
        ...

    def tensors(self, requests: int) -> Mapping[str, Tensor]:
        """What a step of the first so many requests reads."""
        ...

    def put(self, row: int, prefix: Mapping[str, Tensor]) -> None:
        """Copy the prefix of a request into its row, which nothing that was there outlives."""
        ...

    def move(self, source: int, target: int) -> None:
        """Give a request another row."""
        ...

    def fit(self, lengths: Sequence[Sequence[int]]) -> None:
        """Make room for requests with prefixes of these lengths, by request and layer.

        They have the first rows, as far as they are here already. Buffers are replaced one by one, so that
        only one of them is in memory twice.
        """
        ...

    def fit_pool(self, rows: int) -> None:
        """Make room for so many rows in each pool."""
        ...

    def append(self, outputs: Mapping[str, Tensor], written: Sequence[NewRows]) -> None:
        """Write the rows that a step made into the pools of their requests."""
        ...

    def put_pool(self, row: int, pool: Mapping[str, npt.NDArray[Any]]) -> None:
        """Copy rows to the beginning of the pool of a request."""
        ...

    def keep(self, row: int, rows: npt.NDArray[np.int64]) -> None:
        """Leave these rows alone in the pool of a request, in this order."""
        ...


class StepSession(Session, Protocol):
    """A decode session whose steps take several requests, over buffers that are written between them."""

    def buffers(self, dims: DecoderDims, prefix: Mapping[str, Tensor]) -> StepBuffers:
        """Buffers that hold the prefix of one request, tensors in KV layout, where it is."""
        ...

    def prefix(self, tensor: Tensor) -> Any:
        """Keys or values that a prefill made, or an array of them, as `buffers` takes them, with a shape."""
        ...
