"""Reference, ONNX function and Triton kernel give the same numbers."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pytest

from fastadasp.plugins.causal_attention import reference as causal
from fastadasp.plugins.causal_attention.op import ATTENTION_MASS
from fastadasp.plugins.evict_tokens import launch as evict_launch
from fastadasp.plugins.evict_tokens.op import EVICT_TOKENS
from fastadasp.plugins.merge_tokens import launch as merge_launch
from fastadasp.plugins.merge_tokens.op import MERGE_EDGES, MERGE_TOKENS

from .op_versions import OPS, Heads, session, site

torch = pytest.importorskip("torch")
pytest.importorskip("triton", reason="the kernels need the extra engines")

WIDTH = 37
KERNELS_OF = {
    MERGE_TOKENS: merge_launch.merge_tokens,
    MERGE_EDGES: merge_launch.merge_edges,
    EVICT_TOKENS: evict_launch.evict_tokens,
}
SPANS = pytest.mark.parametrize(
    ("start", "length", "after", "removed"),
    [(0, 1, 0, 0), (3, 1, 2, 0), (0, 2, 0, 1), (1, 2, 1, 0), (2, 33, 5, 0), (2, 33, 5, 32), (1, 67, 0, 20)],
)


@dataclass(frozen=True)
class Version:
    """One implementation of all ops, the type it computes in, and its largest relative error."""

    kind: str  # reference, onnx, triton
    dtype: Any
    tolerance: float

    def mass(self, query, key, heads):
        if self.kind == "triton":
            from fastadasp.plugins.causal_attention.launch import attention_mass

            return attention_mass(query, key).numpy()
        if self.kind == "reference":
            return causal.causal_attention(query.numpy(), key.numpy(), key.numpy())[1]
        feeds = {"query": query.numpy(), "key": key.numpy(), "value": key.numpy()}
        return session(ATTENTION_MASS, heads).run(["mass"], feeds)[0]

    def reduce(self, op_type, *tensors, start, length, removed):
        if self.kind == "triton":
            return KERNELS_OF[op_type](*tensors, start, length, removed)
        inputs = [*(tensor.numpy() for tensor in tensors), *site(start, length, removed)]
        if self.kind == "reference":
            return torch.from_numpy(OPS[op_type].reference(*inputs))
        feeds = dict(zip(OPS[op_type].takes, inputs, strict=True))
        return torch.from_numpy(session(op_type).run(None, feeds)[0])


VERSIONS = {
    "reference-float32": Version("reference", torch.float32, 1e-5),
    "onnx-float32": Version("onnx", torch.float32, 1e-5),
    "triton-float32": Version("triton", torch.float32, 1e-5),
    "triton-float16": Version("triton", torch.float16, 1e-3),
    "triton-bfloat16": Version("triton", torch.bfloat16, 8e-3),
}
every_version = pytest.mark.parametrize("version", VERSIONS.values(), ids=VERSIONS)
KERNELS = {name: version for name, version in VERSIONS.items() if version.kind == "triton"}
every_kernel = pytest.mark.parametrize("version", KERNELS.values(), ids=KERNELS)


def normal(dtype, *shape, seed=0):
    rng = np.random.default_rng((seed, *shape))
    return torch.from_numpy(rng.standard_normal(shape).astype(np.float32)).to(dtype)


def exact(tensor):
    """The numbers that the version really got, in float64."""
    return tensor.to(torch.float64).numpy()


def assert_reduced(version, op_type, *tensors, start, length, removed):
    """The op gives what its definition gives in float64, to the tolerance of the version."""
    reduced = version.reduce(op_type, *tensors, start=start, length=length, removed=removed)
    expected = OPS[op_type].reference(*map(exact, tensors), *site(start, length, removed))
    assert reduced.dtype == tensors[0].dtype
    assert tuple(reduced.shape) == expected.shape
    scale = np.abs(exact(tensors[0])).max()
    assert np.abs(exact(reduced) - expected).max() <= version.tolerance * scale


def assert_same_rows(reduced, hidden, rows):
    """Copies of these rows, bit by bit."""
    bits = torch.int32 if hidden.dtype == torch.float32 else torch.int16
    assert torch.equal(reduced.view(bits), hidden[rows].view(bits))


@every_version
@pytest.mark.parametrize(
    "heads", [Heads(4, 2, 40), Heads(2, 1, 64), Heads(2, 2, 80), Heads(3, 1, 96), Heads(2, 1, 128)]
)
@pytest.mark.parametrize("rows", [1, 2, 63, 131])
def test_column_sums_of_the_attention(version, heads, rows):
    query = normal(version.dtype, rows, heads.width)
    key = normal(version.dtype, heads.kv, rows, heads.dim)
    expected = causal.causal_attention(exact(query), exact(key), exact(key))[1]
    mass = version.mass(query, key, heads)
    assert mass.dtype == np.float32
    np.testing.assert_allclose(mass, expected, rtol=2e-5)  # of any type: inputs are exact, sums are float32


@every_version
@pytest.mark.parametrize("head_dim", [40, 64, 80, 96, 128])
@SPANS
def test_merging_of_neighbours(version, head_dim, start, length, after, removed):
    rows = start + length + after
    hidden, key = normal(version.dtype, rows, WIDTH), normal(version.dtype, 2, rows, head_dim)
    weight = normal(torch.float32, rows).abs() + 0.1
    span = {"start": start, "length": length, "removed": removed}
    assert_reduced(version, MERGE_TOKENS, hidden, key, weight, **span)


@every_version
@SPANS
def test_merging_along_given_edges(version, start, length, after, removed):
    rows = start + length + after
    hidden, score = normal(version.dtype, rows, WIDTH), normal(torch.float32, length - 1, seed=1)
    weight = normal(torch.float32, rows).abs() + 0.1
    span = {"start": start, "length": length, "removed": removed}
    assert_reduced(version, MERGE_EDGES, hidden, score, weight, **span)


@every_version
@SPANS
def test_eviction_copies_what_stays_bit_by_bit(version, start, length, after, removed):
    rows = start + length + after
    hidden, score = normal(version.dtype, rows, WIDTH), normal(torch.float32, length, seed=1)
    hidden[0, 0], hidden[-1, 1], hidden[0, 2] = -0.0, 1e-40, float("nan")  # a sign of zero, a denormal
    kept = version.reduce(EVICT_TOKENS, hidden, score, start=start, length=length, removed=removed)
    dropped = {start + place for place in sorted(range(length), key=score.tolist().__getitem__)[:removed]}
    assert_same_rows(kept, hidden, [row for row in range(rows) if row not in dropped])


@every_version
def test_ties_go_to_the_lower_edge(version):
    key = torch.ones(1, 9, 64).to(version.dtype)  # every similarity is the same
    hidden, weight = normal(version.dtype, 9, WIDTH), torch.ones(9)
    merged = version.reduce(MERGE_TOKENS, hidden, key, weight, start=1, length=7, removed=3)
    assert_same_rows(merged[2:], hidden, [5, 6, 7, 8])  # rows 1 to 4 became one


@every_version
def test_ties_of_given_scores_go_to_the_lower_edge(version):
    score, hidden = torch.tensor([0.0, 1.0, -0.0, 1.0, 0.0]), normal(version.dtype, 8, WIDTH)
    merged = version.reduce(MERGE_EDGES, hidden, score, torch.ones(8), start=1, length=6, removed=3)
    assert_same_rows(merged[[0, 3, 4]], hidden, [0, 6, 7])  # edges 0, 1 and 3: rows 1 to 3, rows 4 and 5


@every_version
def test_ties_drop_the_lower_row(version):
    score, hidden = torch.tensor([3.0, 1.0, 2.0, 1.0, -0.0, 0.0]), normal(version.dtype, 8, WIDTH)
    kept = version.reduce(EVICT_TOKENS, hidden, score, start=1, length=6, removed=3)
    assert_same_rows(kept, hidden, [0, 1, 3, 4, 7])


@every_version
@pytest.mark.parametrize("removed", [1, 2, 3, 4])
def test_an_edge_without_a_number_is_the_last_to_merge(version, removed):
    """It ties with minus infinity: the lower index goes first."""
    score = torch.tensor([0.5, float("nan"), -3e38, float("-inf"), float("nan")])
    hidden = normal(version.dtype, 6, WIDTH)
    merged = version.reduce(MERGE_EDGES, hidden, score, torch.ones(6), start=0, length=6, removed=removed)
    order = [0, 2, 1, 3, 4]
    heads = [row for row in range(6) if row - 1 not in order[:removed]]
    assert len(merged) == len(heads)
    alone = [row for row in heads if row + 1 in heads or row == 5]
    assert_same_rows(merged[[heads.index(row) for row in alone]], hidden, alone)


@every_version
def test_a_row_whose_score_is_no_number_is_the_first_to_go(version):
    score = torch.tensor([0.5, float("nan"), -3e38, float("-inf"), float("nan"), 7.0])
    hidden = normal(version.dtype, 6, WIDTH)
    for removed, kept in ((1, [0, 2, 3, 4, 5]), (2, [0, 2, 4, 5]), (3, [0, 2, 5]), (4, [0, 5])):
        found = version.reduce(EVICT_TOKENS, hidden, score, start=0, length=6, removed=removed)
        assert_same_rows(found, hidden, kept)


def test_six_thousand_rows_are_no_limit():
    version = KERNELS["triton-float16"]  # one type: the interpreter takes half a minute
    hidden, score = normal(version.dtype, 6000, 3), normal(torch.float32, 5999, seed=1)
    weight = normal(torch.float32, 6000).abs() + 0.1
    assert_reduced(version, MERGE_EDGES, hidden, score, weight, start=0, length=6000, removed=4321)


@every_kernel
def test_rows_that_merge_with_none_are_copied_bit_by_bit(version):
    hidden, key = normal(version.dtype, 20, WIDTH), normal(version.dtype, 1, 20, 64)
    hidden[0, 0], hidden[19, 1] = -0.0, 1e-40  # a sign of zero and a denormal
    merged = version.reduce(MERGE_TOKENS, hidden, key, torch.ones(20), start=5, length=10, removed=4)
    assert_same_rows(torch.cat([merged[:5], merged[-5:]]), hidden, [*range(5), *range(15, 20)])


@every_kernel
def test_the_largest_rows_do_not_overflow_in_the_merge(version):
    largest = torch.finfo(version.dtype).max / (1 if version.dtype == torch.float16 else 4)
    hidden = torch.full((12, WIDTH), largest).to(version.dtype)
    key = normal(version.dtype, 1, 12, 64) * (1e4 if version.dtype == torch.float16 else 1e30)
    merged = version.reduce(
        MERGE_TOKENS, hidden, key, torch.full((12,), 6000.0), start=0, length=12, removed=11
    )
    assert torch.isfinite(merged).all()
    assert torch.allclose(merged.float(), hidden[:1].float(), rtol=version.tolerance)


@every_version
def test_a_zero_key_is_like_no_other(version):
    key = torch.ones(1, 6, 64).to(version.dtype)
    key[0, 3] = 0  # edges 2 and 3 have similarity 0, the others 1
    hidden, weight = normal(version.dtype, 6, WIDTH), torch.ones(6)
    merged = version.reduce(MERGE_TOKENS, hidden, key, weight, start=0, length=6, removed=3)
    assert exact(merged[1]).tobytes() == exact(hidden[3]).tobytes()
    assert len(merged) == 3


@every_kernel
@pytest.mark.filterwarnings("ignore:All-NaN slice")  # of the interpreter's maximum
def test_a_key_that_is_not_a_number_merges_last(version):
    key = normal(version.dtype, 1, 6, 64)
    key[0, 3] = float("nan")
    hidden, weight = normal(version.dtype, 6, WIDTH), torch.ones(6)
    merged = version.reduce(MERGE_TOKENS, hidden, key, weight, start=0, length=6, removed=3)
    assert len(merged) == 3
    assert exact(merged[1]).tobytes() == exact(hidden[3]).tobytes()


@every_kernel
def test_rows_of_a_single_number(version):
    hidden, key = normal(version.dtype, 9, 1), normal(version.dtype, 1, 9, 64)
    assert_reduced(version, MERGE_TOKENS, hidden, key, torch.ones(9), start=1, length=7, removed=4)


@every_kernel
def test_positions_are_merged_in_float32_beside_keys_of_any_type(version):
    positions, key = torch.arange(2980.0, 3000.0)[:, None], normal(version.dtype, 1, 20, 64)
    weight = normal(torch.float32, 20).abs() + 0.1
    as_float32 = replace(version, tolerance=1e-6)
    assert_reduced(as_float32, MERGE_TOKENS, positions, key, weight, start=1, length=18, removed=9)


@every_kernel
@pytest.mark.parametrize("value", [0.0, float("nan"), float("inf"), 1e-45])
def test_weights_that_no_softmax_gives_leave_finite_rows(version, value):
    hidden, key = normal(version.dtype, 8, WIDTH), normal(version.dtype, 1, 8, 64)
    merged = version.reduce(MERGE_TOKENS, hidden, key, torch.full((8,), value), start=1, length=6, removed=4)
    assert torch.isfinite(merged).all()
