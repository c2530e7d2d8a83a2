"""Engines are built for an A100 on any machine: real builds of the tiny model, and faults caught by name."""

from __future__ import annotations

from dataclasses import replace
from fractions import Fraction
from importlib.metadata import version

import onnx
import pytest

from every_way import ON_DEVICES
from fastadasp.export.checkpoint.checkpoint import Checkpoint
from fastadasp.export.checkpoint.precision import BF16
from fastadasp.export.checkpoint.weights import weight_store
from fastadasp.export.engines.engine import build_engine, check_reproducible
from fastadasp.export.engines.messages import EngineRequest, Expected
from fastadasp.export.engines.network_checks import check_attention
from fastadasp.export.engines.plugin_nodes import check_ratios, graph_ratios, plugin_layers
from fastadasp.export.engines.shapes import check_positions, decode_profile, encoder_profile, prefill_profile
from fastadasp.export.engines.worker import strongly_typed
from fastadasp.export.graphs.lowering.tensorrt import TensorRTLowering
from fastadasp.export.graphs.write import write_graphs
from fastadasp.export.model.families.family import load_model
from fastadasp.export.model.fit import resolve_for
from fastadasp.export.options import BuildOptions, EngineOptions
from fastadasp.export.pipeline import build
from fastadasp.profiles import Profile, ProfileError, load_profile
from fastadasp.profiles.errors import EngineError
from fastadasp.profiles.schedule import BEFORE_LAYERS, has_start_layer
from fastadasp.runtime.artifact.artifact import open_artifact
from fastadasp.runtime.artifact.engines import Machine, plan_name
from fastadasp.runtime.tensorrt.api import logger

pytest.importorskip("tensorrt_rtx", reason="engines need the extra tensorrt-rtx")

LIMITS = EngineOptions(max_audio_seconds=8, max_beams=4, max_batch=5, max_text_rows=32, max_new_tokens=32)
HALF = Fraction(1, 2)
METHODS = {
    "weighted": ({"method": "weighted_merge"}, {"AttentionMass": 1, "MergeTokens": 1}),
    "average": ({"method": "average_merge"}, {"MergeTokens": 1}),
    "random-merge": ({"method": "random_merge"}, {"AttentionMass": 1, "MergeEdges": 1}),
    "random-evict": ({"method": "random_evict", "include_audio_bos": True}, {"EvictTokens": 1}),
    "fastv": ({"method": "fastv"}, {"AttentionMass": 1, "EvictTokens": 1}),
    "uniform": ({"method": "uniform_merge"}, {"MergeEdges": 1}),
    "segments": (
        {"method": "segment_evict", "segments": 3},
        {"AttentionMass": 1, "EvictTokens": 1},
    ),
    "affinity": ({"method": "affinity_pooling", "schedule": "input_and_single"}, {"MergeTokens": 1}),
    "average-at-input": ({"method": "average_merge", "schedule": "input"}, {"MergeTokens": 1}),
    "uniform-at-input": ({"method": "uniform_merge", "schedule": "input"}, {"MergeEdges": 1}),
    "random-evict-at-input": (
        {"method": "random_evict", "schedule": "input", "positions": "kept"},
        {"EvictTokens": 2},
    ),
    "fastv-last": ({"method": "fastv", "fastv_score": "last_query"}, {"EvictTokens": 1}),
    "weighted-kept": (
        {"method": "weighted_merge", "positions": "kept"},
        {"AttentionMass": 1, "MergeTokens": 2},
    ),
    "random-evict-kept": ({"method": "random_evict", "positions": "kept"}, {"EvictTokens": 2}),
}
"""Profile -> its settings, and the plugins of each layer that reduces: one more where positions are kept."""


def test_every_method_that_an_engine_can_have_is_built():
    profiles = [Profile(name, **settings, ratio=Fraction(1, 2)) for name, (settings, _) in METHODS.items()]
    built = [profile.traits for profile in profiles]
    possible = [method for method in ON_DEVICES.values() if method.meets_targets]
    assert all(method in built for method in possible)
    assert {profile.traits for profile in profiles if profile.schedule == "input"} == {
        method for method in possible if "input" in method.schedules
    }


def start(settings):
    """The layer from which a profile of these settings reduces."""
    return int(has_start_layer(settings.get("schedule", "constant")))


