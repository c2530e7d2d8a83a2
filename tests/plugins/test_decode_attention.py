"""Attention of a decode step: beams over a shared prefix and a pool of generated rows."""

from __future__ import annotations

import numpy as np
import pytest

from fastadasp.plugins.causal_attention.op import ATTENTION
from fastadasp.plugins.decode_attention.op import DECODE_ATTENTION, LAST_ROW_ATTENTION

from .op_oracle import attention
from .op_versions import Array, Heads, Version, every_version

HIDDEN = -1e30
every_layout = pytest.mark.parametrize(
    "heads",
    [Heads(*layout, dim) for layout in ((4, 4), (4, 2), (3, 1)) for dim in (16, 64, 80, 96, 128)],
    ids=lambda heads: f"{heads.query}-{heads.kv}-{heads.dim}",
)
SIZES = [(1, 1, 1), (1, 40, 1), (5, 1, 5), (5, 130, 5), (5, 64, 37), (2, 33, 64)]  # beams, prefix, pool


def rows_of(version: Version, heads: Heads, beams: int, prefix: int, pool: int) -> list[Array]:
    """query, prefix key and value, pool key and value."""
    rng = np.random.default_rng(prefix)
    kv = [version.normal(rng, heads.kv, rows, heads.dim) for rows in (prefix, prefix, pool, pool)]
    return [version.normal(rng, beams, heads.width), *kv]


def random_tree(version: Version, beams: int, pool: int) -> Array:
    """The bias of a pool in which each beam sees some rows and always its own newest one."""
    seen = np.random.default_rng(pool).random((beams, pool)) < 0.5
    seen[:, pool - beams :] = np.eye(beams, dtype=bool)
    return np.where(seen, 0, HIDDEN).astype(version.dtype)


def decoded(version: Version, query: Array, *kv: Array, heads: Heads) -> Array:
    """One request whose rows of the step are the last ones of a pool, and hidden as its bias says."""
    *parts, bias = kv
    beams, prefix, hidden = len(query), parts[0].shape[1], np.asarray(HIDDEN, version.dtype)
    prefix_key, prefix_value, pool_key, pool_value = (part[None] for part in parts)
    own = np.zeros((1, heads.kv, beams, heads.dim), version.dtype)
    seen = np.zeros((1, 1, 1, prefix), version.dtype)
    pool = pool_key, pool_value, bias[None]
    nothing = own, own, np.full((beams, beams), hidden)
    return version(DECODE_ATTENTION, query, prefix_key, prefix_value, seen, *pool, *nothing, heads=heads)


@every_version
@every_layout
def test_requests_of_one_step_agree_with_plain_loops(version: Version, heads: Heads) -> None:
    """Prefixes of two lengths and pools, with room behind what is in use, and rows of the step itself."""
    rng, beams, lengths, pools, capacity = np.random.default_rng(0), 3, (5, 40), (0, 7), (64, 16)
    query = version.normal(rng, 2 * beams, heads.width)
    prefix = [version.normal(rng, 2, heads.kv, capacity[0], heads.dim) for _ in range(2)]
    pool = [version.normal(rng, 2, heads.kv, capacity[1], heads.dim) for _ in range(2)]
    own = [version.normal(rng, 2, heads.kv, beams, heads.dim) for _ in range(2)]
    in_prefix = np.arange(capacity[0]) < np.array(lengths)[:, None]
    in_pool = (np.arange(capacity[1]) < np.array(pools)[:, None])[:, None] & (
        rng.random((2, beams, 16)) < 0.6
    )
    in_own = np.eye(beams, dtype=bool)
    biases = [np.where(seen, 0, HIDDEN).astype(version.dtype) for seen in (in_prefix, in_pool, in_own)]
    parts = zip((prefix, pool, own), (biases[0][:, None, None], *biases[1:]), strict=True)
    inputs = [array for (key, value), bias in parts for array in (key, value, bias)]
    found = version(DECODE_ATTENTION, query, *inputs, heads=heads)
    for i, rows in enumerate((slice(0, beams), slice(beams, 2 * beams))):
        key, val = (np.concatenate([part[j][i] for part in (prefix, pool, own)], axis=1) for j in range(2))
        seen = [np.concatenate([in_prefix[i], in_pool[i, row], in_own[row]]) for row in range(beams)]
        want, _ = attention(query[rows], key, val, lambda row, seen=seen: np.flatnonzero(seen[row]))
        version.assert_close(found[rows], want, 4)


@every_version
@every_layout
def test_beams_agree_with_plain_loops(version: Version, heads: Heads) -> None:
    for beams, prefix, pool in SIZES:
        query, *kv = rows_of(version, heads, beams, prefix, pool)
        bias = random_tree(version, beams, pool)
        key, val = (np.concatenate(kv[i::2], axis=1) for i in range(2))
        visible = np.pad(bias == 0, ((0, 0), (prefix, 0)), constant_values=True)
        seen = [np.flatnonzero(row) for row in visible]
        want, _ = attention(query, key, val, seen.__getitem__)
        version.assert_close(decoded(version, query, *kv, bias, heads=heads), want, 4)


