"""The profiles of an artifact beside each other: every metric of `eval` with its interval."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from ....runtime.choice.figures import Loss
from ....runtime.tables.units import ABSENT, percent
from ...gate.gate import Judged, judged
from ...metrics.metric import Metric
from ...metrics.word_errors import is_detail
from ...results.evaluation import EvaluationResult
from ...results.figure_text import estimate_text, figure_of, heading, interval_text, p_text, value_text
from ...results.figures import Estimate, Measured, ProfileFigures
from ...results.files import ResultFile
from ..page_model import Plot, Section, Table
from ..plotly_parts import axis, bars, hover, names_axis, plotly_figure, reference, row_height
from ..series_style import PLAIN


def profiles_section(evaluations: Sequence[ResultFile[EvaluationResult]]) -> Section | None:
    """One plot per metric, and one table per file."""
    if not evaluations:
        return None
    return Section(
        "Profiles of an artifact",
        "Each profile with its 95 % interval; the dashed line is the first profile, which the others are "
        "compared with on the same resamples of the recordings.",
        plots=tuple(
            _plot(evaluation, metric)
            for evaluation in evaluations
            for metric in evaluation.found.metrics
            if not is_detail(metric)
            and any(figure_of(metric, profile.figures).estimate for profile in evaluation.found.profiles)
        ),
        tables=tuple(table for evaluation in evaluations for table in _tables(evaluation)),
        notes=tuple(note for evaluation in evaluations for note in _notes(evaluation)),
    )


def _plot(evaluation: ResultFile[EvaluationResult], metric: Metric) -> Plot:
    found, profiles = evaluation.found, evaluation.found.profiles
    first = figure_of(metric, profiles[0].figures).estimate
    figure = plotly_figure(
        [_points(profiles, metric)],
        axis(nticks=5),
        names_axis([profile.profile for profile in profiles]),
        row_height(len(profiles), titled=False),
        shapes=[] if first is None else [reference("x", first.value)],
    )
    return Plot(
        heading(metric),
        f"{found.task}, {found.clips.in_words}, {evaluation.name}",
        f"{metric.title} of {len(profiles)} profiles with intervals",
        figure,
        _table(found, metric),
        metric.better,
    )


def _points(profiles: Sequence[ProfileFigures], metric: Metric) -> dict[str, Any]:
    found = [
        (i, profile, estimate)
        for i, profile in enumerate(profiles)
        if (estimate := figure_of(metric, profile.figures).estimate) is not None
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
    found = figure_of(metric, profile.figures)
    delta = found.delta
    change = "" if delta is None else f"difference {value_text(metric, delta.value, '+')}"
    return hover(profile.profile, f"{metric.title} {estimate_text(metric, found)}", change)


def _table(evaluation: EvaluationResult, metric: Metric) -> Table:
    first = evaluation.profiles[0].profile
    columns = ("profile", heading(metric), "95 %", f"difference to {first}", "95 %", "p")
    rows = tuple(
        (profile.profile, *_cells(metric, figure_of(metric, profile.figures)))
        for profile in evaluation.profiles
    )
    return Table(columns, rows, f"{heading(metric)}; differences are paired, p is of no difference")


def _cells(metric: Metric, found: Measured) -> tuple[str, ...]:
    own = value_text(metric, found.value), interval_text(metric, found.estimate)
    if found.delta is None:
        return (*own, ABSENT, ABSENT, ABSENT)
    change = value_text(metric, found.delta.value, "+"), interval_text(metric, found.delta, "+")
    return (*own, *change, p_text(found.delta))


def _tables(evaluation: ResultFile[EvaluationResult]) -> Iterator[Table]:
    yield _costs(evaluation)
    figures = evaluation.found.profiles[0].figures
    measured = (metric for metric in evaluation.found.metrics if figure_of(metric, figures).estimate)
    if details := [metric for metric in measured if is_detail(metric)]:
        yield _details(evaluation, details)
    if verdicts := list(judged(evaluation.found)):
        yield _budgets(evaluation, verdicts)


def _details(evaluation: ResultFile[EvaluationResult], details: Sequence[Metric]) -> Table:
    """What explains the metrics; the file has the intervals."""
    rows = tuple(
        (
            profile.profile,
            *(value_text(metric, figure_of(metric, profile.figures).value) for metric in details),
        )
        for profile in evaluation.found.profiles
    )
    return Table(("profile", *map(heading, details)), rows, f"{evaluation.name}: what the errors are")


def _budgets(evaluation: ResultFile[EvaluationResult], verdicts: Sequence[Judged]) -> Table:
    """Whether each profile is within the budget that the file was measured for."""
    found, metric = evaluation.found, evaluation.found.metrics[0]
    assert found.max_loss is not None, "what is judged has a budget"
    budget = f"{found.max_loss * metric.scale:g}"
    rows = tuple((each.profile, *_lost(metric, each.loss), budget, each.verdict.outcome) for each in verdicts)
    return Table(
        ("profile", f"{metric.title} lost, points", "95 %", "budget", "verdict"),
        rows,
        f"{evaluation.name}: against {found.profiles[0].profile} on {found.clips.in_words}; a "
        "profile is within the budget if the upper end is, and there are at least "
        f"{found.least_recordings} recordings",
    )


def _lost(metric: Metric, loss: Loss | None) -> tuple[str, str]:
    if loss is None:
        return ABSENT, ABSENT
    estimate = Estimate(loss.value, loss.low, loss.high)
    return value_text(metric, loss.value, "+"), interval_text(metric, estimate, "+")


def _costs(evaluation: ResultFile[EvaluationResult]) -> Table:
    """What the profiles save, beside the difference to the first one."""
    found = evaluation.found
    metrics = [metric for metric in found.metrics if not is_detail(metric)]
    columns = ("profile", "FLOPs saved", "rows kept", "cut off", *map(heading, metrics))
    return Table(
        columns,
        tuple(_cost_row(profile, metrics) for profile in found.profiles),
        f"{evaluation.name}: {found.task}, {found.clips.measured} of {found.clips.count} clips. "
        "FLOPs of the prefill at the mean length; cut off: answers ended by the limit of new tokens; in "
        f"brackets the difference to {found.profiles[0].profile} with its interval",
    )


def _cost_row(profile: ProfileFigures, metrics: Sequence[Metric]) -> tuple[str, ...]:
    shares = percent(profile.flops_reduction), percent(profile.kept_ratio)
    figures = (_with_delta(metric, figure_of(metric, profile.figures)) for metric in metrics)
    return (profile.profile, *shares, str(profile.cut_off), *figures)


def _with_delta(metric: Metric, found: Measured) -> str:
    value = value_text(metric, found.value)
    if found.delta is None:
        return value
    interval = interval_text(metric, found.delta, "+")
    ends = "" if interval == ABSENT else f", {interval}"
    return f"{value} ({value_text(metric, found.delta.value, '+')}{ends})"


def _notes(evaluation: ResultFile[EvaluationResult]) -> Iterator[str]:
    for metric in evaluation.found.metrics:
        found = figure_of(metric, evaluation.found.profiles[0].figures)
        if found.value is None and found.reason and not is_detail(metric):
            yield f"{evaluation.name}: {metric.title} was not computed: {found.reason}"
    for each in judged(evaluation.found):
        if each.verdict.outcome == "cannot tell":
            yield f"{evaluation.name}: {each.profile}: {each.verdict.reason}"
