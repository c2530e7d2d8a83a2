"""Intervals and paired differences: seeded, exact at the edges, and honest where clips are too few."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fastadasp.evaluation.figures import bootstrap
from fastadasp.evaluation.figures.bootstrap import by_recording, resampled, resampled_sums
from fastadasp.evaluation.figures.scores import score
from fastadasp.evaluation.metrics.metric import Metric, mean_sample
from fastadasp.evaluation.options import Bootstrap

METRIC = Metric("share", "share")
HITS = st.lists(st.sampled_from([0.0, 1.0]), min_size=2, max_size=40)


def figures(first, second=None, **options):
    """Exact match of answers that are right where a value is 1."""
    systems = {"full": first} | ({} if second is None else {"half": second})
    hypotheses = {
        name: ["right" if value else "wrong" for value in values] for name, values in systems.items()
    }
    return {
        name: found for name, (found,) in score("qa", [["right"]] * len(first), hypotheses, **options).items()
    }


def apart(values):
    """A recording for each clip."""
    return [str(i) for i in range(len(values))]


def test_a_bootstrap_is_that_of_recordings_drawn_one_by_one():
    statistics = np.arange(12.0).reshape(6, 2)
    drawn = np.random.default_rng(5).integers(6, size=(50, 6))
    assert np.array_equal(resampled_sums(statistics, Bootstrap(50, 5)), statistics[drawn].sum(1))


def test_memory_is_bounded_and_blocks_change_nothing(monkeypatch):
    statistics = np.random.default_rng(0).standard_normal((17, 3))
    whole = resampled_sums(statistics, Bootstrap(100, 1))
    monkeypatch.setattr(bootstrap, "BLOCK", 50)
    assert np.allclose(resampled_sums(statistics, Bootstrap(100, 1)), whole)


@given(values=HITS, seed=st.integers(0, 1000))
@settings(max_examples=60)
def test_an_interval_lies_within_what_the_clips_allow_and_repeats_with_its_seed(values, seed):
    found = figures(values, bootstrap=Bootstrap(200, seed))["full"]
    assert min(values) <= found.interval.low <= found.interval.high <= max(values)
    assert figures(values, bootstrap=Bootstrap(200, seed))["full"] == found


@given(values=HITS)
@settings(max_examples=40)
def test_equal_answers_differ_by_exactly_nothing(values):
    change = figures(values, values)["half"].delta
    assert (change.value, change.interval.low, change.interval.high, change.p_value) == (0, 0, 0, 1)


@given(first=HITS, seed=st.integers(0, 99))
@settings(max_examples=40)
def test_a_difference_is_the_second_less_the_first_on_the_same_draws(first, seed):
    second = np.random.default_rng(seed).integers(2, size=len(first)).astype(float).tolist()
    bootstrap = Bootstrap(300, seed)
    change = figures(first, second, bootstrap=bootstrap)["half"].delta
    draws = [resampled(mean_sample(METRIC, values), apart(values), bootstrap) for values in (first, second)]
    differences, found = draws[1] - draws[0], change.value
    low, high = np.percentile(differences, (2.5, 97.5))
    assert found == pytest.approx(np.mean(second) - np.mean(first))
    assert (change.interval.low, change.interval.high) == (low, high)
    as_far = (np.abs(differences - found) >= abs(found) * (1 - 1e-12)).sum()
    assert change.p_value == (1 + as_far) / (300 + 1)


def test_a_difference_in_every_clip_has_the_least_p_value_that_so_many_resamples_can_have():
    change = figures([1.0] * 5, [0.0] * 5, bootstrap=Bootstrap(300))["half"].delta
    assert (change.value, change.p_value) == (-1, 1 / 301)


def test_the_first_system_has_no_difference():
    assert figures([0, 1, 1], [1, 1, 1])["full"].delta is None


def test_a_large_difference_is_significant_and_a_small_one_is_not():
    right, one_wrong, wrong = [1.0] * 40, [1.0] * 39 + [0.0], [0.0] * 35 + [1.0] * 5
    assert figures(right, wrong)["half"].delta.p_value < 0.01
    assert figures(right, one_wrong)["half"].delta.p_value > 0.1


def test_an_interval_covers_the_true_share_about_as_often_as_it_says():
    generator, covered, rounds = np.random.default_rng(0), 0, 200
    for _ in range(rounds):
        values = (generator.random(100) < 0.3).astype(float)
        found = resampled(mean_sample(METRIC, values), apart(values), Bootstrap(400))
        low, high = np.percentile(found, (2.5, 97.5))
        covered += low <= 0.3 <= high
    assert 0.90 <= covered / rounds <= 0.99


@pytest.mark.parametrize(
    ("drawn_together", "least", "most"), [(True, 0.90, 0.99), (False, 0.60, 0.85)], ids=["together", "apart"]
)
def test_questions_that_one_recording_answers_alike_count_once(drawn_together, least, most):
    """Of three that are right or wrong together; drawn one by one their interval would be far too narrow."""
    generator, covered, rounds = np.random.default_rng(0), 0, 200
    recordings = [str(i // 3) for i in range(300)]
    for _ in range(rounds):
        values = np.repeat((generator.random(100) < 0.3).astype(float), 3)
        of = recordings if drawn_together else apart(values)
        low, high = np.percentile(resampled(mean_sample(METRIC, values), of, Bootstrap(200)), (2.5, 97.5))
        covered += low <= 0.3 <= high
    assert least <= covered / rounds <= most


@given(recordings=st.lists(st.sampled_from("abcde"), min_size=1, max_size=12), seed=st.integers(0, 99))
@settings(max_examples=60)
def test_a_recording_is_drawn_with_all_its_clips(recordings, seed):
    statistics = np.random.default_rng(seed).integers(0, 9, (len(recordings), 3)).astype(float)
    names = list(dict.fromkeys(recordings))
    drawn = np.random.default_rng(seed).integers(len(names), size=(20, len(names)))
    of_clips = [
        sum(
            statistics[[i for i, name in enumerate(recordings) if name == names[place]]].sum(0)
            for place in row
        )
        for row in drawn
    ]
    assert np.array_equal(resampled_sums(by_recording(statistics, recordings), Bootstrap(20, seed)), of_clips)


@given(values=HITS, seed=st.integers(0, 99))
@settings(max_examples=30)
def test_names_of_recordings_change_nothing(values, seed):
    recordings = [str(i // 2) for i in range(len(values))]
    other = [f"file-{99 - i // 2}.wav" for i in range(len(values))]
    bootstrap = Bootstrap(100, seed)
    assert figures(values, recordings=recordings, bootstrap=bootstrap) == figures(
        values, recordings=other, bootstrap=bootstrap
    )
    assert figures(values, bootstrap=bootstrap) == figures(
        values, recordings=apart(values), bootstrap=bootstrap
    )


def test_every_clip_has_a_recording():
    with pytest.raises(ValueError, match="2 names of recordings for 3 clips"):
        figures([1.0, 0.0, 1.0], recordings=["a", "b"])


def test_one_recording_has_no_interval_however_many_clips_are_of_it():
    found = figures([1.0, 0.0, 1.0], [0.0, 0.0, 1.0], recordings=["a", "a", "a"])
    assert (found["full"].value, found["full"].interval) == (pytest.approx(2 / 3), None)
    assert found["half"].delta.interval is None


def test_one_clip_has_a_value_but_no_interval():
    found = figures([1.0], [0.0])
    assert (found["full"].value, found["full"].interval) == (1, None)
    change = found["half"].delta
    assert (change.value, change.interval, change.p_value) == (-1, None, None)


def test_no_clip_has_no_figure():
    assert score("qa", [], {"full": []}) == {"full": ()}


def test_an_interval_is_absent_where_a_resample_may_be_undefined():
    found = score("asr", [["..."], ["one"]], {"full": ["", "one"]}, bootstrap=Bootstrap(200))["full"][0]
    assert found.value == 0
    assert found.interval is None
