"""Graphs for TensorRT, run with the plugins as NumPy, agree with those for ONNX Runtime."""

from __future__ import annotations

import shutil
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx.reference import ReferenceEvaluator
from onnx.reference.op_run import OpRun
from safetensors.torch import load_file

from every_way import ON_DEVICES, every_way
from fastadasp.export.checkpoint.checkpoint import Checkpoint
from fastadasp.export.checkpoint.derived import Derived
from fastadasp.export.checkpoint.precision import FP32
from fastadasp.export.checkpoint.weights import weight_store
from fastadasp.export.graphs.lowering.onnxruntime import OnnxRuntimeLowering
from fastadasp.export.graphs.lowering.tensorrt import TensorRTLowering
from fastadasp.export.graphs.write import DECODE_FILE, ENCODER_FILE, prefill_file, write_graphs
from fastadasp.export.model.families.family import load_model
from fastadasp.export.model.fit import resolve_for
from fastadasp.export.model.formats import QUANTIZED
from fastadasp.export.model.quantize import ENCODER, ENCODER_LAYERS, of_engines, quantized
from fastadasp.export.reference.dequantized import dequantized
from fastadasp.plugins.body import DOMAIN
from fastadasp.plugins.causal_attention.reference import causal_attention
from fastadasp.plugins.evict_tokens.reference import evict_tokens
from fastadasp.plugins.merge_tokens.reference import merge_edges, merge_tokens
from fastadasp.profiles import Profile
from fastadasp.profiles.long_context import LongContext
from fastadasp.profiles.signature import ROPE_ALPHA, ROWS_BEFORE_EVICTION, cache_names

AUDIO_ROWS = 37
COMPACT = {
    **every_way(methods={name: m for name, m in ON_DEVICES.items() if m.meets_targets}),
    "random-evict-bos": {"method": "random_evict", "include_audio_bos": True},
    "random-merge-bos": {"method": "random_merge", "include_audio_bos": True},
}
SCORED = ("weighted_merge", "fastv", "fastv_last_query")
OTHER_SCALE = 1 / 11  # that of a tiny model is 1 / 4
DEQUANTIZED = "/layers.2/mlp/up_proj/weight"  # a node of the decode step
SITES = COMPACT | {f"{name}-kept": {**method, "positions": "kept"} for name, method in COMPACT.items()}
"""Every method whose lengths a backend can tell from shapes, under any name."""


def reducer(name, reference):
    """The plugin of this name: span and count follow from the shapes and the attributes."""

    def _run(self, hidden, *inputs, **cut):
        *tensors, before, after = inputs
        start = len(before) + cut["start_offset"]
        length = len(hidden) - len(after) - cut["end_offset"] - start
        removed = length * cut["numerator"] // cut["denominator"]
        return (reference(hidden, *tensors, start, length, removed),)

    return type(name, (OpRun,), {"op_domain": DOMAIN, "_run": _run})


class AttentionMass(OpRun):
    op_domain = DOMAIN

    def _run(self, query, key, **_):
        return (causal_attention(query, key, key)[1],)


PLUGINS = [
    AttentionMass,
    reducer("MergeTokens", merge_tokens),
    reducer("MergeEdges", merge_edges),
    reducer("EvictTokens", evict_tokens),
]


@pytest.fixture(scope="module")
def graphs(tiny_checkpoint, tmp_path_factory):
    """Folders of float32 prefill graphs, by lowering, and the model."""
    model = load_model(Checkpoint(tiny_checkpoint))
    return model, written(model, SITES, tmp_path_factory)


@pytest.fixture(scope="module")
def scaled(tiny_checkpoint, tmp_path_factory):
    """The same of a model that scales its scores in another way, for a few methods."""
    model = load_model(Checkpoint(tiny_checkpoint))
    model = replace(model, decoder=replace(model.decoder, attention_scale=OTHER_SCALE))
    return model, written(model, {name: SITES[name] for name in SCORED}, tmp_path_factory)


@pytest.fixture(scope="module")
def long(tiny_checkpoint, tmp_path_factory):
    """The same of a model that treats prompts of more than 8 rows in another way."""
    model = load_model(Checkpoint(tiny_checkpoint))
    context = LongContext(8, dynamic_ntk=True, log_n=True)
    model = replace(model, decoder=replace(model.decoder, long_context=context))
    sites = {name: SITES[name] for name in (*SCORED, "weighted_merge-kept")}
    return model, written(model, sites, tmp_path_factory)


@pytest.fixture(scope="module")
def quantised(tiny_checkpoint, tmp_path_factory):
    """For each format the model, graphs for TensorRT of its matrices, and others of what these stand for."""
    model = load_model(Checkpoint(tiny_checkpoint))
    sites = {name: SITES[name] for name in ("weighted_merge", "fastv")}
    return {form: (model, written_quantised(model, form, sites, tmp_path_factory)) for form in QUANTIZED}


