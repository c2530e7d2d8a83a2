"""Whisper's encoder in two parts: lower layers that stay as they are, and upper ones that learn."""

from __future__ import annotations

from copy import deepcopy
from pathlib import Path
from typing import Any

import torch
from torch import nn
from transformers import Qwen2AudioEncoderConfig
from transformers.models.qwen2_audio.modeling_qwen2_audio import Qwen2AudioEncoder

from fastadasp.runtime.audio.log_mel import LogMelConfig
from training.whisper_weights import encoder_weights

LOG_MEL = LogMelConfig(num_mel_bins=80)
CONFIG: dict[str, Any] = {
    "d_model": 512,
    "encoder_layers": 6,
    "encoder_attention_heads": 8,
    "encoder_ffn_dim": 2048,
    "num_mel_bins": 80,
    "max_source_positions": 1500,
    "dropout": 0.0,
}
UPPER = 2  # layers that learn


def whisper_base(*parts: Path) -> Qwen2AudioEncoder:
    """The encoder of Whisper base, from the parts of its file."""
    encoder = untrained_encoder(CONFIG)
    missing, unknown = encoder.load_state_dict(encoder_weights(*parts), strict=False)
    if missing or unknown:
        raise SystemExit(f"Whisper's encoder does not fit: missing {missing}, unknown {unknown}")
    return encoder


def untrained_encoder(config: dict[str, Any]) -> Qwen2AudioEncoder:
    """An encoder with random weights."""
    settings = Qwen2AudioEncoderConfig(**config)
    settings._attn_implementation = "sdpa"
    return Qwen2AudioEncoder(settings).eval()


@torch.inference_mode()
def lower_rows(encoder: Qwen2AudioEncoder, mel: torch.Tensor, rows: int) -> torch.Tensor:
    """One window, (bins, frames), through all but the upper layers: (rows, width).

    The first `rows` of what the convolutions give attend to each other alone, as they do under the model's
    mask in a window that is filled up with silence.
    """
    x = nn.functional.gelu(encoder.conv1(mel[None]))
    x = nn.functional.gelu(encoder.conv2(x)).transpose(1, 2)[:, :rows]
    x = x + encoder.embed_positions.weight[:rows]
    for layer in encoder.layers[:-UPPER]:
        x = layer(x, None)
    return x[0].float()


class Upper(nn.Module):
    """The upper layers, the mean of every two rows, and the norm."""

    def __init__(self, encoder: Qwen2AudioEncoder) -> None:
        super().__init__()
        self.layers = deepcopy(encoder.layers[-UPPER:])
        self.norm = deepcopy(encoder.layer_norm)

    def forward(self, rows: torch.Tensor, lengths: torch.Tensor) -> torch.Tensor:
        """Rows of the lower layers, (clips, R, width), R even, of which each clip has `lengths` ->
        (clips, R / 2, width), of which it has half as many, rounded down."""
        mask = (torch.arange(rows.shape[1])[None] < lengths[:, None])[:, None, None]
        x = rows
        with torch.autocast("cpu", torch.bfloat16):
            for layer in self.layers:
                x = layer(x, mask.expand(-1, -1, x.shape[1], -1))
        return self.norm(x.float().unflatten(1, (-1, 2)).mean(2))

    def into(self, encoder: Qwen2AudioEncoder) -> None:
        """Put what was learnt into a whole encoder."""
        encoder.layers[-UPPER:].load_state_dict(self.layers.state_dict())
        encoder.layer_norm.load_state_dict(self.norm.state_dict())
