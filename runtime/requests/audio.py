"""The audio of a request: read and encoded, or taken as a request before has heard it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from ...profiles.errors import RequestError
from ..audio.encoder import EncodedAudio
from ..audio.read import Audio, Source, load_audio, place_of
from ..audio.recording import CheckLength
from ..latency import Stopwatch
from ..limits import check_audio, ended_by, length_limit, limit_of
from .asked import Asked
from .loaded import LoadedModel


@dataclass(frozen=True, eq=False)
class Heard:
    """Audio at the rate of the model."""

    place: str  # how messages call it
    audio: Audio
    rows: npt.NDArray[np.float32] | None  # as an `AudioEncoder` gives them, where they are known already


def hear(model: LoadedModel, asked: Asked, limit: CheckLength) -> Heard:
    """Read the audio of a request; `limit` refuses it as soon as its length is known.

    Raises:
        AudioError: missing or corrupt.
        RequestError: another model has encoded it.
    """
    source = asked.audio
    if not isinstance(source, EncodedAudio):
        return Heard(place_of(source), _read(model, source, asked.source_rate, asked.watch, limit), None)
    if source.encoder is not model.audio_encoder:
        raise RequestError(f"{source.place} was encoded by another model; encode it with this one")
    return Heard(source.place, source.audio, source.rows)


def encode_audio(
    model: LoadedModel, source: Source, source_rate: int | None, watch: Stopwatch
) -> EncodedAudio:
    """Read and encode audio for several requests; errors as in `SpeechLM.encode`."""
    place, limit = place_of(source), limit_of(length_limit(model.manifest), model.memory.of_encoding)
    audio = _read(model, source, source_rate, watch, limit)
    check_audio(model.manifest, place, audio)
    model.memory.of_encoding(place, audio.seconds)
    rows = model.audio_encoder.encode(audio.samples, watch)
    stages = {name: watch.stages[name] for name in ("audio", "mel", "encoder")}
    return EncodedAudio(place, audio, rows, stages, model.audio_encoder)


def _read(
    model: LoadedModel, source: Source, source_rate: int | None, watch: Stopwatch, limit: CheckLength
) -> Audio:
    limit = limit_of(limit, ended_by(watch.guard)) if watch.guard else limit
    with watch.stage("audio"):
        return load_audio(source, model.sample_rate, source_rate=source_rate, check_length=limit)
