"""A clip answered under every profile: its audio is encoded once, and what fails is kept with its reason."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass, field
from functools import partial
from typing import Any

from ...profiles.codec import from_json
from ...profiles.errors import AudioError, RequestError
from ...runtime import EncodedAudio, GenerationResult, SpeechLM
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
    audio_seconds: float = 0.0  # 0 where the audio could not be encoded
    workers: int | None = None  # processes that shared the clips, on which times of `costs` depend
    threads: int | None = None  # of each of them

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


@dataclass(frozen=True)
class Asked:
    """What is asked about each clip."""

    profiles: tuple[str, ...]
    search: SearchOptions
    token_loss: bool = False  # the probability of the first reference, too
    shares: bool = False  # decode steps: the profiles of a clip are answered together


def answer_clip(model: SpeechLM, clip: Clip, asked: Asked) -> ClipAnswers:
    """Answer one clip under every profile. Faults of the clip become failures, others are raised."""
    try:
        audio = model.encode(clip.path)
    except AudioError as error:
        return ClipAnswers(clip.id, failures=dict.fromkeys(asked.profiles, str(error)))
    answers: dict[str, Answer] = {}
    costs: dict[str, Cost] = {}
    failures: dict[str, str] = {}
    text_rows: int | None = None
    for profile, answered in _answered(model, audio, clip, asked):
        try:
            answers[profile], costs[profile], text_rows = _recorded(answered())
        except (AudioError, RequestError) as error:
            failures[profile] = str(error)
    return ClipAnswers(clip.id, len(audio.rows), text_rows, answers, failures, costs, audio.audio.seconds)


def _answered(
    model: SpeechLM, audio: EncodedAudio, clip: Clip, asked: Asked
) -> Iterator[tuple[str, Callable[[], GenerationResult]]]:
    """What gives the answer under each profile: one after the other, or all that are under way already."""
    how: dict[str, Any] = {
        "scored_text": clip.references[0] if asked.token_loss else None,
        "search": asked.search,
    }
    prompt = clip.prompt or None
    if asked.shares:
        begun = [(name, model.submit(audio, prompt, profile=name, **how)) for name in asked.profiles]
        yield from ((name, each.result) for name, each in begun)
        return
    for name in asked.profiles:
        yield name, partial(model.generate, audio, prompt, profile=name, **how)


def _recorded(result: GenerationResult) -> tuple[Answer, Cost, int]:
    """The answer, what it took, and the rows of text beside the audio."""
    best, latency = result.hypotheses[0], result.latency
    answer = Answer(best.text, latency.output_tokens, best.finished, result.kept_ratio, result.scored_text)
    rows = tuple(length - result.text_rows for length in result.prefix_lengths)
    cost = Cost(rows, latency.prefill_ms, latency.decode_ms, latency.steps)
    return answer, cost, result.text_rows
