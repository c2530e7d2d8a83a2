"""What tuning tried and chose, and whether clips that it did not see agree."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from ....runtime.tables.units import ABSENT, percent
from ..files.records import Estimate, Measured, Metric
from ..files.tuning import Candidate, TuningFile
from ..page_model import Facts, Plot, Section, Swatch, Table
from ..plotly_parts import axis, bars, hover, plotly_figure, reference
from ..series_style import CHOSEN, MARKERS, NEUTRAL, PLAIN, line_drawing
from ..shown import estimate_text, interval_text, toml_facts, value_text

KINDS = {
    "chosen": (CHOSEN, "diamond", 12),
    "within the budget": (PLAIN, "circle", 8),
    "beyond the budget": (NEUTRAL, "square", 8),
}
"""How a candidate is drawn: colour, marker and size."""


def tuning_section(tunings: Sequence[TuningFile]) -> Section | None:
    """The candidates of each file, and the outcome."""
    if not tunings:
        return None
    return Section(
        "Tuning",
        "Candidates on the search half of the clips: the best one within the budget is chosen. The figure "
        "there flatters it, the more so the more were tried; that of the held-out half is what counts.",
        tuple(_legend()),
        tuple(_plot(tuning) for tuning in tunings if _placed(tuning)),
        facts=tuple(fact for tuning in tunings for fact in _outcome(tuning)),
        notes=tuple(note for tuning in tunings for note in _notes(tuning)),
    )


def _legend() -> Iterator[Swatch]:
    for name, (colour, marker, _) in KINDS.items():
        yield Swatch(name, name, f"<g fill='{colour}'>{MARKERS[marker]}</g>")
    yield Swatch("full model", "", line_drawing(NEUTRAL, "dash"))
    yield Swatch("budget", "", line_drawing(CHOSEN, "dot"))


def _placed(tuning: TuningFile) -> list[tuple[Candidate, Estimate, float]]:
    """Candidates that have a place in a plot."""
    return [
        (candidate, candidate.figure.estimate, 100 * candidate.flops_reduction)
        for candidate in tuning.candidates
        if candidate.figure.estimate is not None and candidate.flops_reduction is not None
    ]


def _plot(tuning: TuningFile) -> Plot:
    metric, found = tuning.metric, _placed(tuning)
    figure = plotly_figure(
        [_points(tuning, kind) for kind in KINDS],
        axis("FLOPs removed from the prefill, %", rangemode="tozero"),
        axis(),
        shapes=list(_lines(tuning)),
    )
    return Plot(
        metric.heading,
        tuning.source.name,
        f"{metric.title} of {len(found)} candidates over the FLOPs that they remove",
        figure,
        _table(tuning),
        f"{metric.better}; objective: {tuning.objective}",
    )


def _kind(tuning: TuningFile, candidate: Candidate) -> str:
    if candidate.name == tuning.choice:
        return "chosen"
    return "within the budget" if candidate.within_budget else "beyond the budget"


def _points(tuning: TuningFile, kind: str) -> dict[str, Any]:
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
            hover(f"{candidate.name}, {kind}", f"{tuning.metric.title} {_text(tuning.metric, candidate)}")
            for candidate, _, _ in found
        ],
    }


def _text(metric: Metric, candidate: Candidate) -> str:
    return estimate_text(metric, candidate.figure)


def _lines(tuning: TuningFile) -> Iterator[dict[str, Any]]:
    """The full model, and the worst value that the budget allows."""
    full = tuning.full.estimate
    if full is None:
        return
    loss = tuning.max_loss if tuning.metric.lower_is_better else -tuning.max_loss
    yield reference("y", full.value)
    yield reference("y", full.value + loss, CHOSEN, "dot")


def _table(tuning: TuningFile) -> Table:
    rows = tuple(
        (
            candidate.name,
            _kind(tuning, candidate),
            percent(candidate.flops_reduction),
            _text(tuning.metric, candidate),
        )
        for candidate in tuning.candidates
    )
    columns = ("candidate", "outcome", "FLOPs saved", f"{tuning.metric.heading} (95 %)")
    return Table(columns, rows, "On the search half of the clips", texts=2)


def _outcome(tuning: TuningFile) -> Iterator[Facts]:
    name = tuning.source.name
    if tuning.choice is not None:
        entries = (("candidate", tuning.choice), *toml_facts(tuning.profile))
        yield Facts(f"The profile that was chosen · {name}", entries)
    if (found := tuning.held_out) is not None:
        entries = (
            ("clips", str(found.clips)),
            (f"{tuning.metric.heading}, full", estimate_text(tuning.metric, found.full)),
            (f"{tuning.metric.heading}, chosen", estimate_text(tuning.metric, found.chosen)),
            ("difference", _difference(tuning.metric, found.chosen)),
            ("budget", f"{tuning.max_loss:g}, {'kept' if found.within_budget else 'NOT kept'}"),
        )
        yield Facts(f"On the held-out clips · {name}", entries)


def _difference(metric: Metric, found: Measured) -> str:
    if found.delta is None:
        return ABSENT
    return f"{value_text(metric, found.delta.value, '+')} ({interval_text(metric, found.delta, '+')})"


def _notes(tuning: TuningFile) -> Iterator[str]:
    name = tuning.source.name
    if tuning.choice is None:
        yield f"{name}: nothing is chosen: {tuning.reason or 'no reason is recorded'}"
    if tuning.held_out is not None and not tuning.held_out.within_budget:
        yield f"{name}: the held-out clips find the chosen profile beyond the budget of {tuning.max_loss:g}"
