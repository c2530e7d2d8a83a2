"""Tokenizers of samples: what a row depends on, one result from every lowering, and a plan of TensorRT."""

import numpy as np
import onnx
import onnxruntime
import pytest
import torch

from encoder_graphs import run, write
from fastadasp.export.check.graphs import ENCODER
from fastadasp.export.check.places import places_of
from fastadasp.export.checkpoint.checkpoint import Checkpoint
from fastadasp.export.checkpoint.precision import BF16, FP16, FP32
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
from tokenizer_checkpoints import ROW, save_vibevoice_asr

AUDIO_ROWS = 40


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    """The description of a checkpoint, and the model in transformers."""
    folder = tmp_path_factory.mktemp("vibevoice_asr") / "checkpoint"
    reference = save_vibevoice_asr(folder)
    return load_model(Checkpoint(folder)), reference


def frames(count):
    return 0.1 * np.random.default_rng(count).standard_normal((ROW, count), np.float32)


@pytest.mark.parametrize("part", [0, 1])
def test_a_row_depends_on_as_many_samples_before_it_as_are_counted(saved, part):
    """The gradient of one row by all samples begins where it is said, and ends with the row's own samples."""
    model, reference = saved
    encoder = (reference.model.acoustic_tokenizer_encoder, reference.model.semantic_tokenizer_encoder)[part]
    reach, row = model.encoder.tokenizers[part].context_samples, 17
    wave = torch.from_numpy(frames(20)).T.reshape(1, 1, -1).double().requires_grad_()
    encoder.double()(wave).latents[0, row].square().sum().backward()
    encoder.float()
    touched = wave.grad.ravel().nonzero().ravel()
    assert (int(touched[0]), int(touched[-1])) == (row * ROW - reach, (row + 1) * ROW - 1)
    assert model.front_end.log_mel.context_rows >= reach / ROW


@pytest.mark.parametrize(("heard", "kept"), [(1, 1), (10, 10), (24, 10), (15, 1)])
def test_the_graphs_for_cuda_compute_what_those_of_the_cpu_do(saved, tmp_path, heard, kept):
    model, _ = saved
    feeds = {sig.MEL: frames(heard), sig.ENCODER_ROWS: np.array([kept])}
    expected = run(write(tmp_path / "plain", model, OnnxRuntimeLowering()), feeds)
    assert len(expected) == kept
    for precision, atol in ((FP32, 1e-4), (FP16, 5e-2)):
        path = write(tmp_path / precision.name, model, OnnxRuntimeCudaLowering(precision, AUDIO_ROWS, 64))
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
    assert weight_store(list(tensors_of(model.tower)), "link").description == "linked"


def test_check_compares_what_a_node_gives_with_what_its_module_gives(saved, tmp_path):
    model, reference = saved
    path = write(tmp_path / "plain", model, OnnxRuntimeLowering())
    graph = onnx.load(path, load_external_data=False)
    places = [
        it for it in places_of(ENCODER, graph, model.decoder.dims, reference_of(model.family)) if it.module
    ]
    assert {(place.layer, place.part) for place in places} == {
        (layer, f"blocks.0/{part}")
        for layer in range(3)
        for part in ("norm", "mlp_norm", "mlp/fc1", "mlp/fc2")
    }
    graph.graph.output.extend(onnx.ValueInfoProto(name=place.value) for place in places)
    (tmp_path / "plain" / "tapped.onnx").write_bytes(graph.SerializeToString())
    feeds = {sig.MEL: frames(4), sig.ENCODER_ROWS: np.array([4])}
    session = onnxruntime.InferenceSession(str(tmp_path / "plain" / "tapped.onnx"))
    found = session.run([place.value for place in places], feeds)
    expected = {}
    for place in places:
        reference.get_submodule(place.module).register_forward_hook(
            lambda module, inputs, output, name=place.module: expected.update({name: output[0]})
        )
    reference.model.get_audio_features(torch.from_numpy(frames(4)).T.reshape(1, 1, -1), sample=False)
    for place, values in zip(places, found, strict=True):
        np.testing.assert_allclose(values, expected[place.module].detach().numpy(), atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("precision", [FP16, BF16], ids=lambda it: it.name)
def test_the_encoder_becomes_a_plan_of_one_window_with_what_comes_before_it(saved, tmp_path, precision):
    pytest.importorskip("tensorrt_rtx", reason="engines need the extra tensorrt-rtx")
    model, _ = saved
    path = write(tmp_path / precision.name, model, TensorRTLowering(precision, AUDIO_ROWS))
    profile = encoder_profile(model, EngineOptions(max_audio_seconds=60))
    assert profile.shapes["mel"] == ((ROW, 1), (ROW, 24), (ROW, 24))
    assert profile.shapes["encoder_rows"] == ((1,), (10,), (10,))
    request = EngineRequest(
        product="tensorrt_rtx",
        name=ENCODER_FILE,
        graph=path,
        plan=tmp_path / "encoder.plan",
        profile=profile,
        sm=80,
        plugins=None,
        expected=Expected({}, 0, causal=False),
    )
    build_engine(request, tmp_path / "log")
    assert request.plan.stat().st_size > 10_000
