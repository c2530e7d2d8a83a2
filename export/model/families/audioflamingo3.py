"""Audio Flamingo 3: a Whisper encoder whose rows are averaged, a projector of two layers, a Qwen2 decoder."""

from __future__ import annotations

from dataclasses import replace

from ....runtime.artifact.prompt import AudioPlace, Prompt
from ....runtime.audio.front_end import FrontEnd
from ...checkpoint.chat_template import with_chat_template
from ...checkpoint.checkpoint import Checkpoint
from ..facts import Facts
from ..spec import PooledHead, SpeechModelSpec
from .parts.audio_lm import DECODER, ENCODER, AudioLM, read_audio_lm
from .parts.feature_extractor import PROCESSOR, PROCESSOR_IRRELEVANT
from .parts.reference import Floats, Model, TransformersReference
from .parts.settings import Settings, refuse_faults, shown

ROWS_PER_TOKEN = 2  # of the encoder: its average pooling
DEFAULTS = {"audio_token_id": 151669, "projector_bias": True}
PROCESSOR_DEFAULTS = {
    "max_audio_len": 600,  # seconds; the processor drops what is beyond
    "default_transcription_prompt": "Transcribe the input speech.",
}


def encode_window(model: Model, features: Floats, frames: int) -> Floats:
    """One window of audio to decoder rows: (audio tokens, hidden_size); see `TransformersReference`."""
    import torch

    mask = torch.zeros(features.shape[1], dtype=torch.long)
    mask[:frames] = 1
    with torch.no_grad():
        window = torch.as_tensor(features).to(model.dtype)[None]
        rows: Floats = model.get_audio_features(window, mask[None]).pooler_output.numpy()
    return rows


REFERENCE = TransformersReference(
    config_class="AudioFlamingo3Config",
    model_class="AudioFlamingo3ForConditionalGeneration",
    encoder=ENCODER,
    decoder=DECODER,
    encode_window=encode_window,
)
FACTS = Facts(
    name="Audio Flamingo 3",
    state="tiny random weights: sequences and scores equal to transformers; published weights never tried",
    token_rate="25",
    limits="`max_audio_len` of the processor, 600 s: longer audio is refused, while transformers drops "
    "what is beyond",
    prompts="the checkpoint's chat template around `<sound>` and the text; without a text that of a "
    "transcription",
    notes="audio of more than 30 s becomes several windows in one span, as in transformers; transcripts come "
    "with words of the model around them",
)


def load(checkpoint: Checkpoint) -> SpeechModelSpec:
    """Describe an Audio Flamingo 3 checkpoint."""
    processor = Settings(
        f"{checkpoint.folder}/{PROCESSOR}", checkpoint.optional_json(PROCESSOR), PROCESSOR_DEFAULTS
    )
    found = read_audio_lm(
        checkpoint,
        audio_type="audioflamingo3_encoder",
        text_type="qwen2",
        defaults=DEFAULTS,
    )
    windows = int(processor.number("max_audio_len") // found.log_mel.window_seconds)
    if not windows:
        processor.faults.append("max_audio_len is less than a window of the encoder")
    hidden, projector = found.projection(found.sizes.hidden_size, found.whole.flag("projector_bias"))
    base = _prompt(found, processor)
    refuse_faults(processor, found.whole)
    prompt, notes = with_chat_template(checkpoint, base)
    return found.model(
        "audioflamingo3",
        PooledHead(projector, hidden=hidden),
        FrontEnd(found.log_mel, ROWS_PER_TOKEN, most_windows=windows),
        prompt,
        (*processor.notes(PROCESSOR_IRRELEVANT), *notes),
    )


def _prompt(found: AudioLM, processor: Settings) -> Prompt | None:
    """The base template: the audio, then the text of the request."""
    token, written = found.audio_token, processor.take("audio_token")
    default = processor.take("default_transcription_prompt")
    if not isinstance(default, str):
        processor.faults.append(f"default_transcription_prompt is {shown(default)}, a text is expected")
        return None
    if token is None:
        return None
    if written not in (None, token):
        processor.faults.append(f"audio_token is {shown(written)}, but config.json means {token}")
    prompt = Prompt("{audio}{prompt}", AudioPlace(token), (found.whole.count("audio_token_id"),))
    return replace(prompt, default_prompt=default)
