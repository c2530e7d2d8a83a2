"""The seam between the model, described once, and a backend: what each backend must lower."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Any, Protocol

import onnx

from ....plugins.body import Value
from ....plugins.relative_attention.function import SkewedBias
from ....profiles.flops import DecoderDims
from ...checkpoint.derived import Weight
from ...checkpoint.precision import Precision
from ...checkpoint.quantized import QuantizedWeight
from ..graph import Graph, Rounding


@dataclass(frozen=True)
class SpanValues:
    """The audio rows that reductions work on, before the first of them.

    A backend that wants lengths as values takes `start` and `length`; one that wants them from shapes takes
    the numbers of rows beside the text: the span starts `before` rows after the text before the audio and
    ends `after` rows before the text after it, in every layer.
    """

    start: Value  # int64 of shape (1,)
    length: Value  # int64 of shape (1,)
    before: int
    after: int


@dataclass(frozen=True)
class Cut:
    """How many rows one reduction removes, and where."""

    span: SpanValues
    length: Value  # rows of the span as they reach this layer, int64 of shape (1,)
    removed: Value  # int64 of shape (1,)
    ratio: Fraction


@dataclass(frozen=True)
class KvPart:
    """Keys and values that a decode step attends to, in KV layout, behind an axis of requests if any.

    The bias is added to the scores of each beam, 0 for rows that it sees: (beams, rows), or of the prefix of
    several requests (requests, 1, 1, rows) and of their pools (requests, beams, rows). Without one, all rows
    are seen.
    """

    key: str
    value: str
    bias: str | None = None


class Lowering(Protocol):
    """Emits nodes for the ops whose best form differs between backends.

    Rows are (rows, width) throughout; keys and values are in KV layout (`profiles/kv_layout.py`). Attention
    scales its scores by head_dim ** -0.5; what a model does beyond that is in the queries already.
    """

    name: str
    precision: Precision
    takes_data_dependent_lengths: bool  # whether a tensor may be as long as its data make it
    has_loops: bool  # whether it is good at repeating nodes, which keeps memory small
    normalises_over_time: bool  # whether it has InstanceNormalization
    evicts_caches: bool  # whether each KV head of a cache may keep rows of its own
    sorts_pairs: bool  # whether heads whose neighbours make rotary pairs are brought into halves first
    pools_in_place: bool  # whether a decode step takes one request, and writes its rows into its pool
    domains: tuple[str, ...]  # opset domains beside the standard one and the project's
    turns_many_rows: bool  # whether products of a step are faster as W x^T where it has `MANY_ROWS`

    @property
    def for_steps(self) -> Lowering:
        """What decode step and prompt adapter are built with: itself, where one backend runs all graphs."""

    def decoder_functions(self, dims: DecoderDims, reduction: str | None = None) -> list[onnx.FunctionProto]:
        """Bodies of the ops that prefill and decode graphs use, the op type `reduction` among them."""

    def quantized_product(
        self, g: Graph, x: str, weight: QuantizedWeight, name: str, rounding: Rounding, **output: Any
    ) -> Value:
        """x W^T for rows x (rows, in)."""

    def full_attention(self, g: Graph, name: str, num_heads: int, query: str, key: str, value: str) -> str:
        """Bidirectional attention; all three are (rows, heads * head_dim)."""

    def rounded_attention(
        self, g: Graph, name: str, heads: tuple[int, int], query: str, key: str, value: str
    ) -> str:
        """The same for so many heads and their head_dim; all that is multiplied may be rounded to 8 bits."""

    def relative_chunks(self, num_heads: int) -> int | None:
        """Into how many chunks `relative_attention` cuts its queries; None for chunks of a fixed length."""

    def relative_attention(
        self,
        g: Graph,
        name: str,
        heads: tuple[int, int],
        query: str,
        key: str,
        value: str,
        gate: str,
        skewed: SkewedBias,
    ) -> str:
        """Bidirectional attention with a bias by distance that each query gates.

        The rows are (rows, heads * head_dim) for `heads`, a number and head_dim; the gate is (rows, heads).
        """

    def causal_attention(
        self, g: Graph, name: str, dims: DecoderDims, query: str, key: str, value: str
    ) -> str:
        """Causal attention of the prefill."""

    def causal_attention_mass(
        self, g: Graph, name: str, dims: DecoderDims, query: str, key: str, value: str, by_head: bool = False
    ) -> tuple[str, str]:
        """Causal attention, and its column sums: (rows,), or those of each KV head, (kv_heads, rows)."""

    def last_row_attention(
        self, g: Graph, name: str, dims: DecoderDims, query: str, key: str, value: str
    ) -> str:
        """Attention of one last row, (1, heads * head_dim), to all rows."""

    def decode_attention(
        self, g: Graph, name: str, dims: DecoderDims, query: str, parts: Mapping[str, KvPart]
    ) -> str:
        """Attention of the beams of a step to "prefix" and "pool", and to their "own" rows.

        The parts are those of several requests, or, where `pools_in_place`, of one whose pool has its own
        rows already.
        """

    def add_norm(
        self, g: Graph, name: str, residual: str, branch: str, weight: Weight, eps: float
    ) -> tuple[str, str]:
        """residual + branch, and its RMS normalisation."""

    def gated_mlp(self, g: Graph, name: str, x: str, gate: str, up: str, down: str) -> str:
        """SwiGLU over many rows; the weights are names of initializers, (out, in)."""

    def random_score(self, g: Graph, name: str, count: str, seed: int) -> str:
        """Reproducible scores in [0, 1): (count,) of float32. `count` is int64 of shape (1,)."""

    def segment_ranks(self, g: Graph, name: str, score: str, segment: str, segments: int) -> str:
        """The rank of each row within its segment by falling score, ties from the lower row on: from 0 on.

        All are (length,); `segment` says which of the `segments` a row belongs to, of equal length but for a
        row. NaN counts as the smallest score.
        """

    def last_query_mass(self, g: Graph, name: str, dims: DecoderDims, query: str, key: str) -> str:
        """The attention of the last row to every row, summed over the heads: (rows,) of float32."""

    def reduce(
        self,
        g: Graph,
        name: str,
        op_type: str,
        inputs: Sequence[str],
        cut: Cut,
        outputs: Sequence[str] | int = 1,
    ) -> str:
        """One op that removes rows, of any type; give the first of its outputs."""
