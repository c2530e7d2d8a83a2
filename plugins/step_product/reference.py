"""The product of a decode step, as NumPy defines it."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.floating]


def step_product(x: Array, weight: Array) -> Array:
    """Rows x (rows, in) times the transpose of weight (out, in): (rows, out), however many rows there are."""
    output: Array = x @ weight.T
    return output
