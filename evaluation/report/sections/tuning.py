"""What tuning tried and chose, and whether clips that it did not see agree."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from ....profiles.methods import FULL_MODEL
from ....runtime.tables.units import ABSENT, percent
from ...metrics.metric import Metric
from ...results.figure_text import estimate_text, figure_of, heading, interval_text, value_text
from ...results.figures import Estimate, Measured, ProfileFigures
from ...results.files import ResultFile
from ...results.tuning import CandidateRecord, HeldOutResult, TuningResult
from ..page_model import Facts, Plot, Section, Swatch, Table
from ..plotly_parts import axis, bars, hover, plotly_figure, reference
from ..series_style import CHOSEN, MARKERS, NEUTRAL, PLAIN, line_drawing
from ..shown import toml_facts

KINDS = {
    "chosen": (CHOSEN, "diamond", 12),
    "within the budget": (PLAIN, "circle", 8),
    "beyond the budget": (NEUTRAL, "square", 8),
}
"""How a candidate is drawn: colour, marker and size."""


def tuning_section(tunings: Sequence[ResultFile[TuningResult]]) -> Section | None:
    """The candidates of each file, and the outcome."""
    if not tunings:
        return None
    return Section(
        "Tuning",
        "Candidates on the search half of the clips: the best one within the budget is chosen. The figure "
        "there flatters it, the more so the more were tried; that of the held-out half is what counts.",
        tuple(_legend()),
        tuple(_plot(tuning) for tuning in tunings if _placed(tuning.found)),
        facts=tuple(fact for tuning in tunings for fact in _outcome(tuning)),
        notes=tuple(note for tuning in tunings for note in _notes(tuning)),
    )


def _legend() -> Iterator[Swatch]:
    for name, (colour, marker, _) in KINDS.items():
        yield Swatch(name, name, f"<g fill='{colour}'>{MARKERS[marker]}</g>")
    yield Swatch(FULL_MODEL, "", line_drawing(NEUTRAL, "dash"))
    yield Swatch("budget", "", line_drawing(CHOSEN, "dot"))


def _placed(tuning: TuningResult) -> list[tuple[CandidateRecord, Estimate, float]]:
    """Candidates that have a place in a plot."""
    return [
        (candidate, estimate, 100 * candidate.scores.flops_reduction)
        for candidate in tuning.candidates
        if (estimate := _figure(tuning, candidate.scores).estimate) is not None
        and candidate.scores.flops_reduction is not None
    ]


def _figure(tuning: TuningResult, scores: ProfileFigures) -> Measured:
    """Of the metric that the budget is of."""
    return figure_of(tuning.metric, scores.figures)


def _plot(file: ResultFile[TuningResult]) -> Plot:
    tuning, metric, found = file.found, file.found.metric, _placed(file.found)
    figure = plotly_figure(
        [_points(tuning, kind) for kind in KINDS],
        axis("FLOPs removed from the prefill, %", rangemode="tozero"),
        axis(),
        shapes=list(_lines(tuning)),
    )
    return Plot(
        heading(metric),
        file.name,
        f"{metric.title} of {len(found)} candidates over the FLOPs that they remove",
        figure,
        _table(tuning),
        f"{metric.better}; objective: {tuning.objective}",
    )


def _kind(tuning: TuningResult, candidate: CandidateRecord) -> str:
    if candidate.name == tuning.choice:
        return "chosen"
    return "within the budget" if candidate.feasible else "beyond the budget"


def _points(tuning: TuningResult, kind: str) -> dict[str, Any]:
    found = [place for place in _placed(tuning) if _kind(tuning, place[0]) == kind]
    estimates = [estimate for _, estimate, _ in found]
    colour, marker, size = KINDS[kind]
    return {
        "type": "scatter",
        "mode": "markers",
        "legendgroup": kind,
        "x": [flops for _, _, flops in found],
        "y": [estimate.value for estimate in estimates],
        "error_y": bars(estimates, colour),
        "marker": {"color": colour, "symbol": marker, "size": size},
        "hoverinfo": "text",
        "hovertext": [
            hover(f"{candidate.name}, {kind}", f"{tuning.metric.title} {_text(tuning, candidate.scores)}")
            for candidate, _, _ in found
        ],
    }


def _text(tuning: TuningResult, scores: ProfileFigures) -> str:
    return estimate_text(tuning.metric, _figure(tuning, scores))


def _budget(tuning: TuningResult) -> float:
    """As people read the metric."""
    return tuning.max_loss * tuning.metric.scale


def _lines(tuning: TuningResult) -> Iterator[dict[str, Any]]:
    """The full model, and the worst value that the budget allows."""
    full = _figure(tuning, tuning.full).estimate
    if full is None:
        return
    loss = _budget(tuning) if tuning.metric.lower_is_better else -_budget(tuning)
    yield reference("y", full.value)
    yield reference("y", full.value + loss, CHOSEN, "dot")


def _table(tuning: TuningResult) -> Table:
    rows = tuple(
        (
            candidate.name,
            _kind(tuning, candidate),
            percent(candidate.scores.flops_reduction),
            _text(tuning, candidate.scores),
        )
        for candidate in tuning.candidates
    )
    columns = ("candidate", "outcome", "FLOPs saved", f"{heading(tuning.metric)} (95 %)")
    return Table(columns, rows, "On the search half of the clips", texts=2)


def _held(tuning: TuningResult, found: HeldOutResult) -> str:
    """Whether the choice keeps the budget on the held-out clips, which a reason beside a choice doubts."""
    if tuning.reason is not None:
        return "not judged"
    return "kept" if found.within_budget else "NOT kept"


def _outcome(file: ResultFile[TuningResult]) -> Iterator[Facts]:
    tuning, name, title = file.found, file.name, heading(file.found.metric)
    if tuning.choice is not None:
        entries = (("candidate", tuning.choice), *toml_facts(tuning.profile or ""))
        yield Facts(f"The profile that was chosen · {name}", entries)
    if (found := tuning.held_out) is not None:
        full, chosen = found.profiles
        entries = (
            ("clips", str(found.clips.measured)),
            (f"{title}, full", _text(tuning, full)),
            (f"{title}, chosen", _text(tuning, chosen)),
            ("difference", _difference(tuning.metric, _figure(tuning, chosen))),
            ("budget", f"{_budget(tuning):g}, {_held(tuning, found)}"),
        )
        yield Facts(f"On the held-out clips · {name}", entries)


def _difference(metric: Metric, found: Measured) -> str:
    if found.delta is None:
        return ABSENT
    return f"{value_text(metric, found.delta.value, '+')} ({interval_text(metric, found.delta, '+')})"


def _notes(file: ResultFile[TuningResult]) -> Iterator[str]:
    tuning, name = file.found, file.name
    if tuning.choice is None:
        yield f"{name}: nothing is chosen: {tuning.reason or 'no reason is recorded'}"
    elif tuning.reason is not None:
        yield f"{name}: {tuning.reason}"
    elif tuning.held_out is not None and not tuning.held_out.within_budget:
        yield f"{name}: the held-out clips find the chosen profile beyond the budget of {_budget(tuning):g}"
