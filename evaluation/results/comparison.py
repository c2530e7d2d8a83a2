"""The result of a comparison, as `compare` writes it and `report` reads it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from fractions import Fraction
from typing import Any

from ...profiles.methods import FULL, METHODS, VARIANTS
from ...runtime.environment import Environment
from ..metrics.metric import Metric
from .figures import Difference, Measured
from .settings import AnswerSettings, ClipList, Failure, Intervals

COMPARISON_FORMAT = 6
FLOAT32 = "float32"
TITLES = {name: method.title for name, method in (METHODS | VARIANTS).items()}


@dataclass(frozen=True)
class ComparisonProtocol:
    """What all cells have in common."""

    start_layer: int
    positions: tuple[str, ...]  # of the rows that a reduction leaves
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
    figures: Mapping[str, Measured] = field(default_factory=dict)
    """By the name of the metric: means over the seeds."""
    flops_reduction: float | None = None  # share of the prefill FLOPs that was removed
    kept_ratio: float | None = None  # of the audio rows in the caches, mean over clips and seeds
    layer_rows: tuple[float, ...] = ()  # audio rows in the cache of each layer, means over clips and seeds
    prefill_ms: float | None = None  # median over clips and seeds
    decode_ms: float | None = None
    step_ms: float | None = None  # one decode step, median over clips and seeds
    peak_bytes: int | None = None  # as `ComparisonResult.memory` says
    from_float32: Mapping[str, Difference] = field(default_factory=dict)
    """By metric: less the same profiles with float32 weights."""
    from_compact: Mapping[str, Difference] = field(default_factory=dict)
    """By metric: of kept positions, less the same profiles with compact ones."""
    cut_off: float | None = None  # share of the answers that max_new_tokens ended
    unmet: str | None = None  # why the level is not met

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
    """A method with its schedule, or the full model, with weights of one format."""

    label: str  # what people call it, so that it is told from all other rows
    method: str
    schedule: str  # of the full model empty
    start_layer: int
    positions: str  # of the rows that are left; of methods of caches and the full model empty
    quantized: str | None  # what the weights are in; None: float32
    cells: tuple[CellRecord, ...]  # of rising levels

    @property
    def is_full(self) -> bool:
        """Whether it is the full model, in a format that is not the first."""
        return self.method == FULL


@dataclass(frozen=True)
class FormatRecord:
    """The artifact of one weight format."""

    quantized: str | None  # what the weights are in; None: float32
    artifact: str  # its digest
    weight_bytes: int  # of all files with weights

    @property
    def name(self) -> str:
        """As people read it."""
        return self.quantized or FLOAT32


@dataclass(frozen=True)
class ComparisonResult:
    """Methods and schedules down, levels across; cells are compared with the full model of their format."""

    task: str
    checkpoint: Mapping[str, Any]  # its identity
    clips: ClipList
    protocol: ComparisonProtocol
    settings: AnswerSettings
    intervals: Intervals
    metrics: tuple[Metric, ...]
    levels: tuple[Fraction, ...]
    formats: tuple[FormatRecord, ...]
    memory: str | None  # what `peak_bytes` is of; None where it was not measured
    full: CellRecord  # in the first format
    rows: tuple[RowRecord, ...]  # of all formats; the full model is a row in those behind the first
    failures: tuple[Failure, ...]
    environment: Environment

    def full_in(self, quantized: str | None) -> CellRecord | None:
        """The full model in a format."""
        if self.formats and self.formats[0].quantized == quantized:
            return self.full
        rows = (row for row in self.rows if row.is_full and row.quantized == quantized)
        return next((row.cells[0] for row in rows if row.cells), None)

    def reduced_in(self, quantized: str | None) -> tuple[RowRecord, ...]:
        """The rows of methods in a format."""
        return tuple(row for row in self.rows if not row.is_full and row.quantized == quantized)

    def name_of(self, row: RowRecord) -> str:
        """What people call a row in whatever format; positions are named where there are several kinds."""
        positions = row.positions if len(self.protocol.positions) > 1 else ""
        return called(row.method, positions, row.schedule)


def called(method: str, *parts: str | None) -> str:
    """What people call a row: its method by its title, or by its name if it is unknown, and other parts."""
    return ", ".join(filter(None, (TITLES.get(method, method), *parts)))
