"""Encoders of whole clips: one result from every lowering, plans of TensorRT, and what check names."""

import numpy as np
import onnx
import pytest

from clip_checkpoints import SAVE
from encoder_graphs import run, write
from fastadasp.export.check.graphs import ENCODER
from fastadasp.export.check.places import places_of
from fastadasp.export.checkpoint.checkpoint import Checkpoint
from fastadasp.export.checkpoint.precision import BY_NAME, FP16, FP32
from fastadasp.export.checkpoint.weights import weight_store
from fastadasp.export.engines.engine import build_engine
from fastadasp.export.engines.messages import EngineRequest, Expected
from fastadasp.export.engines.shapes import encoder_profile
from fastadasp.export.graphs.lowering.onnxruntime import OnnxRuntimeLowering
from fastadasp.export.graphs.lowering.onnxruntime_cuda import OnnxRuntimeCudaLowering
from fastadasp.export.graphs.lowering.tensorrt import TensorRTLowering
from fastadasp.export.graphs.write import ENCODER_FILE
from fastadasp.export.model.families.family import load_model, reference_of
from fastadasp.export.model.spec import tensors_of
from fastadasp.export.options import EngineOptions
from fastadasp.profiles import signature as sig

AUDIO_ROWS = 40
SECONDS = 3


@pytest.fixture(scope="module", params=list(SAVE))
def saved(request, tmp_path_factory):
    """The description of a checkpoint, and the model in transformers."""
    folder = tmp_path_factory.mktemp(request.param) / "checkpoint"
    reference = SAVE[request.param](folder)
    return load_model(Checkpoint(folder)), reference


@pytest.mark.parametrize("rows", [1, 15, 20, 43])
def test_the_graphs_for_cuda_compute_what_those_of_the_cpu_do(saved, tmp_path, rows):
    model, _ = saved
    mel = np.random.default_rng(rows).standard_normal((model.encoder.num_mel_bins, rows), np.float32)
    feeds = {sig.MEL: mel, sig.ENCODER_ROWS: np.array([rows])}
    expected = run(write(tmp_path / "plain", model, OnnxRuntimeLowering()), feeds)
    assert len(expected) == model.front_end.tokens_of(rows)
    for precision, atol in ((FP32, 2e-4), (FP16, 5e-2)):
        lowering = OnnxRuntimeCudaLowering(precision, AUDIO_ROWS, 64)
        path = write(tmp_path / precision.name, model, lowering)
        found = run(path, feeds)
        np.testing.assert_allclose(found, expected, atol=atol * np.abs(expected).max())


def test_nothing_waits_for_the_host_within_a_graph_for_cuda(saved, tmp_path):
    model, _ = saved
    path = write(tmp_path / "cuda", model, OnnxRuntimeCudaLowering(FP16, AUDIO_ROWS, 64))
    graph = onnx.load(path, load_external_data=False)
    assert not graph.functions
    assert not {node.op_type for node in graph.graph.node} & {"Loop", "If", "Scan", "NonZero", "Compress"}


def test_weights_stay_in_the_files_of_the_checkpoint(saved):
    model, _ = saved
    store = weight_store(list(tensors_of(model.tower)), "link")
    assert store.description == "linked"


@pytest.mark.parametrize("precision", ["fp16"])  # in bf16 with all other graphs of the family
def test_the_encoder_becomes_a_plan(saved, tmp_path, precision):
    pytest.importorskip("tensorrt_rtx", reason="engines need the extra tensorrt-rtx")
    model, _ = saved
    lowering = TensorRTLowering(BY_NAME[precision], model.front_end.audio_tokens(SECONDS * 16000))
    path = write(tmp_path / precision, model, lowering)
    profile = encoder_profile(model, EngineOptions(max_audio_seconds=SECONDS))
    request = EngineRequest(
        product="tensorrt_rtx",
        name=ENCODER_FILE,
        graph=path,
        plan=tmp_path / "encoder.plan",
        profile=profile,
        sm=80,
        plugins=None,
        expected=Expected({}, model.encoder.fused_attentions, causal=False),
    )
    build_engine(request, tmp_path / "log")
    assert request.plan.stat().st_size > 10_000


def test_a_plan_takes_clips_of_the_seconds_that_are_asked_for(saved):
    """A whole clip: no window bounds it."""
    model, _ = saved
    front_end = model.front_end
    for seconds in (SECONDS, 2 * SECONDS):
        shapes = encoder_profile(model, EngineOptions(max_audio_seconds=seconds)).shapes
        most = front_end.log_mel.rows_of_samples(seconds * front_end.log_mel.sample_rate)
        assert shapes["mel"][0] == (model.encoder.num_mel_bins, front_end.least_encoder_rows)
        assert most <= shapes["mel"][2][1] == shapes["encoder_rows"][2][0]
        assert front_end.tokens_of(shapes["mel"][2][1]) == front_end.tokens_of(most)


def test_check_finds_a_module_for_each_part_of_a_layer(saved, tmp_path):
    model, torch_model = saved
    graph = onnx.load(write(tmp_path / "plain", model, OnnxRuntimeLowering()), load_external_data=False)
    reference = reference_of(model.family)
    places = places_of(ENCODER, graph, model.decoder.dims, reference)
    named = [place for place in places if place.module]
    assert {place.layer for place in named} == set(range(len(model.encoder.layers)))
    for place in named:
        assert torch_model.get_submodule(place.module) is not None
    for i in range(len(model.encoder.layers)):
        assert len([place for place in named if place.layer == i]) == len(reference.encoder.parts)
