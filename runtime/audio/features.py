"""What the encoder is given of a clip: windows of log-mel or of samples, or features of the whole of it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping

import numpy as np
import numpy.typing as npt

from ...profiles.errors import AudioError
from .clip_features import LOG_MEL_PAIRS, STACKED_FBANK, ClipFeatures
from .fbank import stacked_fbank
from .log_mel import LogMelConfig, MelWindow, log_mel_windows
from .log_mel import encoder_rows as window_rows
from .log_mel_pairs import log_mel_pairs
from .wave_windows import WaveWindows, wave_windows

Array = npt.NDArray[np.float32]
Features = (
    ClipFeatures | WaveWindows | LogMelConfig
)  # in this order: the manifest's faults are those of the last

MAKERS: Mapping[str, Callable[[Array, ClipFeatures], Array]] = {
    LOG_MEL_PAIRS: log_mel_pairs,
    STACKED_FBANK: stacked_fbank,
}
"""Kind of features of a clip -> what makes them: (num_mel_bins, rows)."""


def encoder_rows(num_samples: int, features: Features, alone: bool = True) -> int:
    """Encoder rows of a window with so many samples of audio; `alone`: it is the only one of its clip."""
    if not isinstance(features, LogMelConfig):
        return features.rows_of_samples(num_samples)
    return window_rows(num_samples, features, alone)


def feature_windows(samples: npt.ArrayLike, features: Features) -> Iterator[MelWindow]:
    """Cut samples (n,) at the model's rate into what the encoder hears at once.

    Raises:
        AudioError: a waveform that is empty, not one-dimensional, or too short for a row.
    """
    if isinstance(features, LogMelConfig):
        return log_mel_windows(samples, features)
    wave = np.asarray(samples, dtype=np.float32)
    rows = features.rows_of_samples(len(wave)) if wave.ndim == 1 else 0
    if not rows:
        raise AudioError(f"features: a waveform of shape {wave.shape} gives no row of the encoder")
    if isinstance(features, WaveWindows):
        return wave_windows(wave, features)
    make = MAKERS[features.kind]
    return (MelWindow(make(clip, features), rows) for clip in (wave,))  # made when it is asked for
