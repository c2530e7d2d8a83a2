"""Aero: the encoder of Qwen2-Audio before a Qwen2 decoder, by the names of its own code."""

from __future__ import annotations

from dataclasses import replace

from ....runtime.artifact.prompt import AudioPlace, Prompt
from ....runtime.audio.front_end import FrontEnd
from ...checkpoint.chat_template import with_chat_template
from ...checkpoint.checkpoint import Checkpoint
from ..facts import Facts
from ..spec import SpeechModelSpec
from . import qwen2_audio
from .parts.audio_lm import PREFIXES, read_audio_lm
from .parts.reference import Layout, of_another_model, renamed
from .parts.whisper import pooled_head

ROWS_PER_TOKEN = 2  # of the encoder: its average pooling
OWN_PREFIXES = {"audio_modal_projector.": "multi_modal_projector."}

LAYOUT = Layout(of_another_model, renamed(OWN_PREFIXES))
REFERENCE = replace(qwen2_audio.REFERENCE, layout=LAYOUT)  # the same but for the names
FACTS = Facts(
    name="Aero",
    state="tiny random weights: sequences and scores equal to the Qwen2-Audio of transformers under other "
    "names; published weights never tried",
    token_rate="25",
    limits="`max_position_embeddings`, 32768 in the 1.5B model: 1310 s of audio, less prompt and answer",
    prompts="the checkpoint's chat template around `<|AUDIO|>` and the text",
    notes="audio of more than 30 s becomes several windows in one span",
)


def load(checkpoint: Checkpoint) -> SpeechModelSpec:
    """Describe an Aero checkpoint."""
    found = read_audio_lm(
        checkpoint,
        audio_type="qwen2_audio_encoder",
        text_type="qwen2",
        defaults={"audio_token_id": 151648},
        prefixes={**OWN_PREFIXES, **PREFIXES},
    )
    base, token = None, found.audio_token
    if token is not None:
        base = Prompt("{audio}{prompt}", AudioPlace(token), (found.whole.count("audio_token_id"),))
    prompt, notes = with_chat_template(checkpoint, base)
    head = pooled_head(found.weights, found.sizes, "multi_modal_projector.linear")
    return found.model("aero", head, FrontEnd(found.log_mel, ROWS_PER_TOKEN), prompt, notes)
