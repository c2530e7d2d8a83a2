"""What a backend cannot run is refused before a graph is written, and scores do not depend on the backend."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import onnxruntime
import pytest

from fastadasp.export.checkpoint.checkpoint import Checkpoint
from fastadasp.export.checkpoint.precision import FP16, FP32
from fastadasp.export.checkpoint.weights import weight_store
from fastadasp.export.graphs.graph import Graph
from fastadasp.export.graphs.lowering.onnxruntime import OnnxRuntimeLowering
from fastadasp.export.graphs.lowering.onnxruntime_cuda import OnnxRuntimeCudaLowering
from fastadasp.export.graphs.lowering.openvino import OpenVinoLowering
from fastadasp.export.graphs.lowering.tensorrt import TensorRTLowering
from fastadasp.export.graphs.write import write_graphs
from fastadasp.export.model.families.family import load_model
from fastadasp.export.model.fit import resolve_for
from fastadasp.plugins.causal_attention.reference import last_query_mass
from fastadasp.plugins.merge_tokens.reference import random_score
from fastadasp.profiles import Profile, ProfileError
from fastadasp.profiles.flops import DecoderDims
from fastadasp.profiles.schedule import has_start_layer
from fastadasp.profiles.signature import ACTIVATION, FLOAT, INT64, TensorSpec


class StaticLowering(OnnxRuntimeLowering):
    """A backend that must know every length from the shapes of its inputs."""

    name = "static"
    takes_data_dependent_lengths = False
    evicts_caches = False


@pytest.fixture
def write(tiny_checkpoint, tmp_path):
    model = load_model(Checkpoint(tiny_checkpoint))
    store = weight_store(model.tensors, "link")

    def write_for(lowering, method, schedule="single"):
        start = int(has_start_layer(schedule))
        profile = resolve_for(Profile("mine", method, schedule, start, ratio=Fraction(1, 4)), model)
        return write_graphs(tmp_path, model, [profile], store, lowering)

    return write_for


def test_a_length_that_depends_on_the_data_is_refused_with_the_reason(write, tmp_path):
    with pytest.raises(ProfileError, match=r"mine \(a_tome\): how many rows are left depends on the data"):
        write(StaticLowering(), "a_tome")
    assert not list(tmp_path.iterdir())


def test_caches_that_each_head_shortens_are_refused_with_the_reason(write, tmp_path):
    with pytest.raises(
        ProfileError, match=r"mine \(h2o\): each KV head keeps the rows .* static has no plugin"
    ):
        write(StaticLowering(), "h2o", "constant")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    "lowering",
    [
        TensorRTLowering(FP32, 64),
        OnnxRuntimeCudaLowering(FP32, 64, 64),
        OpenVinoLowering(64, 64),
    ],
    ids=lambda lowering: lowering.name,
)
@pytest.mark.parametrize("method", ["group_select", "sa_map"])
def test_a_choice_of_one_row_after_the_other_is_refused_on_a_device(write, tmp_path, lowering, method):
    reason = rf"mine \({method}\): it chooses one row after the other, and {lowering.name} is not good"
    with pytest.raises(ProfileError, match=reason):
        write(lowering, method, "input")
    assert not list(tmp_path.iterdir())


def test_lengths_that_follow_from_the_shapes_are_taken(write):
    assert "prefill.mine.onnx" in write(StaticLowering(), "weighted_merge")


def test_onnx_runtime_takes_all_of_them(write):
    assert "prefill.mine.onnx" in write(OnnxRuntimeLowering(), "group_select", "input")
    assert "prefill.mine.onnx" in write(OnnxRuntimeLowering(), "sa_map", "input")
    assert "prefill.mine.onnx" in write(OnnxRuntimeLowering(), "a_tome")
    assert "prefill.mine.onnx" in write(OnnxRuntimeLowering(), "h2o", "constant")


def run(graph, feeds):
    """The output `score` of a graph of standard ops on ONNX Runtime."""
    serialised = graph.model().SerializeToString()
    return onnxruntime.InferenceSession(serialised, providers=["CPUExecutionProvider"]).run(None, feeds)[0]


@pytest.mark.parametrize("count", [0, 1, 7, 101])
def test_random_scores_for_tensorrt_are_those_of_every_backend(count):
    """A span may be one row longer than the audio: it may start at the row before."""
    lowering = TensorRTLowering(FP32, max_audio_rows=100)
    g = Graph("scores", None, lowering)
    g.input(TensorSpec("count", INT64, (1,)))
    score = lowering.random_score(g, "/score", "count", seed=2019)
    g.op("Identity", score, outputs=["score"])
    g.output(TensorSpec("score", FLOAT, ("n",)))
    assert run(g, {"count": np.array([count])}).tolist() == random_score(count, 2019).tolist()


@pytest.mark.parametrize("precision", [FP32, FP16])
def test_the_last_query_mass_for_tensorrt_is_float32_in_every_precision(precision):
    dims = DecoderDims(1, 64, 4, 2, 16, 8, 8)
    rng = np.random.default_rng(0)
    feeds = {
        "query": (4 * rng.standard_normal((33, 64))).astype(precision.numpy_type),
        "key": (4 * rng.standard_normal((2, 33, 16))).astype(precision.numpy_type),
    }
    lowering = TensorRTLowering(precision, 100)
    g = Graph("scores", None, lowering)
    g.input(TensorSpec("query", ACTIVATION, ("rows", 64)))
    g.input(TensorSpec("key", ACTIVATION, (2, "rows", 16)))
    mass = lowering.last_query_mass(g, "/score", dims, "query", "key")
    g.op("Identity", mass, outputs=["score"])
    g.output(TensorSpec("score", FLOAT, ("rows",)))
    expected = last_query_mass(*(feed.astype(np.float64) for feed in feeds.values()))
    np.testing.assert_allclose(run(g, feeds), expected, rtol=2e-5, atol=1e-9)
