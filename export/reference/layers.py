"""The decoder layers of a transformers model, called part by part over a cache of their own.

Each layer is called part by part, so that the weights of a merge are the column sums of the library's own
attention probabilities and the keys are those it caches. Positions are left aligned: row i has position i
(`compact`), or its position in the prompt shifted so that the last row is at rows - 1 (`kept`); a generated
row has that layer's own cache length as position. Rows that are evicted from a cache stay in it, hidden by a
mask, so that no other row changes its position. Nothing here is made to be fast.
Everything is computed in the dtype of the model, but for what transformers itself keeps in float32: norms and
softmax.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np
import numpy.typing as npt

from ...profiles.flops import ResolvedProfile
from ...profiles.schedule import BEFORE_LAYERS, removed
from ...runtime.decoding.search import TopTokens
from .reduction import Site, Span, hidden_rows, margin, reduced, sources

Ids = npt.NDArray[np.int64]
Torch = Any  # a torch.Tensor
Model = Any  # a transformers model for generation


class TorchLayers:
    """All layers of a causal model over one cache."""

    def __init__(self, model: Model, cached: Iterable[tuple[Torch, Torch]] = ()) -> None:
        """Set up an empty cache, or one that holds rows already.

        Args:
            model: a model for generation with eager attention, in float32 or float64.
            cached: keys and values of every layer, each (beams, kv_heads, rows, head_dim).
        """
        from transformers import DynamicCache

        self._model, self._decoder = model, model.get_decoder()
        self._embedding_multiplier = getattr(self._decoder, "embedding_multiplier", 1.0)
        self._logits_divisor = getattr(self._decoder.config, "logits_scaling", 1.0)
        self._cache = DynamicCache()
        for index, (keys, values) in enumerate(cached):
            self._cache.update(keys, values, index)
        self.margins: dict[int, float] = {}  # of each reduction so far, by layer; see `margin`
        self.tells_sources = False  # whether `sources` is filled, which takes as long as the reductions
        self.sources: dict[int, list[list[int]]] = {}  # of each reduction of rows so far, by layer
        self._row_weights: Torch | None = None  # of the prompt
        self._evicted: dict[int, Torch] = {}  # by layer: rows that steps do not see, (kv_heads, prompt rows)

    @property
    def cached(self) -> list[tuple[Torch, Torch]]:
        """Keys and values of every layer, each (beams, kv_heads, rows, head_dim)."""
        return [(layer.keys, layer.values) for layer in self._cache.layers]

    @property
    def evicted(self) -> dict[int, Torch]:
        """By layer the rows that steps do not see, (kv_heads, prompt rows) of bool."""
        return self._evicted

    @property
    def prefix(self) -> list[tuple[Torch, Torch]]:
        """What a prompt leaves to its steps, as a cache that lacks the rows which they do not see.

        The row after such a cache stands at its length, earlier by as many positions as rows are gone; so the
        keys are moved by as many. Keys and values of every layer, (1, kv_heads, kept rows, head_dim) each.
        """
        return [self._kept(index, *pair) for index, pair in enumerate(self.cached)]

    def embed(self, ids: Ids) -> Torch:
        """Token ids to rows (..., hidden_size), as those of audio are: before any multiplier."""
        import torch

        return self._decoder.embed_tokens(torch.as_tensor(ids))

    def prefill(
        self, x: Torch, resolved: ResolvedProfile, span: Span, row_weights: Torch | None = None
    ) -> Torch:
        """A prompt (1, rows, hidden_size) through all layers, reducing its span on the way.

        `row_weights` are what the encoder says of its rows, (rows, columns), for a profile that takes it.
        """
        import torch

        self._row_weights = row_weights

        x, places = x * self._embedding_multiplier, torch.arange(x.shape[1], dtype=x.dtype)
        x, places, span = self._reduce(BEFORE_LAYERS, x, places, None, resolved, span)
        for index in range(len(self._decoder.layers)):
            x, probabilities = self._attend(index, x, places - (places[-1] + 1 - len(places)))
            x, places, span = self._reduce(index, x, places, probabilities, resolved, span)
            x = self._feed_forward(index, x)
        return x

    def step(self, tokens: Ids) -> Torch:
        """Append one row to each beam: tokens (beams,) to rows (beams, 1, hidden_size)."""
        x = self.embed(tokens[:, None]) * self._embedding_multiplier
        for index in range(len(self._decoder.layers)):
            x, _ = self._attend(index, x)
            x = self._feed_forward(index, x)
        return x

    def select(self, parents: Ids) -> None:
        """Go on with the caches of these beams."""
        import torch

        self._cache.batch_select_indices(torch.as_tensor(parents))

    def top_tokens(self, x: Torch, k: int) -> TopTokens:
        """The k best tokens after rows (beams, hidden_size); on a tie the lower id first."""
        logits = self._model.get_output_embeddings()(self._decoder.norm(x)) / self._logits_divisor
        ids = logits.argsort(dim=-1, descending=True, stable=True)[:, :k]
        chosen, total = logits.gather(1, ids), logits.logsumexp(-1)
        return TopTokens(chosen.float().numpy(), ids.numpy(), total.float().numpy())

    def _attend(self, index: int, x: Torch, positions: Torch | None = None) -> tuple[Torch, Torch]:
        """The attention half of a layer: residual + attention output, and the probabilities.

        The rows are a prompt at these positions, (rows,), or else one row a beam after what is cached. The
        probabilities are (beams, heads, rows, cached rows); the layer's cache gets its new rows.
        """
        import torch

        layer, rows = self._decoder.layers[index], x.shape[1]
        if positions is not None:
            mask = torch.full((rows, rows), -torch.inf, dtype=x.dtype).triu(1)[None, None]
        else:
            positions = torch.tensor([self._cache.get_seq_length(index)])
            mask = self._mask_of_evicted(index, x.dtype)
        output, probabilities = layer.self_attn(
            layer.input_layernorm(x),
            position_embeddings=self._decoder.rotary_emb(x, positions[None]),
            attention_mask=mask,
            past_key_values=self._cache,
        )
        assert probabilities is not None, "the model must be loaded with attn_implementation='eager'"
        return x + self._branch(layer, output), probabilities

    def _branch(self, layer: Model, output: Torch) -> Torch:
        """What a half of a layer puts out, as it is added to the rows."""
        return output * getattr(layer, "residual_multiplier", 1.0)

    def _mask_of_evicted(self, index: int, dtype: Any) -> Torch | None:
        """What a step adds to its scores: (1, heads, 1, cached rows and its own)."""
        import torch

        if index not in self._evicted:
            return None
        group = self._decoder.layers[index].self_attn.num_key_value_groups
        hidden = self._evicted[index].repeat_interleave(group, dim=0)  # (heads, prompt rows)
        steps = self._cache.get_seq_length(index) + 1 - hidden.shape[1]
        mask = torch.zeros(hidden.shape, dtype=dtype).masked_fill(hidden, -torch.inf)
        return torch.nn.functional.pad(mask, (0, steps))[None, :, None]

    def _kept(self, index: int, keys: Torch, values: Torch) -> tuple[Torch, Torch]:
        """Keys and values of one layer without the rows that are evicted, right after the prompt."""
        if index not in self._evicted:
            return keys, values
        heads, rows = keys.shape[1:3]
        kept = ~self._evicted[index]
        moved = self._moved(keys, rows - int(kept[0].sum()))
        return moved[:, kept].unflatten(1, (heads, -1)), values[:, kept].unflatten(1, (heads, -1))

    def _moved(self, keys: Torch, by: int) -> Torch:
        """Rotated keys (1, kv_heads, rows, head_dim) of a prompt as they are `by` positions earlier."""
        import torch

        positions = torch.arange(keys.shape[2])[None]
        for place, direction in ((positions, -1), (positions - by, 1)):  # back to position 0, then on
            cos, sin = self._decoder.rotary_emb(keys, place)
            left, right = keys.chunk(2, dim=-1)
            keys = keys * cos + direction * sin * torch.cat([-right, left], dim=-1)
        return keys

    def _feed_forward(self, index: int, x: Torch) -> Torch:
        """The MLP half of a layer."""
        layer = self._decoder.layers[index]
        return x + self._branch(layer, layer.mlp(layer.post_attention_layernorm(x)))

    def _reduce(
        self,
        index: int,
        x: Torch,
        places: Torch,
        probabilities: Torch | None,
        resolved: ResolvedProfile,
        span: Span,
    ) -> tuple[Torch, Torch, Span]:
        """A reduction before the layers, or between a layer's attention and its second norm.

        Its rows, positions and span.
        """
        count = removed(span.length, resolved.ratio_at(index))
        if not count:
            return x, places, span
        keys, shares = (
            (x, None) if probabilities is None else (self._cache.layers[index].keys[0], probabilities[0])
        )
        site = Site(resolved, index, span, count, x[0], keys, shares, self._row_weights)
        self.margins[index] = margin(site)
        if resolved.is_of_caches:
            self._evicted[index] = hidden_rows(site)
            return x, places, span
        if self.tells_sources:
            self.sources[index] = sources(site)
        left = reduced(site, x[0])
        places = reduced(site, places[:, None])[:, 0] if resolved.keeps_positions else places[: len(left)]
        return left[None], places, Span(span.start, span.length - (x.shape[1] - len(left)))
