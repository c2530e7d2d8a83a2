"""The result of a tuning, as `tune` writes it and `report` reads it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

from ...profiles.codec import RecordError
from ...runtime.benchmark.records import Benchmark
from ...runtime.environment import Environment
from ..metrics.metric import Metric
from .figures import Estimate, ProfileFigures
from .settings import AnswerSettings, ClipList, Failure, Intervals

TUNING_FORMAT = 5


@dataclass(frozen=True)
class TuningProtocol:
    """What the search was asked for."""

    positions: tuple[str, ...]
    levels: tuple[Fraction, ...]  # shares of the prefill FLOPs
    reference_audio_seconds: float  # of the request for which ratios are solved
    reference_text_rows: int
    bisection: str  # what it takes for granted


@dataclass(frozen=True)
class HalvesRecord:
    """The ids of the clips of both halves."""

    search: tuple[str, ...]
    held_out: tuple[str, ...]


@dataclass(frozen=True)
class LadderRecord:
    """The candidates that differ in the level alone."""

    method: str
    schedule: str
    start_layer: int
    positions: str
    reachable: tuple[Fraction, ...]
    unreachable: str | None  # why there are no further levels
    highest: str | None  # the name of the highest candidate within the budget


@dataclass(frozen=True)
class CandidateRecord:
    """One profile that was tried, on the search half."""

    name: str
    method: str
    schedule: str
    start_layer: int
    positions: str
    level: Fraction  # share of the prefill FLOPs
    toml: str
    round: int  # from 1 on
    scores: ProfileFigures
    kv_bytes: float  # of the prompt, the mean over the clips
    loss: Estimate  # of the first metric, in its unit; above 0 is worse
    feasible: bool  # within the budget, by the value


@dataclass(frozen=True)
class HeldOutResult:
    """The check on the half that the search did not see."""

    clips: ClipList
    longest_seconds: float  # of its measured clips
    profiles: tuple[ProfileFigures, ProfileFigures]  # full, chosen
    loss: Estimate  # as of a candidate
    within_budget: bool


@dataclass(frozen=True)
class TuningResult:
    """What was tried and chosen. The `reason` says why there is no `choice`, or why none can be judged."""

    task: str
    checkpoint: Mapping[str, Any]  # its identity
    max_loss: float  # the budget: of the first metric, in its unit
    objective: str
    seed: int  # that drew the held-out half
    clips: ClipList  # of the search half
    halves: HalvesRecord
    protocol: TuningProtocol
    settings: AnswerSettings
    intervals: Intervals
    metrics: tuple[Metric, ...]  # the budget is of the first one
    full: ProfileFigures
    full_kv_bytes: float
    ladders: tuple[LadderRecord, ...]
    candidates: tuple[CandidateRecord, ...]
    timing: Benchmark | None  # of the finalists, for the objective latency
    choice: str | None
    profile: str | None  # TOML
    reason: str | None
    held_out: HeldOutResult | None
    failures: tuple[Failure, ...]
    environment: Environment

    def __post_init__(self) -> None:
        if not self.metrics:
            raise RecordError("metrics is empty")

    @property
    def metric(self) -> Metric:
        """What the budget is of."""
        return self.metrics[0]