@pytest.fixture(scope="module")
def engines(tiny_checkpoint, tmp_path_factory):
    """An artifact with engines for the unreduced model and for every method that an engine can have."""
    folder = tmp_path_factory.mktemp("engines") / "artifact"
    reduced = (
        Profile(name, **{"schedule": "constant", **settings}, start_layer=start(settings), ratio=HALF)
        for name, (settings, _) in METHODS.items()
    )
    profiles = (load_profile("full"), *reduced)
    build(tiny_checkpoint, folder, BuildOptions(profiles, weights="copy", engines=LIMITS))
    return folder


@pytest.fixture
def graphs(tiny_checkpoint, tmp_path):
    """TensorRT graphs of `full` with their weights."""
    model = load_model(Checkpoint(tiny_checkpoint))
    store = weight_store(model.tensors, "copy", BF16)
    write_graphs(
        tmp_path, model, [resolve_for(load_profile("full"), model)], store, TensorRTLowering(BF16, 200)
    )
    store.write(tmp_path)
    return model, tmp_path


def request(model, folder, name="encoder", **changes):
    layers = model.decoder.dims.num_layers
    profile, attentions = {
        "encoder": (encoder_profile(model, EngineOptions()), len(model.encoder.layers)),
        "decode": (decode_profile(model, 200, LIMITS), 0),
        "prefill.full": (prefill_profile(model, 200, LIMITS), layers - 1),
    }[name]
    usual = EngineRequest(
        product="tensorrt_rtx",
        name=f"{name} of a test",
        graph=folder / f"{name}.onnx",
        plan=folder / f"{name}.plan",
        profile=profile,
        sm=80,
        plugins=None,
        expected=Expected({}, attentions, causal=name.startswith("prefill")),
    )
    return replace(usual, **changes)


def edited(folder, name, edit):
    """The graph `name` of the folder, changed by a function."""
    graph = onnx.load(folder / f"{name}.onnx", load_external_data=False)
    edit(graph)
    onnx.save(graph, folder / f"{name}.onnx")


def test_every_graph_becomes_a_plan_that_the_manifest_describes(engines):
    manifest = open_artifact(engines).manifest
    record = manifest.engines
    assert record is not None
    assert set(record.plans) == {"encoder", "decode", *(f"prefill.{name}" for name in ("full", *METHODS))}
    assert record.machine == Machine("tensorrt_rtx", version("tensorrt-rtx-cu13"), 80)
    assert record.precision == "bf16"
    assert record.verified_on is None
    assert record.max_batch == 5
    assert [shape[0] for shape in record.plans["decode"].shapes["prefix_key.0"]] == [1, 2, 5]  # requests
    for name, plan in record.plans.items():
        assert manifest.files[plan.file].size > 10_000
        assert plan.peak_bytes > 10_000_000
        assert plan_name(name, plan.graph_sha256).encode() in (engines / plan.file).read_bytes()


@pytest.mark.parametrize("name", METHODS)
def test_reduced_profiles_have_their_plugin_layers(engines, name):
    """In every layer that reduces, but for the last layer, which only computes its last row."""
    manifest = open_artifact(engines).manifest
    last = manifest.decoder.dims.num_layers - 1
    reducing = sum(place < last for place in manifest.profiles[name].places)
    assert reducing
    expected = {plugin: count * reducing for plugin, count in METHODS[name][1].items()}
    assert manifest.engines.plans[f"prefill.{name}"].plugin_layers == expected


def test_the_unreduced_profile_has_no_plugin_layers(engines):
    assert open_artifact(engines).manifest.engines.plans["prefill.full"].plugin_layers == {}


def test_a_prefill_plan_says_what_each_layer_removes(engines):
    manifest = open_artifact(engines).manifest
    plans, last = manifest.engines.plans, manifest.decoder.dims.num_layers - 1
    assert plans["prefill.weighted"].layer_ratios[:last] == (0, *[Fraction(1, 2)] * (last - 1))
    assert set(plans["prefill.full"].layer_ratios) == {0}
    assert plans["prefill.average-at-input"].input_ratio == HALF
    assert set(plans["prefill.average-at-input"].layer_ratios) == {0}
    assert plans["prefill.affinity"].input_ratio == plans["prefill.affinity"].layer_ratios[1] == HALF
    assert plans["prefill.weighted"].input_ratio == 0
    assert plans["decode"].layer_ratios == ()


