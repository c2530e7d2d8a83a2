"""The seam between the runtime and a backend: one loaded graph, run on tensors that stay with the backend."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

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

    def take_rows(self, tensor: Tensor, rows: npt.NDArray[np.int64]) -> Tensor:
        """Some rows of a cache tensor, as a new tensor."""
        ...


class StepSession(Session, Protocol):
    """A decode session whose steps take several requests, over arrays that the host writes."""

    def share(self, array: npt.NDArray[Any]) -> Tensor:
        """A tensor whose numbers are those of the array, now and later."""
        ...

    def view(self, tensor: Tensor) -> npt.NDArray[Any]:
        """The numbers of a tensor of this backend where they lie, to be read only."""
        ...
