"""The reduced model in plain torch, as transformers runs its layers: what every graph is compared with."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from ...profiles.flops import ResolvedProfile
from ...runtime.decoding.beam_search import TopTokens
from .layers import Ids, Model, Torch, TorchLayers
from .reduction import Span

Floats = npt.NDArray[np.floating[Any]]


def load_reference(checkpoint: Path, dtype: str = "float32") -> Model:
    """Load a Qwen2-Audio checkpoint into transformers, with eager attention.

    Args:
        checkpoint: folder with config.json and safetensors.
        dtype: "float32" or "float64"; 16-bit weights are widened.
    """
    return _load(checkpoint, dtype)


def reference_of(config: Mapping[str, Any], tensors: Mapping[str, Torch]) -> Model:
    """As `load_reference`, in float32, from the content of a config.json and tensors by name."""
    from transformers import Qwen2AudioConfig

    return _load(None, "float32", config=Qwen2AudioConfig.from_dict(dict(config)), state_dict=dict(tensors))


def _load(checkpoint: Path | None, dtype: str, **source: Any) -> Model:
    import torch
    from transformers import Qwen2AudioForConditionalGeneration

    model, report = Qwen2AudioForConditionalGeneration.from_pretrained(
        checkpoint,
        dtype=getattr(torch, dtype),
        attn_implementation="eager",
        local_files_only=True,
        output_loading_info=True,
        **source,
    )
    if "lm_head.weight" in report["missing_keys"]:  # stored as tied, which this class does not know
        model.get_output_embeddings().weight = model.get_input_embeddings().weight
    return model.eval()


def encode_window(model: Model, features: Floats, frames: int) -> Floats:
    """One window of audio to decoder rows: (audio tokens, hidden_size).

    Args:
        model: a Qwen2-Audio model.
        features: (mel bins, frames of a whole window), filled up with silence.
        frames: how many of them carry audio.
    """
    import torch

    encoder, dtype = model.model.audio_tower, model.dtype
    rows, tokens = encoder._get_feat_extract_output_lengths(frames)
    mask = torch.zeros(encoder.max_source_positions, dtype=dtype)
    mask[rows:] = torch.finfo(dtype).min
    with torch.no_grad():
        window = torch.as_tensor(features).to(dtype)[None]
        hidden = encoder(window, attention_mask=mask.expand(1, 1, len(mask), -1)).last_hidden_state
        projected: Floats = model.model.multi_modal_projector(hidden)[0, :tokens].numpy()
    return projected


class TorchDecoder:
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
            rows: audio rows, (audio, hidden_size), from the model's encoder.
            after: token ids after the audio, (text_after,).
            bos_rows: how many of `rows` stand before the audio frames.
            eos_rows: and how many after them.
        """
        self.layers, self._resolved = TorchLayers(model), resolved
        self._before, self._rows, self._after = before, rows, after
        extra = int(resolved.profile.include_audio_bos)
        self._span = Span(len(before) + bos_rows - extra, len(rows) - bos_rows - eos_rows + extra)
        self.prefix_lengths: tuple[int, ...] = ()  # rows of the prompt in every layer, after `start`

    def start(self, k: int) -> TopTokens:
        """Run the prompt, reducing it on the way; give its k best next tokens, (1, k)."""
        import torch

        with torch.no_grad():
            x = self.layers.prefill(self._prompt(), self._resolved, self._span)
            self.prefix_lengths = tuple(keys.shape[2] for keys, _ in self.layers.prefix)
            return self.layers.top_tokens(x[:, -1], k)

    def step(self, tokens: Ids, parents: Ids, k: int) -> TopTokens:
        """Append one row to each chosen beam; give the k best tokens after each, (rows, k)."""
        import torch

        with torch.no_grad():
            self.layers.select(parents)
            return self.layers.top_tokens(self.layers.step(tokens)[:, -1], k)

    def _prompt(self) -> Torch:
        """Embedded text, audio rows, embedded text: (1, rows, hidden_size)."""
        import torch

        before, after = (self.layers.embed(ids) for ids in (self._before, self._after))
        return torch.cat([before, torch.as_tensor(self._rows).to(before.dtype), after])[None]
