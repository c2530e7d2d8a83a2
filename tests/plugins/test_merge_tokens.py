"""Similarity of neighbouring keys, the merge along it, and its variant of disjoint pairs."""

from __future__ import annotations

from fractions import Fraction
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fastadasp.plugins.merge_tokens.op import EDGE_SIMILARITY, MERGE_EDGES, MERGE_PAIRS, MERGE_TOKENS

from .op_draws import floats, spans, spread_keys, weights
from .op_oracle import chosen_edges, edge_similarity, greedy_pairs, runs, weighted_means
from .op_versions import Array, Version, assert_same_bits, every_version, examples, site

HIDDEN = [[1, 0], [0, 1], [2, 2], [4, 0], [0, 3], [1, 1]]
SIMILARITY = [0.90, 0.80, 0.10, 0.95, 0.20]
WEIGHT = [4, 3, 2, 1, 2, 0.5]
Rows = list[list[float]]
EXAMPLE = pytest.mark.parametrize(
    ("ratio", "weighted", "average", "pairs"),
    [
        (
            "0.2",
            [[1, 0], [0, 1], [2, 2], [4 / 3, 2], [1, 1]],
            [[1, 0], [0, 1], [2, 2], [2, 1.5], [1, 1]],
            [[1, 0], [0, 1], [2, 2], [2, 1.5], [1, 1]],
        ),
        (
            "0.34",
            [[4 / 7, 3 / 7], [2, 2], [4 / 3, 2], [1, 1]],
            [[0.5, 0.5], [2, 2], [2, 1.5], [1, 1]],
            [[0.5, 0.5], [2, 2], [2, 1.5], [1, 1]],
        ),
        (
            "0.5",
            [[8 / 9, 7 / 9], [4 / 3, 2], [1, 1]],
            [[1, 1], [2, 1.5], [1, 1]],
            [[0.5, 0.5], [2, 2], [2, 1.5], [1, 1]],
        ),
    ],
)


def keys_of(similarity: list[float], dtype: np.dtype[Any]) -> Array:
    """Keys in a plane whose neighbours have the given cosines: (1, rows, 2)."""
    angles = np.concatenate([[0.0], np.cumsum(np.arccos(similarity))])
    return np.stack([np.cos(angles), np.sin(angles)], axis=1)[None].astype(dtype)


@every_version
@EXAMPLE
def test_the_worked_example_to_the_letter(
    version: Version, ratio: str, weighted: Rows, average: Rows, pairs: Rows
) -> None:
    hidden, weight, ones = (np.array(x, version.dtype) for x in (HIDDEN, WEIGHT, [1] * 6))
    score, key = np.array(SIMILARITY, version.dtype), keys_of(SIMILARITY, version.dtype)
    span = site(0, 6, int(6 * Fraction(ratio)))
    version.assert_close(version(MERGE_EDGES, hidden, score, weight, *span), weighted)
    version.assert_close(version(MERGE_EDGES, hidden, score, ones, *span), average)
    version.assert_close(version(MERGE_TOKENS, hidden, key, weight, *span), weighted)
    version.assert_close(version(MERGE_TOKENS, hidden, key, ones, *span), average)
    version.assert_close(version(MERGE_PAIRS, hidden, key, *span), pairs)


@every_version
def test_the_keys_of_the_worked_example_have_its_similarities(version: Version) -> None:
    key = keys_of(SIMILARITY, version.dtype)
    version.assert_close(version(EDGE_SIMILARITY, key, site(0, 6, 0)[0]), SIMILARITY)


@every_version
@examples
@given(st.data())
def test_similarity_agrees_with_plain_loops(version: Version, data: st.DataObject) -> None:
    span = data.draw(spans())
    elements = st.sampled_from([-3.0, -1.0, 0.0, 0.5, 2.0])
    units = data.draw(st.lists(elements, min_size=span.rows * 6, max_size=span.rows * 6))
    norms = data.draw(
        st.lists(st.sampled_from([1e-30, 1.0, 1e30, 1e38]), min_size=span.rows, max_size=span.rows)
    )
    key = np.array(units).reshape(2, span.rows, 3) * np.array(norms)[None, :, None]
    key = key.astype(version.dtype)
    similarity = version(EDGE_SIMILARITY, key, site(span.start, span.length, 0)[0])
    version.assert_close(similarity, edge_similarity(key, span.start, span.length))


@every_version
@pytest.mark.parametrize(("kv_heads", "head_dim"), [(1, 1), (1, 128), (4, 80), (32, 128)])
def test_similarity_takes_all_heads_as_one_vector(version: Version, kv_heads: int, head_dim: int) -> None:
    key = version.normal(np.random.default_rng(head_dim), kv_heads, 70, head_dim)
    similarity = version(EDGE_SIMILARITY, key, site(3, 61, 0)[0])
    version.assert_close(similarity, edge_similarity(key, 3, 61))


@every_version
def test_a_zero_key_is_similar_to_none(version: Version) -> None:
    key = np.zeros((2, 5, 4), version.dtype)
    key[:, 0] = key[:, 4] = 1
    assert (version(EDGE_SIMILARITY, key, site(0, 5, 0)[0]) == 0).all()


@every_version
@pytest.mark.parametrize("size", [2.0**-126, 1e-30, 1.0, 1e30, 3e38])
def test_the_size_of_a_key_does_not_count(version: Version, size: float) -> None:
    key = np.array([[[size, 0], [size, size], [0, 1], [0, -size]]], version.dtype)
    similarity = version(EDGE_SIMILARITY, key, site(0, 4, 0)[0])
    version.assert_close(similarity, [0.5**0.5, 0.5**0.5, -1])


