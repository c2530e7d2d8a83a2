"""From samples to the audio rows of the decoder: windows, log-mel, encoder, wave encoder, one span."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from ...profiles import signature as sig
from ...profiles.errors import ArtifactError, RequestError
from ..latency import Stopwatch
from ..session import Session
from ..uncopied import Uncopied
from .features import feature_windows
from .front_end import FrontEnd
from .read import Audio

Floats = npt.NDArray[np.float32]


@dataclass(frozen=True, eq=False)
class EncodedAudio:
    """Audio with its rows for the decoder: what all requests about one clip have in common."""

    place: str  # how messages call the audio
    audio: Audio
    rows: Floats  # (audio rows, hidden_size), and columns of what the encoder says of them, if it does
    stages: Mapping[str, float]  # milliseconds of "audio", "mel" and "encoder"
    encoder: AudioEncoder = field(repr=False)  # which made the rows, and whose decoder alone can read them


class AudioEncoder(Uncopied):
    """The front end with its sessions: of the encoder of windows, and of that of waves where there is one.

    Where the encoder says something of its rows, for profiles that ask for it (`ROW_WEIGHTS`), that stands in
    columns of its own behind theirs, so that no row is ever without it.
    """

    def __init__(self, session: Session, front_end: FrontEnd, wave_session: Session | None = None) -> None:
        assert (wave_session is None) == (front_end.wave is None), "a tower has a graph for each encoder"
        self._session: Session | None = session
        self._wave_session, self._front_end = wave_session, front_end

    def close(self) -> None:
        """Let go of the sessions."""
        self._session = self._wave_session = None

    def encode(self, samples: Floats, watch: Stopwatch) -> Floats:
        """Samples (n,) at the model's rate, enough for a token, to one span.

        (audio rows, hidden_size), and columns behind if the encoder says something of its rows.
        """
        rows = self._encode_windows(samples, watch)
        if self._front_end.wave is None:
            return rows
        with watch.stage("encoder"):
            return self.encode_wave(samples, rows)

    def encode_wave(self, samples: Floats, window_rows: Floats) -> Floats:
        """All samples (n,) and the rows of all windows (window rows, width) to those of the decoder."""
        inputs = {sig.WAVE: np.ascontiguousarray(samples, np.float32), sig.WINDOW_EMBEDS: window_rows}
        rows = self._run(self._wave_session, inputs)
        _check_rows(rows, self._front_end.decoder_rows(len(samples)), f"a wave of {len(samples)} samples")
        return rows

    def _encode_windows(self, samples: Floats, watch: Stopwatch) -> Floats:
        """The span that the windows give."""
        windows = feature_windows(samples, self._front_end.log_mel)
        parts: list[Floats] = []
        while True:
            with watch.stage("mel"):
                window = next(windows, None)
            if window is None:
                return self._join(parts)
            if self._front_end.tokens_of(window.encoder_rows):
                with watch.stage("encoder"):
                    parts.append(self.encode_window(window.mel, window.encoder_rows))

    def encode_window(self, mel: Floats, encoder_rows: int) -> Floats:
        """Log-mel frames (bins, frames) of one window to rows: as many as the front end says."""
        rows = self._run(self._session, {sig.MEL: mel, sig.ENCODER_ROWS: np.array([encoder_rows])})
        expected = self._front_end.tokens_of(encoder_rows) + self._front_end.rows_around
        _check_rows(rows, expected, f"a window of {encoder_rows}")
        return rows

    def _run(self, session: Session | None, inputs: Mapping[str, npt.NDArray[Any]]) -> Floats:
        if session is None:
            raise RequestError("the model is closed; load the artifact again")
        outputs = session.run(inputs)
        rows: Floats = session.read(outputs[sig.AUDIO_EMBEDS])
        if sig.ROW_WEIGHTS not in outputs:
            return rows
        return np.concatenate([rows, session.read(outputs[sig.ROW_WEIGHTS])], axis=1)

    def _join(self, parts: list[Floats]) -> Floats:
        """One span of several windows: the rows around the frames stand only at its two ends."""
        bos, eos, last = self._front_end.bos_rows, self._front_end.eos_rows, len(parts) - 1
        cut = [part[bos if i else 0 : len(part) - (eos if i < last else 0)] for i, part in enumerate(parts)]
        return np.concatenate(cut)


def _check_rows(rows: Floats, expected: int, of: str) -> None:
    """Refuse rows that are not as many as the front end counts."""
    if len(rows) != expected:
        raise ArtifactError(
            f"encoder: {len(rows)} rows came of {of}, where the front end of the manifest says {expected}; "
            "build the artifact again"
        )
