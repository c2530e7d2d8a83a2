"""A comparison as tables, one per metric: methods and schedules down, FLOPs reductions across."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence

from ....evaluation.figures.bootstrap import FEW_CLIPS, LEAST_CLIPS
from ....evaluation.figures.scores import Figure
from ....evaluation.metrics.word_errors import ERRORS, is_detail
from ....evaluation.table import interval, number, unit
from ....profiles.methods import FULL_MODEL, Method
from ....runtime.tables.tables import Section, columns
from ....runtime.tables.units import ABSENT, percent, seconds
from .cells import CellResult
from .comparison import Comparison
from .grid import Cell, Row
from .unmet import LENGTHS, OF_CACHES, PAIRS, at_most, misses
from .weights_table import weight_sections

ERRORS_TITLE = "Words substituted / left out / added, %; answers cut off by max_new_tokens"
WIDTH = 7  # of a figure, so that the decimal points of a column stand below each other


def comparison_sections(comparison: Comparison, *, intervals: bool = False) -> Iterator[Section | str]:
    """The tables, what failed, and what the marks mean."""
    yield _heading(comparison)
    for i, metric in enumerate(comparison.metrics):
        reason = comparison.full.figures[i].figure.reason
        if is_detail(metric):
            continue
        if reason:
            yield f"\n{metric.title}: not computed: {reason}"
        elif comparison.reduced:
            yield _table(comparison, i, intervals=intervals)
    yield from _beside(comparison)
    if len(comparison.formats) > 1 or not comparison.reduced:
        yield from weight_sections(comparison)
    if comparison.failures:
        yield _failures(comparison)
    yield ""
    yield from _notes(comparison)


def _heading(comparison: Comparison) -> str:
    reference, clips = comparison.reference, comparison.clips
    of_clips = f"{clips.task}, {comparison.measured} of {len(clips.clips)} clips of {clips.source}"
    if not comparison.reduced:
        return f"{of_clips}; {FULL_MODEL}"
    return (
        f"{of_clips}; reductions are "
        f"solved for {seconds(float(reference.audio_seconds))} s of audio, {reference.audio_rows} rows, "
        f"beside {reference.text_rows} rows of text, from layer {comparison.options.start_layer} on; "
        f"positions {' and '.join(comparison.options.positions)}"
    )


def _table(comparison: Comparison, index: int, *, intervals: bool) -> Section:
    metric, full = comparison.metrics[index], comparison.full.figures[index].figure
    levels = [f"{f'{float(100 * level):g} %':>{WIDTH}}" for level in comparison.options.levels]
    table = columns("FLOPs removed", *levels, left=1 + len(levels))
    for row, results in comparison.reduced:
        cells = zip(row.cells, results, strict=True)
        table.add_row(
            row.label, *("\n".join(_lines(row, *cell, index, intervals=intervals)) for cell in cells)
        )
    fulls = [(row.label, results[0].figures[index].figure) for row, results in comparison.rows if row.is_full]
    values = "; ".join(f"{label} {_value(found)}" for label, found in [(FULL_MODEL, full), *fulls])
    title = f"{metric.title}{unit(metric)}, {metric.better}; {values}"
    return Section(title, table, f"by {metric.made_by}")


def _beside(comparison: Comparison) -> Iterator[Section]:
    """What the word errors are, and what kept positions change, where either was measured."""
    details = [i for i, metric in enumerate(comparison.metrics) if metric in ERRORS]
    found = [result for _, results in comparison.reduced for result in results if result.figures]
    if details and comparison.full.figures[details[0]].figure.value is not None and found:
        full = _joined(comparison.full, details)
        yield _cells(comparison, f"{ERRORS_TITLE}; {FULL_MODEL} {full}", lambda it: _joined(it, details))
    if any(entry.from_compact for result in found for entry in result.figures):
        title = (
            f"{comparison.metrics[0].title}{unit(comparison.metrics[0])}, kept positions less compact ones"
        )
        yield _cells(comparison, title, _from_compact)


def _cells(comparison: Comparison, title: str, shown: Callable[[CellResult], str]) -> Section:
    """A table of one text a cell, without the rows that have none."""
    levels = [f"{float(100 * level):g} %" for level in comparison.options.levels]
    table = columns("FLOPs removed", *levels)
    for row, results in comparison.reduced:
        if any(texts := [shown(result) if result.figures else "" for result in results]):
            table.add_row(row.label, *texts)
    return Section(title, table)


def _joined(result: CellResult, places: Sequence[int]) -> str:
    """Some figures without intervals, which the result file has."""
    found = [result.figures[i].figure for i in places]
    shares = " / ".join("" if it.value is None else f"{it.metric.scale * it.value:.1f}" for it in found)
    return f"{shares}\n{percent(result.cut_off)} cut off" if result.cut_off else shares


def _from_compact(result: CellResult) -> str:
    """The paired difference in the first metric with its interval; marked where that excludes 0."""
    entry = result.figures[0]
    if (change := entry.from_compact) is None:
        return ""
    metric, between = entry.figure.metric, change.interval
    mark = "*" if between and not between.low <= 0 <= between.high else ""
    return f"{number(metric, change.value, '+')}{mark}\n{interval(metric, between, '+')}"


def _value(found: Figure) -> str:
    """With its interval, where there is one."""
    between = f" ({interval(found.metric, found.interval)})" if found.interval else ""
    return f"{number(found.metric, found.value)}{between}"


def _lines(row: Row, cell: Cell, result: CellResult, index: int, *, intervals: bool) -> Iterator[str]:
    """The figure with its mark; below it what has to be known about it."""
    if cell.why is not None:
        yield ABSENT
        return
    if cell.most is not None:
        yield at_most(cell, 0)
        return
    entry = result.figures[index]
    found, metric = entry.figure, entry.figure.metric
    yield f"{number(metric, found.value):>{WIDTH}}{'*' * _differs(result, index)}"
    if intervals and found.interval:
        yield interval(metric, found.interval)
    if entry.spread is not None:
        yield f"{'±' + number(metric, entry.spread):>{WIDTH}}"
    if (missed := misses(row, cell, result)) is not None:
        yield f"{f'at {100 * missed:.0f} %':>{WIDTH}}"


def _differs(result: CellResult, index: int) -> bool:
    """Whether the interval of the difference from the full model excludes 0."""
    change = result.figures[index].figure.delta
    return bool(change and change.interval and not change.interval.low <= 0 <= change.interval.high)


def _failures(comparison: Comparison) -> Section:
    table = columns("clip", "line", "profiles", "reason", left=4)
    for failure in comparison.failures:
        line = ABSENT if failure.line is None else str(failure.line)
        table.add_row(failure.id, line, str(len(failure.profiles)), failure.reason)
    failed = len(comparison.clips.clips) - comparison.measured
    return Section(f"{failed} of {len(comparison.clips.clips)} clips failed: no figure counts them", table)


def _notes(comparison: Comparison) -> Iterator[str]:
    """How far to trust the figures, and only those marks that are there."""
    options, measured = comparison.options.evaluation, comparison.measured
    weights = "in the same weights " * (len(comparison.formats) > 1)
    yield f"Texts as normaliser {comparison.normalizer} leaves them."
    if not measured:
        yield "No clip was answered under every profile: there are no figures."
        return
    if measured < LEAST_CLIPS:
        yield "One clip has no interval: give more."
    else:
        yield (
            f"*: the 95 % interval of the difference from the full model {weights}excludes 0; "
            f"{options.resamples} bootstrap resamples of the clips, seed {options.seed}, "
            "the same for all cells."
        )
    if LEAST_CLIPS <= measured < FEW_CLIPS:
        yield f"{measured} clips are few: the intervals are rough."
    yield from _marks(comparison)


def _marks(comparison: Comparison) -> Iterator[str]:
    seeds, start = comparison.options.seeds, comparison.options.start_layer
    cells = [
        (row, cell, result)
        for row, results in comparison.reduced
        for cell, result in zip(row.cells, results, strict=True)
    ]
    missing = [row.method for row, cell, result in cells if misses(row, cell, result) is not None]
    if seeds > 1 and any(row.method.is_random for row, _ in comparison.reduced):
        yield f"±: standard deviation over {seeds} seeds; the figure is their mean, as is what * is about."
    reasons = {row.method.title: cell.why for row, cell, _ in cells if cell.why}
    yield from (f"{title} has no figures: {why}." for title, why in reasons.items())
    if any(cell.most is not None for _, cell, _ in cells):
        yield f"at most: all that the schedule can remove if it begins at layer {start}."
    if missing:
        yield "at: the share that is really removed, where it is more than a point off its column."
    yield from (f"{title} {PAIRS}." for title in _titles(missing, lambda method: method.is_data_dependent))
    if not all(method.is_data_dependent for method in missing):
        yield f"Where no pairs are merged: {LENGTHS}."
    methods = [row.method for row, _ in comparison.reduced]
    yield from (f"{title} {OF_CACHES}." for title in _titles(methods, lambda method: method.is_of_caches))


def _titles(methods: Sequence[Method], of_kind: Callable[[Method], bool]) -> Iterable[str]:
    """Of the methods of a kind, each once."""
    return dict.fromkeys(method.title for method in methods if of_kind(method))