def test_the_progress_of_a_build_is_told(graphs, tmp_path):
    model, folder = graphs
    told = []
    build_engine(request(model, folder), tmp_path / "log", lambda *progress: told.append(progress))
    assert all(phase and 1 <= done <= steps for phase, done, steps in told)
    assert told


def reproducible_or_skip():
    try:
        check_reproducible()
    except EngineError as error:
        pytest.skip(str(error))


@pytest.mark.alone
def test_two_reproducible_builds_are_equal_byte_for_byte(tiny_checkpoint, tmp_path):
    """Into folders of different names, too."""
    reproducible_or_skip()
    profiles = (Profile("half", "weighted_merge", "constant", 1, ratio=Fraction(1, 2)),)
    options = BuildOptions(profiles, weights="copy", engines=replace(LIMITS, reproducible=True))
    hashes = []
    for folder in (tmp_path / "a", tmp_path / "another-one"):
        files = build(tiny_checkpoint, folder, options).files
        hashes.append({name: record.blake3 for name, record in files.items() if not name.endswith(".log")})
    assert hashes[0] == hashes[1]


def test_a_system_that_allows_no_reproducible_build_is_named(monkeypatch):
    monkeypatch.setattr(
        "fastadasp.export.engines.engine._one_core", lambda: ["sh", "-c", "echo no right >&2; exit 1"]
    )
    with pytest.raises(EngineError, match=r"not allowed here \(no right\).*CAP_SYS_NICE"):
        check_reproducible()
    monkeypatch.setattr("fastadasp.export.engines.engine._one_core", lambda: ["no-such-tool"])
    with pytest.raises(EngineError, match="need no-such-tool"):
        check_reproducible()


def test_a_function_left_in_the_graph_is_named(graphs, tmp_path):
    model, folder = graphs
    body = [onnx.helper.make_node("Identity", ["x"], ["y"])]
    opsets = [onnx.helper.make_opsetid("", 23)]
    function = onnx.helper.make_function("fastadasp", "MergeTokens", ["x"], ["y"], body, opsets)
    edited(folder, "encoder", lambda graph: graph.functions.append(function))
    with pytest.raises(EngineError, match=r"engine encoder: .*function bodies \(MergeTokens\)"):
        build_engine(request(model, folder), tmp_path / "log")


def test_missing_plugin_layers_are_named(graphs, tmp_path):
    model, folder = graphs
    with pytest.raises(EngineError, match=r"plugin layers \{\}, the graph asks for \{'MergeTokens': 2\}"):
        build_engine(
            request(model, folder, expected=Expected({"MergeTokens": 2}, 2, causal=False)), tmp_path / "log"
        )


def test_an_operator_that_tensorrt_does_not_have_is_named_with_its_node(graphs, tmp_path):
    model, folder = graphs

    def rename(graph):
        graph.graph.node[5].op_type, graph.graph.node[5].name = "NoSuchOperator", "/encoder/odd"

    edited(folder, "encoder", rename)
    with pytest.raises(EngineError, match="/encoder/odd"):
        build_engine(request(model, folder), tmp_path / "log")


def test_a_plugin_library_that_is_missing_is_named(graphs, tmp_path):
    model, folder = graphs
    missing = tmp_path / "nowhere.so"
    with pytest.raises(EngineError, match=r"nowhere\.so"):
        build_engine(request(model, folder, plugins=missing), tmp_path / "log")


def test_a_method_whose_length_depends_on_the_data_is_refused_before_anything_is_built(
    tiny_checkpoint, tmp_path
):
    profile = Profile("mine", "a_tome", "single", 1, ratio=Fraction(1, 4))
    with pytest.raises(ProfileError, match=r"mine \(a_tome\): how many rows are left depends on the data"):
        build(tiny_checkpoint, tmp_path / "artifact", BuildOptions((profile,), engines=LIMITS))
    assert not (tmp_path / "artifact").exists()


def test_fp32_engines_are_refused_with_the_reason():
    with pytest.raises(EngineError, match="precision fp32: TensorRT has no fused attention"):
        replace(LIMITS, precision="fp32")


