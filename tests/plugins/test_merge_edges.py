"""Rows merge along the edges of the largest score, in every version alike."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fastadasp.plugins.merge_tokens.op import MERGE_EDGES

from .op_draws import HUGE, Span, floats, scores, spans, weights
from .op_oracle import chosen_edges, runs, weighted_means
from .op_versions import Version, assert_same_bits, every_version, examples, site

POSITIONS = pytest.mark.parametrize(("start", "after"), [(0, 0), (0, 3), (2, 3), (2, 0)])


@every_version
@examples
@given(st.data())
def test_merging_agrees_with_plain_loops(version: Version, data: st.DataObject) -> None:
    span = data.draw(spans())
    hidden = data.draw(floats(span.rows, 3)).astype(version.dtype)
    score = data.draw(scores(span.length - 1)).astype(version.dtype)
    weight = data.draw(weights(span.rows)).astype(version.dtype)
    merged = version(MERGE_EDGES, hidden, score, weight, *site(span.start, span.length, span.removed))
    clusters = runs(span.rows, span.start, chosen_edges(score, span.removed))
    assert merged.shape == (span.rows - span.removed, 3)
    scale = np.array([np.abs(hidden[rows]).max() for rows in clusters])[:, None]
    version.assert_close(merged, weighted_means(hidden, weight, clusters), scale)
    for row, cluster in zip(merged, clusters, strict=True):
        if len(cluster) == 1:
            assert_same_bits(row, hidden[cluster[0]])


@every_version
@examples
@given(st.data())
def test_a_merged_row_lies_between_the_rows_it_came_from(version: Version, data: st.DataObject) -> None:
    span = data.draw(spans())
    hidden = data.draw(floats(span.rows, 2)).astype(version.dtype)
    score = data.draw(scores(span.length - 1)).astype(version.dtype)
    weight = data.draw(weights(span.rows)).astype(version.dtype)
    merged = version(MERGE_EDGES, hidden, score, weight, *site(span.start, span.length, span.removed))
    for row, cluster in zip(
        merged, runs(span.rows, span.start, chosen_edges(score, span.removed)), strict=True
    ):
        slack = version.tolerance * np.abs(hidden[cluster]).max()
        slack += float(np.finfo(version.dtype).tiny)
        assert (row >= hidden[cluster].min(0) - slack).all()
        assert (row <= hidden[cluster].max(0) + slack).all()


@every_version
@examples
@given(st.data())
def test_the_weighted_sum_of_the_rows_is_conserved(version: Version, data: st.DataObject) -> None:
    span = data.draw(spans())
    drawn = data.draw(st.lists(st.floats(0.125, 8, width=32), min_size=span.rows, max_size=span.rows))
    weight = np.array(drawn, version.dtype)
    hidden = data.draw(floats(span.rows, 3, bound=4.0)).astype(version.dtype)
    hidden[:, 0] = 1  # a column of ones stays one, for the shares of a cluster add up to 1
    score = data.draw(scores(span.length - 1)).astype(version.dtype)
    merged = version(MERGE_EDGES, hidden, score, weight, *site(span.start, span.length, span.removed))
    clusters = runs(span.rows, span.start, chosen_edges(score, span.removed))
    mass = np.array([weight[rows].astype(np.float64).sum() for rows in clusters])
    version.assert_close(merged[:, 0], np.ones(len(merged)))
    after, before = mass @ merged.astype(np.float64), weight.astype(np.float64) @ hidden.astype(np.float64)
    np.testing.assert_allclose(after, before, rtol=0, atol=version.tolerance * 4 * mass.sum())


@every_version
@examples
@given(st.data())
def test_the_order_of_the_rows_is_preserved(version: Version, data: st.DataObject) -> None:
    span = data.draw(spans())
    hidden = np.arange(span.rows, dtype=version.dtype)[:, None]
    score = data.draw(scores(span.length - 1)).astype(version.dtype)
    weight = np.array(data.draw(st.permutations(range(1, span.rows + 1))), version.dtype)
    merged = version(MERGE_EDGES, hidden, score, weight, *site(span.start, span.length, span.removed))
    assert (np.diff(merged[:, 0]) > 0).all()


@every_version
@pytest.mark.parametrize("removed", range(6))
@pytest.mark.parametrize("score", [-1.0, 0.0, 0.25, 1.0])
def test_all_equal_scores_merge_the_first_rows_of_the_span(
    version: Version, score: float, removed: int
) -> None:
    hidden = version.normal(np.random.default_rng(removed), 9, 4)
    equal = np.full(5, score, version.dtype)
    merged = version(MERGE_EDGES, hidden, equal, np.ones(9, version.dtype), *site(2, 6, removed))
    clusters = [[0], [1], list(range(2, 3 + removed)), *([row] for row in range(3 + removed, 9))]
    version.assert_close(merged, weighted_means(hidden, np.ones(9), clusters), 4)


@every_version
@pytest.mark.parametrize(
    ("score", "removed", "edges"),
    [
        ([0.5, 0.9, 0.5, 0.9, 0.5], 1, [1]),
        ([0.5, 0.9, 0.5, 0.9, 0.5], 3, [0, 1, 3]),
        ([0.5, 0.9, 0.5, 0.9, 0.5], 4, [0, 1, 2, 3]),
        ([-0.0, 0.0, -0.0, 0.0, -0.0], 2, [0, 1]),
    ],
)
def test_ties_go_to_the_lower_index(
    version: Version, score: list[float], removed: int, edges: list[int]
) -> None:
    hidden = version.normal(np.random.default_rng(0), 6, 4)
    given_score, ones = np.array(score, version.dtype), np.ones(6, version.dtype)
    merged = version(MERGE_EDGES, hidden, given_score, ones, *site(0, 6, removed))
    version.assert_close(merged, weighted_means(hidden, ones, runs(6, 0, edges)), 4)


@every_version
@POSITIONS
@pytest.mark.parametrize("length", [0, 1, 2, 7])
def test_removing_nothing_copies_every_bit(version: Version, start: int, after: int, length: int) -> None:
    rows = start + length + after
    hidden = np.resize(np.array([-0.0, 0.0, 1e-45, -1e-38, HUGE, -HUGE, 1.1], version.dtype), (rows, 5))
    weight = np.resize(np.array([0, np.inf, 1e-45, 3], version.dtype), rows)
    score = np.zeros(max(length - 1, 0), version.dtype)
    merged = version(MERGE_EDGES, hidden, score, weight, *site(start, length, 0))
    assert_same_bits(merged, hidden)


@every_version
@POSITIONS
@pytest.mark.parametrize("length", [2, 3, 64, 257])
def test_all_but_one_edge_less_than_rows_leave_one_row(
    version: Version, start: int, after: int, length: int
) -> None:
    rng = np.random.default_rng(length)
    rows = start + length + after
    hidden, score = version.normal(rng, rows, 6), version.normal(rng, length - 1)
    weight = rng.uniform(0.1, 5, rows).astype(version.dtype)
    merged = version(MERGE_EDGES, hidden, score, weight, *site(start, length, length - 1))
    clusters = runs(rows, start, range(length - 1))
    assert len(merged) == start + 1 + after
    version.assert_close(merged, weighted_means(hidden, weight, clusters), 4)
    assert_same_bits(merged[:start], hidden[:start])
    assert_same_bits(merged[start + 1 :], hidden[start + length :])


@every_version
def test_many_runs_of_many_lengths_agree_with_plain_loops(version: Version) -> None:
    rng = np.random.default_rng(3)
    span = Span(start=5, length=700, after=20, removed=500)
    hidden = version.normal(rng, span.rows, 8)
    score, weight = version.normal(rng, span.length - 1), np.abs(version.normal(rng, span.rows))
    merged = version(MERGE_EDGES, hidden, score, weight, *site(span.start, span.length, span.removed))
    clusters = runs(span.rows, span.start, chosen_edges(score, span.removed))
    version.assert_close(merged, weighted_means(hidden, weight, clusters), 5)


@every_version
@pytest.mark.parametrize("weight", [0.0, 1e-45, 1e-38, 1.0, 1e30, 1e38, np.inf, np.nan])
def test_equal_weights_of_any_size_give_the_plain_mean(version: Version, weight: float) -> None:
    hidden = version.normal(np.random.default_rng(1), 6, 4)
    weights_ = np.full(6, weight, version.dtype)
    merged = version(MERGE_EDGES, hidden, np.ones(5, version.dtype), weights_, *site(0, 6, 5))
    version.assert_close(merged, hidden.astype(np.float64).mean(0, keepdims=True), 4)


@every_version
@pytest.mark.parametrize("nothing", [0.0, 1e-45, np.nan])
def test_a_row_without_weight_leaves_no_trace_beside_one_with_weight(
    version: Version, nothing: float
) -> None:
    hidden = np.array([[HUGE], [2.0]], version.dtype)
    weight = np.array([nothing, 1e30], version.dtype)
    merged = version(MERGE_EDGES, hidden, np.zeros(1, version.dtype), weight, *site(0, 2, 1))
    version.assert_close(merged, [[2.0]])


@every_version
def test_the_largest_values_do_not_overflow(version: Version) -> None:
    hidden = np.full((300, 2), HUGE, version.dtype)
    hidden[:, 1] *= -1
    weight = np.resize(np.array([1e30, np.inf, 7, 0], version.dtype), 300)
    merged = version(MERGE_EDGES, hidden, np.zeros(299, version.dtype), weight, *site(0, 300, 299))
    version.assert_close(merged, [[HUGE, -HUGE]], HUGE)
