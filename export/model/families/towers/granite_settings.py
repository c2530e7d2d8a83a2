"""The settings of the encoder of Granite Speech: those of its conformer, its Q-Former and its features."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from .....runtime.audio.clip_features import LOG_MEL_PAIRS, ClipFeatures
from .....runtime.audio.front_end import FrontEnd
from ....checkpoint.checkpoint import Checkpoint
from ..parts.feature_extractor import EXTRACTOR_IRRELEVANT, read_extractor
from ..parts.settings import CONFIG_IRRELEVANT, Settings, shown

ENCODER_DEFAULTS = {
    "input_dim": 160,
    "num_layers": 10,
    "hidden_dim": 1024,
    "feedforward_mult": 4,
    "num_heads": 8,
    "output_dim": 42,
    "context_size": 200,
    "max_pos_emb": 512,
    "conv_kernel_size": 15,
    "conv_expansion_factor": 2,
}
PROJECTOR_DEFAULTS = {
    "hidden_size": 768,
    "num_hidden_layers": 12,
    "num_attention_heads": 12,
    "intermediate_size": 3072,
    "hidden_act": "gelu",
    "layer_norm_eps": 1e-12,
    "cross_attention_frequency": 2,
    "encoder_hidden_size": 1408,
    "use_qformer_text_input": False,
}
EXTRACTOR_DEFAULTS = {
    "sampling_rate": 16000,
    "n_fft": 512,
    "win_length": 400,
    "hop_length": 160,
    "n_mels": 80,
    "projector_window_size": 15,
    "projector_downsample_rate": 5,
}
SPECTRUM = "melspec_kwargs"
READ_INSTEAD = {
    "sample_rate": "sampling_rate",
    **{name: name for name in ("n_fft", "win_length", "hop_length", "n_mels")},
}
"""Setting of `SPECTRUM`, which older files have, -> the setting that transformers reads instead."""

DROPOUTS = ("dropout", "hidden_dropout_prob", "attention_probs_dropout_prob")
WORDS = ("vocab_size", "max_position_embeddings", "position_embedding_type")  # of a Q-Former for text
LAYER_COUNTS = {
    "encoder.layers.": "encoder_config: num_layers",
    "projector.qformer.encoder.layer.": "projector_config: num_hidden_layers",
}
FRAMES_PER_ROW = 2


@dataclass(frozen=True)
class Sizes:
    """The sizes of the conformer."""

    hidden_size: int
    wide: int
    num_heads: int
    head_dim: int
    block: int
    distances: int
    inner: int
    kernel: int


@dataclass(frozen=True)
class TowerSettings:
    """All sections that say what the tower is; their faults are in them."""

    whole: Settings
    encoder: Settings
    projector: Settings
    extractor: Settings
    spectrum: Settings  # a part of the extractor's, which older files have
    sizes: Sizes

    @property
    def sections(self) -> tuple[Settings, ...]:
        """For `refuse_faults`; the whole config is the family's."""
        return self.encoder, self.projector, self.extractor, self.spectrum

    def notes(self) -> Iterator[str]:
        """Lines on what was not used, once all is read."""
        yield from self.encoder.notes((*CONFIG_IRRELEVANT, *DROPOUTS))
        yield from self.projector.notes((*CONFIG_IRRELEVANT, *DROPOUTS, *WORDS))
        yield from self.extractor.notes(
            (*EXTRACTOR_IRRELEVANT, "padding_value", "padding_side", "mel_filters")
        )
        yield from self.spectrum.notes(())


def read_settings(checkpoint: Checkpoint, whole: Settings) -> TowerSettings:
    """Read the sections; `whole` is config.json with the settings of the Q-Former's windows."""
    place = whole.place
    encoder = Settings(f"{place}: encoder_config", whole.take("encoder_config") or {}, ENCODER_DEFAULTS)
    projector = Settings(
        f"{place}: projector_config", whole.take("projector_config") or {}, PROJECTOR_DEFAULTS
    )
    found = read_extractor(checkpoint)
    extractor = Settings(found.place, found.given, EXTRACTOR_DEFAULTS)
    extractor.faults += found.faults
    spectrum = Settings(f"{found.place}: {SPECTRUM}", extractor.take(SPECTRUM) or {}, {})
    settings = TowerSettings(whole, encoder, projector, extractor, spectrum, _sizes(encoder))
    _require(settings)
    _check_extractor(settings)
    return settings


