"""A layer selection as a table for a terminal of 80 columns."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from ....evaluation.recorded import failures
from ....evaluation.results.selection import LayerFigures
from ....evaluation.results.settings import Failure
from ....evaluation.table import number, unit
from ....runtime.choice.acceptance import ENOUGH_RECORDINGS, LEAST_RECORDINGS
from ....runtime.tables.tables import Section, columns
from ....runtime.tables.units import ABSENT, in_percent, seconds
from .accuracy import LayerAccuracy
from .selection import LayerSelection

COLUMNS = "layer", "feasible", "ratio", "TE", "L1", "rank", "ranks", "first"
LEGEND = (
    "TE: transfer entropy in nats; L1: the same with every channel's difference taken as positive; "
    "ranks: 2.5th to 97.5th percentile over {resamples} resamples of the {recordings} recordings; "
    "first: share of them that rank the layer first"
)

AGREEMENT = (
    "rank correlation: Spearman's, of TE with the metric over so many layers; 1 where both put them in the "
    "same order, from the best one on"
)


def selection_sections(selection: LayerSelection) -> Iterator[Section | str]:
    """The table, what was chosen, and what speaks against trusting it."""
    protocol, table = selection.protocol, columns(*COLUMNS, left=2)
    for row in selection.layers:
        table.add_row(*_cells(row), style="bold" if row.layer == selection.selected else None)
    audio = f"{selection.clips.measured} clips, {seconds(protocol.audio_seconds)} s of audio"
    title = f"transfer entropy of one merge, positions {protocol.positions}, {audio}"
    yield Section(
        title,
        table,
        LEGEND.format(resamples=selection.intervals.resamples, recordings=selection.clips.recordings),
    )
    if selection.failures:
        failed = f"{len(selection.failures)} of {selection.clips.count} clips"
        yield _failures(f"{failed} have no entropies, and no TE counts them", selection.failures)
    yield ""
    yield f"layer {selection.selected} is selected, ratio {selection.profile.ratio}"
    if selection.accuracy is not None:
        yield from _accuracy(selection, selection.accuracy)


def _failures(title: str, failed: Sequence[Failure]) -> Section:
    table = columns("clip", "line", "reason", left=3)
    for failure in failed:
        table.add_row(failure.id, ABSENT if failure.line is None else str(failure.line), failure.reason)
    return Section(title, table)


def _cells(row: LayerFigures) -> tuple[str, ...]:
    if row.entropy is None or row.ratio is None:
        return (str(row.layer), row.infeasible or ABSENT, *[ABSENT] * (len(COLUMNS) - 2))
    spread = row.spread
    return (
        str(row.layer),
        "yes",
        f"{float(row.ratio):.3f}",
        f"{row.entropy.transfer_entropy:.3f}",
        f"{row.entropy.per_channel:.3f}",
        str(row.rank),
        ABSENT if spread is None else f"{spread.low}-{spread.high}",
        ABSENT if spread is None else f"{100 * spread.best:.0f} %",
    )


def _accuracy(selection: LayerSelection, accuracy: LayerAccuracy) -> Iterator[Section | str]:
    """A table as Table 6 of the FastAdaSP paper, and whether the entropies are right about the layers."""
    levels, metric = accuracy.levels, accuracy.metric
    table = columns("layer", "TE", "rank", *(f"{in_percent(level)} %" for level in levels), gap=3)
    for row in selection.layers:
        entropy = ABSENT if row.entropy is None else f"{row.entropy.transfer_entropy:.3f}"
        values = [accuracy.values(level).get(row.layer) for level in levels]
        cells = [entropy, ABSENT if row.rank is None else str(row.rank), *(number(metric, v) for v in values)]
        table.add_row(str(row.layer), *cells, style="bold" if row.layer == selection.selected else None)
    full = number(metric, accuracy.full[0].value)
    table.add_row("full", ABSENT, ABSENT, *[full] * len(levels))
    evaluation, recordings = accuracy.evaluation, accuracy.evaluation.recordings
    measured, count = len(evaluation.measured), len(evaluation.clips.clips)
    title = f"{metric.title}{unit(metric)} under one merge at each layer, by FLOPs saved; {metric.better}"
    target = in_percent(selection.protocol.flops_reduction)
    yield Section(title, table, f"of {measured} of {count} clips; TE and rank: at {target} %")
    if failed := tuple(failures(evaluation.records)):
        title = f"{count - measured} of {count} clips failed in the evaluation: no {metric.title} counts them"
        yield _failures(title, failed)
    yield _agreement(selection, accuracy)
    if recordings < ENOUGH_RECORDINGS:
        said = (
            f"{recordings} recordings are few"
            if recordings >= LEAST_RECORDINGS
            else "One recording is little"
        )
        yield f"\n{said}: layers may differ by chance; --json has what intervals there are."


def _agreement(selection: LayerSelection, accuracy: LayerAccuracy) -> Section:
    """Whether the layer of the least transfer entropy is the best one, level by level."""
    metric, selected = accuracy.metric, selection.selected
    title = metric.title + unit(metric)
    table = columns(
        "FLOPs", "best layer", title, f"{title} at {selected}", "rank correlation", "layers", gap=3
    )
    for level in accuracy.levels:
        if values := accuracy.values(level):
            best, found = accuracy.best(level), accuracy.agreement(selection.entropies, level)
            rho = ABSENT if found.rho is None else f"{found.rho:+.2f}"
            figures = number(metric, values[best]), number(metric, values.get(selected))
            table.add_row(f"{in_percent(level)} %", str(best), *figures, rho, str(found.count))
    return Section(f"Is layer {selected}, of the lowest TE, the best one?", table, AGREEMENT)
