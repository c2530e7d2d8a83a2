"""Every version of an op behind one call, from NumPy arrays to NumPy arrays.

A further version is a further entry of VERSIONS: a function `(op_type, inputs, heads, attributes) -> outputs`
and the dtype that it computes in. Tests draw their data in that dtype and compare by its tolerance.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from functools import cache
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
from hypothesis import settings
from numpy.typing import ArrayLike, NDArray
from onnx import helper

from fastadasp.export.graphs.lowering.fixed_lengths import FIXED_LENGTHS, append_reduction
from fastadasp.export.graphs.lowering.lowering import Cut, SpanValues
from fastadasp.plugins.body import (
    BOOL,
    DOMAIN,
    DOMAIN_VERSION,
    FLOAT,
    INT64,
    IR_VERSION,
    OPSET,
    Body,
    Value,
    value,
)
from fastadasp.plugins.causal_attention import function as causal
from fastadasp.plugins.causal_attention import reference as causal_reference
from fastadasp.plugins.causal_attention.op import (
    ATTENTION,
    ATTENTION_HEAD_MASS,
    ATTENTION_MASS,
    LAST_QUERY_MASS,
)
from fastadasp.plugins.decode_attention import function as decode
from fastadasp.plugins.decode_attention import reference as decode_reference
from fastadasp.plugins.decode_attention.op import DECODE_ATTENTION, LAST_ROW_ATTENTION
from fastadasp.plugins.evict_cache import function as cache_eviction
from fastadasp.plugins.evict_cache import reference as cache_eviction_reference
from fastadasp.plugins.evict_cache.op import EVICT_CACHE
from fastadasp.plugins.evict_tokens import function as evict
from fastadasp.plugins.evict_tokens import reference as evict_reference
from fastadasp.plugins.evict_tokens.op import EVICT_TOKENS
from fastadasp.plugins.gated_mlp import function as mlp
from fastadasp.plugins.gated_mlp import reference as mlp_reference
from fastadasp.plugins.gated_mlp.op import GATED_MLP
from fastadasp.plugins.merge_tokens import function as merge
from fastadasp.plugins.merge_tokens import reference as merge_reference
from fastadasp.plugins.merge_tokens.op import (
    EDGE_SIMILARITY,
    MERGE_EDGES,
    MERGE_PAIRS,
    MERGE_TOKENS,
    RANDOM_SCORE,
)
from fastadasp.plugins.select_groups import function as groups
from fastadasp.plugins.select_groups import reference as groups_reference
from fastadasp.plugins.select_groups.op import SELECT_GROUPS
from fastadasp.plugins.step_product import function as product
from fastadasp.plugins.step_product import reference as product_reference
from fastadasp.plugins.step_product.op import STEP_PRODUCT

Array = NDArray[Any]

TOLERANCE = {np.dtype(np.float64): 1e-12, np.dtype(np.float32): 1e-5}
"""Largest error of an op, relative to the scale of its result."""

TYPES = {
    **dict.fromkeys(("span", "removed", "count", "links", "first"), INT64),
    "many": BOOL,
}  # of inputs and outputs that are not floating


@dataclass(frozen=True)
class Heads:
    """Head layout of an attention op."""

    query: int
    kv: int
    dim: int

    @property
    def width(self) -> int:
        return self.query * self.dim


@dataclass(frozen=True)
class Op:
    """How one op is called: its tensors with their axes, its definition and its function bodies."""

    takes: Mapping[str, str]
    gives: Mapping[str, str]
    reference: Callable[..., Any]
    functions: Callable[[Heads | None], list[onnx.FunctionProto]]


def _heads(heads: Heads | None) -> tuple[int, int, int]:
    assert heads is not None
    return heads.query, heads.kv, heads.dim


def _site(reference: Callable[..., Any]) -> Callable[..., Any]:
    """Give a definition the span and the count as its last three integers."""
    return lambda *inputs, **_: reference(*inputs[:-2], *map(int, inputs[-2]), int(inputs[-1][0]))


def _plain(reference: Callable[..., Any]) -> Callable[..., Any]:
    return lambda *inputs, heads: reference(*inputs)


SITE = {"span": "2", "removed": "1"}
QKV = {"query": "rows width", "key": "kv_heads rows head_dim", "value": "kv_heads rows head_dim"}
PREFIX = dict.fromkeys(("prefix_key", "prefix_value"), "requests kv_heads prefix head_dim")
POOL = dict.fromkeys(("pool_key", "pool_value"), "requests kv_heads pool head_dim")
OWN = dict.fromkeys(("own_key", "own_value"), "requests kv_heads beams head_dim")
SIMILARITY = [merge.edge_similarity()]

OPS = {
    EDGE_SIMILARITY: Op(
        {"key": QKV["key"], "span": "2"},
        {"similarity": "edges"},
        lambda key, span, **_: merge_reference.edge_similarity(key, *map(int, span)),
        lambda _: SIMILARITY,
    ),
    MERGE_EDGES: Op(
        {"hidden": "rows hidden", "score": "edges", "weight": "rows", **SITE},
        {"merged": "kept hidden"},
        _site(merge_reference.merge_edges),
        lambda _: [merge.merge_edges()],
    ),
    MERGE_TOKENS: Op(
        {"hidden": "rows hidden", "key": QKV["key"], "weight": "rows", **SITE},
        {"merged": "kept hidden"},
        _site(merge_reference.merge_tokens),
        lambda _: [*SIMILARITY, merge.merge_edges(), merge.merge_tokens()],
    ),
    MERGE_PAIRS: Op(
        {"hidden": "rows hidden", "key": QKV["key"], **SITE},
        {"merged": "kept hidden"},
        _site(merge_reference.merge_pairs),
        lambda _: [*SIMILARITY, merge.merge_pairs()],
    ),
    RANDOM_SCORE: Op(
        {"count": "1"},
        {"score": "count"},
        lambda count, heads, seed: merge_reference.random_score(int(count[0]), seed),
        lambda _: [merge.random_score()],
    ),
    EVICT_TOKENS: Op(
        {"hidden": "rows hidden", "score": "length", **SITE},
        {"kept": "kept hidden"},
        _site(evict_reference.evict_tokens),
        lambda _: [evict.evict_tokens()],
    ),
    SELECT_GROUPS: Op(
        {"hidden": "rows hidden", "weight": "rows", "relevance": "rows", **SITE},
        {"score": "edges", "links": "1", "kept": "groups", "first": "groups"},
        _site(groups_reference.select_groups),
        lambda _: [groups.select_groups()],
    ),
    EVICT_CACHE: Op(
        {"key": QKV["key"], "value": QKV["value"], "score": "kv_heads length", **SITE},
        {"kept_key": "kv_heads kept head_dim", "kept_value": "kv_heads kept head_dim"},
        _site(cache_eviction_reference.evict_cache),
        lambda heads: [cache_eviction.evict_cache(*_heads(heads)[1:])],
    ),
    ATTENTION: Op(
        QKV,
        {"output": "rows width"},
        lambda *inputs, heads: causal_reference.causal_attention(*inputs)[0],
        lambda heads: [causal.causal_attention(*_heads(heads))],
    ),
    ATTENTION_MASS: Op(
        QKV,
        {"output": "rows width", "mass": "rows"},
        _plain(causal_reference.causal_attention),
        lambda heads: [causal.causal_attention_mass(*_heads(heads))],
    ),
    ATTENTION_HEAD_MASS: Op(
        QKV,
        {"output": "rows width", "mass": "kv_heads rows"},
        _plain(causal_reference.causal_attention_head_mass),
        lambda heads: [causal.causal_attention_head_mass(*_heads(heads))],
    ),
    LAST_QUERY_MASS: Op(
        {"query": QKV["query"], "key": QKV["key"]},
        {"mass": "rows"},
        _plain(causal_reference.last_query_mass),
        lambda heads: [causal.last_query_mass(*_heads(heads))],
    ),
    DECODE_ATTENTION: Op(
        {
            "query": "rows width",
            **PREFIX,
            "prefix_bias": "requests 1 1 prefix",
            **POOL,
            "pool_bias": "requests beams pool",
            **OWN,
            "own_bias": "beams beams",
        },
        {"output": "rows width"},
        _plain(decode_reference.decode_attention),
        lambda heads: [decode.decode_attention(*_heads(heads))],
    ),
    LAST_ROW_ATTENTION: Op(
        {**QKV, "query": "1 width"},
        {"output": "1 width"},
        _plain(decode_reference.last_row_attention),
        lambda heads: [decode.last_row_attention(*_heads(heads))],
    ),
    GATED_MLP: Op(
        {"x": "rows hidden", "gate": "wide hidden", "up": "wide hidden", "down": "hidden wide"},
        {"output": "rows hidden"},
        _plain(mlp_reference.gated_mlp),
        lambda _: [mlp.gated_mlp()],
    ),
    STEP_PRODUCT: Op(
        {"x": "rows hidden", "weight": "wide hidden", "many": ""},
        {"output": "rows wide"},
        lambda x, weight, _, heads: product_reference.step_product(x, weight),
        lambda _: [product.step_product()],
    ),
}

Run = Callable[[str, Sequence[Array], Heads | None, Mapping[str, int]], Sequence[Array]]


@dataclass(frozen=True)
class Version:
    """One implementation of all ops, and the dtype that it computes in."""

    run: Run
    dtype: np.dtype[Any]

    def __call__(self, op_type: str, *inputs: Array, heads: Heads | None = None, **attributes: int) -> Any:
        """The output of the op, or the list of its outputs where it has several."""
        outputs = self.run(op_type, inputs, heads, attributes)
        return outputs[0] if len(outputs) == 1 else list(outputs)

    @property
    def tolerance(self) -> float:
        return TOLERANCE[self.dtype]

    def normal(self, rng: np.random.Generator, *shape: int) -> Array:
        """Standard normal data of this version's dtype."""
        return rng.standard_normal(shape).astype(self.dtype)

    def assert_close(self, actual: Array, expected: ArrayLike, scale: ArrayLike = 1.0) -> None:
        """Same dtype and shape, finite, and within the tolerance of the dtype times `scale`."""
        expected = np.asarray(expected, np.float64)
        assert actual.dtype == self.dtype
        assert actual.shape == expected.shape
        assert np.isfinite(actual).all()
        error = np.abs(actual.astype(np.float64) - expected)
        allowed = self.tolerance * np.asarray(scale, np.float64) + float(np.finfo(self.dtype).tiny)
        assert (error <= allowed).all(), f"error {error.max():.3g}, allowed {np.max(allowed):.3g}"


