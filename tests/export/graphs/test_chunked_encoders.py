"""Encoders that cut frames into chunks and attention into blocks, in the form of every target."""

from __future__ import annotations

import numpy as np
import onnx
import onnxruntime
import pytest

from chunk_checkpoints import FAMILY, SAVE
from fastadasp.export.checkpoint.checkpoint import Checkpoint
from fastadasp.export.checkpoint.precision import BF16, FP16, FP32
from fastadasp.export.checkpoint.weights import weight_store
from fastadasp.export.graphs.encoder import build_encoder
from fastadasp.export.graphs.lowering.onnxruntime import OnnxRuntimeLowering
from fastadasp.export.graphs.lowering.onnxruntime_cuda import OnnxRuntimeCudaLowering
from fastadasp.export.graphs.lowering.tensorrt import TensorRTLowering
from fastadasp.export.model.families.family import load_model
from fastadasp.profiles import signature as sig

from .test_onnxruntime_cuda_graphs import agree, run, without_kernel

LAYOUTS = ("thinker", "qwen3_asr", "glmasr")
FORMS = {
    "plain": (OnnxRuntimeLowering(), 0.0),
    "cuda": (OnnxRuntimeCudaLowering(FP32, 400, 800), 3e-4),
    "cuda-fp16": (OnnxRuntimeCudaLowering(FP16, 400, 800), 0.25),
    "tensorrt": (TensorRTLowering(FP32, 400), 3e-4),
}
"""Lowering, and how far what it gives may be from the plain one; values are up to 20."""


@pytest.fixture(scope="module", params=LAYOUTS)
def model(request, tmp_path_factory):
    folder = tmp_path_factory.mktemp(request.param)
    SAVE[request.param](folder)
    found = load_model(Checkpoint(folder))
    assert found.family == FAMILY[request.param]
    return found


@pytest.fixture(scope="module")
def written(model, tmp_path_factory):
    """The encoder in each form."""
    folders = {}
    for name, (lowering, _) in FORMS.items():
        folders[name] = tmp_path_factory.mktemp(name)
        store = weight_store(model.tensors, "copy", lowering.precision)
        onnx.save(build_encoder(model, store, lowering), folders[name] / "encoder.onnx")
        store.write(folders[name])
    return {name: folder / "encoder.onnx" for name, folder in folders.items()}


def feeds_of(model, frames):
    """Random frames, as many as the audio has; silence fills up a window that must be full."""
    log_mel = model.front_end.log_mel
    mel = np.zeros((log_mel.num_mel_bins, log_mel.max_frames if log_mel.full_windows else frames), np.float32)
    mel[:, :frames] = np.random.default_rng(frames).standard_normal((len(mel), frames))
    return {sig.MEL: mel, sig.ENCODER_ROWS: np.array([log_mel.rows_of(frames)])}


@pytest.mark.parametrize("share", [0.1, 0.5, 1.0], ids=["a part", "some", "a window"])
def test_every_form_computes_the_same(model, written, share):
    frames = max(10, round(share * model.front_end.log_mel.max_frames)) - (share == 0.5)
    feeds = feeds_of(model, frames)
    expected = run(written["plain"], feeds)
    for name, (_, atol) in FORMS.items():
        agree(run(written[name], feeds), expected, atol or 1e-12)


def test_scores_are_those_of_blocks_alone(model, written):
    """A window of 30 s never has a matrix of all its rows by all its rows."""
    size = model.encoder.attention_rows
    if size is None:
        pytest.skip("its rows attend to those of a whole window")
    graph = onnx.load(written["plain"], load_external_data=False)
    name = next(node.output[0] for node in graph.graph.node if node.name.endswith("attn/scores/MatMul"))
    graph.graph.output.append(onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, None))
    tapped = written["plain"].with_name("tapped.onnx")
    onnx.save(graph, tapped)
    rows = model.front_end.log_mel.max_rows
    (scores,) = onnxruntime.InferenceSession(tapped).run([name], feeds_of(model, 2800))
    assert scores.shape[1:] == (model.encoder.num_heads, size, size)
    assert scores.shape[0] * size <= rows


@pytest.mark.parametrize("precision", [FP16, BF16], ids=lambda it: it.name)
def test_every_node_has_a_kernel_of_the_cuda_provider(model, precision):
    store = weight_store(model.tensors, "copy", precision)
    graph = build_encoder(model, store, OnnxRuntimeCudaLowering(precision, 400, 800))
    assert not graph.functions
    assert not sorted(without_kernel(graph))
    assert not {node.op_type for node in graph.graph.node} & {"Loop", "If", "NonZero"}
