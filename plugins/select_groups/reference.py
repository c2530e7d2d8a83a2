"""Groups of rows and their selection, as NumPy defines them.

Everything is computed in float64, so that other sums than these choose the same.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..merge_tokens.reference import top_edges
from .op import DIAGONAL, GRID, GROUP_SIMILARITY, LEAST, MOST, NO_LINK, SMALLEST_NORM

Array = NDArray[Any]


def select_groups(
    hidden: Array, weight: Array, relevance: Array, start: int, length: int, removed: int
) -> tuple[Array, Array, Array, Array]:
    """Group the rows of the span, and select as many groups as rows are to stay.

    Where there are fewer groups, the weakest links are cut until there are enough of them, and all stay.

    Args:
        hidden: (rows, hidden_size). What is not finite counts as 0.
        weight: (rows,), of each row in the mean that becomes of its group.
        relevance: (rows,), whose mean over a group is what its selection goes by, beside its similarities.
        start: first row of the span.
        length: rows of the span.
        removed: rows to remove, at most length - 1.

    Returns:
        score (length - 1,), how well the second row of an edge fits the group of the first, or `NO_LINK`;
        links (1,), how many of the largest scores link rows, ties to the lower index;
        kept (groups,), 1 for the selected groups, or 0 for all where none has to go;
        first (groups,), where each begins in the span.
    """
    span = slice(start, start + length)
    rows, weight, relevance = (
        hidden[span].astype(np.float64),
        _clamped(weight[span]),
        _clamped(relevance[span]),
    )
    rows[~np.isfinite(rows)] = 0
    score = _links(_unit(rows)).astype(hidden.dtype)
    links = min(int((score > NO_LINK).sum()), removed)
    is_head = np.ones(length, bool)
    is_head[1:] = ~top_edges(score, links)
    first = np.flatnonzero(is_head)
    kept = np.zeros(len(first), hidden.dtype)
    if len(first) > length - removed:
        means = np.add.reduceat(rows * weight[:, None], first) / np.add.reduceat(weight, first)[:, None]
        shared = np.add.reduceat(relevance, first) / np.diff(first, append=length)
        kept[_most_diverse(_unit(means), shared, length - removed)] = 1
    return score, np.array([links]), kept, first


def _clamped(numbers: Array) -> Array:
    found: Array = np.where(numbers > LEAST, numbers, LEAST).astype(np.float64)
    return np.minimum(found, MOST)


def _unit(rows: Array) -> Array:
    unit: Array = rows / np.maximum(np.sqrt((rows * rows).sum(-1, keepdims=True)), SMALLEST_NORM)
    return unit


def _links(unit: Array) -> Array:
    """The mean cosine of each row but the first with the group before it, where it joins: (length - 1,)."""
    links = np.full(max(len(unit) - 1, 0), NO_LINK)
    begin = 0
    for row in range(1, len(unit)):
        mean = np.round((unit[begin:row] @ unit[row]).mean() * GRID) / GRID
        if mean >= GROUP_SIMILARITY:
            links[row - 1] = mean
        else:
            begin = row
    return links


def _most_diverse(unit: Array, relevance: Array, count: int) -> list[int]:
    """The greedy MAP of a determinantal point process of kernel diag(r) S diag(r).

    S is the cosine, plus `DIAGONAL`, and r the relevance. The group comes next that makes the determinant of
    those chosen the largest: r^2 times what they leave of it, which is the diagonal of the Schur complement
    of S. Compared are logarithms, so that groups of little relevance still differ. Ties go to the lower
    index.
    """
    left = unit @ unit.T + DIAGONAL * np.eye(len(unit))
    prior = 2 * np.log(relevance)
    chosen: list[int] = []
    for _ in range(count):
        gain = np.round((np.log(np.maximum(left.diagonal(), SMALLEST_NORM)) + prior) * GRID)
        gain[chosen] = -np.inf
        best = int(gain.argmax())
        chosen.append(best)
        left = left - np.outer(left[:, best], left[best]) / left[best, best]
    return chosen
