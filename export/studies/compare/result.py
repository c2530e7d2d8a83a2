"""A comparison as its result file holds it."""

from __future__ import annotations

from fractions import Fraction

from ....evaluation.answers.peak_memory import SCOPE
from ....evaluation.recorded import METHOD, answer_settings, clip_list, difference, intervals, measured
from ....evaluation.results.comparison import CellRecord, ComparisonProtocol, ComparisonResult, RowRecord
from ....profiles.methods import FULL
from ....profiles.schedule import has_start_layer
from .cells import CellResult
from .comparison import Comparison
from .grid import Cell, Row
from .unmet import unmet

FROM_FLOAT32 = "differences from float32 weights are of the same profile, on the same resamples of the clips"


def comparison_result(comparison: Comparison) -> ComparisonResult:
    """The record. But for its environment and times, equal answers give equal ones."""
    clips, options = comparison.clips, comparison.options
    return ComparisonResult(
        task=clips.task,
        checkpoint=comparison.checkpoint,
        clips=clip_list(clips, comparison.clips_digest, comparison.measured),
        protocol=_protocol(comparison),
        settings=answer_settings(options.evaluation, clips.task),
        intervals=intervals(options.evaluation.bootstrap, _method(comparison)),
        metrics=comparison.metrics,
        levels=options.levels if comparison.reduced else (),
        formats=comparison.formats,
        memory=SCOPE if len(comparison.formats) > 1 else None,
        full=_cell((FULL,), (), Cell(Fraction(0)), comparison.full, None),
        rows=tuple(_row(row, results, options.start_layer) for row, results in comparison.rows),
        failures=comparison.failures,
        environment=comparison.environment,
    )


def _method(comparison: Comparison) -> str:
    """How intervals were made; of differences between formats only where there are some."""
    parts = [METHOD, "of several seeds, of their mean"]
    if len(comparison.formats) > 1:
        parts.append(FROM_FLOAT32)
    return "; ".join(parts)


def _protocol(comparison: Comparison) -> ComparisonProtocol:
    options, reference = comparison.options, comparison.reference
    return ComparisonProtocol(
        start_layer=options.start_layer,
        positions=options.positions,
        seeds=options.seeds,
        reference_audio_seconds=float(reference.audio_seconds),
        reference_audio_rows=reference.audio_rows,
        reference_text_rows=reference.text_rows,
    )


def _row(row: Row, results: tuple[CellResult, ...], start_layer: int) -> RowRecord:
    cells = tuple(
        _cell(
            tuple(profile.name for profile in cell.profiles),
            cell.seeds if row.method.is_random else (),
            cell,
            result,
            unmet(row, cell, result),
        )
        for cell, result in zip(row.cells, results, strict=True)
    )
    start = start_layer if has_start_layer(row.schedule) else 0
    return RowRecord(row.label, row.name, row.schedule, start, row.positions, row.quantized, cells)


def _cell(
    profiles: tuple[str, ...], seeds: tuple[int, ...], cell: Cell, result: CellResult, reason: str | None
) -> CellRecord:
    return CellRecord(
        level=cell.level,
        profiles=profiles,
        seeds=seeds,
        figures={entry.figure.metric.name: measured(entry.figure, entry.seeds) for entry in result.figures},
        flops_reduction=result.flops_reduction,
        kept_ratio=result.kept_ratio,
        layer_rows=result.layer_rows,
        prefill_ms=result.prefill_ms,
        decode_ms=result.decode_ms,
        step_ms=result.step_ms,
        peak_bytes=result.peak_bytes,
        from_float32={
            entry.figure.metric.name: difference(entry.from_float32)
            for entry in result.figures
            if entry.from_float32 is not None
        },
        from_compact={
            entry.figure.metric.name: difference(entry.from_compact)
            for entry in result.figures
            if entry.from_compact is not None
        },
        cut_off=result.cut_off,
        unmet=reason,
    )