@every_version
@examples
@given(st.data())
def test_merging_by_keys_agrees_with_plain_loops(version: Version, data: st.DataObject) -> None:
    span = data.draw(spans())
    key = data.draw(spread_keys(span)).astype(version.dtype)
    hidden = data.draw(floats(span.rows, 3)).astype(version.dtype)
    weight = data.draw(weights(span.rows)).astype(version.dtype)
    merged = version(MERGE_TOKENS, hidden, key, weight, *site(span.start, span.length, span.removed))
    edges = chosen_edges(edge_similarity(key, span.start, span.length), span.removed)
    clusters = runs(span.rows, span.start, edges)
    assert merged.shape == (span.rows - span.removed, 3)
    scale = np.array([np.abs(hidden[rows]).max() for rows in clusters])[:, None]
    version.assert_close(merged, weighted_means(hidden, weight, clusters), scale)
    for row, cluster in zip(merged, clusters, strict=True):
        if len(cluster) == 1:
            assert_same_bits(row, hidden[cluster[0]])


@every_version
@pytest.mark.parametrize("removed", [0, 1, 40, 99, 198])
def test_merging_by_keys_is_similarity_then_merging_by_edges(version: Version, removed: int) -> None:
    rng = np.random.default_rng(removed)
    hidden, key = version.normal(rng, 230, 16), version.normal(rng, 4, 230, 32)
    weight = np.abs(version.normal(rng, 230))
    span = site(11, 199, removed)
    score = version(EDGE_SIMILARITY, key, span[0])
    expected = version(MERGE_EDGES, hidden, score, weight, *span)
    assert_same_bits(version(MERGE_TOKENS, hidden, key, weight, *span), expected)


@every_version
@pytest.mark.parametrize("head_dim", [1, 3, 16, 80])
@pytest.mark.parametrize("removed", range(0, 37, 6))
def test_equal_keys_merge_the_first_rows_of_the_span(version: Version, head_dim: int, removed: int) -> None:
    rng = np.random.default_rng(head_dim)
    key = np.repeat(version.normal(rng, 2, 1, head_dim), 40, axis=1)
    hidden, ones = version.normal(rng, 40, 4), np.ones(40, version.dtype)
    merged = version(MERGE_TOKENS, hidden, key, ones, *site(2, 37, removed))
    version.assert_close(merged, weighted_means(hidden, ones, runs(40, 2, range(removed))), 4)


@every_version
@pytest.mark.parametrize("length", [1, 2])
@pytest.mark.parametrize("start", [0, 3])
def test_the_shortest_spans(version: Version, start: int, length: int) -> None:
    rng = np.random.default_rng(0)
    hidden, key = version.normal(rng, start + length, 4), version.normal(rng, 2, start + length, 3)
    weight, removed = np.ones(start + length, version.dtype), length - 1
    clusters = [[row] for row in range(start)] + [list(range(start, start + length))]
    expected = weighted_means(hidden, weight, clusters)
    span = site(start, length, removed)
    version.assert_close(version(MERGE_TOKENS, hidden, key, weight, *span), expected, 4)
    version.assert_close(version(MERGE_PAIRS, hidden, key, *span), expected, 4)
    nothing = site(start, length, 0)
    assert_same_bits(version(MERGE_TOKENS, hidden, key, weight, *nothing), hidden)
    assert_same_bits(version(MERGE_PAIRS, hidden, key, *nothing), hidden)


@every_version
def test_a_span_without_rows_changes_nothing(version: Version) -> None:
    rng = np.random.default_rng(0)
    hidden, key = version.normal(rng, 5, 4), version.normal(rng, 2, 5, 3)
    weight, span = np.ones(5, version.dtype), site(2, 0, 0)
    assert_same_bits(version(MERGE_TOKENS, hidden, key, weight, *span), hidden)
    assert_same_bits(version(MERGE_PAIRS, hidden, key, *span), hidden)


@every_version
@examples
@given(st.data())
def test_pairs_agree_with_plain_loops(version: Version, data: st.DataObject) -> None:
    span = data.draw(spans(most=20))
    key = data.draw(spread_keys(span)).astype(version.dtype)
    hidden = data.draw(floats(span.rows, 3)).astype(version.dtype)
    merged = version(MERGE_PAIRS, hidden, key, *site(span.start, span.length, span.removed))
    edges = chosen_edges(edge_similarity(key, span.start, span.length), span.removed)
    clusters = greedy_pairs(span.rows, span.start, edges)
    scale = np.array([np.abs(hidden[rows]).max() for rows in clusters])[:, None]
    version.assert_close(merged, weighted_means(hidden, np.ones(span.rows), clusters), scale)
    for row, cluster in zip(merged, clusters, strict=True):
        if len(cluster) == 1:
            assert_same_bits(row, hidden[cluster[0]])


@every_version
@pytest.mark.parametrize("edges", range(12))
def test_a_run_of_m_edges_gives_half_as_many_pairs_rounded_up(version: Version, edges: int) -> None:
    similarity = [0.1] * 3 + [0.9] * edges + [0.1] * 3
    key = keys_of(similarity, version.dtype)
    rows = len(similarity) + 1
    hidden = version.normal(np.random.default_rng(edges), rows, 3)
    merged = version(MERGE_PAIRS, hidden, key, *site(0, rows, edges))
    assert len(merged) == rows - (edges + 1) // 2
