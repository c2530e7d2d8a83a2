"""Qwen2.5-Omni, as transformers saves it: of the whole model, the thinker with its audio encoder alone.

The encoder hears a clip in chunks of 2 s, whose rows attend to one another and to no others. Positions of the
decoder stand in three sections, which differ for images and videos only.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ....runtime.artifact.prompt import AudioPlace, Prompt
from ....runtime.audio.front_end import FrontEnd
from ....runtime.audio.log_mel import FILLED
from ...checkpoint.chat_template import with_chat_template
from ...checkpoint.checkpoint import Checkpoint
from ...checkpoint.contents import unused_tensors
from ...checkpoint.tokenizer import token_text
from ..facts import Facts
from ..spec import EncoderSpec, SpeechModelSpec
from .parts.decoder import KINDS, read_decoder, read_decoder_settings
from .parts.feature_extractor import (
    EXTRACTOR_IRRELEVANT,
    Chunks,
    clip_log_mel_of,
    read_extractor,
    require_whisper,
)
from .parts.generation import read_generation
from .parts.reference import (
    LLAMA_LAYER,
    WHISPER_LAYER,
    Floats,
    Layout,
    Model,
    ModuleNames,
    TransformersReference,
)
from .parts.settings import CONFIG_IRRELEVANT, Settings, eos_ids, refuse_faults
from .parts.whisper import (
    AUDIO_IRRELEVANT,
    Names,
    Sizes,
    Unlike,
    encoder_sizes,
    pooled_head,
    read_encoder,
    sinusoids,
    transformers_names,
)

THINKER, THINKER_TYPE = "thinker_config", "qwen2_5_omni_thinker"
THINKER_DEFAULTS = {
    "audio_token_index": 151646,
    "audio_start_token_id": 151647,
    "audio_end_token_id": 151648,
}
TEXT_DEFAULTS = {
    "hidden_size": 3584,
    "intermediate_size": 18944,
    "num_hidden_layers": 28,
    "num_attention_heads": 28,
    "num_key_value_heads": 4,
    "vocab_size": 152064,
    "rope_theta": 1e6,
}
AUDIO_DEFAULTS = {
    "d_model": 1280,
    "encoder_layers": 32,
    "encoder_attention_heads": 20,
    "encoder_ffn_dim": 5120,
    "num_mel_bins": 128,
    "max_source_positions": 1500,
    "n_window": 100,
    "output_dim": 3584,
}
PREFIXES = {
    "thinker.lm_head.": "language_model.lm_head.",
    "thinker.model.": "language_model.model.",
    "thinker.": "",
    "lm_head.": "language_model.lm_head.",
    "model.language_model.": "language_model.model.",
    "model.audio_tower.": "audio_tower.",
    "model.visual.": "visual.",
    "model.": "language_model.model.",
}
"""How names of tensors begin, in the whole model or in a thinker alone -> how parts are read here."""

OTHER_PARTS = {
    "talker.": "the talker, which speaks",
    "token2wav.": "the vocoder of the talker",
    "visual.": "the encoder of images and videos",
    "audio_tower.audio_bos_eos_token.": "rows that this model never sets around audio",
}
LAYER_COUNTS = {
    "audio_tower.layers.": "audio_config: encoder_layers",
    "language_model.model.layers.": "text_config: num_hidden_layers",
}
WHOLE_IRRELEVANT = (
    *(*CONFIG_IRRELEVANT, THINKER, "talker_config", "token2wav_config", "enable_audio_output"),
    *("enable_talker", "text_config", "audio_config", "vision_config"),
)
THINKER_IRRELEVANT = (
    *(*WHOLE_IRRELEVANT, "position_id_per_seconds", "seconds_per_chunk", "user_token_id", "ignore_index"),
    *("vision_start_token_id", "vision_end_token_id", "vision_token_id"),
)
VISION_TOKENS = ("image_token_index", "image_token_id", "video_token_index", "video_token_id")
FRAMES_PER_ROW, ROWS_PER_TOKEN = 2, 2
LONGEST = 30  # seconds that the feature extractor of transformers hears, unless its file says another number
EXTRACTOR_OF_IMAGES = (
    *("image_mean", "image_std", "max_pixels", "min_pixels", "merge_size", "patch_size"),
    *("temporal_patch_size", "image_processor_type", "size", "do_rescale", "do_resize", "do_convert_rgb"),
    *("rescale_factor", "resample", "video_processor_type"),
)
TINY_VISION = {"depth": 0, "hidden_size": 16, "num_heads": 1, "fullatt_block_indexes": []}
"""An encoder of images that costs nothing, where there are no weights for one."""


def encode_window(model: Model, features: Floats, frames: int) -> Floats:
    """Some chunks of audio to decoder rows: (audio tokens, hidden_size); see `TransformersReference`."""
    import torch

    heard = torch.as_tensor(features[:, :frames]).to(model.dtype)
    with torch.no_grad():
        found = model.model.audio_tower(heard, feature_lens=torch.tensor([frames]))
    rows: Floats = found.last_hidden_state.numpy()
    return rows


def _thinker_alone(config: Mapping[str, Any]) -> Mapping[str, Any]:
    return {**config.get(THINKER, config), "vision_config": TINY_VISION}


def _name_in_thinker(name: str) -> str | None:
    plain = name.removeprefix("thinker.")
    return None if plain.startswith(("talker.", "token2wav.", "visual.", "model.visual.")) else plain


REFERENCE = TransformersReference(
    config_class="Qwen2_5OmniThinkerConfig",
    model_class="Qwen2_5OmniThinkerForConditionalGeneration",
    encoder=ModuleNames("model.audio_tower.layers.{i}", WHISPER_LAYER, "model.audio_tower.ln_post"),
    decoder=ModuleNames("model.language_model.layers.{i}", LLAMA_LAYER, "model.language_model.norm"),
    encode_window=encode_window,
    layout=Layout(_thinker_alone, _name_in_thinker),
)
FACTS = Facts(
    name="Qwen2.5-Omni",
    state="tiny random weights: sequences and scores equal to transformers; settings of the 7B model as "
    "public repositories quote them; published weights never tried",
    token_rate="25",
    limits="`chunk_length` of the feature extractor, 300 s: longer audio is refused, where transformers "
    "drops the rest",
    prompts="the checkpoint's chat template, or `<|audio_bos|><|AUDIO|><|audio_eos|>` and the text",
    notes="the thinker alone, and audio alone: talker, vocoder and the encoder of images and videos are not "
    "read, and a text that names an image or a video is refused",
)


def load(checkpoint: Checkpoint) -> SpeechModelSpec:
    """Describe a Qwen2.5-Omni checkpoint, or that of its thinker alone."""
    config, place = checkpoint.config, f"{checkpoint.folder}/config.json"
    generation, extractor = read_generation(checkpoint), read_extractor(checkpoint)
    whole = Settings(place, config, {})
    inner, at = (config.get(THINKER, {}), f"{place}: {THINKER}") if THINKER in config else (config, place)
    thinker = Settings(at, inner, THINKER_DEFAULTS)
    settings = read_decoder_settings(
        f"{at}: text_config",
        thinker.take("text_config") or {},
        "qwen2_5_omni_text",
        defaults=TEXT_DEFAULTS,
        kind=KINDS["qwen2"],
        has_position_sections=True,
    )
    audio = Settings(f"{at}: audio_config", thinker.take("audio_config") or {}, AUDIO_DEFAULTS)
    audio.require(model_type="qwen2_5_omni_audio_encoder", activation_function="gelu", scale_embedding=False)
    require_whisper(extractor)
    thinker.alias("audio_token_index", "audio_token_id")
    thinker.take("tie_word_embeddings")
    ids = [thinker.count(key) for key in THINKER_DEFAULTS]
    refused = [thinker.count(key) for key in VISION_TOKENS if thinker.given.get(key) is not None]
    sizes, chunks = encoder_sizes(audio, settings.dims.hidden_size), _chunks(audio)
    audio.require(output_dim=settings.dims.hidden_size)
    longest = extractor.count("chunk_length") if "chunk_length" in extractor.given else LONGEST
    refuse_faults(whole, thinker, audio, *settings.sections)
    log_mel = clip_log_mel_of(
        extractor, sizes.num_mel_bins, chunks, extent=FILLED, filled_seconds=float(longest)
    )
    weights = checkpoint.renamed(PREFIXES)
    decoder, encoder = read_decoder(weights, settings, thinker), _encoder(weights, sizes, chunks)
    prompt, prompt_notes = with_chat_template(checkpoint, _prompt(checkpoint, ids, refused))
    return SpeechModelSpec(
        family="qwen2_5_omni",
        decoder=decoder,
        encoder=encoder,
        front_end=FrontEnd(log_mel, ROWS_PER_TOKEN),
        prompt=prompt,
        eos_token_ids=eos_ids(generation, settings.text, thinker, whole),
        generation=generation.search,
        notes=(
            *(whole.notes(WHOLE_IRRELEVANT) if inner is not config else ()),
            *thinker.notes(THINKER_IRRELEVANT),
            *audio.notes(AUDIO_IRRELEVANT),
            *settings.notes(),
            *extractor.notes((*EXTRACTOR_IRRELEVANT, *EXTRACTOR_OF_IMAGES)),
            *generation.notes(),
            *prompt_notes,
            *unused_tensors(weights, LAYER_COUNTS, OTHER_PARTS),
        ),
    )


def _chunks(audio: Settings) -> Chunks:
    """One chunk is what attends to itself; its rows make whole tokens."""
    window = audio.count("n_window")
    if window % ROWS_PER_TOKEN or window > audio.count("max_source_positions"):
        audio.faults.append(
            f"n_window {window} must be even and at most max_source_positions "
            f"{audio.count('max_source_positions')}"
        )
    return Chunks(2 * window, FRAMES_PER_ROW, 2 * window)


def _encoder(weights: Checkpoint, sizes: Sizes, chunks: Chunks) -> EncoderSpec:
    rows = chunks.frames // FRAMES_PER_ROW
    table = sinusoids("audio_tower.sinusoids", rows, sizes.hidden_size)
    names: Names = transformers_names("audio_tower.", positions=None, final_norm="ln_post")
    head = pooled_head(weights, sizes, "audio_tower.proj")
    return read_encoder(weights, names, sizes, head, Unlike(positions=table, attention_rows=rows))


def _prompt(checkpoint: Checkpoint, ids: list[int], refused: list[int]) -> Prompt | None:
    """The base template: audio_bos AUDIO audio_eos, then the text of the request."""
    audio, begin, end = (token_text(checkpoint, token) for token in ids)
    if audio is None or begin is None or end is None:
        return None
    marks = tuple(mark for token in refused if (mark := token_text(checkpoint, token)))
    template = f"{begin}{{audio}}{end}{{prompt}}"
    return Prompt(template, AudioPlace(audio), (ids[0],), refused_marks=marks)