def written_quantised(model, form, sites, tmp_path_factory):
    lowering, folder = TensorRTLowering(FP32, AUDIO_ROWS), tmp_path_factory.mktemp("quantised")
    stored = write(quantized(model, form, of_engines("bf16")), sites, lowering, folder)
    numbers = dequantized({name: part for file in stored for name, part in load_file(folder / file).items()})

    def meant(weight):
        return Derived(f"{weight.name}.meant", weight.shape, (), lambda: numbers[weight.name].numpy())

    reference, whole = (
        tmp_path_factory.mktemp("meant"),
        dict.fromkeys((*QUANTIZED, ENCODER, ENCODER_LAYERS), meant),
    )
    write(quantized(model, form, whole), sites, OnnxRuntimeLowering(), reference)
    return {"onnxruntime": reference, "tensorrt": folder}


def written(model, sites, tmp_path_factory):
    folders = {}
    for lowering in (OnnxRuntimeLowering(), TensorRTLowering(FP32, AUDIO_ROWS)):
        folders[lowering.name] = tmp_path_factory.mktemp(lowering.name)
        write(model, sites, lowering, folders[lowering.name])
    return folders


def write(model, sites, lowering, folder):
    """Graphs and weights; the names of the files of the weights."""
    third = {"schedule": "constant", "ratio": Fraction(1, 3)}
    profiles = [resolve_for(Profile(name, **third | site), model) for name, site in sites.items()]
    store = weight_store(model.tensors, "copy")
    write_graphs(folder, model, profiles, store, lowering)
    return list(store.write(folder))


@pytest.mark.parametrize("name", SITES)
@pytest.mark.parametrize("audio", [1, 2, AUDIO_ROWS])
def test_a_prefill_for_tensorrt_computes_what_one_for_onnx_runtime_does(graphs, name, audio):
    compare(*graphs, prefill_file(name), prompt(graphs[0], audio))


@pytest.mark.parametrize("name", SCORED)
def test_another_attention_scale_reaches_the_prefill_of_both(graphs, scaled, name):
    feeds = prompt(scaled[0], AUDIO_ROWS)
    found, usual = (compare(*each, prefill_file(name), feeds) for each in (scaled, graphs))
    assert np.abs(found[0] - usual[0]).max() > 1e-2


@pytest.mark.parametrize("name", [*SCORED, "weighted_merge-kept"])
def test_alpha_and_log_n_reach_the_prefill_of_both(graphs, long, name):
    feeds = prompt(long[0], AUDIO_ROWS)
    usual = compare(*graphs, prefill_file(name), feeds)
    found, other = (compare(*long, prefill_file(name), feeds | alpha(value)) for value in (11, 1))
    assert np.abs(found[0] - other[0]).max() > 1e-2
    assert np.abs(other[0] - usual[0]).max() > 1e-2


def test_alpha_and_log_n_reach_the_decode_step_of_both(graphs, long):
    feeds = step(long[0])
    usual = compare(*graphs, DECODE_FILE, feeds)
    found = [
        compare(*long, DECODE_FILE, feeds | alpha(value) | {ROWS_BEFORE_EVICTION: np.array([rows])})
        for value, rows in ((11, 0), (1, 0), (11, 30))
    ]
    assert min(np.abs(found[0][0] - other[0]).max() for other in (*found[1:], usual)) > 1e-3


@pytest.mark.parametrize("form", QUANTIZED)
@pytest.mark.parametrize("name", ["weighted_merge", "fastv"])
def test_a_prefill_of_quantised_matrices_computes_what_these_stand_for(quantised, form, name):
    compare(*quantised[form], prefill_file(name), prompt(quantised[form][0], AUDIO_ROWS))


@pytest.mark.parametrize("form", QUANTIZED)
def test_a_step_and_an_encoder_of_quantised_matrices_compute_what_these_stand_for(quantised, form):
    compare(*quantised[form], DECODE_FILE, step(quantised[form][0]))
    compare(*quantised[form], ENCODER_FILE, window(quantised[form][0]))


@pytest.mark.parametrize("form", QUANTIZED)
@pytest.mark.parametrize("part", ["values", "scales"])
def test_a_step_over_another_part_of_a_matrix_differs(quantised, form, part, tmp_path):
    model, folders = quantised[form]
    own = {**folders, "tensorrt": Path(shutil.copytree(folders["tensorrt"], tmp_path / "graphs"))}
    graph = onnx.load(own["tensorrt"] / DECODE_FILE, load_external_data=False)
    (node,) = (node for node in graph.graph.node if node.name.startswith(f"{DEQUANTIZED}/"))
    index = ["values", "scales"].index(part)
    node.input[index] = node.input[index].replace("layers.2", "layers.1")
    onnx.save(graph, own["tensorrt"] / DECODE_FILE)
    with pytest.raises(AssertionError):
        compare(model, own, DECODE_FILE, step(model))


