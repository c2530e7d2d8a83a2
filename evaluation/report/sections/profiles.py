"""The profiles of an artifact beside each other: every metric of `eval` with its interval."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from ....runtime.tables.units import ABSENT, percent
from ..files.evaluation import EvaluationFile, ProfileFigures
from ..files.records import Measured, Metric
from ..page_model import Plot, Section, Table
from ..plotly_parts import axis, bars, hover, names_axis, plotly_figure, reference, row_height
from ..series_style import PLAIN
from ..shown import clips_text, estimate_text, interval_text, value_text


def profiles_section(evaluations: Sequence[EvaluationFile]) -> Section | None:
    """One plot per metric, and one table per file."""
    if not evaluations:
        return None
    return Section(
        "Profiles of an artifact",
        "Each profile with its 95 % interval; the dashed line is the first profile, which the others are "
        "compared with on the same resamples of the clips.",
        plots=tuple(
            _plot(evaluation, metric)
            for evaluation in evaluations
            for metric in evaluation.metrics
            if any(profile.figure(metric).estimate for profile in evaluation.profiles)
        ),
        tables=tuple(map(_costs, evaluations)),
        notes=tuple(note for evaluation in evaluations for note in _notes(evaluation)),
    )


def _plot(evaluation: EvaluationFile, metric: Metric) -> Plot:
    profiles = evaluation.profiles
    first = profiles[0].figure(metric).estimate
    figure = plotly_figure(
        [_points(profiles, metric)],
        axis(nticks=5),
        names_axis([profile.profile for profile in profiles]),
        row_height(len(profiles), titled=False),
        shapes=[] if first is None else [reference("x", first.value)],
    )
    return Plot(
        metric.heading,
        f"{evaluation.task}, {clips_text(evaluation.measured)}, {evaluation.source.name}",
        f"{metric.title} of {len(profiles)} profiles with intervals",
        figure,
        _table(evaluation, metric),
        metric.better,
    )


def _points(profiles: Sequence[ProfileFigures], metric: Metric) -> dict[str, Any]:
    found = [
        (i, profile, estimate)
        for i, profile in enumerate(profiles)
        if (estimate := profile.figure(metric).estimate) is not None
    ]
    estimates = [estimate for _, _, estimate in found]
    return {
        "type": "scatter",
        "mode": "markers",
        "x": [estimate.value for estimate in estimates],
        "y": [i for i, _, _ in found],
        "error_x": bars(estimates, PLAIN),
        "marker": {"color": PLAIN, "size": 9},
        "hoverinfo": "text",
        "hovertext": [_hover(profile, metric) for _, profile, _ in found],
    }


def _hover(profile: ProfileFigures, metric: Metric) -> str:
    found = profile.figure(metric)
    delta = found.delta
    change = "" if delta is None else f"difference {value_text(metric, delta.value, '+')}"
    return hover(profile.profile, f"{metric.title} {estimate_text(metric, found)}", change)


def _table(evaluation: EvaluationFile, metric: Metric) -> Table:
    first = evaluation.profiles[0].profile
    columns = ("profile", metric.heading, "95 %", f"difference to {first}", "95 %", "p")
    rows = tuple(
        (profile.profile, *_cells(metric, profile.figure(metric))) for profile in evaluation.profiles
    )
    return Table(columns, rows, f"{metric.heading}; differences are paired, p is of no difference")


def _cells(metric: Metric, found: Measured) -> tuple[str, ...]:
    value = None if found.estimate is None else found.estimate.value
    own = value_text(metric, value), interval_text(metric, found.estimate)
    if found.delta is None:
        return (*own, ABSENT, ABSENT, ABSENT)
    change = value_text(metric, found.delta.value, "+"), interval_text(metric, found.delta, "+")
    return (*own, *change, ABSENT if found.p_value is None else f"{found.p_value:.3f}")


def _costs(evaluation: EvaluationFile) -> Table:
    """What the profiles save, beside the difference to the first one."""
    metrics = evaluation.metrics
    columns = ("profile", "FLOPs saved", "rows kept", "cut off", *(m.heading for m in metrics))
    return Table(
        columns,
        tuple(_cost_row(profile, metrics) for profile in evaluation.profiles),
        f"{evaluation.source.name}: {evaluation.task}, {evaluation.measured} of {evaluation.clips} clips. "
        "FLOPs of the prefill at the mean length; cut off: answers ended by the limit of new tokens; in "
        f"brackets the difference to {evaluation.profiles[0].profile} with its interval",
    )


def _cost_row(profile: ProfileFigures, metrics: Sequence[Metric]) -> tuple[str, ...]:
    cut_off = ABSENT if profile.cut_off is None else f"{profile.cut_off:g}"
    shares = percent(profile.flops_reduction), percent(profile.kept_ratio)
    return (profile.profile, *shares, cut_off, *(_with_delta(m, profile.figure(m)) for m in metrics))


def _with_delta(metric: Metric, found: Measured) -> str:
    value = value_text(metric, None if found.estimate is None else found.estimate.value)
    if found.delta is None:
        return value
    interval = interval_text(metric, found.delta, "+")
    ends = "" if interval == ABSENT else f", {interval}"
    return f"{value} ({value_text(metric, found.delta.value, '+')}{ends})"


def _notes(evaluation: EvaluationFile) -> Iterator[str]:
    for metric in evaluation.metrics:
        found = evaluation.profiles[0].figure(metric)
        if found.estimate is None and found.reason:
            yield f"{evaluation.source.name}: {metric.title} was not computed: {found.reason}"
