"""Token eviction, as NumPy defines it (FastV; with random scores, random eviction)."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from ..merge_tokens.reference import ordered

Array = NDArray[np.floating]


def evict_tokens(hidden: Array, score: Array, start: int, length: int, removed: int) -> Array:
    """Drop the `removed` rows of the span with the smallest score; among equals the lower index goes.

    NaN counts as the smallest score.

    Args:
        hidden: (rows, hidden_size).
        score: (length,), one for each row of the span.
        start: first row of the span.
        length: rows of the span.
        removed: rows to drop, at most length - 1.

    Returns:
        (rows - removed, hidden_size), order kept.
    """
    dropped = start + np.argsort(ordered(score[:length]), kind="stable")[:removed]
    return np.delete(hidden, dropped, axis=0)
