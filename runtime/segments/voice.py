"""The probability of speech in each frame of a stream, by Silero's model, which comes with this package."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from ...profiles.errors import ArtifactError
from ..session import Session
from .options import FRAME

Array = npt.NDArray[np.float32]

MODEL = Path(__file__).parent / "assets" / "silero_vad_16k_sequence.onnx"
SHA256 = "9ccdacc4719d8aa7e45a77536bfabec45a03ba1f2fad5e241ab4060b24238a85"  # of silero-vad 6.2.3
CONTEXT = 64  # samples of the frame before that are heard again with each frame
STATE = (1, 1, 128)  # of the recurrent layer: hidden and cell
AT_ONCE = 256  # frames of a run: 8 s. Always so many, so that blocks of any size give the very same numbers


class Heard(NamedTuple):
    """Frames one after the other: (n,) each."""

    probabilities: Array
    powers: Array  # mean squares of the samples


class VoiceActivity:
    """Hears one stream of samples at `RATE` Hz, and carries what the model remembers from run to run."""

    def __init__(self) -> None:
        """Begin a stream. ArtifactError: the model in the package is not the one that belongs there."""
        self._session = _session()
        self._hidden = self._cell = np.zeros(STATE, np.float32)
        self._context = np.zeros(CONTEXT, np.float32)
        self._rest: list[Array] = []  # fewer samples than a run takes
        self._waiting = 0

    def take(self, samples: Array) -> Iterator[Heard]:
        """Hear samples (n,), as many as there are; gives the frames of each run that is full."""
        self._rest.append(samples)
        self._waiting += len(samples)
        if self._waiting < AT_ONCE * FRAME:
            return
        joined = np.concatenate(self._rest)
        whole = len(joined) // (AT_ONCE * FRAME) * AT_ONCE * FRAME
        self._rest, self._waiting = [joined[whole:]], len(joined) - whole
        for run in joined[:whole].reshape(-1, AT_ONCE, FRAME):
            yield self._run(run)

    def finish(self) -> Iterator[Heard]:
        """There are no more samples: gives the rest, the last frame filled up with silence."""
        if self._waiting:
            rest = np.concatenate(self._rest)
            yield self._run(np.pad(rest, (0, -len(rest) % FRAME)).reshape(-1, FRAME))
        self._rest, self._waiting = [], 0

    def _run(self, frames: Array) -> Heard:
        """Frames (n, FRAME)."""
        before = np.vstack([self._context, frames[:-1, -CONTEXT:]])
        inputs = {"input": np.hstack([before, frames]), "h": self._hidden, "c": self._cell}
        found = {name: self._session.read(tensor) for name, tensor in self._session.run(inputs).items()}
        self._context, self._hidden, self._cell = frames[-1, -CONTEXT:].copy(), found["hn"], found["cn"]
        return Heard(found["speech_probs"], np.square(frames).mean(axis=1))


@cache
def _session() -> Session:
    """The model, loaded once a process: its runs share nothing."""
    from ..onnxruntime.session import OnnxRuntimeSession

    graph = MODEL.read_bytes() if MODEL.is_file() else b""
    if hashlib.sha256(graph).hexdigest() != SHA256:
        raise ArtifactError(f"{MODEL}: it is not the file of this package; install fastadasp-export again")
    return OnnxRuntimeSession(MODEL, {}, graph=graph, threads=1, prepack=True)
