"""Names, dtypes and axes of every tensor that enters or leaves a graph, for exporter and runtime alike.

An axis is a number or the name of a dynamic axis. Those of keys and values are in KV layout (`kv_layout.py`).
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from .flops import DecoderDims, ResolvedProfile
from .kv_layout import kv_shape

MEL = "mel"
ENCODER_ROWS = "encoder_rows"
AUDIO_EMBEDS = "audio_embeds"
ROW_WEIGHTS = "row_weights"
"""What the encoder says of each row of `AUDIO_EMBEDS`, of artifacts with a profile that asks for it: how much
attention it gets in the last layer, and how much it pays to itself. The most of all heads; means over the
encoder's rows that it stands for.
"""
NUM_ROW_WEIGHTS = 2
WAVE = "wave"
WINDOW_EMBEDS = "window_embeds"
PREFIX_IDS = "prefix_ids"
SUFFIX_IDS = "suffix_ids"
NUM_CANDIDATES = "num_candidates"
TOKEN_IDS = "token_ids"
PREFIX_LENGTHS = "prefix_lengths"
"""Rows of each request's prefix that are in use in each layer."""
STEPS = "steps"
"""Rows that each request has generated so far, which is their number, whatever the pool still holds."""
STEP = "step"
POOL_MASK = "pool_mask"
POOL_ROWS = "pool_rows"
"""Rows of the pool that are in use, where a step writes its own behind them, in place."""
TOP_LOGITS = "top_logits"
TOP_IDS = "top_ids"
LOG_SUM_EXP = "log_sum_exp"
ADAPTER_IDS = "adapter_ids"
LORA_SCALE = "lora_scale"
ROPE_ALPHA = "rope_alpha"
"""By what the rotary base of a request grows; of models with dynamic NTK."""
ROWS_BEFORE_EVICTION = "rows_before_eviction"
"""Rows that each cache had before rows were evicted from it, 0 where none were; of models with log-n."""

FRAMES = "frames"
AUDIO = "audio"
SAMPLES = "samples"
WINDOW_ROWS = "window_rows"
TEXT_BEFORE = "text_before"
TEXT_AFTER = "text_after"
CANDIDATES = "candidates"
REQUESTS = "requests"
BEAMS = "beams"
BEAM_ROWS = "beam_rows"
POOL = "pool"
POOL_GROWN = "pool_grown"
TEXT = "text"
"""Dynamic axes, beside one of `prefix_axis` in each layer."""

FLOAT, HALF, INT64, BOOL = "float32", "float16", "int64", "bool"
ACTIVATION = "activation"
"""The number format of the graph: float32, or what an engine was built in."""


@dataclass(frozen=True)
class TensorSpec:
    """One input or output of a graph."""

    name: str
    dtype: str
    axes: tuple[int | str, ...]


@dataclass(frozen=True)
class Signature:
    """The inputs and outputs of one graph, in order."""

    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]


def prefix_axis(layer: int) -> str:
    """Rows of the prompt in the cache of one layer, as an axis."""
    return f"prefix_{layer}"


WORD_ATTENTION = "word_attention"


@dataclass(frozen=True)
class WordHeads:
    """Heads of one layer that look at where a word begins as they are about to write it."""

    layer: int
    heads: tuple[int, ...]

    def tensor(self, requests: int | str, beams: int | str) -> TensorSpec:
        """The output with the shares of their attention that rows of the prompt get, as a mean over them."""
        return TensorSpec(WORD_ATTENTION, FLOAT, (requests, beams, prefix_axis(self.layer)))


def word_head_faults(told: WordHeads, dims: DecoderDims) -> Iterator[str]:
    """What a decoder of these sizes has no such heads for."""
    if not 0 <= told.layer < dims.num_layers:
        yield f"word_heads: there is no layer {told.layer}; give one of 0 to {dims.num_layers - 1}"
    if not told.heads:
        yield "word_heads: there is no head; give at least one"
    if twice := sorted({head for head in told.heads if told.heads.count(head) > 1}):
        yield f"word_heads: head {', '.join(map(str, twice))} is there twice; give each once"
    if unknown := [head for head in told.heads if not 0 <= head < dims.num_heads]:
        yield (
            f"word_heads: there is no head {', '.join(map(str, unknown))} in a layer; give those of 0 to "
            f"{dims.num_heads - 1}"
        )


def prefix_key(layer: int) -> str:
    """Keys of the prompt in one layer, rotated: the prefix rows of this layer."""
    return f"prefix_key.{layer}"


def prefix_value(layer: int) -> str:
    """Values of the prompt in one layer: the prefix rows of this layer."""
    return f"prefix_value.{layer}"


ROW_SOURCES = "row_sources."


def row_sources(place: int) -> str:
    """Where the rows come from that one reduction leaves, of artifacts that tell it; `place` as in
    `ResolvedProfile.places`.

    Of a method that merges the mean of the places, among the rows of this layer, of those that became one;
    of one that selects among groups, the first and the last place of each; of others the place of each row
    that is left.
    """
    return f"{ROW_SOURCES}{place}"


