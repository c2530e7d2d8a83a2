"""Features of whole clips against those that transformers' extractors gave, recorded with torchaudio 2.11.

Of each recording every 5th or 9th number of a row is kept. The extractors themselves need torchaudio, which
the tests do not.
"""

from pathlib import Path

import numpy as np
import pytest

from fastadasp.profiles.errors import ArtifactError, AudioError
from fastadasp.runtime.audio.clip_features import ClipFeatures
from fastadasp.runtime.audio.features import encoder_rows, feature_windows

RECORDED = np.load(Path(__file__).parent / "recorded" / "clip_features.npz")
PAIRS = ClipFeatures("log_mel_pairs")
FBANK = ClipFeatures("stacked_fbank", stacked=7, stride=6, most_rows=2048)
BY_KIND = {"log_mel_pairs": (PAIRS, 5, 1e-4), "stacked_fbank": (FBANK, 9, 2e-3)}


def sound(n, seed):
    """As it was recorded: a sweep that grows and fades, in noise."""
    rng, time = np.random.default_rng(seed), np.arange(n) / 16000
    sweep = 0.3 * np.sin(2 * np.pi * (200 + 700 * time) * time) * (0.2 + np.sin(9 * time) ** 2)
    return (sweep + 0.02 * rng.standard_normal(n)).astype(np.float32)


@pytest.mark.parametrize("name", sorted(RECORDED))
def test_features_equal_those_of_the_extractor(name):
    kind, size = name.split(".")
    features, every, atol = BY_KIND[kind]
    (window,) = feature_windows(sound(int(size), int(size)), features)
    expected = RECORDED[name]
    assert window.mel.shape == (features.num_mel_bins, expected.shape[1])
    assert window.encoder_rows == expected.shape[1]
    np.testing.assert_allclose(window.mel[::every], expected, atol=atol, rtol=1e-4)


@pytest.mark.parametrize("features", [PAIRS, FBANK], ids=lambda it: it.kind)
def test_a_clip_has_as_many_rows_as_are_counted(features):
    for size in (*range(400, 2000, 37), 16000, 16001):
        (window,) = feature_windows(np.ones(size, np.float32), features)
        assert window.mel.shape[1] == window.encoder_rows == encoder_rows(size, features)
        assert features.frames_of(window.encoder_rows) == window.mel.shape[1]


@pytest.mark.parametrize(("features", "least"), [(PAIRS, 257), (FBANK, 400)], ids=lambda it: str(it))
def test_a_clip_that_is_too_short_for_a_row_is_refused(features, least):
    assert encoder_rows(least, features) == 1
    assert encoder_rows(least - 1, features) == 0
    with pytest.raises(AudioError, match="gives no row"):
        feature_windows(np.zeros(least - 1, np.float32), features)


@pytest.mark.parametrize("kind", ["log_mel_pairs", "stacked_fbank"])
@pytest.mark.parametrize("most", [1, 7, 2048])
def test_the_longest_clip_gives_the_most_rows(kind, most):
    features = ClipFeatures(kind, most_rows=most)
    assert features.max_rows == most
    assert features.rows_of_samples(features.window_samples) == most
    assert features.rows_of_samples(features.window_samples + 1) == most + 1


def test_numbers_that_no_front_end_has_are_refused():
    with pytest.raises(ArtifactError, match=r"kind .mfcc. is unknown.*n_fft 300 must"):
        ClipFeatures("mfcc", n_fft=300)
