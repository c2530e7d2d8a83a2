"""Log-mel frames of a whole clip, neighbours side by side: the features of Granite Speech.

Filters on the mel scale of HTK without a norm, and frames centred on multiples of the hop, as
`torchaudio.transforms.MelSpectrogram` has them by default.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np
import numpy.typing as npt

from .clip_features import ClipFeatures
from .log_mel import CHUNK_FRAMES, DYNAMIC_RANGE, SILENCE, hann

Array = npt.NDArray[np.float32]


def log_mel_pairs(samples: Array, features: ClipFeatures) -> Array:
    """Samples (n,) to rows, as columns: (num_mel_bins, rows)."""
    rows, bands = features.rows_of_samples(len(samples)), features.num_bands
    power = _log_power(samples, features)
    floor = power.max(initial=np.float32(SILENCE)) - np.float32(DYNAMIC_RANGE)
    kept = np.maximum(power, floor)[: rows * features.stride]
    scaled = kept / np.float32(4.0) + np.float32(1.0)
    return np.ascontiguousarray(scaled.reshape(rows, features.stacked * bands).T)


def _log_power(samples: Array, features: ClipFeatures) -> Array:
    """log10 of the mel power of every frame: (frames, bands)."""
    padded = np.pad(samples, features.n_fft // 2, mode="reflect")
    frames = np.lib.stride_tricks.sliding_window_view(padded, features.n_fft)[:: features.hop_length]
    window, filters = _window(features), _filters(features)
    power = np.empty((len(frames), features.num_bands), np.float32)
    for at in range(0, len(frames), CHUNK_FRAMES):
        spectrum = np.fft.rfft(frames[at : at + CHUNK_FRAMES] * window)  # (chunk, n_fft // 2 + 1)
        energy = (spectrum.real**2 + spectrum.imag**2).astype(np.float32, copy=False)
        power[at : at + CHUNK_FRAMES] = energy @ filters
    return np.log10(np.maximum(power, np.float32(10.0**SILENCE)))


@lru_cache(maxsize=8)
def _window(features: ClipFeatures) -> Array:
    """Periodic Hann window in the middle of `n_fft` samples, read-only."""
    missing = features.n_fft - features.win_length
    window = np.pad(hann(features.win_length), (missing // 2, missing - missing // 2))
    window.flags.writeable = False
    return window


@lru_cache(maxsize=8)
def _filters(features: ClipFeatures) -> Array:
    """Triangles between equal steps of 2595 log10(1 + f / 700): (n_fft // 2 + 1, bands), read-only."""
    top = features.sample_rate // 2
    mels = np.linspace(0.0, 2595.0 * np.log10(1.0 + top / 700.0), features.num_bands + 2)
    edges = 700.0 * (10.0 ** (mels / 2595.0) - 1.0)  # Hz
    bins = np.linspace(0.0, top, features.n_fft // 2 + 1)[:, None]  # Hz
    width = np.diff(edges)
    rising, falling = (bins - edges[:-2]) / width[:-1], (edges[2:] - bins) / width[1:]
    filters = np.maximum(0.0, np.minimum(rising, falling)).astype(np.float32)
    filters.flags.writeable = False
    return filters