def assert_same_bits(actual: Array, expected: Array) -> None:
    """Equal to the last bit: -0.0 is not 0.0."""
    assert (actual.dtype, actual.shape) == (expected.dtype, expected.shape)
    assert actual.tobytes() == expected.tobytes()


def site(start: int, length: int, removed: int) -> tuple[Array, Array]:
    """The inputs `span` and `removed`."""
    return np.array([start, length], np.int64), np.array([removed], np.int64)


@cache
def model(op_type: str, heads: Heads | None = None, attributes: tuple[tuple[str, int], ...] = ()) -> Any:
    """A model of one node of the op, with its function bodies."""
    op = OPS[op_type]
    node = helper.make_node(op_type, list(op.takes), list(op.gives), domain=DOMAIN, **dict(attributes))
    graph = helper.make_graph([node], op_type, _values(op.takes), _values(op.gives))
    opsets = [helper.make_opsetid("", OPSET), helper.make_opsetid(DOMAIN, DOMAIN_VERSION)]
    return helper.make_model(
        graph, opset_imports=opsets, ir_version=IR_VERSION, functions=op.functions(heads)
    )


@cache
def session(
    op_type: str,
    heads: Heads | None = None,
    attributes: tuple[tuple[str, int], ...] = (),
    optimised: bool = True,
    threads: int = 1,
) -> Any:
    """The model of an op on ONNX Runtime's CPU provider."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    levels = onnxruntime.GraphOptimizationLevel
    options.graph_optimization_level = levels.ORT_ENABLE_ALL if optimised else levels.ORT_DISABLE_ALL
    serialised = model(op_type, heads, attributes).SerializeToString()
    return onnxruntime.InferenceSession(serialised, options, providers=["CPUExecutionProvider"])


def optimised(op_type: str) -> Any:
    """The model of an op as ONNX Runtime runs it."""
    with TemporaryDirectory() as folder:
        options = onnxruntime.SessionOptions()
        options.optimized_model_filepath = f"{folder}/model.onnx"
        onnxruntime.InferenceSession(
            model(op_type).SerializeToString(), options, providers=["CPUExecutionProvider"]
        )
        return onnx.load(options.optimized_model_filepath)


def _values(tensors: Mapping[str, str]) -> list[onnx.ValueInfoProto]:
    return [
        value(
            name,
            TYPES.get(name, FLOAT),
            [int(axis) if axis.isdigit() else axis for axis in axes.split()],
        )
        for name, axes in tensors.items()
    ]


def _reference(
    op_type: str, inputs: Sequence[Array], heads: Heads | None, attributes: Mapping[str, int]
) -> Sequence[Array]:
    outputs = OPS[op_type].reference(*inputs, heads=heads, **attributes)
    return outputs if isinstance(outputs, tuple) else (outputs,)


def _onnx(optimised: bool) -> Run:
    def run(
        op_type: str, inputs: Sequence[Array], heads: Heads | None, attributes: Mapping[str, int]
    ) -> Sequence[Array]:
        feeds = dict(zip(OPS[op_type].takes, inputs, strict=True))
        runner = session(op_type, heads, tuple(attributes.items()), optimised)
        outputs: list[Array] = runner.run(None, feeds)
        return outputs

    return run


def _fixed_lengths(
    op_type: str, inputs: Sequence[Array], heads: Heads | None, attributes: Mapping[str, int]
) -> Sequence[Array]:
    if op_type not in FIXED_LENGTHS:
        pytest.skip("no reduction, or one whose lengths depend on the data")
    outputs: list[Array] = _fixed_session(op_type).run(
        None, dict(zip(OPS[op_type].takes, inputs, strict=True))
    )
    return outputs


@cache
def _fixed_session(op_type: str) -> Any:
    """What a device gets instead of the function, on ONNX Runtime's CPU provider."""
    op, body = OPS[op_type], Body()
    start, length = (body.op("Gather", "span", body.ints(i), axis=0) for i in (0, 1))
    cut = Cut(SpanValues(start, length, 0, 0), length, Value("removed"), Fraction(0))
    append_reduction(body, op_type, list(op.takes)[:-2], cut, list(op.gives), Value)
    graph = helper.make_graph(body.nodes, op_type, _values(op.takes), _values(op.gives))
    opsets = [helper.make_opsetid("", OPSET)]
    built = helper.make_model(graph, opset_imports=opsets, ir_version=IR_VERSION)
    return onnxruntime.InferenceSession(built.SerializeToString(), providers=["CPUExecutionProvider"])


VERSIONS = {
    "reference-float64": Version(_reference, np.dtype(np.float64)),
    "reference-float32": Version(_reference, np.dtype(np.float32)),
    "onnx-float32": Version(_onnx(optimised=True), np.dtype(np.float32)),
    "onnx-unoptimised-float32": Version(_onnx(optimised=False), np.dtype(np.float32)),
    "fixed-lengths-float32": Version(_fixed_lengths, np.dtype(np.float32)),
}

every_version = pytest.mark.parametrize("version", VERSIONS.values(), ids=VERSIONS)

examples = settings(max_examples=60)
"""For property tests: enough draws to meet every corner, no timing."""
