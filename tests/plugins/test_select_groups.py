"""Groups of alike neighbours, and the most diverse of them, in every version alike."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import ArrayLike

from fastadasp.plugins.select_groups.op import DIAGONAL, GROUP_SIMILARITY, NO_LINK, SELECT_GROUPS

from .op_draws import Span, floats, spans
from .op_versions import VERSIONS, Array, Version, every_version, examples, site

WIDTH = 4
ANGLES = st.sampled_from([0.0, 0.1, 0.3, 0.6, 1.5, 3.0])


def rows_at(angles: Sequence[float]) -> Array:
    """Rows in a plane, whose cosines are those of the angles between them."""
    angles_ = np.asarray(angles, np.float64)
    return np.stack([np.cos(angles_), np.sin(angles_)], axis=-1)


def chosen_by(
    version: Version, hidden: Array, span: Span, weight: ArrayLike = 1.0, relevance: ArrayLike = 1.0
) -> list[Array]:
    """The outputs of the op, by weights and relevances that are (rows,), or the same for all rows."""
    given_site = site(span.start, span.length, span.removed)
    of_rows = (np.broadcast_to(np.asarray(x, version.dtype), len(hidden)) for x in (weight, relevance))
    found: list[Array] = version(SELECT_GROUPS, hidden.astype(version.dtype), *of_rows, *given_site)
    return found


def groups_of(
    version: Version, hidden: Array, span: Span, weight: ArrayLike = 1.0, relevance: ArrayLike = 1.0
) -> tuple[list[list[int]], list[int]]:
    """Rows of each group, and the groups that stay."""
    score, links, kept, first = chosen_by(version, hidden, span, weight, relevance)
    assert (score.dtype, kept.dtype) == (version.dtype, version.dtype)
    assert score.shape == (max(span.length - 1, 0),)
    assert links.shape == (1,)
    groups = [list(range(*bounds)) for bounds in pairwise([*first.tolist(), span.length])]
    assert len(groups) == span.length - links[0] == len(kept)
    chosen = np.argsort(-score, kind="stable")[: links[0]]
    assert sorted(set(range(1, span.length)) - set(first.tolist())) == sorted((chosen + 1).tolist())
    stay = np.flatnonzero(kept).tolist() if kept.any() else list(range(len(groups)))
    return groups, stay


@st.composite
def walks(draw: st.DrawFn) -> tuple[Span, Array]:
    """Rows of which some are alike, some equal, and some far from each other."""
    span = draw(spans(20))
    turns = draw(st.lists(ANGLES, min_size=span.rows, max_size=span.rows))
    return span, rows_at(np.cumsum(turns))


@every_version
@examples
@given(walks())
def test_as_many_groups_stay_as_rows_are_to_stay(version: Version, drawn: tuple[Span, Array]) -> None:
    span, hidden = drawn
    groups, stay = groups_of(version, hidden, span)
    assert [row for group in groups for row in group] == list(range(span.length))
    assert len(stay) == span.length - span.removed


@every_version
@examples
@given(st.data())
def test_any_numbers_leave_as_many(version: Version, data: st.DataObject) -> None:
    span = data.draw(spans())
    hidden = data.draw(floats(span.rows, WIDTH))
    hidden[data.draw(st.integers(0, span.rows - 1))] = data.draw(st.sampled_from([0, np.nan, np.inf, 1e-45]))
    _, stay = groups_of(version, hidden, span)
    assert len(stay) == span.length - span.removed


@every_version
@examples
@given(walks())
def test_groups_grow_while_the_mean_cosine_is_high(version: Version, drawn: tuple[Span, Array]) -> None:
    span, hidden = drawn
    whole = Span(span.start, span.length, span.after, span.length - 1)  # so that no link is cut
    groups, _ = groups_of(version, hidden, whole)
    rows = hidden[span.start : span.start + span.length]
    for group, following in zip(groups, [*groups[1:], None], strict=True):
        for place, row in enumerate(group[1:], 1):
            assert np.mean(rows[group[:place]] @ rows[row]) >= GROUP_SIMILARITY - 1e-6
        if following:
            assert np.mean(rows[group] @ rows[following[0]]) < GROUP_SIMILARITY + 1e-6


@every_version
@examples
@given(walks())
def test_where_groups_are_too_few_the_weakest_links_are_cut(
    version: Version, drawn: tuple[Span, Array]
) -> None:
    span, hidden = drawn
    whole = Span(span.start, span.length, span.after, span.length - 1)
    score, links, *_ = chosen_by(version, hidden, whole)
    groups, stay = groups_of(version, hidden, span)
    assert len(groups) == span.length - min(int(links[0]), span.removed)
    if len(groups) == span.length - span.removed:
        assert stay == list(range(len(groups)))
    assert ((score > NO_LINK) == (score >= GROUP_SIMILARITY - 1e-6)).all()


def kernel_of(unit: Array, relevance: Array) -> Array:
    """What is selected by: diag(r) S diag(r)."""
    kernel: Array = relevance[:, None] * (unit @ unit.T + DIAGONAL * np.eye(len(unit))) * relevance
    return kernel


def greedy(kernel: Array, count: int) -> list[float]:
    """By the definition: the logarithm of the largest determinant that one more group gives, each time."""
    chosen: list[int] = []
    best = []
    for _ in range(count):
        others = [i for i in range(len(kernel)) if i not in chosen]
        volumes = [np.linalg.slogdet(kernel[np.ix_([*chosen, i], [*chosen, i])])[1] for i in others]
        chosen.append(others[int(np.argmax(np.round(volumes, 8)))])  # lone groups are tied
        best.append(max(volumes))
    return best


@every_version
@examples
@given(st.integers(2, 12), st.integers(1, 11), st.integers(0, 2**32 - 1))
def test_the_groups_that_stay_span_the_volume_of_the_greedy_choice(
    version: Version, length: int, removed: int, seed: int
) -> None:
    """More of them than a row has numbers, too; with any weights and relevances."""
    rng = np.random.default_rng(seed)
    hidden = rng.standard_normal((length, WIDTH)).astype(np.float32)
    weight, relevance = (np.exp(4 * rng.standard_normal(length)).astype(np.float32) for _ in range(2))
    span = Span(0, length, 0, min(removed, length - 1))
    groups, stay = groups_of(version, hidden, span, weight, relevance)
    if len(groups) == len(stay):
        return
    shares = [np.float64(weight[group])[:, None] / np.float64(weight[group]).sum() for group in groups]
    means = np.array([(share * hidden[group]).sum(0) for share, group in zip(shares, groups, strict=True)])
    unit = means / np.linalg.norm(means, axis=-1, keepdims=True)
    kernel = kernel_of(unit, np.array([np.float64(relevance[group]).mean() for group in groups]))
    volume = np.linalg.slogdet(kernel[np.ix_(stay, stay)])[1]
    assert volume == pytest.approx(greedy(kernel, len(stay))[-1], abs=1e-5)


@every_version
def test_of_groups_across_each_other_the_least_relevant_go(version: Version) -> None:
    """However small all of them are: a group is as relevant as its rows on average."""
    hidden = np.repeat(np.eye(4), [2, 1, 1, 1], axis=0)
    relevance = np.array([1e-9, 5e-9, 2e-9, 4e-9, 1e-9])
    groups, stay = groups_of(version, hidden, Span(0, 5, 0, 3), relevance=relevance)
    assert (groups, stay) == ([[0, 1], [2], [3], [4]], [0, 2])
    _, stay = groups_of(version, hidden, Span(0, 5, 0, 2), relevance=relevance)
    assert stay == [0, 1, 2]


@every_version
def test_relevance_is_weighed_against_what_others_leave(version: Version) -> None:
    """Of two alike groups the less relevant one goes, though it is more relevant than the third."""
    hidden = np.array([[1.0, 0], [0, 1], [1, 0.01]])
    assert groups_of(version, hidden, Span(0, 3, 0, 1), relevance=[0.9, 0.2, 0.8])[1] == [0, 1]
    assert groups_of(version, hidden, Span(0, 3, 0, 1), relevance=[0.8, 0.2, 0.9])[1] == [1, 2]
    assert groups_of(version, hidden, Span(0, 3, 0, 1), relevance=[0.9, 1e-4, 0.8])[1] == [0, 2]


@every_version
def test_the_weighted_mean_of_a_group_is_what_is_compared(version: Version) -> None:
    """By the second of its rows the first group is like the last one; by the first of them it is not."""
    hidden = rows_at([0.0, 0.5, 2.0, 0.5 - 2 * np.pi])
    span = Span(0, 4, 0, 2)
    assert groups_of(version, hidden, span, weight=[1e-9, 1, 1, 1]) == ([[0, 1], [2], [3]], [0, 1])
    relevance = [0.5, 0.5, 0.1, 1]
    assert groups_of(version, hidden, span, [1e-9, 1, 1, 1], relevance)[1] == [1, 2]
    assert groups_of(version, hidden, span, [1, 1e-9, 1, 1], relevance)[1] == [0, 2]


@every_version
@pytest.mark.parametrize("nothing", [0.0, np.nan, -1.0, 1e-45])
def test_rows_that_get_no_attention_are_all_alike(version: Version, nothing: float) -> None:
    """Then only what rows are decides, and all of a group weigh the same."""
    hidden = rows_at([0.0, 0.1, 1.5, 1.6, 3.0, 4.4])
    for removed in range(6):
        span = Span(0, 6, 0, removed)
        assert groups_of(version, hidden, span, nothing, nothing) == groups_of(version, hidden, span)


@every_version
@pytest.mark.parametrize("rows", [1, 2, 5])
def test_where_nothing_goes_every_row_stays_whatever_its_relevance(version: Version, rows: int) -> None:
    hidden = np.tile([[1.0, 2.0]], (rows, 1))
    groups, stay = groups_of(version, hidden, Span(0, rows, 0, 0), np.arange(rows), np.arange(rows))
    assert groups == [[row] for row in range(rows)]
    assert stay == list(range(rows))


@every_version
def test_what_is_like_another_group_goes_first(version: Version) -> None:
    hidden = np.array([[1.0, 0, 0], [0, 1, 0], [1, 0.01, 0], [0, 0, 1]])
    groups, stay = groups_of(version, hidden, Span(0, 4, 0, 1))
    assert (groups, stay) == ([[0], [1], [2], [3]], [0, 1, 3])


@every_version
@pytest.mark.parametrize("removed", range(8))
def test_equal_rows_tie_and_the_last_of_them_are_told_apart(version: Version, removed: int) -> None:
    hidden = np.tile(np.array([[0.3, -1.7, 0.9]]), (8, 1))
    groups, stay = groups_of(version, hidden, Span(0, 8, 0, removed))
    assert groups == [list(range(removed + 1)), *([row] for row in range(removed + 1, 8))]
    assert stay == list(range(8 - removed))


@every_version
def test_zero_rows_are_groups_of_their_own_and_stay_last(version: Version) -> None:
    hidden = np.array([[0.0, 0], [0, 0], [1, 0], [0, 1]])
    assert groups_of(version, hidden, Span(0, 4, 0, 2)) == ([[0], [1], [2], [3]], [2, 3])
    assert groups_of(version, hidden, Span(0, 4, 0, 1)) == ([[0], [1], [2], [3]], [0, 2, 3])


@every_version
def test_rows_around_the_span_have_no_say(version: Version) -> None:
    hidden = rows_at([0, 0, 0.1, 2.0, 4.0, 4.0])
    around = np.concatenate([hidden[1:2], hidden[1:5], hidden[4:5]])
    assert groups_of(version, around, Span(1, 4, 1, 2)) == groups_of(version, hidden[1:5], Span(0, 4, 0, 2))


@every_version
def test_no_rows_are_no_groups(version: Version) -> None:
    assert groups_of(version, np.zeros((2, 3)), Span(1, 0, 1, 0)) == ([], [])


def test_versions_choose_alike_among_many_rows() -> None:
    rng = np.random.default_rng(5)
    alike = np.repeat(rng.standard_normal((100, 8)), 3, axis=0)
    hidden = (alike + 0.3 * rng.standard_normal(alike.shape)).astype(np.float32)
    names = "reference-float32", "onnx-float32", "onnx-unoptimised-float32"
    found = [groups_of(VERSIONS[name], hidden, Span(0, 300, 0, 220)) for name in names]
    assert len(found[0][0]) > len(found[0][1]) == 80
    assert found[0] == found[1] == found[2]
