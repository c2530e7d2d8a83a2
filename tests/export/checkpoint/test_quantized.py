"""Matrices in fewer bits stand for numbers half a step from those of the checkpoint, and pack as they say."""

from __future__ import annotations

import hypothesis.extra.numpy as arrays
import hypothesis.strategies as st
import numpy as np
import pytest
import torch
from hypothesis import given, settings

from fastadasp.export.checkpoint.derived import Derived
from fastadasp.export.checkpoint.quantized import blocks_of_int4, int4_blocks, int8_rows, pack, rows_of_int8
from fastadasp.export.reference.dequantized import dequantized

MATRICES = arrays.arrays(
    np.float32,
    st.tuples(st.integers(1, 5), st.integers(1, 70)),
    elements=st.floats(-1e3, 1e3, width=32),
)
FORMS = {
    "int8": rows_of_int8,
    "int4.16": lambda w: blocks_of_int4(w, 16),
    "int4.32": lambda w: blocks_of_int4(w, 32),
}


def weight_of(matrix):
    return Derived("w", matrix.shape, (), lambda: matrix)


def parts_of(quantized):
    """The stored tensors of a matrix, by name."""
    parts = [getattr(quantized, name, None) for name in ("values", "scales", "zero_points")]
    return {part.name: torch.from_numpy(part.read()) for part in parts if part is not None}


def numbers(matrix, form):
    """What a matrix becomes, by the definition: (out, in)."""
    return dequantized(parts_of(FORMS[form](weight_of(matrix))))["w"].numpy()[:, : matrix.shape[1]]


@settings(deadline=None, max_examples=60)
@given(matrix=MATRICES, form=st.sampled_from(sorted(FORMS)))
def test_each_number_is_within_a_step_of_its_own_and_zeros_stay_zeros(matrix, form):
    found = numbers(matrix, form)
    if form == "int8":
        steps, _ = np.broadcast_arrays(np.abs(matrix).max(1, keepdims=True) / 127, matrix)
        share = 0.5
    else:
        block = int(form.partition(".")[2])
        _, scales, _ = int4_blocks(matrix, block)
        steps, share = np.repeat(scales, block, 1)[:, : matrix.shape[1]], 1.0  # zero points are whole numbers
    assert (np.abs(found - matrix) <= share * steps * (1 + 1e-4) + 1e-6).all()
    assert (found[matrix == 0] == 0).all()


@pytest.mark.parametrize(
    ("form", "least", "largest"), [("int8", -127, 127), ("int4.16", -8, 7), ("int4.32", -3, 12)]
)
def test_whole_steps_are_exact(form, least, largest):
    steps = np.random.default_rng(0).integers(least, largest + 1, (6, 64)).astype(np.float32)
    steps[:, ::16], steps[:, 1::16] = largest, least  # each block has both ends of the range
    np.testing.assert_allclose(numbers(steps / 8, form), steps / 8, rtol=1e-6)


def test_a_row_of_zeros_has_a_scale_that_can_be_divided_by():
    matrix = np.zeros((2, 32), np.float32)
    assert (int8_rows(matrix)[1] == 1).all()
    assert (int4_blocks(matrix, 32)[1] == 1).all()
    assert not numbers(matrix, "int8").any()
    assert not numbers(matrix, "int4.32").any()


def test_two_numbers_share_a_byte_the_first_in_the_lower_bits():
    assert pack(np.array([[1, 2, 3]], np.uint8)).tolist() == [[0x21, 0x03]]


@pytest.mark.parametrize(("inputs", "blocks", "zero_bytes"), [(32, 1, 1), (33, 2, 1), (70, 3, 2)])
def test_a_last_block_that_is_not_full_is_filled_up(inputs, blocks, zero_bytes):
    quantized = blocks_of_int4(weight_of(np.ones((4, inputs), np.float32)), 32)
    assert quantized.values.shape == (4, blocks, 16)
    assert quantized.scales.shape == (4, blocks)
    assert quantized.zero_points.shape == (4, zero_bytes)
    for part in (quantized.values, quantized.scales, quantized.zero_points):
        assert part.read().shape == part.shape


def test_the_parts_of_one_matrix_are_computed_once():
    calls = []
    weight = Derived("w", (4, 32), (), lambda: calls.append(1) or np.ones((4, 32), np.float32))
    parts_of(blocks_of_int4(weight, 32))
    assert calls == [1]
