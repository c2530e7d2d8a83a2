"""Optimization profiles: the shapes that an engine is built for, derived from the tensor signature."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Mapping
from dataclasses import dataclass

from ...profiles import signature as sig
from ...profiles.errors import EngineError
from ...profiles.flops import DecoderDims
from ...profiles.signature import Signature
from ...runtime.audio.clip_features import ClipFeatures
from ...runtime.audio.front_end import FrontEnd
from ...runtime.audio.log_mel import LogMelConfig
from ...runtime.audio.wave_windows import WaveWindows
from ...runtime.batching.classes import rounded_up
from ...runtime.decoding.pool_buckets import SMALLEST, capacity_for
from ..model.fit import decoder_rows
from ..model.spec import SpeechModelSpec
from ..options import LEAST_AUDIO_SECONDS, EngineOptions
from .messages import OptimizationProfile

LARGEST_TOP_K = 3840  # TensorRT's own limit
LONGEST_TOKEN = 2**24  # samples: more than those that a row stands for in any model


@dataclass(frozen=True)
class Range:
    """Least, usual and largest size of one axis, or of one value that shapes depend on."""

    min: int
    opt: int
    max: int


def encoder_profile(model: SpeechModelSpec, options: EngineOptions) -> OptimizationProfile:
    """One window of audio, of any length that gives a token up to the whole; or a clip, as `options` say."""
    features, least = model.front_end.log_mel, model.front_end.least_encoder_rows
    if not isinstance(features, ClipFeatures):
        rows, frames = features.max_rows, features.max_frames
        fewest = _least_frames(features, least)
    else:
        rows = frames = max(least, features.rows_of_samples(_longest_clip(model, options)))
        fewest = least
    ranges = {
        sig.FRAMES: Range(fewest, frames, frames),
        sig.ENCODER_ROWS: Range(least, rows, rows),
    }
    width = model.front_end.window_width(model.decoder.dims.hidden_size)
    return _profile(sig.encoder_signature(model.encoder.num_mel_bins, width), ranges)


def _longest_clip(model: SpeechModelSpec, options: EngineOptions) -> int:
    """Samples of `max_audio_seconds`, or the fewer that the encoder takes."""
    front_end = model.front_end
    most = _most_samples(front_end, decoder_rows(model, options.max_audio_seconds))
    return min(most, front_end.longest_samples or most)


def wave_encoder_profile(model: SpeechModelSpec, options: EngineOptions) -> OptimizationProfile:
    """Whole clips, from the shortest with a token up to all with the rows of `max_audio_seconds`."""
    front_end, wave = model.front_end, model.front_end.wave
    assert wave is not None, "the tower has such an encoder"
    least, longest = front_end.shortest_samples, decoder_rows(model, options.max_audio_seconds)
    most = max(least, _most_samples(front_end, longest))
    usual = max(least, most // 2)
    ranges = {
        sig.SAMPLES: Range(least, usual, most),
        sig.WINDOW_ROWS: Range(*map(front_end.window_tokens, (least, usual, most))),
    }
    signature = sig.wave_encoder_signature(wave.window_width, model.decoder.dims.hidden_size)
    return _profile(signature, ranges)


def _most_samples(front_end: FrontEnd, rows: int) -> int:
    """The most samples that give at most so many rows of the decoder."""
    start = round(front_end.seconds_of(rows) * front_end.log_mel.sample_rate)
    beyond = range(start, start + min(front_end.log_mel.window_samples, LONGEST_TOKEN) + 1)
    return start - 1 + bisect_right(beyond, rows, key=front_end.decoder_rows)


def _least_frames(log_mel: LogMelConfig | WaveWindows, least_rows: int) -> int:
    """The fewest frames that the encoder is given."""
    if log_mel.full_windows:
        return log_mel.max_frames
    if log_mel.has_audio_alone:
        return log_mel.least_frames_of(least_rows)
    return min(least_rows * log_mel.frames_per_row, log_mel.max_frames)


def prompt_adapter_profile(model: SpeechModelSpec, options: EngineOptions) -> OptimizationProfile:
    """Texts of one token up to `max_text_rows`."""
    text = Range(1, min(16, options.max_text_rows), options.max_text_rows)
    return _profile(sig.prompt_adapter_signature(model.decoder.dims), {sig.TEXT: text})


def prefill_profile(model: SpeechModelSpec, audio_rows: int, options: EngineOptions) -> OptimizationProfile:
    """Prompts of one audio token up to `audio_rows` rows of `audio_embeds`, which has rows around the tokens.

    Before and after them are up to `max_text_rows` rows of text.
    """
    least = 1 + model.front_end.rows_around
    text = Range(1, min(16, options.max_text_rows), options.max_text_rows)
    ranges = {
        sig.TEXT_BEFORE: text,
        sig.TEXT_AFTER: text,
        sig.AUDIO: Range(least, max(least, audio_rows // 2), audio_rows),
        sig.NUM_CANDIDATES: _candidates(model.decoder.dims, options),
    }
    return _profile(sig.prefill_signature(model.decoder.dims, model.decoder.request_inputs), ranges)


def decode_profile(model: SpeechModelSpec, audio_rows: int, options: EngineOptions) -> OptimizationProfile:
    """One step of up to `max_batch` requests, of up to `max_beams` beams each, over buffers of any capacity.

    A request that is alone has a prefix of its own length, which any reduction profile may have left.
    """
    longest = rounded_up(audio_rows + 2 * options.max_text_rows)
    pool = capacity_for(options.max_new_tokens * options.max_beams)
    prefix = Range(1, max(1, longest // 2), longest)
    ranges = {
        sig.REQUESTS: Range(1, max(1, options.max_batch // 2), options.max_batch),
        sig.BEAMS: Range(1, options.max_beams, options.max_beams),
        sig.POOL: Range(SMALLEST, max(SMALLEST, pool // 2), pool),
        sig.NUM_CANDIDATES: _candidates(model.decoder.dims, options),
    }
    ranges |= {sig.prefix_axis(layer): prefix for layer in range(model.decoder.dims.num_layers)}
    return _profile(sig.step_signature(model.decoder.dims, model.decoder.step_inputs), ranges)


def check_positions(model: SpeechModelSpec, audio_rows: int, options: EngineOptions) -> None:
    """Refuse an engine for longer prompts than the model has positions.

    Raises:
        EngineError: with the longest audio that fits, or the most new tokens, where no audio would fit.
    """
    positions = model.decoder.max_positions
    most = positions - decoder_rows(model, LEAST_AUDIO_SECONDS) - 1
    if options.max_new_tokens > most:
        raise EngineError(
            f"max_new_tokens is {options.max_new_tokens}: beside a second of audio the model's {positions} "
            f"positions hold {most}; give at most that"
        )
    if audio_rows + options.max_new_tokens >= positions:
        longest = model.front_end.seconds_of(positions - options.max_new_tokens - 1)
        raise EngineError(
            f"max_audio_seconds {options.max_audio_seconds:g} gives {audio_rows} rows; with "
            f"{options.max_new_tokens} new tokens the model's {positions} positions hold at most "
            f"{longest:.1f} s; give less to --max-audio-seconds"
        )


def _candidates(dims: DecoderDims, options: EngineOptions) -> Range:
    most = min(dims.vocab_size, LARGEST_TOP_K)
    return Range(1, min(2 * options.max_beams, most), most)


def _profile(signature: Signature, ranges: Mapping[str, Range]) -> OptimizationProfile:
    """Sizes by the names of the axes; inputs that are named themselves are given by value."""
    shapes = {}
    for tensor in signature.inputs:
        if tensor.name in ranges:
            axes = [ranges[tensor.name]]
        else:
            axes = [
                Range(axis, axis, axis) if isinstance(axis, int) else ranges[axis] for axis in tensor.axes
            ]
        if tensor.name in ranges or any(isinstance(axis, str) for axis in tensor.axes):
            shapes[tensor.name] = (
                tuple(axis.min for axis in axes),
                tuple(axis.opt for axis in axes),
                tuple(axis.max for axis in axes),
            )
    return OptimizationProfile(shapes)
