"""Intervals and paired differences: seeded, exact at the edges, and honest where clips are too few."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fastadasp.evaluation.figures import bootstrap
from fastadasp.evaluation.figures.bootstrap import resampled, resampled_sums
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


def test_a_bootstrap_is_that_of_clips_drawn_one_by_one():
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
    second = list(np.random.default_rng(seed).permutation(first))
    bootstrap = Bootstrap(300, seed)
    change = figures(first, second, bootstrap=bootstrap)["half"].delta
    draws = [resampled(mean_sample(METRIC, values), bootstrap) for values in (first, second)]
    low, high = np.percentile(draws[1] - draws[0], (2.5, 97.5))
    assert change.value == pytest.approx(np.mean(second) - np.mean(first))
    assert (change.interval.low, change.interval.high) == (low, high)
    assert 0 < change.p_value <= 1


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
        low, high = np.percentile(resampled(mean_sample(METRIC, values), Bootstrap(400)), (2.5, 97.5))
        covered += low <= 0.3 <= high
    assert 0.90 <= covered / rounds <= 0.99


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
