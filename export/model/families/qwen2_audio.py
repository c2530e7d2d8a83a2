"""Qwen2-Audio, as transformers saves it: Whisper-like encoder, linear projector, Qwen2 decoder."""

from __future__ import annotations

from ....profiles.errors import CheckpointError
from ....runtime.artifact.prompt import AudioPlace, Prompt
from ....runtime.audio.front_end import FrontEnd
from ...checkpoint.chat_template import TOKENIZER_SETTINGS, with_chat_template
from ...checkpoint.checkpoint import CONFIG, Checkpoint
from ...checkpoint.contents import unused_tensors
from ...checkpoint.tokenizer import token_id, token_text
from ..facts import Facts
from ..spec import SpeechModelSpec
from .parts.audio_lm import DECODER, ENCODER, PREFIXES
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
from .parts.reference import Floats, Model, TransformersReference
from .parts.settings import CONFIG_IRRELEVANT, Settings, eos_ids, refuse_faults, shown
from .parts.whisper import AUDIO_IRRELEVANT, encoder_sizes, pooled_head, read_encoder, transformers_names

AUDIO_DEFAULTS = {
    "d_model": 1280,
    "encoder_layers": 32,
    "encoder_attention_heads": 20,
    "encoder_ffn_dim": 5120,
    "num_mel_bins": 128,
    "max_source_positions": 1500,
}
LAYER_COUNTS = {
    "audio_tower.layers.": "audio_config: encoder_layers",
    "language_model.model.layers.": "text_config: num_hidden_layers",
}
WHOLE_IRRELEVANT = (*CONFIG_IRRELEVANT, "text_config", "audio_config", "ignore_index", "vocab_size")
PROCESSOR_TOKENS = {"audio_bos": "audio_bos_token", "AUDIO": "audio_token", "audio_eos": "audio_eos_token"}
"""What stands in the base template, in its order -> the setting of the processor that spells it."""

AUDIO_TOKEN_ID = 151646
ROWS_PER_TOKEN = 2  # of the encoder: its average pooling
PROJECTOR = "multi_modal_projector.linear"


def encode_window(model: Model, features: Floats, frames: int) -> Floats:
    """One window of audio to decoder rows: (audio tokens, hidden_size); see `TransformersReference`."""
    import torch

    encoder, dtype = model.model.audio_tower, model.dtype
    rows, tokens = encoder._get_feat_extract_output_lengths(frames)
    mask = torch.zeros(encoder.max_source_positions, dtype=dtype)
    mask[rows:] = torch.finfo(dtype).min
    with torch.no_grad():
        window = torch.as_tensor(features).to(dtype)[None]
        hidden = encoder(window, attention_mask=mask.expand(1, 1, len(mask), -1)).last_hidden_state
        projected: Floats = model.model.multi_modal_projector(hidden)[0, :tokens].numpy()
    return projected


REFERENCE = TransformersReference(
    config_class="Qwen2AudioConfig",
    model_class="Qwen2AudioForConditionalGeneration",
    encoder=ENCODER,
    decoder=DECODER,
    encode_window=encode_window,
)


FACTS = Facts(
    name="Qwen2-Audio",
    state="tiny random weights: sequences and scores equal to transformers; settings of the real model read; "
    "published weights never tried",
    token_rate="25",
    limits="`max_position_embeddings`, 8192 in the 7B model: 327 s of audio, less prompt and answer",
    prompts="the checkpoint's chat template, or `<|audio_bos|><|AUDIO|><|audio_eos|>` and the text",
    notes="audio of more than 30 s becomes several windows in one span; transformers reads the first window",
)


