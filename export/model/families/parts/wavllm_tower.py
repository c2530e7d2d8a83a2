"""The audio tower of WavLLM: Whisper over windows, WavLM over the whole wave, their heads and their fusion.

Names and settings are those of a converted checkpoint: tensors of `audio_encoder`, `wavlm_encoder` and
`wavlm_audio_proj`, and some sections of its config.json.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from .....runtime.audio.front_end import FrontEnd, WaveEncoder
from .....runtime.audio.log_mel import LogMelConfig
from ....checkpoint.checkpoint import Checkpoint
from ...spec import Convolution, ConvolvedHead, EncoderSpec, LayerNorm, WaveEncoderSpec
from .settings import CONFIG_IRRELEVANT, Settings
from .wavlm import WaveSizes, read_wave_encoder, read_wave_sizes
from .whisper import NORM_EPS, Reader, Sizes, read_encoder, transformers_names

SECTIONS = ("whisper_config", "wavlm_config", "subsample", "adapter", "projector")
WINDOWS, WAVE = "audio_encoder.", "wavlm_encoder."  # how the names of each part begin
FUSION = "wavlm_audio_proj"
UNUSED = "audio_proj"  # of a tower with the first encoder alone
LAYER_COUNTS = {
    f"{WINDOWS}model.layers.": "whisper_config: encoder_layers",
    f"{WAVE}model.encoder.layers.": "wavlm_config: num_hidden_layers",
}
WRAPPER = "_checkpoint_wrapped_module."  # that training may leave in names: see `Checkpoint.without`
HALVINGS = 2  # of the rows of either encoder, by its head

DEFAULTS: Mapping[str, Mapping[str, Any]] = {
    "whisper_config": {"n_fft": 400, "hop_length": 160, "layer_norm_eps": NORM_EPS},
    "wavlm_config": {"layer_norm_eps": NORM_EPS},
    "adapter": {"layer_norm_eps": NORM_EPS},
}
WHISPER_IRRELEVANT = (
    *(*CONFIG_IRRELEVANT, "dropout", "attention_dropout", "activation_dropout", "encoder_layerdrop"),
    *("num_hidden_layers", "vocab_size", "max_target_positions"),
    *("decoder_layers", "decoder_attention_heads", "decoder_ffn_dim", "decoder_layerdrop"),
)
WAVLM_IRRELEVANT = (
    *(*CONFIG_IRRELEVANT, "num_feat_extract_layers", "hidden_dropout", "activation_dropout"),
    *("attention_dropout", "feat_proj_dropout", "final_dropout", "layerdrop", "apply_spec_augment"),
    *("mask_time_prob", "mask_time_length", "mask_time_min_masks", "mask_feature_prob"),
    *("mask_feature_length", "mask_feature_min_masks", "vocab_size"),
)


@dataclass(frozen=True)
class Tower:
    """Both encoders, and how samples become rows."""

    encoder: EncoderSpec
    wave_encoder: WaveEncoderSpec
    front_end: FrontEnd


@dataclass(frozen=True)
class HeadSizes:
    """The sizes of the head of one encoder."""

    middle: int  # channels of the first convolution, before its gate
    width: int  # of the rows that the head adapts
    bottleneck: int
    output: int


@dataclass(frozen=True)
class TowerSettings:
    """What config.json says of the tower; faults are in its sections, for `refuse_faults`."""

    sections: tuple[Settings, ...]
    sizes: Sizes
    wave_sizes: WaveSizes
    heads: Mapping[str, HeadSizes]  # by the prefix of the encoder
    head_eps: float
    front_end: FrontEnd | None  # None where there are faults

    @property
    def notes(self) -> Iterator[str]:
        """Lines on settings that are not used."""
        for section, irrelevant in zip(
            self.sections, (WHISPER_IRRELEVANT, WAVLM_IRRELEVANT, (), (), ()), strict=True
        ):
            yield from section.notes(irrelevant)


def read_settings(place: str, config: Mapping[str, Any], sample_rate: int, window: int) -> TowerSettings:
    """Read the sections of the tower.

    Args:
        place: of the config, for messages.
        config: its content.
        sample_rate: Hz.
        window: samples of one window of the first encoder.
    """
    sections = tuple(
        Settings(f"{place}: {name}", config.get(name, {}), DEFAULTS.get(name, {})) for name in SECTIONS
    )
    whisper, wavlm, subsample, adapter, projector = sections
    subsample.require(kernel_sizes=[3] * HALVINGS, stride=2, activation="glu")
    adapter.require(activation="gelu")
    projector.require(concat_order=["whisper", "wavlm"])
    heads = {
        prefix: HeadSizes(
            middle=_even(subsample, f"{name}_mid_channels"),
            width=subsample.count(f"{name}_out_channels"),
            bottleneck=adapter.count(f"{name}_hidden_size"),
            output=projector.count(f"{name}_dim"),
        )
        for prefix, name in ((WINDOWS, "whisper"), (WAVE, "wavlm"))
    }
    sizes, wave_sizes = _whisper_sizes(whisper, heads[WINDOWS].output), read_wave_sizes(wavlm)
    if (first := wave_sizes.first_samples) > window:
        wavlm.faults.append(f"one row is made of {first} samples, more than a window of {window}")
    head_eps = adapter.number("layer_norm_eps")
    log_mel = _log_mel(whisper, sizes, sample_rate, window)
    front_end = None
    if log_mel and not any(section.faults for section in sections):
        front_end = _front_end(log_mel, wave_sizes, sizes.output_size)
    return TowerSettings(
        sections=sections,
        sizes=sizes,
        wave_sizes=wave_sizes,
        heads=heads,
        head_eps=head_eps,
        front_end=front_end,
    )


def read_tower(checkpoint: Checkpoint, settings: TowerSettings, hidden_size: int) -> Tower:
    """Collect the tensors of the tower, whose settings have no faults.

    Args:
        checkpoint: without what training left in its names; see `WRAPPER`.
        settings: of the tower.
        hidden_size: of the decoder.

    Raises:
        CheckpointError: a tensor is missing or of another shape, or belongs to another architecture.
    """
    assert settings.front_end is not None, "faults are refused before"
    sizes, wave_sizes = settings.sizes, settings.wave_sizes
    widths = {WINDOWS: sizes.hidden_size, WAVE: wave_sizes.hidden_size}
    heads = {prefix: _head(checkpoint, prefix, width, settings) for prefix, width in widths.items()}
    both = sum(head.output for head in settings.heads.values())
    read = Reader(checkpoint)
    if f"{UNUSED}.weight" in checkpoint.tensors:
        read.linear(UNUSED, (hidden_size, settings.heads[WINDOWS].output))
    names = transformers_names(f"{WINDOWS}model.")
    encoder = read_encoder(checkpoint, names, sizes, heads[WINDOWS])
    fusion = read.linear(FUSION, (hidden_size, both))
    shares = f"{WAVE}output_weights"
    wave_encoder = read_wave_encoder(checkpoint, f"{WAVE}model.", wave_sizes, shares, heads[WAVE], fusion)
    return Tower(encoder, wave_encoder, settings.front_end)


def _even(values: Settings, key: str) -> int:
    """A count of channels that a gate halves."""
    if (count := values.count(key)) % 2:
        values.faults.append(f"{key} {count} is odd, but a gate takes half of the channels")
    return count


def _whisper_sizes(values: Settings, output_size: int) -> Sizes:
    values.require(model_type="whisper", activation_function="gelu", scale_embedding=False)
    values.require(layer_norm_eps=NORM_EPS)
    values.divides("encoder_attention_heads", "d_model")
    return Sizes(
        num_layers=values.count("encoder_layers"),
        num_heads=values.count("encoder_attention_heads"),
        hidden_size=values.count("d_model"),
        intermediate_size=values.count("encoder_ffn_dim"),
        num_mel_bins=values.count("num_mel_bins"),
        max_positions=values.count("max_source_positions"),
        output_size=output_size,
    )


def _log_mel(values: Settings, sizes: Sizes, sample_rate: int, window: int) -> LogMelConfig | None:
    """The log-mel frames of a window, which must fill the encoder's positions."""
    n_fft, hop = values.count("n_fft"), values.count("hop_length")
    frames = window // hop
    if n_fft % 2 or not hop <= n_fft < window:
        values.faults.append(
            f"n_fft {n_fft} must be even, at least hop_length {hop} and below {window} samples"
        )
    elif (frames - 1) // LogMelConfig.frames_per_row + 1 != sizes.max_positions:
        values.faults.append(
            f"a window of {window} samples has {frames} frames, which do not fill max_source_positions "
            f"{sizes.max_positions}"
        )
    if values.faults:
        return None
    return LogMelConfig(
        sample_rate=sample_rate,
        n_fft=n_fft,
        hop_length=hop,
        num_mel_bins=sizes.num_mel_bins,
        window_seconds=window / sample_rate,
        full_windows=True,
        cuts="alone",
    )


