"""The analytic cost of a reduced decoder, and the ratio that meets a FLOPs target.

FLOPs are twice the multiply-accumulates of the matrix products of the decoder, without the audio encoder.
Attention counts the whole square of scores (4 n^2 q, not halved for the causal mask), as tables of published
reductions do. Every number is an exact integer or fraction.
"""

from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction

from .errors import InfeasibleError, ProfileError
from .keys import KEPT
from .profile import Profile
from .schedule import (
    BEFORE_LAYERS,
    TokenCounts,
    has_start_layer,
    input_ratio,
    layer_ratios,
    removed,
    surely_removed,
    token_counts,
)

RATIO_GRID = 10**6  # solved ratios are multiples of one millionth
LARGEST_RATIO = Fraction(RATIO_GRID - 1, RATIO_GRID)


@dataclass(frozen=True)
class DecoderDims:
    """The sizes of a decoder that its cost depends on."""

    num_layers: int
    hidden_size: int
    num_heads: int
    num_kv_heads: int
    head_dim: int
    intermediate_size: int
    vocab_size: int

    @property
    def query_width(self) -> int:
        """Columns of all query heads together."""
        return self.num_heads * self.head_dim

    @property
    def kv_width(self) -> int:
        """Columns of all key heads together, equal to those of the value heads."""
        return self.num_kv_heads * self.head_dim


@dataclass(frozen=True)
class ResolvedProfile:
    """A profile fitted to one model: the ratio is known and spread over the layers."""

    profile: Profile
    ratio: Fraction
    ratios: tuple[Fraction, ...]  # one per layer: the share of its audio rows, or of its cache, it removes

    @property
    def name(self) -> str:
        """The name of the profile."""
        return self.profile.name

    @property
    def method(self) -> str:
        """The reduction method, one of `METHODS`."""
        return self.profile.method

    @property
    def reducing_layers(self) -> tuple[int, ...]:
        """Indices of the layers that reduce: those with a ratio above 0."""
        return tuple(layer for layer, ratio in enumerate(self.ratios) if ratio > 0)

    @property
    def input_ratio(self) -> Fraction:
        """The share of the audio rows that goes before the first layer."""
        return input_ratio(self.profile.schedule, self.ratio)

    @property
    def places(self) -> tuple[int, ...]:
        """Where rows are removed: `BEFORE_LAYERS`, if at the input, then the layers that reduce."""
        return (BEFORE_LAYERS,) * (self.input_ratio > 0) + self.reducing_layers

    @property
    def computed_places(self) -> tuple[int, ...]:
        """Those of `places` that graphs compute: not the last layer, whose rows nobody reads but one."""
        last = len(self.ratios) - 1
        return self.places if self.is_of_caches else tuple(place for place in self.places if place != last)

    @property
    def is_idle(self) -> bool:
        """Whether layers reduce, and graphs compute none of it: the last layer alone does."""
        return bool(self.reducing_layers) and not {*self.reducing_layers} & {*self.computed_places}

    def ratio_at(self, place: int) -> Fraction:
        """The share that one of the `places` removes, and 0 of any other layer."""
        return self.input_ratio if place == BEFORE_LAYERS else self.ratios[place]

    @property
    def is_of_caches(self) -> bool:
        """Whether the method shortens KV caches and leaves the rows of the prefill alone."""
        return self.profile.traits.is_of_caches

    @property
    def takes_row_weights(self) -> bool:
        """Whether the prefill needs the attention that the encoder's rows get."""
        return self.profile.traits.weighs_by_encoder and bool(self.places)

    @property
    def keeps_positions(self) -> bool:
        """Whether rows stay at the positions of the whole prompt, merged ones at the mean of theirs."""
        return self.profile.positions == KEPT

    @property
    def row_ratios(self) -> tuple[Fraction, ...]:
        """One a layer: the share of its audio rows that it does not hand on, 0 where caches alone shrink."""
        return (Fraction(0),) * len(self.ratios) if self.is_of_caches else self.ratios

    @property
    def has_static_lengths(self) -> bool:
        """Whether the token counts follow from the span alone, or depend on the data as well."""
        return not (self.profile.traits.is_data_dependent and self.places)

    def token_counts(self, span_rows: int) -> TokenCounts:
        """Rows of a span of `span_rows` audio rows in every layer; `sum(counts.cached)` is the KV budget."""
        return token_counts(span_rows, self.ratios, self.is_of_caches, self.input_ratio)

    def most_cached(self, span_rows: int) -> tuple[int, ...]:
        """Rows of a span that the cache of each layer keeps, or where the data decides the most of them."""
        return token_counts(
            span_rows, self.ratios, self.is_of_caches, self.input_ratio, self.least_removed
        ).cached

    def least_removed(self, rows: int, ratio: Fraction) -> int:
        """What a reduction of a span removes, or where the data decides the least of it."""
        return (removed if self.has_static_lengths else surely_removed)(rows, ratio)


