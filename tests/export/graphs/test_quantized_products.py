"""Products by quantised matrices on ONNX Runtime, against the numbers that the matrices stand for."""

from __future__ import annotations

from functools import partial

import numpy as np
import pytest
import torch

from fastadasp.export.checkpoint.derived import Derived
from fastadasp.export.checkpoint.precision import BF16
from fastadasp.export.checkpoint.quantized import (
    blocks_of_int4,
    blocks_of_int8,
    rows_of_int8,
    symmetric_blocks,
)
from fastadasp.export.checkpoint.weights import Converted
from fastadasp.export.graphs.graph import Graph, Rounding
from fastadasp.export.graphs.lowering.onnxruntime import OnnxRuntimeLowering
from fastadasp.export.model.spec import Linear
from fastadasp.export.reference.dequantized import dequantized
from fastadasp.profiles.signature import FLOAT, TensorSpec
from fastadasp.runtime.onnxruntime.session import OnnxRuntimeSession

RNG = np.random.default_rng(0)
ACTIVATIONS = 1.5 / 127  # of the largest number of a row, or a block: one rounding, and what adds up of it
FORMS = {
    "int8": rows_of_int8,
    "int8 in blocks of 64": lambda weight: blocks_of_int8(weight, 64),
    "int4 in blocks of 32": lambda weight: blocks_of_int4(weight, 32),
    "int4 in blocks of 128": lambda weight: blocks_of_int4(weight, 128),
}
BESIDE_ENGINES = partial(symmetric_blocks, block=32, scales_in=BF16)


def product(folder, quantize, matrix, bias, rows, rounding=Rounding.ROWS):
    """x W^T + b on ONNX Runtime, and by the definition."""
    folder.mkdir(exist_ok=True)
    weight = quantize(Derived("w", matrix.shape, (), lambda: matrix))
    shift = None if bias is None else Derived("b", bias.shape, (), lambda: bias)
    parts = [getattr(weight, name, None) for name in ("values", "scales", "zero_points")]
    parts = [part for part in parts if part is not None]
    store = Converted([*parts, *([shift] if shift else [])])
    store.write(folder)
    lowering = OnnxRuntimeLowering()
    g = Graph("product", store, lowering)
    g.input(TensorSpec("x", FLOAT, ("rows", matrix.shape[1])))
    g.linear("x", Linear(weight, shift), "/y", rounding, outputs=["y"])
    g.output(TensorSpec("y", FLOAT, ("rows", matrix.shape[0])))
    path = folder / "product.onnx"
    path.write_bytes(g.model(domains=lowering.domains).SerializeToString())
    session = OnnxRuntimeSession(path, {}, prepack=True)
    meant = dequantized({part.name: torch.from_numpy(part.read()) for part in parts})["w"].numpy()
    expected = rows.astype(np.float64) @ meant[:, : matrix.shape[1]].T.astype(np.float64)
    found = session.read(session.run({"x": rows})["y"])
    return found, expected if bias is None else expected + bias, meant


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("count", [1, 5, 70])
@pytest.mark.parametrize("inputs", [32, 160, 200])
@pytest.mark.parametrize("has_bias", [False, True])
def test_a_product_is_within_the_rounding_of_its_activations(tmp_path, form, count, inputs, has_bias):
    matrix = RNG.standard_normal((24, inputs)).astype(np.float32)
    bias = RNG.standard_normal(24).astype(np.float32) if has_bias else None
    rows = RNG.standard_normal((count, inputs)).astype(np.float32)
    rows[0] *= 1000  # a row with large numbers costs no other row
    found, expected, meant = product(tmp_path, FORMS[form], matrix, bias, rows)
    step = ACTIVATIONS * np.abs(rows).max(1, keepdims=True) * np.sqrt(np.square(meant).sum(1))
    assert (np.abs(found - expected) <= step + 1e-5).all()


@pytest.mark.parametrize("count", [1, 5, 70])
def test_a_product_without_zero_points_is_as_near(tmp_path, count):
    matrix = RNG.standard_normal((24, 160)).astype(np.float32)
    rows = RNG.standard_normal((count, 160)).astype(np.float32)
    found, expected, meant = product(tmp_path, BESIDE_ENGINES, matrix, None, rows)
    step = ACTIVATIONS * np.abs(rows).max(1, keepdims=True) * np.sqrt(np.square(meant).sum(1))
    assert (np.abs(found - expected) <= step + 1e-5).all()


@pytest.mark.parametrize("count", [1, 70])
def test_rows_of_16_bits_cost_a_product_next_to_nothing(tmp_path, count):
    matrix = RNG.standard_normal((24, 160)).astype(np.float32)
    rows = RNG.standard_normal((count, 160)).astype(np.float32)
    rows[0] *= 1000
    found, expected, meant = product(tmp_path, rows_of_int8, matrix, None, rows, Rounding.FINE)
    step = ACTIVATIONS / 127 * np.abs(rows).max(1, keepdims=True) * np.sqrt(np.square(meant).sum(1))
    assert (np.abs(found - expected) <= step + 1e-5).all()


def test_rows_that_gelu_gave_take_steps_of_half_the_size(tmp_path):
    matrix = RNG.standard_normal((24, 160)).astype(np.float32)
    x = 3 * torch.from_numpy(RNG.standard_normal((70, 160)).astype(np.float32))
    rows = torch.nn.functional.gelu(x).numpy()
    rows[0, :80] = np.float32(-0.1699)  # the least that it gives
    found, expected, meant = product(tmp_path, rows_of_int8, matrix, None, rows, Rounding.AFTER_GELU)
    step = 1.5 / (255 - 16) * np.abs(rows).max(1, keepdims=True) * np.sqrt(np.square(meant).sum(1))
    assert (np.abs(found - expected) <= step + 1e-5).all()
    coarse, _, _ = product(tmp_path / "coarse", rows_of_int8, matrix, None, rows)
    assert np.square(found - expected).mean() < np.square(coarse - expected).mean() / 2


def test_no_second_product_by_a_matrix_of_int8_is_written(tmp_path):
    """CPUs without VNNI could not load the graph."""
    weight = rows_of_int8(Derived("w", (24, 160), (), lambda: np.ones((24, 160), np.float32)))
    store = Converted([weight.values, weight.scales])
    store.write(tmp_path)
    g = Graph("two", store, OnnxRuntimeLowering())
    g.input(TensorSpec("x", FLOAT, ("rows", 160)))
    g.linear("x", Linear(weight, None), "/y")
    with pytest.raises(AssertionError, match=r"/z: w\S* is read by another node"):
        g.linear("x", Linear(weight, None), "/z")


@pytest.mark.parametrize("rounding", Rounding)
@pytest.mark.parametrize("form", FORMS)
def test_rows_of_zeros_give_the_bias(tmp_path, form, rounding):
    matrix, bias = RNG.standard_normal((24, 64)).astype(np.float32), np.arange(24, dtype=np.float32)
    found, _, _ = product(tmp_path, FORMS[form], matrix, bias, np.zeros((3, 64), np.float32), rounding)
    assert (found == bias).all()
