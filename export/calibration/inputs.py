"""What calibration clips multiply each matrix of the decoder with: X^T X of the rows X, layer by layer.

The model runs as it is, unquantised; each layer is read when its turn comes.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence, Set
from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt

from ..model.spec import DecoderSpec, Linear, SpeechModelSpec
from ..reference.spec_decoder import SpecDecoder, Torch, strength_in_turn
from .clips import ClipInput, prompt_rows

Array = npt.NDArray[Any]


class Products:
    """X^T X (in, in) by the name of a matrix, float32, added up over the rows that it multiplies."""

    def __init__(self, names: Set[str]) -> None:
        self._names = names
        self.found: dict[str, Array] = {}

    def add(self, name: str, rows: Array) -> None:
        """Rows (rows, in) that meet a matrix, which is ignored unless it is among the names."""
        if name not in self._names:
            return
        more = rows.T @ rows
        if name in self.found:
            self.found[name] += more
        else:
            self.found[name] = more


def decoder_products(
    model: SpeechModelSpec, clips: Sequence[ClipInput], names: Set[str]
) -> Iterator[dict[str, Array]]:
    """Those of one layer after the other, over the whole prompts and the answers."""
    import torch

    spec = model.decoder
    strengths = _strengths(spec, clips)
    with torch.no_grad():
        rows = _first_rows(model, clips)
        for layer in spec.layers:
            products = Products(names)
            decoder = _Observed(replace(spec, layers=(layer,)), products)
            for i, strength in enumerate(strengths):
                mine = decoder.for_rows(len(rows[i])).with_strength(strength)
                rows[i] = mine.block(0, rows[i])
            yield products.found


class _Observed(SpecDecoder):
    def __init__(self, spec: DecoderSpec, products: Products) -> None:
        super().__init__(spec)
        self._products = products

    def linear(self, x: Torch, linear: Linear) -> Torch:
        self._products.add(linear.weight.name, x.numpy())
        return super().linear(x, linear)


def _first_rows(model: SpeechModelSpec, clips: Sequence[ClipInput]) -> list[Torch]:
    """Text, audio, text and the answer of each clip: (rows, hidden_size)."""
    import torch

    table = SpecDecoder(replace(model.decoder, layers=()))
    found = [(prompt_rows(table, model, clip)[0], table.embed(clip.answer)) for clip in clips]
    return [torch.cat(parts) for parts in found]


def _strengths(spec: DecoderSpec, clips: Sequence[ClipInput]) -> list[Torch | None]:
    """How strong the prompt of each clip makes LoRA, where the model has it; equal prompts cost once."""
    import torch

    if spec.prompt_adapter is None:
        return [None] * len(clips)
    known: dict[bytes, Torch] = {}
    found: list[Torch | None] = []
    for clip in clips:
        ids = clip.prompt.adapter
        assert ids is not None, "the template of a model with a prompt adapter gives them"
        if (key := ids.tobytes()) not in known:
            known[key] = torch.from_numpy(strength_in_turn(spec, np.asarray(ids)))
        found.append(known[key])
    return found
