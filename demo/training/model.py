"""The demo model: Whisper's encoder, a linear projector, twelve thin Qwen2 layers."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import nn
from transformers import GenerationConfig, Qwen2AudioConfig, Qwen2AudioForConditionalGeneration

from fastadasp.runtime.audio.log_mel import LogMelConfig

from .vocabulary import AUDIO, BOS, EOS, ID, PAD, TOKENS, tokenizer
from .whisper_weights import encoder_weights, model_file

LAYERS, HIDDEN, HEADS, KV_HEADS, FFN = 12, 160, 4, 2, 320
MAX_POSITIONS = 8192
AUDIO_CONFIG = {
    "d_model": 384,
    "encoder_layers": 4,
    "encoder_attention_heads": 6,
    "encoder_ffn_dim": 1536,
    "num_mel_bins": 80,
    "max_source_positions": 1500,
    "dropout": 0.0,
}
LOG_MEL = LogMelConfig(num_mel_bins=80)

Model = Qwen2AudioForConditionalGeneration


def new_model(seed: int) -> Model:
    """The model with Whisper's encoder and a fresh decoder; nothing of it learns yet."""
    model = untrained_model(seed)
    missing, unknown = audio_encoder(model).load_state_dict(encoder_weights(model_file()), strict=False)
    if missing or unknown:
        raise SystemExit(f"Whisper's encoder does not fit: missing {missing}, unknown {unknown}")
    return model.requires_grad_(False)


def untrained_model(seed: int) -> Model:
    """The model with random weights."""
    torch.manual_seed(seed)
    special = {"bos_token_id": ID[BOS], "eos_token_id": ID[EOS], "pad_token_id": ID[PAD]}
    text = {
        "model_type": "qwen2",
        "vocab_size": len(TOKENS),
        "hidden_size": HIDDEN,
        "intermediate_size": FFN,
        "num_hidden_layers": LAYERS,
        "num_attention_heads": HEADS,
        "num_key_value_heads": KV_HEADS,
        "max_position_embeddings": MAX_POSITIONS,
        "tie_word_embeddings": True,
        **special,
    }
    config = Qwen2AudioConfig(audio_config=AUDIO_CONFIG, text_config=text, audio_token_index=ID[AUDIO])
    config._attn_implementation = "sdpa"
    model = Qwen2AudioForConditionalGeneration(config)
    model.generation_config = GenerationConfig(**special)
    embedding = model.get_input_embeddings().weight
    nn.init.normal_(embedding, std=HIDDEN**-0.5)
    model.get_output_embeddings().weight = embedding
    return model


def audio_encoder(model: Model) -> nn.Module:
    """Mel frames to rows."""
    return model.model.audio_tower


def encode(encoder: nn.Module, mel: torch.Tensor, rows: int) -> torch.Tensor:
    """One clip, (bins, frames), through Whisper's layers without the silence around it: (audio rows, 384).

    The first `rows` of what the two convolutions give attend to each other alone, as they do in a whole
    window under the model's mask.
    """
    x = nn.functional.gelu(encoder.conv1(mel[None]))
    x = nn.functional.gelu(encoder.conv2(x)).transpose(1, 2)[:, :rows]
    x = x + encoder.embed_positions.weight[:rows]
    for layer in encoder.layers:
        found = layer(x, None)
        x = found[0] if isinstance(found, tuple) else found
    return encoder.layer_norm(encoder.avg_pooler(x.transpose(1, 2)).transpose(1, 2))[0]


def save(model: Model, folder: Path) -> None:
    """Write a checkpoint of transformers in float16, with tokenizer and feature extractor."""
    from transformers import PreTrainedTokenizerFast, WhisperFeatureExtractor

    weights = {name: value.half() for name, value in model.state_dict().items()}
    model.save_pretrained(folder, state_dict=weights)
    PreTrainedTokenizerFast(
        tokenizer_object=tokenizer(), bos_token=BOS, eos_token=EOS, pad_token=PAD
    ).save_pretrained(folder)
    WhisperFeatureExtractor(feature_size=LOG_MEL.num_mel_bins, return_attention_mask=True).save_pretrained(
        folder
    )
