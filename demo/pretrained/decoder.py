"""A decoder of Llama's kind in bfloat16, frozen but for norms and low-rank additions to its matrices."""

from __future__ import annotations

import torch
from torch import nn
from torch.nn import functional

from .language_model import Sizes

Weights = dict[str, torch.Tensor]
RANK = 32  # of an addition to one matrix; matrices that are one here have a rank of their own each
SCALE = 2.0  # of the additions


class Adapted(nn.Module):
    """Matrices that read the same rows as one, with one low-rank addition to all of them."""

    def __init__(self, *matrices: torch.Tensor, rank: int) -> None:
        super().__init__()
        whole = torch.cat(matrices)
        self.sizes = [len(matrix) for matrix in matrices]
        self.register_buffer("weight", whole.bfloat16(), persistent=False)
        rank *= min(2, len(matrices))
        self.down = nn.Parameter(torch.randn(rank, whole.shape[1]) * whole.shape[1] ** -0.5)
        self.up = nn.Parameter(torch.zeros(len(whole), rank))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(…, inputs) -> (…, all outputs), bfloat16."""
        added = functional.linear(functional.linear(x, self.down.to(x.dtype)), (SCALE * self.up).to(x.dtype))
        return functional.linear(x, self.weight.to(x.dtype)) + added

    @torch.no_grad()
    def added(self) -> tuple[torch.Tensor, ...]:
        """What is added to each matrix, float32."""
        return (SCALE * self.up @ self.down).split(self.sizes)


class Layer(nn.Module):
    """Attention and MLP, each behind a norm."""

    def __init__(self, weights: Weights, index: int, sizes: Sizes, rank: int) -> None:
        super().__init__()
        self.sizes = sizes

        def get(name: str) -> torch.Tensor:
            return weights[f"model.layers.{index}.{name}.weight"]

        self.attn_norm = nn.Parameter(get("input_layernorm"))
        self.mlp_norm = nn.Parameter(get("post_attention_layernorm"))
        self.qkv = Adapted(*(get(f"self_attn.{name}_proj") for name in "qkv"), rank=rank)
        self.output = Adapted(get("self_attn.o_proj"), rank=rank)
        self.gate_up = Adapted(get("mlp.gate_proj"), get("mlp.up_proj"), rank=rank)
        self.mlp_down = Adapted(get("mlp.down_proj"), rank=rank)

    def forward(self, x: torch.Tensor, cos: torch.Tensor, sin: torch.Tensor) -> torch.Tensor:
        """(clips, rows, hidden) -> the same; cos and sin are (clips, rows, 1, head_dim)."""
        x = x + self.output(self._attention(rms_norm(x, self.attn_norm, self.sizes.norm_eps), cos, sin))
        gate, up = self.gate_up(rms_norm(x, self.mlp_norm, self.sizes.norm_eps)).chunk(2, -1)
        return x + self.mlp_down(functional.silu(gate) * up)

    def _attention(self, x: torch.Tensor, cos: torch.Tensor, sin: torch.Tensor) -> torch.Tensor:
        heads, kv = self.sizes.num_heads, self.sizes.num_kv_heads
        clips, rows, _ = x.shape
        parts = self.qkv(x).view(clips, rows, heads + 2 * kv, self.sizes.head_dim)
        turned = rotated(parts[:, :, : heads + kv], cos, sin).transpose(1, 2)
        query = turned[:, :heads].reshape(clips, kv, -1, self.sizes.head_dim)  # heads that share keys as one
        key, value = turned[:, heads:], parts[:, :, heads + kv :].transpose(1, 2)
        scores = (query @ key.transpose(-1, -2)).unflatten(2, (-1, rows)) * self.sizes.head_dim**-0.5
        hidden = torch.ones(rows, rows, dtype=torch.bool, device=x.device).triu(1)
        weights = scores.masked_fill(hidden, -torch.inf).softmax(-1).flatten(2, 3)
        found = (weights @ value).unflatten(2, (-1, rows)).flatten(1, 2)
        return found.transpose(1, 2).reshape(clips, rows, heads * self.sizes.head_dim)


class Decoder(nn.Module):
    """Embedded rows to hidden states; the table of embeddings is the head as well."""

    def __init__(self, weights: Weights, sizes: Sizes, rank: int = RANK) -> None:
        super().__init__()
        self.sizes = sizes
        self.register_buffer("embedding", weights["model.embed_tokens.weight"].bfloat16(), persistent=False)
        self.layers = nn.ModuleList(Layer(weights, i, sizes, rank) for i in range(sizes.num_layers))
        self.final_norm = nn.Parameter(weights["model.norm.weight"])

    def forward(self, x: torch.Tensor, positions: torch.Tensor) -> torch.Tensor:
        """Rows (clips, R, hidden) at positions (clips, R) -> hidden states after the last norm.

        Every row sees those before it: what fills up a shorter clip stands behind it, where no row sees it.
        """
        cos, sin = (part.to(x.dtype) for part in self._rotary(positions))
        for layer in self.layers:
            x = layer(x, cos, sin)
        return rms_norm(x, self.final_norm, self.sizes.norm_eps)

    def _rotary(self, positions: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Cosines and sines, each (clips, R, 1, head_dim)."""
        size = self.sizes.head_dim
        rates = self.sizes.rope_theta ** -(torch.arange(0, size, 2) / size)
        angles = (positions[..., None] * rates).repeat(1, 1, 2)[:, :, None]
        return angles.cos(), angles.sin()

    def additions(self) -> list[nn.Parameter]:
        """What LoRA learns."""
        return [part for name, part in self.named_parameters() if name.endswith((".down", ".up"))]

    def norms(self) -> list[nn.Parameter]:
        """The weights of all norms."""
        return [part for name, part in self.named_parameters() if name.endswith("_norm")]


def rms_norm(x: torch.Tensor, weight: torch.Tensor, eps: float) -> torch.Tensor:
    """Root mean square norm over the last axis."""
    return functional.rms_norm(x, (x.shape[-1],), weight.to(x.dtype), eps)


def rotated(x: torch.Tensor, cos: torch.Tensor, sin: torch.Tensor) -> torch.Tensor:
    """Rotary positions, the halves of a head being real and imaginary parts."""
    real, imaginary = x.chunk(2, -1)
    return x * cos + torch.cat([-imaginary, real], -1) * sin


def folded(decoder: Decoder, weights: Weights) -> Weights:
    """The weights with what was learnt added, by the same names, float32."""
    found = dict(weights)
    for i, layer in enumerate(decoder.layers):
        base = f"model.layers.{i}"
        found[f"{base}.input_layernorm.weight"] = layer.attn_norm.detach()
        found[f"{base}.post_attention_layernorm.weight"] = layer.mlp_norm.detach()
        for part, names in (
            (layer.qkv, [f"self_attn.{name}_proj" for name in "qkv"]),
            (layer.output, ["self_attn.o_proj"]),
            (layer.gate_up, ["mlp.gate_proj", "mlp.up_proj"]),
            (layer.mlp_down, ["mlp.down_proj"]),
        ):
            for name, added in zip(names, part.added(), strict=True):
                found[f"{base}.{name}.weight"] = weights[f"{base}.{name}.weight"] + added
    found["model.norm.weight"] = decoder.final_norm.detach()
    return found
