"""What a cell of a comparison holds once its profiles have answered the clips."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from statistics import fmean, median

from ....evaluation.answers.answers import ClipAnswers
from ....evaluation.figures.scores import Drawn, figure, mean_of
from ....evaluation.recorded import difference, measured
from ....evaluation.results.comparison import CellRecord
from ....evaluation.results.figures import Difference
from ....runtime.artifact.manifest import Manifest
from .grid import Cell
from .kept_rows import achieved_reduction, mean_layer_rows

Runs = Mapping[str, tuple[Drawn, ...]]
"""Profile -> its metrics."""
NOTHING: Runs = {}


def cell_record(
    cell: Cell,
    manifest: Manifest,
    runs: Runs,
    full: tuple[Drawn, ...] | None,
    answered: Sequence[ClipAnswers],
    *,
    timed: bool,
    float32: Runs = NOTHING,
    compact: Runs = NOTHING,
) -> CellRecord:
    """Sum up a cell, but for its memory and for why its level is not met.

    Args:
        cell: what was asked for.
        manifest: of the artifact.
        runs: profile -> its metrics, over the same resamples as those of `full`.
        full: those of the unreduced model, which the cell is compared with.
        answered: the clips that every profile has answered.
        timed: whether times are worth telling.
        float32: as `runs`, of the same profiles with float32 weights, where the cell has others.
        compact: as `runs`, of the same profiles with compact positions, where the cell keeps them.
    """
    asked = CellRecord(cell.level, tuple(profile.name for profile in cell.profiles), cell.seeds)
    if not runs or not answered:
        return asked
    costs = [found.costs[profile] for found in answered for profile in runs]
    means = _means(runs)
    seeds = (tuple(sample.value for sample, _ in own) for own in zip(*runs.values(), strict=True))
    figures = map(figure, means, full or (None,) * len(means))
    return replace(
        asked,
        figures={it.metric.name: measured(it, own) for it, own in zip(figures, seeds, strict=True)},
        flops_reduction=achieved_reduction(manifest, list(runs), answered),
        kept_ratio=fmean(found.answers[profile].kept_ratio for found in answered for profile in runs),
        layer_rows=mean_layer_rows(list(runs), answered),
        prefill_ms=median(cost.prefill_ms for cost in costs) if timed else None,
        decode_ms=median(cost.decode_ms for cost in costs) if timed else None,
        step_ms=_median([cost.step_ms for cost in costs if cost.step_ms is not None]) if timed else None,
        from_float32=_differences(means, _means(float32)),
        from_compact=_differences(means, _means(compact)),
        cut_off=fmean(not found.answers[profile].finished for found in answered for profile in runs),
    )


def _median(values: Sequence[float]) -> float | None:
    return median(values) if values else None


def _differences(means: Sequence[Drawn], others: Sequence[Drawn]) -> dict[str, Difference]:
    """By metric, less the same metrics of others; none where there are no others."""
    found = map(figure, means, others)
    return {it.metric.name: difference(it.delta) for it in found if it.delta is not None}


def _means(runs: Runs) -> tuple[Drawn, ...]:
    """Each metric over the seeds."""
    return tuple(mean_of(own) for own in zip(*runs.values(), strict=True))
