"""Engines are built for an A100 on any machine: real builds of the tiny model, and faults caught by name."""

from __future__ import annotations

from dataclasses import replace
from fractions import Fraction

import onnx
import pytest

from fastadasp.export.build_options import BuildOptions, EngineOptions
from fastadasp.export.checkpoint import Checkpoint
from fastadasp.export.engine import EngineRequest, build_engine
from fastadasp.export.engines import plugin_layers
from fastadasp.export.families.family import load_model
from fastadasp.export.lowering.tensorrt import TensorRTLowering
from fastadasp.export.model_spec import tensors_of
from fastadasp.export.optimization_profile import decode_profile, encoder_profile, prefill_profile
from fastadasp.export.pipeline import build, resolve_for, write_graphs
from fastadasp.export.precision import BF16
from fastadasp.export.weights import weight_store
from fastadasp.profiles import Profile, ProfileError, load_profile
from fastadasp.profiles.errors import EngineError
from fastadasp.runtime.artifact import open_artifact

pytest.importorskip("tensorrt_rtx", reason="engines need the extra tensorrt-rtx")

LIMITS = EngineOptions(max_audio_seconds=8, max_beams=4, max_text_rows=32, max_new_tokens=32)


@pytest.fixture(scope="module")
def engines(tiny_checkpoint, tmp_path_factory):
    """An artifact with engines for the unreduced model and a merging one."""
    folder = tmp_path_factory.mktemp("engines") / "artifact"
    profiles = (load_profile("full"), Profile("half", "weighted_merge", "constant", 1, ratio=Fraction(1, 2)))
    build(tiny_checkpoint, folder, BuildOptions(profiles, weights="copy", engines=LIMITS))
    return folder


@pytest.fixture
def graphs(tiny_checkpoint, tmp_path):
    """TensorRT graphs of `full` with their weights."""
    model = load_model(Checkpoint(tiny_checkpoint))
    store = weight_store(tensors_of((model.encoder, model.decoder)), "copy", BF16)
    write_graphs(tmp_path, model, [resolve_for(load_profile("full"), model)], store, TensorRTLowering(BF16))
    store.write(tmp_path)
    return model, tmp_path


def request(model, folder, name="encoder", **changes):
    profile = encoder_profile(model) if name == "encoder" else decode_profile(model, 200, LIMITS)
    graph, plan = folder / f"{name}.onnx", folder / f"{name}.plan"
    return replace(EngineRequest(graph, plan, profile, 80, None, {}), **changes)


def test_every_graph_becomes_a_plan_that_the_manifest_describes(engines):
    manifest = open_artifact(engines).manifest
    record = manifest.engines
    assert record is not None
    assert set(record.plans) == {"encoder", "decode", "prefill.full", "prefill.half"}
    assert (record.sm, record.precision, record.product) == (80, "bf16", "tensorrt_rtx")
    assert not record.numerically_verified
    for plan in record.plans.values():
        assert manifest.files[plan.file].size > 10_000


def test_reduced_profiles_have_their_plugin_layers(engines):
    """One pair a layer that merges, but for the last layer, which only computes its last row."""
    manifest = open_artifact(engines).manifest
    last = manifest.decoder.dims.num_layers - 1
    merging = sum(layer < last for layer in manifest.profiles["half"].merging_layers)
    assert merging
    plans = manifest.engines.plans
    assert plans["prefill.half"].plugin_layers == {"AttentionMass": merging, "MergeTokens": merging}
    assert plans["prefill.full"].plugin_layers == {}


def test_two_builds_of_the_encoder_plan_are_equal_byte_for_byte(graphs, tmp_path):
    model, folder = graphs
    plans = []
    for name in ("first.plan", "second.plan"):
        build_engine(request(model, folder, plan=tmp_path / name), tmp_path / f"{name}.log")
        plans.append((tmp_path / name).read_bytes())
    assert plans[0] == plans[1]


def test_a_function_left_in_the_graph_is_named(graphs, tmp_path):
    model, folder = graphs
    graph = onnx.load(folder / "encoder.onnx", load_external_data=False)
    body = [onnx.helper.make_node("Identity", ["x"], ["y"])]
    opsets = [onnx.helper.make_opsetid("", 23)]
    graph.functions.append(onnx.helper.make_function("fastadasp", "MergeTokens", ["x"], ["y"], body, opsets))
    onnx.save(graph, folder / "encoder.onnx")
    with pytest.raises(EngineError, match=r"engine encoder: .*function bodies \(MergeTokens\)"):
        build_engine(request(model, folder), tmp_path / "log")


