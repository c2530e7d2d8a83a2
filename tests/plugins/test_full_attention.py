"""Bidirectional attention of the encoder."""

from __future__ import annotations

import numpy as np
import pytest

from fastadasp.plugins.full_attention.op import FULL_ATTENTION

from .op_oracle import attention
from .op_versions import Array, Heads, Version, every_version


def inputs(version: Version, heads: Heads, rows: int) -> list[Array]:
    rng = np.random.default_rng(rows)
    return [version.normal(rng, rows, heads.width) for _ in range(3)]


def per_head(x: Array, heads: Heads) -> Array:
    """(rows, heads * head_dim) -> (heads, rows, head_dim)."""
    return x.reshape(len(x), heads.query, heads.dim).transpose(1, 0, 2)


@every_version
@pytest.mark.parametrize("head_dim", [16, 64, 80, 96, 128])
@pytest.mark.parametrize("count", [1, 4])
def test_every_row_attends_to_every_row(version: Version, count: int, head_dim: int) -> None:
    heads = Heads(count, count, head_dim)
    for rows in (1, 2, 63, 64, 65, 130):
        query, key, val = inputs(version, heads, rows)
        want, _ = attention(query, per_head(key, heads), per_head(val, heads), lambda _: slice(None))
        version.assert_close(version(FULL_ATTENTION, query, key, val, heads=heads), want, 4)


@every_version
def test_a_whole_encoder_window_agrees_with_plain_loops(version: Version) -> None:
    heads = Heads(2, 2, 64)
    query, key, val = inputs(version, heads, 1500)
    want, _ = attention(query, per_head(key, heads), per_head(val, heads), lambda _: slice(None))
    version.assert_close(version(FULL_ATTENTION, query, key, val, heads=heads), want, 4)


@every_version
def test_the_order_of_keys_does_not_matter(version: Version) -> None:
    heads = Heads(4, 4, 16)
    query, key, val = inputs(version, heads, 70)
    order = np.random.default_rng(0).permutation(70)
    straight = version(FULL_ATTENTION, query, key, val, heads=heads)
    version.assert_close(version(FULL_ATTENTION, query, key[order], val[order], heads=heads), straight, 4)


@every_version
def test_large_scores_stay_finite(version: Version) -> None:
    heads = Heads(4, 4, 64)
    query, key, val = inputs(version, heads, 130)
    for scale in (100, 1e12):
        scaled = (key * scale).astype(version.dtype)
        output = version(FULL_ATTENTION, query, scaled, val, heads=heads)
        assert np.isfinite(output).all()
        assert np.abs(output).max() <= np.abs(val).max() * 1.0001
