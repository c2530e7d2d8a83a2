"""A Qwen2-Audio checkpoint with random weights, for measurements that need a size and no skill."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

COMMON = {
    "model_type": "qwen2",
    "max_position_embeddings": 8192,
    "rms_norm_eps": 1e-6,
    "tie_word_embeddings": False,
    "eos_token_id": None,
    "bos_token_id": None,
    "pad_token_id": 0,
}
TOY_ENCODER = {
    "model_type": "qwen2_audio_encoder",
    "d_model": 32,
    "encoder_layers": 1,
    "encoder_attention_heads": 2,
    "encoder_ffn_dim": 64,
    "num_mel_bins": 80,
    "max_source_positions": 1500,
}


def write_checkpoint(
    folder: Path,
    sizes: Mapping[str, Any],
    dtype: str = "float32",
    encoder: Mapping[str, Any] = TOY_ENCODER,
) -> None:
    """Write a decoder of these sizes, with a toy encoder or another one, as transformers saves it."""
    import torch
    from transformers import Qwen2AudioConfig, Qwen2AudioForConditionalGeneration

    torch.manual_seed(0)
    config = Qwen2AudioConfig(
        audio_config=dict(encoder), text_config={**COMMON, **sizes}, audio_token_index=1
    )
    Qwen2AudioForConditionalGeneration(config).to(getattr(torch, dtype)).save_pretrained(folder)
