"""LoRA, its strength and interleaved pairs in graphs for TensorRT against those for ONNX Runtime."""

from __future__ import annotations

from dataclasses import replace
from fractions import Fraction

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx.reference import ReferenceEvaluator

from fastadasp.export.check.sessions.step_of_one import step_feed
from fastadasp.export.checkpoint.checkpoint import Checkpoint
from fastadasp.export.checkpoint.derived import Derived
from fastadasp.export.checkpoint.precision import BF16, FP32
from fastadasp.export.checkpoint.weights import weight_store
from fastadasp.export.graphs.lowering.onnxruntime import OnnxRuntimeLowering
from fastadasp.export.graphs.lowering.tensorrt import TensorRTLowering
from fastadasp.export.graphs.prompt_adapter import build_prompt_adapter
from fastadasp.export.graphs.write import DECODE_FILE, PROMPT_ADAPTER_FILE, prefill_file, write_graphs
from fastadasp.export.model.families.family import load_model
from fastadasp.export.model.fit import resolve_for
from fastadasp.profiles import Profile
from fastadasp.profiles.signature import cache_names
from torch_wavllm import TorchWavLLM

from .test_tensorrt_graphs import PLUGINS

AUDIO_ROWS = 21
PROFILES = (
    Profile("full", "full"),
    Profile("merge", "weighted_merge", "constant", 0, ratio=Fraction(1, 3)),
    Profile("evict", "fastv", "constant", 0, ratio=Fraction(1, 3), positions="kept"),
)


@pytest.fixture(scope="module")
def graphs(tmp_path_factory):
    """The model, and folders of float32 graphs by lowering."""
    root = tmp_path_factory.mktemp("wavllm")
    TorchWavLLM(seed=1).save(root / "checkpoint")
    model = load_model(Checkpoint(root / "checkpoint"))
    resolved, store = (
        [resolve_for(profile, model) for profile in PROFILES],
        weight_store(model.tensors, "copy"),
    )
    for lowering in (OnnxRuntimeLowering(), TensorRTLowering(FP32, AUDIO_ROWS)):
        (root / lowering.name).mkdir()
        write_graphs(root / lowering.name, model, resolved, store, lowering)
        store.write(root / lowering.name)
    return model, root


def run(graphs, file, feeds):
    """Outputs by name, of ONNX Runtime and of the graph for TensorRT."""
    outputs, names = outputs_of_onnxruntime(graphs, file, feeds)
    graph = onnx.load(graphs[1] / "tensorrt" / file)
    found = ReferenceEvaluator(graph, new_ops=PLUGINS).run(None, feeds)
    return outputs, dict(zip(names, found, strict=True))


def outputs_of_onnxruntime(graphs, file, feeds):
    """Outputs by name, and their names in order."""
    path = graphs[1] / "onnxruntime" / file
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    names = [output.name for output in session.get_outputs()]
    return dict(zip(names, session.run(None, feeds), strict=True)), names


def in_halves(keys):
    """Keys (kv_heads, rows, head_dim) whose pairs are neighbours, as the graphs for TensorRT cache them."""
    return np.ascontiguousarray(np.concatenate([keys[..., ::2], keys[..., 1::2]], axis=-1))


def strength(model, seed=0):
    return np.random.default_rng(seed).uniform(0, 3, model.decoder.dims.hidden_size).astype(np.float32)


@pytest.mark.parametrize("length", [1, 2, 17])
def test_the_strength_of_a_prompt_is_the_same(graphs, length):
    ids = np.random.default_rng(length).integers(0, 400, length)
    expected, found = run(graphs, PROMPT_ADAPTER_FILE, {"adapter_ids": ids})
    np.testing.assert_allclose(found["lora_scale"], expected["lora_scale"], rtol=0, atol=2e-5)
    assert 0 <= found["lora_scale"].min() < found["lora_scale"].max() <= 3


@pytest.mark.parametrize("profile", [profile.name for profile in PROFILES])
def test_a_prefill_is_the_same_with_keys_in_another_order(graphs, profile):
    model, rng = graphs[0], np.random.default_rng(7)
    feeds = {
        "prefix_ids": rng.integers(0, 400, 5),
        "audio_embeds": rng.standard_normal((AUDIO_ROWS, model.decoder.dims.hidden_size)).astype(np.float32),
        "suffix_ids": rng.integers(0, 400, 3),
        "num_candidates": np.array([4]),
        "lora_scale": strength(model),
    }
    expected, found = run(graphs, prefill_file(profile), feeds)
    for name, array in expected.items():
        theirs = in_halves(array) if "key" in name else array
        np.testing.assert_allclose(found[name], theirs, rtol=0, atol=2e-4, err_msg=name)
    weaker, _ = run(graphs, prefill_file(profile), {**feeds, "lora_scale": 0 * strength(model)})
    assert np.abs(weaker["top_logits"] - expected["top_logits"]).max() > 1e-2


def test_a_step_is_the_same_over_keys_in_another_order(graphs):
    model, rng = graphs[0], np.random.default_rng(8)
    dims = model.decoder.dims
    feeds = {
        "token_ids": rng.integers(0, 400, 2),
        "step": np.array([1]),
        "pool_mask": np.array([[True, False, True, False], [False, True, False, True]]),
        "num_candidates": np.array([4]),
        "lora_scale": strength(model),
    }
    for layer in range(dims.num_layers):
        for name, rows in zip(cache_names(layer), (9, 9, 2, 2), strict=True):
            feeds[name] = rng.standard_normal((dims.num_kv_heads, rows, dims.head_dim)).astype(np.float32)
    feeds = step_feed(feeds, dims)
    ordered = {name: in_halves(array) if "key" in name else array for name, array in feeds.items()}
    expected, names = outputs_of_onnxruntime(graphs, DECODE_FILE, feeds)
    graph = onnx.load(graphs[1] / "tensorrt" / DECODE_FILE)
    found = dict(zip(names, ReferenceEvaluator(graph, new_ops=PLUGINS).run(None, ordered), strict=True))
    for name, array in expected.items():
        theirs = in_halves(array) if "key" in name else array
        np.testing.assert_allclose(found[name], theirs, rtol=0, atol=2e-4, err_msg=name)


def test_a_prompt_adapter_widens_an_embedding_of_16_bits(graphs, tmp_path):
    """That of a quantised model stays as its checkpoint has it."""
    model, lowering = graphs[0], OnnxRuntimeLowering()
    table = model.decoder.embedding
    kept = Derived(f"{table.name}.BF16", table.shape, (table,), lambda rows: rows, BF16)
    decoder = replace(model.decoder, embedding=kept)
    store = weight_store([kept, *model.tensors], "copy")
    graph = build_prompt_adapter(decoder, decoder.prompt_adapter, store, lowering)
    (tmp_path / "adapter.onnx").write_bytes(graph.SerializeToString())
    store.write(tmp_path)
    onnxruntime.InferenceSession(tmp_path / "adapter.onnx", providers=["CPUExecutionProvider"])
