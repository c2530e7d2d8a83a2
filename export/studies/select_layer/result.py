"""A layer selection as its result file holds it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from ....evaluation.recorded import answer_settings, by_metric, failures, intervals
from ....evaluation.result import measured_clips
from ....evaluation.results.selection import AccuracyResult, LayerFigures, SelectionResult
from ....profiles.profile import profile_to_toml
from .accuracy import LayerAccuracy
from .selection import LayerSelection


def selection_result(selection: LayerSelection) -> SelectionResult:
    """The record; what was not measured is None."""
    accuracy = selection.accuracy
    return SelectionResult(
        checkpoint=selection.checkpoint,
        clips=selection.clips,
        protocol=selection.protocol,
        intervals=selection.intervals,
        selected=selection.selected,
        profile=profile_to_toml(selection.profile),
        warnings=tuple(selection.warnings),
        layers=tuple(_layer(row, accuracy) for row in selection.layers),
        accuracy=None if accuracy is None else _accuracy(accuracy, selection.entropies),
        failures=selection.failures,
        environment=selection.environment,
    )


def _layer(row: LayerFigures, accuracy: LayerAccuracy | None) -> LayerFigures:
    """A layer with the figures of all levels that one merge there can meet."""
    if accuracy is None:
        return row
    found = {level: accuracy.figures(row.layer, level) for level in accuracy.levels}
    return replace(row, accuracy={level: by_metric(figures) for level, figures in found.items() if figures})


def _accuracy(accuracy: LayerAccuracy, entropies: Mapping[int, float]) -> AccuracyResult:
    evaluation = accuracy.evaluation
    clips, options = evaluation.clips, evaluation.options
    levels = [level for level in accuracy.levels if accuracy.values(level)]
    return AccuracyResult(
        task=clips.task,
        clips=measured_clips(evaluation),
        settings=answer_settings(options, clips.task),
        intervals=intervals(options.bootstrap),
        metrics=tuple(figure.metric for figure in accuracy.full),
        levels=accuracy.levels,
        full=by_metric(accuracy.full),
        best={level: accuracy.best(level) for level in levels},
        rank_correlation={level: accuracy.agreement(entropies, level) for level in levels},
        failures=tuple(failures(evaluation.records)),
        environment=evaluation.environment,
    )