def test_audio_beyond_the_positions_of_the_model_is_refused_with_the_limit(tiny_checkpoint, tmp_path):
    options = BuildOptions((load_profile("full"),), engines=replace(LIMITS, max_audio_seconds=240))
    with pytest.raises(EngineError, match=r"max_audio_seconds 240 .* hold at most \d+\.\d s"):
        build(tiny_checkpoint, tmp_path / "artifact", options)


def test_new_tokens_that_leave_no_position_for_audio_are_refused_by_their_own_name(tiny_checkpoint):
    model = load_model(Checkpoint(tiny_checkpoint))
    positions = model.decoder.max_positions
    with pytest.raises(
        EngineError, match=rf"max_new_tokens is {positions}: .* positions hold (\d+);"
    ) as caught:
        check_positions(model, 200, replace(LIMITS, max_new_tokens=positions))
    most = int(str(caught.value).split(" hold ")[1].split(";")[0])
    check_positions(model, positions - most - 1, replace(LIMITS, max_audio_seconds=1, max_new_tokens=most))


def test_optimization_profiles_follow_the_signature(tiny_checkpoint):
    model = load_model(Checkpoint(tiny_checkpoint))
    dims = model.decoder.dims
    prefill, decode = prefill_profile(model, 200, LIMITS), decode_profile(model, 200, LIMITS)
    assert prefill.shapes["audio_embeds"][2] == (200, dims.hidden_size)
    assert decode.shapes["pool_mask"] == ((1, 1, 64), (2, 4, 64), (5, 4, 128))
    assert decode.shapes["pool_key.0"][0] == (1, dims.num_kv_heads, 64, dims.head_dim)
    assert decode.shapes["prefix_key.3"][0] == (1, dims.num_kv_heads, 1, dims.head_dim)
    assert decode.shapes["prefix_key.3"][2] == (5, dims.num_kv_heads, 320, dims.head_dim)  # of 200 + 2 * 32
    assert decode.shapes["prefix_lengths"][2] == (dims.num_layers, 5)
    assert prefill.shapes["num_candidates"][0] == (1,)


def test_rows_around_the_audio_frames_count_in_the_optimization_profile(tiny_checkpoint):
    model = load_model(Checkpoint(tiny_checkpoint))
    model = replace(model, front_end=replace(model.front_end, bos_rows=1, eos_rows=1))
    least, _, most = prefill_profile(model, 202, LIMITS).shapes["audio_embeds"]
    assert (least[0], most[0]) == (3, 202)


def test_the_graphs_for_tensorrt_hold_no_function_and_ask_for_their_plugins(tiny_checkpoint, tmp_path):
    model = load_model(Checkpoint(tiny_checkpoint))
    profile = resolve_for(Profile("half", "average_merge", "single", 2, ratio=Fraction(1, 2)), model)
    store = weight_store(model.tensors, "copy", BF16)
    names = write_graphs(tmp_path, model, [profile], store, TensorRTLowering(BF16, 200))
    assert not any(onnx.load(tmp_path / name, load_external_data=False).functions for name in names)
    assert plugin_layers(tmp_path / "prefill.half.onnx") == {"MergeTokens": 1}


def test_a_causal_mask_that_was_dropped_is_named_with_its_layer(graphs, tmp_path):
    model, folder = graphs

    def drop(graph):
        node = next(node for node in graph.graph.node if node.name == "/layers.1/attn/Attention")
        del node.attribute[:]

    edited(folder, "prefill.full", drop)
    with pytest.raises(EngineError, match=r"/layers\.1/attn/Attention is not causal and must be .* dropped"):
        build_engine(request(model, folder, "prefill.full"), tmp_path / "log")


def test_key_lengths_that_tensorrt_would_ignore_are_refused():
    trt = pytest.importorskip("tensorrt_rtx")
    builder = trt.Builder(logger(trt, print))
    network = builder.create_network(strongly_typed(trt))
    query, key, value = (network.add_input(name, trt.float16, (1, 2, 8, 16)) for name in "qkv")
    attention = network.add_attention(query, key, value, trt.AttentionNormalizationOp.SOFTMAX, False)
    attention.name = "/layers.1/attn"
    layers = [network.get_layer(i) for i in range(network.num_layers)]
    check_attention(layers, trt, expected=1, causal=False)
    attention.key_value_lengths = network.add_input("lengths", trt.int32, (1,))
    with pytest.raises(EngineError, match=r"/layers\.1/attn takes key lengths, which TensorRT ignores"):
        check_attention(layers, trt, expected=1, causal=False)


