"""The reduced model in plain torch, as transformers runs its layers: what every graph is compared with.

Each decoder layer is called part by part, so that the weights of a merge are the column sums of the library's
own attention probabilities and the keys are those it caches. Nothing here is made to be fast. Everything is
computed in the dtype of the model, but for what transformers itself keeps in float32: norms and softmax.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from ..profiles.flops import ResolvedProfile
from ..profiles.schedule import removed
from ..runtime.beam_search import TopTokens
from .torch_reduction import METHODS, Site, Span

Ids = npt.NDArray[np.int64]
Floats = npt.NDArray[np.floating[Any]]
Torch = Any  # a torch.Tensor
Model = Any  # a transformers model for generation


def load_reference(checkpoint: Path, dtype: str = "float32") -> Model:
    """Load a Qwen2-Audio checkpoint into transformers, with eager attention.

    Args:
        checkpoint: folder with config.json and safetensors.
        dtype: "float32" or "float64"; 16-bit weights are widened.
    """
    import torch
    from transformers import Qwen2AudioForConditionalGeneration

    model, report = Qwen2AudioForConditionalGeneration.from_pretrained(
        checkpoint,
        dtype=getattr(torch, dtype),
        attn_implementation="eager",
        local_files_only=True,
        output_loading_info=True,
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
    """A causal model of transformers under one profile, as beam search drives it.

    Positions are left aligned: row i of a layer stands at position i, and a generated row at that layer's
    own cache length.
    """

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
        from transformers import DynamicCache

        self._model, self._decoder, self._resolved = model, model.get_decoder(), resolved
        self._before, self._rows, self._after = before, rows, after
        extra = int(resolved.profile.include_audio_bos)
        self._span = Span(len(before) + bos_rows - extra, len(rows) - bos_rows - eos_rows + extra)
        self._cache = DynamicCache()
        self.prefix_lengths: tuple[int, ...] = ()  # rows of the prompt in every layer, after `start`

    def start(self, k: int) -> TopTokens:
        """Run the prompt, reducing it on the way; give its k best next tokens, (1, k)."""
        import torch

        with torch.no_grad():
            x, span = self._prompt(), self._span
            for index in range(len(self._decoder.layers)):
                x, probabilities = self._attend(index, x, causal=True)
                x, span = self._reduce(index, x, probabilities, span)
                x = self._feed_forward(index, x)
            self.prefix_lengths = tuple(layer.keys.shape[2] for layer in self._cache.layers)
            return self._top_tokens(x[:, -1], k)

    def step(self, tokens: Ids, parents: Ids, k: int) -> TopTokens:
        """Append one row to each chosen beam; give the k best tokens after each, (rows, k)."""
        import torch

        with torch.no_grad():
            self._cache.batch_select_indices(torch.as_tensor(parents))
            x = self._decoder.embed_tokens(torch.as_tensor(tokens)[:, None])  # (beams, 1, hidden_size)
            for index in range(len(self._decoder.layers)):
                x, _ = self._attend(index, x, causal=False)
                x = self._feed_forward(index, x)
            return self._top_tokens(x[:, -1], k)

    def _prompt(self) -> Torch:
        """Embedded text, audio rows, embedded text: (1, rows, hidden_size)."""
        import torch

        embed = self._decoder.embed_tokens
        before, after = (embed(torch.as_tensor(ids)) for ids in (self._before, self._after))
        return torch.cat([before, torch.as_tensor(self._rows).to(before.dtype), after])[None]

    def _attend(self, index: int, x: Torch, causal: bool) -> tuple[Torch, Torch]:
        """The attention half of a layer: residual + attention output, and the probabilities.

        The probabilities are (beams, heads, rows, cached rows); the layer's cache gets its new rows.
        """
        import torch

        layer, rows = self._decoder.layers[index], x.shape[1]
        positions = torch.arange(rows)[None] + self._cache.get_seq_length(index)
        mask = torch.full((rows, rows), -torch.inf, dtype=x.dtype).triu(1)[None, None] if causal else None
        output, probabilities = layer.self_attn(
            layer.input_layernorm(x),
            position_embeddings=self._decoder.rotary_emb(x, positions),
            attention_mask=mask,
            past_key_values=self._cache,
        )
        assert probabilities is not None, "the model must be loaded with attn_implementation='eager'"
        return x + output, probabilities

    def _feed_forward(self, index: int, x: Torch) -> Torch:
        """The MLP half of a layer."""
        layer = self._decoder.layers[index]
        return x + layer.mlp(layer.post_attention_layernorm(x))

    def _reduce(self, index: int, x: Torch, probabilities: Torch, span: Span) -> tuple[Torch, Span]:
        """The reduction of one layer, between its attention and its second norm."""
        count = removed(span.length, self._resolved.ratios[index])
        if not count:
            return x, span
        site = Site(self._resolved, index, span, count, self._cache.layers[index].keys[0], probabilities[0])
        reduced = METHODS[self._resolved.method](site, x[0])
        return reduced[None], Span(span.start, span.length - (x.shape[1] - len(reduced)))

    def _top_tokens(self, x: Torch, k: int) -> TopTokens:
        """The k best tokens after rows (beams, hidden_size); on a tie the lower id first."""
        logits = self._model.get_output_embeddings()(self._decoder.norm(x))
        ids = logits.argsort(dim=-1, descending=True, stable=True)[:, :k]
        chosen, total = logits.gather(1, ids), logits.logsumexp(-1)
        return TopTokens(chosen.float().numpy(), ids.numpy(), total.float().numpy())
