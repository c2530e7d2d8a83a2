"""The memory of a request before it starts: an upper bound of what it adds to a loaded model.

Each part counts the tensors that are in memory at once when it needs most, from what the graphs compute.
Sessions keep the working memory of their largest run, so the parts add up. Weights are no part of it.
So with several requests at once all of them take at most the sum of their bounds; what a batch was given it
keeps until its last member leaves, as if those that left before were still there.
`bench/request_memory.py` compares the bound with measured peaks.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from ...plugins.causal_attention.op import QUERY_CHUNK, summed_ends
from ...plugins.gated_mlp.op import ROW_CHUNK
from ...profiles.flops import DecoderDims, ResolvedProfile, kv_bytes
from ..audio.clip_features import ClipFeatures
from ..audio.features import Features, encoder_rows
from ..audio.front_end import FrontEnd
from ..audio.log_mel import CHUNK_FRAMES, WINDOW, LogMelConfig
from ..audio.tower_dims import EncoderDims, TowerDims
from ..audio.wave_windows import WaveWindows
from ..batching.classes import class_of
from ..decoding.answer_sizes import AnswerSizes
from ..decoding.pool_buckets import capacity_for

FLOAT, DOUBLE, COMPLEX = 4, 8, 8  # bytes
SAMPLE_COPIES = 4  # decoded blocks, their sum, what the request holds, what a session takes
ROW_COPIES = 3  # of audio rows: those of the windows, of the span, and what a session takes
POOL_COPIES = 3  # the pool, the grown one, and a hole of its size that it no longer fits in
BUCKET_COPIES = 2  # of a pool with room: the one that is written to, and what it has grown out of
OTHERS = 4 << 20  # bytes of Python objects, masks and small tensors
WAVE_CHUNK = 256  # rows whose features are computed at once
SHAPE_BYTES = 3 << 20
"""What OpenVINO keeps of the products that it makes for one number of rows: measured are 0.68 MB for each of
2 with scores, 0.57 MB of which are its own descriptions of them, and 0.16 MB for each of 7 with weights."""


@dataclass(frozen=True)
class ModelSizes:
    """What of a model the memory of its requests depends on."""

    decoder: DecoderDims
    front_end: FrontEnd
    tower: TowerDims
    quantized: bool = False  # then the wide layers of a prefill are not computed in chunks
    prefix_item: int = FLOAT  # bytes of one number of the prompt's keys and values
    pool_item: int = FLOAT
    in_place: bool = False  # whether pools have room for more rows, and steps write into it
    shares_steps: bool = False  # whether requests may be decoded together
    unrolled: bool = False  # whether a prefill has no Loops: wide layers and summed scores are there whole
    keeps_looks: bool = False  # whether a request keeps where each of its rows looks
    weighs_rows: bool = False  # whether the encoder says how much attention its rows get
    planned: bool = False  # whether working memory was taken when the model was loaded, as engines do


@dataclass(frozen=True)
class RequestMemory:
    """Bytes by stage; each is the most of it."""

    audio: int = 0  # samples and log-mel frames
    encoder: int = 0
    prefill: int = 0  # but for the keys and values that it leaves
    prefix: int = 0  # keys and values of the prompt
    pool: int = 0  # of what is generated, without its copies
    steps: int = 0  # the copies of the pool, scores and logits
    batch: int = 0  # what it takes beyond that if it is decoded together with larger ones of its class

    @property
    def kv_cache(self) -> int:
        """Keys and values alone."""
        return self.prefix + self.pool

    @property
    def peak(self) -> int:
        """All of it."""
        parts = self.audio, self.encoder, self.prefill, self.prefix, self.pool, self.steps, self.batch
        return sum(parts) + OTHERS


def encoding_memory(model: ModelSizes, samples: int) -> RequestMemory:
    """What hearing so many samples takes, until their rows are there."""
    config, rows = model.front_end.log_mel, model.front_end.decoder_rows(samples)
    whole = FLOAT * ROW_COPIES * rows * model.front_end.window_width(model.decoder.hidden_size)
    encoder = whole if model.planned else whole + _window_bytes(model, config, samples)
    if model.tower.wave and model.front_end.wave and not model.planned:
        wave_rows = model.front_end.wave.rows_of(samples)
        encoder += _wave_bytes(model.tower.wave, model.tower.wave_channels, samples, wave_rows)
    return RequestMemory(audio=FLOAT * SAMPLE_COPIES * samples + _mel_bytes(config, samples), encoder=encoder)


def request_memory(
    model: ModelSizes, profile: ResolvedProfile, samples: int, sizes: AnswerSizes, encoded: bool = False
) -> RequestMemory:
    """What a whole request takes.

    Args:
        model: its sizes.
        profile: how it is reduced; where lengths depend on the data, as if nothing were.
        samples: of the audio, at the rate of the model.
        sizes: text, beams and new tokens, and a text to score.
        encoded: whether the audio was encoded before, which is then no part of the request.
    """
    heard = RequestMemory() if encoded else encoding_memory(model, samples)
    layers = _layer_rows(model, profile, samples, sizes.text_rows)
    at_input = _input_bytes(model, profile, samples, sizes.text_rows)
    prefill = max(at_input, _prefill_bytes(model, layers, any(profile.ratios)))
    cached = [row.cached for row in layers]
    rows = sizes.step_rows * sizes.steps
    pool, longest = _pool_bytes(model, rows), max(cached)
    steps = _pool_with_copies(model, rows) - pool + _step_bytes(model, longest, rows, sizes.step_rows)
    steps += FLOAT * rows * longest if model.keeps_looks else 0
    return RequestMemory(
        audio=heard.audio,
        encoder=heard.encoder,
        prefill=0 if model.planned else prefill + _evicted_bytes(model, profile, layers),
        prefix=kv_bytes(model.decoder, cached, model.prefix_item),
        pool=pool,
        steps=steps,
        batch=_batch_bytes(model, longest, sizes, steps + pool) if model.shares_steps else 0,
    )


@dataclass(frozen=True)
class _LayerRows:
    attention: int
    mlp: int
    cached: int


def _layer_rows(
    model: ModelSizes, profile: ResolvedProfile, samples: int, text_rows: int
) -> list[_LayerRows]:
    """Rows of the prompt, audio and text, in every layer."""
    span, others = _prompt_rows(model, profile, samples, text_rows)
    if not profile.has_static_lengths:
        return [_LayerRows(*[span + others] * 3)] * model.decoder.num_layers
    counts = profile.token_counts(span)
    columns = zip(counts.attention, counts.mlp, counts.cached, strict=True)
    return [_LayerRows(*(rows + others for rows in row)) for row in columns]


def _prompt_rows(
    model: ModelSizes, profile: ResolvedProfile, samples: int, text_rows: int
) -> tuple[int, int]:
    """Rows of the prompt that may be reduced, and all others."""
    return model.front_end.parted(model.front_end.decoder_rows(samples), text_rows, profile.profile)


def _input_bytes(model: ModelSizes, profile: ResolvedProfile, samples: int, text_rows: int) -> int:
    """Of a reduction before the layers: as in a layer, where rows are compared by all of their numbers."""
    if not profile.input_ratio:
        return 0
    rows = sum(_prompt_rows(model, profile, samples, text_rows))
    compared = FLOAT * rows * 9 * model.decoder.hidden_size
    return compared + _group_bytes(model, rows) * profile.profile.traits.selects_groups


def _group_bytes(model: ModelSizes, rows: int) -> int:
    """Of groups that are selected: rows in float64, and factors of each one chosen, while they grow."""
    return DOUBLE * rows * (8 * model.decoder.hidden_size + 3 * rows)


def _evicted_bytes(model: ModelSizes, profile: ResolvedProfile, layers: Sequence[_LayerRows]) -> int:
    """Of caches from which rows are evicted: what is kept lies in the gaps that whole ones left.

    Measured at 240 and 300 s, where the gaps of one layer no longer fit the whole cache of the next.
    """
    if not profile.is_of_caches:
        return 0
    return kv_bytes(model.decoder, [row.attention - row.cached for row in layers], model.pool_item)


def _mel_bytes(config: Features, samples: int) -> int:
    """Samples padded, frames in the Fourier domain a chunk at a time, powers in stages: of one window.

    Or of all of them, where their frames are those of the clip; or of the whole clip, with its rows.
    """
    if isinstance(config, WaveWindows):  # the clip, and what levels it; a window, and its columns
        return FLOAT * (4 * samples + 2 * config.num_mel_bins * _frames(config, samples))
    heard, bins = config.heard_samples(samples), config.n_fft // 2 + 1
    chunk = CHUNK_FRAMES * (2 * FLOAT * config.n_fft + (COMPLEX + 3 * FLOAT) * bins)
    if isinstance(config, ClipFeatures):
        padded = min(heard, config.window_samples)
        numbers = 5 * config.num_bands * config.frames_of_samples(heard)
        numbers += 4 * config.num_mel_bins * config.rows_of_samples(heard)
    else:
        windows = 1 if config.extent == WINDOW else -(-heard // config.window_samples)
        copies = 1 if config.extent == WINDOW else 2  # with the silence that counts as audio
        padded = copies * min(heard, windows * config.window_samples)
        numbers = 5 * config.num_mel_bins * windows * _frames(config, heard)
    return FLOAT * (padded + config.n_fft + numbers) + chunk


def _rows(config: Features, samples: int) -> int:
    """Encoder rows of the longest window."""
    heard = config.heard_samples(samples)
    if config.full_windows or heard >= config.window_samples:
        return config.max_rows
    return encoder_rows(heard, config)


def _frames(config: Features, samples: int) -> int:
    return config.frames_of(_rows(config, samples))


def _window_bytes(model: ModelSizes, config: Features, samples: int) -> int:
    """Of one window: convolutions, then layers, tiles of scores of each thread or scores of all blocks."""
    dims, wide = model.tower.window, 5 if model.quantized else 3  # rounding takes magnitudes and integers
    rows, frames, width = _rows(config, samples), _frames(config, samples), dims.hidden_size
    if dims.numbers_per_row is not None:
        return FLOAT * (frames * dims.numbers_per_row + dims.fixed_numbers)
    convolved = frames * (3 * config.num_mel_bins + 2 * width) + 5 * rows * width
    if dims.image_channels and isinstance(config, LogMelConfig):
        # the first convolution halves bins and frames, in and out of its GELU
        chunks = -(-frames // config.chunk_frames)
        convolved += chunks * dims.image_channels * config.num_mel_bins * config.chunk_frames * 3 // 4
    attention = 7 * rows * width + 2 * rows * rows  # as much as one head has is room for all tiles
    if model.quantized:  # some round them: scores of a chunk as numbers, shares and integers, of all heads
        attention = max(attention, 11 * rows * width + 3 * dims.num_heads * QUERY_CHUNK * rows)
    if model.weighs_rows:  # scores of a head before and after the softmax, the largest of all, what is pooled
        attention += 4 * rows * rows
    if block := dims.attention_rows:
        filled = -(-rows // block) * block
        attention = (7 * rows + 5 * filled) * width + 3 * dims.num_heads * filled * block
    mlp = rows * (3 * width + wide * dims.intermediate_size)
    return FLOAT * max(convolved, attention, mlp)


def _wave_bytes(dims: EncoderDims, channels: int, samples: int, rows: int) -> int:
    """Moments of the samples in float64, features a chunk at a time, layers over the whole wave at once."""
    moments = 16 * FLOAT * samples
    features = FLOAT * (2 * channels * 2 * WAVE_CHUNK * 64 + 2 * rows * channels)
    bias = dims.num_heads * QUERY_CHUNK * 2 * rows * FLOAT + QUERY_CHUNK * 2 * rows * COMPLEX * 3
    layers = FLOAT * rows * (9 * dims.hidden_size + 2 * dims.intermediate_size)
    return moments + features + bias + layers


def _prefill_bytes(model: ModelSizes, layers: Sequence[_LayerRows], reduces: bool) -> int:
    """Of the layer that takes most; and keys and values before they are narrowed, which may be at the end."""
    narrowed = model.prefix_item < model.pool_item
    wide = kv_bytes(model.decoder, [row.cached for row in layers], model.pool_item) if narrowed else 0
    if model.unrolled and reduces:
        wide += _summed_bytes(model.decoder, max(row.attention for row in layers))
    return wide + max(_layer_bytes(model, row) for row in layers)


def _summed_bytes(dims: DecoderDims, rows: int) -> int:
    """Of a prefill by OpenVINO that sums columns: scores, and the products that are made for new shapes.

    Chunks of queries take turns in the memory of two tensors of scores in float32 (a third one is room for
    other orders of layers), each as large as the largest chunk. Products are kept with their shapes: every
    layer may have a number of rows that was not met before, and so may every chunk.
    """
    ends = summed_ends(rows)
    scores = max((end - start) * end for start, end in zip([0, *ends], ends, strict=False))
    return 3 * FLOAT * dims.num_heads * scores + SHAPE_BYTES * (dims.num_layers + len(ends))


def _layer_bytes(model: ModelSizes, rows: _LayerRows) -> int:
    """Of one layer: its attention, what is merged after it, or its MLP; and the scores of the last row."""
    dims = model.decoder
    hidden, queries, keys = dims.hidden_size, dims.query_width, dims.kv_width
    chunk = 3 * dims.num_heads // dims.num_kv_heads * QUERY_CHUNK * (rows.attention + QUERY_CHUNK)
    attention = rows.attention * (2 * hidden + 4 * queries + 4 * keys) + chunk
    merging = rows.attention * (6 * hidden + 3 * keys)
    wide = rows.mlp if model.quantized or model.unrolled else ROW_CHUNK
    mlp = 4 * rows.mlp * hidden + (7 if model.unrolled else 5) * wide * dims.intermediate_size
    return FLOAT * (max(attention, merging, mlp) + 5 * dims.vocab_size)


def _pool_bytes(model: ModelSizes, rows: int) -> int:
    return kv_bytes(model.decoder, [rows] * model.decoder.num_layers, model.pool_item)


def _pool_with_copies(model: ModelSizes, rows: int) -> int:
    if not model.in_place:
        return POOL_COPIES * _pool_bytes(model, rows)
    return BUCKET_COPIES * _pool_bytes(model, capacity_for(rows))


def _batch_bytes(model: ModelSizes, longest: int, sizes: AnswerSizes, alone: int) -> int:
    """A row of buffers for the largest of its class, beside the prefix that is copied there and what steps
    take `alone`; and the same of a single array, while it is replaced by a larger one.
    """
    largest, layers = class_of(longest, sizes.step_rows, sizes.steps), model.decoder.num_layers
    prefix = kv_bytes(model.decoder, [largest.prefix] * layers, model.prefix_item)
    pool = _pool_with_copies(model, largest.pool)
    steps = _step_bytes(model, largest.prefix, largest.pool, largest.beams)
    return prefix + prefix // (2 * layers) + pool + steps - alone


def _step_bytes(model: ModelSizes, longest: int, pool: int, beams: int) -> int:
    """Scores of all heads on prefix and pool, the wide layer, logits; a layer's prefix if widened."""
    if model.planned:
        return 0
    dims, keys = model.decoder, longest + pool
    rows = 3 * dims.num_heads * keys + 8 * dims.hidden_size + 6 * dims.intermediate_size + 5 * dims.vocab_size
    widened = 2 * longest * dims.kv_width if model.prefix_item < model.pool_item else 0
    return FLOAT * (beams * rows + widened)
