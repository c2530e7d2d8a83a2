"""What `select-layer` leaves: transfer entropy by layer and, where it was measured, accuracy."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from .fields import FieldError, Fields
from .records import ClipFailure, Measured, Metric, Source, mapping, read_failures, read_figure, read_metric


@dataclass(frozen=True)
class Layer:
    """One layer; `infeasible` tells why a merge there cannot meet the target."""

    layer: int
    entropy: float | None
    rank: int | None
    ranks: tuple[int, int] | None  # over resamples of the clips
    ratio: str
    infeasible: str
    figures: Mapping[tuple[str, str], Measured] = field(default_factory=dict)  # by metric and level


@dataclass(frozen=True)
class LayerFigures:
    """What accuracy was measured: of the full model, and at which levels."""

    metrics: tuple[Metric, ...] = ()
    levels: tuple[str, ...] = ()  # percent of the prefill FLOPs
    full: Mapping[str, Measured] = field(default_factory=dict)
    correlation: Mapping[str, float | None] = field(default_factory=dict)  # by level, of the first metric
    failures: tuple[ClipFailure, ...] = ()


@dataclass(frozen=True)
class SelectionFile:
    """One file."""

    source: Source
    selected: int
    target: str
    clips: int
    profile: str  # TOML
    warnings: tuple[str, ...]
    layers: tuple[Layer, ...]
    accuracy: LayerFigures


def read_selection(fields: Fields, name: str) -> SelectionFile:
    """The file `name`.

    Raises:
        FieldError: a field is missing or of another kind.
    """
    protocol, measured = fields.inner("protocol"), fields.maybe(fields.inner, "accuracy")
    accuracy = LayerFigures() if measured is None else _accuracy(measured)
    return SelectionFile(
        source=_source(fields, name),
        selected=int(fields.number("selected")),
        target=protocol.text("flops_reduction"),
        clips=int(protocol.number("clips")),
        profile=fields.text("profile"),
        warnings=fields.maybe(fields.texts, "warnings") or (),
        layers=tuple(_layer(layer, accuracy) for layer in fields.each("layers")),
        accuracy=accuracy,
    )


def _accuracy(fields: Fields) -> LayerFigures:
    described, full = fields.inner("metrics"), fields.inner("full")
    metrics = tuple(read_metric(described.inner(name)) for name in described.content)
    correlation = fields.maybe(fields.inner, "rank_correlation") or Fields({})
    return LayerFigures(
        metrics,
        fields.texts("levels"),
        {metric.name: read_figure(full.inner(metric.name), metric) for metric in metrics},
        dict(_correlations(correlation)),
        tuple(read_failures(fields)),
    )


def _correlations(fields: Fields) -> Iterator[tuple[str, float | None]]:
    for level in fields.content:
        found = fields.inner(level)
        yield level, found.maybe(found.number, "rho")


def _layer(fields: Fields, accuracy: LayerFigures) -> Layer:
    entropy, spread = fields.maybe(fields.inner, "entropy"), fields.maybe(fields.inner, "spread")
    rank = fields.maybe(fields.number, "rank")
    return Layer(
        int(fields.number("layer")),
        None if entropy is None else entropy.number("transfer_entropy"),
        None if rank is None else int(rank),
        None if spread is None else (int(spread.number("low")), int(spread.number("high"))),
        fields.maybe(fields.text, "ratio") or "",
        fields.maybe(fields.text, "infeasible") or "",
        dict(_figures(fields, accuracy)),
    )


def _figures(fields: Fields, accuracy: LayerFigures) -> Iterator[tuple[tuple[str, str], Measured]]:
    found = fields.maybe(fields.inner, "accuracy") if accuracy.metrics else None
    for metric in accuracy.metrics if found else ():
        levels = found.maybe(found.inner, metric.name) if found else None
        for level in levels.content if levels else ():
            if level not in accuracy.levels:
                raise FieldError(f"{levels.place if levels else ''}.{level} is no level of accuracy.levels")
            if levels:
                yield (metric.name, level), read_figure(levels.inner(level), metric)


def _source(fields: Fields, name: str) -> Source:
    checkpoint, protocol = mapping(fields, "checkpoint"), mapping(fields, "protocol")
    folder = str(checkpoint.get("folder", "CHECKPOINT"))
    command = ("select-layer", folder, "--manifest", "CLIPS", "--json", name)
    settings = {"checkpoint": checkpoint, **protocol}
    return Source(name, "select-layer", command, settings, mapping(fields, "environment"))
