"""Hypotheses and references in, figures with intervals out; knows no model and no audio."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean

import numpy as np

from ..metrics.metric import Floats, Metric, Sample
from ..metrics.normalizers import NORMALIZERS
from ..metrics.tasks import TASKS
from ..options import Bootstrap
from .bootstrap import Delta, Interval, delta, interval, resampled

DEFAULT_BOOTSTRAP = Bootstrap()
NOTHING: Mapping[str, Sequence[Sample]] = {}


@dataclass(frozen=True)
class Figure:
    """One metric of one system; what could not be computed is None."""

    metric: Metric
    value: float | None
    interval: Interval | None = None
    delta: Delta | None = None  # against the first system
    reason: str = ""  # why there is no value


@dataclass(frozen=True)
class Measurement:
    """How texts become figures."""

    task: str  # one of `TASKS`
    languages: tuple[str, ...] = ()  # that the clips are in
    normalizer: str | None = None  # one of `NORMALIZERS`; that of the task if None
    bootstrap: Bootstrap = DEFAULT_BOOTSTRAP


Drawn = tuple[Sample, Floats | None]
"""A sample, and its value in each resample."""


def score(
    task: str,
    references: Sequence[Sequence[str]],
    hypotheses: Mapping[str, Sequence[str]],
    *,
    recordings: Sequence[str] | None = None,
    languages: Sequence[str] = (),
    normalizer: str | None = None,
    bootstrap: Bootstrap = DEFAULT_BOOTSTRAP,
    further: Mapping[str, Sequence[Sample]] = NOTHING,
) -> dict[str, tuple[Figure, ...]]:
    """Measure systems on the same clips.

    Args:
        task: one of `TASKS`.
        references: the accepted answers of each clip.
        hypotheses: system -> its answer to each clip; the first one is what the others are compared with.
        recordings: the name of the recording that each clip is of; None where no two are of one. The
            bootstrap draws recordings.
        languages: that the clips are in.
        normalizer: one of `NORMALIZERS`; that of the task if None.
        bootstrap: how intervals are made.
        further: system -> what was measured of it in another way.

    Returns:
        The figures of each system, without clips none.

    Raises:
        ImportError: a package of the metrics is not installed.
    """
    measurement = Measurement(task, tuple(languages), normalizer, bootstrap)
    drawn = draw(measurement, references, hypotheses, recordings, further)
    first = next(iter(drawn))
    return {
        system: tuple(
            figure(one, None if system == first else other)
            for one, other in zip(mine, drawn[first], strict=True)
        )
        for system, mine in drawn.items()
    }


def draw(
    measurement: Measurement,
    references: Sequence[Sequence[str]],
    hypotheses: Mapping[str, Sequence[str]],
    recordings: Sequence[str] | None = None,
    further: Mapping[str, Sequence[Sample]] = NOTHING,
) -> dict[str, tuple[Drawn, ...]]:
    """The first half of `score`: the metrics of each system, and their values over the same resamples."""
    task = TASKS[measurement.task]
    normalize = NORMALIZERS[measurement.normalizer or task.normalizer].load()
    measure = task.measure_for(measurement.languages)
    if not references:
        return dict.fromkeys(hypotheses, ())
    of = list(map(str, range(len(references)))) if recordings is None else recordings
    accepted = [[normalize(text) for text in texts] for texts in references]

    def drawn(system: str, texts: Sequence[str]) -> tuple[Drawn, ...]:
        samples = (*measure([normalize(text) for text in texts], accepted), *further.get(system, ()))
        return tuple((sample, resampled(sample, of, measurement.bootstrap)) for sample in samples)

    return {system: drawn(system, texts) for system, texts in hypotheses.items()}


def mean_of(runs: Sequence[Drawn]) -> Drawn:
    """The mean of a metric over several runs of one system, in each resample, too."""
    if lacking := [run for run in runs if run[0].value is None]:
        return lacking[0]
    values = [sample.value for sample, _ in runs if sample.value is not None]
    drawn = [figures for _, figures in runs if figures is not None]
    mean: Floats | None = np.mean(drawn, axis=0) if len(drawn) == len(runs) else None
    return Sample(runs[0][0].metric, fmean(values)), mean


def figure(own: Drawn, first: Drawn | None) -> Figure:
    """The figure of a system, against those of the first one where it is another."""
    sample, values = own
    change = None
    if first is not None and sample.value is not None and first[0].value is not None:
        change = delta(sample.value, first[0].value, values, first[1])
    return Figure(sample.metric, sample.value, interval(values), change, sample.reason)