def pool_key(layer: int) -> str:
    """Keys of the generated rows of all beams in one layer, rotated: the pool."""
    return f"pool_key.{layer}"


def pool_value(layer: int) -> str:
    """Values of the generated rows of all beams in one layer: the pool."""
    return f"pool_value.{layer}"


def grown(name: str) -> str:
    """The output that holds a pool tensor after this step's rows were appended."""
    return f"{name}.grown"


def new_key(layer: int) -> str:
    """The output that holds the keys which a step of several requests makes in one layer, rotated."""
    return f"new_key.{layer}"


def new_value(layer: int) -> str:
    """The output that holds the values which a step of several requests makes in one layer."""
    return f"new_value.{layer}"


def cache_names(layer: int) -> tuple[str, str, str, str]:
    """All keys and values that one layer reads in a decode step."""
    return prefix_key(layer), prefix_value(layer), pool_key(layer), pool_value(layer)


def row_weights() -> TensorSpec:
    """What encoders say of their rows, and prefills take."""
    return TensorSpec(ROW_WEIGHTS, FLOAT, (AUDIO, NUM_ROW_WEIGHTS))


def encoder_signature(num_mel_bins: int, width: int, weighs_rows: bool = False) -> Signature:
    """One window of audio: log-mel frames in, rows out; of the decoder, or what a wave encoder takes.

    With `weighs_rows` the attention that they get comes out, too.
    """
    weights = (row_weights(),) if weighs_rows else ()
    return Signature(
        inputs=(
            TensorSpec(MEL, FLOAT, (num_mel_bins, FRAMES)),
            TensorSpec(ENCODER_ROWS, INT64, (1,)),
        ),
        outputs=(TensorSpec(AUDIO_EMBEDS, ACTIVATION, (AUDIO, width)), *weights),
    )


def wave_encoder_signature(window_width: int, hidden_size: int) -> Signature:
    """A whole clip: its samples and the rows of all its windows in, decoder rows out."""
    return Signature(
        inputs=(
            TensorSpec(WAVE, FLOAT, (SAMPLES,)),
            TensorSpec(WINDOW_EMBEDS, ACTIVATION, (WINDOW_ROWS, window_width)),
        ),
        outputs=(TensorSpec(AUDIO_EMBEDS, ACTIVATION, (AUDIO, hidden_size)),),
    )


def lora_scale(dims: DecoderDims) -> TensorSpec:
    """The strength of every LoRA, by output channel, which the prompt decides."""
    return TensorSpec(LORA_SCALE, ACTIVATION, (dims.hidden_size,))


def prompt_adapter_signature(dims: DecoderDims) -> Signature:
    """The text of a request to the strength of every LoRA."""
    return Signature(inputs=(TensorSpec(ADAPTER_IDS, INT64, (TEXT,)),), outputs=(lora_scale(dims),))


def row_maps(dims: DecoderDims, resolved: ResolvedProfile) -> tuple[TensorSpec, ...]:
    """What the prefill of a profile says of the rows that it leaves, a tensor for each reduction."""
    axes: tuple[int | str, ...] = (2,) if resolved.profile.traits.selects_groups else ()
    if resolved.is_of_caches:
        axes = (dims.num_kv_heads,)
    return tuple(TensorSpec(row_sources(i), FLOAT, (*axes, f"left_{i}")) for i in resolved.computed_places)


def prefill_signature(
    dims: DecoderDims,
    request_inputs: Sequence[TensorSpec] = (),
    prefix_type: str = ACTIVATION,
    maps: Sequence[TensorSpec] = (),
    word_heads: WordHeads | None = None,
    takes_row_weights: bool = False,
) -> Signature:
    """The whole prompt: scores of the first token and the prefix of every layer.

    `request_inputs` are those that a request has the same in its prefill and in all of its steps.
    `prefix_type` is what keys and values of the prompt are kept in. `maps` are those of `row_maps`, where the
    artifact tells them, and `word_heads` those whose attention it tells. With `takes_row_weights` rows of
    audio come with what the encoder says of them.
    """
    weights = (row_weights(),) if takes_row_weights else ()
    prefix = [
        TensorSpec(name, prefix_type, kv_shape(dims, prefix_axis(layer)))
        for layer in range(dims.num_layers)
        for name in (prefix_key(layer), prefix_value(layer))
    ]
    return Signature(
        inputs=(
            TensorSpec(PREFIX_IDS, INT64, (TEXT_BEFORE,)),
            TensorSpec(AUDIO_EMBEDS, ACTIVATION, (AUDIO, dims.hidden_size)),
            *weights,
            TensorSpec(SUFFIX_IDS, INT64, (TEXT_AFTER,)),
            TensorSpec(NUM_CANDIDATES, INT64, (1,)),
            *request_inputs,
        ),
        outputs=(*_scores(1), *prefix, *maps, *((word_heads.tensor(1, 1),) if word_heads else ())),
    )


