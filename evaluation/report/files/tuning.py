"""What `tune` leaves: candidates, the one that it chose, and how that does on clips that it did not see."""

from __future__ import annotations

from dataclasses import dataclass

from .fields import Fields
from .records import ClipFailure, Measured, Metric, Source, mapping, read_failures, read_figure, read_metric


@dataclass(frozen=True)
class Candidate:
    """One profile that was tried."""

    name: str
    flops_reduction: float | None
    figure: Measured  # of the metric that the budget is of
    within_budget: bool


@dataclass(frozen=True)
class HeldOut:
    """The check on the other half of the clips."""

    clips: int
    full: Measured
    chosen: Measured
    within_budget: bool


@dataclass(frozen=True)
class TuningFile:
    """One file. Without a `choice` the `reason` tells why there is none."""

    source: Source
    metric: Metric
    max_loss: float  # as people read the metric
    objective: str
    full: Measured
    candidates: tuple[Candidate, ...]
    choice: str | None
    profile: str  # TOML
    reason: str
    held_out: HeldOut | None
    failures: tuple[ClipFailure, ...]


def read_tuning(fields: Fields, name: str) -> TuningFile:
    """The file `name`.

    Raises:
        FieldError: a field is missing or of another kind.
    """
    metric, held_out = read_metric(fields.inner("metric")), fields.maybe(fields.inner, "held_out")
    return TuningFile(
        source=_source(fields, name),
        metric=metric,
        max_loss=fields.number("max_loss"),
        objective=fields.text("objective"),
        full=_figure(fields.inner("full"), metric),
        candidates=tuple(_candidate(entry, metric) for entry in fields.each("candidates")),
        choice=fields.maybe(fields.text, "choice"),
        profile=fields.maybe(fields.text, "profile") or "",
        reason=fields.maybe(fields.text, "reason") or "",
        held_out=None if held_out is None else _held_out(held_out, metric),
        failures=tuple(read_failures(fields)),
    )


def _candidate(fields: Fields, metric: Metric) -> Candidate:
    return Candidate(
        fields.text("name"),
        fields.maybe(fields.number, "flops_reduction"),
        _figure(fields, metric),
        fields.flag("feasible"),
    )


def _held_out(fields: Fields, metric: Metric) -> HeldOut:
    full, chosen = (_figure(entry, metric) for entry in fields.pair("profiles"))
    return HeldOut(int(fields.number("measured")), full, chosen, fields.flag("within_budget"))


def _figure(fields: Fields, metric: Metric) -> Measured:
    return read_figure(fields.inner("metrics").inner(metric.name), metric)


def _source(fields: Fields, name: str) -> Source:
    folder, clips = mapping(fields, "checkpoint").get("folder"), mapping(fields, "clips").get("source")
    command = (
        *("tune", str(folder or "CHECKPOINT"), "--manifest", str(clips or "CLIPS")),
        *("--max-loss", f"{fields.number('max_loss'):g}", "--objective", fields.text("objective")),
        *("-o", "PROFILE.toml", "--json", name),
    )
    settings = {
        "task": fields.maybe(fields.text, "task"),
        "seed": fields.maybe(fields.number, "seed"),
        "checkpoint": mapping(fields, "checkpoint"),
        **mapping(fields, "protocol"),
    }
    return Source(name, "tune", command, settings, mapping(fields, "environment"))
