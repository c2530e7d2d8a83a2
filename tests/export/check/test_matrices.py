"""Matrices in the form of engines against the checkpoint: what was written wrong is found."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from fastadasp.export.check.matrices import compare_matrices
from fastadasp.export.checkpoint.derived import Derived
from fastadasp.export.checkpoint.precision import BF16
from fastadasp.export.checkpoint.quantized import blocks_of_int8, rows_of_int8, signed_blocks

MATRIX = np.random.default_rng(0).standard_normal((6, 256)).astype(np.float32)
WEIGHT = Derived("w", MATRIX.shape, (), lambda: MATRIX)
FORMS = {
    "int4": signed_blocks(WEIGHT, 64, BF16),
    "int8": rows_of_int8(WEIGHT, BF16),
    "int8 in blocks": blocks_of_int8(WEIGHT, 64),
}


def found(form, changed=None, change=None):
    """What is found of the matrix in a form, one stored part of which was changed."""
    quantized = FORMS[form]
    stored = {part.name: part.read() for part in (quantized.values, quantized.scales)}
    if changed:
        name = getattr(quantized, changed).name
        stored[name] = np.ascontiguousarray(change(stored[name]))
    (finding,) = compare_matrices(
        [(WEIGHT, quantized)], {name: torch.from_numpy(part) for name, part in stored.items()}
    )
    return finding


def one_wrong(scales):
    """Twice the scale of output 4, in its second block where it has blocks."""
    wrong = scales.copy()
    wrong[(4, 1)[: scales.ndim]] *= 2
    return wrong


@pytest.mark.parametrize("form", FORMS)
def test_rounding_alone_passes(form):
    assert found(form).passed


WRONG = {
    "a wrong scale": ("scales", one_wrong),
    "swapped nibbles": ("values", lambda values: values >> 4 | values << 4),
    "a dropped sign": ("values", lambda values: values ^ 0x88),
    "a transposed block": (
        "values",
        lambda values: values.reshape(6, 4, 4, 8).transpose(0, 1, 3, 2).reshape(values.shape),
    ),
    "blocks in another order": ("values", lambda values: np.roll(values, 32, 1)),
}


@pytest.mark.parametrize("fault", WRONG)
def test_a_matrix_of_signed_int4_that_was_written_wrong_is_found(fault):
    assert not found("int4", *WRONG[fault]).passed


def test_the_output_of_a_wrong_scale_is_named():
    for form in FORMS:
        finding = found(form, "scales", one_wrong)
        assert not finding.passed
        assert (finding.name, finding.output) == ("w", 4)
