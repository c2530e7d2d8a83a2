"""What keys and values in 16 or 8 bits would cost in a decode step on ONNX Runtime: CPU time against float32.

The decode graph of the artifact is edited: the prefix comes in another format, and is made float32 in front
of the attention, or multiplied as the integers that it is. Random weights, 3012 rows of prefix in every
layer, 63 rows of pool for each beam, one thread. Variants take turns in one process; ratios are of medians.

    python bench/kv_precision.py -o bench/results/kv_precision.json
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
import time
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort
from compare import NEW_TOKENS, SIZES
from onnx import TensorProto, helper, numpy_helper
from random_checkpoint import write_checkpoint

from fastadasp.export.options import BuildOptions
from fastadasp.export.pipeline import build
from fastadasp.profiles import load_profile
from fastadasp.profiles import signature as sig
from fastadasp.profiles.flops import DecoderDims
from fastadasp.profiles.kv_layout import kv_shape
from fastadasp.runtime.artifact.artifact import Artifact, open_artifact
from fastadasp.runtime.artifact.weights import map_weights
from fastadasp.runtime.environment import environment
from fastadasp.runtime.onnxruntime.session import OnnxRuntimeSession

ROWS, THREADS, K = 3012, 1, 10
SCALE = np.float32(0.01)  # of all integers; a real one would be one number for each row
Feed = dict[str, Any]


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("-o", "--output", type=Path, default=Path("build/kv_precision.json"))
    parser.add_argument("--runs", type=int, default=40)
    options = parser.parse_args()
    before, records = environment(THREADS), []
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        write_checkpoint(folder / "checkpoint", SIZES)
        for weights in (None, "int8"):
            artifact = folder / f"artifact-{weights}"
            build(folder / "checkpoint", artifact, BuildOptions((load_profile("full"),), quantize=weights))
            records += measure(open_artifact(artifact), weights or "fp32", options.runs)
    result = {"model": SIZES, "rows": ROWS, "environment": asdict(before), "records": records}
    options.output.parent.mkdir(parents=True, exist_ok=True)
    options.output.write_text(json.dumps(result, indent=1) + "\n")


def measure(artifact: Artifact, weights: str, runs: int) -> list[dict[str, Any]]:
    """Every variant in turn, for 1 and 5 beams."""
    graphs = artifact.graphs("onnxruntime")
    arrays = map_weights(artifact, artifact.weights(graphs).decoder)
    content, dims = artifact.read(graphs.decode), artifact.manifest.decoder.dims
    sessions = {
        name: OnnxRuntimeSession(
            artifact.path(graphs.decode),
            arrays,
            graph=edit(onnx.load_from_string(content), dims).SerializeToString(),
            threads=THREADS,
            prepack=True,
        )
        for name, (edit, _) in VARIANTS.items()
    }
    records = []
    for beams in (1, 5):
        feeds = {name: feed(dims, beams, prefix) for name, (_, prefix) in VARIANTS.items()}
        times = alternate(sessions, feeds, runs)
        for name, found in times.items():
            ratio = statistics.median(found) / statistics.median(times["fp32"])
            sizes = [feeds[name][each].tensor_size_in_bytes() for each in prefix_names(dims)]
            case = {"weights": weights, "beams": beams, "kv": name, "prefix_bytes": sum(sizes)}
            records.append({**case, "cpu_ms": statistics.median(found), "of_fp32": ratio})
            print(f"{weights:5} {beams} beams  {name:14} {records[-1]['cpu_ms']:7.2f} ms {ratio:6.2f}")
    return records


def alternate(
    sessions: dict[str, OnnxRuntimeSession], feeds: dict[str, Feed], runs: int
) -> dict[str, list[float]]:
    """CPU milliseconds of each run; the first round warms up and is not counted."""
    times: dict[str, list[float]] = {name: [] for name in sessions}
    for i in range(runs + 1):
        for name, session in sessions.items():
            begin = time.process_time()
            session.run(feeds[name])
            if i:
                times[name].append((time.process_time() - begin) * 1e3)
    return times


def prefix_names(dims: DecoderDims) -> list[str]:
    """Of all layers."""
    return [name(i) for i in range(dims.num_layers) for name in (sig.prefix_key, sig.prefix_value)]


def feed(dims: DecoderDims, beams: int, prefix: Callable[[Any], Any]) -> Feed:
    """The inputs of a late step; `prefix` makes of float32 what a variant takes."""
    random = np.random.default_rng(0)
    pool = (NEW_TOKENS - 1) * beams
    inputs: Feed = {
        sig.TOKEN_IDS: np.arange(2, 2 + beams)[None],
        sig.PREFIX_LENGTHS: np.full((dims.num_layers, 1), ROWS),
        sig.STEPS: np.array([NEW_TOKENS - 1]),
        sig.POOL_MASK: np.ones((1, beams, pool), np.bool_),
        sig.NUM_CANDIDATES: np.array([K]),
    }
    for i in range(dims.num_layers):
        for name in (sig.pool_key(i), sig.pool_value(i)):
            inputs[name] = ort.OrtValue.ortvalue_from_numpy(numbers(random, (1, *kv_shape(dims, pool))))
        for name in (sig.prefix_key(i), sig.prefix_value(i)):
            inputs[name] = prefix(numbers(random, (1, *kv_shape(dims, ROWS))))
    return inputs


def numbers(random: np.random.Generator, shape: tuple[int, ...]) -> Any:
    """Of the size of keys and values."""
    return (0.3 * random.standard_normal(shape)).astype(np.float32)


def cast(model: onnx.ModelProto, dims: DecoderDims, element: int, scaled: bool = False) -> onnx.ModelProto:
    """The prefix comes as `element` and is made float32, a layer at a time."""
    names, graph = set(prefix_names(dims)), model.graph
    for node in graph.node:
        for at, name in enumerate(node.input):
            if name in names:
                node.input[at] = f"{name}.float32"
    for tensor in graph.input:
        if tensor.name in names:
            tensor.type.tensor_type.elem_type = element
    for name in sorted(names):
        made = helper.make_node("Cast", [name], [f"{name}.float32"], to=TensorProto.FLOAT)
        if scaled:
            made = helper.make_node("DequantizeLinear", [name, "kv_scale"], [f"{name}.float32"])
        graph.node.insert(0, made)
    if scaled:
        graph.initializer.append(numpy_helper.from_array(np.array(SCALE), "kv_scale"))
    return model


def integers(model: onnx.ModelProto, dims: DecoderDims) -> onnx.ModelProto:
    """Both products with the prefix are MatMulInteger: the query and the probabilities are made uint8."""
    names, graph = set(prefix_names(dims)), model.graph
    for tensor in graph.input:
        if tensor.name in names:
            tensor.type.tensor_type.elem_type = TensorProto.INT8
    function = next(each for each in model.functions if each.name == "DecodeAttention")
    nodes = list(function.node)
    transposed = next(n for n in nodes if n.op_type == "Transpose" and n.input[0] == "prefix_key")
    replaced = {
        id(node): _integer_product(node)
        for node in nodes
        if node.op_type == "MatMul" and node.input[1] in ("prefix_value", transposed.output[0])
    }
    del function.node[:]
    for node in nodes:
        function.node.extend(replaced.get(id(node), [node]))
    return model


def _integer_product(node: onnx.NodeProto) -> list[onnx.NodeProto]:
    left, right, out = *node.input, node.output[0]
    rounded, scale, zero = (f"{out}_{part}" for part in ("rounded", "scale", "zero"))
    whole, number, factor, both = (f"{out}_{part}" for part in ("whole", "number", "factor", "both"))
    constant = numpy_helper.from_array(np.array(SCALE), factor)
    return [
        helper.make_node("DynamicQuantizeLinear", [left], [rounded, scale, zero]),
        helper.make_node("MatMulInteger", [rounded, right, zero], [whole]),
        helper.make_node("Cast", [whole], [number], to=TensorProto.FLOAT),
        helper.make_node("Constant", [], [factor], value=constant),
        helper.make_node("Mul", [scale, factor], [both]),
        helper.make_node("Mul", [number, both], [out]),
    ]


def _as_bf16(x: Any) -> Any:
    upper = np.ascontiguousarray(x.view(np.uint32) >> 16, np.uint32).astype(np.uint16)
    return ort.OrtValue.ortvalue_from_numpy_with_onnx_type(upper, TensorProto.BFLOAT16)


def _as_int8(x: Any) -> Any:
    return ort.OrtValue.ortvalue_from_numpy(np.clip(np.rint(x / SCALE), -127, 127).astype(np.int8))


VARIANTS: dict[
    str, tuple[Callable[[onnx.ModelProto, DecoderDims], onnx.ModelProto], Callable[[Any], Any]]
] = {
    "fp32": (lambda model, dims: model, ort.OrtValue.ortvalue_from_numpy),
    "fp16": (
        lambda model, dims: cast(model, dims, TensorProto.FLOAT16),
        lambda x: ort.OrtValue.ortvalue_from_numpy(x.astype(np.float16)),
    ),
    "bf16": (lambda model, dims: cast(model, dims, TensorProto.BFLOAT16), _as_bf16),
    "int8, cast": (lambda model, dims: cast(model, dims, TensorProto.INT8, scaled=True), _as_int8),
    "int8, products": (integers, _as_int8),
}
"""Name -> how the graph is edited, and what a float32 prefix becomes."""

if __name__ == "__main__":
    main()