@pytest.mark.parametrize("form", QUANTIZED)
def test_every_linear_layer_and_the_head_are_read_in_fewer_bits(quantised, form):
    model, folders = quantised[form]
    graph = onnx.load(folders["tensorrt"] / DECODE_FILE, load_external_data=False).graph
    products = [node for node in graph.node if node.op_type == "Gemm"]
    read = [node for node in graph.node if node.op_type == "DequantizeLinear"]
    assert len(read) == len(products) == 7 * len(model.decoder.layers) + 1
    assert {product.input[1] for product in products} == {node.output[0] for node in read}


def alpha(value):
    return {ROPE_ALPHA: np.array([value], np.float32)}


def test_another_attention_scale_reaches_the_decode_step_of_both(graphs, scaled):
    found, usual = (compare(*each, DECODE_FILE, step(scaled[0])) for each in (scaled, graphs))
    assert np.abs(found[0] - usual[0]).max() > 1e-2


@pytest.mark.parametrize("requests", [1, 3])
def test_a_step_of_several_requests_computes_what_one_for_onnx_runtime_does(graphs, requests):
    compare(*graphs, DECODE_FILE, step(graphs[0], requests))


def test_a_request_gets_from_a_step_for_tensorrt_what_it_gets_alone(graphs):
    feeds, path = step(graphs[0], requests := 3), graphs[1]["tensorrt"] / DECODE_FILE
    together = evaluated(path, feeds)
    for request in range(requests):
        for whole, found in zip(together, evaluated(path, of_one(feeds, request)), strict=True):
            own = whole.reshape(requests, *found.shape)[request]  # beams or caches, request by request
            np.testing.assert_allclose(found, own, rtol=0, atol=2e-4)


def test_rows_of_a_buffer_that_are_not_in_use_have_no_influence(graphs):
    """Whatever finite numbers they hold."""
    feeds = step(graphs[0], 3)
    expected = evaluated(graphs[1]["tensorrt"] / DECODE_FILE, feeds)
    changed = {name: array.copy() for name, array in feeds.items()}
    for layer in range(graphs[0].decoder.dims.num_layers):
        keys, values, *pool = (changed[name] for name in cache_names(layer))
        for request, length in enumerate(feeds["prefix_lengths"][layer]):
            keys[request, :, length:], values[request, :, length:] = 50, 1e4
            for tensor in pool:
                tensor[request][:, ~feeds["pool_mask"][request].any(axis=0)] = 1e4
    assert any((changed[name] != feeds[name]).any() for name in feeds)
    for found, wanted in zip(evaluated(graphs[1]["tensorrt"] / DECODE_FILE, changed), expected, strict=True):
        np.testing.assert_allclose(found, wanted, rtol=0, atol=2e-4)


def of_one(feeds, request):
    """The inputs of one of the requests alone."""
    own = {name: array[[request]] for name, array in feeds.items() if len(array) > 1}
    return feeds | own | {"prefix_lengths": feeds["prefix_lengths"][:, [request]]}


def step(model, requests=2):
    """A step of two beams each, over prefixes and pools of several lengths in buffers with room."""
    dims, rng = model.decoder.dims, np.random.default_rng(0)
    lengths = rng.integers(1, 13, (dims.num_layers, requests))
    pools = rng.integers(0, 7, requests)
    used = np.arange(6) < pools[:, None, None]
    feeds = {
        "token_ids": rng.integers(0, 200, (requests, 2)),
        "prefix_lengths": lengths,
        "steps": -(-pools // 2),
        "pool_mask": used & (rng.random((requests, 2, 6)) < 0.6),
        "num_candidates": np.array([4]),
    }
    for layer in range(dims.num_layers):
        for name, rows in zip(cache_names(layer), (12, 12, 6, 6), strict=True):
            shape = requests, dims.num_kv_heads, rows, dims.head_dim
            feeds[name] = rng.standard_normal(shape).astype(np.float32)
    return feeds


def window(model):
    """80 frames of one window: 40 rows of the encoder."""
    mels, rng = model.front_end.log_mel.num_mel_bins, np.random.default_rng(0)
    mel = rng.standard_normal((mels, 80)).astype(np.float32)
    return {"mel": mel, "encoder_rows": np.array([40])}


def prompt(model, audio):
    rng = np.random.default_rng(audio)
    return {
        "prefix_ids": rng.integers(0, 200, 5),
        "audio_embeds": rng.standard_normal((audio, model.decoder.dims.hidden_size)).astype(np.float32),
        "suffix_ids": rng.integers(0, 200, 3),
        "num_candidates": np.array([4]),
    }


def compare(model, folders, file, feeds):
    """Run one graph of both lowerings; return what the outputs agree on."""
    path = folders["onnxruntime"] / file
    expected = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"]).run(None, feeds)
    found = evaluated(folders["tensorrt"] / file, feeds)
    assert [output.shape for output in found] == [output.shape for output in expected]
    for ours, theirs in zip(found, expected, strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=0, atol=2e-4)
    return expected


def evaluated(path, feeds):
    """The outputs of a graph by onnx, with the plugins as NumPy."""
    return ReferenceEvaluator(onnx.load(path), new_ops=PLUGINS).run(None, feeds)
