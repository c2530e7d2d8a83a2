"""Segments of made-up frames: they are in order and apart, hold all speech, and are cut where it is quiet."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fastadasp.profiles.errors import RequestError
from fastadasp.runtime import SegmentOptions
from fastadasp.runtime.segments.cutter import HALF, Cutter, Span
from fastadasp.runtime.segments.options import FRAME_SECONDS, Rules

RULES = Rules(
    threshold=0.5, release=0.35, min_pause=4, min_speech=2, padding=2, merged=0, merge_gap=0, longest=40
)


def cut(rules: Rules, probabilities: list[float], powers: list[float] | None = None) -> list[Span]:
    cutter, spans = Cutter(rules), []
    for frame, probability in enumerate(probabilities):
        new = list(cutter.take(probability, powers[frame] if powers else 1.0))
        assert all(span.start >= before for span, before in zip(new, [kept_from(spans)], strict=False))
        spans += new
        assert cutter.kept_from >= (spans[-1].end if spans else 0) - rules.padding
    return [*spans, *cutter.finish()]


def kept_from(spans: list[Span]) -> int:
    return spans[-1].end if spans else 0


def frames(*runs: tuple[float, int]) -> list[float]:
    return [value for value, count in runs for _ in range(count)]


def test_speech_is_padded_on_both_sides() -> None:
    assert cut(RULES, frames((0.1, 10), (0.9, 10), (0.1, 10))) == [(8, 22)]


def test_padding_ends_where_the_recording_does() -> None:
    assert cut(RULES, frames((0.1, 1), (0.9, 10), (0.1, 1))) == [(0, 12)]


def test_a_value_between_the_thresholds_neither_begins_nor_ends_speech() -> None:
    assert cut(RULES, frames((0.4, 20))) == []
    assert cut(RULES, frames((0.9, 5), (0.4, 20), (0.9, 5), (0.0, 9))) == [(0, 32)]


def test_a_short_pause_is_inside_and_a_long_one_between() -> None:
    assert cut(RULES, frames((0.9, 5), (0.1, 3), (0.9, 5))) == [(0, 13)]
    assert cut(RULES, frames((0.9, 5), (0.1, 4), (0.9, 5))) == [(0, 7), (7, 14)]


def test_speech_that_is_too_short_is_passed_over() -> None:
    assert cut(RULES, frames((0.1, 10), (0.9, 1), (0.1, 10))) == []
    assert len(cut(RULES, frames((0.1, 10), (0.9, 2), (0.1, 10)))) == 1


@pytest.mark.parametrize(("pause", "together"), [(4, 1), (8, 1), (9, 2)])
def test_segments_are_joined_over_short_pauses_alone(pause: int, together: int) -> None:
    rules = replace(RULES, merged=40, merge_gap=8 - 2 * RULES.padding)
    assert len(cut(rules, frames((0.9, 10), (0.1, pause), (0.9, 10), (0.1, 20)))) == together


@pytest.mark.parametrize(("merged", "together"), [(24, 2), (26, 1)])
def test_segments_are_joined_up_to_a_length(merged: int, together: int) -> None:
    rules = replace(RULES, merged=merged, merge_gap=4)
    assert len(cut(rules, frames((0.9, 10), (0.1, 4), (0.9, 10), (0.1, 20)))) == together


def test_a_segment_that_waits_for_another_is_given_when_none_can_follow() -> None:
    cutter, given_at = Cutter(replace(RULES, merged=40, merge_gap=4)), []
    for frame, probability in enumerate(frames((0.9, 10), (0.1, 30))):
        given_at += [(frame, span) for span in cutter.take(probability, 1.0)]
    assert given_at == [(18, (0, 12))]
    assert cutter.kept_from == 38


@pytest.mark.parametrize("place", [21, 30, 37])
def test_a_segment_that_is_too_long_is_cut_at_its_quietest_place(place: int) -> None:
    powers = [1.0] * 60
    powers[place - HALF : place + HALF] = [0.5] * (2 * HALF)
    powers[10] = 0.0  # too early, and too short
    assert cut(RULES, frames((0.9, 60)), powers) == [(0, place), (place, 60)]


def test_what_is_left_behind_a_cut_is_kept_however_short() -> None:
    rules = replace(RULES, min_speech=20)
    spans = cut(rules, frames((0.9, 41), (0.1, 10)), [1.0] * 35 + [0.1] * 16)
    assert spans[0].end == spans[1].start == 37
    assert spans[1].end == 43


probabilities = st.lists(
    st.tuples(st.sampled_from([0.0, 0.3, 0.4, 0.5, 1.0]), st.integers(1, 60)), max_size=20
).map(lambda runs: frames(*runs))
rules = st.builds(
    Rules,
    threshold=st.just(0.5),
    release=st.just(0.35),
    min_pause=st.integers(1, 50),
    min_speech=st.integers(0, 10),
    padding=st.integers(0, 30),
    merged=st.integers(0, 60),
    merge_gap=st.integers(-40, 40),
    longest=st.integers(31, 60),
).map(lambda r: replace(r, padding=min(r.padding, r.min_pause // 2), merged=min(r.merged, r.longest)))


@settings(max_examples=300)
@given(heard=probabilities, rules=rules, seed=st.integers(0, 9))
def test_segments_are_in_order_apart_and_short_enough_and_hold_all_speech(
    heard: list[float], rules: Rules, seed: int
) -> None:
    powers = [float((frame * 7919 + seed) % 13) for frame in range(len(heard))]
    spans = cut(rules, heard, powers)
    times = [place for span in spans for place in span]
    assert times == sorted(times)
    assert all(0 <= start < end <= len(heard) for start, end in spans)
    assert all(end - start <= rules.longest for start, end in spans)
    held = {frame for start, end in spans for frame in range(start, end)}
    loud = [frame for frame, probability in enumerate(heard) if probability >= rules.threshold]
    if rules.min_speech <= 1:
        assert held >= set(loud)
    assert not spans or loud


@pytest.mark.parametrize(
    ("values", "fault"),
    [
        ({"threshold": 1}, "threshold is 1: give a probability between 0 and 1"),
        ({"threshold": "much"}, "threshold is 'much': give a probability"),
        ({"min_pause": -1}, "min_pause is -1: give seconds, at least 0"),
        ({"padding": float("nan")}, "padding is nan: give seconds"),
        ({"max_seconds": 0.5}, "max_seconds is 0.5: give seconds, at least 1"),
        ({"merge_seconds": True, "min_speech": None}, "min_speech is None: .*; merge_seconds is True: "),
    ],
)
def test_options_that_are_out_of_range_are_refused_by_name(values: dict[str, object], fault: str) -> None:
    with pytest.raises(RequestError, match=fault):
        SegmentOptions(**values)  # type: ignore[arg-type]


def test_options_become_frames_that_keep_their_promise() -> None:
    rules = SegmentOptions(min_pause=0.33, padding=0.1, merge_seconds=50.0).rules(longest=10.0)
    assert rules.min_pause * FRAME_SECONDS >= 0.33
    assert rules.padding * FRAME_SECONDS <= 0.1
    assert rules.merged == rules.longest
    assert rules.longest * FRAME_SECONDS <= 10.0
    assert SegmentOptions(min_pause=0.1, padding=0.5).rules(longest=10.0).padding == 2
