"""Which requests share steps: those of like size, so that a long one does not make short ones long.

Every request of a step is computed as if it were as long as the longest. What is wasted so costs less than
reading the weights once more as long as sizes differ by a small factor: classes are a factor of 4 wide.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from ..decoding.answer_sizes import AnswerSizes

WIDTH = 4  # of a class: its largest size over that of the one below
SMALLEST_PREFIX, SMALLEST_POOL, SMALLEST_BEAMS = 256, 512, 8  # rows, rows, beams of the smallest classes
STEP = 64  # rows to which the capacity of prefixes is rounded up


@dataclass(frozen=True)
class SizeClass:
    """The most that a request of it may have."""

    prefix: int  # rows of the longest layer
    pool: int  # rows, if no beam ever ends
    beams: int


Key = tuple[SizeClass, tuple[tuple[str, bytes], ...]]
"""What requests that share a step have in common: their class, and the inputs that a request fixes."""


def class_of(prefix_rows: int, num_beams: int, max_new_tokens: int) -> SizeClass:
    """The class of a request."""
    return SizeClass(
        _bound(prefix_rows, SMALLEST_PREFIX),
        _bound(num_beams * max_new_tokens, SMALLEST_POOL),
        _bound(num_beams, SMALLEST_BEAMS),
    )


def key_of(prefix_rows: int, sizes: AnswerSizes, fixed: Mapping[str, npt.NDArray[Any]]) -> Key:
    """What a request has in common with those that it may share steps with."""
    inputs = tuple((name, np.ascontiguousarray(array).tobytes()) for name, array in sorted(fixed.items()))
    return class_of(prefix_rows, sizes.step_rows, sizes.steps), inputs


def rounded_up(rows: int) -> int:
    """The capacity of prefixes of so many rows at most."""
    return -(-rows // STEP) * STEP


def _bound(size: int, smallest: int) -> int:
    bound = smallest
    while bound < size:
        bound *= WIDTH
    return bound
