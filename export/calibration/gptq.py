"""One matrix in 4 bits so that its products stay close: later inputs make up for earlier ones.

GPTQ (arXiv:2210.17323), with a grid for each block of inputs. The inputs are taken in turn; what rounding
the weights of one costs is added to the weights of those not yet rounded, as far as the two go together in
the calibration rows. ONNX Runtime ships a function for it that returns numbers instead of steps and grids,
and whose search compares steps with weights; libraries that have it load whole models of their own.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from ..checkpoint.int4 import Floats, Grid, Parts, in_blocks, packed_parts, searched
from ..checkpoint.precision import FP32, Precision

DAMPING = 0.01
"""Share of the mean square of all inputs that is added to that of each: a few clips do not tell all."""


def gptq_blocks(matrix: Floats, products: npt.NDArray[Any], block: int, scales_in: Precision = FP32) -> Parts:
    """Parts of `QuantizedBlocks`.

    Args:
        matrix: (out, in).
        products: X^T X of calibration rows X that it is multiplied with, (in, in), in any scale.
        block: inputs that share a grid.
        scales_in: what holds the scales, wherever they are stored.
    """
    blocks = in_blocks(matrix, block)
    left = blocks.reshape(len(matrix), -1).astype(np.float32)
    factor = _factor(products, left.shape[1])
    steps, grids = np.empty_like(left), []
    for start in range(0, left.shape[1], block):
        end = start + block
        grid = searched(left[:, start:end]).held(scales_in)
        steps[:, start:end], errors = _round_block(left[:, start:end], factor[start:end, start:end], grid)
        left[:, end:] -= errors @ factor[start:end, end:]
        grids.append(grid)
    whole = Grid(np.stack([g.scales for g in grids], 1), np.stack([g.zeros for g in grids], 1))
    return packed_parts(blocks, steps.reshape(blocks.shape), whole)


def _factor(products: npt.NDArray[Any], inputs: int) -> npt.NDArray[np.float32]:
    """U of U^T U = (X^T X + damping)^-1, upper triangular, in float32.

    An input that calibration never saw, as those that fill up the last block, goes with no other.
    """
    mean = float(np.trace(products)) / len(products) or 1.0
    whole = np.zeros((inputs, inputs))
    whole[: len(products), : len(products)] = products / mean
    whole[np.diag_indices(inputs)] += DAMPING
    return np.linalg.cholesky(np.linalg.inv(whole)).T.astype(np.float32)


def _round_block(left: Floats, factor: Floats, grid: Grid) -> tuple[Floats, Floats]:
    """Steps of one block (out, block), and the error of each input in units of its own diagonal element."""
    left, steps, errors = left.copy(), np.empty_like(left), np.empty_like(left)
    for i in range(left.shape[1]):
        column = left[:, i : i + 1]
        steps[:, i : i + 1] = nearest = grid.nearest(column)
        errors[:, i : i + 1] = error = (column - grid.numbers(nearest)) / factor[i, i]
        left[:, i + 1 :] -= error * factor[i, i + 1 :]
    return steps, errors
