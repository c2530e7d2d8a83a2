"""Every way to quantise a matrix to 4 bits, against the float matrix: no worse than rounding."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from fastadasp.export.calibration.gptq import gptq_blocks
from fastadasp.export.checkpoint.derived import Derived
from fastadasp.export.checkpoint.int4 import in_blocks, packed_parts, ranged, searched
from fastadasp.export.checkpoint.quantized import blocks_of_int4, int4_blocks
from fastadasp.export.reference.dequantized import dequantized

BLOCK = 32


def by_search(matrix, products):
    """Each number at the nearest step of the grid of least squared error."""
    blocks = in_blocks(matrix, BLOCK)
    grid = searched(blocks)
    return packed_parts(blocks, grid.nearest(blocks), grid)


QUANTIZERS = {
    "rounding": lambda matrix, products: int4_blocks(matrix, BLOCK),
    "search": by_search,
    "calibration": lambda matrix, products: gptq_blocks(matrix, products, BLOCK),
}


def numbers(matrix, parts):
    """What a matrix becomes, as `check` reads its parts."""
    stored = blocks_of_int4(Derived("w", matrix.shape, (), lambda: matrix), BLOCK, lambda: parts)
    tensors = stored.values, stored.scales, stored.zero_points
    return dequantized({t.name: torch.from_numpy(t.read()) for t in tensors})["w"].numpy()[
        :, : matrix.shape[1]
    ]


def products_of(rng, inputs, together=4):
    """X^T X of inputs that go together."""
    rows = rng.standard_normal((400, together)) @ rng.standard_normal((together, inputs))
    rows += rng.standard_normal(rows.shape)
    return (rows.T @ rows).astype(np.float32)


def output_error(matrix, found, products):
    """Squared, over all rows that the products are of."""
    difference = (found - matrix).astype(np.float64)
    return float(np.einsum("oi,ij,oj", difference, products, difference))


@pytest.mark.parametrize("quantizer", QUANTIZERS)
@pytest.mark.parametrize("inputs", [BLOCK, 96, 200])
def test_no_way_is_worse_than_rounding(quantizer, inputs):
    """By the error of the numbers, or that of the products, if that is what a way looks at."""
    rng = np.random.default_rng(inputs)
    matrix, products = rng.standard_normal((24, inputs)).astype(np.float32), products_of(rng, inputs)
    measure = products if quantizer == "calibration" else np.eye(inputs)
    mine, plain = (
        output_error(matrix, numbers(matrix, way(matrix, products)), measure)
        for way in (QUANTIZERS[quantizer], QUANTIZERS["rounding"])
    )
    assert mine <= plain
    if quantizer == "calibration":
        assert mine < 0.6 * plain


def test_a_search_lowers_the_error_of_every_block_or_leaves_it():
    matrix = np.random.default_rng(0).standard_t(3, (16, 320)).astype(np.float32)
    by_search, by_rounding = (
        np.square(in_blocks(numbers(matrix, QUANTIZERS[name](matrix, None)) - matrix, BLOCK)).sum(2)
        for name in ("search", "rounding")
    )
    assert (by_search <= by_rounding * (1 + 1e-5)).all()
    assert by_search.sum() < 0.97 * by_rounding.sum()


def test_inputs_that_go_with_no_other_are_rounded_each_by_itself():
    matrix = np.random.default_rng(1).standard_normal((8, 64)).astype(np.float32)
    for found, expected in zip(
        QUANTIZERS["calibration"](matrix, np.eye(64, dtype=np.float32)),
        by_search(matrix, None),
        strict=True,
    ):
        np.testing.assert_allclose(found, expected, rtol=1e-6)


EDGES = {
    "zeros": lambda rng: np.zeros((3, 64)),
    "one number": lambda rng: np.full((3, 64), 0.7),
    "one number below 0": lambda rng: np.full((3, 64), -0.7),
    "an outlier": lambda rng: rng.standard_normal((3, 64)) * np.where(np.arange(64) == 5, 1e4, 1),
    "an outlier alone": lambda rng: np.where(np.arange(64) == 5, 1e4, 0) * np.ones((3, 1)),
    "a last block of 1": lambda rng: rng.standard_normal((3, 65)),
    "one input": lambda rng: rng.standard_normal((3, 1)),
    "tiny numbers": lambda rng: rng.standard_normal((3, 64)) * 1e-30,
}


@pytest.mark.parametrize("quantizer", QUANTIZERS)
@pytest.mark.parametrize("seen", ["all inputs", "half of them", "none"])
@pytest.mark.parametrize("edge", EDGES)
def test_edges_give_finite_numbers_near_the_matrix(quantizer, edge, seen):
    rng = np.random.default_rng(2)
    matrix = EDGES[edge](rng).astype(np.float32)
    products = products_of(rng, matrix.shape[1])
    shown = np.arange(matrix.shape[1]) % 2 == 0 if seen == "half of them" else seen == "all inputs"
    products = (products * shown * np.reshape(shown, (-1, 1))).astype(np.float32)
    parts = QUANTIZERS[quantizer](matrix, products)
    found, steps = numbers(matrix, parts), ranged(in_blocks(matrix, BLOCK)).scales
    moved = np.sqrt(np.square(in_blocks(found - matrix, BLOCK) / steps[..., None]).mean(2))
    assert np.isfinite(found).all()
    assert (moved <= (2 if quantizer == "calibration" else 0.505)).all()
    np.testing.assert_allclose(parts[3][0], moved.max(), rtol=1e-3, atol=1e-6)
    if quantizer != "calibration" or not matrix.any():
        assert (found[matrix == 0] == 0).all()


@pytest.mark.parametrize("quantizer", QUANTIZERS)
def test_the_same_matrix_gives_the_same_bytes(quantizer):
    rng = np.random.default_rng(3)
    matrix, products = rng.standard_normal((8, 100)).astype(np.float32), products_of(rng, 100)
    before = matrix.copy(), products.copy()
    first, second = (QUANTIZERS[quantizer](matrix, products) for _ in range(2))
    assert [part.tobytes() for part in first] == [part.tobytes() for part in second]
    assert (matrix == before[0]).all()
    assert (products == before[1]).all()
