"""The result of a comparison, as `compare` writes it and `report` reads it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

from ...runtime.environment import Environment
from ..metrics.metric import Metric
from .figures import Measured
from .settings import AnswerSettings, ClipList, Failure, Intervals

COMPARISON_FORMAT = 3


@dataclass(frozen=True)
class ComparisonProtocol:
    """What all cells have in common."""

    start_layer: int
    positions: str  # of the rows that a reduction leaves
    seeds: int  # of the random methods
    reference_audio_seconds: float  # of the request for which levels are solved
    reference_audio_rows: int
    reference_text_rows: int


@dataclass(frozen=True)
class CellRecord:
    """One method at one level, or the full model; what was not measured is None or empty."""

    level: Fraction  # share of the prefill FLOPs that was asked for
    profiles: tuple[str, ...]
    seeds: tuple[int, ...]  # of a random method, in the order of the profiles
    figures: Mapping[str, Measured]  # by the name of the metric: means over the seeds
    flops_reduction: float | None  # share of the prefill FLOPs that was removed
    kept_ratio: float | None  # of the audio rows in the caches, mean over clips and seeds
    layer_rows: tuple[float, ...]  # audio rows in the cache of each layer, means over clips and seeds
    prefill_ms: float | None  # median over clips and seeds
    decode_ms: float | None
    unmet: str | None  # why the level is not met

    @property
    def percent(self) -> float:
        """The level in percent."""
        return float(100 * self.level)

    @property
    def achieved_percent(self) -> float:
        """What was removed, in percent, or else what was asked for."""
        return self.percent if self.flops_reduction is None else 100 * self.flops_reduction

    @property
    def latency_ms(self) -> float | None:
        """Prefill and decode together."""
        if self.prefill_ms is None or self.decode_ms is None:
            return None
        return self.prefill_ms + self.decode_ms


@dataclass(frozen=True)
class RowRecord:
    """A method with its schedule."""

    label: str  # ends with the schedule
    method: str
    schedule: str
    start_layer: int
    cells: tuple[CellRecord, ...]  # of rising levels


@dataclass(frozen=True)
class ComparisonResult:
    """Methods and schedules down, levels across; all cells are compared with the full model."""

    task: str
    checkpoint: Mapping[str, Any]  # its identity
    clips: ClipList
    protocol: ComparisonProtocol
    settings: AnswerSettings
    intervals: Intervals
    metrics: tuple[Metric, ...]
    levels: tuple[Fraction, ...]
    full: CellRecord
    rows: tuple[RowRecord, ...]
    failures: tuple[Failure, ...]
    environment: Environment
