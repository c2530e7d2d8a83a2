"""The attention of encoders: every row to every row, whatever kernel a backend takes for it, or in 8 bits."""

from __future__ import annotations

from functools import cache

import numpy as np
import onnx
import onnxruntime
import pytest

from fastadasp.export.checkpoint.precision import FP32
from fastadasp.export.graphs.graph import Graph
from fastadasp.export.graphs.lowering.onnxruntime import OnnxRuntimeLowering
from fastadasp.export.graphs.lowering.onnxruntime_cuda import OnnxRuntimeCudaLowering
from fastadasp.export.graphs.lowering.tensorrt import TensorRTLowering
from fastadasp.profiles.signature import FLOAT, TensorSpec

LOWERINGS = {
    "onnxruntime": OnnxRuntimeLowering(),
    "onnxruntime-cuda": OnnxRuntimeCudaLowering(FP32, 1500, 3000),
    "tensorrt": TensorRTLowering(FP32, 1500),
}
TENSORS = ("query", "key", "value")
ROWS = (1, 2, 63, 64, 65, 130)

every_backend = pytest.mark.parametrize("backend", LOWERINGS)


@cache
def model(backend: str, heads: int, width: int) -> bytes:
    """A graph of one attention."""
    lowering = LOWERINGS[backend]
    g = Graph("attention", None, lowering)
    for name in TENSORS:
        g.input(TensorSpec(name, FLOAT, ("rows", width)))
    g.op("Identity", lowering.full_attention(g, "/attn", heads, *TENSORS), outputs=["output"])
    g.output(TensorSpec("output", FLOAT, ("rows", width)))
    return g.model((), lowering.domains).SerializeToString()


