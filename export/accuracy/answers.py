"""A clip answered under every profile: its audio is encoded once, and what fails is kept with its reason."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from ...profiles.errors import AudioError, RequestError
from ...runtime import EncodedAudio, SpeechLM
from ...runtime.search_options import SearchOptions
from .clips import Clip


@dataclass(frozen=True)
class Answer:
    """The best hypothesis under one profile."""

    text: str
    output_tokens: int  # an end token included
    finished: bool  # ended by itself rather than by max_new_tokens
    kept_ratio: float  # audio rows kept, summed over the layers / (layers * audio rows)


@dataclass(frozen=True)
class ClipAnswers:
    """All that one clip gave."""

    clip_id: str
    audio_rows: int | None = None  # of the decoder input; None where the audio could not be encoded
    text_rows: int | None = None
    answers: Mapping[str, Answer] = field(default_factory=dict)  # by profile
    failures: Mapping[str, str] = field(default_factory=dict)  # profile -> reason

    @property
    def is_complete(self) -> bool:
        """Whether every profile has answered."""
        return not self.failures

    def to_json(self) -> dict[str, Any]:
        """As JSON takes it."""
        return asdict(self)

    @classmethod
    def from_json(cls, content: Mapping[str, Any]) -> ClipAnswers:
        """What `to_json` gave."""
        answers = {profile: Answer(**entry) for profile, entry in content["answers"].items()}
        return cls(**{**content, "answers": answers})


def answer_clip(model: SpeechLM, clip: Clip, profiles: Sequence[str], search: SearchOptions) -> ClipAnswers:
    """Answer one clip under every profile. Faults of the clip become failures, others are raised."""
    try:
        audio = model.encode(clip.path)
    except AudioError as error:
        return ClipAnswers(clip.id, failures=dict.fromkeys(profiles, str(error)))
    answers: dict[str, Answer] = {}
    failures: dict[str, str] = {}
    text_rows: int | None = None
    for profile in profiles:
        try:
            answers[profile], text_rows = _answer(model, audio, clip.prompt, profile, search)
        except (AudioError, RequestError) as error:
            failures[profile] = str(error)
    return ClipAnswers(clip.id, len(audio.rows), text_rows, answers, failures)


def _answer(
    model: SpeechLM, audio: EncodedAudio, prompt: str, profile: str, search: SearchOptions
) -> tuple[Answer, int]:
    """The answer, and the rows of text beside the audio."""
    options = {name: value for name, value in vars(search).items() if name != "eos_token_ids" or value}
    result = model.generate(audio, prompt, profile=profile, **options)
    best = result.hypotheses[0]
    answer = Answer(best.text, result.latency.output_tokens, best.finished, result.kept_ratio)
    return answer, result.prefix_lengths[0] - len(audio.rows)
