"""The two tokenizers of VibeVoice-ASR, whose rows are projected and added, and their settings."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

from .....runtime.audio.front_end import FrontEnd
from .....runtime.audio.wave_windows import LARGEST, LEVELS, WaveWindows
from ....checkpoint.checkpoint import Checkpoint
from ....checkpoint.derived import Weight
from ...conv_tokenizer import ConvBlock, ConvStage, ConvTokenizer, ConvTokenizersSpec
from ..parts.feature_extractor import EXTRACTOR_IRRELEVANT, WINDOW_SECONDS, read_extractor
from ..parts.settings import CONFIG_IRRELEVANT, Settings, shown
from ..parts.whisper import Reader

PARTS = {"acoustic": 64, "semantic": 128}
"""How the names of each tokenizer begin -> the numbers of its rows, where settings do not say it."""

DEFAULTS = {
    "channels": 1,
    "kernel_size": 7,
    "rms_norm_eps": 1e-5,
    "num_filters": 32,
    "downsampling_ratios": [2, 2, 4, 5, 5, 8],
    "depths": [3, 3, 3, 3, 3, 3, 8],
    "hidden_act": "gelu",
    "ffn_expansion": 4,
}
EXTRACTOR_DEFAULTS = {
    "sampling_rate": 24000,
    "normalize_audio": True,
    "target_dB_FS": -25,
    "eps": 1e-6,
}
UNUSED = ("vae_std", "layer_scale_init_value", "weight_init_value")  # of noise and of training
MOST_STAGES, MOST_BLOCKS, MOST_RATIO, MOST_FILTERS = 12, 1000, 2**10, 2**12
PROJECTOR_EPS = 1e-6  # no setting changes it
LAYER_COUNTS = {
    f"{name}_tokenizer_encoder.conv_layers.": f"{name}_tokenizer_encoder_config: downsampling_ratios"
    for name in PARTS
}


@dataclass(frozen=True)
class TowerSettings:
    """All sections that say what the tower is; their faults are in them."""

    tokenizers: dict[str, Settings]  # by the keys of `PARTS`
    extractor: Settings
    chunk: int  # samples that the model hears at once

    @property
    def sections(self) -> tuple[Settings, ...]:
        """For `refuse_faults`."""
        return *self.tokenizers.values(), self.extractor

    def notes(self) -> Iterator[str]:
        """Lines on what was not used, once all is read."""
        for section in self.tokenizers.values():
            yield from section.notes((*CONFIG_IRRELEVANT, *UNUSED))
        yield from self.extractor.notes((*EXTRACTOR_IRRELEVANT, "return_attention_mask"))


def read_settings(checkpoint: Checkpoint, whole: Settings) -> TowerSettings:
    """Read the sections of config.json, `whole`."""
    tokenizers = {}
    for name, size in PARTS.items():
        key = f"{name}_tokenizer_encoder_config"
        found = whole.take(key) or {}
        tokenizers[name] = Settings(f"{whole.place}: {key}", found, {**DEFAULTS, "hidden_size": size})
        _check_tokenizer(tokenizers[name])
    hop, other = (_hop(section) for section in tokenizers.values())
    if other != hop:
        tokenizers["semantic"].faults.append(
            f"downsampling_ratios make rows of {other} samples, those of the acoustic tokenizer of {hop}"
        )
    if hop > LARGEST["samples_per_row"]:
        tokenizers["acoustic"].faults.append(f"downsampling_ratios make rows of {hop} samples, far too many")
    chunk = whole.count("acoustic_tokenizer_chunk_size")
    if chunk % hop:
        whole.faults.append(
            f"acoustic_tokenizer_chunk_size {chunk} is no whole number of rows of {hop} samples"
        )
    extractor = read_extractor(checkpoint)
    found_extractor = Settings(extractor.place, extractor.given, EXTRACTOR_DEFAULTS)
    found_extractor.faults += extractor.faults
    _check_extractor(found_extractor, hop)
    return TowerSettings(tokenizers, found_extractor, chunk)


def _check_tokenizer(values: Settings) -> None:
    values.require(model_type="vibevoice_acoustic_tokenizer_encoder", hidden_act="gelu", channels=1)
    values.number("rms_norm_eps")
    for name in ("hidden_size", "kernel_size", "ffn_expansion"):
        values.count(name)
    if (filters := values.count("num_filters")) > MOST_FILTERS:
        values.faults.append(f"num_filters is {filters}: give at most {MOST_FILTERS}")
    _counts(values, "downsampling_ratios", 1, MOST_RATIO)
    depths, ratios = _counts(values, "depths", 0, MOST_BLOCKS), _ratios(values)
    if len(depths) != len(ratios) + 1 or len(ratios) > MOST_STAGES:
        values.faults.append(
            f"depths {shown(depths)} are not one more than downsampling_ratios {shown(ratios)}, of which "
            f"there may be {MOST_STAGES}"
        )


def _counts(values: Settings, key: str, least: int, most: int) -> tuple[int, ...]:
    """A list of whole numbers; (1,) where it is none."""
    found = values.take(key)
    if (
        isinstance(found, list | tuple)
        and found
        and all(type(x) is int and least <= x <= most for x in found)
    ):
        return tuple(found)
    fault = f"{key} is {shown(found)}: a list of whole numbers from {least} to {most} is expected"
    if fault not in values.faults:
        values.faults.append(fault)
    return (1,)


def _ratios(values: Settings) -> tuple[int, ...]:
    return _counts(values, "downsampling_ratios", 1, MOST_RATIO)


def _hop(values: Settings) -> int:
    """Samples of a row."""
    return math.prod(_ratios(values)[:MOST_STAGES])


def _check_extractor(values: Settings, hop: int) -> None:
    """What the front end takes for granted, and what the model must agree with."""
    values.require(
        feature_extractor_type="VibeVoiceAcousticTokenizerFeatureExtractor",
        feature_size=1,
        padding_side="right",
        padding_value=0.0,
        pad_to_multiple_of=hop,
    )
    values.count("sampling_rate")
    values.number("eps")
    values.flag("normalize_audio")
    level = values.take("target_dB_FS")
    if type(level) not in (int, float) or not LEVELS[0] <= level <= LEVELS[1]:
        values.faults.append(f"target_dB_FS is {shown(level)}: {LEVELS[0]:g} to {LEVELS[1]:g} is expected")
    if values.number("eps") > 1:
        values.faults.append("eps is above 1")


def front_end(settings: TowerSettings, spec: ConvTokenizersSpec) -> FrontEnd:
    """From samples to audio tokens, of settings without faults.

    A window is not longer than the model's own, whose length changes no number.
    """
    values, hop = settings.extractor, spec.num_mel_bins
    rate = values.count("sampling_rate")
    windows = WaveWindows(
        samples_per_row=hop,
        window_rows=max(1, min(settings.chunk, WINDOW_SECONDS * rate) // hop),
        context_rows=spec.context_rows,
        sample_rate=rate,
        level=float(values.take("target_dB_FS")) if values.flag("normalize_audio") else None,
        least_rms=values.number("eps"),
    )
    return FrontEnd(windows, 1)


def read_tower(checkpoint: Checkpoint, settings: TowerSettings, output_size: int) -> ConvTokenizersSpec:
    """Collect the tensors, checking every shape."""
    read = Reader(checkpoint)
    parts = (_tokenizer(read, values, name, output_size) for name, values in settings.tokenizers.items())
    return ConvTokenizersSpec(tuple(parts), PROJECTOR_EPS)


def _tokenizer(read: Reader, values: Settings, name: str, output_size: int) -> ConvTokenizer:
    base, head = f"{name}_tokenizer_encoder", f"multi_modal_projector.{name}"
    size, kernel, channels = (values.count(key) for key in ("hidden_size", "kernel_size", "num_filters"))
    depths, strides = _counts(values, "depths", 0, MOST_BLOCKS), (1, *_ratios(values))
    stages, heard = [], 1
    for i, (depth, stride) in enumerate(zip(depths, strides, strict=True)):
        place = f"{base}.conv_layers.{i - 1}" if i else f"{base}.stem"
        shape = (channels << i, heard, 2 * stride if i else kernel)
        blocks = (_block(read, values, f"{place}.stage.{j}", shape[0]) for j in range(depth))
        stages.append(ConvStage(read.convolution(f"{place}.conv.conv", shape), stride, tuple(blocks)))
        heard = shape[0]
    return ConvTokenizer(
        stages=tuple(stages),
        head=read.convolution(f"{base}.head.conv", (size, heard, kernel)),
        norm_eps=values.number("rms_norm_eps"),
        fc1=read.linear(f"{head}_linear_1", (output_size, size)),
        norm=read.checkpoint.tensor(f"{head}_norm.weight", (output_size,)),
        fc2=read.linear(f"{head}_linear_2", (output_size, output_size)),
    )


def _block(read: Reader, values: Settings, base: str, channels: int) -> ConvBlock:
    def vector(name: str) -> Weight:
        return read.checkpoint.tensor(f"{base}.{name}", (channels,))

    wide = values.count("ffn_expansion") * channels
    return ConvBlock(
        norm=vector("norm.weight"),
        mixer=read.convolution(f"{base}.mixer.conv", (channels, 1, values.count("kernel_size"))),
        scale=vector("gamma"),
        mlp_norm=vector("ffn_norm.weight"),
        fc1=read.linear(f"{base}.ffn.linear1", (wide, channels)),
        fc2=read.linear(f"{base}.ffn.linear2", (channels, wide)),
        mlp_scale=vector("ffn_gamma"),
    )
