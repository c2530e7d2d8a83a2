"""Reference, ONNX function and Triton kernel give the same numbers."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
from op_versions import Heads, session, site

from fastadasp.plugins.causal_attention import reference as causal
from fastadasp.plugins.causal_attention.op import ATTENTION_MASS
from fastadasp.plugins.merge_tokens import reference as merge
from fastadasp.plugins.merge_tokens.op import MERGE_TOKENS

torch = pytest.importorskip("torch")
pytest.importorskip("triton", reason="the kernels need the extra tensorrt-rtx")

WIDTH = 37


@dataclass(frozen=True)
class Version:
    """One implementation of both ops, the type it computes in, and its largest relative error."""

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

    def merge(self, hidden, key, weight, start, length, removed):
        if self.kind == "triton":
            from fastadasp.plugins.merge_tokens.launch import merge_tokens

            return merge_tokens(hidden, key, weight, start, length, removed)
        arrays = (hidden.numpy(), key.numpy(), weight.numpy())
        if self.kind == "reference":
            return torch.from_numpy(merge.merge_tokens(*arrays, start, length, removed))
        inputs = dict(zip(("hidden", "key", "weight", "span", "removed"), arrays, strict=False))
        inputs["span"], inputs["removed"] = site(start, length, removed)
        return torch.from_numpy(session(MERGE_TOKENS).run(None, inputs)[0])


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


def assert_merged(version, hidden, key, weight, start, length, removed):
    merged = version.merge(hidden, key, weight, start, length, removed)
    expected = merge.merge_tokens(*map(exact, (hidden, key, weight)), start, length, removed)
    assert merged.dtype == hidden.dtype
    assert tuple(merged.shape) == expected.shape
    scale = np.abs(exact(hidden)).max()
    assert np.abs(exact(merged) - expected).max() <= version.tolerance * scale


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
@pytest.mark.parametrize(
    ("start", "length", "after", "removed"),
    [(0, 1, 0, 0), (3, 1, 2, 0), (0, 2, 0, 1), (1, 2, 1, 0), (2, 33, 5, 0), (2, 33, 5, 32), (1, 67, 0, 20)],
)
def test_merging_of_neighbours(version, head_dim, start, length, after, removed):
    rows = start + length + after
    hidden, key = normal(version.dtype, rows, WIDTH), normal(version.dtype, 2, rows, head_dim)
    weight = normal(torch.float32, rows).abs() + 0.1
    assert_merged(version, hidden, key, weight, start, length, removed)


@every_version
def test_ties_go_to_the_lower_edge(version):
    key = torch.ones(1, 9, 64).to(version.dtype)  # every similarity is the same
    hidden, weight = normal(version.dtype, 9, WIDTH), torch.ones(9)
    merged = version.merge(hidden, key, weight, 1, 7, 3)
    assert exact(merged[2:]).tobytes() == exact(hidden[5:]).tobytes()  # rows 1 to 4 became one


def test_six_thousand_rows_are_no_limit():
    version = KERNELS["triton-float16"]  # one type: the interpreter takes half a minute
    hidden, key = normal(version.dtype, 6000, 3), normal(version.dtype, 1, 6000, 8)
    weight = normal(torch.float32, 6000).abs() + 0.1
    similarity = merge.edge_similarity(exact(key), 0, 6000)
    order = np.sort(similarity)[::-1]
    removed = int(np.argmax(order[4000:5000] - order[4001:5001])) + 4001  # a count at a clear gap
    assert_merged(version, hidden, key, weight, 0, 6000, removed)


@every_kernel
def test_rows_that_merge_with_none_are_copied_bit_by_bit(version):
    hidden, key = normal(version.dtype, 20, WIDTH), normal(version.dtype, 1, 20, 64)
    hidden[0, 0], hidden[19, 1] = -0.0, 1e-40  # a sign of zero and a denormal
    merged = version.merge(hidden, key, torch.ones(20), 5, 10, 4)
    kept = [*range(5), *range(15, 20)]
    same = torch.cat([merged[:5], merged[-5:]])
    bits = torch.int32 if version.dtype == torch.float32 else torch.int16
    assert torch.equal(same.view(bits), hidden[kept].view(bits))


@every_kernel
def test_the_largest_rows_do_not_overflow_in_the_merge(version):
    largest = torch.finfo(version.dtype).max / (1 if version.dtype == torch.float16 else 4)
    hidden = torch.full((12, WIDTH), largest).to(version.dtype)
    key = normal(version.dtype, 1, 12, 64) * (1e4 if version.dtype == torch.float16 else 1e30)
    merged = version.merge(hidden, key, torch.full((12,), 6000.0), 0, 12, 11)
    assert torch.isfinite(merged).all()
    assert torch.allclose(merged.float(), hidden[:1].float(), rtol=version.tolerance)


@every_version
def test_a_zero_key_is_like_no_other(version):
    key = torch.ones(1, 6, 64).to(version.dtype)
    key[0, 3] = 0  # edges 2 and 3 have similarity 0, the others 1
    hidden, weight = normal(version.dtype, 6, WIDTH), torch.ones(6)
    merged = version.merge(hidden, key, weight, 0, 6, 3)
    assert exact(merged[1]).tobytes() == exact(hidden[3]).tobytes()
    assert len(merged) == 3


@every_kernel
def test_a_key_that_is_not_a_number_merges_last(version):
    key = normal(version.dtype, 1, 6, 64)
    key[0, 3] = float("nan")
    hidden, weight = normal(version.dtype, 6, WIDTH), torch.ones(6)
    merged = version.merge(hidden, key, weight, 0, 6, 3)
    assert len(merged) == 3
    assert exact(merged[1]).tobytes() == exact(hidden[3]).tobytes()


@every_kernel
def test_rows_of_a_single_number(version):
    hidden, key = normal(version.dtype, 9, 1), normal(version.dtype, 1, 9, 64)
    assert_merged(version, hidden, key, torch.ones(9), 1, 7, 4)


@every_kernel
@pytest.mark.parametrize("value", [0.0, float("nan"), float("inf"), 1e-45])
def test_weights_that_no_softmax_gives_leave_finite_rows(version, value):
    hidden, key = normal(version.dtype, 8, WIDTH), normal(version.dtype, 1, 8, 64)
    merged = version.merge(hidden, key, torch.full((8,), value), 1, 6, 4)
    assert torch.isfinite(merged).all()
