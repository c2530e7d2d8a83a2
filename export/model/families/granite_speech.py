"""Granite Speech, as transformers saves it: conformer, Q-Former, Granite decoder with a LoRA of its own."""

from __future__ import annotations

from dataclasses import replace

from ....profiles.errors import CheckpointError
from ....runtime.artifact.prompt import AudioPlace, Prompt
from ...checkpoint.chat_template import with_chat_template
from ...checkpoint.checkpoint import Checkpoint
from ...checkpoint.config_alone import ConfigAlone
from ...checkpoint.contents import unused_tensors
from ...checkpoint.tokenizer import token_text
from ..facts import Facts
from ..lora.adapter import CONFIG as ADAPTER
from ..lora.adapter import read_adapter
from ..lora.fold import with_adapter
from ..spec import SpeechModelSpec
from .parts.decoder import read_decoder, read_decoder_settings
from .parts.generation import read_generation
from .parts.reference import LLAMA_LAYER, Floats, Model, ModuleNames, TransformersReference
from .parts.settings import CONFIG_IRRELEVANT, Settings, eos_ids, refuse_faults
from .towers.granite_settings import LAYER_COUNTS, front_end, read_settings
from .towers.granite_tower import read_tower

# Whether there is an adapter has no default: a folder whose config is silent could be either.
DEFAULTS = {"audio_token_index": 49155, "window_size": 15, "downsample_rate": 5}
PREFIXES = {
    "model.language_model.": "language_model.model.",
    "model.encoder.": "encoder.",
    "model.projector.": "projector.",
    "lm_head.": "language_model.lm_head.",
    "language_model.model.": "language_model.model.",
    "language_model.lm_head.": "language_model.lm_head.",
    "language_model.": "language_model.model.",
}
"""How names of tensors begin in the layouts that transformers loads -> in the one that it saves."""

SECTIONS = ("text_config", "encoder_config", "projector_config")
ENCODER_LAYER = {
    "before/fc1": "ff1.up_proj",
    "before/fc2": "ff1.down_proj",
    "attn_norm": "attn.pre_norm",
    "attn/q_proj": "attn.to_q",
    "attn/kv_proj": "attn.to_kv",
    "attn/out_proj": "attn.to_out",
    "conv/norm": "conv.norm",
    "after/fc1": "ff2.up_proj",
    "after/fc2": "ff2.down_proj",
    "norm": "post_norm",
}


def encode_window(model: Model, features: Floats, frames: int) -> Floats:
    """The features of a clip to decoder rows: (audio tokens, hidden_size); see `TransformersReference`."""
    import torch

    with torch.no_grad():
        clip = torch.as_tensor(features[:, :frames].T).to(model.dtype)[None]
        rows: Floats = model.model.get_audio_features(clip).pooler_output[0].numpy()
    return rows


REFERENCE = TransformersReference(
    config_class="GraniteSpeechConfig",
    model_class="GraniteSpeechForConditionalGeneration",
    encoder=ModuleNames("model.encoder.layers.{i}", ENCODER_LAYER, "model.projector"),
    decoder=ModuleNames("model.language_model.layers.{i}", LLAMA_LAYER, "model.language_model.norm"),
    encode_window=encode_window,
)
FACTS = Facts(
    name="Granite Speech",
    state="tiny random weights: sequences and scores equal to transformers; settings of the 1B model "
    "read; published weights never tried",
    token_rate="10",
    limits="`max_position_embeddings`, 4096 in the 1B model: 409 s of audio, less prompt and answer",
    prompts="the checkpoint's chat template around `<|audio|>` and the text; one that writes the date takes "
    "a system text with each request",
    notes="the encoder hears the whole clip; the adapter in the folder of the checkpoint is folded in; "
    "logits are divided by `logits_scaling`, as in training, which transformers 5 leaves out of this class",
)


def load(checkpoint: Checkpoint) -> SpeechModelSpec:
    """Describe a Granite Speech checkpoint, with its adapter folded in."""
    config, place = checkpoint.config, f"{checkpoint.folder}/config.json"
    generation = read_generation(checkpoint)
    whole = Settings(place, config, DEFAULTS)
    decoder = read_decoder_settings(f"{place}: text_config", config.get("text_config", {}), "granite")
    tower = read_settings(checkpoint, whole)
    whole.alias("audio_token_index", "audio_token_id")
    audio_token_id = whole.count("audio_token_index")
    asks_adapter = whole.flag("has_lora_adapter")
    refuse_faults(whole, *decoder.sections, *tower.sections)
    weights = checkpoint.renamed(PREFIXES)
    prompt, prompt_notes = with_chat_template(checkpoint, _prompt(checkpoint, audio_token_id), as_text=True)
    model = SpeechModelSpec(
        family="granite_speech",
        decoder=read_decoder(weights, decoder, whole),
        encoder=read_tower(weights, tower, decoder.dims.hidden_size),
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
    return _with_own_adapter(replace(model, notes=notes), checkpoint, asks_adapter)


def _with_own_adapter(model: SpeechModelSpec, checkpoint: Checkpoint, asks: bool) -> SpeechModelSpec:
    """The model as it hears: transformers has the adapter of the folder on wherever there is audio.

    Raises:
        CheckpointError: the config asks for one that is not there, or it cannot be folded.
    """
    if isinstance(checkpoint, ConfigAlone) or not asks:
        return model
    if not (checkpoint.folder / ADAPTER).is_file():
        raise CheckpointError(
            f"checkpoint {checkpoint.folder}: has_lora_adapter is true, and {ADAPTER} is missing; copy the "
            "adapter's two files from the original, or set it to false where the adapter is merged already"
        )
    return with_adapter(model, checkpoint, read_adapter(checkpoint.folder))


def _prompt(checkpoint: Checkpoint, audio_token_id: int) -> Prompt | None:
    """The base template: the audio, then the text of the request."""
    audio_token = token_text(checkpoint, audio_token_id)
    if audio_token is None:
        return None
    return Prompt("{audio}{prompt}", AudioPlace(audio_token), (audio_token_id,))
