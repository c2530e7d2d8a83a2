"""What was learnt as a checkpoint of transformers: Qwen2-Audio, its decoder Llama's with biases of zero."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from tokenizers import Tokenizer
from transformers import GenerationConfig, Qwen2AudioConfig, Qwen2AudioForConditionalGeneration
from transformers.models.qwen2_audio.modeling_qwen2_audio import Qwen2AudioEncoder

from .decoder import Weights, folded
from .encoder import LOG_MEL
from .language_model import AUDIO, AUDIO_BOS, AUDIO_EOS, END, START, Sizes
from .model import Model

CHAT_TEMPLATE = (
    "{% for message in messages %}" + START + "{{ message['role'] }}\n"
    "{% if message['content'] is string %}{{ message['content'] }}{% else %}"
    "{% for part in message['content'] %}{% if part['type'] == 'audio' %}"
    + AUDIO_BOS
    + AUDIO
    + AUDIO_EOS
    + "{% elif part['type'] == 'text' %}{{ part['text'] }}{% endif %}{% endfor %}{% endif %}"
    + END
    + "\n{% endfor %}{% if add_generation_prompt %}"
    + START
    + "assistant\n{% endif %}"
)
MAX_NEW_TOKENS = 256


def whole_model(
    model: Model, encoder: Qwen2AudioEncoder, weights: Weights, sizes: Sizes, special: dict[str, int]
) -> Qwen2AudioForConditionalGeneration:
    """The model of transformers with all that was learnt, float32.

    Args:
        model: what was trained.
        encoder: the one that it was made from; its upper layers are overwritten.
        weights: those of the language model before training.
        sizes: of the decoder.
        special: ids of `audio` and `end`.
    """
    model.upper.into(encoder)
    config = _config(encoder.config.to_dict(), sizes, special)
    whole = Qwen2AudioForConditionalGeneration(config)
    state = {f"model.audio_tower.{name}": value for name, value in encoder.state_dict().items()}
    for kind, value in model.projector.state_dict().items():
        state[f"model.multi_modal_projector.linear.{kind}"] = value
    for name, value in folded(model.decoder, weights).items():
        state[f"model.language_model.{name.removeprefix('model.')}"] = value
    state["lm_head.weight"] = weights["model.embed_tokens.weight"]
    missing, unknown = whole.load_state_dict(state, strict=False)
    if unknown or not all(name.endswith("_proj.bias") for name in missing):
        raise ValueError(f"the checkpoint would not be whole: missing {missing}, unknown {unknown}")
    with torch.no_grad():
        for name in missing:
            whole.get_parameter(name).zero_()
    whole.generation_config = GenerationConfig(
        eos_token_id=special["end"], pad_token_id=special["end"], max_new_tokens=MAX_NEW_TOKENS
    )
    return whole.eval()


def save(whole: Qwen2AudioForConditionalGeneration, tokenizer: Tokenizer, folder: Path) -> None:
    """Write a checkpoint in float16, with tokenizer, chat template and feature extractor."""
    from transformers import PreTrainedTokenizerFast, WhisperFeatureExtractor

    whole.save_pretrained(folder, state_dict={name: part.half() for name, part in whole.state_dict().items()})
    PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, eos_token=END, pad_token=END, chat_template=CHAT_TEMPLATE
    ).save_pretrained(folder)
    bins = LOG_MEL.num_mel_bins
    WhisperFeatureExtractor(feature_size=bins, return_attention_mask=True).save_pretrained(folder)


def _config(audio: dict[str, Any], sizes: Sizes, special: dict[str, int]) -> Qwen2AudioConfig:
    text = {
        "model_type": "qwen2",
        "vocab_size": sizes.vocab_size,
        "hidden_size": sizes.hidden_size,
        "intermediate_size": sizes.intermediate_size,
        "num_hidden_layers": sizes.num_layers,
        "num_attention_heads": sizes.num_heads,
        "num_key_value_heads": sizes.num_kv_heads,
        "max_position_embeddings": sizes.max_positions,
        "rms_norm_eps": sizes.norm_eps,
        "rope_parameters": {"rope_type": "default", "rope_theta": sizes.rope_theta},
        "tie_word_embeddings": True,
        "eos_token_id": special["end"],
        "pad_token_id": special["end"],
    }
    config = Qwen2AudioConfig(audio_config=audio, text_config=text, audio_token_index=special["audio"])
    config._attn_implementation = "sdpa"
    return config
