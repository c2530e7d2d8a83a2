"""A tiny random checkpoint of the family whose encoders are tokenizers of samples, and its inputs."""

from __future__ import annotations

import torch

from clip_checkpoints import TEXT, spread
from conftest import tiny_tokenizer

RATE = 24000
ROW = 3200  # samples: the processor's own
WINDOW = 10 * ROW  # that the model hears at once, less than what a row depends on
MARKS = "<|object_ref_start|>", "<|box_start|>", "<|object_ref_end|>"
TEMPLATE = (
    "<|im_start|>system Write what you hear.<|im_end|>"
    "{%- for message in messages %}{%- if message['role'] == 'user' %}"
    "{%- set texts = message['content'] | selectattr('type', 'equalto', 'text') | list %}"
    "{%- set known = texts[0]['text'] if texts else none %}{{- '<|im_start|>user ' }}"
    "{%- for part in message['content'] %}{%- if part['type'] == 'audio' %}"
    "{{- '<|object_ref_start|><|box_start|><|object_ref_end|>\nThey are <|AUDIO_DURATION|> seconds' }}"
    "{%- if known %}{{- ' about ' + known + '.' }}{%- else %}{{- '.' }}{%- endif %}"
    "{%- endif %}{%- endfor %}{{- '<|im_end|>' }}{%- endif %}{%- endfor %}"
    "{%- if add_generation_prompt %}{{- '<|im_start|>assistant ' }}{%- endif %}"
)
"""As the released one, it says how long the audio is, and a question without a text has a form of its own."""


def save_vibevoice_asr(folder, seed=0):
    """Model and processor."""
    import transformers as hf

    tokenizer = tiny_tokenizer()
    tokenizer.add_special_tokens({"additional_special_tokens": list(MARKS)})
    begin, audio, end = tokenizer.convert_tokens_to_ids(list(MARKS))
    encoder = {
        "model_type": "vibevoice_acoustic_tokenizer_encoder",
        "num_filters": 4,
        "downsampling_ratios": [8, 20, 20],
        "depths": [1, 1, 2, 1],
        "kernel_size": 5,
        "ffn_expansion": 3,
    }
    config = hf.VibeVoiceAsrConfig(
        acoustic_tokenizer_encoder_config={**encoder, "hidden_size": 8},
        semantic_tokenizer_encoder_config={**encoder, "hidden_size": 12, "depths": [1, 0, 1, 2]},
        text_config={**TEXT, "model_type": "qwen2", "vocab_size": len(tokenizer)},
        audio_token_id=audio,
        audio_bos_token_id=begin,
        audio_eos_token_id=end,
        acoustic_tokenizer_chunk_size=WINDOW,
    )
    torch.manual_seed(seed)
    model = hf.VibeVoiceAsrForConditionalGeneration(config).eval()
    spread(model, seed)
    with torch.no_grad():
        for name, weight in model.named_parameters():
            if name.endswith("gamma"):
                weight.mul_(2).add_(0.5)
    model.save_pretrained(folder)
    extractor = hf.VibeVoiceAcousticTokenizerFeatureExtractor()
    hf.VibeVoiceAsrProcessor(extractor, tokenizer, chat_template=TEMPLATE).save_pretrained(folder)
    return model


def vibevoice_asr_inputs(model, folder, samples, prompt):
    """Those of its processor."""
    import transformers as hf

    processor = hf.VibeVoiceAsrProcessor.from_pretrained(folder)
    asked = [{"type": "text", "text": prompt}] if prompt else []
    text = processor.apply_chat_template(
        [{"role": "user", "content": [{"type": "audio", "audio": "clip.wav"}, *asked]}],
        add_generation_prompt=True,
        tokenize=False,
    )
    found = processor(text=[text], audio=[samples], sampling_rate=RATE)
    return {**{name: value for name, value in found.items() if name != "num_audio_tokens"}, "sample": False}
