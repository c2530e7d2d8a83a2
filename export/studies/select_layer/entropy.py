"""Transfer entropy of a merge: how far it moves the entropy of what the decoder says about the audio.

TE_i = |H(Phi(F_final)) - H(F_final | Phi(F_i))|. Both terms are the entropy of the last block's output over
the audio rows, before the final norm. The first merges at the last layer, the second at layer i, by the same
ratio, so that both count as many rows. The ratio is the one that a profile for layer i would have
(`candidate_layers`), and so differs from layer to layer; the first term is taken anew for each.

The entropy is that of independent Gaussian channels, as in "MLP Can Be a Good Transformer Learner" (CVPR
2024). All entropies are in nats.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import reduce

import numpy as np

from ....evaluation.results.selection import TransferEntropy
from .moments import Counts, Floats, Moments, pooled_variance

NOISE = 1e-12  # of the median variance: a channel that is constant has a finite entropy


@dataclass(frozen=True)
class LayerMoments:
    """The two terms of one layer, for each recording: moments of the last block's output on audio rows."""

    at_last: tuple[Moments, ...]  # merged at the last layer
    at_layer: tuple[Moments, ...]  # merged at this one


def channel_entropies(variance: Floats) -> Floats:
    """1/2 ln(2 pi e (var + eps)), eps = 1e-12 median(var): (..., channels)."""
    noise = NOISE * np.median(variance, axis=-1, keepdims=True)
    entropies: Floats = 0.5 * np.log(2 * np.pi * np.e * (variance + noise))
    return entropies


def transfer_entropy(moments: LayerMoments) -> TransferEntropy:
    """Of all recordings, each taken once."""
    at_last, at_layer = (
        channel_entropies(reduce(Moments.__add__, term).variance)
        for term in (moments.at_last, moments.at_layer)
    )
    last, layer = float(at_last.sum()), float(at_layer.sum())
    return TransferEntropy(abs(last - layer), last, layer, float(np.abs(at_last - at_layer).sum()))


def resampled(layers: Iterable[LayerMoments], times: Counts) -> Floats:
    """TE of every layer with its recordings taken `times` (draws, recordings): (draws, layers)."""
    values = [np.abs(_entropy(one.at_last, times) - _entropy(one.at_layer, times)) for one in layers]
    return np.stack(values, axis=1)


def _entropy(term: Sequence[Moments], times: Counts) -> Floats:
    """H of one term in each draw: (draws,)."""
    entropy: Floats = channel_entropies(pooled_variance(term, times)).sum(axis=1)
    return entropy