def test_a_pool_mask_that_was_dropped_is_named(graphs, tmp_path):
    """Every beam would see the rows of all others."""
    model, folder = graphs

    def drop(graph):
        nodes, make = list(graph.graph.node), onnx.helper.make_node
        (mask,) = (node for node in nodes if "pool_mask" in node.input)
        axes = [make("Constant", [], [f"axes{i}"], value_ints=it) for i, it in enumerate(([1, 3], [1], [2]))]
        everything = [
            make("ReduceSum", ["pool_key.0", "axes0"], ["of_rows"], keepdims=0),
            make("Unsqueeze", ["of_rows", "axes1"], ["by_row"]),
            make("Cast", ["token_ids"], ["of_beams"], to=onnx.TensorProto.BFLOAT16),
            make("Unsqueeze", ["of_beams", "axes2"], ["by_beam"]),
            make("Add", ["by_row", "by_beam"], ["numbers"]),  # (requests, beams, pool), as the mask
            make("Equal", ["numbers", "numbers"], ["everything"]),
        ]
        for i, node in enumerate((*axes, *everything), nodes.index(mask)):
            graph.graph.node.insert(i, node)
        mask.input[0] = "everything"

    edited(folder, "decode", drop)
    with pytest.raises(EngineError, match="reads pool_mask nowhere"):
        build_engine(request(model, folder, "decode"), tmp_path / "log")


def test_an_attention_that_is_not_fused_is_named(graphs, tmp_path):
    model, folder = graphs
    wanted = Expected({}, len(model.encoder.layers) + 1, causal=False)
    with pytest.raises(EngineError, match=r"has 2 fused attention layers, the graph asks for 3"):
        build_engine(request(model, folder, expected=wanted), tmp_path / "log")


def test_an_op_that_became_something_else_is_named(graphs, tmp_path):
    model, folder = graphs

    def loop(graph):
        name, helper, kind = graph.graph.output[0].name, onnx.helper, onnx.TensorProto
        last = next(node for node in graph.graph.node if name in node.output)
        last.output[0] = "before"
        value = helper.make_tensor_value_info
        inputs = [value("i", kind.INT64, []), value("go", kind.BOOL, []), value("x", kind.BFLOAT16, None)]
        outputs = [value("go_on", kind.BOOL, []), value("y", kind.BFLOAT16, None)]
        nodes = [helper.make_node("Identity", ["go"], ["go_on"]), helper.make_node("Add", ["x", "x"], ["y"])]
        body = helper.make_graph(nodes, "body", inputs, outputs)
        graph.graph.node.extend(
            [
                helper.make_node("Constant", [], ["trips"], value_int=2),
                helper.make_node("Equal", ["trips", "trips"], ["always"]),
                helper.make_node("Loop", ["trips", "always", "before"], [name], name="/odd/Loop", body=body),
            ]
        )

    edited(folder, "encoder", loop)
    with pytest.raises(EngineError, match=r"layers of unexpected types: .*(LOOP|TRIP_LIMIT|RECURRENCE)"):
        build_engine(request(model, folder), tmp_path / "log")


@pytest.mark.parametrize(
    ("method", "schedule", "start", "layer", "place"),
    [
        ("weighted_merge", "single", 1, 1, "layer 1"),
        ("average_merge", "input", 0, BEFORE_LAYERS, "the input"),
    ],
)
def test_a_ratio_that_changed_on_the_way_to_the_graph_is_named(
    tiny_checkpoint, tmp_path, method, schedule, start, layer, place
):
    model = load_model(Checkpoint(tiny_checkpoint))
    third, half = (
        resolve_for(Profile("mine", method, schedule, start, ratio=ratio), model)
        for ratio in (Fraction(1, 3), Fraction(1, 2))
    )
    store = weight_store(model.tensors, "copy", BF16)
    write_graphs(tmp_path, model, [third], store, TensorRTLowering(BF16, 200))
    graphs = {"prefill.mine": tmp_path / "prefill.mine.onnx"}
    assert graph_ratios(graphs["prefill.mine"]) == {layer: Fraction(1, 3)}
    check_ratios(graphs, [third])
    with pytest.raises(
        EngineError, match=f"'mine': {place} of the graph removes 1/3 of the rows, the profile 1/2"
    ):
        check_ratios(graphs, [half])
