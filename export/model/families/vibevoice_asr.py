"""VibeVoice-ASR, as transformers saves it: two tokenizers of causal convolutions, Qwen2 decoder."""

from __future__ import annotations

from ....profiles.errors import CheckpointError
from ....runtime.artifact.prompt import AudioPlace, Prompt
from ...checkpoint.chat_template import with_chat_template
from ...checkpoint.checkpoint import Checkpoint
from ...checkpoint.contents import unused_tensors
from ...checkpoint.tokenizer import token_text
from ..facts import Facts
from ..spec import SpeechModelSpec
from .parts.decoder import read_decoder, read_decoder_settings
from .parts.feature_extractor import PROCESSOR, PROCESSOR_IRRELEVANT
from .parts.generation import read_generation
from .parts.reference import LLAMA_LAYER, Floats, Model, ModuleNames, TransformersReference
from .parts.settings import CONFIG_IRRELEVANT, Settings, eos_ids, refuse_faults, shown
from .towers.vibevoice_tower import LAYER_COUNTS, PARTS, front_end, read_settings, read_tower

DEFAULTS = {
    "audio_token_id": 151648,
    "audio_bos_token_id": 151646,
    "audio_eos_token_id": 151647,
    "acoustic_tokenizer_chunk_size": 1440000,
    "tie_word_embeddings": False,
}
SECONDS_MARK = "<|AUDIO_DURATION|>"
MARKS = ("audio_bos_token", "audio_token", "audio_eos_token")
"""Settings of the processor, whose ids stand in config.json; and that decides."""

PREFIXES = {
    "model.language_model.": "language_model.model.",
    **{f"model.{name}_tokenizer_encoder.": f"{name}_tokenizer_encoder." for name in PARTS},
    "model.multi_modal_projector.": "multi_modal_projector.",
    "lm_head.": "language_model.lm_head.",
    "language_model.model.": "language_model.model.",
    "language_model.lm_head.": "language_model.lm_head.",
    "language_model.": "language_model.model.",
}
"""How names of tensors begin in the layouts that transformers loads -> in the one that is read here."""

SECTIONS = ("text_config", *(f"{name}_tokenizer_encoder_config" for name in PARTS))
FIRST_BLOCK = {
    "blocks.0/norm": "stage.0.norm",
    "blocks.0/mlp_norm": "stage.0.ffn_norm",
    "blocks.0/mlp/fc1": "stage.0.ffn.linear1",
    "blocks.0/mlp/fc2": "stage.0.ffn.linear2",
}


def encode_window(model: Model, features: Floats, frames: int) -> Floats:
    """The last columns of samples to decoder rows, (frames, hidden_size); see `TransformersReference`."""
    import torch

    with torch.no_grad():
        wave = torch.as_tensor(features.T.reshape(1, 1, -1)).to(model.dtype)
        rows: Floats = model.model.get_audio_features(wave, sample=False).pooler_output[0, -frames:].numpy()
    return rows


REFERENCE = TransformersReference(
    config_class="VibeVoiceAsrConfig",
    model_class="VibeVoiceAsrForConditionalGeneration",
    encoder=ModuleNames(
        "model.acoustic_tokenizer_encoder.conv_layers.{i}", FIRST_BLOCK, "model.multi_modal_projector"
    ),
    decoder=ModuleNames("model.language_model.layers.{i}", LLAMA_LAYER, "model.language_model.norm"),
    encode_window=encode_window,
)
FACTS = Facts(
    name="VibeVoice-ASR",
    state="tiny random weights: sequences and scores equal to transformers; settings of the 7B model as "
    "public repositories quote them; published weights never tried",
    token_rate="7.5",
    limits="`max_position_embeddings`, 131072 in the 7B model: 4.8 h of audio, less prompt and answer; the "
    "model was made for 60 min",
    prompts="the checkpoint's chat template, which says how long the audio is; the text of a request "
    "consists of names and terms",
    notes="audio at 24 kHz; an answer is JSON with times and speakers; no noise is added to the rows, which "
    "transformers leaves out with `sample=False`",
)


def load(checkpoint: Checkpoint) -> SpeechModelSpec:
    """Describe a VibeVoice-ASR checkpoint."""
    config, place = checkpoint.config, f"{checkpoint.folder}/config.json"
    if "decoder_config" in config or "acoustic_tokenizer_config" in config:
        raise CheckpointError(
            f"{place}: it has the layout of the code that was published first; take one in the layout of "
            "transformers 5, with text_config and acoustic_tokenizer_encoder_config"
        )
    generation = read_generation(checkpoint)
    whole = Settings(place, config, DEFAULTS)
    decoder = read_decoder_settings(f"{place}: text_config", whole.take("text_config") or {}, "qwen2")
    tower = read_settings(checkpoint, whole)
    processor = Settings(
        f"{checkpoint.folder}/{PROCESSOR}",
        checkpoint.optional_json(PROCESSOR),
        {"audio_duration_token": SECONDS_MARK},
    )
    seconds_mark = processor.take("audio_duration_token")
    if not isinstance(seconds_mark, str) or not seconds_mark:
        processor.faults.append(f"audio_duration_token is {shown(seconds_mark)}, a text is expected")
    marks = tuple(whole.count(f"{name}_id") for name in MARKS)
    refuse_faults(whole, processor, *decoder.sections, *tower.sections)
    weights = checkpoint.renamed(PREFIXES)
    base = _prompt(checkpoint, marks, seconds_mark)
    prompt, prompt_notes = with_chat_template(checkpoint, base, has_bare_form=True)
    encoder = read_tower(weights, tower, decoder.dims.hidden_size)
    spec = read_decoder(weights, decoder, whole)
    notes = (
        *whole.notes((*CONFIG_IRRELEVANT, *SECTIONS)),
        *decoder.notes(),
        *tower.notes(),
        *processor.notes((*PROCESSOR_IRRELEVANT, *MARKS)),
        *generation.notes(),
        *prompt_notes,
        *unused_tensors(weights, {**LAYER_COUNTS, "language_model.model.layers.": "text_config"}),
    )
    return SpeechModelSpec(
        family="vibevoice_asr",
        decoder=spec,
        encoder=encoder,
        front_end=front_end(tower, encoder),
        prompt=prompt,
        eos_token_ids=eos_ids(generation, decoder.text, whole),
        generation=generation.search,
        notes=notes,
    )


def _prompt(checkpoint: Checkpoint, marks: tuple[int, ...], seconds_mark: str) -> Prompt | None:
    """The base template: the audio between its marks, then the text of the request."""
    texts = [token_text(checkpoint, token) for token in marks]
    begin, audio, end = texts
    if audio is None:
        return None
    return Prompt(
        f"{begin}{{audio}}{end}\n{{prompt}}",
        AudioPlace(audio),
        (marks[1],),
        seconds_mark=seconds_mark,
    )
