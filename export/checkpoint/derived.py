"""Weights that a build computes from those of a checkpoint: known by shape before a number is read."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .checkpoint import Tensor
from .precision import Precision

ADAPTED = ".adapted"
"""How the name of a tensor of the checkpoint ends where an adapter has changed it."""


@dataclass(frozen=True)
class Derived:
    """One tensor that no file of the checkpoint holds."""

    name: str  # of the initializer, unlike that of any tensor of the checkpoint
    shape: tuple[int, ...]
    sources: tuple[Weight, ...]
    compute: Callable[..., NDArray[Any]] = field(repr=False)
    """The values of the sources, float32, as arguments -> the numbers, of this shape."""

    precision: Precision | None = None
    """What it is stored in, whatever the graphs compute in; None: in that of the graphs."""

    def read(self) -> NDArray[Any]:
        """Compute the values, as float32 or in the precision of its own."""
        stored = self.precision.numpy_type if self.precision else np.float32
        found = np.ascontiguousarray(self.compute(*(tensor.read() for tensor in self.sources)), stored)
        assert found.shape == self.shape, f"{self.name} is {found.shape}, not {self.shape}"
        return found


def stored_in(weight: Tensor | Derived, graphs: Precision) -> Precision:
    """What a weight of graphs of some precision is stored in."""
    own = weight.precision if isinstance(weight, Derived) else None
    return own or graphs


Weight = Tensor | Derived
"""What a graph may have as an initializer."""
