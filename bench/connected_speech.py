"""Sentences as espeak-ng says them, with the time at which each word begins, by its library's own events."""

from __future__ import annotations

import ctypes
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import soxr

Array = npt.NDArray[Any]

LIBRARY = "libespeak-ng.so.1"
SYNCHRONOUS, UTF_8, BY_CHARACTER, RATE_OF_WORDS = 2, 1, 1, 1  # of espeak-ng/speak_lib.h
END, WORD = 0, 1  # types of events


class Event(ctypes.Structure):
    """`espeak_EVENT`; `audio_position` is in milliseconds."""

    _fields_ = (
        ("type", ctypes.c_int),
        ("unique_identifier", ctypes.c_uint),
        ("text_position", ctypes.c_int),
        ("length", ctypes.c_int),
        ("audio_position", ctypes.c_int),
        ("sample", ctypes.c_int),
        ("user_data", ctypes.c_void_p),
        ("id", ctypes.c_char * 8),
    )


Callback = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.POINTER(ctypes.c_short), ctypes.c_int, ctypes.POINTER(Event))


class Speaker:
    """The synthesiser; a process has one."""

    def __init__(self) -> None:
        """Load the library of Debian's package espeak-ng.

        Raises:
            OSError: it is not installed.
        """
        self._library = ctypes.CDLL(LIBRARY)
        self._rate = self._library.espeak_Initialize(SYNCHRONOUS, 0, None, 0)
        self._pieces: list[Array] = []
        self._begins: list[float] = []
        self._callback = Callback(self._hear)  # which the library calls as long as it is loaded
        self._library.espeak_SetSynthCallback(self._callback)

    def say(
        self, words: Sequence[str], voice: str, words_a_minute: int, rate: int
    ) -> tuple[Array, list[float]]:
        """One sentence: its samples at `rate`, (n,), and the seconds at which its words begin.

        Raises:
            ValueError: there is no such voice, or what it says has another number of words.
        """
        if self._library.espeak_SetVoiceByName(voice.encode()):
            raise ValueError(f"espeak-ng has no voice {voice!r}")
        self._library.espeak_SetParameter(RATE_OF_WORDS, words_a_minute, 0)
        self._pieces, self._begins = [], []
        text = " ".join(words).encode()
        self._library.espeak_Synth(text, len(text) + 1, 0, BY_CHARACTER, 0, UTF_8, None, None)
        if len(self._begins) != len(words):
            raise ValueError(f"{len(self._begins)} words begin in {text!r}, not {len(words)}")
        samples = np.concatenate(self._pieces).astype(np.float32) / 32768
        return soxr.resample(samples, self._rate, rate), self._begins

    def _hear(self, samples: Any, count: int, events: Any) -> int:
        if samples and count:
            self._pieces.append(np.ctypeslib.as_array(samples, (count,)).copy())
        for event in events:
            if event.type == END:
                break
            if event.type == WORD and event.length:  # there may be one of no letters at the end
                self._begins.append(event.audio_position / 1000)
        return 0
