"""Weights that a build computes from those of a checkpoint: known by shape before a number is read."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .checkpoint import Tensor


@dataclass(frozen=True)
class Derived:
    """One tensor that no file of the checkpoint holds."""

    name: str  # of the initializer, unlike that of any tensor of the checkpoint
    shape: tuple[int, ...]
    sources: tuple[Weight, ...]
    compute: Callable[..., NDArray[Any]] = field(repr=False)
    """The values of the sources, float32, as arguments -> the numbers, of this shape."""

    def read(self) -> NDArray[np.float32]:
        """Compute the values as float32."""
        found = np.ascontiguousarray(self.compute(*(tensor.read() for tensor in self.sources)), np.float32)
        assert found.shape == self.shape, f"{self.name} is {found.shape}, not {self.shape}"
        return found


Weight = Tensor | Derived
"""What a graph may have as an initializer."""
