"""Where a sparse profile merges: transfer entropy by layer, and whether accuracy agrees with it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from fractions import Fraction
from itertools import product
from typing import Any

from ....profiles.methods import FULL_MODEL
from ....runtime.tables.units import ABSENT, in_percent, ranges
from ...figures.loss import badness
from ...metrics.metric import Metric
from ...results.figure_text import estimate_text, figure_of, heading, value_text
from ...results.figures import Estimate
from ...results.files import ResultFile
from ...results.selection import LayerFigures, SelectionResult
from ..page_model import Facts, Plot, Section, Swatch, Table
from ..plotly_parts import axis, bars, hover, plotly_figure, reference
from ..series_style import CHOSEN, NEUTRAL, PLAIN, block_drawing, line_drawing
from ..shown import toml_facts


def selection_section(selections: Sequence[ResultFile[SelectionResult]]) -> Section | None:
    """Of each file: entropies and, where it was measured, accuracy at each level."""
    if not selections:
        return None
    return Section(
        "Layer of a sparse profile",
        "Transfer entropy (TE) is how far one merge at a layer moves what the decoder says about the audio; "
        "the smallest one is selected. It needs no transcripts: it is a guess at accuracy, no measurement.",
        tuple(_legend(selections)),
        tuple(plot for selection in selections for plot in _plots(selection)),
        facts=tuple(_profile(selection) for selection in selections),
        notes=tuple(note for selection in selections for note in _notes(selection)),
    )


def _legend(selections: Sequence[ResultFile[SelectionResult]]) -> Iterator[Swatch]:
    yield Swatch("selected layer", "", block_drawing(CHOSEN))
    yield Swatch("other layers", "", block_drawing(PLAIN))
    if any(selection.found.accuracy for selection in selections):
        yield Swatch(FULL_MODEL, "", line_drawing(NEUTRAL, "dash"))


def _plots(file: ResultFile[SelectionResult]) -> Iterator[Plot]:
    if any(layer.entropy for layer in file.found.layers):
        yield _entropy_plot(file)
    for metric, level in _compared(file.found):
        if points := _points(file.found, metric, level):
            yield _accuracy_plot(file, metric, level, points)


def _compared(selection: SelectionResult) -> Iterator[tuple[Metric, Fraction]]:
    """The first metric at each level, where accuracy was measured."""
    if selection.accuracy is not None:
        yield from product(selection.accuracy.metrics[:1], selection.accuracy.levels)


def _entropy_plot(file: ResultFile[SelectionResult]) -> Plot:
    selection = file.found
    layers = [layer for layer in selection.layers if layer.entropy is not None]
    trace = {
        "type": "bar",
        "x": [layer.layer for layer in layers],
        "y": [_entropy(layer) for layer in layers],
        "marker": {"color": [_colour(selection, layer) for layer in layers]},
        "hoverinfo": "text",
        "hovertext": [_entropy_hover(layer) for layer in layers],
    }
    last = max(layer.layer for layer in selection.layers)
    x = axis("layer", range=[-0.6, last + 0.6], tick0=0, dtick=max(1, round(last / 10)))
    figure = plotly_figure([trace], x, axis(rangemode="tozero"), bargap=0.35)
    missed = _layers([layer.layer for layer in selection.layers if layer.infeasible])
    return Plot(
        "TE, nats",
        f"{selection.clips.in_words}, {file.name}",
        f"Transfer entropy of a merge at {len(layers)} layers; layer {selection.selected} is selected",
        figure,
        _entropy_table(selection),
        f"lower is better; infeasible: {missed}" if missed else "lower is better",
    )


def _layers(numbers: Sequence[int]) -> str:
    return f"layer{'s' * (len(numbers) > 1)} {ranges(numbers)}" if numbers else ""


def _colour(selection: SelectionResult, layer: LayerFigures) -> str:
    return CHOSEN if layer.layer == selection.selected else PLAIN


def _entropy(layer: LayerFigures) -> float:
    return layer.entropy.transfer_entropy if layer.entropy else 0.0


def _entropy_hover(layer: LayerFigures) -> str:
    ranks = "" if layer.spread is None else f", {layer.spread.low} to {layer.spread.high} over resamples"
    return hover(
        f"layer {layer.layer}",
        f"TE {_entropy(layer):.3f}",
        "" if layer.rank is None else f"rank {layer.rank}{ranks}",
        f"ratio {layer.ratio}" if layer.ratio else "",
    )


def _entropy_table(selection: SelectionResult) -> Table:
    rows = tuple(_entropy_row(selection, layer) for layer in selection.layers)
    columns = ("layer", "TE", "rank", "ranks over resamples", "ratio", "target")
    return Table(columns, rows, "Transfer entropy in nats; ranks: 95 % over resamples of the recordings")


def _entropy_row(selection: SelectionResult, layer: LayerFigures) -> tuple[str, ...]:
    return (
        f"{layer.layer}, selected" if layer.layer == selection.selected else str(layer.layer),
        ABSENT if layer.entropy is None else f"{_entropy(layer):.3f}",
        ABSENT if layer.rank is None else str(layer.rank),
        ABSENT if layer.spread is None else f"{layer.spread.low} to {layer.spread.high}",
        ABSENT if layer.ratio is None else str(layer.ratio),
        layer.infeasible or "met",
    )


def _points(
    selection: SelectionResult, metric: Metric, level: Fraction
) -> list[tuple[LayerFigures, Estimate]]:
    """The layers that have both."""
    return [
        (layer, estimate)
        for layer in selection.layers
        if layer.entropy is not None
        and (estimate := figure_of(metric, layer.accuracy.get(level, {})).estimate) is not None
    ]


def _accuracy_plot(
    file: ResultFile[SelectionResult],
    metric: Metric,
    level: Fraction,
    points: Sequence[tuple[LayerFigures, Estimate]],
) -> Plot:
    selection, accuracy, percent = file.found, file.found.accuracy, in_percent(level)
    assert accuracy is not None
    others = [point for point in points if point[0].layer != selection.selected]
    chosen = [point for point in points if point[0].layer == selection.selected]
    full = figure_of(metric, accuracy.full).estimate
    shapes = [] if full is None else [reference("y", full.value)]
    figure = plotly_figure(
        [_scatter(others, metric, PLAIN, "circle"), _scatter(chosen, metric, CHOSEN, "diamond")],
        axis("transfer entropy, nats"),
        axis(),
        shapes=shapes,
    )
    found = accuracy.rank_correlation.get(level)
    agreement = "" if found is None or found.rho is None else f"; rank correlation with TE {found.rho:+.2f}"
    return Plot(
        f"{heading(metric)}, {percent} % of the FLOPs removed",
        file.name,
        f"{metric.title} over transfer entropy of {len(points)} layers at {percent} % FLOPs reduction",
        figure,
        _accuracy_table(selection, metric, level, points),
        f"{metric.better}; numbers are layers{agreement}",
    )


def _scatter(
    points: Sequence[tuple[LayerFigures, Estimate]], metric: Metric, colour: str, symbol: str
) -> dict[str, Any]:
    estimates = [estimate for _, estimate in points]
    return {
        "type": "scatter",
        "mode": "markers+text",
        "x": [_entropy(layer) for layer, _ in points],
        "y": [estimate.value for estimate in estimates],
        "error_y": bars(estimates, colour),
        "text": [f"<b>{layer.layer}</b>" for layer, _ in points],
        "textposition": "middle right",
        "marker": {"color": colour, "symbol": symbol, "size": 11 if symbol == "diamond" else 8},
        "hoverinfo": "text",
        "hovertext": [
            hover(f"layer {layer.layer}, TE {_entropy(layer):.3f}", f"{metric.title} {estimate.value:.2f}")
            for layer, estimate in points
        ],
        "cliponaxis": False,
    }


def _accuracy_table(
    selection: SelectionResult,
    metric: Metric,
    level: Fraction,
    points: Sequence[tuple[LayerFigures, Estimate]],
) -> Table:
    rows = tuple(
        (
            f"{layer.layer}, selected" if layer.layer == selection.selected else str(layer.layer),
            f"{_entropy(layer):.3f}",
            estimate_text(metric, figure_of(metric, layer.accuracy[level])),
        )
        for layer, _ in points
    )
    caption = f"{heading(metric)} of one merge that removes {in_percent(level)} % of the FLOPs"
    return Table(("layer", "TE", f"{heading(metric)} (95 %)"), rows, caption)


def _profile(file: ResultFile[SelectionResult]) -> Facts:
    return Facts(f"The profile that was selected · {file.name}", toml_facts(file.found.profile))


def _notes(file: ResultFile[SelectionResult]) -> Iterator[str]:
    for warning in file.found.warnings:
        yield f"{file.name}: {warning}"
    for metric, level in _compared(file.found):
        if note := _disagreement(file.found, metric, level):
            yield f"{file.name}: {note}"


def _disagreement(selection: SelectionResult, metric: Metric, level: Fraction) -> str:
    """Where the layer of the lowest entropy is not the best one, in words."""
    points = _points(selection, metric, level)
    if len(points) < 2:
        return ""
    lowest = min(points, key=lambda point: _entropy(point[0]))
    best = min(points, key=lambda point: badness(metric, point[1].value))
    if badness(metric, lowest[1].value) <= badness(metric, best[1].value):
        return ""
    return (
        f"at {in_percent(level)} % the lowest TE is not the best: layer {lowest[0].layer} has {metric.title} "
        f"{value_text(metric, lowest[1].value)}, layer {best[0].layer} has "
        f"{value_text(metric, best[1].value)}{_overlap(lowest[1], best[1])}"
    )


def _overlap(one: Estimate, other: Estimate) -> str:
    if None in (one.low, one.high, other.low, other.high):
        return ""
    overlap = max(one.low or 0.0, other.low or 0.0) <= min(one.high or 0.0, other.high or 0.0)
    return "; their intervals overlap" if overlap else "; their intervals do not overlap"
