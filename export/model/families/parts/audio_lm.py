"""Models that transformers makes of a Whisper encoder, a projector and a decoder: their sections and names.

A family of this kind states which decoder it has, how rows of its encoder become tokens, and its prompt.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from .....runtime.artifact.prompt import Prompt
from .....runtime.audio.front_end import FrontEnd
from .....runtime.audio.log_mel import LogMelConfig
from ....checkpoint.checkpoint import Checkpoint
from ....checkpoint.contents import unused_tensors
from ....checkpoint.tokenizer import token_text
from ...spec import Head, Linear, SpeechModelSpec
from .decoder import DecoderSettings, read_decoder, read_decoder_settings
from .feature_extractor import EXTRACTOR_IRRELEVANT, log_mel_of, read_extractor, require_whisper
from .generation import Generation, read_generation
from .reference import LLAMA_LAYER, WHISPER_LAYER, ModuleNames
from .settings import CONFIG_IRRELEVANT, Settings, eos_ids, refuse_faults
from .whisper import WHISPER_KEYS, Reader, Sizes, read_encoder, transformers_names

PREFIXES = {
    "model.language_model.model.": "language_model.model.",
    "model.language_model.": "language_model.model.",
    "model.audio_tower.": "audio_tower.",
    "model.multi_modal_projector.": "multi_modal_projector.",
    "lm_head.": "language_model.lm_head.",
    "language_model.model.": "language_model.model.",
    "language_model.lm_head.": "language_model.lm_head.",
    "language_model.": "language_model.model.",
}
"""How names of tensors begin in the layouts that transformers loads -> in the one that it has saved first."""

LAYER_COUNTS = {
    "audio_tower.layers.": "audio_config: num_hidden_layers",
    "language_model.model.layers.": "text_config: num_hidden_layers",
}
ENCODER = ModuleNames("model.audio_tower.layers.{i}", WHISPER_LAYER, "model.audio_tower.layer_norm")
DECODER = ModuleNames("model.language_model.layers.{i}", LLAMA_LAYER, "model.language_model.norm")
"""Their modules in memory, for `TransformersReference`."""

AUDIO_DEFAULTS = {
    "hidden_size": 1280,
    "num_hidden_layers": 32,
    "num_attention_heads": 20,
    "intermediate_size": 5120,
    "num_mel_bins": 128,
    "max_source_positions": 1500,
}
WHOLE_IRRELEVANT = (*CONFIG_IRRELEVANT, "text_config", "audio_config", "hidden_size", "vocab_size")
AUDIO_IRRELEVANT = (
    *(*CONFIG_IRRELEVANT, "dropout", "attention_dropout", "activation_dropout", "encoder_layerdrop"),
    *("layerdrop", "vocab_size", "head_dim", "num_key_value_heads"),  # the last two follow from others
)


@dataclass(frozen=True)
class AudioLM:
    """A checkpoint of this kind, its settings read and without faults."""

    checkpoint: Checkpoint
    whole: Settings
    audio: Settings
    decoder: DecoderSettings
    extractor: Settings
    generation: Generation
    sizes: Sizes
    log_mel: LogMelConfig
    prefixes: Mapping[str, str]

    @cached_property
    def weights(self) -> Checkpoint:
        """The tensors by the names that transformers saved first."""
        return self.checkpoint.renamed(self.prefixes)

    @property
    def audio_token(self) -> str | None:
        """The token that stands for the audio; None where there is no tokenizer."""
        return token_text(self.checkpoint, self.whole.count("audio_token_id"))

    def projection(self, columns: int, bias: bool) -> tuple[Linear, Linear]:
        """The two layers of a projector whose input has so many columns."""
        read, width = Reader(self.weights), self.decoder.dims.hidden_size
        first = read.linear("multi_modal_projector.linear_1", (width, columns), bias)
        return first, read.linear("multi_modal_projector.linear_2", (width, width), bias)

    def model(
        self, family: str, head: Head, front_end: FrontEnd, prompt: Prompt | None, notes: Iterable[str]
    ) -> SpeechModelSpec:
        """Collect all tensors; `notes` are those of the family itself."""
        weights, text = self.weights, self.decoder.text
        generation = self.generation
        return SpeechModelSpec(
            family=family,
            decoder=read_decoder(weights, self.decoder, self.whole),
            encoder=read_encoder(weights, transformers_names("audio_tower."), self.sizes, head),
            front_end=front_end,
            prompt=prompt,
            eos_token_ids=eos_ids(generation, text, self.whole),
            generation=generation.search,
            notes=(
                *self.whole.notes(WHOLE_IRRELEVANT),
                *self.audio.notes(AUDIO_IRRELEVANT),
                *self.decoder.notes(),
                *self.extractor.notes(EXTRACTOR_IRRELEVANT),
                *generation.notes(),
                *notes,
                *unused_tensors(weights, LAYER_COUNTS),
            ),
        )


def read_audio_lm(
    checkpoint: Checkpoint,
    *,
    audio_type: str,
    text_type: str,
    defaults: Mapping[str, Any],
    text_defaults: Mapping[str, Any] | None = None,
    prefixes: Mapping[str, str] = PREFIXES,
) -> AudioLM:
    """Read the settings.

    Args:
        checkpoint: where they are.
        audio_type: the `model_type` of the encoder.
        text_type: and that of the decoder.
        defaults: of the whole config.
        text_defaults: of its text section, where they are not those of the decoder's own class.
        prefixes: how names of tensors begin -> how they begin in the layout that transformers saved first.

    Raises:
        CheckpointError: a setting that is not supported.
    """
    config, place = checkpoint.config, f"{checkpoint.folder}/config.json"
    whole = Settings(place, config, {"projector_hidden_act": "gelu", **defaults})
    audio = Settings(f"{place}: audio_config", config.get("audio_config", {}), AUDIO_DEFAULTS)
    text_place = f"{place}: text_config"
    decoder = read_decoder_settings(
        text_place, config.get("text_config", {}), text_type, defaults=text_defaults
    )
    extractor, generation = read_extractor(checkpoint), read_generation(checkpoint)
    whole.require(projector_hidden_act="gelu")
    whole.alias("audio_token_id", "audio_token_index")
    whole.count("audio_token_id")
    audio.require(model_type=audio_type, activation_function="gelu", scale_embedding=False)
    require_whisper(extractor)
    sizes = _sizes(audio, decoder.dims.hidden_size)
    refuse_faults(whole, audio, *decoder.sections)
    log_mel = log_mel_of(extractor, sizes)
    return AudioLM(checkpoint, whole, audio, decoder, extractor, generation, sizes, log_mel, prefixes)


def _sizes(audio: Settings, output_size: int) -> Sizes:
    for key, whisper_key in WHISPER_KEYS.items():
        audio.alias(key, whisper_key)
    audio.divides("num_attention_heads", "hidden_size")
    return Sizes(
        num_layers=audio.count("num_hidden_layers"),
        num_heads=audio.count("num_attention_heads"),
        hidden_size=audio.count("hidden_size"),
        intermediate_size=audio.count("intermediate_size"),
        num_mel_bins=audio.count("num_mel_bins"),
        max_positions=audio.count("max_source_positions"),
        output_size=output_size,
    )
