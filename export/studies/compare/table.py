"""A comparison as tables, one per metric: methods and schedules down, FLOPs reductions across."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence

from ....evaluation.metrics.metric import Metric
from ....evaluation.metrics.word_errors import ERRORS, is_detail
from ....evaluation.results.comparison import CellRecord
from ....evaluation.results.figure_text import estimate_text, figure_of, interval_text, value_text
from ....evaluation.results.figures import Difference
from ....evaluation.table import few_text, unit
from ....profiles.methods import FULL_MODEL, Method
from ....runtime.choice.acceptance import ENOUGH_RECORDINGS, LEAST_RECORDINGS
from ....runtime.tables.tables import Section, columns
from ....runtime.tables.units import ABSENT, percent, seconds
from .comparison import Comparison
from .grid import Cell, Row
from .unmet import BUDGET_ROW, LENGTHS, OF_CACHES, PAIRS, at_most, budgets, misses, off_budget
from .weights_table import weight_sections

ERRORS_TITLE = "Words substituted / left out / added, %; answers cut off by max_new_tokens"
WIDTH = 7  # of a figure, so that the decimal points of a column stand below each other


def comparison_sections(comparison: Comparison, *, intervals: bool = False) -> Iterator[Section | str]:
    """The tables, what failed, and what the marks mean."""
    yield _heading(comparison)
    for metric in comparison.metrics:
        if is_detail(metric):
            continue
        if reason := comparison.full.figures[metric.name].reason:
            yield f"\n{metric.title}: not computed: {reason}"
        elif comparison.reduced:
            yield _table(comparison, metric, intervals=intervals)
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
        f"solved for {seconds(float(reference.audio_seconds))} s of audio, {reference.audio_tokens} rows, "
        f"beside {reference.text_rows} rows of text, from layer {comparison.options.start_layer} on; "
        f"positions {' and '.join(comparison.options.positions)}"
    )


def _table(comparison: Comparison, metric: Metric, *, intervals: bool) -> Section:
    levels = [f"{f'{float(100 * level):g} %':>{WIDTH}}" for level in comparison.options.levels]
    table = columns("FLOPs removed", *levels, left=1 + len(levels))
    for row, results in comparison.reduced:
        cells = zip(row.cells, results, budgets(row, comparison.rows), strict=True)
        table.add_row(
            row.label, *("\n".join(_lines(row, *cell, metric, intervals=intervals)) for cell in cells)
        )
    fulls = [(row.label, results[0]) for row, results in comparison.rows if row.is_full]
    values = "; ".join(
        f"{label} {estimate_text(metric, figure_of(metric, found.figures))}"
        for label, found in [(comparison.full_name, comparison.full), *fulls]
    )
    title = f"{metric.title}{unit(metric)}, {metric.better}; {values}"
    return Section(title, table, f"by {metric.made_by}")


def _beside(comparison: Comparison) -> Iterator[Section]:
    """What the word errors are, and what kept positions change, where either was measured."""
    details = [metric for metric in comparison.metrics if metric in ERRORS]
    found = [result for _, results in comparison.reduced for result in results if result.figures]
    if details and comparison.full.figures[details[0].name].value is not None and found:
        full = _joined(comparison.full, details)
        yield _cells(
            comparison, f"{ERRORS_TITLE}; {comparison.full_name} {full}", lambda it: _joined(it, details)
        )
    if any(result.from_compact for result in found):
        metric = comparison.metrics[0]
        title = f"{metric.title}{unit(metric)}, kept positions less compact ones"
        yield _cells(comparison, title, lambda it: _from_compact(it, metric))


def _cells(comparison: Comparison, title: str, shown: Callable[[CellRecord], str]) -> Section:
    """A table of one text a cell, without the rows that have none."""
    levels = [f"{float(100 * level):g} %" for level in comparison.options.levels]
    table = columns("FLOPs removed", *levels)
    for row, results in comparison.reduced:
        if any(texts := [shown(result) if result.figures else "" for result in results]):
            table.add_row(row.label, *texts)
    return Section(title, table)


def _joined(result: CellRecord, metrics: Sequence[Metric]) -> str:
    """Some figures without intervals, which the result file has."""
    found = [figure_of(metric, result.figures).value for metric in metrics]
    shares = " / ".join("" if value is None else f"{value:.1f}" for value in found)
    return f"{shares}\n{percent(result.cut_off)} cut off" if result.cut_off else shares


def _from_compact(result: CellRecord, metric: Metric) -> str:
    """The paired difference with its mark and interval."""
    if (found := result.from_compact.get(metric.name)) is None:
        return ""
    change = found.times(metric.scale)
    return f"{value_text(metric, change.value, '+')}{_mark(change)}\n{interval_text(metric, change, '+')}"


def _lines(
    row: Row, cell: Cell, result: CellRecord, budget: float | None, metric: Metric, *, intervals: bool
) -> Iterator[str]:
    """The figure with its mark; below it what has to be known about it."""
    if cell.why is not None or cell.unreachable is not None:
        yield ABSENT
        return
    if cell.most is not None:
        yield at_most(cell, 0)
        return
    found = figure_of(metric, result.figures)
    yield f"{value_text(metric, found.value):>{WIDTH}}{_mark(found.delta)}"
    if intervals and found.low is not None:
        yield interval_text(metric, found.estimate)
    if found.spread is not None:
        yield f"{'±' + value_text(metric, found.spread):>{WIDTH}}"
    if (missed := misses(row, cell, result)) is not None:
        yield f"{f'at {100 * missed:.0f} %':>{WIDTH}}"
    if (kept := off_budget(result, budget)) is not None:
        yield f"keeps {100 * kept:.1f} %"


def _mark(change: Difference | None) -> str:
    """A star where the interval of a difference excludes 0."""
    if change is None or change.low is None or change.high is None:
        return ""
    return "" if change.low <= 0 <= change.high else "*"


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
    recordings = comparison.recordings
    if recordings < LEAST_RECORDINGS:
        yield "One recording has no interval: give more."
    else:
        yield (
            f"*: the 95 % interval of the difference from the full model {weights}excludes 0; "
            f"{options.resamples} bootstrap resamples of the {recordings} recordings, seed {options.seed}, "
            "the same for all cells."
        )
    if LEAST_RECORDINGS <= recordings < ENOUGH_RECORDINGS:
        yield few_text(recordings)
    yield from _marks(comparison)
    if options.is_timed and not comparison.timed:
        yield (
            "No times: some answers were found with other --workers or --threads. The same command measures "
            "all anew."
        )


def _marks(comparison: Comparison) -> Iterator[str]:
    seeds, start = comparison.options.seeds, comparison.options.start_layer
    cells = [
        (row, cell, result, budget)
        for row, results in comparison.reduced
        for cell, result, budget in zip(row.cells, results, budgets(row, comparison.rows), strict=True)
    ]
    missing = [row.method for row, cell, result, _ in cells if misses(row, cell, result) is not None]
    if seeds > 1 and any(row.method.is_random for row, _ in comparison.reduced):
        yield f"±: standard deviation over {seeds} seeds; the figure is their mean, as is what * is about."
    reasons = {row.method.title: cell.why for row, cell, *_ in cells if cell.why}
    yield from (f"{title} has no figures: {why}." for title, why in reasons.items())
    yield from dict.fromkeys(f"-: {cell.unreachable}." for _, cell, *_ in cells if cell.unreachable)
    if any(cell.most is not None for _, cell, *_ in cells):
        yield f"at most: all that the schedule can remove if it begins at layer {start}."
    if missing:
        yield "at: the share that is really removed, where it is more than a point off its column."
    yield from (f"{title} {PAIRS}." for title in _titles(missing, lambda method: method.is_data_dependent))
    if not all(method.is_data_dependent for method in missing):
        which = "The others" if any(method.is_data_dependent for method in missing) else "They"
        yield f"{which} are off because {LENGTHS}."
    methods = [row.method for row, _ in comparison.reduced]
    yield from (f"{title} {OF_CACHES}." for title in _titles(methods, lambda method: method.is_of_caches))
    if any(off_budget(result, budget) is not None for _, _, result, budget in cells):
        yield f"keeps: the share of the audio rows, where it is more than a point off that of {BUDGET_ROW}."


def _titles(methods: Sequence[Method], of_kind: Callable[[Method], bool]) -> Iterable[str]:
    """Of the methods of a kind, each once."""
    return dict.fromkeys(method.title for method in methods if of_kind(method))
