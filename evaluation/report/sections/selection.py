"""Where a sparse profile merges: transfer entropy by layer, and whether accuracy agrees with it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from ....runtime.tables.units import ABSENT, ranges
from ..files.records import Estimate, Metric
from ..files.selection import Layer, SelectionFile
from ..page_model import Facts, Plot, Section, Swatch, Table
from ..plotly_parts import axis, bars, hover, plotly_figure, reference
from ..series_style import CHOSEN, NEUTRAL, PLAIN, block_drawing, line_drawing
from ..shown import clips_text, estimate_text, toml_facts, value_text


def selection_section(selections: Sequence[SelectionFile]) -> Section | None:
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


def _legend(selections: Sequence[SelectionFile]) -> Iterator[Swatch]:
    yield Swatch("selected layer", "", block_drawing(CHOSEN))
    yield Swatch("other layers", "", block_drawing(PLAIN))
    if any(selection.accuracy.metrics for selection in selections):
        yield Swatch("full model", "", line_drawing(NEUTRAL, "dash"))


def _plots(selection: SelectionFile) -> Iterator[Plot]:
    if measured := [layer for layer in selection.layers if layer.entropy is not None]:
        yield _entropy_plot(selection, measured)
    for metric in selection.accuracy.metrics[:1]:
        for level in selection.accuracy.levels:
            if points := _points(selection, metric, level):
                yield _accuracy_plot(selection, metric, level, points)


def _entropy_plot(selection: SelectionFile, layers: Sequence[Layer]) -> Plot:
    trace = {
        "type": "bar",
        "x": [layer.layer for layer in layers],
        "y": [layer.entropy for layer in layers],
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
        f"{clips_text(selection.clips)}, {selection.source.name}",
        f"Transfer entropy of a merge at {len(layers)} layers; layer {selection.selected} is selected",
        figure,
        _entropy_table(selection),
        f"lower is better; out of reach of the target: {missed}" if missed else "lower is better",
    )


def _layers(numbers: Sequence[int]) -> str:
    return f"layer{'s' * (len(numbers) > 1)} {ranges(numbers)}" if numbers else ""


def _colour(selection: SelectionFile, layer: Layer) -> str:
    return CHOSEN if layer.layer == selection.selected else PLAIN


def _entropy_hover(layer: Layer) -> str:
    ranks = "" if layer.ranks is None else f", {layer.ranks[0]} to {layer.ranks[1]} over resamples"
    return hover(
        f"layer {layer.layer}",
        f"TE {layer.entropy:.3f}",
        "" if layer.rank is None else f"rank {layer.rank}{ranks}",
        f"ratio {layer.ratio}" if layer.ratio else "",
    )


def _entropy_table(selection: SelectionFile) -> Table:
    rows = tuple(_entropy_row(selection, layer) for layer in selection.layers)
    columns = ("layer", "TE", "rank", "ranks over resamples", "ratio", "target")
    return Table(columns, rows, "Transfer entropy in nats; ranks: 95 % over resamples of the clips")


def _entropy_row(selection: SelectionFile, layer: Layer) -> tuple[str, ...]:
    return (
        f"{layer.layer}, selected" if layer.layer == selection.selected else str(layer.layer),
        ABSENT if layer.entropy is None else f"{layer.entropy:.3f}",
        ABSENT if layer.rank is None else str(layer.rank),
        ABSENT if layer.ranks is None else f"{layer.ranks[0]} to {layer.ranks[1]}",
        layer.ratio or ABSENT,
        layer.infeasible or "met",
    )


def _points(selection: SelectionFile, metric: Metric, level: str) -> list[tuple[Layer, Estimate]]:
    """The layers that have both."""
    return [
        (layer, measured.estimate)
        for layer in selection.layers
        if layer.entropy is not None
        and (measured := layer.figures.get((metric.name, level)))
        and measured.estimate
    ]


def _accuracy_plot(
    selection: SelectionFile, metric: Metric, level: str, points: Sequence[tuple[Layer, Estimate]]
) -> Plot:
    others = [point for point in points if point[0].layer != selection.selected]
    chosen = [point for point in points if point[0].layer == selection.selected]
    full = selection.accuracy.full.get(metric.name)
    shapes = [] if full is None or full.estimate is None else [reference("y", full.estimate.value)]
    figure = plotly_figure(
        [_scatter(others, metric, PLAIN, "circle"), _scatter(chosen, metric, CHOSEN, "diamond")],
        axis("transfer entropy, nats"),
        axis(),
        shapes=shapes,
    )
    rho = selection.accuracy.correlation.get(level)
    agreement = "" if rho is None else f"; rank correlation with TE {rho:+.2f}"
    return Plot(
        f"{metric.heading}, {level} % of the FLOPs removed",
        selection.source.name,
        f"{metric.title} over transfer entropy of {len(points)} layers at {level} % FLOPs reduction",
        figure,
        _accuracy_table(selection, metric, level, points),
        f"{metric.better}; numbers are layers{agreement}",
    )


def _scatter(
    points: Sequence[tuple[Layer, Estimate]], metric: Metric, colour: str, symbol: str
) -> dict[str, Any]:
    estimates = [estimate for _, estimate in points]
    return {
        "type": "scatter",
        "mode": "markers+text",
        "x": [layer.entropy for layer, _ in points],
        "y": [estimate.value for estimate in estimates],
        "error_y": bars(estimates, colour),
        "text": [f"<b>{layer.layer}</b>" for layer, _ in points],
        "textposition": "middle right",
        "marker": {"color": colour, "symbol": symbol, "size": 11 if symbol == "diamond" else 8},
        "hoverinfo": "text",
        "hovertext": [
            hover(f"layer {layer.layer}, TE {layer.entropy:.3f}", f"{metric.title} {estimate.value:.2f}")
            for layer, estimate in points
        ],
        "cliponaxis": False,
    }


def _accuracy_table(
    selection: SelectionFile, metric: Metric, level: str, points: Sequence[tuple[Layer, Estimate]]
) -> Table:
    rows = tuple(
        (
            f"{layer.layer}, selected" if layer.layer == selection.selected else str(layer.layer),
            f"{layer.entropy:.3f}",
            estimate_text(metric, layer.figures[metric.name, level]),
        )
        for layer, _ in points
    )
    caption = f"{metric.heading} of one merge that removes {level} % of the FLOPs"
    return Table(("layer", "TE", f"{metric.heading} (95 %)"), rows, caption)


def _profile(selection: SelectionFile) -> Facts:
    return Facts(f"The profile that was selected · {selection.source.name}", toml_facts(selection.profile))


def _notes(selection: SelectionFile) -> Iterator[str]:
    for warning in selection.warnings:
        yield f"{selection.source.name}: {warning}"
    for metric in selection.accuracy.metrics[:1]:
        for level in selection.accuracy.levels:
            if note := _disagreement(selection, metric, level):
                yield f"{selection.source.name}: {note}"


def _disagreement(selection: SelectionFile, metric: Metric, level: str) -> str:
    """Where the layer of the lowest entropy is not the best one, in words."""
    points = _points(selection, metric, level)
    if len(points) < 2:
        return ""
    lowest = min(points, key=lambda point: point[0].entropy or 0.0)
    best = lowest
    for point in points:
        if metric.is_better(point[1].value, best[1].value):
            best = point
    if best is lowest:
        return ""
    return (
        f"at {level} % the lowest TE is not the best: layer {lowest[0].layer} has {metric.title} "
        f"{value_text(metric, lowest[1].value)}, layer {best[0].layer} has "
        f"{value_text(metric, best[1].value)}{_overlap(lowest[1], best[1])}"
    )


def _overlap(one: Estimate, other: Estimate) -> str:
    if None in (one.low, one.high, other.low, other.high):
        return ""
    overlap = max(one.low or 0.0, other.low or 0.0) <= min(one.high or 0.0, other.high or 0.0)
    return "; their intervals overlap" if overlap else "; their intervals do not overlap"