def test_missing_plugin_layers_are_named(graphs, tmp_path):
    model, folder = graphs
    with pytest.raises(EngineError, match=r"plugin layers \{\}, the graph asks for \{'MergeTokens': 2\}"):
        build_engine(request(model, folder, plugin_layers={"MergeTokens": 2}), tmp_path / "log")


def test_an_operator_that_tensorrt_does_not_have_is_named_with_its_node(graphs, tmp_path):
    model, folder = graphs
    graph = onnx.load(folder / "encoder.onnx", load_external_data=False)
    graph.graph.node[5].op_type = "NoSuchOperator"
    graph.graph.node[5].name = "/encoder/odd"
    onnx.save(graph, folder / "encoder.onnx")
    with pytest.raises(EngineError, match="/encoder/odd"):
        build_engine(request(model, folder), tmp_path / "log")


def test_a_plugin_library_that_is_missing_is_named(graphs, tmp_path):
    model, folder = graphs
    missing = tmp_path / "nowhere.so"
    with pytest.raises(EngineError, match=r"nowhere\.so"):
        build_engine(request(model, folder, plugins=missing), tmp_path / "log")


@pytest.mark.parametrize("method", ["fastv", "random_merge", "random_evict", "a_tome"])
def test_methods_without_a_plugin_are_refused_before_anything_is_built(method, tiny_checkpoint, tmp_path):
    profile = Profile("mine", method, "single", 1, ratio=Fraction(1, 4))
    with pytest.raises(
        ProfileError,
        match=r"mine \(a_tome\)|no TensorRT plugin for (MergeEdges|EvictTokens|RandomScore|LastQueryMass)",
    ):
        build(tiny_checkpoint, tmp_path / "artifact", BuildOptions((profile,), engines=LIMITS))
    assert not (tmp_path / "artifact").exists()


def test_fp32_engines_are_refused_with_the_reason(tiny_checkpoint, tmp_path):
    options = BuildOptions((load_profile("full"),), engines=replace(LIMITS, precision="fp32"))
    with pytest.raises(EngineError, match="precision fp32: TensorRT has no fused attention"):
        build(tiny_checkpoint, tmp_path / "artifact", options)


def test_audio_beyond_the_positions_of_the_model_is_refused_with_the_limit(tiny_checkpoint, tmp_path):
    options = BuildOptions((load_profile("full"),), engines=replace(LIMITS, max_audio_seconds=240))
    with pytest.raises(EngineError, match=r"max_audio_seconds 240 .* hold at most \d+\.\d s"):
        build(tiny_checkpoint, tmp_path / "artifact", options)


def test_optimization_profiles_follow_the_signature(tiny_checkpoint):
    model = load_model(Checkpoint(tiny_checkpoint))
    dims = model.decoder.dims
    prefill, decode = prefill_profile(model, 200, LIMITS), decode_profile(model, 200, LIMITS)
    assert prefill.shapes["audio_embeds"][2] == (200, dims.hidden_size)
    assert decode.shapes["pool_mask"] == ((1, 1), (4, 68), (4, 132))
    assert decode.shapes["pool_key.0"][0] == (dims.num_kv_heads, 0, dims.head_dim)
    assert decode.shapes["prefix_key.3"][2] == (dims.num_kv_heads, 200 + 2 * 32, dims.head_dim)
    assert prefill.values["num_candidates"][0] == (1,)


def test_the_graphs_for_tensorrt_hold_no_function_and_ask_for_their_plugins(tiny_checkpoint, tmp_path):
    model = load_model(Checkpoint(tiny_checkpoint))
    profile = resolve_for(Profile("half", "average_merge", "single", 2, ratio=Fraction(1, 2)), model)
    store = weight_store(tensors_of((model.encoder, model.decoder)), "copy", BF16)
    names = write_graphs(tmp_path, model, [profile], store, TensorRTLowering(BF16))
    assert not any(onnx.load(tmp_path / name, load_external_data=False).functions for name in names)
    assert plugin_layers(tmp_path / "prefill.half.onnx") == {"MergeTokens": 1}
