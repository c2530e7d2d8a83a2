"""Windows of samples hold the clip as the extractor of transformers gives it, and what is before each."""

import dataclasses

import numpy as np
import pytest
import transformers

from fastadasp.profiles.errors import ArtifactError, AudioError
from fastadasp.runtime.audio.features import encoder_rows, feature_windows
from fastadasp.runtime.audio.front_end import FrontEnd
from fastadasp.runtime.audio.wave_windows import WaveWindows

WINDOWS = WaveWindows(samples_per_row=100, window_rows=5, context_rows=3, sample_rate=24000, level=-25.0)
SIZES = (1, 99, 100, 101, 500, 501, 777, 1000, 1801)


def sound(size, level=0.1):
    time = np.arange(size) / 24000
    noise = np.random.default_rng(size).standard_normal(size)
    return (level * (np.sin(3000 * time) + 0.3 * noise)).astype(np.float32)


def joined(windows):
    """The samples of all rows, without those that stand before them."""
    return np.concatenate([it.mel[:, it.mel.shape[1] - it.encoder_rows :].T.ravel() for it in windows])


@pytest.mark.parametrize("level", [0.001, 0.1, 1.0])
@pytest.mark.parametrize("size", SIZES)
def test_the_rows_hold_what_the_extractor_of_transformers_gives(size, level):
    samples = sound(size, level)
    samples[size // 2] = 30 * level  # beyond full scale, once the clip is at its level
    extractor = transformers.VibeVoiceAcousticTokenizerFeatureExtractor(pad_to_multiple_of=100)
    expected = extractor([samples], sampling_rate=24000)["input_values"].numpy().ravel()
    found = list(feature_windows(samples, WINDOWS))
    np.testing.assert_allclose(joined(found), expected, atol=1e-6, rtol=1e-5)
    assert sum(it.encoder_rows for it in found) == FrontEnd(WINDOWS, 1).audio_tokens(size) == -(-size // 100)


def test_a_clip_whose_level_is_its_own_stays_as_it_is():
    samples = sound(777)
    found = joined(feature_windows(samples, dataclasses.replace(WINDOWS, level=None)))
    assert np.array_equal(found[:777], samples)
    assert not found[777:].any()


@pytest.mark.parametrize("size", SIZES)
def test_before_each_window_stands_what_it_depends_on(size):
    found = list(feature_windows(sound(size), WINDOWS))
    wave = joined(found)
    for i, window in enumerate(found):
        before = min(WINDOWS.context_rows, 5 * i)
        assert window.mel.shape == (100, window.encoder_rows + before)
        assert WINDOWS.least_frames_of(window.encoder_rows) <= window.mel.shape[1] <= WINDOWS.max_frames
        start = 100 * (5 * i - before)
        assert np.array_equal(window.mel.T.ravel(), wave[start : start + window.mel.size])
    assert encoder_rows(min(size, 500), WINDOWS) == found[0].encoder_rows


def test_silence_stays_silent_and_nothing_is_refused():
    assert not joined(feature_windows(np.zeros(250, np.float32), WINDOWS)).any()
    with pytest.raises(AudioError, match="gives no row"):
        feature_windows(np.zeros(0, np.float32), WINDOWS)


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        ("window_rows", 0, "window_rows is 0: give a whole number of at least 1"),
        ("context_rows", -1, "context_rows is -1"),
        ("samples_per_row", 2**21, "samples_per_row is 2097152: give at most 1048576"),
        ("window_rows", 2**20, "at most 3600 s are possible"),
        ("level", float("nan"), "level nan is out of range: -200 to 200 dB"),
        ("least_rms", -1.0, "least_rms -1.0 is out of range"),
    ],
)
def test_fields_out_of_range_are_refused(field, value, message):
    with pytest.raises(ArtifactError, match=message):
        dataclasses.replace(WINDOWS, **{field: value})
