"""Voxtral: a Whisper encoder that always hears 30 s, rows stacked by fours, a Llama decoder, tekken.json."""

from __future__ import annotations

from dataclasses import replace

from ....runtime.artifact.prompt import AudioPlace, Prompt
from ....runtime.audio.front_end import FrontEnd
from ....runtime.audio.log_mel import JOINED
from ...checkpoint.checkpoint import Checkpoint
from ...checkpoint.ranks.tekken import Tekken
from ...checkpoint.tokenizer import token_id
from ..facts import Facts
from ..spec import SpeechModelSpec, StackedHead
from .parts.audio_lm import DECODER, ENCODER, AudioLM, read_audio_lm
from .parts.reference import Floats, Model, TransformersReference
from .parts.settings import refuse_faults

AUDIO_TOKEN_ID = 24  # in the processor of transformers, whatever the config says
TEXT_DEFAULTS = {
    "vocab_size": 131072,
    "hidden_size": 3072,
    "intermediate_size": 8192,
    "num_hidden_layers": 30,
    "num_key_value_heads": 8,
    "max_position_embeddings": 131072,
    "rms_norm_eps": 1e-5,
    "rope_theta": 1e8,
    "head_dim": 128,
}
QUESTION = "[INST][BEGIN_AUDIO]{audio}{prompt}[/INST]"
BOS, TRANSCRIBE = "<s>", "[TRANSCRIBE]"
TOKENS = (BOS, "[INST]", "[/INST]", "[BEGIN_AUDIO]", TRANSCRIBE)
"""What they write."""


def encode_window(model: Model, features: Floats, frames: int) -> Floats:
    """One window of audio to decoder rows, all of them: see `TransformersReference`."""
    import torch

    with torch.no_grad():
        window = torch.as_tensor(features).to(model.dtype)[None]
        rows: Floats = model.get_audio_features(window).pooler_output.numpy()
    return rows


REFERENCE = TransformersReference(
    config_class="VoxtralConfig",
    model_class="VoxtralForConditionalGeneration",
    encoder=ENCODER,
    decoder=DECODER,
    encode_window=encode_window,
)
FACTS = Facts(
    name="Voxtral",
    state="tiny random weights: sequences and scores equal to transformers; prompts and ids equal to "
    "mistral-common; published weights never tried",
    token_rate="12.5, and 375 for each begun 30 s",
    limits="`max_position_embeddings`, 131072: 2.9 h of audio, less prompt and answer; the model was made "
    "for 30 to 40 min",
    prompts="the template of mistral-common; without a text the transcription of an unknown language; "
    "`<s>[INST][BEGIN_AUDIO][AUDIO][/INST]lang:en[TRANSCRIBE]`, taken whole, that of a known one",
    notes="without `tokenizer.json`, the tokenizer is made of `tekken.json`; control tokens are also read in "
    "the text of a request",
)


def load(checkpoint: Checkpoint) -> SpeechModelSpec:
    """Describe a Voxtral checkpoint."""
    checkpoint.rank_tokenizer = Tekken()
    found = read_audio_lm(
        checkpoint,
        audio_type="voxtral_encoder",
        text_type="llama",
        defaults={"audio_token_id": AUDIO_TOKEN_ID},
        text_defaults=TEXT_DEFAULTS,
    )
    sizes = found.sizes
    stacked, rest = divmod(sizes.intermediate_size, sizes.hidden_size)
    if rest or not stacked or sizes.max_positions % stacked:
        found.audio.faults.append(
            f"intermediate_size {sizes.intermediate_size} is the width of whole rows of {sizes.hidden_size}, "
            f"so many that they divide max_source_positions {sizes.max_positions}"
        )
        refuse_faults(found.audio)
    hidden, projector = found.projection(sizes.intermediate_size, bias=False)
    log_mel = replace(found.log_mel, full_windows=True, extent=JOINED)
    return found.model(
        "voxtral", StackedHead(hidden, projector), FrontEnd(log_mel, stacked), _prompt(found), ()
    )


def _prompt(found: AudioLM) -> Prompt | None:
    """The templates of mistral-common, which takes no system text beside audio.

    A request without a text is a transcription.
    """
    audio = found.audio_token
    if audio is None:
        return None
    for token in TOKENS:
        token_id(found.checkpoint, token)
    return Prompt(
        template=BOS + QUESTION,
        audio_place=AudioPlace(audio),
        audio_token_ids=(found.whole.count("audio_token_id"),),
        default_prompt=f"{BOS}[INST][BEGIN_AUDIO]{audio}[/INST]{TRANSCRIBE}",
    )
