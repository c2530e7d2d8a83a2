"""Matrices in fewer bits stand for numbers about half a step from those of the checkpoint; how they pack."""

from __future__ import annotations

import hypothesis.extra.numpy as arrays
import hypothesis.strategies as st
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from onnx import TensorProto, helper, numpy_helper

from fastadasp.export.checkpoint.derived import Derived
from fastadasp.export.checkpoint.int4 import in_blocks, pack, ranged
from fastadasp.export.checkpoint.precision import BF16, FP16, FP32
from fastadasp.export.checkpoint.quantized import (
    blocks_of_int4,
    blocks_of_int8,
    int4_blocks,
    int4_symmetric,
    int8_rows,
    rows_of_int8,
    signed_blocks,
    symmetric_blocks,
)
from fastadasp.export.reference.dequantized import dequantized
from fastadasp.profiles.errors import CheckpointError

MATRICES = arrays.arrays(
    np.float32,
    st.tuples(st.integers(1, 5), st.integers(1, 70)),
    elements=st.floats(-1e3, 1e3, width=32),
)
FORMS = {
    "int8": rows_of_int8,
    "int8.32": lambda w: blocks_of_int8(w, 32),
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


@settings(max_examples=60)
@given(matrix=MATRICES, form=st.sampled_from(sorted(FORMS)))
def test_each_block_is_within_half_a_step_and_zeros_stay_zeros(matrix, form):
    found = numbers(matrix, form)
    if form == "int8":
        steps = np.abs(matrix).max(1, keepdims=True) / 127
        assert (np.abs(found - matrix) <= 0.5 * steps * (1 + 1e-4) + 1e-6).all()
    else:
        blocks, moved = (in_blocks(it, int(form.partition(".")[2])) for it in (matrix, found - matrix))
        steps = np.abs(blocks).max(2) / 127 if form.startswith("int8") else ranged(blocks).scales
        assert (np.sqrt(np.square(moved).mean(2)) <= 0.5 * steps * (1 + 1e-4) + 1e-6).all()
    assert (found[matrix == 0] == 0).all()


@pytest.mark.parametrize(
    ("form", "least", "largest"),
    [("int8", -127, 127), ("int8.32", -127, 127), ("int4.16", -8, 7), ("int4.32", -3, 12)],
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
    assert not numbers(matrix, "int8.32").any()
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


WHOLE_BLOCKS = arrays.arrays(
    np.float32,
    st.tuples(st.integers(1, 4), st.sampled_from([16, 32, 48])),
    elements=st.floats(-1e3, 1e3, width=32),
)
ROUNDING_OF_SCALES = 8 * 2**-9  # eight steps of a scale in bf16
HELD_BY_ENGINES = st.sampled_from([BF16, FP16, FP32])


@settings(max_examples=60)
@given(matrix=WHOLE_BLOCKS, scales_in=HELD_BY_ENGINES)
def test_numbers_for_engines_are_within_half_a_step_and_scales_are_theirs(matrix, scales_in):
    weight = weight_of(matrix)
    found = dequantized(parts_of(signed_blocks(weight, 16, scales_in)))["w"].numpy()
    _, scales = int4_symmetric(matrix, 16, scales_in, signed=True)
    assert (scales.astype(scales_in.numpy_type).astype(np.float32) == scales).all()
    steps = np.repeat(scales, 16, 1)
    assert (np.abs(found - matrix) <= (0.5 + ROUNDING_OF_SCALES) * steps + 1e-6).all()
    assert (found[matrix == 0] == 0).all()


@settings(max_examples=60)
@given(matrix=WHOLE_BLOCKS, scales_in=HELD_BY_ENGINES)
def test_graphs_beside_engines_have_the_same_numbers(matrix, scales_in):
    forms = signed_blocks, symmetric_blocks
    engine, graph = (dequantized(parts_of(form(weight_of(matrix), 16, scales_in)))["w"] for form in forms)
    assert torch.equal(engine, graph)


@settings(max_examples=60)
@given(
    arrays.arrays(
        np.int8, st.tuples(st.integers(1, 4), st.sampled_from([2, 4, 6])), elements=st.integers(-8, 7)
    )
)
def test_onnx_reads_pairs_of_signed_numbers_as_they_were(steps):
    block = np.concatenate([np.full((len(steps), 2), [7, -8], np.int8), steps], 1)  # its scale is 1
    packed, scales = int4_symmetric(block.astype(np.float32), block.shape[1], FP32, signed=True)
    tensor = helper.make_tensor("w", TensorProto.INT4, block.shape, packed.tobytes(), raw=True)
    assert (scales == 1).all()
    assert (numpy_helper.to_array(tensor).astype(np.int8) == block).all()


@pytest.mark.parametrize("form", [rows_of_int8, lambda w, precision: signed_blocks(w, 16, precision)])
def test_numbers_beyond_the_range_of_an_engine_are_refused_by_name(form):
    """Their scales are within it, but what they are multiplied with is not."""
    matrix = np.ones((2, 16), np.float32)
    matrix[1, 3] = 1e5
    with pytest.raises(CheckpointError, match="tensor w holds 100000, which fp16 cannot"):
        form(weight_of(matrix), FP16).values.read()
    form(weight_of(matrix), BF16).values.read()
