"""The Whisper feature extractor of transformers: its files, its settings, and the log-mel that they mean."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from .....runtime.audio.log_mel import CLIP, LogMelConfig
from ....checkpoint.checkpoint import Checkpoint
from .settings import Settings, refuse_faults, shown
from .whisper import Sizes

PREPROCESSOR, PROCESSOR = "preprocessor_config.json", "processor_config.json"
WINDOW_SECONDS = 30  # of a clip that an encoder is given at once, about
EXTRACTOR_DEFAULTS = {"sampling_rate": 16000, "hop_length": 160, "n_fft": 400}  # in this order
EXTRACTOR_IRRELEVANT = (
    *(
        "n_samples",
        "nb_max_frames",
        "mel_filters",
    ),  # transformers makes them of the others
    *("processor_class", "auto_map", "return_attention_mask", "_processor_class", "transformers_version"),
)
PROCESSOR_IRRELEVANT = (
    *("feature_extractor", "audio_processor", "processor_class", "auto_map", "transformers_version"),
    "chat_template",  # read with the other files that may have one
)


def read_extractor(checkpoint: Checkpoint) -> Settings:
    """The feature extractor, from the file that transformers reads: the processor's, where it holds one.

    Raises:
        CheckpointError: two files say different things.
    """
    older, processor = checkpoint.optional_json(PREPROCESSOR), checkpoint.optional_json(PROCESSOR)
    key = next((key for key in ("feature_extractor", "audio_processor") if key in processor), None)
    if key is None:
        return Settings(f"{checkpoint.folder}/{PREPROCESSOR}", older, EXTRACTOR_DEFAULTS)
    found = Settings(f"{checkpoint.folder}/{PROCESSOR}: {key}", processor[key], EXTRACTOR_DEFAULTS)
    found.faults += [
        f"{name} is {shown(found.given[name])}, but {shown(older[name])} in {PREPROCESSOR}; remove one file"
        for name in sorted(found.given.keys() & older.keys() - set(EXTRACTOR_IRRELEVANT))
        if found.given[name] != older[name]
    ]
    return found


def require_whisper(extractor: Settings) -> None:
    """What the front end takes for granted."""
    extractor.require(
        feature_extractor_type="WhisperFeatureExtractor",
        dither=0.0,
        padding_side="right",
        padding_value=0.0,
        do_normalize=False,
    )


@dataclass(frozen=True)
class Chunks:
    """How an encoder cuts the frames of a clip."""

    frames: int  # after which convolutions and positions begin anew
    frames_per_row: int
    frames_of_attention: int  # whose rows attend to one another: a whole number of chunks

    def seconds_of_window(self, frames_per_second: float) -> float:
        """As many whole pieces as attend to one another as `WINDOW_SECONDS` hold, at least one."""
        seconds = self.frames_of_attention / frames_per_second
        return seconds * max(1, int(WINDOW_SECONDS / seconds))


def clip_log_mel_of(values: Settings, bins: int, chunks: Chunks, **clip: Any) -> LogMelConfig:
    """The parameters of a feature extractor that hears a whole clip, for an encoder that cuts it into chunks.

    Args:
        values: of the feature extractor.
        bins: mel bins of the encoder.
        chunks: of the encoder.
        clip: fields of `LogMelConfig` that say what is heard of a clip.
    """
    values.values.setdefault("feature_size", bins)
    rate, hop, n_fft = (values.count(key) for key in EXTRACTOR_DEFAULTS)
    if (found := values.count("feature_size")) != bins:
        values.faults.append(f"{found} mel bins do not fit the encoder, which takes {bins}")
    window = chunks.seconds_of_window(rate / hop)
    if n_fft % 2 or not hop <= n_fft < window * rate:
        values.faults.append(
            f"n_fft {n_fft} must be even, at least hop_length {hop} and below a window of {window:g} s"
        )
    if clip["extent"] == CLIP and clip["least_samples"] <= n_fft // 2:
        values.faults.append(f"min_length {clip['least_samples']} must exceed half of n_fft {n_fft}")
    refuse_faults(values)
    return LogMelConfig(
        sample_rate=rate,
        n_fft=n_fft,
        hop_length=hop,
        num_mel_bins=bins,
        window_seconds=window,
        edge="zero",
        frames_per_row=chunks.frames_per_row,
        chunk_frames=chunks.frames,
        **clip,
    )


def log_mel_of(values: Settings, sizes: Sizes) -> LogMelConfig:
    """The feature extractor's parameters; its window must fill the encoder's positions."""
    bins, frames = sizes.num_mel_bins, LogMelConfig.frames_per_row * sizes.max_positions
    values.values.setdefault("feature_size", bins)
    rate, hop, n_fft = (values.count(key) for key in EXTRACTOR_DEFAULTS)
    window = values.count("chunk_length") if "chunk_length" in values.given else frames * hop // rate
    found_bins, found_frames = values.count("feature_size"), window * rate // hop
    if n_fft % 2 or not hop <= n_fft < window * rate:
        values.faults.append(
            f"n_fft {n_fft} must be even, at least hop_length {hop} and below a window of {window} s"
        )
    if (found_bins, found_frames) != (bins, frames):
        values.faults.append(
            f"{found_bins} mel bins and {found_frames} frames a window do not fit the encoder, which takes "
            f"{bins} and {frames}"
        )
    refuse_faults(values)
    return LogMelConfig(
        sample_rate=rate, n_fft=n_fft, hop_length=hop, num_mel_bins=bins, window_seconds=window, edge="padded"
    )
