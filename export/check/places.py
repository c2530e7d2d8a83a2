"""Places inside a model that a graph and the torch reference have in common, in the order of execution.

Nodes are named after the model, so a place is a node on one side and a module on the other.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

import onnx

from ...plugins.gated_mlp.op import GATED_MLP
from ...plugins.step_product.op import STEP_PRODUCT
from ...profiles import signature as sig
from ...profiles.flops import DecoderDims
from ...profiles.methods import METHODS
from ..graphs.reduction import REDUCERS
from ..model.families.parts.reference import ModuleNames, TransformersReference
from .graphs import DECODE, ENCODER, GraphName

Nodes = dict[str, onnx.NodeProto]  # by name

ENCODER_PARTS = (
    ("attention norm", "attn_norm", "output"),
    ("q_proj", "attn/q_proj", "output"),
    ("k_proj", "attn/k_proj", "output"),
    ("v_proj", "attn/v_proj", "output"),
    ("attention", "attn/out_proj", "input"),
    ("out_proj", "attn/out_proj", "output"),
    ("MLP norm", "mlp_norm", "output"),
    ("fc1", "mlp/fc1", "output"),
    ("fc2", "mlp/fc2", "output"),
)
KEYS_AND_VALUES = "keys and values"
CACHED, KEPT = ("rotated keys", "cached values"), ("kept keys", "kept values")
REDUCTION, INPUT_REDUCTION = "reduction", "reduction at the input"
HEAD = "lm_head"
DECODER_PARTS = (
    ("attention norm", "attn_norm", "output"),
    ("q_proj", "attn/q_proj", "output"),
    ("q_norm", "attn/q_norm", "output"),
    ("k_proj", "attn/k_proj", "output"),
    ("k_norm", "attn/k_norm", "output"),
    ("v_proj", "attn/v_proj", "output"),
    (KEYS_AND_VALUES, "", ""),
    ("attention", "attn/o_proj", "input"),
    ("o_proj", "attn/o_proj", "output"),
    (REDUCTION, "reduce", "input"),
    ("MLP norm", "mlp_norm", "output"),
    ("gate_proj", "mlp/gate_proj", "output"),
    ("up_proj", "mlp/up_proj", "output"),
    ("down_proj", "mlp/down_proj", "output"),
    ("MLP", "mlp", "output"),
)
"""Part of a layer, how its node's name ends, and which side of node and module. A graph may lack some nodes:
where one op is the whole MLP, its projections are inside. The family says which module a part is.
"""
OF_ALL_ROWS = "attention norm", "k_proj", "k_norm", "v_proj"
"""Parts of the last layer that a prefill computes for more than its last row."""
READ_BY = {"reduce": "mlp_norm"}
"""Node without a module of its own -> the part that reads its rows."""

TAPPED_OPS = {
    *("Gemm", "LayerNormalization", "RMSNormalization", "SkipSimplifiedLayerNormalization"),
    *(GATED_MLP, STEP_PRODUCT, *(reducer.op_type for reducer in REDUCERS.values())),
    *("MatMulNBits", "QuantizeLinear"),  # of quantised matrices; the second reads the rows of a product
}
"""Ops whose first output is the part that their name says."""
QUANTIZED_ENDS = ("Mul", "Add")  # of a product by a quantised matrix: its scales, its bias
LINEARS = {
    *(
        stem.rpartition("/")[2]
        for _, stem, _ in (*ENCODER_PARTS, *DECODER_PARTS)
        if "proj" in stem or "fc" in stem
    ),
    *("projector", "lm_head"),
}
CACHE_OPS = {REDUCERS[name].op_type for name, method in METHODS.items() if method.is_of_caches}


@dataclass(frozen=True)
class Place:
    """One tensor of a graph, and where the reference computes the same."""

    part: str
    value: str  # name in the graph
    layer: int | None = None
    module: str | None = None  # in transformers; None where the reference has it under the name of the value
    side: str = "output"
    rows: str = "all"  # which rows of the reference the graph computes: "all", "first", "last"

    def __str__(self) -> str:
        """As a message names it."""
        return self.part if self.layer is None else f"layer {self.layer}, {self.part}"


EMBEDDED = ("/encoder/embed_positions/Add", "/encoder/embed_positions/Slice")
"""What may give the first rows of an encoder; a node of another name gives those without added positions."""


def places_of(
    graph: GraphName, model: onnx.ModelProto, dims: DecoderDims, reference: TransformersReference
) -> list[Place]:
    """Every place of a graph.

    Args:
        graph: which one.
        model: its ONNX model, without weights.
        dims: sizes of the decoder.
        reference: how the family names its modules.
    """
    nodes = {
        node.name.removesuffix(f"/{node.op_type}"): node for node in model.graph.node if _is_tapped(node)
    }
    if graph == ENCODER:
        encoder = _encoder if "/encoder/embed_positions" in nodes else _clip_encoder
        weights = [
            Place("row weights", each.name) for each in model.graph.output if each.name == sig.ROW_WEIGHTS
        ]
        return [*encoder(nodes, dims, reference.encoder), *weights]
    return list(_decoder(nodes, graph, dims, reference.decoder))


def _is_tapped(node: onnx.NodeProto) -> bool:
    part = node.name.split("/")[-2:-1]
    ends_product = node.op_type in QUANTIZED_ENDS and LINEARS.issuperset(part)
    return node.op_type in TAPPED_OPS or ends_product or node.name in EMBEDDED


def output_places(graph: GraphName, dims: DecoderDims) -> list[Place]:
    """The places that every backend shows, because they are outputs: of a decoder, two in each layer."""
    if graph == ENCODER:
        return [Place("projector", sig.AUDIO_EMBEDS)]
    caches = (place for i in range(dims.num_layers) for place in _keys_and_values(graph, i))
    return [*caches, *_scores()]


def _encoder(nodes: Nodes, dims: DecoderDims, modules: ModuleNames) -> Iterator[Place]:
    i, embedded = 0, nodes.get("/encoder/embed_positions")
    if embedded:
        first = modules.part("attn_norm", 0)
        yield Place("convolutions", embedded.output[0], None, first, "input", rows="first")
    while f"/encoder/layers.{i}/attn_norm" in nodes:
        for part, stem, side in ENCODER_PARTS:
            value = _value(nodes, f"/encoder/layers.{i}/{stem}", side)
            yield Place(part, value, i, modules.part(stem, i), side, rows="first")
        i += 1
    final = nodes["/encoder/final_norm"].output[0]
    yield Place("final norm", final, None, modules.final_norm, rows="first")
    yield from output_places(ENCODER, dims)


def _clip_encoder(nodes: Nodes, dims: DecoderDims, modules: ModuleNames) -> Iterator[Place]:
    """Of an encoder of whole clips: the parts of a layer that its family names, in this order."""
    count = 1 + max(map(_layer_number, nodes), default=-1)
    for i in range(count):
        for stem in modules.parts:
            if f"/encoder/layers.{i}/{stem}" in nodes:
                value = nodes[f"/encoder/layers.{i}/{stem}"].output[0]
                yield Place(stem, str(value), i, modules.part(stem, i))
    yield from output_places(ENCODER, dims)


def _layer_number(node: str) -> int:
    found = re.match(r"/encoder/layers\.(\d+)/", node)
    return int(found[1]) if found else -1


def _decoder(nodes: Nodes, graph: GraphName, dims: DecoderDims, modules: ModuleNames) -> Iterator[Place]:
    if "/input/reduce" in nodes:
        first = modules.part("attn_norm", 0)
        yield Place(INPUT_REDUCTION, nodes["/input/reduce"].output[0], None, first, "input")
    for i in range(dims.num_layers):
        only_last = graph != DECODE and i == dims.num_layers - 1
        evicts = _evicts(nodes.get(f"/layers.{i}/reduce"))
        for part, stem, side in DECODER_PARTS:
            if part == KEYS_AND_VALUES and not evicts:
                yield from _keys_and_values(graph, i)
            elif part == REDUCTION and evicts:
                yield from _keys_and_values(graph, i, KEPT)
            elif f"/layers.{i}/{stem}" in nodes:
                rows = "last" if only_last and part not in OF_ALL_ROWS else "all"
                module = modules.part(READ_BY.get(stem, stem), i)
                yield Place(part, _value(nodes, f"/layers.{i}/{stem}", side), i, module, side, rows)
    yield Place("final norm", nodes["/norm"].output[0], None, modules.final_norm)
    yield Place(HEAD, nodes["/lm_head"].output[0], None, HEAD)
    yield from _scores()


def _evicts(reduction: onnx.NodeProto | None) -> bool:
    """Whether it works on the cache: then keys and values are what it leaves, after the attention."""
    return reduction is not None and reduction.op_type in CACHE_OPS


def _scores() -> Iterator[Place]:
    yield Place("scores", sig.TOP_LOGITS)
    yield Place("normaliser", sig.LOG_SUM_EXP)


def _keys_and_values(graph: GraphName, i: int, parts: tuple[str, str] = CACHED) -> Iterator[Place]:
    if graph == DECODE:
        names = sig.grown(sig.pool_key(i)), sig.grown(sig.pool_value(i))
    else:
        names = sig.prefix_key(i), sig.prefix_value(i)
    for part, name in zip(parts, names, strict=True):
        yield Place(part, name, i)


def _value(nodes: Nodes, stem: str, side: str) -> str:
    """The name of a node's first output; on the side of the input, that of the reduced or projected rows."""
    node = nodes[stem]
    if side == "output":
        return str(node.output[0])
    for name in (f"{stem}/product/rows", f"{stem}/rows", f"{stem}/product"):
        if name in nodes:  # of a quantised matrix
            return str(nodes[name].input[0])
    return str(node.input[0] if node.op_type in ("Gemm", "MatMulNBits") else node.output[0])
