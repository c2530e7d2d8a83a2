"""What the last block puts out for the audio under a merge at each layer, all from one unreduced run.

Up to its own layer a candidate computes what the unreduced model does, so all candidates fork off one trunk.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from ....profiles.flops import ResolvedProfile
from ....profiles.schedule import removed
from ...reference.reduction import Site, Span, best, merge_at_once
from ...reference.spec_decoder import Scores, SpecDecoder, Torch

Floats = npt.NDArray[np.floating[Any]]


@dataclass(frozen=True)
class LayerOutputs:
    """Audio rows of the last block's output, before the final norm: (rows, hidden_size), equally many."""

    at_last: Floats  # merged at the last layer
    at_layer: Floats  # merged at the layer in question, by the same ratio


def layer_outputs(
    decoder: SpecDecoder, prompt: Torch, span: Span, candidates: Mapping[int, ResolvedProfile]
) -> dict[int, LayerOutputs]:
    """Both outputs of every candidate, by layer.

    Args:
        decoder: all layers.
        prompt: text and audio as rows, (rows, hidden_size).
        span: where the audio is.
        candidates: layer -> the profile that merges there.
    """
    import torch

    early: dict[int, Floats] = {}
    late: dict[int, Floats] = {}
    decoder, last = decoder.for_rows(len(prompt)), decoder.num_layers - 1
    with torch.no_grad():
        for fork in _forks(decoder, prompt, span, {*candidates, last}):
            if fork.layer == last:
                late = {layer: fork.output(resolved, layer) for layer, resolved in candidates.items()}
            else:
                early[fork.layer] = fork.output(candidates[fork.layer], fork.layer)
    return {layer: LayerOutputs(late[layer], early.get(layer, late[layer])) for layer in candidates}


@dataclass(frozen=True)
class _Fork:
    """The unreduced model inside one layer, between attention and second norm: where a merge takes place."""

    decoder: SpecDecoder
    layer: int
    rows: Torch  # (rows, hidden_size)
    span: Span
    scores: Scores

    def output(self, resolved: ResolvedProfile, ratio_of: int) -> Floats:
        """Merge here, by the ratio that a profile has at the layer `ratio_of`; the audio rows at the end."""
        import torch

        decoder, span, scores = self.decoder, self.span, self.scores
        count = removed(span.length, resolved.ratios[ratio_of])
        site = Site(resolved, self.layer, span, count, self.rows, scores.keys, scores.probabilities)
        edges, weight, positions = best(site.similarity, count), site.column_sums, None
        x = merge_at_once(self.rows, edges, weight, span)
        if resolved.keeps_positions:
            first = torch.arange(len(self.rows), dtype=self.rows.dtype)[:, None]
            positions = merge_at_once(first, edges, weight, span)[:, 0]
        x = decoder.feed_forward(self.layer, x)
        for later in range(self.layer + 1, decoder.num_layers):
            x = decoder.feed_forward(later, decoder.attend(later, x, positions))
        audio: Floats = x[span.start : span.start + span.length - count].numpy()
        return audio


def _forks(decoder: SpecDecoder, x: Torch, span: Span, layers: set[int]) -> Iterator[_Fork]:
    """Run a prompt unreduced, stopping in these layers."""
    for layer in range(decoder.num_layers):
        if layer in layers:
            x, scores = decoder.attend_with_scores(layer, x)
            yield _Fork(decoder, layer, x, span, scores)
        else:
            x = decoder.attend(layer, x)
        x = decoder.feed_forward(layer, x)