def _sizes(encoder: Settings) -> Sizes:
    hidden, heads = encoder.count("hidden_dim"), encoder.count("num_heads")
    if encoder.values.get("dim_head") is None:
        encoder.divides("num_heads", "hidden_dim")
        encoder.values["dim_head"] = max(1, hidden // heads)
    block, most = encoder.count("context_size"), encoder.count("max_pos_emb")
    if not 1 < block <= most:
        encoder.faults.append(f"context_size {block} must be above 1 and at most max_pos_emb {most}")
    return Sizes(
        hidden_size=hidden,
        wide=hidden * encoder.count("feedforward_mult"),
        num_heads=heads,
        head_dim=encoder.count("dim_head"),
        block=block,
        distances=2 * most + 1,
        inner=hidden * encoder.count("conv_expansion_factor"),
        kernel=encoder.count("conv_kernel_size"),
    )


def _require(settings: TowerSettings) -> None:
    encoder, projector, whole = settings.encoder, settings.projector, settings.whole
    encoder.require(model_type="granite_speech_encoder")
    projector.require(model_type="blip_2_qformer", hidden_act="gelu", use_qformer_text_input=False)
    for name in ("num_layers", "input_dim", "output_dim"):
        encoder.count(name)
    for name in ("num_hidden_layers", "intermediate_size", "cross_attention_frequency"):
        projector.count(name)
    projector.number("layer_norm_eps")
    projector.divides("num_attention_heads", "hidden_size")
    if (width := projector.count("encoder_hidden_size")) != settings.sizes.hidden_size:
        projector.faults.append(
            f"encoder_hidden_size {width} is not the encoder's {settings.sizes.hidden_size}"
        )
    whole.divides("downsample_rate", "window_size")


def _check_extractor(settings: TowerSettings) -> None:
    """What the front end takes for granted, and what the model must agree with."""
    extractor, spectrum, whole = settings.extractor, settings.spectrum, settings.whole
    extractor.require(feature_extractor_type="GraniteSpeechFeatureExtractor")
    if extractor.values.get("feature_size") is not None:
        extractor.values["n_mels"] = extractor.take("feature_size")
    for name in EXTRACTOR_DEFAULTS:
        extractor.count(name)
    for name, newer in READ_INSTEAD.items():
        given, taken = spectrum.take(name), extractor.values[newer]
        if name in spectrum.given and given != taken:
            spectrum.faults.append(f"{name} is {shown(given)}, but transformers takes {newer} {shown(taken)}")
    for name, other in (
        ("projector_window_size", "window_size"),
        ("projector_downsample_rate", "downsample_rate"),
    ):
        if extractor.count(name) != whole.count(other):
            extractor.faults.append(f"{name} {extractor.count(name)} is not {other} {whole.count(other)}")
    numbers, taken = FRAMES_PER_ROW * extractor.count("n_mels"), settings.encoder.count("input_dim")
    if numbers != taken:
        extractor.faults.append(f"{numbers} numbers of two frames do not fit the encoder's input_dim {taken}")
    n_fft, length = extractor.count("n_fft"), extractor.count("win_length")
    if n_fft % 2 or length > n_fft:
        extractor.faults.append(f"n_fft {n_fft} must be even and at least win_length {length}")


def front_end(settings: TowerSettings) -> FrontEnd:
    """From samples to audio tokens, of settings without faults."""
    values, whole = settings.extractor, settings.whole
    features = ClipFeatures(
        kind=LOG_MEL_PAIRS,
        sample_rate=values.count("sampling_rate"),
        n_fft=values.count("n_fft"),
        win_length=values.count("win_length"),
        hop_length=values.count("hop_length"),
        num_bands=values.count("n_mels"),
        stacked=FRAMES_PER_ROW,
        stride=FRAMES_PER_ROW,
    )
    window = whole.count("window_size")
    queries = window // whole.count("downsample_rate")
    return FrontEnd(features, window, token_rule="begun", tokens_per_group=queries)
