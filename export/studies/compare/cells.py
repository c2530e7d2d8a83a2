"""What a cell of a comparison holds once its profiles have answered the clips."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean, median, stdev

from ....evaluation.answers.answers import ClipAnswers
from ....evaluation.figures.bootstrap import Delta
from ....evaluation.figures.scores import Drawn, Figure, figure, mean_of
from ....runtime.artifact.manifest import Manifest
from .kept_rows import achieved_reduction, mean_layer_rows

Runs = Mapping[str, tuple[Drawn, ...]]
"""Profile -> its metrics."""
NOTHING: Runs = {}


@dataclass(frozen=True)
class CellFigure:
    """One metric: over the clips, of the mean over the seeds."""

    figure: Figure
    seeds: tuple[float | None, ...]  # of each
    from_float32: Delta | None = None  # against the same profiles with float32 weights
    from_compact: Delta | None = None  # of kept positions, against the same profiles with compact ones

    @property
    def spread(self) -> float | None:
        """The standard deviation over the seeds, where there are several."""
        values = [value for value in self.seeds if value is not None]
        return stdev(values) if len(values) > 1 else None


@dataclass(frozen=True)
class CellResult:
    """All that was measured; what does not exist is None or empty."""

    figures: tuple[CellFigure, ...] = ()
    flops_reduction: float | None = None  # from the rows really kept
    kept_ratio: float | None = None  # audio rows in the caches, mean over clips and seeds
    layer_rows: tuple[float, ...] = ()  # audio rows in the cache of each layer, mean over clips and seeds
    prefill_ms: float | None = None  # median over clips and seeds
    decode_ms: float | None = None
    step_ms: float | None = None
    peak_bytes: int | None = None  # of a process that answers one clip
    cut_off: float | None = None  # share of the answers that max_new_tokens ended


def cell_result(
    manifest: Manifest,
    runs: Runs,
    full: tuple[Drawn, ...] | None,
    measured: Sequence[ClipAnswers],
    *,
    timed: bool,
    float32: Runs = NOTHING,
    compact: Runs = NOTHING,
) -> CellResult:
    """Sum up a cell.

    Args:
        manifest: of the artifact.
        runs: profile -> its metrics, over the same resamples as those of `full`.
        full: those of the unreduced model, which the cell is compared with.
        measured: the clips that every profile has answered.
        timed: whether times are worth telling.
        float32: as `runs`, of the same profiles with float32 weights, where the cell has others.
        compact: as `runs`, of the same profiles with compact positions, where the cell keeps them.
    """
    if not runs or not measured:
        return CellResult()
    costs = [found.costs[profile] for found in measured for profile in runs]
    return CellResult(
        figures=_figures(list(runs.values()), full, list(float32.values()), list(compact.values())),
        flops_reduction=achieved_reduction(manifest, list(runs), measured),
        kept_ratio=fmean(found.answers[profile].kept_ratio for found in measured for profile in runs),
        layer_rows=mean_layer_rows(list(runs), measured),
        prefill_ms=median(cost.prefill_ms for cost in costs) if timed else None,
        decode_ms=median(cost.decode_ms for cost in costs) if timed else None,
        step_ms=_median([cost.step_ms for cost in costs if cost.step_ms is not None]) if timed else None,
        cut_off=fmean(not found.answers[profile].finished for found in measured for profile in runs),
    )


def _median(values: Sequence[float]) -> float | None:
    return median(values) if values else None


def _figures(
    runs: Sequence[tuple[Drawn, ...]],
    full: tuple[Drawn, ...] | None,
    float32: Sequence[tuple[Drawn, ...]],
    compact: Sequence[tuple[Drawn, ...]],
) -> tuple[CellFigure, ...]:
    """One a metric."""
    means = _means(runs)
    nothing = (None,) * len(means)
    firsts, originals, twins = full or nothing, _means(float32) or nothing, _means(compact) or nothing
    seeds = (tuple(sample.value for sample, _ in own) for own in zip(*runs, strict=True))
    return tuple(
        CellFigure(figure(own, first), values, figure(own, original).delta, figure(own, twin).delta)
        for own, first, original, twin, values in zip(means, firsts, originals, twins, seeds, strict=True)
    )


def _means(runs: Sequence[tuple[Drawn, ...]]) -> tuple[Drawn, ...]:
    """Each metric over the seeds."""
    return tuple(mean_of(own) for own in zip(*runs, strict=True))