def decode_signature(
    dims: DecoderDims,
    request_inputs: Sequence[TensorSpec] = (),
    prefix_type: str = ACTIVATION,
    in_place: bool = False,
) -> Signature:
    """One step of all beams: scores of their next tokens and the pool with their rows appended.

    `pool_mask[i, j]` tells whether beam i sees row j of the grown pool: its ancestors and itself.
    `request_inputs` are those of `prefill_signature`, and those that only steps take; `prefix_type` is that
    of `prefill_signature`, and the pool is in the number format of the graph. With `in_place` the pool has
    room for the new rows, which are written behind those in use, so that its size stays.
    """
    grown_axis = POOL if in_place else POOL_GROWN
    in_use = (TensorSpec(POOL_ROWS, INT64, (1,)),) if in_place else ()
    prefix, pool, pool_grown = [], [], []
    for layer in range(dims.num_layers):
        for name in (prefix_key(layer), prefix_value(layer)):
            prefix.append(TensorSpec(name, prefix_type, kv_shape(dims, prefix_axis(layer))))
        for name in (pool_key(layer), pool_value(layer)):
            pool.append(TensorSpec(name, ACTIVATION, kv_shape(dims, POOL)))
            pool_grown.append(TensorSpec(grown(name), ACTIVATION, kv_shape(dims, grown_axis)))
    return Signature(
        inputs=(
            TensorSpec(TOKEN_IDS, INT64, (BEAMS,)),
            TensorSpec(STEP, INT64, (1,)),
            TensorSpec(POOL_MASK, BOOL, (BEAMS, grown_axis)),
            *in_use,
            TensorSpec(NUM_CANDIDATES, INT64, (1,)),
            *request_inputs,
            *prefix,
            *pool,
        ),
        outputs=(*_scores(BEAMS), *pool_grown),
    )


def step_signature(
    dims: DecoderDims,
    request_inputs: Sequence[TensorSpec] = (),
    prefix_type: str = ACTIVATION,
    word_heads: WordHeads | None = None,
) -> Signature:
    """One step of several requests, or of one: scores of their next tokens, and the rows that they add.

    Prefixes and pools are buffers of fixed capacity, a row of them for each request (KV layout behind an axis
    of requests). The rows of a step come out alone, and who owns the buffers writes them behind those in use:
    nothing of a cache is copied. Every request has as many beams as the one with the most; what comes of
    those that it lacks means nothing. `pool_mask[r, i, j]` tells whether beam i of request r sees row j of
    its pool: its ancestors; its own row it sees in any case. `request_inputs` and `prefix_type` are as in
    `decode_signature`; all requests of a step have the same of the former. `word_heads` are as in
    `prefill_signature`.

    The optimization profile of an engine has requests, beams and capacities as its dynamic axes.
    onnxruntime-cuda, whose graph writes into the pool itself, takes the same capacities for that of one
    request (`in_place` of `decode_signature`).
    """
    prefix, pool, new = [], [], []
    for layer in range(dims.num_layers):
        for name in (prefix_key(layer), prefix_value(layer)):
            prefix.append(TensorSpec(name, prefix_type, (REQUESTS, *kv_shape(dims, prefix_axis(layer)))))
        for name in (pool_key(layer), pool_value(layer)):
            pool.append(TensorSpec(name, ACTIVATION, (REQUESTS, *kv_shape(dims, POOL))))
        for name in (new_key(layer), new_value(layer)):
            new.append(TensorSpec(name, ACTIVATION, (REQUESTS, *kv_shape(dims, BEAMS))))
    return Signature(
        inputs=(
            TensorSpec(TOKEN_IDS, INT64, (REQUESTS, BEAMS)),
            TensorSpec(PREFIX_LENGTHS, INT64, (dims.num_layers, REQUESTS)),
            TensorSpec(STEPS, INT64, (REQUESTS,)),
            TensorSpec(POOL_MASK, BOOL, (REQUESTS, BEAMS, POOL)),
            TensorSpec(NUM_CANDIDATES, INT64, (1,)),
            *request_inputs,
            *prefix,
            *pool,
        ),
        outputs=(
            *_scores(BEAM_ROWS),
            *new,
            *((word_heads.tensor(REQUESTS, BEAMS),) if word_heads else ()),
        ),
    )


def _scores(rows: int | str) -> tuple[TensorSpec, ...]:
    """Raw logits of the best tokens in falling order, and what turns them into log-probabilities."""
    return (
        TensorSpec(TOP_LOGITS, FLOAT, (rows, CANDIDATES)),
        TensorSpec(TOP_IDS, INT64, (rows, CANDIDATES)),
        TensorSpec(LOG_SUM_EXP, FLOAT, (rows,)),
    )
