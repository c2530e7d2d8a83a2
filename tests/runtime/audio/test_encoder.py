"""The encoders of a tower are run in order: windows first, then the whole wave with their rows."""

from __future__ import annotations

import numpy as np
import pytest

from fastadasp.profiles.errors import ArtifactError, RequestError
from fastadasp.runtime.audio.encoder import AudioEncoder
from fastadasp.runtime.audio.front_end import FrontEnd, WaveEncoder
from fastadasp.runtime.audio.log_mel import LogMelConfig
from fastadasp.runtime.latency import Stopwatch

LOG_MEL = LogMelConfig(num_mel_bins=8, window_seconds=1, full_windows=True, cuts="alone")
TOWER = FrontEnd(LOG_MEL, 4, "begun", wave=WaveEncoder(400, 320, 3))
SAMPLES = np.linspace(-0.5, 0.5, 40_000, dtype=np.float32)


class Recorded:
    """A session that keeps what it is given, and gives rows of so many columns."""

    def __init__(self, rows, width):
        self.rows, self.width, self.given = rows, width, []

    def run(self, inputs):
        self.given.append(inputs)
        return {"audio_embeds": np.full((self.rows, self.width), len(self.given), np.float32)}

    def read(self, tensor):
        return tensor


def test_the_wave_encoder_gets_all_samples_and_the_rows_of_all_windows():
    windows, wave = Recorded(13, 3), Recorded(31, 5)
    rows = AudioEncoder(windows, TOWER, wave).encode(SAMPLES, watch := Stopwatch())
    assert rows.shape == (31, 5)
    assert [given["encoder_rows"].tolist() for given in windows.given] == [[50], [50], [50]]
    assert {given["mel"].shape for given in windows.given} == {(8, 100)}
    (given,) = wave.given
    np.testing.assert_array_equal(given["wave"], SAMPLES)
    np.testing.assert_array_equal(given["window_embeds"][:, 0], [1] * 13 + [2] * 13 + [3] * 13)
    assert watch.stages["encoder"] > 0


def test_a_window_that_is_alone_asks_for_the_rows_of_its_audio():
    windows = Recorded(2, 3)
    AudioEncoder(windows, TOWER, Recorded(2, 5)).encode(SAMPLES[:2000], Stopwatch())
    (given,) = windows.given
    assert given["encoder_rows"].tolist() == [7]  # of 13 frames
    assert given["mel"].shape == (8, 100)


def test_another_number_of_rows_than_the_front_end_counts_is_refused():
    with pytest.raises(ArtifactError, match=r"30 rows came of a wave of 40000 samples, where .* says 31"):
        AudioEncoder(Recorded(13, 3), TOWER, Recorded(30, 5)).encode(SAMPLES, Stopwatch())


def test_a_closed_encoder_runs_neither():
    encoder = AudioEncoder(Recorded(13, 3), TOWER, Recorded(31, 5))
    encoder.close()
    with pytest.raises(RequestError, match="the model is closed"):
        encoder.encode_wave(SAMPLES, np.zeros((13, 3), np.float32))
    with pytest.raises(RequestError, match="the model is closed"):
        encoder.encode(SAMPLES, Stopwatch())


def test_a_tower_and_its_sessions_must_agree():
    with pytest.raises(AssertionError, match="a graph for each encoder"):
        AudioEncoder(Recorded(13, 3), TOWER)