@dataclass(frozen=True)
class LayerRow:
    """One decoder layer in the table of a profile; rows are audio and text together."""

    layer: int
    ratio: Fraction
    attention_rows: int  # rows that enter the layer
    mlp_rows: int  # rows after the reduction of this layer
    cached_rows: int  # rows that its KV cache keeps
    flops: int
    kv_bytes: int


def layer_flops(dims: DecoderDims, attention_rows: int, mlp_rows: int) -> int:
    """FLOPs of one layer: 2nd(q + 2k) + 2nqd + 4n^2 q + 6n'dm, n rows in attention and n' in the MLP."""
    n, d, q, k = attention_rows, dims.hidden_size, dims.query_width, dims.kv_width
    projections = 2 * n * d * (q + 2 * k) + 2 * n * q * d
    return projections + 4 * n * n * q + 6 * mlp_rows * d * dims.intermediate_size


def prefill_flops(dims: DecoderDims, attention_rows: Sequence[int], mlp_rows: Sequence[int]) -> int:
    """FLOPs of the prefill: every layer over its rows (audio and text), and the head over the last row.

    As the published tables count them; of the last layer graphs compute all but keys and values for one row.
    """
    layers = (layer_flops(dims, n, left) for n, left in zip(attention_rows, mlp_rows, strict=True))
    return sum(layers) + _head_flops(dims)


def decode_step_flops(dims: DecoderDims, cache_lengths: Sequence[int]) -> int:
    """FLOPs of one decode step of one beam: sum of 2d(2q + 2k) + 4qc + 6dm, and the head.

    `cache_lengths` holds c for every layer: the positions that the new token attends to, itself included.
    """
    d, q, k = dims.hidden_size, dims.query_width, dims.kv_width
    fixed = 2 * d * (2 * q + 2 * k) + 6 * d * dims.intermediate_size
    return sum(fixed + 4 * q * length for length in cache_lengths) + _head_flops(dims)


def kv_bytes(dims: DecoderDims, cache_lengths: Sequence[int], itemsize: int) -> int:
    """Bytes of the keys and values of all layers, `itemsize` bytes an element: 2 * itemsize * k * sum(c)."""
    return 2 * itemsize * dims.kv_width * sum(cache_lengths)


def scoring_flops(dims: DecoderDims, rows: int) -> int:
    """FLOPs of the column sums of one merging layer beside a fused attention: one more QK^T, 2n^2 q.

    Not part of `prefill_flops` and of the reduction, which compare decoders as the published tables do.
    """
    return 2 * rows * rows * dims.query_width


def flops_reduction(
    dims: DecoderDims,
    span_rows: int,
    text_rows: int,
    ratios: Sequence[Fraction],
    input_share: Fraction = Fraction(0),
) -> Fraction:
    """The share of the prefill FLOPs that `ratios` remove: 1 - F_reduced / F_full, decoder only.

    Before the first layer `input_share` of the rows goes.

    The ratios are shares of the rows that layers hand on: a method that shortens caches alone has none.
    """
    full = token_counts(span_rows, [Fraction(0)] * len(ratios))
    reduced = token_counts(span_rows, ratios, input_ratio=input_share)
    return 1 - Fraction(_prompt_flops(dims, reduced, text_rows), _prompt_flops(dims, full, text_rows))


