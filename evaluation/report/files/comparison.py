"""What `compare` leaves: methods at levels of FLOPs reduction, each cell with figures and latency."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace

from .fields import Fields
from .records import (
    NOTHING,
    ClipFailure,
    Estimate,
    Measured,
    Metric,
    Source,
    mapping,
    read_failures,
    read_metric,
    scaled,
)


@dataclass(frozen=True)
class Cell:
    """One method at one level; whatever was not measured is absent."""

    level: float
    flops_percent: float | None = None  # achieved
    kept_ratio: float | None = None
    figures: Mapping[str, Measured] = field(default_factory=dict)  # by the name of the metric
    layer_rows: tuple[float, ...] = ()  # audio rows in the cache of each layer, mean over the clips
    prefill_ms: float | None = None
    decode_ms: float | None = None
    unmet: str = ""  # why the level is out of reach

    @property
    def latency_ms(self) -> float | None:
        """Prefill and decode together."""
        if self.prefill_ms is None or self.decode_ms is None:
            return None
        return self.prefill_ms + self.decode_ms

    def figure(self, metric: Metric) -> Measured:
        """Of a metric; an empty one where it was not measured."""
        return self.figures.get(metric.name, NOTHING)

    @property
    def at(self) -> float:
        """Where on an axis of FLOPs: what was achieved, or else what was asked for."""
        return self.level if self.flops_percent is None else self.flops_percent


@dataclass(frozen=True)
class Row:
    """A method with its schedule; its `label` ends with that, where the method has several."""

    label: str
    schedule: str
    cells: tuple[Cell, ...]


@dataclass(frozen=True)
class Comparison:
    """One file."""

    source: Source
    task: str
    clips: int
    metrics: tuple[Metric, ...]
    full: Cell
    rows: tuple[Row, ...]
    failures: tuple[ClipFailure, ...]
    positions: str = ""  # of rows after a reduction; files of earlier versions do not tell
    part: str = ""  # the schedule of its rows, where they have one


def by_schedule(comparison: Comparison, most: int) -> Iterator[Comparison]:
    """One for each schedule, whose labels name the method alone; up to `most` rows of several stay one."""
    schedules = dict.fromkeys(row.schedule for row in comparison.rows)
    if len(schedules) > 1 and len(comparison.rows) <= most:
        yield comparison
        return
    for schedule in schedules:
        own = (row for row in comparison.rows if row.schedule == schedule)
        rows = tuple(replace(row, label=row.label.removesuffix(f", {schedule}")) for row in own)
        yield replace(comparison, rows=rows, part=schedule)


def read_comparison(fields: Fields, name: str) -> Comparison:
    """The file `name`.

    Raises:
        FieldError: a field is missing or of another kind.
    """
    metrics, protocol = tuple(map(read_metric, fields.each("metrics"))), fields.inner("protocol")
    positions = protocol.maybe(protocol.text, "positions") or ""
    return Comparison(
        source=_source(fields, name, positions),
        task=fields.text("task"),
        clips=int(fields.number("clips")),
        metrics=metrics,
        full=_cell(fields.inner("full"), metrics, 0.0),
        rows=tuple(_row(row, metrics) for row in fields.each("rows")),
        failures=tuple(read_failures(fields)),
        positions=positions,
    )


def _row(fields: Fields, metrics: tuple[Metric, ...]) -> Row:
    cells = (_cell(cell, metrics, cell.number("level")) for cell in fields.each("cells"))
    schedule = fields.maybe(fields.text, "schedule") or ""
    return Row(fields.text("label"), schedule, tuple(sorted(cells, key=lambda cell: cell.level)))


def _cell(fields: Fields, metrics: tuple[Metric, ...], level: float) -> Cell:
    figures = fields.maybe(fields.inner, "figures") or Fields({})
    return Cell(
        level,
        flops_percent=fields.maybe(fields.number, "achieved_flops_percent"),
        kept_ratio=fields.maybe(fields.number, "kept_ratio"),
        figures={metric.name: _measured(figures, metric) for metric in metrics},
        layer_rows=fields.maybe(fields.numbers, "layer_rows") or (),
        prefill_ms=fields.maybe(fields.number, "prefill_ms"),
        decode_ms=fields.maybe(fields.number, "decode_ms"),
        unmet=fields.maybe(fields.text, "unmet") or "",
    )


def _measured(figures: Fields, metric: Metric) -> Measured:
    found = figures.maybe(figures.inner, metric.name)
    if found is None:
        return NOTHING
    delta = found.maybe(found.inner, "delta")
    seeds = found.maybe(found.items, "seeds") or []
    return Measured(
        _estimate(found, metric),
        None if delta is None else _estimate(delta, metric),
        seeds=() if None in seeds else tuple(value * metric.scale for value in found.numbers("seeds")),
        reason=found.maybe(found.text, "reason") or "",
    )


def _estimate(fields: Fields, metric: Metric) -> Estimate | None:
    value, low, high = (fields.maybe(fields.number, name) for name in ("value", "low", "high"))
    return None if value is None else scaled(metric, value, low, high)


def _source(fields: Fields, name: str, positions: str) -> Source:
    checkpoint, protocol = mapping(fields, "checkpoint"), fields.inner("protocol")
    clips = mapping(protocol, "clips").get("source", "CLIPS")
    levels = ",".join(f"{level:g}" for level in fields.numbers("levels"))
    folder = checkpoint.get("folder", "CHECKPOINT")
    options = ("--manifest", str(clips), "--task", fields.text("task"), "--flops", levels)
    kept = ("--positions", positions) if positions else ()
    command = ("compare", str(folder), *options, *kept, "-o", name)
    settings = {"task": fields.text("task"), "checkpoint": checkpoint, **protocol.content}
    return Source(name, "compare", command, settings, mapping(fields, "environment"))
