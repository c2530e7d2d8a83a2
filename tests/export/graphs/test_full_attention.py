"""The attention of encoders: every row to every row, whatever kernel a backend takes for it."""

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


def attend(backend, heads, rows, threads=1, optimised=True):
    """What ONNX Runtime's CPU provider computes of rows (3, rows, width)."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    levels = onnxruntime.GraphOptimizationLevel
    options.graph_optimization_level = levels.ORT_ENABLE_ALL if optimised else levels.ORT_DISABLE_ALL
    graph = model(backend, heads, rows.shape[-1])
    session = onnxruntime.InferenceSession(graph, options, providers=["CPUExecutionProvider"])
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


def test_onnx_runtime_takes_its_fused_kernel():
    """Which holds a tile of the scores at a time, where a product and a Softmax would hold all."""
    graph = onnx.load_from_string(model("onnxruntime", 4, 256)).graph
    assert {"MultiHeadAttention"} == {node.op_type for node in graph.node if node.domain}
