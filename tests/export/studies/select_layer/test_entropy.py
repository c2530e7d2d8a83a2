"""The entropy is that of Gaussian channels, and its difference between two merges is what counts."""

from __future__ import annotations

import math

import numpy as np
import pytest

from fastadasp.export.studies.select_layer.entropy import (
    LayerMoments,
    channel_entropies,
    resampled,
    transfer_entropy,
)
from fastadasp.export.studies.select_layer.moments import Moments

UNIT = 0.5 * math.log(2 * math.pi * math.e)  # nats, of a variance of 1


def clips(seed, scale=1.0, count=5):
    """Moments of random clips of 4 channels."""
    rng = np.random.default_rng(seed)
    return tuple(Moments.of(scale * rng.standard_normal((int(n), 4))) for n in rng.integers(20, 60, count))


def with_variance(*variance):
    """One clip of two rows a channel, at plus and minus one standard deviation."""
    return Moments.of(np.sqrt(np.array([variance])) * np.array([[1.0], [-1.0]]))


def test_the_entropy_of_a_channel_is_that_of_a_gaussian():
    found = channel_entropies(np.array([1.0, 4.0, 0.25]))
    assert found == pytest.approx([UNIT, UNIT + math.log(2), UNIT - math.log(2)], abs=1e-11)


def test_a_constant_channel_has_the_entropy_of_the_noise():
    found = channel_entropies(np.array([0.0, 2.0, 2.0]))
    assert found[0] == pytest.approx(UNIT + 0.5 * math.log(1e-12 * 2.0))


def test_entropies_are_taken_draw_by_draw():
    variance = np.array([[1.0, 3.0, 0.0], [2.0, 2e-9, 5.0]])
    assert channel_entropies(variance) == pytest.approx(np.stack([channel_entropies(v) for v in variance]))


def test_equal_terms_have_a_transfer_entropy_of_exactly_0():
    term = clips(0)
    found = transfer_entropy(LayerMoments(term, term))
    assert (found.transfer_entropy, found.per_channel) == (0, 0)


def test_rows_of_twice_the_size_add_log_2_a_channel():
    found = transfer_entropy(LayerMoments(clips(1), clips(1, scale=2.0)))
    assert found.transfer_entropy == pytest.approx(4 * math.log(2))
    assert found.at_layer - found.at_last == pytest.approx(4 * math.log(2))


def test_channels_that_gain_and_lose_cancel_in_the_sum_alone():
    found = transfer_entropy(LayerMoments((with_variance(1.0, 1.0),), (with_variance(4.0, 0.25),)))
    assert found.transfer_entropy == pytest.approx(0, abs=1e-11)
    assert found.per_channel == pytest.approx(2 * math.log(2))


def test_the_entropy_pools_all_rows_of_all_clips():
    rng = np.random.default_rng(2)
    rows = [rng.standard_normal((n, 4)) + n for n in (3, 9, 30)]  # clips differ in their means, too
    found = transfer_entropy(LayerMoments(tuple(map(Moments.of, rows)), clips(3, count=3)))
    expected = channel_entropies(np.concatenate(rows).var(axis=0)).sum()
    assert found.at_last == pytest.approx(expected)


def test_a_draw_that_takes_each_clip_once_has_the_transfer_entropy_of_all():
    layers = [LayerMoments(clips(4), clips(5)), LayerMoments(clips(6), clips(7))]
    times = np.array([[1, 1, 1, 1, 1], [2, 2, 2, 2, 2], [0, 3, 1, 0, 1]])
    found = resampled(layers, times)
    expected = [transfer_entropy(moments).transfer_entropy for moments in layers]
    assert found.shape == (3, 2)
    assert found[:2] == pytest.approx(np.array([expected, expected]))
    assert found[2] != pytest.approx(np.array(expected))
