"""The decoder layers of any family in torch, from the description of its model, for prompts alone.

`layers.py` runs transformers' own layers and is what graphs are checked against. This one knows every
family, attends without a matrix of scores where nobody looks at it, and has no cache. Row i stands at
position i unless positions (rows,) are given, and all of it is float32. LoRA is off until `for_prompt`. What
a model does with prompts beyond its training follows from their length before any reduction: `for_rows`.
"""

from __future__ import annotations

from copy import copy
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt

from ..checkpoint.derived import Weight
from ..checkpoint.quantized import QuantizedWeight
from ..model.spec import DecoderSpec, Linear, PromptAdapter, tensors_of

Torch = Any  # a torch.Tensor


@dataclass(frozen=True)
class Scores:
    """What a reduction looks at."""

    keys: Torch  # in KV layout, rotated
    probabilities: Torch  # (heads, rows, rows)


class SpecDecoder:
    """All layers, called part by part on rows (rows, hidden_size)."""

    def __init__(self, spec: DecoderSpec) -> None:
        """Read the weights."""
        import torch

        self._spec = spec
        self._strength: Torch | None = None
        tensors = {tensor.name: tensor for tensor in tensors_of(spec.layers)}
        self._weights = {name: torch.from_numpy(tensor.read()) for name, tensor in tensors.items()}
        self._wavelengths = self._wavelengths_of(spec.rope_theta)

    def for_rows(self, rows: int) -> SpecDecoder:
        """The same decoder for a prompt of so many rows, before any of them is removed."""
        context, width, other = self._spec.long_context, self._spec.dims.head_dim, copy(self)
        if context is not None and context.dynamic_ntk:
            growth = context.rope_alpha(rows) ** (width / (width - 2))
            other._wavelengths = self._wavelengths_of(self._spec.rope_theta * growth)
        return other

    def _wavelengths_of(self, theta: float) -> Torch:
        """Positions of one radian, (head_dim / 2,)."""
        import torch

        width = self._spec.dims.head_dim
        return theta ** (torch.arange(0, width, 2) / width)

    @property
    def num_layers(self) -> int:
        """How many there are."""
        return len(self._spec.layers)

    def for_prompt(self, adapter_ids: npt.NDArray[np.int64] | None) -> SpecDecoder:
        """The same decoder, over the same weights, with LoRA as strong as a prompt makes it.

        Args:
            adapter_ids: what a prompt adapter reads of it, (adapter,); None where there is no such adapter.
        """
        if (adapter := self._spec.prompt_adapter) is None:
            return self
        assert adapter_ids is not None, "the template of a model with a prompt adapter gives them"
        plain, x = self.with_strength(None), self.embed(adapter_ids)
        for index in range(self.num_layers):
            x = plain.block(index, x)
        return self.with_strength(strength_of(adapter, x))

    def with_strength(self, strength: Torch | None) -> SpecDecoder:
        """The same decoder with LoRA so strong, (hidden_size,), or without."""
        other = copy(self)
        other._strength = strength
        return other

    def embed(self, ids: npt.NDArray[np.int64]) -> Torch:
        """Token ids (n,) to rows, as they enter the first layer."""
        import torch

        return self.entering(self._table[torch.from_numpy(ids)])

    def entering(self, rows: Torch) -> Torch:
        """Rows of the embedding or of audio as they enter the first layer."""
        return rows * self._spec.embedding_multiplier

    def block(self, index: int, x: Torch) -> Torch:
        """A whole layer."""
        return self.feed_forward(index, self.attend(index, x))

    def attend(self, index: int, x: Torch, positions: Torch | None = None) -> Torch:
        """The attention half of a layer: residual + attention output."""
        from torch.nn.functional import scaled_dot_product_attention

        query, key, value = self._query_key_value(index, x, positions)
        attended = scaled_dot_product_attention(
            query[None],
            key[None],
            value[None],
            is_causal=True,
            scale=self._spec.attention_scale,
            enable_gqa=True,
        )
        return x + self._output(index, attended[0])

    def attend_with_scores(self, index: int, x: Torch) -> tuple[Torch, Scores]:
        """As `attend`, and what a reduction after it looks at."""
        import torch

        query, key, value = self._query_key_value(index, x)
        group, hidden = len(query) // len(key), torch.full((len(x), len(x)), -torch.inf).triu(1)
        keys, values = (tensor.repeat_interleave(group, 0) for tensor in (key, value))
        scores = query @ keys.mT * self._spec.attention_scale
        probabilities = (scores + hidden).softmax(-1)
        return x + self._output(index, probabilities @ values), Scores(key, probabilities)

    def feed_forward(self, index: int, x: Torch) -> Torch:
        """The MLP half of a layer: x + down(silu(gate(x)) * up(x))."""
        from torch.nn.functional import silu

        layer = self._spec.layers[index]
        normed = self._norm(x, layer.mlp_norm)
        gated = silu(self.linear(normed, layer.gate)) * self.linear(normed, layer.up)
        return x + self.linear(gated, layer.down) * self._spec.residual_multiplier

    def _query_key_value(
        self, index: int, x: Torch, positions: Torch | None = None
    ) -> tuple[Torch, Torch, Torch]:
        """Rotated queries and keys, and values: (heads or kv_heads, rows, head_dim)."""
        import torch

        positions = torch.arange(len(x)) if positions is None else positions
        layer, dims = self._spec.layers[index], self._spec.dims
        normed = self._norm(x, layer.attn_norm)
        query, key, value = (
            self.linear(normed, linear).unflatten(1, (-1, dims.head_dim)).transpose(0, 1)
            for linear in (layer.query, layer.key, layer.value)
        )
        query = query if layer.query_norm is None else self._norm(query, layer.query_norm)
        key = key if layer.key_norm is None else self._norm(key, layer.key_norm)
        return self._sharpened(self._rotate(query, positions)), self._rotate(key, positions), value

    def _sharpened(self, query: Torch) -> Torch:
        """Times log_S of the keys that each row sees, whatever its position; at least times 1."""
        import torch

        context = self._spec.long_context
        if context is None or not context.log_n:
            return query
        keys = torch.arange(1, query.shape[1] + 1)
        return query * (keys.log() / torch.tensor(context.trained_rows).log()).clamp(min=1)[:, None]

    def _rotate(self, x: Torch, positions: Torch) -> Torch:
        """Rotary embedding; the halves of a head make pairs, or neighbours do."""
        import torch

        angles = positions[:, None] / self._wavelengths
        if self._spec.rope_interleaved:
            cos, sin, (first, second) = angles.cos(), angles.sin(), x.unflatten(-1, (-1, 2)).unbind(-1)
            return torch.stack([first * cos - second * sin, second * cos + first * sin], -1).flatten(-2)
        cos, sin, (first, second) = angles.cos(), angles.sin(), x.chunk(2, -1)
        return torch.cat([first * cos - second * sin, second * cos + first * sin], -1)

    def _output(self, index: int, attended: Torch) -> Torch:
        """Heads (heads, rows, head_dim) to rows."""
        rows = attended.transpose(0, 1).flatten(1)
        return self.linear(rows, self._spec.layers[index].output) * self._spec.residual_multiplier

    def _norm(self, x: Torch, weight: Weight) -> Torch:
        """Over the last axis: of rows, or of heads."""
        from torch.nn.functional import rms_norm

        return rms_norm(x, x.shape[-1:], self._weight(weight), self._spec.norm_eps)

    def linear(self, x: Torch, linear: Linear) -> Torch:
        """Rows times the matrix of a layer, with its bias and its LoRA."""
        from torch.nn.functional import linear as multiply

        bias = None if linear.bias is None else self._weight(linear.bias)
        assert not isinstance(linear.weight, QuantizedWeight), "studies read models as they are"
        y = multiply(x, self._weight(linear.weight), bias)
        if linear.lora is None or self._strength is None:
            return y
        return y + x @ self._weight(linear.lora.down) @ self._weight(linear.lora.up) * self._strength

    def _weight(self, tensor: Weight) -> Torch:
        return self._weights[tensor.name]

    @cached_property
    def _table(self) -> Torch:
        import torch

        return torch.from_numpy(self._spec.embedding.read())


def strength_of(adapter: PromptAdapter, x: Torch) -> Torch:
    """What a prompt adapter makes of the last layer's rows (rows, hidden_size): (hidden_size,)."""
    import torch
    from torch.nn.functional import gelu, linear

    parts = adapter.fc1, adapter.fc2, adapter.score
    weights = [[torch.from_numpy(tensor.read()) for tensor in tensors_of(part)] for part in parts]
    values = linear(gelu(linear(x, *weights[0])), *weights[1])
    shares = linear(values, *weights[2]).softmax(0)
    return (shares * values).sum(0).clamp(adapter.least, adapter.most)


def strength_in_turn(spec: DecoderSpec, adapter_ids: npt.NDArray[np.int64]) -> npt.NDArray[np.float32]:
    """The strength that a prompt gives to LoRA, (hidden_size,); one layer is in memory at a time."""
    import torch

    assert spec.prompt_adapter is not None
    with torch.no_grad():
        x = SpecDecoder(replace(spec, layers=())).embed(adapter_ids)
        for layer in spec.without_lora.layers:
            x = SpecDecoder(replace(spec, layers=(layer,))).block(0, x)
        strength: npt.NDArray[np.float32] = strength_of(spec.prompt_adapter, x).numpy()
    return strength
