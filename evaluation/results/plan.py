"""The result of a plan, as `plan` writes it and `report` reads it: every figure is predicted, none measured.

Times are in milliseconds, rates a second.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from ...profiles.codec import RecordError
from ...runtime.environment import Environment

PLAN_FORMAT = 2


@dataclass(frozen=True)
class PlanProtocol:
    """What was asked for."""

    profiles: tuple[str, ...]
    beams: tuple[int, ...]
    audio_seconds: tuple[float, ...]
    text_rows: int  # of the prompt
    new_tokens: int
    quantize: str | None
    int4_block: int | None  # of int4
    calibrated_by: str | None  # the name of a result file


@dataclass(frozen=True)
class DeviceFigures:
    """What a device can do at most, in the number format of the plan."""

    name: str  # as `--device` takes it
    title: str
    precision: str  # of activations, KV cache and products
    memory_bytes: float
    bytes_a_second: float
    flops_a_second: float
    weight_bytes: float  # of encoders and decoder
    source: str


@dataclass(frozen=True)
class EfficiencyFigure:
    """One number that stands between a device's ceilings and a time."""

    device: str
    name: str
    value: float
    unit: str
    source: str  # begins with "measured", "derived", "fitted" or "assumed"


@dataclass(frozen=True)
class PlanCase:
    """One combination. `skipped` says why it has no figures."""

    device: str
    profile: str
    beams: int
    audio_seconds: float
    skipped: str | None = None
    prompt_rows: int | None = None
    flops: float | None = None  # that the prefill computes
    prefill_ms: float | None = None
    step_ms: float | None = None  # the mean step of the answer
    decode_ms: float | None = None
    kv_bytes: float | None = None  # of one request at the end of its answer
    largest_batch: int | None = None  # requests whose weights and caches fit; 0: not even one

    @property
    def total_ms(self) -> float | None:
        """Prefill and decode."""
        if self.prefill_ms is None or self.decode_ms is None:
            return None
        return self.prefill_ms + self.decode_ms

    @property
    def shown_ms(self) -> tuple[float | None, ...]:
        """Prefill, step, decode and total for a table: absent where the memory does not hold them."""
        if self.largest_batch == 0:
            return (None,) * 4
        return self.prefill_ms, self.step_ms, self.decode_ms, self.total_ms


@dataclass(frozen=True)
class BreakEven:
    """Where a profile pays: the time of the full model over its own, by the length of the audio."""

    device: str
    profile: str
    beams: int
    audio_seconds: tuple[float, ...]
    speedups: tuple[float, ...]
    pays: str  # in words, as "from 12.3 s on"

    def __post_init__(self) -> None:
        if not self.audio_seconds or len(self.audio_seconds) != len(self.speedups):
            raise RecordError(
                f"audio_seconds has {len(self.audio_seconds)} entries, speedups {len(self.speedups)}"
            )
        if min(self.audio_seconds) <= 0:
            raise RecordError("audio_seconds holds a number that is not above 0")


@dataclass(frozen=True)
class ComparedTime:
    """A measured time beside the predicted one."""

    case: str
    what: str  # prefill or step
    measured_ms: float
    before_ms: float  # predicted without the file
    predicted_ms: float  # with the efficiencies that were fitted to it

    def __post_init__(self) -> None:
        if self.measured_ms <= 0:
            raise RecordError(f"measured_ms is {self.measured_ms:g}, not above 0")

    @property
    def error(self) -> float:
        """Of the fitted prediction, as a share of the measured time."""
        return self.predicted_ms / self.measured_ms - 1

    @property
    def error_before(self) -> float:
        """Of the prediction without the file."""
        return self.before_ms / self.measured_ms - 1


@dataclass(frozen=True)
class PublishedTime:
    """A row of the published table of latencies, beside two predictions for the same device."""

    beams: int
    audio_seconds: float
    profile: str
    prefill_ms: float  # published
    decode_ms: float
    step_ms: float  # decode / (throughput * decode)
    per_beam_prefill_ms: float  # predicted where each beam has a prompt of its own
    per_beam_step_ms: float
    per_beam_kv_bytes: float
    shared_prefill_ms: float  # predicted where beams share one
    shared_step_ms: float
    shared_kv_bytes: float


@dataclass(frozen=True)
class PlanResult:
    """A finished plan, with all that its figures follow from."""

    checkpoint: Mapping[str, Any]  # its identity
    protocol: PlanProtocol
    devices: tuple[DeviceFigures, ...]
    efficiencies: tuple[EfficiencyFigure, ...]
    cases: tuple[PlanCase, ...]
    break_even: tuple[BreakEven, ...]
    calibration: tuple[ComparedTime, ...]
    published: tuple[PublishedTime, ...]
    published_efficiencies: tuple[EfficiencyFigure, ...]  # fitted to the published times
    notes: tuple[str, ...]
    environment: Environment
