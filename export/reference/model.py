"""The reduced model in plain torch, as transformers runs its layers: what every graph is compared with."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from ...profiles.errors import CheckpointError
from ...profiles.flops import ResolvedProfile
from ...runtime.decoding.search import TopTokens
from ..checkpoint.checkpoint import Checkpoint
from ..model.families.family import family_of, reference_of
from .layers import Ids, Model, Torch, TorchLayers
from .reduction import Span

Floats = npt.NDArray[np.floating[Any]]


def load_reference(checkpoint: Path, dtype: str = "float32") -> Model:
    """Load a checkpoint into transformers, as `TransformersReference.load`.

    Raises:
        CheckpointError: transformers has no model of its family.
    """
    family = family_of(Checkpoint(checkpoint))
    reference = reference_of(family)
    if reference is None:
        raise CheckpointError(f"checkpoint {checkpoint}: family {family} has no model in transformers")
    return reference.load(checkpoint, dtype)


class ReferenceDecoder:
    """A causal model of transformers under one profile, as beam search drives it."""

    def __init__(
        self,
        model: Model,
        resolved: ResolvedProfile,
        before: Ids,
        rows: Floats,
        after: Ids,
        *,
        bos_rows: int = 0,
        eos_rows: int = 0,
    ) -> None:
        """Set up a request.

        Args:
            model: a model for generation with eager attention, in float32 or float64.
            resolved: the profile, with a ratio for every layer.
            before: token ids before the audio, (text_before,).
            rows: audio rows, (audio, hidden_size), from the model's encoder; behind them the columns of
                `row_weights` in `export/reference/row_weights.py`, for a profile that takes them.
            after: token ids after the audio, (text_after,).
            bos_rows: how many of `rows` stand before the audio frames.
            eos_rows: and how many after them.
        """
        self.layers, self._resolved = TorchLayers(model), resolved
        self._before, self._after = before, after
        self._rows, self._weights = np.split(rows, [model.get_decoder().config.hidden_size], axis=1)
        extra = int(resolved.profile.include_audio_bos)
        self._span = Span(len(before) + bos_rows - extra, len(rows) - bos_rows - eos_rows + extra)
        self.prefix_lengths: tuple[int, ...] = ()  # rows of the prompt in every layer, after `start`

    def start(self, k: int) -> TopTokens:
        """Run the prompt, reducing it on the way; give its k best next tokens, (1, k)."""
        import torch

        with torch.no_grad():
            weights = self._row_weights() if self._resolved.takes_row_weights else None
            x = self.layers.prefill(self._prompt(), self._resolved, self._span, weights)
            self.prefix_lengths = tuple(keys.shape[2] for keys, _ in self.layers.prefix)
            return self.layers.top_tokens(x[:, -1], k)

    def step(self, tokens: Ids, parents: Ids, k: int) -> TopTokens:
        """Append one row to each chosen beam; give the k best tokens after each, (rows, k)."""
        import torch

        with torch.no_grad():
            self.layers.select(parents)
            return self.layers.top_tokens(self.layers.step(tokens)[:, -1], k)

    def _row_weights(self) -> Torch:
        """What the encoder says of each row of the prompt, 1 of those of text: (rows, columns)."""
        import torch

        padding = (0, 0, len(self._before), len(self._after))
        return torch.nn.functional.pad(torch.as_tensor(self._weights), padding, value=1.0)

    def _prompt(self) -> Torch:
        """Embedded text, audio rows, embedded text: (1, rows, hidden_size)."""
        import torch

        before, after = (self.layers.embed(ids) for ids in (self._before, self._after))
        return torch.cat([before, torch.as_tensor(self._rows).to(before.dtype), after])[None]
