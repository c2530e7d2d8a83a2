"""A comparison as JSON, for reports and other programs."""

from __future__ import annotations

from dataclasses import asdict
from fractions import Fraction
from typing import Any

from ....evaluation.metrics.metric import Metric
from ....evaluation.result_file import METHOD
from .cells import CellFigure, CellResult
from .comparison import Comparison, Failure
from .grid import Cell, Row
from .unmet import unmet

FORMAT_VERSION = 1
KIND = "compare"


def comparison_to_json(comparison: Comparison) -> dict[str, Any]:
    """As JSON takes it. But for `environment` and times, equal answers give equal bytes.

    Figures are in the units of `eval`: a `share` of 1, `points` of 100, or a plain `score`.
    """
    return {
        "format_version": FORMAT_VERSION,
        "kind": KIND,
        "environment": comparison.environment,
        "checkpoint": comparison.checkpoint,
        "protocol": _protocol(comparison),
        "task": comparison.clips.task,
        "metrics": [_metric(metric) for metric in comparison.metrics],
        "clips": comparison.measured,
        "failures": [_failure(failure) for failure in comparison.failures],
        "levels": [_percent(level) for level in comparison.options.levels],
        "full": _result(comparison.full),
        "rows": [_row(row, results, comparison) for row, results in comparison.rows],
    }


def _protocol(comparison: Comparison) -> dict[str, Any]:
    """All but workers and threads, which the environment holds: no answer depends on them."""
    options, reference = comparison.options, comparison.reference
    own = options.evaluation
    return {
        "clips": {
            "source": str(comparison.clips.source),
            "digest": comparison.clips_digest,
            "count": len(comparison.clips.clips),
        },
        "start_layer": options.start_layer,
        "positions": options.positions,
        "seeds": options.seeds,
        "reference_audio_seconds": float(reference.audio_seconds),
        "reference_audio_rows": reference.audio_rows,
        "reference_text_rows": reference.text_rows,
        "search": asdict(own.search),
        **own.runtime.recorded(),
        "normalizer": comparison.normalizer,
        "resamples": own.resamples,
        "seed": own.seed,
        "method": f"{METHOD}; of several seeds, of their mean",
    }


def _metric(metric: Metric) -> dict[str, Any]:
    return {
        "name": metric.name,
        "title": metric.title,
        "unit": metric.unit,
        "better": "lower" if metric.lower_is_better else "higher",
        "made_by": metric.made_by,
    }


def _failure(failure: Failure) -> dict[str, Any]:
    clip = failure.clip
    return {"id": clip.id, "line": clip.line, "profiles": list(failure.profiles), "reason": failure.reason}


def _row(row: Row, results: tuple[CellResult, ...], comparison: Comparison) -> dict[str, Any]:
    cells = zip(row.cells, results, strict=True)
    return {
        "label": row.label,
        "method": row.name,
        "schedule": row.schedule,
        "start_layer": comparison.options.start_layer,
        "cells": [_cell(row, cell, result) for cell, result in cells],
    }


def _cell(row: Row, cell: Cell, result: CellResult) -> dict[str, Any]:
    return {
        "level": _percent(cell.level),
        "profiles": [profile.name for profile in cell.profiles],
        "seeds": list(cell.seeds) if row.method.is_random else [],
        **_result(result),
        "unmet": unmet(row, cell, result),
    }


def _result(result: CellResult) -> dict[str, Any]:
    achieved = result.flops_reduction
    return {
        "figures": {entry.figure.metric.name: _figure(entry) for entry in result.figures},
        "achieved_flops_percent": None if achieved is None else 100 * achieved,
        "kept_ratio": result.kept_ratio,
        "layer_rows": list(result.layer_rows),
        "prefill_ms": result.prefill_ms,
        "decode_ms": result.decode_ms,
    }


def _figure(entry: CellFigure) -> dict[str, Any]:
    found, change = entry.figure, entry.figure.delta
    between = change.interval if change else None
    return {
        "value": found.value,
        "low": found.interval.low if found.interval else None,
        "high": found.interval.high if found.interval else None,
        "delta": {
            "value": change.value,
            "low": between.low if between else None,
            "high": between.high if between else None,
        }
        if change
        else None,
        "seeds": list(entry.seeds),
        "reason": found.reason or None,
    }


def _percent(level: Fraction) -> int | float:
    percent = 100 * level
    return int(percent) if percent.denominator == 1 else float(percent)
