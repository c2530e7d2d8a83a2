"""An evaluation as tables for a terminal of 80 columns."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import groupby

from ..runtime.choice.acceptance import ENOUGH_RECORDINGS, LEAST_RECORDINGS
from ..runtime.tables.tables import Section, columns
from ..runtime.tables.units import ABSENT, percent
from .evaluation import Evaluation, Failure
from .figures.scores import Figure
from .metrics.metric import Metric
from .metrics.word_errors import is_detail
from .recorded import measured
from .results.figure_text import interval_text, p_text, value_text

LEGEND = "FLOPs: of the prefill, at the mean length; cut off: by max_new_tokens"
DETAILS_LEGEND = "Short answers, % of the clips: at most half as many words as the reference has"


def evaluation_sections(evaluation: Evaluation) -> Iterator[Section | str]:
    """What was measured, a table for each metric, what failed, and how far to trust it."""
    yield _profiles(evaluation)
    for i, figure in enumerate(evaluation.profiles[0].figures):
        if not is_detail(figure.metric):
            yield _unavailable(figure) if figure.value is None else _metric(evaluation, i)
    if any(
        is_detail(figure.metric) and figure.value is not None for figure in evaluation.profiles[0].figures
    ):
        yield _details(evaluation)
    if evaluation.failures:
        yield _failures(evaluation)
    yield ""
    yield from _notes(evaluation)


def _profiles(evaluation: Evaluation) -> Section:
    table = columns("profile", "clips", "rows kept", "FLOPs saved", "cut off", gap=2)
    for scores in evaluation.profiles:
        shares = percent(scores.kept_ratio), percent(scores.flops_reduction)
        table.add_row(scores.profile, str(len(evaluation.measured)), *shares, str(scores.cut_off))
    count = len(evaluation.clips.clips)
    return Section(
        f"{evaluation.clips.task}, {count} clip{'s' * (count != 1)} of {evaluation.clips.source}",
        table,
        LEGEND,
    )


def _metric(evaluation: Evaluation, index: int) -> Section:
    first = evaluation.profiles[0]
    metric = first.figures[index].metric
    table = columns("profile", metric.title + unit(metric), "95 %", "delta", "95 %", "p", gap=2)
    for scores in evaluation.profiles:
        table.add_row(scores.profile, *_cells(scores.figures[index]))
    title = f"{metric.title}, {metric.better}"
    compared = f"; delta: less that of {first.profile}" if len(evaluation.profiles) > 1 else ""
    return Section(title + compared, table, f"by {metric.made_by}")


def _details(evaluation: Evaluation) -> Section:
    """What the errors are, without intervals, which the result file has."""
    details = [figure.metric for figure in evaluation.profiles[0].figures if is_detail(figure.metric)]
    table = columns("profile", *(metric.title for metric in details), gap=2)
    for scores in evaluation.profiles:
        found = (figure for figure in scores.figures if is_detail(figure.metric))
        table.add_row(scores.profile, *(number(figure.metric, figure.value) for figure in found))
    return Section("What the words became, % of the references", table, DETAILS_LEGEND)


def few_text(recordings: int) -> str:
    """That intervals of so few recordings, of two at least, say little."""
    return f"{recordings} recordings are few: the intervals are rough."


def unit(metric: Metric) -> str:
    """What stands behind the title of a metric."""
    return f" {metric.sign}" if metric.sign else ""


def _cells(figure: Figure) -> tuple[str, ...]:
    metric, found = figure.metric, measured(figure).times(figure.metric.scale)
    own = value_text(metric, found.value), interval_text(metric, found.estimate)
    if (change := found.delta) is None:
        return (*own, "", "", "")
    return (*own, value_text(metric, change.value, "+"), interval_text(metric, change, "+"), p_text(change))


def number(metric: Metric, value: float | None) -> str:
    """A value in the unit of its metric as people read it."""
    return value_text(metric, None if value is None else value * metric.scale)


def _unavailable(figure: Figure) -> str:
    return f"\n{figure.metric.title}: not computed: {figure.reason}"


def _failures(evaluation: Evaluation) -> Section:
    """One row per clip and reason; profiles that fail for the same reason share it."""
    table = columns("clip", "line", "profile", "reason", left=4)
    rows = groupby(evaluation.failures, lambda failure: (failure.clip, failure.reason))
    for (clip, reason), found in rows:
        line = ABSENT if clip.line is None else str(clip.line)
        table.add_row(clip.id, line, _names(list(found), len(evaluation.profiles)), reason)
    failed = len(evaluation.clips.clips) - len(evaluation.measured)
    return Section(f"{failed} of {len(evaluation.clips.clips)} clips failed: no figure counts them", table)


def _names(failures: list[Failure], num_profiles: int) -> str:
    return "all" if len(failures) == num_profiles else ", ".join(failure.profile for failure in failures)


def _notes(evaluation: Evaluation) -> Iterator[str]:
    options, measured = evaluation.options, len(evaluation.measured)
    yield f"Texts as normaliser {evaluation.normalizer} leaves them."
    if not measured:
        yield "No clip was answered under every profile: there are no figures."
        return
    if (recordings := evaluation.recordings) < LEAST_RECORDINGS:
        yield "One recording has no interval: give more."
        return
    yield (
        f"95 %: {options.resamples} bootstrap resamples of the {recordings} recordings, seed {options.seed}, "
        "the same for all profiles."
    )
    if recordings < ENOUGH_RECORDINGS:
        yield few_text(recordings)
