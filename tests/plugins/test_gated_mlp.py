"""The SwiGLU MLP, over the borders of its row chunks."""

from __future__ import annotations

import numpy as np
import pytest

from fastadasp.plugins.gated_mlp.op import GATED_MLP, ROW_CHUNK

from .op_oracle import gated_mlp
from .op_versions import Array, Version, every_version


def inputs(version: Version, rows: int, hidden: int, wide: int) -> list[Array]:
    rng = np.random.default_rng(rows)
    sizes = [(rows, hidden), (wide, hidden), (wide, hidden), (hidden, wide)]
    x, *weights = (version.normal(rng, *size) for size in sizes)
    return [x, *(w / w.dtype.type(np.sqrt(w.shape[1])) for w in weights)]


@every_version
@pytest.mark.parametrize("rows", [1, 2, ROW_CHUNK - 1, ROW_CHUNK, ROW_CHUNK + 1, 2 * ROW_CHUNK + 3])
@pytest.mark.parametrize(("hidden", "wide"), [(8, 24), (24, 8), (1, 1)])
def test_every_row_agrees_with_plain_loops(version: Version, rows: int, hidden: int, wide: int) -> None:
    given = inputs(version, rows, hidden, wide)
    want = gated_mlp(*given)
    version.assert_close(version(GATED_MLP, *given), want, np.maximum(np.abs(want), 4))


@every_version
def test_a_row_does_not_depend_on_the_others(version: Version) -> None:
    x, *weights = inputs(version, ROW_CHUNK + 9, 8, 24)
    together = version(GATED_MLP, x, *weights)
    for row in (0, ROW_CHUNK - 1, ROW_CHUNK, ROW_CHUNK + 8):
        version.assert_close(version(GATED_MLP, x[row : row + 1], *weights), together[row : row + 1], 4)


@every_version
def test_a_gate_far_beyond_the_range_of_exp_opens_or_closes(version: Version) -> None:
    x = np.array([[1e4], [-1e4]], version.dtype)
    one = np.ones((1, 1), version.dtype)
    version.assert_close(version(GATED_MLP, x, one, one, one), [[1e8], [0.0]], [[1e8], [1.0]])
