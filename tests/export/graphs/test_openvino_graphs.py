"""Graphs for OpenVINO: plain ONNX, as exact as those for ONNX Runtime in float32, for every method."""

from __future__ import annotations

from collections import Counter
from fractions import Fraction

import numpy as np
import onnx
import onnxruntime as ort
import pytest

from every_way import ON_DEVICES, every_way
from fastadasp.export.checkpoint.checkpoint import Checkpoint
from fastadasp.export.checkpoint.precision import FP32
from fastadasp.export.checkpoint.weights import weight_store
from fastadasp.export.graphs.lowering.onnxruntime import OnnxRuntimeLowering
from fastadasp.export.graphs.lowering.openvino import OpenVinoLowering
from fastadasp.export.graphs.write import DECODE_FILE, ENCODER_FILE, build_graphs, prefill_file
from fastadasp.export.model.families.family import load_model
from fastadasp.export.model.fit import resolve_for
from fastadasp.plugins.causal_attention.op import FEWEST_UNROLLED, MOST_UNROLLED, summed_ends, unrolled_chunks
from fastadasp.profiles.errors import ArtifactError, RequestError
from fastadasp.profiles.profile import Profile
from fastadasp.runtime.openvino.compiled import check_precision, compiled
from fastadasp.runtime.openvino.options import OpenVinoOptions
from fastadasp.runtime.openvino.session import OpenVinoSession

pytest.importorskip("openvino")

TENTH = Fraction(1, 10)
REDUCED = [Profile(name, **way, ratio=TENTH) for name, way in every_way(methods=ON_DEVICES).items()]
KEPT = Profile("kept", "weighted_merge", "constant", 0, TENTH, positions="kept")
PROFILES = {each.name: each for each in (Profile("full", "full"), *REDUCED, KEPT)}
RANDOM = "random_evict", "random_merge"
FP32_OPTIONS, BF16_OPTIONS = OpenVinoOptions(1, "fp32"), OpenVinoOptions(1, "bf16")
LENGTHS = 1, 3, 40, 300  # the first two have fewer rows than chunks


@pytest.fixture(scope="module")
def model(tiny_checkpoint):
    return load_model(Checkpoint(tiny_checkpoint))


@pytest.fixture(scope="module")
def graphs(model, tmp_path_factory):
    """The folders of both sets by the names of their lowerings."""
    store, folders = weight_store(model.tensors, "copy", FP32), {}
    resolved = [resolve_for(profile, model) for profile in PROFILES.values()]
    longest = model.decoder.max_positions
    for lowering in (OnnxRuntimeLowering(), OpenVinoLowering(longest, longest)):
        folders[lowering.name] = folder = tmp_path_factory.mktemp(lowering.name)
        store.write(folder)
        for name, graph in build_graphs(model, resolved, store, lowering).items():
            (folder / name).write_bytes(graph.SerializeToString())
    return folders


def reference(graphs, name, feed):
    session = ort.InferenceSession(str(graphs["onnxruntime"] / name))
    names = [output.name for output in session.get_outputs()]
    return dict(zip(names, session.run(names, feed), strict=True))


def on_openvino(graphs, name, options):
    return OpenVinoSession(graphs["openvino"] / name, options)


def prompt(model, rows, seed=0):
    random = np.random.default_rng(seed)
    audio = random.standard_normal((rows, model.decoder.dims.hidden_size), np.float32)
    ids = {"prefix_ids": np.array([1, 2]), "suffix_ids": np.array([3, 4, 5])}
    return {**ids, "audio_embeds": audio, "num_candidates": np.array([4])}


def errors(expected, session, feed):
    found = {name: session.read(value) for name, value in session.run(feed).items()}
    assert {name: found[name].shape for name in expected} == {k: v.shape for k, v in expected.items()}
    return max(np.abs(expected[name] - found[name]).max() for name in expected if name != "top_ids")


@pytest.mark.parametrize("name", PROFILES)
def test_a_prefill_is_exact_in_float32(graphs, model, name):
    session = on_openvino(graphs, prefill_file(name), FP32_OPTIONS)
    for rows in LENGTHS:
        feed = prompt(model, rows)
        expected = reference(graphs, prefill_file(name), feed)
        assert errors(expected, session, feed) < 1e-3


def test_the_encoder_is_exact_in_float32(graphs, model):
    bins = model.front_end.log_mel.num_mel_bins
    mel = np.random.default_rng(0).standard_normal((bins, 64), np.float32)
    feed = {"mel": mel, "encoder_rows": np.array([32])}
    expected = reference(graphs, ENCODER_FILE, feed)
    assert errors(expected, on_openvino(graphs, ENCODER_FILE, FP32_OPTIONS), feed) < 1e-3


@pytest.fixture
def bf16():
    try:
        check_precision(BF16_OPTIONS)
    except RequestError as error:
        pytest.skip(str(error))


