"""The reduced model in plain torch, as transformers runs its layers: what every graph is compared with.

Each decoder layer is called part by part, so that the weights of a merge are the column sums of the library's
own attention probabilities and the keys are those it caches. Nothing here is made to be fast. Everything is
computed in the dtype of the model, but for what transformers itself keeps in float32: norms and softmax.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from ..plugins.merge_tokens.op import SMALLEST_WEIGHT
from ..plugins.merge_tokens.reference import random_score
from ..profiles.flops import ResolvedProfile
from ..profiles.schedule import removed
from ..runtime.beam_search import TopTokens

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


@dataclass(frozen=True)
class Span:
    """The rows that a reduction may touch."""

    start: int
    length: int


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


@dataclass(frozen=True)
class Site:
    """What a reduction in one layer may look at."""

    resolved: ResolvedProfile
    layer: int
    span: Span
    count: int  # rows to remove
    keys: Torch  # (kv_heads, rows, head_dim), rotated, with bias
    probabilities: Torch  # (heads, rows, rows)

    @property
    def column_sums(self) -> Torch:
        """Attention that each row gets, over all heads and all query rows: (rows,)."""
        return self.probabilities.sum((0, 1))

    @property
    def similarity(self) -> Torch:
        """Cosine of each pair of neighbouring keys in the span, all heads as one vector: (length - 1,)."""
        import torch

        rows = self.keys.transpose(0, 1).flatten(1)[self.span.start : self.span.start + self.span.length]
        return torch.cosine_similarity(rows[:-1], rows[1:], dim=-1)

    def random(self, size: int) -> Torch:
        """Seeded scores, others in every layer: (size,)."""
        import torch

        return torch.as_tensor(random_score(size, self.resolved.profile.seed * 1009 + self.layer))


def best(score: Torch, count: int) -> list[int]:
    """Places of the `count` largest scores, in order of place; ties go to the lower one."""
    return sorted(score.argsort(descending=True, stable=True)[:count].tolist())


def merge(hidden: Torch, edges: list[int], weight: Torch, span: Span) -> Torch:
    """Replace each run of rows that `edges` link by its weighted mean: sum(w h) / sum(w).

    Args:
        hidden: (rows, hidden_size).
        edges: i links rows i and i + 1 of the span.
        weight: (rows,).
        span: where the edges count from.
    """
    import torch

    linked = {span.start + edge + 1 for edge in edges}
    clusters: list[list[int]] = []
    for row in range(len(hidden)):
        if row in linked:
            clusters[-1].append(row)
        else:
            clusters.append([row])
    weight = weight.clamp(min=SMALLEST_WEIGHT)
    shares = [weight[rows] / weight[rows].sum() for rows in clusters]
    return torch.stack([share @ hidden[rows] for share, rows in zip(shares, clusters, strict=True)])


def evict(hidden: Torch, score: Torch, site: Site) -> Torch:
    """Drop the rows of the span with the smallest scores (length,)."""
    dropped = {site.span.start + place for place in best(-score, site.count)}
    return hidden[[row for row in range(len(hidden)) if row not in dropped]]


def disjoint(edges: list[int]) -> list[int]:
    """From left to right, the edges both of whose rows are still free."""
    taken: list[int] = []
    for edge in edges:
        if not taken or edge > taken[-1] + 1:
            taken.append(edge)
    return taken


def _weighted_merge(site: Site, hidden: Torch) -> Torch:
    return merge(hidden, best(site.similarity, site.count), site.column_sums, site.span)


def _average_merge(site: Site, hidden: Torch) -> Torch:
    ones = hidden.new_ones(len(hidden))
    return merge(hidden, best(site.similarity, site.count), ones, site.span)


def _random_merge(site: Site, hidden: Torch) -> Torch:
    edges = best(site.random(site.span.length - 1), site.count)
    return merge(hidden, edges, site.column_sums, site.span)


def _a_tome(site: Site, hidden: Torch) -> Torch:
    edges = disjoint(best(site.similarity, site.count))
    return merge(hidden, edges, hidden.new_ones(len(hidden)), site.span)


def _fastv(site: Site, hidden: Torch) -> Torch:
    last_query = site.resolved.profile.fastv_score == "last_query"
    score = site.probabilities[:, -1].sum(0) if last_query else site.column_sums
    return evict(hidden, score[site.span.start : site.span.start + site.span.length], site)


def _random_evict(site: Site, hidden: Torch) -> Torch:
    return evict(hidden, site.random(site.span.length), site)


METHODS: dict[str, Callable[[Site, Torch], Torch]] = {
    "weighted_merge": _weighted_merge,
    "average_merge": _average_merge,
    "random_merge": _random_merge,
    "a_tome": _a_tome,
    "fastv": _fastv,
    "random_evict": _random_evict,
}
