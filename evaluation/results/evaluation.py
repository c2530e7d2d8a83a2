"""The result of an evaluation, as `eval` writes it and `report` reads it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from ...profiles.codec import RecordError
from ...runtime.environment import Environment
from ..answers.answers import Answer
from ..metrics.metric import Metric
from .figures import ProfileFigures
from .settings import AnswerSettings, ClipList, Failure, Intervals

EVALUATION_FORMAT = 7


@dataclass(frozen=True)
class ClipRecord:
    """One clip with its answers."""

    id: str
    line: int | None  # of the clip list
    audio: str
    language: str
    prompt: str
    references: tuple[str, ...]
    measured: bool
    audio_rows: int | None  # of the decoder input; None where the audio could not be encoded
    text_rows: int | None
    answers: Mapping[str, Answer]  # by profile
    failures: Mapping[str, str]  # profile -> reason


@dataclass(frozen=True)
class EvaluationResult:
    """The figures of every profile; the others are compared with the first one."""

    task: str
    artifact: Mapping[str, Any]  # its identity
    clips: ClipList
    longest_seconds: float  # of the measured clips; 0 where there is none
    settings: AnswerSettings
    intervals: Intervals
    metrics: tuple[Metric, ...]
    max_loss: float | None  # the budget: of the first metric, in its unit; None: there was none
    least_recordings: int  # with fewer recordings, no profile is found to be within it
    profiles: tuple[ProfileFigures, ...]
    failures: tuple[Failure, ...]
    records: tuple[ClipRecord, ...]
    environment: Environment

    def __post_init__(self) -> None:
        if not self.profiles:
            raise RecordError("profiles is empty")
