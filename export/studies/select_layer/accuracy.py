"""What one merge at each layer costs in accuracy, at several levels: whether transfer entropy is right."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from pathlib import Path

from ....evaluation.answering import Progress
from ....evaluation.clips.clip import ClipSet
from ....evaluation.evaluation import Evaluation
from ....evaluation.figures.loss import badness
from ....evaluation.figures.scores import Figure
from ....evaluation.metrics.metric import Metric
from ....evaluation.options import EvalOptions
from ....evaluation.results.selection import RankCorrelation
from ....profiles.errors import RequestError
from ....profiles.profile import Profile
from ....runtime.tables.units import in_percent
from ...adapt import load_adapted
from ...model.fit import profile_of
from ..reference_request import mean_request
from ..trials import build_trials, unanswered
from .candidates import candidate_layers
from .options import SelectionOptions
from .rank_correlation import rank_correlation

Place = tuple[int, Fraction]
"""A layer, and the share of the prefill FLOPs that one merge there removes."""


@dataclass(frozen=True)
class LayerAccuracy:
    """Figures of every layer and level that can be met; those of the first metric are what is compared."""

    levels: tuple[Fraction, ...]
    profiles: Mapping[Place, str]
    evaluation: Evaluation

    @property
    def metric(self) -> Metric:
        """The first metric of the task."""
        return self.full[0].metric

    @property
    def full(self) -> tuple[Figure, ...]:
        """The figures without a merge."""
        return self.evaluation.profiles[0].figures

    def figures(self, layer: int, level: Fraction) -> tuple[Figure, ...] | None:
        """All figures of one merge; None where the level is out of reach."""
        if (name := self.profiles.get((layer, level))) is None:
            return None
        return next(scores.figures for scores in self.evaluation.profiles if scores.profile == name)

    def values(self, level: Fraction) -> dict[int, float]:
        """The first metric by layer."""
        layers = (layer for layer, other in self.profiles if other == level)
        found = {layer: self.figures(layer, level) for layer in layers}
        values = {layer: figures[0].value for layer, figures in found.items() if figures}
        return {layer: value for layer, value in values.items() if value is not None}

    def agreement(self, entropies: Mapping[int, float], level: Fraction) -> RankCorrelation:
        """How the order of the layers by entropy agrees with that by the metric, the better the earlier."""
        values = self.values(level)
        both = [layer for layer in entropies if layer in values]
        losses = [badness(self.metric, values[layer]) for layer in both]
        return rank_correlation([entropies[layer] for layer in both], losses)

    def best(self, level: Fraction) -> int:
        """The layer of the best figure, the first one of equals."""
        values = self.values(level)
        return min(values, key=lambda layer: badness(self.metric, values[layer]))


def measure_layers(
    checkpoint: Path,
    clips: ClipSet,
    selection: SelectionOptions,
    levels: Sequence[Fraction],
    options: EvalOptions,
    folder: Path,
    progress: Progress = lambda *_: None,
) -> LayerAccuracy:
    """Evaluate one merge at every layer that reaches a level, all levels on the same clips.

    Args:
        checkpoint: folder with config.json and safetensors.
        clips: as `eval` takes them.
        selection: the length for which ratios are solved.
        levels: shares of the prefill FLOPs to remove.
        options: search, normaliser, bootstrap, workers.
        folder: for the artifact and the journal.
        progress: told how far it is.

    Raises:
        RequestError: no clip was answered.
        As `build` and `evaluate`.
    """
    source, model = load_adapted(checkpoint, selection.lora)
    reference = mean_request(source, model, clips.clips, selection.reference_seconds)
    profiles: dict[Place, Profile] = {
        (found.layer, level): replace(
            profile_of(found.resolved), name=f"layer-{found.layer}-flops-{in_percent(level)}"
        )
        for level in levels
        for found in candidate_layers(model, replace(selection, flops_reduction=level), reference)
        if found.resolved is not None
    }
    names = {place: profile.name for place, profile in profiles.items()}
    trials = build_trials(checkpoint, list(profiles.values()), folder, options, progress, selection.lora)
    found = trials.evaluate("accuracy", clips, list(names.values()), progress)
    if fault := unanswered(found):
        raise RequestError(fault)
    return LayerAccuracy(tuple(levels), names, found)