@pytest.mark.usefixtures("bf16")
@pytest.mark.parametrize("name", ["full", *RANDOM])
def test_a_prefill_in_bf16_keeps_its_rows_and_its_positions(graphs, model, name):
    """Scores and positions beyond 256 are no numbers of bf16: other rows would be chosen or turned."""
    session = on_openvino(graphs, prefill_file(name), BF16_OPTIONS)
    feed = prompt(model, 300)
    expected = reference(graphs, prefill_file(name), feed)
    largest = max(np.abs(value).max() for name, value in expected.items() if name.startswith("prefix_key"))
    error = errors(expected, session, feed)
    assert 1e-4 < error < 0.03 * max(1, largest)


@pytest.mark.usefixtures("bf16")
def test_rows_are_chosen_by_float32_scores(graphs, model, monkeypatch):
    """Without the outputs that nobody reads, random methods keep other rows in bf16."""
    monkeypatch.setattr("fastadasp.runtime.openvino.compiled._decisions", lambda model: [])
    found = []
    for name in map(prefill_file, RANDOM):
        session = on_openvino(graphs, name, BF16_OPTIONS)
        for rows in (200, 250, 300, 350):
            feed = prompt(model, rows)
            found.append(errors(reference(graphs, name, feed), session, feed))
    assert max(found) > 0.3


def test_files_have_no_functions_loops_or_other_domains(graphs):
    for name in [ENCODER_FILE, *map(prefill_file, PROFILES)]:
        model = onnx.load(graphs["openvino"] / name, load_external_data=False)
        assert not model.functions
        kinds = Counter((node.domain, node.op_type) for node in model.graph.node)
        assert {domain for domain, _ in kinds} == {""}
        assert not {"Loop", "If", "Scan"} & {kind for _, kind in kinds}


def test_the_decode_step_is_that_of_onnxruntime(graphs):
    first, second = ((graphs[name] / DECODE_FILE).read_bytes() for name in ("onnxruntime", "openvino"))
    assert first == second


def test_long_prompts_have_more_chunks_up_to_a_limit():
    assert [unrolled_chunks(rows) for rows in (1, 512, 2048, 2049, 8192, 10**6)] == [
        *[FEWEST_UNROLLED] * 3,
        5,
        *[MOST_UNROLLED] * 2,
    ]


def test_chunks_whose_columns_are_summed_end_at_the_same_rows_in_every_prompt():
    longest = summed_ends(10**5)
    assert longest[:7] == [512, 1024, 1536, 2048, 2560, 3200, 4000]
    assert longest[-1] == 10**5
    assert len(longest) < 24
    for rows in (1, 511, 512, 513, 3000):
        *ends, last = summed_ends(rows)
        assert (ends, last) == (longest[: len(ends)], rows)
        assert all(end < rows for end in ends)


@pytest.mark.parametrize("rows", [511, 512, 513, 1024, 1025, 1100])
def test_a_prefill_with_several_summed_chunks_is_exact(graphs, model, rows):
    name = prefill_file("kept")
    feed = prompt(model, rows - 5)
    session = on_openvino(graphs, name, FP32_OPTIONS)
    assert errors(reference(graphs, name, feed), session, feed) < 1e-3


@pytest.mark.usefixtures("bf16")
def test_scores_of_a_chunk_leave_their_memory_to_the_next(graphs):
    """A chunk ends before the next begins, and no decision of a layer is kept to the end of the graph."""
    model = compiled(graphs["openvino"] / prefill_file("kept"), BF16_OPTIONS).get_runtime_model()
    steps = {op.get_friendly_name(): op for op in model.get_ops()}
    begin = {name: int(op.get_rt_info()["execOrder"].astype(str)) for name, op in steps.items()}
    attention = [name for name in sorted(begin, key=begin.__getitem__) if "/attn/" in name]
    first_layer = next(name for name in attention if "/attn/ReduceSum" in name).partition("/attn/")[0]
    turns = [
        kind
        for name in attention
        for kind in ("Softmax", "ReduceSum")
        if name.startswith(f"{first_layer}/attn/{kind}") and "_bf16_" not in name
    ]
    assert len(turns) > 2
    assert turns == ["Softmax", "ReduceSum"] * (len(turns) // 2)
    last_scores = max(at for name, at in begin.items() if "/attn/Softmax" in name)
    decided = [name for name in steps if name.startswith(f"{first_layer}/reduce/") and is_output(steps[name])]
    assert decided
    assert max(begin[name] for name in decided) < last_scores


def is_output(op):
    return op.get_rt_info()["layerType"].astype(str) == "Convert" and all(
        each.get_node().get_rt_info()["layerType"].astype(str) == "Output"
        for output in op.outputs()
        for each in output.get_target_inputs()
    )


def test_a_graph_that_openvino_does_not_know_is_refused_by_its_name(graphs, tmp_path):
    folder = graphs["onnxruntime"]
    with pytest.raises(ArtifactError, match=r"prefill\.full\.onnx: openvino cannot load it"):
        compiled(folder / prefill_file("full"), FP32_OPTIONS)
