"""Small files of many encoders, and how they are read."""

from __future__ import annotations

import importlib.util
import io
from pathlib import Path

import numpy as np
import pytest
import soundfile

from fastadasp.profiles.errors import AudioError
from fastadasp.runtime.audio.read import load_audio

FOLDER = Path(__file__).parent.parent / "samples"
RATE = 16000
HAS_PYAV = importlib.util.find_spec("av") is not None
needs_pyav = pytest.mark.skipif(not HAS_PYAV, reason="PyAV is not installed")


def sample(name: str) -> bytes:
    return (FOLDER / name).read_bytes()


def wave(name: str = "speech.wav") -> np.ndarray:
    """The original, at the rate of the model."""
    return load_audio(FOLDER / name, RATE).samples


def loaded(data: bytes) -> np.ndarray:
    return load_audio(data, RATE).samples


def refusal(data: bytes) -> str:
    with pytest.raises(AudioError) as caught:
        load_audio(data, RATE)
    message = str(caught.value)
    assert "\n" not in message
    return message


def encoded(samples: np.ndarray, kind: str, rate: int = RATE, subtype: str | None = None) -> bytes:
    buffer = io.BytesIO()
    soundfile.write(buffer, samples, rate, format=kind, subtype=subtype)
    return buffer.getvalue()


def likeness(found: np.ndarray, expected: np.ndarray) -> float:
    """Correlation at the best shift, since codecs delay."""
    size = len(found) + len(expected)
    product = np.fft.irfft(np.fft.rfft(found, size) * np.fft.rfft(expected, size).conj(), size)
    return float(product.max() / np.sqrt(np.vdot(found, found) * np.vdot(expected, expected)))
