"""Causal attention and its column sums, over head layouts and chunk borders."""

from __future__ import annotations

from functools import cache

import numpy as np
import pytest

from fastadasp.plugins.causal_attention.op import (
    ATTENTION,
    ATTENTION_HEAD_MASS,
    ATTENTION_MASS,
    LAST_QUERY_MASS,
    QUERY_CHUNK,
)

from .op_oracle import attention
from .op_versions import Array, Heads, Version, every_version

ROWS = (1, 2, QUERY_CHUNK - 1, QUERY_CHUNK, QUERY_CHUNK + 1, 2 * QUERY_CHUNK + 2)
every_layout = pytest.mark.parametrize(
    "heads",
    [Heads(*layout, dim) for layout in ((4, 4), (4, 2), (3, 1)) for dim in (16, 64, 80, 96, 128)],
    ids=lambda heads: f"{heads.query}-{heads.kv}-{heads.dim}",
)


@cache
def inputs(version: Version, heads: Heads, rows: int, scale: float = 1.0) -> tuple[Array, Array, Array]:
    """query, key, value; `scale` multiplies the keys."""
    rng = np.random.default_rng(rows)
    query = version.normal(rng, rows, heads.width)
    key, val = (version.normal(rng, heads.kv, rows, heads.dim) for _ in range(2))
    return query, key * version.dtype.type(scale), val


@cache
def expected(dtype: str, heads: Heads, rows: int, scale: float = 1.0) -> tuple[Array, Array]:
    """Output and column sums of each KV head in float64, once for all versions of a dtype."""
    return attention(*inputs(_any_version(dtype), heads, rows, scale), lambda i: slice(0, i + 1))


def _any_version(dtype: str) -> Version:
    return Version(lambda *_: (), np.dtype(dtype))


@every_version
@every_layout
def test_output_and_column_sums_agree_with_plain_loops(version: Version, heads: Heads) -> None:
    for rows in ROWS:
        given = inputs(version, heads, rows)
        want, want_mass = expected(version.dtype.name, heads, rows)
        output, mass = version(ATTENTION_MASS, *given, heads=heads)
        version.assert_close(output, want, 4)
        version.assert_close(mass, want_mass.sum(0), np.maximum(want_mass.sum(0), 1))
        version.assert_close(version(ATTENTION, *given, heads=heads), want, 4)


@every_version
@every_layout
def test_the_column_sums_of_each_head_agree_with_plain_loops(version: Version, heads: Heads) -> None:
    for rows in ROWS:
        want, want_mass = expected(version.dtype.name, heads, rows)
        output, mass = version(ATTENTION_HEAD_MASS, *inputs(version, heads, rows), heads=heads)
        version.assert_close(output, want, 4)
        version.assert_close(mass, want_mass, np.maximum(want_mass, 1))


@every_version
@every_layout
def test_last_query_mass_is_the_last_row_alone(version: Version, heads: Heads) -> None:
    for rows in ROWS:
        query, key, val = inputs(version, heads, rows)
        _, want = attention(query[-1:], key, val, lambda _: slice(None))
        version.assert_close(version(LAST_QUERY_MASS, query, key, heads=heads), want.sum(0))


@every_version
def test_a_long_prompt_agrees_with_plain_loops(version: Version) -> None:
    heads, rows = Heads(4, 2, 64), 1500
    given = inputs(version, heads, rows)
    want, want_mass = expected(version.dtype.name, heads, rows)
    output, mass = version(ATTENTION_MASS, *given, heads=heads)
    version.assert_close(output, want, 4)
    version.assert_close(mass, want_mass.sum(0), np.maximum(want_mass.sum(0), 1))
    version.assert_close(version(ATTENTION, *given, heads=heads), want, 4)


@every_version
@pytest.mark.parametrize("rows", ROWS)
@pytest.mark.parametrize("scale", [0.0, 1.0, 100.0])
def test_column_sums_add_up_to_heads_times_rows(version: Version, rows: int, scale: float) -> None:
    heads = Heads(4, 2, 64)
    _, mass = version(ATTENTION_MASS, *inputs(version, heads, rows, scale), heads=heads)
    assert (mass >= 0).all()
    assert abs(mass.astype(np.float64).sum() - 4 * rows) <= version.tolerance * 4 * rows
    query, key, _ = inputs(version, heads, rows, scale)
    _, by_head = version(ATTENTION_HEAD_MASS, *inputs(version, heads, rows, scale), heads=heads)
    assert (by_head >= 0).all()
    assert (np.abs(by_head.astype(np.float64).sum(1) - 2 * rows) <= version.tolerance * 2 * rows).all()
    last = version(LAST_QUERY_MASS, query, key, heads=heads)
    assert abs(last.astype(np.float64).sum() - 4) <= version.tolerance * 4


@every_version
@pytest.mark.parametrize("rows", ROWS)
def test_large_scores_stay_finite(version: Version, rows: int) -> None:
    heads, scale = Heads(4, 2, 64), 100.0
    want, want_mass = expected(version.dtype.name, heads, rows, scale)
    output, mass = version(ATTENTION_MASS, *inputs(version, heads, rows, scale), heads=heads)
    version.assert_close(output, want, 4 * scale)  # the rounding of a score grows with it
    version.assert_close(mass, want_mass.sum(0), scale * np.maximum(want_mass.sum(0), 1))


@every_version
def test_scores_far_beyond_the_range_of_exp_stay_finite(version: Version) -> None:
    heads = Heads(4, 2, 64)
    output, mass = version(ATTENTION_MASS, *inputs(version, heads, 130, 1e12), heads=heads)
    assert np.isfinite(output).all()
    assert np.isfinite(mass).all()


@every_version
@pytest.mark.parametrize("changed", [1, 63, 64, 65, 129])
def test_a_later_row_does_not_change_an_earlier_output(version: Version, changed: int) -> None:
    heads = Heads(4, 2, 16)
    query, key, val = inputs(version, heads, 130)
    other_key, other_val = key.copy(), val.copy()
    other_key[:, changed:] *= -7
    other_val[:, changed:] += 1000
    before = version(ATTENTION, query, key, val, heads=heads)
    after = version(ATTENTION, query, other_key, other_val, heads=heads)
    version.assert_close(after[:changed], before[:changed])
    assert (np.abs(after[changed:] - before[changed:]).max(-1) > 1).all()


@every_version
@pytest.mark.parametrize("rows", [1, 63, 64, 65, 129])
def test_a_prefix_of_the_prompt_attends_as_it_does_alone(version: Version, rows: int) -> None:
    heads = Heads(4, 2, 16)
    query, key, val = inputs(version, heads, 130)
    alone = version(ATTENTION, query[:rows], key[:, :rows].copy(), val[:, :rows].copy(), heads=heads)
    version.assert_close(alone, version(ATTENTION, query, key, val, heads=heads)[:rows], 4)


@every_version
def test_equal_keys_share_the_mass_equally(version: Version) -> None:
    heads, rows = Heads(4, 2, 16), 70
    query, key, val = inputs(version, heads, rows)
    key = np.repeat(key[:, :1], rows, axis=1)
    output, mass = version(ATTENTION_MASS, query, key, val, heads=heads)
    shares = 1 / np.arange(1, rows + 1)
    version.assert_close(mass, 4 * shares[::-1].cumsum()[::-1], 4)
    version.assert_close(output[:, :16], val[0].cumsum(0) * shares[:, None], 4)
