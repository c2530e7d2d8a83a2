"""Blocks of 4-bit numbers: the grid of each block, by its range or by a search, and the steps on it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .precision import Precision

Floats = NDArray[np.floating[Any]]
Parts = tuple[NDArray[Any], ...]

LARGEST_STEP = 15
SHARES = tuple(1 - 0.05 * i for i in range(9))
"""Of the range of a block that `searched` tries, the largest first: the rest is clipped."""
MOST_MOVED = 1.5
"""How far a matrix may move, as `packed_parts` says it. A wrong scale must show beside that: twice the right
one moves a block about as far as its numbers are from 0, which is 1.9 steps at least for 32 numbers.
"""


@dataclass(frozen=True)
class Grid:
    """What the steps of blocks (..., block) stand for: number = scale * (step - zero). 0 is on every grid."""

    scales: Floats  # (...)
    zeros: Floats  # (...), whole numbers from 0 to 15

    def held(self, precision: Precision) -> Grid:
        """With scales that a number format holds."""
        return Grid(held(self.scales, precision), self.zeros)

    def nearest(self, blocks: Floats) -> Floats:
        """The step, 0 to 15, that is nearest to each number."""
        steps = np.rint(blocks / self.scales[..., None]) + self.zeros[..., None]
        return steps.clip(0, LARGEST_STEP)

    def numbers(self, steps: Floats) -> Floats:
        """What steps stand for."""
        return (steps - self.zeros[..., None]) * self.scales[..., None]

    def squared_error(self, blocks: Floats) -> Floats:
        """Of every block, when its numbers go to the nearest step."""
        error: Floats = np.square(self.numbers(self.nearest(blocks)) - blocks).sum(-1)
        return error


def held(scales: Floats, precision: Precision) -> NDArray[np.float32]:
    """Scales as a number format holds them. Where it has 0, all numbers are so small that they become 0."""
    found: NDArray[np.float32] = scales.astype(precision.numpy_type).astype(np.float32)
    found[found == 0] = 1
    return found


def ranged(blocks: Floats, share: float = 1.0) -> Grid:
    """Steps from the least to the largest number of each block, 0 among them, or a share of that range."""
    least, largest = blocks.min(-1).clip(max=0), blocks.max(-1).clip(min=0)
    scales = share * (largest - least) / LARGEST_STEP
    scales[scales == 0] = 1
    return Grid(scales, np.rint(-share * least / scales))


def searched(blocks: Floats) -> Grid:
    """The grid of the least squared error among those over some shares of the range."""
    best = ranged(blocks)
    error = best.squared_error(blocks)
    for share in SHARES[1:]:
        tried = ranged(blocks, share)
        found = tried.squared_error(blocks)
        better = found < error
        error = np.where(better, found, error)
        best = Grid(np.where(better, tried.scales, best.scales), np.where(better, tried.zeros, best.zeros))
    return best


def in_blocks(matrix: Floats, block: int) -> Floats:
    """A matrix (out, in) as (out, blocks, block), the last block filled up with zeros."""
    return np.pad(matrix, ((0, 0), (0, -matrix.shape[1] % block))).reshape(len(matrix), -1, block)


def packed_parts(blocks: Floats, steps: Floats, grid: Grid) -> Parts:
    """What is stored of a matrix (out, blocks, block): steps, scales, zero points, and how far it moved.

    The last is the largest root mean square of the error of a block, in steps from its least to its largest
    number: at most 1/2 where each number went to the nearest step, more where it makes up for others.
    """
    errors = (grid.numbers(steps) - blocks) / ranged(blocks).scales[..., None]
    moved = np.sqrt(np.square(errors).mean(-1).max()).reshape(1)
    return (
        pack(steps.astype(np.uint8)),
        grid.scales.astype(np.float32),
        pack(grid.zeros.astype(np.uint8)),
        moved.astype(np.float32),
    )


def pack(nibbles: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Pairs of 4-bit numbers along the last axis as bytes, the first in the lower bits; an odd end gets 0."""
    even = np.pad(nibbles, [(0, 0)] * (nibbles.ndim - 1) + [(0, nibbles.shape[-1] % 2)])
    first, second = even[..., ::2], even[..., 1::2]
    return (first | second << 4).astype(np.uint8)
