"""Graphs for ONNX Runtime's CUDA provider: each node has a kernel there, and numbers are those of the others.

They are computed on the CPU provider: in float32, and in fp16, where it has kernels or casts. It has no
matrix product of bf16; those graphs are computed in float32 with every value rounded to bf16.
"""

from __future__ import annotations

from dataclasses import replace
from fractions import Fraction
from functools import cache

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto

from cuda_graphs import as_float32, without_kernel
from every_way import ON_DEVICES, every_way
from fastadasp.export.check.sessions.step_of_one import StepOfOne
from fastadasp.export.checkpoint.checkpoint import Checkpoint
from fastadasp.export.checkpoint.precision import BF16, FP16, FP32
from fastadasp.export.checkpoint.weights import weight_store
from fastadasp.export.graphs.lowering.fixed_lengths import append_reduction
from fastadasp.export.graphs.lowering.lowering import Cut, SpanValues
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
from fastadasp.export.model.quantize import of_cuda_graphs, quantized
from fastadasp.plugins.body import IR_VERSION, OPSET, Body
from fastadasp.plugins.merge_tokens.op import MERGE_PAIRS
from fastadasp.plugins.merge_tokens.reference import merge_pairs
from fastadasp.profiles import Profile
from fastadasp.profiles import signature as sig
from fastadasp.profiles.long_context import LongContext
from fastadasp.runtime.onnxruntime.session import OnnxRuntimeSession
from tiny_families import TINY
from torch_wavllm import TorchWavLLM

AUDIO_ROWS = 37
CHUNKS = 3
SITES = {
    "full": {"method": "full"},
    **{name: {**way, "ratio": Fraction(1, 3)} for name, way in every_way(methods=ON_DEVICES).items()},
}
SITES |= {
    f"{name}-kept": {**site, "positions": "kept"}
    for name, site in SITES.items()
    if name not in ("full", "h2o")
}
OTHER_ROWS_IN_BF16 = [prefill_file(name) for name in ("h2o", "fastv_last_query", "fastv_last_query-kept")]
"""Of this model, whose scores in int4 are nearer to each other than numbers of bf16."""


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


@pytest.mark.parametrize("quantize", [None, "int8", "int4"])
@pytest.mark.parametrize("precision", [FP16, BF16], ids=lambda it: it.name)
def test_every_node_has_a_kernel_of_the_cuda_provider(model, long, wavllm, precision, quantize):
    for plain, resolved in (
        (model, profiles(model)),
        (long, profiles(long)),
        (wavllm, wavllm_profiles(wavllm)),
    ):
        each = in_fewer_bits(plain, quantize, precision)
        store = weight_store(each.tensors, "copy", precision)
        for name, graph in build_graphs(each, resolved, store, lowering(each, precision)).items():
            assert not graph.functions
            assert not (lacking := sorted(without_kernel(graph))), f"{name}: {lacking}"


@pytest.mark.parametrize("name", TINY)
def test_every_node_of_every_family_has_one(name, tmp_path):
    TINY[name].save(tmp_path / "checkpoint")
    model = load_model(Checkpoint(tmp_path / "checkpoint"))
    resolved = [resolve_for(Profile("merge", **SITES["weighted_merge"]), model)]
    for precision in (FP16, BF16):
        for quantize in (None, "int8", "int4"):
            each = in_fewer_bits(model, quantize, precision)
            store = weight_store(each.tensors, "copy", precision)
            for file, graph in build_graphs(each, resolved, store, lowering(each, precision)).items():
                assert not graph.functions
                lacking = sorted(without_kernel(graph))
                assert not lacking, f"{file}, {precision.name}, {quantize}: {lacking}"


def in_fewer_bits(model, quantize, precision):
    """The model as a build for the target quantises it."""
    if quantize is None:
        return model
    return quantized(model, quantize, of_cuda_graphs({}, 32, precision.name))


@pytest.mark.parametrize(("quantize", "bits"), [("int8", {8}), ("int4", {8, 4})])
def test_products_by_fewer_bits_are_those_that_the_kernel_takes(model, quantize, bits):
    each = in_fewer_bits(model, quantize, BF16)
    store = weight_store(each.tensors, "copy", BF16)
    found = set()
    for graph in build_graphs(each, profiles(each), store, lowering(each, BF16)).values():
        products = [node for node in graph.graph.node if node.op_type == "MatMulNBits"]
        assert products
        assert not [
            node for node in graph.graph.node if node.op_type.startswith(("MatMulInteger", "Dynamic"))
        ]
        for node in products:
            settings = {it.name: it.i for it in node.attribute}
            assert settings["block_size"] in (32, 64, 128)
            assert settings.get("accuracy_level", 0) == 0  # rows keep their numbers
            found.add(settings["bits"])
    assert found == bits


@pytest.mark.parametrize("quantize", [None, "int8", "int4"])
def test_numbers_of_bf16_are_those_of_float32_within_its_rounding(model, tmp_path, quantize):
    each = in_fewer_bits(model, quantize, BF16)
    store = weight_store(each.tensors, "copy", BF16)
    write_graphs(tmp_path, each, profiles(each), store, lowering(each, BF16))
    store.write(tmp_path)
    runs = [(prefill_file(name), prompt(model, AUDIO_ROWS)) for name in SITES]
    runs += [(ENCODER_FILE, window(model)), (DECODE_FILE, in_place(step(model), 4))]
    for file, feeds in runs:
        feeds = {name: of_bf16(it) for name, it in feeds.items()}
        found, expected = (in_float32(tmp_path / file, rounds).run(None, feeds) for rounds in (True, False))
        assert (found[0] != expected[0]).any()  # rounded
        if quantize == "int4" and file in OTHER_ROWS_IN_BF16:  # kept by the prompt, so scores alone compare
            found, expected = (outputs[:3] for outputs in (found, expected))
            agree(found, expected, 2e-1)
        else:
            agree(found, expected, 1e-1)


