"""Kaldi's filter bank of a whole clip, frames stacked at a lower rate: the features of FunASR.

The numbers are those of `torchaudio.compliance.kaldi.fbank` with a Hamming window and no dither: frames
inside of the clip, without their mean, pre-emphasised, natural logarithm of the mel power.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np
import numpy.typing as npt

from .clip_features import ClipFeatures
from .log_mel import CHUNK_FRAMES

Array = npt.NDArray[np.float32]
PREEMPHASIS = np.float32(0.97)
LEAST_POWER = np.float32(np.finfo(np.float32).eps)
LOWEST = 20.0  # Hz, where the first filter begins


def stacked_fbank(samples: Array, features: ClipFeatures) -> Array:
    """Samples (n,) to rows, as columns: (num_mel_bins, rows).

    Row i holds the frames around `i * stride`; beyond both ends the outermost frame is repeated.
    """
    frames, rows = _log_power(samples, features), features.rows_of_samples(len(samples))
    before = (features.stacked - 1) // 2
    places = np.arange(rows)[:, None] * features.stride + np.arange(features.stacked) - before
    stacked = frames[np.clip(places, 0, len(frames) - 1)]  # (rows, stacked, bands)
    return np.ascontiguousarray(stacked.reshape(rows, -1).T)


def _log_power(samples: Array, features: ClipFeatures) -> Array:
    """Natural logarithm of the mel power of every frame: (frames, bands)."""
    count, size = features.frames_of_samples(len(samples)), features.win_length
    views = np.lib.stride_tricks.sliding_window_view(samples, size)[:: features.hop_length]
    window, filters = _hamming(size), _filters(features)
    power = np.empty((count, features.num_bands), np.float32)
    for at in range(0, count, CHUNK_FRAMES):
        chunk = views[at : at + CHUNK_FRAMES]
        chunk = chunk - chunk.mean(axis=1, keepdims=True)
        previous = np.concatenate([chunk[:, :1], chunk[:, :-1]], axis=1)
        spectrum = np.fft.rfft((chunk - PREEMPHASIS * previous) * window, features.n_fft)
        energy = (spectrum.real**2 + spectrum.imag**2).astype(np.float32, copy=False)
        power[at : at + CHUNK_FRAMES] = energy @ filters
    return np.log(np.maximum(power, LEAST_POWER))


@lru_cache(maxsize=8)
def _hamming(size: int) -> Array:
    """Symmetric Hamming window (size,), read-only."""
    window = (0.54 - 0.46 * np.cos(2.0 * np.pi * np.arange(size) / (size - 1))).astype(np.float32)
    window.flags.writeable = False
    return window


@lru_cache(maxsize=8)
def _filters(features: ClipFeatures) -> Array:
    """Triangles over 1127 ln(1 + f / 700), straight in mel: (n_fft // 2 + 1, bands), read-only."""
    low, top = _mel(np.array([LOWEST, features.sample_rate / 2], np.float64))
    step = (top - low) / (features.num_bands + 1)
    left = low + step * np.arange(features.num_bands)
    hertz = np.linspace(0.0, features.sample_rate / 2, features.n_fft // 2 + 1, dtype=np.float64)
    mels = _mel(hertz)[:, None]
    rising, falling = (mels - left) / step, (left + 2 * step - mels) / step
    filters: Array = np.maximum(0.0, np.minimum(rising, falling)).astype(np.float32)
    filters[-1] = 0.0  # the highest frequency is in no filter
    filters.flags.writeable = False
    return filters


def _mel(hertz: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    mels: npt.NDArray[np.float64] = 1127.0 * np.log(1.0 + hertz / 700.0)
    return mels
