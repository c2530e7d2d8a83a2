"""A layer selection as a table for a terminal of 80 columns."""

from __future__ import annotations

from collections.abc import Iterator

from ...runtime.report import Section, columns
from ...runtime.units import ABSENT, seconds
from .layer_selection import LayerFigures, LayerSelection

COLUMNS = "layer", "feasible", "ratio", "TE", "L1", "rank", "ranks", "first"
LEGEND = (
    "TE: transfer entropy in nats; L1: the same with every channel's difference taken as positive; "
    "ranks: 2.5th to 97.5th percentile over {resamples} resamples of the clips; "
    "first: share of them that rank the layer first"
)


def selection_sections(selection: LayerSelection) -> Iterator[Section | str]:
    """The table, what was chosen, and what speaks against trusting it."""
    protocol, metric = selection.protocol, selection.accuracy_metric
    table = columns(*COLUMNS, *([metric] if metric else []), left=2)
    for row in selection.layers:
        accuracy = [_number(row.accuracy)] if metric else []
        chosen = row.layer == selection.selected
        table.add_row(*_cells(row), *accuracy, style="bold" if chosen else None)
    audio = f"{protocol['clips']} clips, {seconds(protocol['audio_seconds'])} s of audio"
    yield Section(f"transfer entropy of one merge, {audio}", table, LEGEND.format(**protocol))
    yield ""
    yield f"layer {selection.selected} is selected, ratio {selection.profile.ratio}"


def _cells(row: LayerFigures) -> tuple[str, ...]:
    if row.entropy is None or row.ratio is None:
        return (str(row.layer), row.infeasible or ABSENT, *[ABSENT] * (len(COLUMNS) - 2))
    spread = row.spread
    return (
        str(row.layer),
        "yes",
        f"{float(row.ratio):.3f}",
        f"{row.entropy.value:.3f}",
        f"{row.entropy.per_channel:.3f}",
        str(row.rank),
        ABSENT if spread is None else f"{spread.low}-{spread.high}",
        ABSENT if spread is None else f"{100 * spread.best:.0f} %",
    )


def _number(value: float | None) -> str:
    return ABSENT if value is None else f"{value:.2f}"
