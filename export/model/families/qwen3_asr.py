"""Qwen3-ASR, as it was published first and as transformers saves it: a convolutional stem, a Qwen3 decoder.

The encoder hears a clip in chunks of 1 s, and its rows attend to those of the same 8 s. An answer begins with
the language, `language English<asr_text>`, unless the request has said it: the text of a request is how the
answer begins, and the system text is what may help to hear right.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ....runtime.artifact.prompt import AudioPlace, Prompt
from ....runtime.audio.front_end import FrontEnd
from ....runtime.audio.log_mel import CLIP
from ...checkpoint.chat_template import with_chat_template
from ...checkpoint.checkpoint import Checkpoint
from ...checkpoint.contents import unused_tensors
from ...checkpoint.tokenizer import token_text
from ..facts import Facts
from ..spec import EncoderSpec, ImageStem, SpeechModelSpec, StackedHead
from .parts.decoder import read_decoder, read_decoder_settings
from .parts.feature_extractor import EXTRACTOR_IRRELEVANT, Chunks, clip_log_mel_of, read_extractor
from .parts.generation import read_generation
from .parts.reference import (
    LLAMA_LAYER,
    WHISPER_LAYER,
    Floats,
    Layout,
    Model,
    ModuleNames,
    TransformersReference,
    renamed,
)
from .parts.settings import CONFIG_IRRELEVANT, Settings, eos_ids, refuse_faults, shown
from .parts.whisper import (
    AUDIO_IRRELEVANT,
    Reader,
    Sizes,
    Unlike,
    encoder_sizes,
    read_encoder,
    sinusoids,
    transformers_names,
)

THINKER = "thinker_config"
AUDIO_TYPES = "qwen3_asr_encoder", "qwen3_asr_audio_encoder"  # of transformers, and as published first
AUDIO_DEFAULTS = {
    "d_model": 1024,
    "encoder_layers": 24,
    "encoder_attention_heads": 16,
    "encoder_ffn_dim": 4096,
    "num_mel_bins": 128,
    "n_window": 50,
    "n_window_infer": 800,
    "downsample_hidden_size": 480,
    "output_dim": 3584,
}
AUDIO_TOKENS = {"audio_token_id": 151676, "audio_start_token_id": 151669, "audio_end_token_id": 151670}
END_TOKENS = 151643, 151645  # of the library, where no file names any
EXTRACTORS = "Qwen3ASRFeatureExtractor", "WhisperFeatureExtractor"
EXTRACTOR_DEFAULTS = {"min_length": 8000, "padding_value": 0.0}
PREFIXES = {
    "thinker.lm_head.": "language_model.lm_head.",
    "thinker.model.": "language_model.model.",
    "thinker.audio_tower.proj1.": "multi_modal_projector.linear_1.",
    "thinker.audio_tower.proj2.": "multi_modal_projector.linear_2.",
    "thinker.": "",
    "lm_head.": "language_model.lm_head.",
    "model.language_model.": "language_model.model.",
    "model.": "",
}
"""How names of tensors begin, as published first or saved by transformers -> how parts are read here."""

IN_TRANSFORMERS = {
    "thinker.lm_head.": "lm_head.",
    "thinker.model.": "model.language_model.",
    "thinker.audio_tower.proj1.": "model.multi_modal_projector.linear_1.",
    "thinker.audio_tower.proj2.": "model.multi_modal_projector.linear_2.",
    "thinker.audio_tower.": "model.audio_tower.",
}
LAYER_COUNTS = {
    "audio_tower.layers.": "audio_config: encoder_layers",
    "language_model.model.layers.": "text_config: num_hidden_layers",
}
WHOLE_IRRELEVANT = (
    *(*CONFIG_IRRELEVANT, THINKER, "text_config", "audio_config", "support_languages", "timestamp_token_id"),
    *("token_classification_bias", "user_token_id"),
)
ENCODER_IRRELEVANT = (*AUDIO_IRRELEVANT, "conv_chunksize", "max_source_positions", "num_key_value_heads")
TEXT_IRRELEVANT = (
    *("num_experts", "num_experts_per_tok", "moe_intermediate_size", "decoder_sparse_step", "norm_topk_prob"),
    *("mlp_only_layers", "output_router_logits", "router_aux_loss_coef"),
)
"""Of a mixture of experts: published with decoders that are none, and read by no `qwen3`."""

FRAMES_PER_ROW, HALVINGS = 8, 3
CHUNK_ROWS = 13  # that the processor counts for a whole chunk, whatever its frames
LONGEST_ATTENTION = 6000  # frames: a minute
TURNS = (
    "<|im_start|>system\n",
    "<|im_end|>\n<|im_start|>user\n",
    "<|im_end|>\n<|im_start|>assistant\n",
)
"""What stands around the system text and the audio, and before the answer, without a template."""


def encode_window(model: Model, features: Floats, frames: int) -> Floats:
    """Some chunks of audio to decoder rows: (audio tokens, hidden_size); see `TransformersReference`."""
    import torch

    chunk = 2 * model.model.audio_tower.n_window
    filled = torch.zeros(1, len(features), -(-frames // chunk) * chunk, dtype=model.dtype)
    filled[0, :, :frames] = torch.as_tensor(features[:, :frames])
    mask = (torch.arange(filled.shape[-1]) < frames).long()[None]
    with torch.no_grad():
        found: Floats = model.model.get_audio_features(filled, mask).pooler_output.numpy()
    return found


def _in_transformers(config: Mapping[str, Any]) -> Mapping[str, Any]:
    """The settings as the class has them: what was in a thinker first, on the level above."""
    if THINKER not in config:
        return config
    thinker = config[THINKER]
    audio = {**thinker["audio_config"], "model_type": AUDIO_TYPES[0]}
    text = {**thinker["text_config"], "model_type": "qwen3"}
    rope = text.pop("rope_scaling", None)
    text["rope_parameters"] = {"rope_type": "default", "rope_theta": text.pop("rope_theta", 1e6)}
    assert rope is None or rope.get("rope_type", "default") == "default", "others are refused before"
    return {**thinker, "audio_config": audio, "text_config": text, "model_type": "qwen3_asr"}


REFERENCE = TransformersReference(
    config_class="Qwen3ASRConfig",
    model_class="Qwen3ASRForConditionalGeneration",
    encoder=ModuleNames("model.audio_tower.layers.{i}", WHISPER_LAYER, "model.audio_tower.ln_post"),
    decoder=ModuleNames("model.language_model.layers.{i}", LLAMA_LAYER, "model.language_model.norm"),
    encode_window=encode_window,
    layout=Layout(_in_transformers, renamed(IN_TRANSFORMERS)),
)
FACTS = Facts(
    name="Qwen3-ASR",
    state="tiny random weights in both layouts: sequences and scores equal to transformers; settings of the "
    "0.6B and 1.7B models as public repositories quote them; published weights never tried",
    token_rate="13",
    limits="`max_position_embeddings`, 65536: 84 minutes of audio, less prompt and answer",
    prompts="the checkpoint's chat template; the text of a request is how the answer begins, and "
    "`language English<asr_text>` says the language; a system text helps with names and terms",
    notes="audio of less than 0.5 s counts as 0.5 s; an answer without such a beginning starts with the "
    "language that was heard; forced alignment is not done",
)


def load(checkpoint: Checkpoint) -> SpeechModelSpec:
    """Describe a Qwen3-ASR checkpoint."""
    config, place = checkpoint.config, f"{checkpoint.folder}/config.json"
    generation, extractor = read_generation(checkpoint), _extractor(checkpoint)
    inner, at = (config[THINKER], f"{place}: {THINKER}") if THINKER in config else (config, place)
    whole, thinker = Settings(place, config, {}), Settings(at, inner, AUDIO_TOKENS)
    settings = read_decoder_settings(
        f"{at}: text_config", thinker.take("text_config") or {}, "qwen3", has_position_sections=True
    )
    audio = Settings(f"{at}: audio_config", thinker.take("audio_config") or {}, AUDIO_DEFAULTS)
    sizes, chunks = encoder_sizes(audio, settings.dims.hidden_size, CHUNK_ROWS), _chunks(audio)
    _require(audio, extractor, sizes.output_size, chunks)
    thinker.take("tie_word_embeddings")
    ids = {key: thinker.count(key) for key in AUDIO_TOKENS}
    refuse_faults(whole, thinker, audio, *settings.sections)
    least = extractor.count("min_length")
    log_mel = clip_log_mel_of(extractor, sizes.num_mel_bins, chunks, extent=CLIP, least_samples=least)
    weights = checkpoint.renamed(PREFIXES)
    decoder = read_decoder(weights, settings, thinker)
    encoder = _encoder(weights, audio, sizes, chunks)
    prompt, prompt_notes = with_chat_template(checkpoint, _prompt(checkpoint, ids), prompt_is_answer=True)
    return SpeechModelSpec(
        family="qwen3_asr",
        decoder=decoder,
        encoder=encoder,
        front_end=FrontEnd(log_mel, 1),
        prompt=prompt,
        eos_token_ids=eos_ids(generation, settings.text, thinker, whole)
        or (END_TOKENS if decoder.dims.vocab_size > max(END_TOKENS) else ()),
        generation=generation.search,
        notes=(
            *(whole.notes(WHOLE_IRRELEVANT) if inner is not config else ()),
            *thinker.notes(WHOLE_IRRELEVANT),
            *audio.notes(ENCODER_IRRELEVANT),
            *settings.notes(*TEXT_IRRELEVANT),
            *extractor.notes((*EXTRACTOR_IRRELEVANT, "chunk_length", "feature_extractor_type")),
            *generation.notes(),
            *prompt_notes,
            *unused_tensors(weights, LAYER_COUNTS),
        ),
    )


def _extractor(checkpoint: Checkpoint) -> Settings:
    extractor = read_extractor(checkpoint)
    extractor.values = {**EXTRACTOR_DEFAULTS, **extractor.values}
    return extractor


def _require(audio: Settings, extractor: Settings, output_size: int, chunks: Chunks) -> None:
    """What the graphs and the front end take for granted."""
    audio.require(activation_function="gelu", scale_embedding=False, output_dim=output_size)
    if (kind := audio.take("model_type")) not in (None, *AUDIO_TYPES):
        audio.faults.append(f"model_type {shown(kind)} is not supported (only {', '.join(AUDIO_TYPES)})")
    extractor.require(dither=0.0, padding_side="right", padding_value=0.0, do_normalize=False)
    extractor.require(n_window=chunks.frames // 2)
    if (kind := extractor.take("feature_extractor_type")) not in (None, *EXTRACTORS):
        known = ", ".join(EXTRACTORS)
        extractor.faults.append(f"feature_extractor_type {shown(kind)} is not supported (only {known})")


def _chunks(audio: Settings) -> Chunks:
    window, attention = audio.count("n_window"), audio.count("n_window_infer")
    frames = 2 * window
    if -(-frames // FRAMES_PER_ROW) != CHUNK_ROWS:
        audio.faults.append(
            f"n_window {window} does not give the {CHUNK_ROWS} rows that the processor counts"
        )
    if attention % frames or attention > LONGEST_ATTENTION:
        audio.faults.append(
            f"n_window_infer {attention} must be a multiple of {frames}, twice n_window, and at most "
            f"{LONGEST_ATTENTION}"
        )
    if "max_position_embeddings" in audio.given:
        audio.require(max_position_embeddings=CHUNK_ROWS)
    return Chunks(frames, FRAMES_PER_ROW, attention)


def _encoder(weights: Checkpoint, audio: Settings, sizes: Sizes, chunks: Chunks) -> EncoderSpec:
    read, base, width = Reader(weights), "audio_tower.", sizes.hidden_size
    channels = audio.count("downsample_hidden_size")
    bins = sizes.num_mel_bins
    for _ in range(HALVINGS):
        bins = (bins + 1) // 2
    inputs = [1, channels, channels]
    convolutions = tuple(
        read.convolution(f"{base}conv2d{i + 1}", (channels, inputs[i], 3, 3)) for i in range(HALVINGS)
    )
    stem = ImageStem(convolutions, read.linear(f"{base}conv_out", (width, channels * bins), bias=False))
    unlike = Unlike(
        stem=stem,
        key_bias=True,
        positions=sinusoids(f"{base}sinusoids", CHUNK_ROWS, width),
        attention_rows=CHUNK_ROWS * chunks.frames_of_attention // chunks.frames,
    )
    head = StackedHead(
        read.linear("multi_modal_projector.linear_1", (width, width)),
        read.linear("multi_modal_projector.linear_2", (sizes.output_size, width)),
    )
    names = transformers_names(base, positions=None, final_norm="ln_post")
    return read_encoder(weights, names, sizes, head, unlike)


def _prompt(checkpoint: Checkpoint, ids: Mapping[str, int]) -> Prompt | None:
    """What the published template comes to."""
    audio, begin, end = (token_text(checkpoint, token) for token in ids.values())
    if audio is None or begin is None or end is None:
        return None
    system, user, assistant = TURNS
    return Prompt(
        f"{system}{user}{begin}{{audio}}{end}{assistant}{{prompt}}",
        AudioPlace(audio),
        (ids["audio_token_id"],),
        system_template=f"{system}{{system}}{user}{begin}{{audio}}{end}{assistant}{{prompt}}",
        default_prompt="",
    )
