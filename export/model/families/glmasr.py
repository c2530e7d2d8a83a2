"""GLM-ASR, as transformers saves it: a Whisper-like encoder with rotary positions, a Llama decoder."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from ....profiles.errors import CheckpointError
from ....runtime.artifact.prompt import AudioPlace, Prompt
from ....runtime.audio.front_end import FrontEnd
from ...checkpoint.chat_template import with_chat_template
from ...checkpoint.checkpoint import Checkpoint
from ...checkpoint.contents import unused_tensors
from ...checkpoint.tokenizer import token_text
from ..facts import Facts
from ..spec import EncoderRotary, EncoderSpec, SpeechModelSpec, StackedHead
from .parts.decoder import read_decoder, read_decoder_settings
from .parts.feature_extractor import (
    EXTRACTOR_IRRELEVANT,
    PROCESSOR,
    PROCESSOR_IRRELEVANT,
    log_mel_of,
    read_extractor,
    require_whisper,
)
from .parts.generation import read_generation
from .parts.reference import (
    LLAMA_LAYER,
    WHISPER_LAYER,
    Floats,
    Model,
    ModuleNames,
    TransformersReference,
)
from .parts.settings import CONFIG_IRRELEVANT, Settings, eos_ids, refuse_faults
from .parts.whisper import Reader, Sizes, Unlike, read_encoder, transformers_names

AUDIO_TOKEN_ID = 59260
TEXT_DEFAULTS = {
    "vocab_size": 59264,
    "hidden_size": 2048,
    "intermediate_size": 6144,
    "num_hidden_layers": 28,
    "num_attention_heads": 16,
    "num_key_value_heads": 4,
    "max_position_embeddings": 8192,
    "rms_norm_eps": 1e-5,
    "eos_token_id": [59246, 59253, 59255],
}
AUDIO_DEFAULTS: Mapping[str, Any] = {
    "hidden_size": 1280,
    "intermediate_size": 5120,
    "num_hidden_layers": 32,
    "num_attention_heads": 20,
    "num_key_value_heads": None,
    "max_position_embeddings": 1500,
    "num_mel_bins": 128,
    "rope_parameters": {},
}
ROTATED = "partial_rotary_factor"  # the share of each head that is rotated
ROPE_DEFAULTS = {"rope_theta": 10000.0, ROTATED: 0.5}
PROCESSOR_DEFAULTS = {
    "max_audio_len": 655,
    "default_transcription_prompt": "Please transcribe this audio into text",
}
PREFIXES = {
    "model.language_model.model.": "language_model.model.",
    "model.language_model.": "language_model.model.",
    "model.audio_tower.": "audio_tower.",
    "model.multi_modal_projector.": "multi_modal_projector.",
    "lm_head.": "language_model.lm_head.",
}
LAYER_COUNTS = {
    "audio_tower.layers.": "audio_config: num_hidden_layers",
    "language_model.model.layers.": "text_config: num_hidden_layers",
}
WHOLE_IRRELEVANT = (*CONFIG_IRRELEVANT, "text_config", "audio_config", "vocab_size", "hidden_size")
AUDIO_IRRELEVANT = (*CONFIG_IRRELEVANT, "attention_dropout", "head_dim")
ROWS_PER_TOKEN = 4
TEMPLATE = "<|user|>\n<|begin_of_audio|>{audio}<|end_of_audio|><|user|>\n{prompt}<|assistant|>\n"
"""Of checkpoints without a chat template: what the published code writes."""

LAYER = {
    **WHISPER_LAYER,
    "attn_norm": "input_layernorm",
    "attn/out_proj": "self_attn.o_proj",
    "mlp_norm": "post_attention_layernorm",
    "mlp/fc1": "mlp.fc1",
    "mlp/fc2": "mlp.fc2",
}
NAMES = {
    "attn_norm": "input_layernorm",
    "output": "self_attn.o_proj",
    "mlp_norm": "post_attention_layernorm",
    "fc1": "mlp.fc1",
    "fc2": "mlp.fc2",
    "final_norm": "norm",
    "positions": None,
}


def encode_window(model: Model, features: Floats, frames: int) -> Floats:
    """One window of audio to decoder rows: (audio tokens, hidden_size); see `TransformersReference`."""
    import torch

    mask = (torch.arange(features.shape[1]) < frames).long()[None]
    with torch.no_grad():
        window = torch.as_tensor(features).to(model.dtype)[None]
        rows: Floats = model.model.get_audio_features(window, mask).pooler_output.numpy()
    return rows


REFERENCE = TransformersReference(
    config_class="GlmAsrConfig",
    model_class="GlmAsrForConditionalGeneration",
    encoder=ModuleNames("model.audio_tower.layers.{i}", LAYER, "model.audio_tower.norm"),
    decoder=ModuleNames("model.language_model.layers.{i}", LLAMA_LAYER, "model.language_model.norm"),
    encode_window=encode_window,
)
FACTS = Facts(
    name="GLM-ASR",
    state="tiny random weights: sequences and scores equal to transformers; settings of the Nano model as "
    "transformers has them; published weights never tried",
    token_rate="12.5",
    limits="the whole windows of 30 s in `max_audio_len` of the processor, 630 s: longer audio is refused, "
    "where transformers drops the rest",
    prompts="the checkpoint's chat template, or the published form; `default_transcription_prompt` is the "
    "text of requests that have none",
    notes="the layout of transformers 5; silence that fills up the last window is encoded, as there",
)


def load(checkpoint: Checkpoint) -> SpeechModelSpec:
    """Describe a GLM-ASR checkpoint."""
    config, place = checkpoint.config, f"{checkpoint.folder}/config.json"
    if "whisper_config" in config or "lm_config" in config:
        raise CheckpointError(
            f"{place}: it has the layout of the code that was published first; take one in the layout of "
            "transformers 5, with audio_config and text_config"
        )
    generation, extractor = read_generation(checkpoint), read_extractor(checkpoint)
    processor = Settings(
        f"{checkpoint.folder}/{PROCESSOR}", checkpoint.optional_json(PROCESSOR), PROCESSOR_DEFAULTS
    )
    whole = Settings(place, config, {"audio_token_id": AUDIO_TOKEN_ID, "tie_word_embeddings": True})
    whole.require(projector_hidden_act="gelu")
    settings = read_decoder_settings(
        f"{place}: text_config", whole.take("text_config") or {}, "llama", defaults=TEXT_DEFAULTS
    )
    audio = Settings(f"{place}: audio_config", whole.take("audio_config") or {}, AUDIO_DEFAULTS)
    rope = _rope(audio)
    sizes = _sizes(audio, settings.dims.hidden_size)
    rotary = _rotary(audio, rope, sizes)
    audio_token_id, text = whole.count("audio_token_id"), processor.take("default_transcription_prompt")
    require_whisper(extractor)
    refuse_faults(whole, audio, rope, processor, *settings.sections)
    log_mel = log_mel_of(extractor, sizes)
    windows = processor.count("max_audio_len") // round(log_mel.window_seconds)
    if not windows:
        processor.faults.append(f"max_audio_len is below a window of {log_mel.window_seconds:g} s")
    refuse_faults(processor)
    log_mel = replace(log_mel, full_windows=True, cuts="always")
    weights = checkpoint.renamed(PREFIXES)
    decoder, encoder = read_decoder(weights, settings, whole), _encoder(weights, sizes, rotary)
    prompt, prompt_notes = with_chat_template(checkpoint, _prompt(checkpoint, audio_token_id, text))
    return SpeechModelSpec(
        family="glmasr",
        decoder=decoder,
        encoder=encoder,
        front_end=FrontEnd(log_mel, ROWS_PER_TOKEN, most_windows=windows),
        prompt=prompt,
        eos_token_ids=eos_ids(generation, settings.text, whole),
        generation=generation.search,
        notes=(
            *whole.notes(WHOLE_IRRELEVANT),
            *audio.notes(AUDIO_IRRELEVANT),
            *rope.notes(()),
            *settings.notes(),
            *extractor.notes(EXTRACTOR_IRRELEVANT),
            *processor.notes((*PROCESSOR_IRRELEVANT, "audio_token")),  # config.json has its id
            *generation.notes(),
            *prompt_notes,
            *unused_tensors(weights, LAYER_COUNTS),
        ),
    )


def _sizes(audio: Settings, output_size: int) -> Sizes:
    audio.require(model_type="glmasr_encoder", hidden_act="gelu")
    audio.divides("num_attention_heads", "hidden_size")
    heads, width = audio.count("num_attention_heads"), audio.count("hidden_size")
    if audio.take("num_key_value_heads") not in (None, heads):
        audio.require(num_key_value_heads=heads)
    audio.require(intermediate_size=ROWS_PER_TOKEN * width)  # the projector takes so many rows side by side
    return Sizes(
        num_layers=audio.count("num_hidden_layers"),
        num_heads=heads,
        hidden_size=width,
        intermediate_size=ROWS_PER_TOKEN * width,
        num_mel_bins=audio.count("num_mel_bins"),
        max_positions=audio.count("max_position_embeddings"),
        output_size=output_size,
    )


def _rope(audio: Settings) -> Settings:
    """The section of the rotary positions; as in transformers, one share may stand above it."""
    share = audio.take(ROTATED)
    above = {} if share is None else {ROTATED: share}
    given = audio.take("rope_parameters") or {}
    return Settings(f"{audio.place}: rope_parameters", given, {**ROPE_DEFAULTS, **above})


def _rotary(audio: Settings, rope: Settings, sizes: Sizes) -> EncoderRotary:
    """The part of each head that is rotated."""
    rope.require(rope_type="default", type="default")
    head_dim = sizes.hidden_size // sizes.num_heads
    audio.require(head_dim=head_dim)
    rotated = int(head_dim * rope.number(ROTATED))
    if rotated % 2 or not 0 < rotated <= head_dim:
        rope.faults.append(f"{ROTATED} gives {rotated} of {head_dim} numbers, an even part expected")
    return EncoderRotary(rope.number("rope_theta"), rotated)


def _encoder(weights: Checkpoint, sizes: Sizes, rotary: EncoderRotary) -> EncoderSpec:
    read, size, wide = Reader(weights), sizes.output_size, ROWS_PER_TOKEN * sizes.hidden_size
    head = StackedHead(
        read.linear("multi_modal_projector.linear_1", (2 * size, wide)),
        read.linear("multi_modal_projector.linear_2", (size, 2 * size)),
    )
    names: Mapping[str, str | None] = NAMES
    return read_encoder(
        weights, transformers_names("audio_tower.", **names), sizes, head, Unlike(rotary=rotary)
    )


def _prompt(checkpoint: Checkpoint, audio_token_id: int, text: object) -> Prompt | None:
    audio = token_text(checkpoint, audio_token_id)
    if audio is None:
        return None
    default = text if isinstance(text, str) else None
    return Prompt(TEMPLATE, AudioPlace(audio), (audio_token_id,), default_prompt=default)
