"""The encoder of Fun-ASR-Nano: SAN-M over stacked frames, its adaptor, and their settings."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from .....runtime.audio.clip_features import STACKED_FBANK, ClipFeatures
from .....runtime.audio.front_end import FrontEnd
from ....checkpoint.checkpoint import Checkpoint
from ...sanm import Adaptor, SanmLayer, SanmSpec
from ..parts.feature_extractor import EXTRACTOR_IRRELEVANT, read_extractor
from ..parts.settings import CONFIG_IRRELEVANT, Settings
from ..parts.whisper import Reader

AUDIO_DEFAULTS = {
    "num_mel_bins": 80,
    "hidden_size": 512,
    "num_attention_heads": 4,
    "intermediate_size": 2048,
    "num_hidden_layers": 70,
    "layer_norm_eps": 1e-5,
    "hidden_act": "relu",
    "max_position_embeddings": 2049,
    "num_stacked_frames": 7,
    "num_timestamp_prediction_layers": 20,
    "fsmn_kernel_size": 11,
}
ADAPTOR_DEFAULTS = {
    "hidden_size": 1024,
    "num_attention_heads": 8,
    "intermediate_size": 256,
    "num_hidden_layers": 2,
    "layer_norm_eps": 1e-5,
    "hidden_act": "relu",
    "projector_hidden_act": "relu",
    "projector_hidden_size": 2048,
}
EXTRACTOR_DEFAULTS = {
    "feature_size": 80,
    "sampling_rate": 16000,
    "frame_length": 25,
    "frame_shift": 10,
    "num_frames_lfr": 7,
    "stride_lfr": 6,
}
DROPOUTS = ("hidden_dropout", "attention_dropout")
LAYER_COUNTS = {
    "audio_tower.layers.": "audio_config: num_hidden_layers",
    "multi_modal_projector.layers.": "adaptor_config: num_hidden_layers",
}


@dataclass(frozen=True)
class TowerSettings:
    """All sections that say what the tower is; their faults are in them."""

    audio: Settings
    adaptor: Settings
    extractor: Settings

    @property
    def sections(self) -> tuple[Settings, ...]:
        """For `refuse_faults`."""
        return self.audio, self.adaptor, self.extractor

    def notes(self) -> Iterator[str]:
        """Lines on what was not used, once all is read."""
        yield from self.audio.notes((*CONFIG_IRRELEVANT, *DROPOUTS))
        yield from self.adaptor.notes((*CONFIG_IRRELEVANT, *DROPOUTS))
        yield from self.extractor.notes((*EXTRACTOR_IRRELEVANT, "padding_value", "padding_side"))


def read_settings(checkpoint: Checkpoint, whole: Settings, output_size: int) -> TowerSettings:
    """Read the sections of config.json, `whole`, for a decoder of `output_size`."""
    audio = Settings(f"{whole.place}: audio_config", whole.take("audio_config") or {}, AUDIO_DEFAULTS)
    adaptor = Settings(f"{whole.place}: adaptor_config", whole.take("adaptor_config") or {}, ADAPTOR_DEFAULTS)
    found = read_extractor(checkpoint)
    extractor = Settings(found.place, found.given, EXTRACTOR_DEFAULTS)
    extractor.faults += found.faults
    _check_encoder(audio, adaptor, output_size)
    _check_extractor(audio, extractor)
    return TowerSettings(audio, adaptor, extractor)


def _check_encoder(audio: Settings, adaptor: Settings, output_size: int) -> None:
    audio.require(model_type="fun_asr_nano_encoder", hidden_act="relu")
    adaptor.require(hidden_act="relu", projector_hidden_act="relu")
    for section in (audio, adaptor):
        section.divides("num_attention_heads", "hidden_size")
        section.number("layer_norm_eps")
        for name in ("intermediate_size", "num_hidden_layers"):
            section.count(name)
    for name in ("num_mel_bins", "num_stacked_frames", "fsmn_kernel_size"):
        audio.count(name)
    adaptor.count("projector_hidden_size")
    if (positions := audio.count("max_position_embeddings")) < 2:
        audio.faults.append(
            f"max_position_embeddings {positions} must be above 1: the first is used for no row"
        )
    numbers = audio.count("num_mel_bins") * audio.count("num_stacked_frames")
    if numbers % 2 or numbers < 4:
        audio.faults.append(
            f"frames of {numbers} numbers have no sinusoids: they must be even, and at least 4"
        )
    layers, stamps = audio.count("num_hidden_layers"), audio.take("num_timestamp_prediction_layers")
    if type(stamps) is not int or not 0 <= stamps < layers:
        audio.faults.append(f"num_timestamp_prediction_layers is {stamps!r}: give 0 to {layers - 1}")
    if (width := adaptor.count("hidden_size")) != output_size:
        adaptor.faults.append(f"hidden_size {width} is not that of the decoder, {output_size}")


def _check_extractor(audio: Settings, extractor: Settings) -> None:
    """What the front end takes for granted, and what the model must agree with."""
    extractor.require(feature_extractor_type="FunAsrNanoFeatureExtractor", window="hamming")
    for name in EXTRACTOR_DEFAULTS:
        extractor.count(name)
    for name, other in (("feature_size", "num_mel_bins"), ("num_frames_lfr", "num_stacked_frames")):
        if extractor.count(name) != audio.count(other):
            extractor.faults.append(f"{name} {extractor.count(name)} is not {other} {audio.count(other)}")
    if extractor.count("stride_lfr") > extractor.count("num_frames_lfr"):
        extractor.faults.append(
            f"stride_lfr {extractor.count('stride_lfr')} leaves out frames: num_frames_lfr is "
            f"{extractor.count('num_frames_lfr')}"
        )


def front_end(settings: TowerSettings) -> FrontEnd:
    """From samples to audio tokens, of settings without faults. The encoder has positions for one clip."""
    values = settings.extractor
    rate = values.count("sampling_rate")
    length, hop = (int(rate * values.count(key) * 0.001) for key in ("frame_length", "frame_shift"))
    features = ClipFeatures(
        kind=STACKED_FBANK,
        sample_rate=rate,
        n_fft=1 << (length - 1).bit_length(),
        win_length=length,
        hop_length=hop,
        num_bands=values.count("feature_size"),
        stacked=values.count("num_frames_lfr"),
        stride=values.count("stride_lfr"),
        most_rows=settings.audio.count("max_position_embeddings") - 1,
    )
    return FrontEnd(features, 1, most_windows=1)


def read_tower(checkpoint: Checkpoint, settings: TowerSettings) -> SanmSpec:
    """Collect the tensors, checking every shape."""
    read, audio, adaptor = Reader(checkpoint), settings.audio, settings.adaptor
    count, hidden = audio.count("num_hidden_layers"), audio.count("hidden_size")
    numbers = audio.count("num_mel_bins") * audio.count("num_stacked_frames")
    normed = {count - audio.take("num_timestamp_prediction_layers") - 1, count - 1}
    kernel = audio.count("fsmn_kernel_size")
    layers = (
        _layer(read, audio, f"audio_tower.layers.{i}", hidden if i else numbers, kernel, i in normed)
        for i in range(count)
    )
    return SanmSpec(
        num_heads=audio.count("num_attention_heads"),
        norm_eps=audio.number("layer_norm_eps"),
        layers=tuple(layers),
        adaptor=_adaptor(read, adaptor, hidden),
        adaptor_norm_eps=adaptor.number("layer_norm_eps"),
    )


def _adaptor(read: Reader, values: Settings, hidden: int) -> Adaptor:
    base, width, wide = (
        "multi_modal_projector",
        values.count("hidden_size"),
        values.count("projector_hidden_size"),
    )
    count = values.count("num_hidden_layers")
    return Adaptor(
        num_heads=values.count("num_attention_heads"),
        fc1=read.linear(f"{base}.linear_1", (wide, hidden)),
        fc2=read.linear(f"{base}.linear_2", (width, wide)),
        layers=tuple(_layer(read, values, f"{base}.layers.{i}", width, None, False) for i in range(count)),
    )


def _layer(
    read: Reader, values: Settings, base: str, heard: int, kernel: int | None, normed: bool
) -> SanmLayer:
    d, wide = values.count("hidden_size"), values.count("intermediate_size")
    query, key, value = (read.linear(f"{base}.self_attn.{name}_proj", (d, heard)) for name in "qkv")
    memory = f"{base}.self_attn.fsmn.conv.weight"
    return SanmLayer(
        attn_norm=read.norm(f"{base}.input_layernorm", heard),
        query=query,
        key=key,
        value=value,
        output=read.linear(f"{base}.self_attn.o_proj", (d, d)),
        memory=None if kernel is None else read.checkpoint.tensor(memory, (d, 1, kernel)),
        mlp_norm=read.norm(f"{base}.post_attention_layernorm", d),
        fc1=read.linear(f"{base}.mlp.fc1", (wide, d)),
        fc2=read.linear(f"{base}.mlp.fc2", (d, wide)),
        final_norm=read.norm(f"{base}.final_layernorm", d) if normed else None,
    )
