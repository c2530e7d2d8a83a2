"""Where a step looks: the highest attention a second, and the rows beside it."""

from __future__ import annotations

import numpy as np
import pytest

from fastadasp.runtime.decoding.row_map import LayerRows
from fastadasp.runtime.decoding.word_times import looked_at


def rows_of(*boundaries: float) -> LayerRows:
    return LayerRows(0, None, boundaries[:-1], boundaries[1:])


@pytest.mark.parametrize(
    ("attention", "expected"),
    [
        ([0, 0, 1, 0, 0], (2, 3)),
        ([0, 0.3, 1, 0.3, 0], (1, 4)),
        ([0.5, 0.1, 1, 0.1, 0.5], (2, 3)),  # what is apart does not belong to it
        ([1, 0.5, 0.5, 0.5, 0.5], (0, 5)),
        ([0, 0, 0, 0, 1], (4, 5)),
    ],
)
def test_rows_beside_the_highest_belong_to_it(attention: list[float], expected: tuple[float, float]) -> None:
    assert looked_at(np.array(attention), rows_of(0, 1, 2, 3, 4, 5)) == expected


def test_attention_counts_by_the_second() -> None:
    """A row of four seconds with twice the attention of one of a second is looked at less."""
    assert looked_at(np.array([2.0, 0.0, 1.0]), rows_of(0, 4, 5, 6)) == (5, 6)


def test_the_scale_is_of_no_matter() -> None:
    attention, rows = np.array([0.1, 0.7, 0.2]), rows_of(0, 0.04, 0.08, 0.4)
    assert looked_at(attention, rows) == looked_at(5 * attention, rows) == (0.04, 0.08)
