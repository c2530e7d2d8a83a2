"""The graphs themselves: valid ONNX with full shape inference, and named after the model."""

import re

import onnx
import pytest

from fastadasp.export.graphs.write import DECODE_FILE, ENCODER_FILE, prefill_file
from fastadasp.export.options import BuildOptions
from fastadasp.export.pipeline import build
from fastadasp.export.reference.model import load_reference

from .conftest import FULL, REDUCED
from .models import check_graph

PROJECTION = re.compile(r"/layers\.\d+/attn/[qkvo]_proj/Gemm")


def graph_files(folder):
    return sorted(folder.glob("*.onnx"))


def nodes(path):
    return {node.name for node in onnx.load(path, load_external_data=False).graph.node}


def test_every_graph_passes_the_checker_with_full_shape_inference(artifact):
    paths = graph_files(artifact)
    assert len(paths) == 3 + len(REDUCED)
    for path in paths:
        check_graph(path)


def test_graphs_over_converted_weights_pass_the_checker(checkpoint, tmp_path):
    half = tmp_path / "half"
    load_reference(checkpoint).bfloat16().save_pretrained(half)
    build(half, tmp_path / "artifact", BuildOptions((FULL, REDUCED[0])))
    for path in graph_files(tmp_path / "artifact"):
        check_graph(path)


@pytest.mark.parametrize(
    ("file", "product"),
    [(DECODE_FILE, "StepProduct"), (prefill_file("full"), "Gemm"), (prefill_file("most-pairs"), "Gemm")],
)
def test_decoder_nodes_are_named_after_the_layers_of_the_model(artifact, file, product):
    names = nodes(artifact / file)
    expected = {f"/layers.{i}/attn/{part}_proj/Gemm" for i in range(4) for part in "qkvo"}
    assert {name for name in names if PROJECTION.fullmatch(name)} == expected
    assert all(any(name.startswith(f"/layers.{i}/mlp/") for name in names) for i in range(4))
    assert {f"/layers.3/mlp/{part}_proj/{product}" for part in ("gate", "up", "down")} <= names
    assert f"/lm_head/{product}" in names


def test_reductions_are_named_after_their_layer(artifact):
    def sites(profile):
        names = nodes(artifact / prefill_file(profile))
        return {name for name in names if name.endswith(("/MergeTokens", "/EvictTokens"))}

    assert sites("full") == set()
    assert sites("weighted_merge-single") == {"/layers.1/reduce/MergeTokens"}
    assert sites("fastv-constant") >= {"/layers.1/reduce/EvictTokens", "/layers.2/reduce/EvictTokens"}


def test_encoder_nodes_are_named_after_its_layers(artifact):
    names = nodes(artifact / ENCODER_FILE)
    assert {"/encoder/conv1/Conv", "/encoder/conv2/Conv", "/projector/Gemm"} <= names
    assert {
        f"/encoder/layers.{i}/{part}/Gemm" for i in (0, 1) for part in ("attn/q_proj", "mlp/fc1")
    } <= names


def test_node_names_are_unique_in_every_graph(artifact):
    for path in graph_files(artifact):
        names = [node.name for node in onnx.load(path, load_external_data=False).graph.node]
        assert all(names)
        assert len(names) == len(set(names))
