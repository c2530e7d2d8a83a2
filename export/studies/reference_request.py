"""The mean request of some clips: how long its audio is, and how many rows of its prompt are text.

FLOPs targets are solved for it, so that a target means for these clips what it says.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from statistics import fmean

from ...evaluation.clips.clip import Clip
from ...profiles.errors import AudioError, RequestError
from ...runtime.audio.read import load_audio
from ..checkpoint.checkpoint import Checkpoint
from ..checkpoint.tokenizer import prompt_codec
from ..model.fit import audio_tokens
from ..model.spec import SpeechModelSpec

STEPS_A_SECOND = 10  # a reference length is told in tenths


@dataclass(frozen=True)
class ReferenceRequest:
    """One request that stands for many."""

    audio_seconds: Fraction
    audio_tokens: int  # rows of the decoder that a reduction may remove
    text_rows: int  # of its prompt
    rows_around: int = 0  # that the encoder sets around the audio

    @property
    def other_rows(self) -> int:
        """All that no reduction removes."""
        return self.text_rows + self.rows_around


def mean_request(
    checkpoint: Checkpoint, model: SpeechModelSpec, clips: Sequence[Clip], seconds: Fraction | None = None
) -> ReferenceRequest:
    """The mean over the clips that can be read; `seconds` of audio if they are given.

    Raises:
        CheckpointError: there is no tokenizer to read prompts.
        RequestError: no clip can be read.
    """
    codec, rate = prompt_codec(checkpoint, model.prompt), model.front_end.log_mel.sample_rate
    found, faults = [], []
    for clip in clips:
        try:
            heard = _seconds(clip, rate)
            found.append((heard, codec.encode(clip.prompt or None).about(heard).num_text_rows))
        except (AudioError, RequestError) as error:  # reported with the failures of the evaluation
            faults.append(str(error))
    if not found:
        raise RequestError(f"none of {len(faults)} clips can be read; the first: {faults[0]}")
    length = seconds or _in_steps(fmean(each for each, _ in found))
    text_rows = round(fmean(rows for _, rows in found))
    tokens = audio_tokens(model, float(length))
    return ReferenceRequest(length, tokens, text_rows, model.front_end.rows_around)


def _seconds(clip: Clip, sample_rate: int) -> float:
    return load_audio(clip.path, sample_rate).seconds


def _in_steps(seconds: float) -> Fraction:
    return Fraction(max(1, round(seconds * STEPS_A_SECOND)), STEPS_A_SECOND)