def _front_end(log_mel: LogMelConfig, sizes: WaveSizes, width: int) -> FrontEnd:
    """How samples become rows, of which the windows give some of this width."""
    wave = WaveEncoder(sizes.first_samples, sizes.step_samples, width)
    return FrontEnd(log_mel, 2**HALVINGS, token_rule="begun", wave=wave)


def _head(checkpoint: Checkpoint, prefix: str, width: int, settings: TowerSettings) -> ConvolvedHead:
    """Two gated convolutions, an adapter and a projector."""
    read, sizes = Reader(checkpoint), settings.heads[prefix]
    shapes = (sizes.middle, width, 3), (2 * sizes.width, sizes.middle // 2, 3)
    norm: LayerNorm = read.norm(f"{prefix}adapter.layer_norm", sizes.width)
    convolutions: tuple[Convolution, ...] = tuple(
        read.convolution(f"{prefix}subsample.conv_layers.{i}", shape) for i, shape in enumerate(shapes)
    )
    return ConvolvedHead(
        convolutions=convolutions,
        down=read.linear(f"{prefix}adapter.down_layer", (sizes.bottleneck, sizes.width)),
        up=read.linear(f"{prefix}adapter.up_layer", (sizes.width, sizes.bottleneck)),
        norm=norm,
        norm_eps=settings.head_eps,
        projector=read.linear(f"{prefix}projector", (sizes.output, sizes.width)),
    )