@every_version
@every_layout
def test_one_row_agrees_with_plain_loops(version: Version, heads: Heads) -> None:
    for rows in (1, 2, 65, 300):
        query, key, val, *_ = rows_of(version, heads, 1, rows, 1)
        want, _ = attention(query, key, val, lambda _: slice(None))
        version.assert_close(version(LAST_ROW_ATTENTION, query, key, val, heads=heads), want, 4)


@every_version
@every_layout
def test_decoding_row_by_row_equals_attention_of_the_whole_sequence(version: Version, heads: Heads) -> None:
    prefix, new = 60, 9
    rng = np.random.default_rng(0)
    query = version.normal(rng, prefix + new, heads.width)
    key, val = (version.normal(rng, heads.kv, prefix + new, heads.dim) for _ in range(2))
    whole = version(ATTENTION, query, key, val, heads=heads)
    for step in range(1, new + 1):
        row = prefix + step - 1
        kv = [x[:, rows].copy() for rows in (slice(0, prefix), slice(prefix, row + 1)) for x in (key, val)]
        bias = np.zeros((1, step), version.dtype)
        one = decoded(version, query[row : row + 1], *kv, bias, heads=heads)
        version.assert_close(one, whole[row : row + 1], 4)


@every_version
@every_layout
def test_the_last_row_equals_that_of_the_whole_sequence(version: Version, heads: Heads) -> None:
    rng = np.random.default_rng(1)
    query = version.normal(rng, 70, heads.width)
    key, val = (version.normal(rng, heads.kv, 70, heads.dim) for _ in range(2))
    last = version(LAST_ROW_ATTENTION, query[-1:], key, val, heads=heads)
    version.assert_close(last, version(ATTENTION, query, key, val, heads=heads)[-1:], 4)


@every_version
def test_hidden_pool_rows_have_no_influence(version: Version) -> None:
    heads, beams, pool = Heads(4, 2, 16), 3, 20
    query, *prefix, pool_key, pool_value = rows_of(version, heads, beams, 31, pool)
    bias = random_tree(version, beams, pool)
    before = decoded(version, query, *prefix, pool_key, pool_value, bias, heads=heads)
    for beam in range(beams):
        unseen = bias[beam] != 0
        other_key, other_value = pool_key.copy(), pool_value.copy()
        other_key[:, unseen] *= 1000
        other_value[:, unseen] = 1e30
        after = decoded(version, query, *prefix, other_key, other_value, bias, heads=heads)
        version.assert_close(after[beam], before[beam])
        assert any(np.abs(after[other] - before[other]).max() > 1 for other in range(beams) if other != beam)


@every_version
def test_beams_do_not_see_each_other_in_the_first_step(version: Version) -> None:
    heads, beams = Heads(4, 2, 16), 5
    query, *prefix, pool_key, pool_value = rows_of(version, heads, beams, 12, beams)
    bias = np.where(np.eye(beams, dtype=bool), 0, HIDDEN).astype(version.dtype)
    together = decoded(version, query, *prefix, pool_key, pool_value, bias, heads=heads)
    for beam in range(beams):
        own = slice(beam, beam + 1)
        pool = pool_key[:, own].copy(), pool_value[:, own].copy()
        alone = decoded(version, query[own], *prefix, *pool, np.zeros((1, 1), version.dtype), heads=heads)
        version.assert_close(alone, together[own], 4)


@every_version
def test_the_order_of_pool_rows_does_not_matter(version: Version) -> None:
    heads, beams, pool = Heads(4, 2, 16), 3, 20
    query, *prefix, pool_key, pool_value = rows_of(version, heads, beams, 31, pool)
    bias, order = random_tree(version, beams, pool), np.random.default_rng(0).permutation(pool)
    before = decoded(version, query, *prefix, pool_key, pool_value, bias, heads=heads)
    shuffled = pool_key[:, order], pool_value[:, order], bias[:, order]
    version.assert_close(decoded(version, query, *prefix, *shuffled, heads=heads), before, 4)


@every_version
def test_large_scores_stay_finite(version: Version) -> None:
    heads, beams, pool = Heads(4, 2, 64), 3, 20
    query, prefix_key, prefix_value, pool_key, pool_value = rows_of(version, heads, beams, 90, pool)
    bias = random_tree(version, beams, pool)
    for scale in (100, 1e12):
        keys = [(key * scale).astype(version.dtype) for key in (prefix_key, pool_key)]
        output = decoded(version, query, keys[0], prefix_value, keys[1], pool_value, bias, heads=heads)
        assert np.isfinite(output).all()
        assert np.abs(output).max() <= max(np.abs(prefix_value).max(), np.abs(pool_value).max()) * 1.0001
