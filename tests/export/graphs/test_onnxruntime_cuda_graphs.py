"""Graphs for ONNX Runtime's CUDA provider: each node has a kernel there, and numbers are those of the others.

They are computed on the CPU provider: in float32, and in fp16, where it has kernels or casts. It has no
matrix product of bf16; those graphs differ in their types alone.
"""

from __future__ import annotations

import json
from dataclasses import replace
from fractions import Fraction
from functools import cache
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto

from fastadasp.export.checkpoint.checkpoint import Checkpoint
from fastadasp.export.checkpoint.precision import BF16, FP16, FP32
from fastadasp.export.checkpoint.weights import weight_store
from fastadasp.export.graphs.lowering.onnxruntime import OnnxRuntimeLowering
from fastadasp.export.graphs.lowering.onnxruntime_cuda import OnnxRuntimeCudaLowering
from fastadasp.export.graphs.write import (
    DECODE_FILE,
    ENCODER_FILE,
    PROMPT_ADAPTER_FILE,
    build_graphs,
    prefill_file,
    write_graphs,
)
from fastadasp.export.model.families.family import load_model
from fastadasp.export.model.fit import resolve_for
from fastadasp.profiles import Profile, ProfileError
from fastadasp.profiles import signature as sig
from fastadasp.profiles.long_context import LongContext
from fastadasp.profiles.methods import VARIANTS
from torch_wavllm import TorchWavLLM

AUDIO_ROWS = 37
CHUNKS = 3
SITES = {
    "full": {"method": "full"},
    **{
        name: {
            "method": m.name,
            **m.settings,
            "schedule": "constant",
            "start_layer": 0,
            "ratio": Fraction(1, 3),
        }
        for name, m in VARIANTS.items()
        if not m.is_data_dependent
    },
}
SITES |= {
    f"{name}-kept": {**site, "positions": "kept"}
    for name, site in SITES.items()
    if name not in ("full", "h2o")
}
KERNELS = json.loads(Path(__file__).with_name("cuda_kernels.json").read_text("utf-8"))["kernels"]
CONTRIB_TYPES = {"com.microsoft::SkipSimplifiedLayerNormalization": ("T", "T", "T")}
OF_SHAPES = ("Shape", "Constant")
SAME_NODE = {"CastLike": "Cast"}  # which it becomes when a graph is loaded


@pytest.fixture(scope="module")
def model(tiny_checkpoint):
    return load_model(Checkpoint(tiny_checkpoint))


@pytest.fixture(scope="module")
def long(model):
    """One that treats prompts of more than 8 rows in another way."""
    context = LongContext(8, dynamic_ntk=True, log_n=True)
    return replace(model, decoder=replace(model.decoder, long_context=context))


def lowering(model, precision):
    """One that cuts the scores of a short prompt into a few chunks."""
    dims = model.decoder.dims
    one = dims.num_heads * 64**2 * 4 // CHUNKS
    return OnnxRuntimeCudaLowering(precision, AUDIO_ROWS, 64, score_bytes=one)


def profiles(model):
    return [resolve_for(Profile(name, **site), model) for name, site in SITES.items()]


@pytest.fixture(scope="module")
def wavllm(tmp_path_factory):
    """A model of two encoders, LoRA, a prompt adapter and interleaved pairs."""
    folder = tmp_path_factory.mktemp("wavllm") / "checkpoint"
    TorchWavLLM(seed=1).save(folder)
    return load_model(Checkpoint(folder))


def write(model, resolved, tmp_path_factory, precisions):
    """Folders of all graphs, by name: for CPUs, and for CUDA by precision."""
    lowerings = {"plain": OnnxRuntimeLowering(), **{p.name: lowering(model, p) for p in precisions}}
    folders = {}
    for name, each in lowerings.items():
        folders[name] = tmp_path_factory.mktemp(name)
        store = weight_store(model.tensors, "copy", each.precision)
        write_graphs(folders[name], model, resolved, store, each)
        store.write(folders[name])
    return folders


@pytest.fixture(scope="module")
def written(model, tmp_path_factory):
    return write(model, profiles(model), tmp_path_factory, (FP32, FP16))


@pytest.fixture(scope="module")
def with_lora(wavllm, tmp_path_factory):
    return write(wavllm, wavllm_profiles(wavllm), tmp_path_factory, (FP32,))


def wavllm_profiles(model):
    return [resolve_for(Profile("merge", **SITES["weighted_merge"]), model)]


