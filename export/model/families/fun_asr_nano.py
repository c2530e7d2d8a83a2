"""Fun-ASR-Nano, as transformers saves it: SAN-M encoder, adaptor, Qwen3 decoder."""

from __future__ import annotations

from dataclasses import replace

from ....runtime.artifact.prompt import AudioPlace, Prompt
from ...checkpoint.chat_template import with_chat_template
from ...checkpoint.checkpoint import Checkpoint
from ...checkpoint.contents import unused_tensors
from ...checkpoint.tokenizer import token_text
from ..facts import Facts
from ..spec import SpeechModelSpec
from .parts.decoder import read_decoder, read_decoder_settings
from .parts.generation import read_generation
from .parts.reference import LLAMA_LAYER, Floats, Model, ModuleNames, TransformersReference
from .parts.settings import CONFIG_IRRELEVANT, Settings, eos_ids, refuse_faults
from .towers.funasr_tower import LAYER_COUNTS, front_end, read_settings, read_tower

TEXT_DEFAULTS = {
    "hidden_size": 1024,
    "intermediate_size": 3072,
    "num_hidden_layers": 28,
    "num_attention_heads": 16,
    "num_key_value_heads": 8,
    "max_position_embeddings": 40960,
    "tie_word_embeddings": True,
}
PREFIXES = {
    "model.language_model.": "language_model.model.",
    "model.audio_tower.": "audio_tower.",
    "model.multi_modal_projector.": "multi_modal_projector.",
    "lm_head.": "language_model.lm_head.",
    "language_model.model.": "language_model.model.",
    "language_model.lm_head.": "language_model.lm_head.",
    "language_model.": "language_model.model.",
}
"""How names of tensors begin in the layouts that transformers loads -> in the one that is read here."""

SECTIONS = ("text_config", "audio_config", "adaptor_config")
ENCODER_LAYER = {
    "attn_norm": "input_layernorm",
    "attn/q_proj": "self_attn.q_proj",
    "attn/k_proj": "self_attn.k_proj",
    "attn/v_proj": "self_attn.v_proj",
    "attn/out_proj": "self_attn.o_proj",
    "mlp_norm": "post_attention_layernorm",
    "mlp/fc1": "mlp.fc1",
    "mlp/fc2": "mlp.fc2",
}


def encode_window(model: Model, features: Floats, frames: int) -> Floats:
    """The features of a clip to decoder rows: (audio tokens, hidden_size); see `TransformersReference`."""
    import torch

    with torch.no_grad():
        clip = torch.as_tensor(features[:, :frames].T).to(model.dtype)[None]
        mask = torch.ones(1, frames, dtype=torch.long)
        rows: Floats = model.model.get_audio_features(clip, mask).pooler_output.numpy()
    return rows


REFERENCE = TransformersReference(
    config_class="FunAsrNanoConfig",
    model_class="FunAsrNanoForConditionalGeneration",
    encoder=ModuleNames("model.audio_tower.layers.{i}", ENCODER_LAYER, "model.multi_modal_projector"),
    decoder=ModuleNames("model.language_model.layers.{i}", LLAMA_LAYER, "model.language_model.norm"),
    encode_window=encode_window,
)
FACTS = Facts(
    name="Fun-ASR-Nano",
    state="tiny random weights: sequences and scores equal to transformers; settings of the real model "
    "read; published weights never tried",
    token_rate="16.7",
    limits="2048 rows of the encoder's positions: 122.9 s of audio, in any model of these settings",
    prompts="the checkpoint's chat template, which asks by itself: the text of a request is context",
    notes="the encoder hears the whole clip; beyond its positions transformers fails, and audio is refused",
)


def load(checkpoint: Checkpoint) -> SpeechModelSpec:
    """Describe a Fun-ASR-Nano checkpoint."""
    config, place = checkpoint.config, f"{checkpoint.folder}/config.json"
    generation = read_generation(checkpoint)
    whole = Settings(place, config, {"audio_token_id": 151646, "tie_word_embeddings": True})
    decoder = read_decoder_settings(
        f"{place}: text_config", config.get("text_config", {}), "qwen3", defaults=TEXT_DEFAULTS
    )
    tower = read_settings(checkpoint, whole, decoder.dims.hidden_size)
    audio_token_id = whole.count("audio_token_id")
    refuse_faults(whole, *decoder.sections, *tower.sections)
    weights = checkpoint.renamed(PREFIXES)
    base = _prompt(checkpoint, audio_token_id)
    prompt, prompt_notes = with_chat_template(checkpoint, base, has_bare_form=True)
    spec = SpeechModelSpec(
        family="fun_asr_nano",
        decoder=read_decoder(weights, decoder, whole),
        encoder=read_tower(weights, tower),
        front_end=front_end(tower),
        prompt=prompt,
        eos_token_ids=eos_ids(generation, decoder.text, whole),
        generation=generation.search,
    )
    notes = (
        *whole.notes((*CONFIG_IRRELEVANT, *SECTIONS)),
        *decoder.notes(),
        *tower.notes(),
        *generation.notes(),
        *prompt_notes,
        *unused_tensors(weights, {**LAYER_COUNTS, "language_model.model.layers.": "text_config"}),
    )
    return replace(spec, notes=notes)


def _prompt(checkpoint: Checkpoint, audio_token_id: int) -> Prompt | None:
    """The base template: the audio, then the text of the request."""
    audio_token = token_text(checkpoint, audio_token_id)
    if audio_token is None:
        return None
    return Prompt("{audio}{prompt}", AudioPlace(audio_token), (audio_token_id,))
