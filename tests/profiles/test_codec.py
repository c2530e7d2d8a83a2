"""Any record comes back from JSON as it was, and nothing else passes for one."""

from __future__ import annotations

import json
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from fractions import Fraction
from typing import Any, Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fastadasp.evaluation.results.figures import Difference, Estimate, Measured
from fastadasp.profiles.codec import RecordError, from_json, to_json
from fastadasp.profiles.faults import MOST_FAULTS
from fastadasp.runtime.decoding.options import SearchOptions
from fuzzing import fuzz

NUMBERS = st.floats(-1e6, 1e6)
ENDS = st.one_of(st.just((None, None)), st.tuples(NUMBERS, NUMBERS).map(sorted).map(tuple))
DELTAS = st.builds(
    lambda value, ends, p_value: Difference(value, *ends, p_value),
    NUMBERS,
    ENDS,
    st.none() | st.floats(0, 1),
)
FIGURES = st.builds(
    lambda value, ends, delta, seeds, reason: Measured(value, *ends, delta, tuple(seeds), reason),
    st.none() | NUMBERS,
    ENDS,
    st.none() | DELTAS,
    st.lists(st.none() | NUMBERS, max_size=4),
    st.none() | st.text(max_size=8),
)


@dataclass(frozen=True)
class Inner:
    share: Fraction
    unit: Literal["a", "b"]


@dataclass(frozen=True)
class Outer:
    name: str
    count: int
    on: bool
    size: float | None
    choice: bool | str
    pair: tuple[Inner, Inner]
    several: tuple[Inner, ...]
    by_name: Mapping[str, Inner]
    by_share: Mapping[Fraction, tuple[int, ...]]
    anything: Mapping[str, Any]


INNER = Inner(Fraction(3, 10), "a")
OUTER = Outer(
    *("ö", 3, True, None, "never"),
    *((INNER, INNER), (INNER,), {"x": INNER}, {Fraction(1, 8): (1, 2)}, {"deep": [{"x": None}]}),
)


def through_json(record):
    return from_json(type(record), json.loads(json.dumps(to_json(record))))


@given(figure=FIGURES)
def test_a_figure_comes_back_as_it_was(figure):
    assert through_json(figure) == figure


@given(figure=FIGURES, value=NUMBERS)
def test_a_figure_has_one_spelling_in_which_its_interval_and_difference_have_the_same(figure, value):
    content = to_json(replace(figure, value=value))
    assert list(content) == ["value", "low", "high", "delta", "seeds", "reason"]
    if figure.delta is not None:
        assert list(content["delta"]) == ["value", "low", "high", "p_value"]
        assert type(through_json(figure).delta) is Difference


@given(figure=FIGURES, factor=st.floats(0.1, 100))
def test_another_unit_is_that_of_value_interval_difference_and_seeds(figure, factor):
    def times(value):
        return None if value is None else value * factor

    found = figure.times(factor)
    assert (found.value, found.low, found.high) == tuple(map(times, (figure.value, figure.low, figure.high)))
    assert found.seeds == tuple(map(times, figure.seeds))
    assert found.reason == figure.reason
    if figure.delta is None:
        assert found.delta is None
    else:
        assert found.delta.value == figure.delta.value * factor
        assert found.delta.p_value == figure.delta.p_value


def test_every_type_of_field_comes_back():
    assert through_json(OUTER) == OUTER
    assert to_json(OUTER)["by_share"] == {"1/8": [1, 2]}


@given(share=st.fractions(0, 1, max_denominator=10**9))
def test_a_share_is_exact(share):
    assert through_json(Inner(share, "b")) == Inner(share, "b")


def test_options_of_the_search_are_a_record_too():
    options = SearchOptions(num_beams=5, early_stopping="never", eos_token_ids=(3, 4))
    assert through_json(options) == options


@pytest.mark.parametrize(
    ("change", "fault"),
    [
        ({"count": 1.0}, "count is 1.0, not a whole number"),
        ({"count": True}, "count is True, not a whole number"),
        ({"on": 1}, "on is 1, not true or false"),
        ({"size": "1"}, "size is '1', not a number"),
        ({"choice": 1}, "choice is 1, not a text"),
        ({"pair": [to_json(INNER)]}, "pair has 1 entries, not 2"),
        ({"several": [to_json(INNER), 1]}, "several[1] is 1, not an object"),
        ({"by_name": {"x" * 101: None}}, f"by_name.{'x' * 100}… is None, not an object"),
        ({"by_share": {"x": []}}, "by_share.x is 'x', not a share such as 3/10"),
        ({"by_share": {"1/2": [None]}}, "by_share.1/2[0] is None, not a whole number"),
        ({"by_share": {"1/2": 10**400}}, "by_share.1/2 is 1"),
        ({"anything": []}, "anything is [], not an object"),
    ],
)
def test_what_is_of_another_type_is_named(change, fault):
    with pytest.raises(RecordError) as caught:
        from_json(Outer, {**to_json(OUTER), **change})
    assert len(caught.value.faults) == 1
    assert caught.value.faults[0].startswith(fault)


@pytest.mark.parametrize("share", ["1/0", "-1/2", "0.5", "1e999999999", "٣", "9" * 101, " 1/2", None])
def test_only_a_short_plain_fraction_is_a_share(share):
    with pytest.raises(RecordError, match="not a share such as 3/10"):
        from_json(Inner, {"share": share, "unit": "a"})


@pytest.mark.parametrize("content", [None, [], "x", 1])
def test_what_is_no_object_is_no_record(content):
    with pytest.raises(RecordError, match=r"the file is .*, not an object"):
        from_json(Outer, content)


def test_all_faults_are_told_up_to_a_few():
    with pytest.raises(RecordError) as caught:
        from_json(Outer, {"by_share": dict.fromkeys(map(str, range(20)))})
    *told, more = caught.value.faults
    assert len(told) == MOST_FAULTS
    assert told[0] == "name is missing"
    assert more == "and 19 more faults"


def test_a_field_that_is_unknown_is_ignored_or_refused_by_its_place():
    content = to_json(OUTER) | {"more": 1, "pair": [to_json(INNER) | {"cube": None}, to_json(INNER)]}
    assert from_json(Outer, content) == OUTER
    with pytest.raises(RecordError) as caught:
        from_json(Outer, content, whole=True)
    assert caught.value.faults == ("pair[0].cube is unknown", "more is unknown")


@pytest.mark.fuzz
@fuzz(100)
@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.text(),
        lambda of: st.lists(of) | st.dictionaries(st.text(), of),
    )
)
def test_whatever_a_file_holds_there_is_a_record_or_a_message(content):
    for kind in (Outer, Measured, Estimate, SearchOptions):
        with suppress(RecordError):
            assert isinstance(from_json(kind, content), kind)