def session_of(graph, threads=1, optimised=True):
    """On ONNX Runtime's CPU provider."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    levels = onnxruntime.GraphOptimizationLevel
    options.graph_optimization_level = levels.ORT_ENABLE_ALL if optimised else levels.ORT_DISABLE_ALL
    return onnxruntime.InferenceSession(graph, options, providers=["CPUExecutionProvider"])


def attend(backend, heads, rows, threads=1, optimised=True):
    """What it computes of rows (3, rows, width)."""
    session = session_of(model(backend, heads, rows.shape[-1]), threads, optimised)
    return session.run(None, dict(zip(TENSORS, rows, strict=True)))[0]


@cache
def rounded_model(heads: int, width: int) -> bytes:
    """A graph of one attention by products of int8."""
    lowering = LOWERINGS["onnxruntime"]
    g = Graph("attention", None, lowering)
    for name in TENSORS:
        g.input(TensorSpec(name, FLOAT, ("rows", width)))
    attended = lowering.rounded_attention(g, "/attn", (heads, width // heads), *TENSORS)
    g.op("Identity", attended, outputs=["output"])
    g.output(TensorSpec("output", FLOAT, ("rows", width)))
    return g.model((), lowering.domains).SerializeToString()


def attend_rounded(heads, rows, threads=1):
    session = session_of(rounded_model(heads, rows.shape[-1]), threads)
    return session.run(None, dict(zip(TENSORS, rows, strict=True)))[0]


def drawn(rows, width):
    return np.random.default_rng(rows).standard_normal((3, rows, width)).astype(np.float32)


def by_loops(rows, heads):
    """The same in float64, head by head and row by row."""
    query, key, value = (np.split(x.astype(np.float64), heads, axis=1) for x in rows)
    outputs = []
    for q, k, v in zip(query, key, value, strict=True):
        scores = [k @ row / np.sqrt(len(row)) for row in q]
        shares = [np.exp(row - row.max()) for row in scores]
        outputs.append(np.stack([share @ v / share.sum() for share in shares]))
    return np.concatenate(outputs, axis=1)


@every_backend
@pytest.mark.parametrize("head_dim", [16, 64, 80, 96, 128])
@pytest.mark.parametrize("heads", [1, 4])
@pytest.mark.parametrize("optimised", [True, False])
def test_every_row_attends_to_every_row(backend, heads, head_dim, optimised):
    for count in ROWS:
        rows = drawn(count, heads * head_dim)
        found = attend(backend, heads, rows, optimised=optimised)
        assert found.dtype == np.float32
        np.testing.assert_allclose(found, by_loops(rows, heads), rtol=0, atol=4e-5)


@every_backend
def test_a_whole_window_agrees_with_plain_loops_for_any_number_of_threads(backend):
    rows = drawn(1500, 128)
    for threads in (1, 4):
        found = attend(backend, 2, rows, threads)
        np.testing.assert_allclose(found, by_loops(rows, 2), rtol=0, atol=4e-5)


@every_backend
def test_the_order_of_keys_does_not_matter(backend):
    query, key, value = drawn(70, 64)
    order = np.random.default_rng(0).permutation(70)
    shuffled = attend(backend, 4, np.stack([query, key[order], value[order]]))
    np.testing.assert_allclose(shuffled, attend(backend, 4, np.stack([query, key, value])), rtol=0, atol=4e-5)


@every_backend
def test_large_scores_stay_finite(backend):
    rows = drawn(130, 256)
    for scale in (100, 1e12):
        output = attend(backend, 4, rows * np.float32([1, scale, 1])[:, None, None])
        assert np.isfinite(output).all()
        assert np.abs(output).max() <= np.abs(rows[2]).max() * 1.0001


@pytest.mark.parametrize("head_dim", [16, 64, 80])
@pytest.mark.parametrize("heads", [1, 4])
def test_products_of_8_bits_are_off_by_their_rounding(heads, head_dim):
    for count in (*ROWS, 700):
        rows = drawn(count, heads * head_dim)
        found, expected = attend_rounded(heads, rows), by_loops(rows, heads)
        assert np.abs(found - expected).max() < 0.02 * np.abs(rows[2]).max()


def test_products_of_8_bits_are_the_same_on_more_threads():
    rows = drawn(300, 128)
    np.testing.assert_allclose(attend_rounded(2, rows, 4), attend_rounded(2, rows), rtol=0, atol=1e-6)


def test_a_mean_of_keys_and_values_costs_no_steps_of_8_bits():
    rows = drawn(130, 64)
    moved = rows + np.float32([0, 50, 50])[:, None, None]
    expected = by_loops(moved, 2)
    assert np.abs(attend_rounded(2, moved) - expected).max() < 0.02 * np.abs(rows[2]).max()


def test_many_shares_below_a_step_of_8_bits_are_not_lost():
    """Half of the attention goes to one row, the other half to a thousand others, whose mean is theirs."""
    rows = np.zeros((3, 1001, 16), np.float32)
    rows[0], rows[1, 0] = 1, np.log(1000) / 4
    rows[2, 1:] = 1
    np.testing.assert_allclose(by_loops(rows, 1), 0.5, atol=1e-3)
    np.testing.assert_allclose(attend_rounded(1, rows), 0.5, atol=1e-2)


def multiplied(rows):
    """The integers of both products of one head, (queries, k) and (k, columns) each."""
    model = onnx.load_from_string(rounded_model(1, rows.shape[-1]))
    (loop,) = (node for node in model.graph.node if node.op_type == "Loop")
    body = loop.attribute[0].g
    products = [node for node in body.node if node.op_type == "MatMulIntegerToFloat"]
    for node in products:
        left, right = node.input[:2]
        body.output.append(onnx.ValueInfoProto(name=left))
        loop.output.append(f"all {left}")
        model.graph.output.extend(onnx.ValueInfoProto(name=name) for name in (f"all {left}", right))
    found = session_of(model.SerializeToString()).run(None, dict(zip(TENSORS, rows, strict=True)))[1:]
    return [
        (left[0, 0].astype(int), right[0].astype(int))
        for left, right in zip(found[::2], found[1::2], strict=True)
    ]


@pytest.mark.parametrize("like", [np.asarray, np.sign], ids=["drawn", "all as large as the largest"])
def test_two_products_of_8_bits_fit_in_16(like):
    """CPUs without VNNI add them up there, and cut off what does not fit."""
    pairs = multiplied(like(drawn(64, 32)))
    assert len(pairs) == 2
    for left, right in pairs:
        even, odd = (left[:, i::2, None] * right[None, i::2] for i in (0, 1))
        assert 2**13 < np.abs(even + odd).max() < 2**15


def test_large_numbers_stay_finite_in_8_bits():
    rows = drawn(130, 256)
    for scale in (0, 1e-20, 100, 1e12):
        output = attend_rounded(4, rows * np.float32([1, scale, 1])[:, None, None])
        assert np.isfinite(output).all()
        assert np.abs(output).max() <= np.abs(rows[2]).max() * 1.02


def test_onnx_runtime_takes_its_fused_kernel():
    """Which holds a tile of the scores at a time, where a product and a Softmax would hold all."""
    graph = onnx.load_from_string(model("onnxruntime", 4, 256)).graph
    assert {"MultiHeadAttention"} == {node.op_type for node in graph.node if node.domain}
