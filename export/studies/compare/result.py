"""A comparison as its result file holds it."""

from __future__ import annotations

from ....evaluation.answers.peak_memory import SCOPE
from ....evaluation.recorded import METHOD, answer_settings, clip_list, intervals
from ....evaluation.results.comparison import CellRecord, ComparisonProtocol, ComparisonResult, RowRecord
from ....profiles.schedule import has_start_layer
from .comparison import Comparison
from .grid import Row

FROM_FLOAT32 = "differences from float32 weights are of the same profile, on the same resamples"


def comparison_result(comparison: Comparison) -> ComparisonResult:
    """The record. But for its environment and times, equal answers give equal ones."""
    clips, options = comparison.clips, comparison.options
    return ComparisonResult(
        task=clips.task,
        checkpoint=comparison.checkpoint,
        clips=clip_list(clips, comparison.clips_digest, comparison.measured, comparison.recordings),
        protocol=_protocol(comparison),
        settings=answer_settings(options.evaluation, clips.task),
        intervals=intervals(options.evaluation.bootstrap, _method(comparison)),
        metrics=comparison.metrics,
        levels=options.levels if comparison.reduced else (),
        formats=comparison.formats,
        memory=SCOPE if len(comparison.formats) > 1 else None,
        full=comparison.full,
        rows=tuple(_row(row, cells, options.start_layer) for row, cells in comparison.rows),
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
        reference_audio_rows=reference.audio_tokens,
        reference_text_rows=reference.text_rows,
    )


def _row(row: Row, cells: tuple[CellRecord, ...], start_layer: int) -> RowRecord:
    start = start_layer if has_start_layer(row.schedule) else 0
    return RowRecord(row.label, row.name, row.schedule, start, row.positions, row.quantized, cells)
