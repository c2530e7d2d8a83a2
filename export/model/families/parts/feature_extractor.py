"""The Whisper feature extractor of transformers: its files, its settings, and the log-mel that they mean."""

from __future__ import annotations

from .....runtime.audio.log_mel import LogMelConfig
from ....checkpoint.checkpoint import Checkpoint
from .settings import Settings, refuse_faults, shown
from .whisper import Sizes

PREPROCESSOR, PROCESSOR = "preprocessor_config.json", "processor_config.json"
EXTRACTOR_DEFAULTS = {"sampling_rate": 16000, "hop_length": 160, "n_fft": 400}  # in this order
EXTRACTOR_IRRELEVANT = (
    *(
        "n_samples",
        "nb_max_frames",
        "mel_filters",
    ),  # transformers makes them of the others
    *("processor_class", "auto_map", "return_attention_mask", "_processor_class", "transformers_version"),
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
