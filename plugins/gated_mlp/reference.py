"""The SwiGLU MLP, as NumPy defines it."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.floating]


def gated_mlp(x: Array, gate: Array, up: Array, down: Array) -> Array:
    """down(silu(gate(x)) * up(x)).

    Args:
        x: (rows, hidden_size).
        gate: (intermediate_size, hidden_size); up alike.
        up: (intermediate_size, hidden_size).
        down: (hidden_size, intermediate_size).

    Returns:
        (rows, hidden_size).
    """
    gated = x @ gate.T
    sigmoid = np.exp(-np.logaddexp(0, -gated))  # without overflow
    output: Array = (gated * sigmoid * (x @ up.T)) @ down.T
    return output
