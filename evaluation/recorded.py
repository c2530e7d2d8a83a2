"""What evaluations have in common with the studies that build on them, as the records of result files."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from .answers.answers import ClipAnswers
from .clips.clip import Clip, ClipSet
from .figures.bootstrap import Delta, Interval
from .figures.loss import Loss
from .figures.profile_scores import ProfileScores
from .figures.scores import Figure
from .metrics.metric import Metric
from .options import Bootstrap, EvalOptions
from .results.figures import Difference, Estimate, Measured, ProfileFigures
from .results.settings import AnswerSettings, ClipList, Failure, Intervals

METHOD = (
    "bootstrap over recordings, whose clips are drawn together: 95 % percentile intervals; differences from "
    "the full model, or from the first profile, on the same resamples; two-sided p-values from resamples "
    "that are centred on no difference"
)


def measured(figure: Figure, seeds: tuple[float | None, ...] = ()) -> Measured:
    """A figure; of a random method with its value under each seed."""
    delta = None if figure.delta is None else difference(figure.delta)
    return Measured(figure.value, *ends(figure.interval), delta, seeds, figure.reason or None)


def difference(change: Delta) -> Difference:
    """A paired difference."""
    return Difference(change.value, *ends(change.interval), change.p_value)


def by_metric(figures: Iterable[Figure]) -> dict[str, Measured]:
    """Figures by the names of their metrics."""
    return {figure.metric.name: measured(figure) for figure in figures}


def ends(interval: Interval | None) -> tuple[float | None, float | None]:
    """The ends of an interval, each None where there is none."""
    return (None, None) if interval is None else (interval.low, interval.high)


def profile_figures(scores: ProfileScores) -> ProfileFigures:
    """One profile."""
    return ProfileFigures(
        scores.profile,
        by_metric(scores.figures),
        scores.kept_ratio,
        scores.flops_reduction,
        scores.cut_off,
    )


def loss_estimate(metric: Metric, loss: Loss) -> Estimate:
    """What a profile loses, in the unit of the metric."""
    return Estimate(loss.value, *ends(loss.interval)).times(1 / metric.scale)


def clip_list(clips: ClipSet, digest: str, measured: int, recordings: int) -> ClipList:
    """The clips, how many of them all profiles have answered, and of how many recordings these are."""
    return ClipList(str(clips.source), digest, len(clips.clips), measured, recordings)


def answer_settings(options: EvalOptions, task: str) -> AnswerSettings:
    """How clips of a task were answered and compared."""
    runtime = options.runtime
    own = {name: tuple(it) if isinstance(it, list) else it for name, it in runtime.options.recorded().items()}
    return AnswerSettings(options.search.resolved(), runtime.backend, own, options.normalizer_for(task))


def intervals(bootstrap: Bootstrap, method: str = METHOD) -> Intervals:
    """How intervals were made."""
    return Intervals(method, bootstrap.resamples, bootstrap.seed)


def failures(records: Iterable[tuple[Clip, ClipAnswers]]) -> Iterator[Failure]:
    """Each clip that was not answered, once for each reason."""
    for clip, found in records:
        for reason in dict.fromkeys(found.failures.values()):
            profiles = tuple(name for name, why in found.failures.items() if why == reason)
            yield Failure(clip.id, clip.line, profiles, reason)
