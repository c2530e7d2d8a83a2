"""Lengths follow the schedules exactly, and equal those that the published code recorded."""

from fractions import Fraction
from itertools import pairwise
from math import floor

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fastadasp.profiles import SCHEDULES, ProfileError, layer_ratios, removed, token_counts
from fastadasp.profiles.errors import InfeasibleError
from fastadasp.profiles.schedule import input_ratio

LAYERS, SPAN, TEXT = 32, 101, 12  # of the recorded run: 113 rows of prompt

# schedule, start layer, ratio, KV lengths from layer 0 on, rows after the last layer
RECORDED = [
    ("single", 3, "0.5", "113 " * 4 + "63 " * 28, 63),
    ("single", 2, "0.29", "113 " * 3 + "84 " * 29, 84),
    (
        "constant",
        2,
        "0.05",
        "113 113 113 108 104 100 96 92 88 85 82 79 76 73 70 68 "
        "66 64 62 60 58 56 54 52 50 49 48 47 46 45 44 43",
        42,
    ),
    (
        "decay",
        2,
        "0.1",
        "113 113 113 103 95 88 82 76 71 67 63 60 57 55 53 51 49 48 47 46 45 44 43 43 43 43 43 43 43 43 43 43",
        43,
    ),
    ("single", 2, "0.3", "113 " * 3 + "83 " * 29, 83),
    ("single", 2, "0.4", "113 " * 3 + "73 " * 29, 73),
    (
        "decay",
        2,
        "0.05",
        "113 113 113 108 104 100 97 94 91 88 86 84 82 80 78 77 "
        "76 75 74 73 72 71 70 70 70 70 70 70 70 70 70 70",
        70,
    ),
    (
        "constant",
        2,
        "0.0595",
        "113 113 113 107 102 97 92 88 84 80 76 73 70 67 64 61 "
        "59 57 55 53 51 49 47 45 44 43 42 41 40 39 38 37",
        36,
    ),
    (
        "decay",
        2,
        "0.0832",
        "113 113 113 105 98 92 87 82 78 74 71 68 65 63 61 59 57 56 55 54 53 52 51 50 50 50 50 50 50 50 50 50",
        50,
    ),
]

ratios_below_one = st.fractions(0, Fraction(999_999, 10**6), max_denominator=10**6)


@st.composite
def layouts(draw: st.DrawFn) -> tuple[str, int, int]:
    """A schedule, a start layer that suits it, and a number of layers."""
    schedule = draw(st.sampled_from(SCHEDULES))
    num_layers = draw(st.integers(2, 40))
    last_start = num_layers - 2 if schedule == "decay" else num_layers - 1
    return schedule, draw(st.integers(0, last_start)), num_layers


@pytest.mark.parametrize(("schedule", "start", "ratio", "kv_lengths", "final_rows"), RECORDED)
def test_lengths_equal_the_recorded_ones(
    schedule: str, start: int, ratio: str, kv_lengths: str, final_rows: int
) -> None:
    counts = token_counts(SPAN, layer_ratios(schedule, start, Fraction(ratio), LAYERS))
    assert [rows + TEXT for rows in counts.attention] == [int(rows) for rows in kv_lengths.split()]
    assert counts.mlp[-1] + TEXT == final_rows


def test_a_layer_caches_its_rows_before_its_own_reduction() -> None:
    counts = token_counts(10, [Fraction(0), Fraction(1, 2), Fraction(0)])
    assert counts.attention == (10, 10, 5)
    assert counts.mlp == (10, 5, 5)


def test_a_cache_holds_the_rows_that_its_layer_attends_over() -> None:
    counts = token_counts(10, [Fraction(0), Fraction(1, 2), Fraction(0)])
    assert counts.cached == counts.attention


@given(st.integers(0, 5_000), ratios_below_one, layouts())
def test_only_the_caches_get_shorter_where_a_method_works_on_them_alone(
    span: int, ratio: Fraction, layout: tuple[str, int, int]
) -> None:
    _, start, num_layers = layout
    counts = token_counts(span, layer_ratios("constant", start, ratio, num_layers), is_of_caches=True)
    assert counts.attention == counts.mlp == (span,) * num_layers
    kept = span - floor(span * ratio)
    assert counts.cached == (span,) * start + (kept,) * (num_layers - start)  # nothing compounds
    assert kept or not span