def load(checkpoint: Checkpoint) -> SpeechModelSpec:
    """Describe a Qwen2-Audio checkpoint."""
    config, place = checkpoint.config, f"{checkpoint.folder}/config.json"
    generation = read_generation(checkpoint)
    whole = Settings(place, config, {"audio_token_index": AUDIO_TOKEN_ID})
    settings = read_decoder_settings(f"{place}: text_config", config.get("text_config", {}), "qwen2")
    text = settings.text
    audio = Settings(f"{place}: audio_config", config.get("audio_config", {}), AUDIO_DEFAULTS)
    extractor, processor = read_extractor(checkpoint), _processor(checkpoint)
    audio.require(model_type="qwen2_audio_encoder", activation_function="gelu", scale_embedding=False)
    require_whisper(extractor)
    sizes = encoder_sizes(audio, settings.dims.hidden_size)
    whole.alias("audio_token_index", "audio_token_id")
    audio_token_id = whole.count("audio_token_index")
    refuse_faults(whole, audio, *settings.sections)
    log_mel = log_mel_of(extractor, sizes)
    weights = checkpoint.renamed(PREFIXES)
    decoder = read_decoder(weights, settings, whole)
    encoder = read_encoder(
        weights, transformers_names("audio_tower."), sizes, pooled_head(weights, sizes, PROJECTOR)
    )
    prompt, prompt_notes = with_chat_template(checkpoint, _prompt(checkpoint, audio_token_id, processor))
    return SpeechModelSpec(
        family="qwen2_audio",
        decoder=decoder,
        encoder=encoder,
        front_end=FrontEnd(log_mel, ROWS_PER_TOKEN),
        prompt=prompt,
        eos_token_ids=eos_ids(generation, text, whole),
        generation=generation.search,
        notes=(
            *whole.notes(WHOLE_IRRELEVANT),
            *audio.notes(AUDIO_IRRELEVANT),
            *settings.notes(),
            *extractor.notes(EXTRACTOR_IRRELEVANT),
            *processor.notes(PROCESSOR_IRRELEVANT),
            *generation.notes(),
            *prompt_notes,
            *unused_tensors(weights, LAYER_COUNTS),
        ),
    )


def _processor(checkpoint: Checkpoint) -> Settings:
    return Settings(f"{checkpoint.folder}/{PROCESSOR}", checkpoint.optional_json(PROCESSOR), {})


def _prompt(checkpoint: Checkpoint, audio_token_id: int, processor: Settings) -> Prompt | None:
    """The base template: [bos] audio_bos AUDIO audio_eos, then the text of the request."""
    audio_token = token_text(checkpoint, audio_token_id)
    given = {name: _content(processor.place, processor.take(key)) for name, key in PROCESSOR_TOKENS.items()}
    if audio_token is None:
        return None
    if given["AUDIO"] not in (None, audio_token):
        raise CheckpointError(
            f"{processor.place}: audio_token is {shown(given['AUDIO'])}, but config.json gives audio the id "
            f"{audio_token_id}, which is {audio_token} in tokenizer.json; take the files of one checkpoint"
        )
    parts = [given[name] or audio_token.replace("AUDIO", name) for name in PROCESSOR_TOKENS]
    for name, part in zip(PROCESSOR_TOKENS, parts, strict=True):
        token_id(checkpoint, part, PROCESSOR if given[name] else CONFIG)
    settings = checkpoint.optional_json(TOKENIZER_SETTINGS)
    bos = _content(f"{checkpoint.folder / TOKENIZER_SETTINGS}", settings.get("bos_token")) or ""
    template = bos + parts[0] + "{audio}" + parts[2] + "{prompt}"
    return Prompt(template, AudioPlace(audio_token), (audio_token_id,))


def _content(place: str, token: object) -> str | None:
    """The text of a token as the files of a tokenizer and a processor give it, alone or in an object.

    Raises:
        CheckpointError: it is neither, or has characters that no text has.
    """
    text = token.get("content") if isinstance(token, dict) else token
    if text is None:
        return None
    if not isinstance(text, str) or any("\ud800" <= character <= "\udfff" for character in text):
        raise CheckpointError(f"{place}: {shown(token)} is no token's text; take the file of the original")
    return text