@pytest.mark.parametrize("precision", [FP16, BF16], ids=lambda it: it.name)
def test_every_node_has_a_kernel_of_the_cuda_provider(model, long, wavllm, precision):
    for each, resolved in (
        (model, profiles(model)),
        (long, profiles(long)),
        (wavllm, wavllm_profiles(wavllm)),
    ):
        store = weight_store(each.tensors, "copy", precision)
        for name, graph in build_graphs(each, resolved, store, lowering(each, precision)).items():
            assert not graph.functions
            assert not (lacking := sorted(without_kernel(graph))), f"{name}: {lacking}"


def without_kernel(graph):
    """Operators and types of a graph that the provider has no kernel for."""
    types = types_of(graph)
    for node in graph.graph.node:
        name = SAME_NODE.get(node.op_type, node.op_type)
        name = f"{node.domain}::{name}" if node.domain else name
        if name in OF_SHAPES:
            continue
        bound = bound_types(node, name, types)
        if not any(
            all(bound[key] in allowed for key, allowed in kernel.items() if key in bound)
            for kernel in KERNELS.get(name, [])
        ):
            yield name, tuple(sorted(bound.items()))


def types_of(graph):
    """Value -> its element type as the list of kernels names it."""
    inferred = onnx.shape_inference.infer_shapes(graph).graph
    found = {value.name: value.type.tensor_type.elem_type for value in inferred.value_info}
    found |= {value.name: value.type.tensor_type.elem_type for value in (*inferred.input, *inferred.output)}
    found |= {tensor.name: tensor.data_type for tensor in inferred.initializer}
    return {name: TensorProto.DataType.Name(number).lower() for name, number in found.items()}


def bound_types(node, name, types):
    """Type parameter of the operator -> what this node has there."""
    if node.domain:
        keys = CONTRIB_TYPES[name]
        return {key: types[value] for key, value in zip(keys, node.input, strict=True)}
    schema = onnx.defs.get_schema(node.op_type, 23)
    pairs = []
    for formals, values in ((schema.inputs, node.input), (schema.outputs, node.output)):
        last = len(formals) - 1
        pairs += [(formals[min(i, last)].type_str, value) for i, value in enumerate(values) if value]
    return {key: types[value] for key, value in pairs if "(" not in key}


def test_a_node_without_a_kernel_is_found():
    nodes = [
        onnx.helper.make_node("TopK", ["x", "k"], ["best", "index"]),
        onnx.helper.make_node("NonZero", ["x"], ["where"]),
    ]
    inputs = [
        onnx.helper.make_tensor_value_info("x", TensorProto.BFLOAT16, [3]),
        onnx.helper.make_tensor_value_info("k", TensorProto.INT64, [1]),
    ]
    outputs = [onnx.helper.make_tensor_value_info("best", TensorProto.BFLOAT16, [None])]
    outputs += [
        onnx.helper.make_tensor_value_info(name, TensorProto.INT64, None) for name in ("index", "where")
    ]
    graph = onnx.helper.make_model(onnx.helper.make_graph(nodes, "g", inputs, outputs))
    assert [name for name, _ in without_kernel(graph)] == ["TopK", "NonZero"]


def test_nothing_waits_for_the_host_within_a_graph(model):
    """What would: loops, and operators whose output is as long as their data make it."""
    store = weight_store(model.tensors, "copy", BF16)
    graphs = build_graphs(model, profiles(model), store, lowering(model, BF16)).values()
    used = {node.op_type for graph in graphs for node in graph.graph.node}
    assert not used & {"Loop", "If", "Scan", "NonZero", "Compress", "Unique", "NonMaxSuppression"}


def test_a_method_whose_lengths_depend_on_the_data_is_refused_by_name(model):
    profile = resolve_for(Profile("mine", "a_tome", "single", 1, ratio=Fraction(1, 4)), model)
    store = weight_store(model.tensors, "copy", BF16)
    with pytest.raises(
        ProfileError, match=r"mine \(a_tome\): .* and onnxruntime-cuda must know every length"
    ):
        build_graphs(model, [profile], store, lowering(model, BF16))


@pytest.mark.parametrize("name", SITES)
@pytest.mark.parametrize("audio", [1, AUDIO_ROWS])
def test_a_prefill_computes_what_one_of_the_cpu_does(written, model, name, audio):
    file, feeds = prefill_file(name), prompt(model, audio)
    expected = run(written["plain"] / file, feeds)
    agree(run(written["fp32"] / file, feeds), expected, 2e-4)
    agree(run(written["fp16"] / file, half(feeds, sig.AUDIO_EMBEDS)), expected, 2e-2)


