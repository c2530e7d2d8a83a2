"""The result of a layer selection, as `select-layer` writes it and `report` reads it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from fractions import Fraction
from typing import Any

from ...runtime.environment import Environment
from ..metrics.metric import Metric
from .figures import Measured
from .settings import AnswerSettings, ClipList, Failure, Intervals

SELECTION_FORMAT = 5

Figures = Mapping[str, Measured]
"""By the name of the metric."""


@dataclass(frozen=True)
class TransferEntropy:
    """The figures of one layer over all clips that were measured, in nats."""

    transfer_entropy: float  # |at_last - at_layer|: channels that gain and channels that lose cancel in it
    at_last: float  # H(Phi(F_final))
    at_layer: float  # H(F_final | Phi(F_i))
    per_channel: float  # L1: the sum over channels of |their difference|, at least `transfer_entropy`


@dataclass(frozen=True)
class RankSpread:
    """The ranks of one layer over resamples of the recordings."""

    low: int  # 2.5th percentile
    high: int  # 97.5th percentile
    best: float  # share of the resamples in which it ranks first


@dataclass(frozen=True)
class RankCorrelation:
    """1 for the same order, -1 for the reverse one; None where one of the figures does not vary."""

    rho: float | None
    count: int  # of the things that have both figures


@dataclass(frozen=True)
class LayerFigures:
    """One layer. Where the target is out of its reach, `infeasible` says why and the figures are absent."""

    layer: int
    reachable: float  # the largest share of the prefill FLOPs that one merge there removes
    ratio: Fraction | None = None  # share of the audio rows that meets the target
    entropy: TransferEntropy | None = None
    rank: int | None = None  # 1 is the smallest transfer entropy
    spread: RankSpread | None = None  # None for a single clip
    infeasible: str | None = None
    accuracy: Mapping[Fraction, Figures] = field(default_factory=dict)  # by level, where that can be met


@dataclass(frozen=True)
class AccuracyResult:
    """What an evaluation says of merges at the layers, and whether the entropies agree with it."""

    task: str
    clips: ClipList
    settings: AnswerSettings
    intervals: Intervals
    metrics: tuple[Metric, ...]  # the first one is what is compared
    levels: tuple[Fraction, ...]  # shares of the prefill FLOPs
    full: Figures
    best: Mapping[Fraction, int]  # level -> layer
    rank_correlation: Mapping[Fraction, RankCorrelation]  # of the entropies with the metric, by level
    failures: tuple[Failure, ...]
    environment: Environment


@dataclass(frozen=True)
class SelectionProtocol:
    """What all layers have in common."""

    flops_reduction: Fraction  # the target
    positions: str  # of the rows that a merge leaves
    reference_audio_seconds: float  # of the request for which ratios are solved
    reference_text_rows: int
    audio_seconds: float  # of the clips that were measured
    audio_tokens_after_the_merge: int  # at the selected layer, of those clips


@dataclass(frozen=True)
class SelectionResult:
    """Every layer with its figures, and which one was selected."""

    checkpoint: Mapping[str, Any]  # its identity
    clips: ClipList
    protocol: SelectionProtocol
    intervals: Intervals  # of the ranks
    selected: int
    profile: str  # TOML
    warnings: tuple[str, ...]
    layers: tuple[LayerFigures, ...]
    accuracy: AccuracyResult | None  # where it was asked for
    failures: tuple[Failure, ...]  # clips without entropies, of no profile
    environment: Environment