def test_a_reduction_at_the_input_is_before_the_first_layer() -> None:
    half, ratios = Fraction(1, 2), layer_ratios("input", 0, Fraction(1, 2), 3)
    assert ratios == (0, 0, 0)
    counts = token_counts(11, ratios, input_ratio=input_ratio("input", half))
    assert counts.attention == counts.mlp == counts.cached == (6, 6, 6)
    both = token_counts(11, layer_ratios("input_and_single", 1, half, 3), input_ratio=half)
    assert (both.attention, both.mlp) == ((6, 6, 3), (6, 3, 3))


def test_a_decimal_ratio_is_not_rounded_as_a_float() -> None:
    assert int(100 * 0.29) == 28  # what floating point makes of it
    assert removed(100, Fraction("0.29")) == 29


def test_decay_falls_linearly_to_nothing_at_the_last_layer() -> None:
    ratios = layer_ratios("decay", 1, Fraction(1, 10), 5)
    assert list(map(str, ratios)) == ["0", "1/10", "1/15", "1/30", "0"]


@given(st.integers(1, 10_000), ratios_below_one, layouts())
def test_counts_equal_a_walk_by_definition(span: int, ratio: Fraction, layout: tuple[str, int, int]) -> None:
    schedule, start, num_layers = layout
    rows, attention, mlp = span, [], []
    at_input = input_ratio(schedule, ratio)
    if schedule in ("input", "input_and_single"):
        rows -= floor(rows * ratio)
    for layer in range(num_layers):
        share = Fraction(0)
        if (layer == start and schedule != "input") or (layer > start and schedule in ("constant", "decay")):
            share = ratio
        if schedule == "decay" and layer > start:
            share *= 1 - Fraction(layer - start, num_layers - 1 - start)
        attention.append(rows)
        rows -= floor(rows * share)
        mlp.append(rows)
    counts = token_counts(span, layer_ratios(schedule, start, ratio, num_layers), input_ratio=at_input)
    assert counts.attention == tuple(attention)
    assert counts.mlp == tuple(mlp)


@given(st.integers(1, 10_000), ratios_below_one, layouts())
def test_rows_never_grow_and_one_always_stays(
    span: int, ratio: Fraction, layout: tuple[str, int, int]
) -> None:
    schedule, start, num_layers = layout
    at_input = input_ratio(schedule, ratio)
    counts = token_counts(span, layer_ratios(schedule, start, ratio, num_layers), input_ratio=at_input)
    walk = [rows for pair in zip(counts.attention, counts.mlp, strict=True) for rows in pair]
    assert all(before >= after for before, after in pairwise(walk))
    assert walk[-1] >= 1
    first = span - floor(span * ratio) if schedule in ("input", "input_and_single") else span
    assert set(counts.attention[: start + 1]) == {first}


@given(st.integers(1, 5_000), ratios_below_one, ratios_below_one, layouts())
def test_a_larger_ratio_never_leaves_more_rows(
    span: int, one: Fraction, other: Fraction, layout: tuple[str, int, int]
) -> None:
    schedule, start, num_layers = layout
    few = token_counts(span, layer_ratios(schedule, start, max(one, other), num_layers))
    many = token_counts(span, layer_ratios(schedule, start, min(one, other), num_layers))
    assert all(a <= b for a, b in zip(few.mlp, many.mlp, strict=True))


def test_an_empty_span_stays_empty() -> None:
    assert token_counts(0, [Fraction(1, 2)]).mlp == (0,)


@pytest.mark.parametrize("start", [-1, 32, 400])
def test_a_start_layer_out_of_range_names_the_range(start: int) -> None:
    with pytest.raises(ProfileError, match=rf"start_layer {start} is out of range.*layers 0 to 31"):
        layer_ratios("single", start, Fraction(1, 2), 32)


def test_decay_from_the_last_layer_is_refused_with_the_reason() -> None:
    with pytest.raises(InfeasibleError, match=r"decay.*last layer, 31.*division by zero\); start earlier$"):
        layer_ratios("decay", 31, Fraction(1, 2), 32)


@pytest.mark.parametrize("ratio", [Fraction(-1, 100), Fraction(1), Fraction(3, 2)])
def test_a_ratio_outside_the_unit_interval_is_refused(ratio: Fraction) -> None:
    with pytest.raises(ProfileError, match=r"outside \[0, 1\)"):
        layer_ratios("single", 0, ratio, 4)


def test_an_unknown_schedule_lists_the_known_ones() -> None:
    with pytest.raises(ProfileError, match=r"'cosine' is unknown.*single, constant, decay"):
        layer_ratios("cosine", 0, Fraction(1, 2), 4)
