"""A comparison as its result file holds it."""

from __future__ import annotations

from fractions import Fraction

from ....evaluation.recorded import METHOD, answer_settings, clip_list, intervals, measured
from ....evaluation.results.comparison import CellRecord, ComparisonProtocol, ComparisonResult, RowRecord
from ..trials import BASELINE
from .cells import CellResult
from .comparison import Comparison
from .grid import Cell, Row
from .unmet import unmet

FULL = Cell(Fraction(0))


def comparison_result(comparison: Comparison) -> ComparisonResult:
    """The record. But for its environment and times, equal answers give equal ones."""
    clips, options = comparison.clips, comparison.options
    return ComparisonResult(
        task=clips.task,
        checkpoint=comparison.checkpoint,
        clips=clip_list(clips, comparison.clips_digest, comparison.measured),
        protocol=_protocol(comparison),
        settings=answer_settings(options.evaluation, clips.task),
        intervals=intervals(options.evaluation.bootstrap, f"{METHOD}; of several seeds, of their mean"),
        metrics=comparison.metrics,
        levels=options.levels,
        full=_cell((BASELINE,), (), FULL, comparison.full, None),
        rows=tuple(_row(row, results, options.start_layer) for row, results in comparison.rows),
        failures=comparison.failures,
        environment=comparison.environment,
    )


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
    return RowRecord(row.label, row.name, row.schedule, start_layer, cells)


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
        unmet=reason,
    )