def of_bf16(array):
    return array.astype(BF16.numpy_type).astype(np.float32) if array.dtype == np.float32 else array


def in_float32(path, rounds):
    """A session of a graph of bf16 on the CPU; no optimisation may take casts for superfluous."""
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    content = as_float32(onnx.load(path), rounds).SerializeToString()
    return onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])


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


def test_pairs_are_cut_from_runs_of_any_length_where_the_definition_cuts_them(tmp_path):
    """Keys that point one way join into runs; how many rows are left depends on them."""
    rng, rows, before, after = np.random.default_rng(0), 40, 3, 2
    start, length = before, rows - before - after
    inputs = {"hidden": (rows, 8), "key": (2, rows, 4)}
    left = set()
    for removed in (0, 1, 12, 25, 34):
        for joined in (0.0, 0.5, 0.95):
            body = Body(f"r{removed}_")
            cut = Cut(
                SpanValues(body.ints(start), body.ints(length), before, after),
                body.ints(length),
                body.ints(removed),
                Fraction(1, 2),
            )
            append_reduction(body, MERGE_PAIRS, ["hidden", "key"], cut, ["merged"], lambda x: x)
            graph = onnx.helper.make_graph(
                body.nodes,
                "pairs",
                [onnx.helper.make_tensor_value_info(n, TensorProto.FLOAT, s) for n, s in inputs.items()],
                [onnx.helper.make_tensor_value_info("merged", TensorProto.FLOAT, None)],
            )
            opsets = [onnx.helper.make_opsetid("", OPSET)]
            model = onnx.helper.make_model(graph, opset_imports=opsets, ir_version=IR_VERSION)
            feeds = {n: rng.standard_normal(s).astype(np.float32) for n, s in inputs.items()}
            for i in range(1, rows):
                if rng.random() < joined:
                    feeds["key"][:, i] = feeds["key"][:, i - 1] + 0.01 * feeds["key"][:, i]
            options = onnxruntime.SessionOptions()
            options.log_severity_level = 4
            session = onnxruntime.InferenceSession(
                model.SerializeToString(), options, providers=["CPUExecutionProvider"]
            )
            (found,) = session.run(None, feeds)
            expected = merge_pairs(feeds["hidden"], feeds["key"], start, length, removed)
            np.testing.assert_allclose(found, expected, rtol=0, atol=1e-6)
            left.add(rows - len(found))
    assert len(left) > 5


@pytest.mark.parametrize("name", SITES)
@pytest.mark.parametrize("audio", [1, AUDIO_ROWS])
def test_a_prefill_computes_what_one_of_the_cpu_does(written, model, name, audio):
    file, feeds = prefill_file(name), prompt(model, audio)
    expected = run(written["plain"] / file, feeds)
    agree(run(written["fp32"] / file, feeds), expected, 2e-4)
    agree(run(written["fp16"] / file, half(feeds, sig.AUDIO_EMBEDS)), expected, 2e-2)


def test_an_encoder_computes_what_one_of_the_cpu_does(written, model):
    feeds = window(model)
    expected = run(written["plain"] / ENCODER_FILE, feeds)
    agree(run(written["fp32"] / ENCODER_FILE, feeds), expected, 2e-4)
    agree(run(written["fp16"] / ENCODER_FILE, feeds), expected, 2e-2)


def window(model):
    mel = np.random.default_rng(0).standard_normal((model.front_end.log_mel.num_mel_bins, 150))
    return {sig.MEL: mel.astype(np.float32), sig.ENCODER_ROWS: np.array([75])}


def test_lora_and_its_adapter_compute_what_those_of_the_cpu_do(with_lora, wavllm):
    feeds = {sig.ADAPTER_IDS: np.random.default_rng(0).integers(0, 400, 17)}
    (strength,) = expected = run(with_lora["plain"] / PROMPT_ADAPTER_FILE, feeds)
    agree(run(with_lora["fp32"] / PROMPT_ADAPTER_FILE, feeds), expected, 2e-4)
    for file, feeds in ((prefill_file("merge"), prompt(wavllm, AUDIO_ROWS)), (DECODE_FILE, step(wavllm))):
        feeds[sig.LORA_SCALE] = strength
        if file == DECODE_FILE:
            expected = step_of_one(with_lora["plain"] / file, wavllm, feeds)
            agree(without_room(run(with_lora["fp32"] / file, in_place(feeds, 8))), expected, 2e-4)
        else:
            expected = run(with_lora["plain"] / file, feeds)
            agree(run(with_lora["fp32"] / file, feeds), expected, 2e-4)


@pytest.mark.parametrize("room", [4, 16])
def test_a_step_writes_into_a_pool_with_room_what_one_of_the_cpu_appends(written, model, room):
    feeds = step(model)
    expected = step_of_one(written["plain"] / DECODE_FILE, model, feeds)
    roomy = in_place(feeds, room)
    agree(without_room(run(written["fp32"] / DECODE_FILE, roomy)), expected, 2e-4)
    caches = [name for name in roomy if "key" in name or "value" in name]
    agree(without_room(run(written["fp16"] / DECODE_FILE, half(roomy, *caches))), expected, 2e-2)


def step_of_one(path, model, feeds):
    """The outputs of a step of one request, from a graph whose steps take several."""
    dims = model.decoder.dims
    found = StepOfOne(OnnxRuntimeSession(path, {}), dims, most=1).run(feeds)
    names = [tensor.name for tensor in sig.decode_signature(dims).outputs]
    return [found[name] for name in names]


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
