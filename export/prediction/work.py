"""What a prefill and a decode step compute and move: the profile's own counts, as our graphs run them.

Against the published counts of `profiles/flops.py`: a causal attention does not compute the masked half of
its scores, and in the last layer all rows give keys and values, but one row alone goes on. LoRA is not
counted.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from ...profiles.flops import (
    DecoderDims,
    LayerRow,
    ResolvedProfile,
    decode_step_flops,
    kv_bytes,
    prefill_flops,
    profile_table,
    scoring_flops,
)
from .roofline import Work

PACKING_PASSES = 1  # kernels that pack weights on each run take as long as so many more passes over them


@dataclass(frozen=True)
class Sizes:
    """A decoder as a device holds it."""

    dims: DecoderDims
    read_bytes: float  # of weights that a pass reads: layers, last norm, head
    held_bytes: float  # of all weights as they are held between requests
    loading_bytes: float  # the most that they take, which is while they are loaded
    item_bytes: int  # of a number of an activation or the KV cache


@dataclass(frozen=True)
class Kernels:
    """How a device computes what profiles differ in."""

    fused_attention: bool  # sums over scores are one more product; else one more pass over the scores
    packs_weights: bool = False  # in every prefill; a step has them packed
    whole_last_layer: bool = False  # every row goes through all of it, as in code that keeps all logits
    shared_prompt: bool = True  # beams have one prompt, prefilled once
    cache_passes: int = 1  # over keys and values in a step, by the time that its attention takes
    copies_cache: bool = False  # a step appends to it by a copy, and picks beams by another


GPU_KERNELS = Kernels(fused_attention=True)
CPU_KERNELS = Kernels(fused_attention=False, packs_weights=True, cache_passes=3)


@dataclass(frozen=True)
class Request:
    """What is asked of a decoder under one profile."""

    resolved: ResolvedProfile
    span_rows: int  # of audio, that the profile reduces
    text_rows: int  # and all others
    beams: int = 1

    @property
    def prompt_rows(self) -> int:
        """Rows that enter the decoder."""
        return self.span_rows + self.text_rows


def prefill_work(sizes: Sizes, request: Request, kernels: Kernels) -> Work:
    """The prefill of a request."""
    rows, prompts = _layers(sizes, request), 1 if kernels.shared_prompt else request.beams
    linear, attention = _prefill_flops(sizes.dims, rows, kernels)
    moved = sum(_layer_bytes(sizes, row) for row in rows)
    places = request.resolved.places if kernels.whole_last_layer else request.resolved.computed_places
    sums = request.resolved.profile.traits.sums.over_all_queries
    scored = [rows[place] for place in places] if sums else []
    if kernels.fused_attention:
        attention += sum(scoring_flops(sizes.dims, row.attention_rows) / 2 for row in scored)
    else:
        moved += sum(_score_bytes(sizes, row.attention_rows) for row in scored)
    return Work(
        linear_flops=prompts * linear,
        attention_flops=prompts * attention,
        bytes=sizes.read_bytes * (1 + PACKING_PASSES * kernels.packs_weights) + prompts * moved,
        layers=sizes.dims.num_layers,
        reductions=len(places),
    )


def step_work(sizes: Sizes, request: Request, generated: float, kernels: Kernels) -> Work:
    """A decode step of all beams, after each has `generated` tokens, this one among them."""
    dims, beams, own = sizes.dims, request.beams, round(request.beams * generated)
    cached = [row.cached_rows for row in _layers(sizes, request)]
    prompts = 1 if kernels.shared_prompt else beams
    seen = [length + own // prompts for length in cached]  # the pool of shared beams is scored whole
    linear = decode_step_flops(dims, [0] * dims.num_layers)
    return Work(
        linear_flops=beams * linear,
        attention_flops=beams * (decode_step_flops(dims, seen) - linear),
        bytes=sizes.read_bytes
        + _cache_passes(request, kernels) * _kv_bytes(sizes, request, cached, generated, kernels),
        layers=dims.num_layers,
        beams=beams,
    )


def _cache_passes(request: Request, kernels: Kernels) -> int:
    """How often a step goes over the cache: in its attention, and each copy reads and writes it."""
    return kernels.cache_passes + 2 * (1 + (request.beams > 1)) * kernels.copies_cache


def held_kv_bytes(sizes: Sizes, request: Request, generated: float, kernels: Kernels) -> float:
    """Bytes of the keys and values of a request whose beams have `generated` tokens each, at the most."""
    cached = [rows + request.text_rows for rows in request.resolved.most_cached(request.span_rows)]
    return _kv_bytes(sizes, request, cached, generated, kernels)


def _kv_bytes(
    sizes: Sizes, request: Request, cached: Sequence[int], generated: float, kernels: Kernels
) -> float:
    """With `cached` rows of the prompt in each layer."""
    prompts = 1 if kernels.shared_prompt else request.beams
    prompt = kv_bytes(sizes.dims, cached, sizes.item_bytes)
    row = kv_bytes(sizes.dims, [1] * sizes.dims.num_layers, sizes.item_bytes)
    return prompts * prompt + request.beams * generated * row


def _layers(sizes: Sizes, request: Request) -> list[LayerRow]:
    return profile_table(request.resolved, sizes.dims, request.span_rows, request.text_rows, sizes.item_bytes)


def _prefill_flops(dims: DecoderDims, rows: list[LayerRow], kernels: Kernels) -> tuple[float, float]:
    """Of products with weights, and of the attention."""
    whole = rows if kernels.whole_last_layer else rows[:-1]
    count = prefill_flops(dims, [row.attention_rows for row in whole], [row.mlp_rows for row in whole])
    scores = sum(4 * row.attention_rows**2 * dims.query_width for row in whole)
    linear, attention = count - scores, scores / 2
    if not kernels.whole_last_layer:
        last = rows[-1].attention_rows
        linear += decode_step_flops(dims, [0]) - decode_step_flops(dims, [])  # one row, without the head
        linear += 4 * (last - 1) * dims.hidden_size * dims.kv_width
        attention += 4 * last * dims.query_width
    return linear, attention


def _layer_bytes(sizes: Sizes, row: LayerRow) -> float:
    """Activations of a layer, each read and written by every op that has it, and the cache it leaves.

    Norms, residual sums and projections move 8d + 3q + 4k numbers a row, the gated MLP 6m. Scores are
    computed block by block and stay in a cache.
    """
    dims = sizes.dims
    attention = 8 * dims.hidden_size + 3 * dims.query_width + 4 * dims.kv_width
    numbers = row.attention_rows * attention + row.mlp_rows * 6 * dims.intermediate_size
    return numbers * sizes.item_bytes + row.kv_bytes


def _score_bytes(sizes: Sizes, rows: int) -> float:
    """The scores of a causal attention."""
    return rows * rows / 2 * sizes.dims.num_heads * sizes.item_bytes
