"""What `eval` leaves: the figures of each profile of an artifact."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from .fields import FieldError, Fields
from .records import (
    NOTHING,
    ClipFailure,
    Measured,
    Metric,
    Source,
    mapping,
    read_failures,
    read_figure,
    read_metric,
)


@dataclass(frozen=True)
class ProfileFigures:
    """One profile."""

    profile: str
    figures: Mapping[str, Measured]  # by the name of the metric
    flops_reduction: float | None
    kept_ratio: float | None
    cut_off: float | None  # answers that `max_new_tokens` ended

    def figure(self, metric: Metric) -> Measured:
        """Of a metric; an empty one where it was not measured."""
        return self.figures.get(metric.name, NOTHING)


@dataclass(frozen=True)
class EvaluationFile:
    """One file. Deltas are against the first profile."""

    source: Source
    task: str
    clips: int
    measured: int
    metrics: tuple[Metric, ...]
    profiles: tuple[ProfileFigures, ...]
    failures: tuple[ClipFailure, ...]


def read_evaluation(fields: Fields, name: str) -> EvaluationFile:
    """The file `name`.

    Raises:
        FieldError: a field is missing or of another kind.
    """
    described, clips = fields.inner("metrics"), fields.inner("clips")
    metrics = tuple(read_metric(described.inner(metric)) for metric in described.content)
    profiles = tuple(_profile(entry, metrics) for entry in fields.each("profiles"))
    if not profiles:
        raise FieldError("profiles is empty")
    return EvaluationFile(
        source=_source(fields, name),
        task=fields.text("task"),
        clips=int(clips.number("count")),
        measured=int(clips.number("measured")),
        metrics=metrics,
        profiles=profiles,
        failures=tuple(read_failures(fields)),
    )


def _profile(fields: Fields, metrics: tuple[Metric, ...]) -> ProfileFigures:
    figures = fields.inner("metrics")
    return ProfileFigures(
        fields.text("profile"),
        {metric.name: read_figure(figures.inner(metric.name), metric) for metric in metrics},
        fields.maybe(fields.number, "flops_reduction"),
        fields.maybe(fields.number, "kept_ratio"),
        fields.maybe(fields.number, "cut_off"),
    )


def _source(fields: Fields, name: str) -> Source:
    artifact, clips = fields.inner("artifact"), fields.inner("clips")
    options = mapping(fields, "options")
    profiles = ",".join(entry.text("profile") for entry in fields.each("profiles"))
    words = (artifact.text("folder"), "--manifest", clips.text("source"), "--profile", profiles, "-o", name)
    settings = {
        "task": fields.text("task"),
        "clips": clips.content,
        "artifact": artifact.content,
        **{key: value for key, value in options.items() if key not in ("profiles", "eos_token_ids")},
    }
    return Source(name, "eval", ("eval", *words), settings, mapping(fields, "environment"))
