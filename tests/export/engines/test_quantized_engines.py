"""Engines of int8 and int4 weights: plans hold what the graphs have, in as few bits."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest
from click.testing import CliRunner
from onnx import TensorProto, helper

from fastadasp.export.check.matrices import compare_matrices
from fastadasp.export.checkpoint.checkpoint import Checkpoint
from fastadasp.export.checkpoint.precision import BY_NAME
from fastadasp.export.checkpoint.quantized import pack
from fastadasp.export.checkpoint.weights import weight_store
from fastadasp.export.cli import main
from fastadasp.export.engines.engine import build_engine
from fastadasp.export.engines.matrices import KERNEL_BYTES, check_plan_size, matrices_by_form
from fastadasp.export.engines.messages import EngineRequest, Expected, OptimizationProfile
from fastadasp.export.graphs.lowering.tensorrt import TensorRTLowering
from fastadasp.export.graphs.write import write_graphs
from fastadasp.export.model.families.family import load_model
from fastadasp.export.model.fit import resolve_for
from fastadasp.export.model.quantize import of_engines, quantized, quantized_matrices
from fastadasp.export.reference.dequantized import dequantized
from fastadasp.profiles import load_profile
from fastadasp.profiles.errors import CheckpointError, EngineError
from fastadasp.runtime.artifact.artifact import open_artifact

pytest.importorskip("tensorrt_rtx", reason="engines need the extra tensorrt-rtx")

SMALL = ("--max-audio-seconds", 8, "--max-beams", 4, "--max-text-rows", 32, "--max-new-tokens", 32)
PRECISIONS = {"int8": "fp16", "int4": "bf16"}
"""Format of the weights -> what its engines compute in."""


def call(*words: object) -> str:
    result = CliRunner().invoke(main, list(map(str, words)), env={"COLUMNS": "160"}, catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return result.output


@pytest.fixture(scope="module", params=PRECISIONS)
def built(request, tiny_checkpoint, tmp_path_factory):
    """The format, an artifact with engines of it, and a folder of their graphs with the weights."""
    form, precision = request.param, PRECISIONS[request.param]
    root = tmp_path_factory.mktemp(form)
    words = "--profile", "full", "--quantize", form, "--engine", "tensorrt-rtx", "--precision", precision
    call("build", tiny_checkpoint, "-o", root / "artifact", *words, *SMALL)
    model = quantized(load_model(Checkpoint(tiny_checkpoint)), form, of_engines(precision))
    store = weight_store(model.tensors, "copy", BY_NAME[precision])
    resolved = [resolve_for(load_profile("full"), model)]
    write_graphs(root, model, resolved, store, TensorRTLowering(BY_NAME[precision], 200))
    store.write(root)
    return form, root / "artifact", root


def stored_of(folder):
    from safetensors.torch import load_file

    files = (folder / "weights").glob("*.safetensors")
    return {name: tensor for file in files for name, tensor in load_file(file).items()}


def turned(tensor):
    """The bytes of a matrix with its rows as columns."""
    steps = np.ascontiguousarray(onnx.numpy_helper.to_array(tensor).astype(np.int8).T)
    is_int4 = tensor.data_type == TensorProto.INT4
    return pack(steps.view(np.uint8) & 15).tobytes() if is_int4 else steps.tobytes()


@pytest.mark.parametrize("name", ["encoder", "decode", "prefill.full"])
def test_a_plan_holds_every_matrix_bit_for_bit(built, name):
    """As it is, or with its rows as columns: the library turns some small ones over, in as few bits."""
    _, artifact, folder = built
    plan = (artifact / "engines" / f"{name}.plan").read_bytes()
    graph = onnx.load(folder / f"{name}.onnx").graph
    read = {node.input[0] for node in graph.node if node.op_type == "DequantizeLinear"}
    matrices = [tensor for tensor in graph.initializer if tensor.name in read]
    assert len(matrices) == sum(matrices_by_form(folder / f"{name}.onnx").values())
    for tensor in matrices:
        assert tensor.raw_data in plan or turned(tensor) in plan, tensor.name


def test_the_manifest_and_inspect_say_what_the_matrices_of_each_plan_are_in(built):
    form, artifact, _ = built
    manifest = open_artifact(artifact).manifest
    layers = manifest.decoder.dims.num_layers
    of_decoder = {"int8": 7 * layers + 1} if form == "int8" else {"int4": 7 * layers, "int8": 1}
    plans = manifest.engines.plans
    assert plans["decode"].quantized == plans["prefill.full"].quantized == of_decoder
    assert plans["encoder"].quantized == {"int8": 6 * 2 + 1}
    assert manifest.graphs["onnxruntime"].quantized == form
    assert f"{13} int8" in call("inspect", artifact)


def test_the_matrices_of_engines_and_of_graphs_are_the_same_numbers_near_those_of_the_checkpoint(
    built, tiny_checkpoint
):
    form, artifact, folder = built
    for_engines, for_graphs = (stored_of(each) for each in (folder, artifact))
    pairs = list(
        quantized_matrices(load_model(Checkpoint(tiny_checkpoint)), form, of_engines(PRECISIONS[form]))
    )
    assert all(finding.passed for finding in compare_matrices(pairs, for_engines))
    engine, graph = dequantized(for_engines), dequantized(for_graphs)
    assert all(engine[before.name].equal(graph[before.name]) for before, _ in pairs)


@pytest.mark.parametrize("built", ["int4"], indirect=True)
def test_check_compares_the_artifact_with_its_checkpoint(built, tiny_checkpoint):
    _, artifact, _ = built
    assert " of signed int4 " in call("check", artifact, "--checkpoint", tiny_checkpoint)


def test_a_matrix_that_lost_its_node_is_named(built):
    _, _, folder = built
    expected = Expected({}, 2, causal=False, quantized={"int8": 14})
    request = EngineRequest(
        product="tensorrt_rtx",
        name="encoder of a test",
        graph=folder / "encoder.onnx",
        plan=folder / "encoder.plan",
        profile=OptimizationProfile({}),
        sm=80,
        plugins=None,
        expected=expected,
    )
    with pytest.raises(
        EngineError, match=r"quantised matrices .*'int8': 13.*, the graph asks for .*'int8': 14"
    ):
        build_engine(request, folder / "log")


def test_inputs_that_no_block_divides_are_refused_by_name(tiny_checkpoint):
    model = load_model(Checkpoint(tiny_checkpoint))
    odd = replace(model.decoder.head.weight, shape=(8, 40))
    layer = replace(model.decoder.layers[0], down=replace(model.decoder.head, weight=odd))
    model = replace(model, decoder=replace(model.decoder, layers=(layer,)))
    with pytest.raises(CheckpointError, match=r"has 40 inputs, which blocks of 16 .* give --quantize int8"):
        quantized(model, "int4", of_engines("bf16"))
    quantized(model, "int8", of_engines("bf16"))


@pytest.mark.parametrize(("bits", "kind"), [(8, TensorProto.INT8), (4, TensorProto.INT4)])
def test_a_plan_as_large_as_with_matrices_of_16_bits_is_refused(tmp_path, bits, kind):
    """Sizes alone count, so that the files are empty."""
    numbers = 16 * KERNEL_BYTES
    stored = numbers * bits // 8
    matrix = TensorProto(name="w", data_type=kind, dims=[1, numbers])
    matrix.data_location = TensorProto.EXTERNAL
    matrix.external_data.add(key="location", value="w")
    matrix.external_data.add(key="length", value=str(stored))
    node = helper.make_node("DequantizeLinear", ["w", "s"], ["y"])
    graph = helper.make_graph([node], "one", [], [], [matrix])
    (tmp_path / "one.onnx").write_bytes(helper.make_model(graph).SerializeToString())
    for size, is_refused in ((stored + KERNEL_BYTES, False), (2 * numbers, True)):
        with (plan := tmp_path / "one.plan").open("wb") as file:
            file.truncate(size)
        if not is_refused:
            check_plan_size(tmp_path / "one.onnx", plan)
            continue
        with pytest.raises(EngineError, match=f"engine one: the plan has {size} bytes, its weights {stored}"):
            check_plan_size(tmp_path / "one.onnx", plan)


def test_a_layer_of_a_large_model_shrinks_with_its_bits(tmp_path: Path) -> None:
    """A matrix of 2048 x 2048, beside which the kernels of the plan are small."""
    sizes = {form: plan_of_one_matrix(tmp_path, form) for form in ("none", *PRECISIONS)}
    numbers = 2048 * 2048
    assert sizes["none"] > 2 * numbers
    assert numbers < sizes["int8"] < 1.1 * numbers
    assert numbers / 2 < sizes["int4"] < 0.7 * numbers


def plan_of_one_matrix(folder: Path, form: str) -> int:
    from fastadasp.export.checkpoint.derived import Derived
    from fastadasp.export.checkpoint.precision import BF16
    from fastadasp.export.checkpoint.weights import Converted
    from fastadasp.export.graphs.graph import Graph
    from fastadasp.export.model.spec import Linear, tensors_of
    from fastadasp.profiles.signature import ACTIVATION, TensorSpec

    matrix = np.random.default_rng(0).standard_normal((2048, 2048), np.float32)
    weight = Derived("w", matrix.shape, (), lambda: matrix)
    linear = Linear(weight if form == "none" else of_engines("bf16")[form](weight))
    (own := folder / form).mkdir()
    store = Converted(tensors_of(linear), BF16)
    store.write(own)
    g = Graph("product", store, TensorRTLowering(BF16, 1))
    g.input(TensorSpec("x", ACTIVATION, ("rows", 2048)))
    g.linear("x", linear, "/y", outputs=["y"])
    g.output(TensorSpec("y", ACTIVATION, ("rows", 2048)))
    (own / "y.onnx").write_bytes(g.model().SerializeToString())
    request = EngineRequest(
        product="tensorrt_rtx",
        name="y",
        graph=own / "y.onnx",
        plan=own / "y.plan",
        profile=OptimizationProfile({"x": ((1, 2048), (4, 2048), (8, 2048))}),
        sm=80,
        plugins=None,
        expected=Expected({}, 0, causal=False, quantized=matrices_by_form(own / "y.onnx")),
    )
    build_engine(request, own / "log")
    check_plan_size(request.graph, request.plan)
    return request.plan.stat().st_size
