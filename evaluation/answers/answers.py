"""A clip answered under every profile: its audio is encoded once, and what fails is kept with its reason."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from ...profiles.codec import from_json
from ...profiles.errors import AudioError, RequestError
from ...runtime import EncodedAudio, SpeechLM
from ...runtime.decoding.options import SearchOptions
from ...runtime.decoding.scoring_search import TextScore
from ..clips.clip import Clip


@dataclass(frozen=True)
class Answer:
    """The best hypothesis under one profile."""

    text: str
    output_tokens: int  # an end token included
    finished: bool  # ended by itself rather than by max_new_tokens
    kept_ratio: float  # audio rows kept, summed over the layers / (layers * audio rows)
    reference: TextScore | None = None  # of the clip's first reference, if it was scored


@dataclass(frozen=True)
class Cost:
    """What one answer took. Times are those of the machine and the moment, so no figure rests on them."""

    layer_rows: tuple[int, ...]  # audio rows in the KV cache of each layer
    prefill_ms: float
    decode_ms: float
    steps: int  # decode steps that `decode_ms` is of

    @property
    def step_ms(self) -> float | None:
        """One step; None where the first token was the last."""
        return self.decode_ms / self.steps if self.steps else None


@dataclass(frozen=True)
class ClipAnswers:
    """All that one clip gave."""

    clip_id: str
    audio_rows: int | None = None  # of the decoder input; None where the audio could not be encoded
    text_rows: int | None = None
    answers: Mapping[str, Answer] = field(default_factory=dict)  # by profile
    failures: Mapping[str, str] = field(default_factory=dict)  # profile -> reason
    costs: Mapping[str, Cost] = field(default_factory=dict)  # by profile, as `answers`

    @property
    def is_complete(self) -> bool:
        """Whether every profile has answered."""
        return not self.failures

    def to_json(self) -> dict[str, Any]:
        """As JSON takes it."""
        return asdict(self)

    @classmethod
    def from_json(cls, content: Mapping[str, Any]) -> ClipAnswers:
        """What `to_json` gave.

        Raises:
            RecordError: it is something else.
        """
        return from_json(cls, content, whole=True)


def answer_clip(
    model: SpeechLM,
    clip: Clip,
    profiles: Sequence[str],
    search: SearchOptions,
    *,
    token_loss: bool = False,
) -> ClipAnswers:
    """Answer one clip under every profile. Faults of the clip become failures, others are raised.

    With `token_loss`, the probability of its first reference is found as well.
    """
    scored = clip.references[0] if token_loss else None
    try:
        audio = model.encode(clip.path)
    except AudioError as error:
        return ClipAnswers(clip.id, failures=dict.fromkeys(profiles, str(error)))
    answers: dict[str, Answer] = {}
    costs: dict[str, Cost] = {}
    failures: dict[str, str] = {}
    text_rows: int | None = None
    for profile in profiles:
        try:
            answers[profile], costs[profile], text_rows = _answer(model, audio, clip, profile, search, scored)
        except (AudioError, RequestError) as error:
            failures[profile] = str(error)
    return ClipAnswers(clip.id, len(audio.rows), text_rows, answers, failures, costs)


def _answer(
    model: SpeechLM,
    audio: EncodedAudio,
    clip: Clip,
    profile: str,
    search: SearchOptions,
    scored: str | None,
) -> tuple[Answer, Cost, int]:
    """The answer, what it took, and the rows of text beside the audio."""
    result = model.generate(audio, clip.prompt or None, profile=profile, search=search, scored_text=scored)
    best, latency = result.hypotheses[0], result.latency
    answer = Answer(best.text, latency.output_tokens, best.finished, result.kept_ratio, result.scored_text)
    rows = tuple(length - result.text_rows for length in result.prefix_lengths)
    cost = Cost(rows, latency.prefill_ms, latency.decode_ms, latency.steps)
    return answer, cost, result.text_rows