def resolve(
    profile: Profile, dims: DecoderDims, span_rows: int, other_rows: int | None = None
) -> ResolvedProfile:
    """Fit `profile` to a model: find its ratio, where it names a FLOPs target, and spread it over the layers.

    `span_rows` are the rows that it may reduce of the audio that `profile.reference_audio_seconds` make in
    this model, `other_rows` all others, `profile.reference_text_tokens` if None; only a FLOPs target uses
    them. For `a_tome` the target is met by the fewest rows that can be left.

    Raises:
        InfeasibleError: a target that the model cannot reach, or a slope over none of its layers.
        ProfileError: a start layer that it lacks.
    """
    if not profile.traits.reduces:
        return ResolvedProfile(profile, Fraction(0), (Fraction(0),) * dims.num_layers)
    try:
        others = profile.reference_text_tokens if other_rows is None else other_rows
        ratio = profile.ratio if profile.ratio is not None else _solve(profile, dims, span_rows, others)
        return ResolvedProfile(profile, ratio, _ratios(profile, ratio, dims))
    except ProfileError as error:
        raise type(error)(f"profile {profile.name!r}: {error}") from error


def profile_table(
    resolved: ResolvedProfile, dims: DecoderDims, span_rows: int, text_rows: int, itemsize: int
) -> list[LayerRow]:
    """Rows, FLOPs and KV bytes of every layer, for `span_rows` audio rows and `text_rows` text rows."""
    rows = zip(resolved.ratios, *_rows(resolved.token_counts(span_rows), text_rows), strict=True)
    return [
        LayerRow(layer, ratio, n, left, kept, layer_flops(dims, n, left), kv_bytes(dims, [kept], itemsize))
        for layer, (ratio, n, left, kept) in enumerate(rows)
    ]


def _solve(profile: Profile, dims: DecoderDims, span_rows: int, other_rows: int) -> Fraction:
    """The smallest ratio of the grid whose reduction reaches the target of `profile`.

    A row count never grows with the ratio, so the reduction is a rising staircase and bisection is exact.
    """
    target = profile.flops_reduction
    assert target is not None  # a profile has a ratio or a target

    def reduction(step: int) -> Fraction:
        ratio = Fraction(step, RATIO_GRID)
        at_input = input_ratio(profile.schedule, ratio)
        return flops_reduction(dims, span_rows, other_rows, _ratios(profile, ratio, dims), at_input)

    step = bisect_left(range(RATIO_GRID), target, key=reduction)
    if step == RATIO_GRID:
        raise InfeasibleError(_infeasible(profile, span_rows, other_rows, reduction(RATIO_GRID - 1)))
    return Fraction(step, RATIO_GRID)


def _infeasible(profile: Profile, span_rows: int, other_rows: int, most: Fraction) -> str:
    target = float(100 * (profile.flops_reduction or 0))
    reachable = most * 10_000 // 1 / 100  # rounded down, so that asking for it succeeds
    starts = has_start_layer(profile.schedule)
    return (
        f"flops_reduction_percent {target:g} is infeasible, at most {reachable:.2f} % "
        f"(schedule {profile.schedule!r}{f' from start_layer {profile.start_layer}' if starts else ''}, "
        f"{span_rows} audio rows and {other_rows} text rows): "
        f"lower the target{' or start earlier' if starts else ''}"
    )


def _ratios(profile: Profile, ratio: Fraction, dims: DecoderDims) -> tuple[Fraction, ...]:
    return layer_ratios(profile.schedule, profile.start_layer, ratio, dims.num_layers)


def _prompt_flops(dims: DecoderDims, counts: TokenCounts, text_rows: int) -> int:
    attention, mlp, _ = _rows(counts, text_rows)
    return prefill_flops(dims, attention, mlp)


def _rows(counts: TokenCounts, text_rows: int) -> tuple[list[int], list[int], list[int]]:
    """Rows of the whole prompt (audio and text) in attention, MLP and KV cache of every layer."""
    attention, mlp, cached = (
        [rows + text_rows for rows in column] for column in (counts.attention, counts.mlp, counts.cached)
    )
    return attention, mlp, cached


def _head_flops(dims: DecoderDims) -> int:
    return 2 * dims.hidden_size * dims.vocab_size