def test_an_encoder_computes_what_one_of_the_cpu_does(written, model):
    mel = np.random.default_rng(0).standard_normal((model.front_end.log_mel.num_mel_bins, 150))
    feeds = {sig.MEL: mel.astype(np.float32), sig.ENCODER_ROWS: np.array([75])}
    expected = run(written["plain"] / ENCODER_FILE, feeds)
    agree(run(written["fp32"] / ENCODER_FILE, feeds), expected, 2e-4)
    agree(run(written["fp16"] / ENCODER_FILE, feeds), expected, 2e-2)


def test_lora_and_its_adapter_compute_what_those_of_the_cpu_do(with_lora, wavllm):
    feeds = {sig.ADAPTER_IDS: np.random.default_rng(0).integers(0, 400, 17)}
    (strength,) = expected = run(with_lora["plain"] / PROMPT_ADAPTER_FILE, feeds)
    agree(run(with_lora["fp32"] / PROMPT_ADAPTER_FILE, feeds), expected, 2e-4)
    for file, feeds in ((prefill_file("merge"), prompt(wavllm, AUDIO_ROWS)), (DECODE_FILE, step(wavllm))):
        feeds[sig.LORA_SCALE] = strength
        expected = run(with_lora["plain"] / file, feeds)
        if file == DECODE_FILE:
            agree(without_room(run(with_lora["fp32"] / file, in_place(feeds, 8))), expected, 2e-4)
        else:
            agree(run(with_lora["fp32"] / file, feeds), expected, 2e-4)


@pytest.mark.parametrize("room", [4, 16])
def test_a_step_writes_into_a_pool_with_room_what_one_of_the_cpu_appends(written, model, room):
    feeds = step(model)
    expected = run(written["plain"] / DECODE_FILE, feeds)
    roomy = in_place(feeds, room)
    agree(without_room(run(written["fp32"] / DECODE_FILE, roomy)), expected, 2e-4)
    caches = [name for name in roomy if "key" in name or "value" in name]
    agree(without_room(run(written["fp16"] / DECODE_FILE, half(roomy, *caches))), expected, 2e-2)


def in_place(feeds, room):
    """The inputs of a step whose pool has room for so many rows; what is in unused ones does not matter."""
    roomy = {**feeds, sig.POOL_ROWS: np.array([2])}
    roomy[sig.POOL_MASK] = np.pad(feeds[sig.POOL_MASK], ((0, 0), (0, room - 4)))
    for name, tensor in feeds.items():
        if name.startswith("pool_key") or name.startswith("pool_value"):
            roomy[name] = np.pad(tensor, ((0, 0), (0, room - 2), (0, 0)), constant_values=7)
    return roomy


def without_room(outputs):
    """The rows in use of the pools, which are all outputs after the scores."""
    return [*outputs[:3], *(pool[:, :4] for pool in outputs[3:])]


def step(model):
    """The second step of two beams, over a prefix of 9 rows."""
    dims, rng = model.decoder.dims, np.random.default_rng(0)
    feeds = {
        sig.TOKEN_IDS: rng.integers(0, 200, 2),
        sig.STEP: np.array([1]),
        sig.POOL_MASK: np.array([[True, False, True, False], [False, True, False, True]]),
        sig.NUM_CANDIDATES: np.array([4]),
    }
    for layer in range(dims.num_layers):
        for name, rows in zip(sig.cache_names(layer), (9, 9, 2, 2), strict=True):
            shape = dims.num_kv_heads, rows, dims.head_dim
            feeds[name] = rng.standard_normal(shape).astype(np.float32)
    return feeds


def prompt(model, audio):
    """One of random rows, no two of which are so alike that fp16 changes which of them goes."""
    rng = np.random.default_rng(audio)
    return {
        sig.PREFIX_IDS: rng.integers(0, 200, 5),
        sig.AUDIO_EMBEDS: rng.standard_normal((audio, model.decoder.dims.hidden_size)).astype(np.float32),
        sig.SUFFIX_IDS: rng.integers(0, 200, 3),
        sig.NUM_CANDIDATES: np.array([4]),
    }


def half(feeds, *names):
    return {name: it.astype(np.float16) if name in names else it for name, it in feeds.items()}


def run(path, feeds):
    return session(path).run(None, feeds)


@cache
def session(path):
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    return onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])


def agree(found, expected, atol):
    """All but the ids of the candidates, whose order may change where logits are near each other."""
    assert [output.shape for output in found] == [output.shape for output in expected]
    for i, (ours, theirs) in enumerate(zip(found, expected, strict=True)):
        if i != 1 or len(expected) == 1:
            np.testing.assert_allclose(np.asarray(ours, np.float32), theirs, rtol=0, atol=atol)
