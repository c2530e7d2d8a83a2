"""The audio tower of WavLLM in torch: transformers' two encoders, and the parts around them, one by one.

The state dict of `TorchTower` has the names of a converted checkpoint, so recorded weights load strictly.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import save_file
from torch import nn
from transformers import WavLMConfig, WavLMModel, WhisperConfig, WhisperFeatureExtractor
from transformers.models.whisper.modeling_whisper import WhisperEncoder

CONFIG: dict[str, Any] = {
    "model_type": "wavllm",
    "sampling_rate": 16000,
    "chunk_samples": 20170,
    "whisper_config": {
        "model_type": "whisper",
        "d_model": 24,
        "encoder_layers": 2,
        "encoder_attention_heads": 3,
        "encoder_ffn_dim": 40,
        "num_mel_bins": 16,
        "max_source_positions": 63,
    },
    "wavlm_config": {
        "model_type": "wavlm",
        "hidden_size": 24,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "intermediate_size": 36,
        "conv_dim": [8, 12, 12, 8, 8, 8, 10],
        "conv_kernel": [10, 3, 3, 3, 3, 2, 2],
        "conv_stride": [5, 2, 2, 2, 2, 2, 2],
        "conv_bias": False,
        "num_conv_pos_embeddings": 10,
        "num_conv_pos_embedding_groups": 3,
        "num_buckets": 24,
        "max_bucket_distance": 40,
        "feat_extract_norm": "group",
        "feat_extract_activation": "gelu",
        "hidden_act": "gelu",
        "do_stable_layer_norm": False,
        "layer_norm_eps": 1e-5,
    },
    "subsample": {
        "kernel_sizes": [3, 3],
        "stride": 2,
        "activation": "glu",
        "whisper_mid_channels": 20,
        "whisper_out_channels": 14,
        "wavlm_mid_channels": 16,
        "wavlm_out_channels": 18,
    },
    "adapter": {
        "activation": "gelu",
        "whisper_hidden_size": 6,
        "wavlm_hidden_size": 10,
        "layer_norm_eps": 1e-5,
    },
    "projector": {"whisper_dim": 12, "wavlm_dim": 20, "concat_order": ["whisper", "wavlm"]},
    "text_config": {"hidden_size": 32},
}


class Subsample(nn.Module):
    """Two convolutions with gated linear units."""

    def __init__(self, width: int, middle: int, out: int) -> None:
        super().__init__()
        convolutions = nn.Conv1d(width, middle, 3, 2, 1), nn.Conv1d(middle // 2, 2 * out, 3, 2, 1)
        self.conv_layers = nn.ModuleList(convolutions)

    def forward(self, rows: torch.Tensor) -> torch.Tensor:
        x = rows.T[None]
        for convolution in self.conv_layers:
            x = nn.functional.glu(convolution(x), dim=1)
        return x[0].T


class Adapter(nn.Module):
    """A bottleneck whose norm is on the branch."""

    def __init__(self, width: int, hidden: int) -> None:
        super().__init__()
        self.down_layer, self.up_layer = nn.Linear(width, hidden), nn.Linear(hidden, width)
        self.layer_norm = nn.LayerNorm(width)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x + self.layer_norm(self.up_layer(nn.functional.gelu(self.down_layer(x))))


class Branch(nn.Module):
    """One encoder and its head."""

    def __init__(self, model: nn.Module, width: int, config: dict[str, Any], name: str) -> None:
        super().__init__()
        sub, out = config["subsample"], config["subsample"][f"{name}_out_channels"]
        self.model = model
        self.subsample = Subsample(width, sub[f"{name}_mid_channels"], out)
        self.adapter = Adapter(out, config["adapter"][f"{name}_hidden_size"])
        self.projector = nn.Linear(out, config["projector"][f"{name}_dim"])

    def head(self, rows: torch.Tensor) -> torch.Tensor:
        return self.projector(self.adapter(self.subsample(rows)))


class TorchTower(nn.Module):
    """Samples to audio rows."""

    def __init__(self, config: dict[str, Any]) -> None:
        super().__init__()
        whisper, wavlm = WhisperConfig(**config["whisper_config"]), WavLMConfig(**config["wavlm_config"])
        self.config, self.window = config, config["chunk_samples"]
        hidden, dims = config["text_config"]["hidden_size"], config["projector"]
        self.audio_encoder = Branch(_encoder(WhisperEncoder, whisper), whisper.d_model, config, "whisper")
        self.wavlm_encoder = Branch(_encoder(WavLMModel, wavlm), wavlm.hidden_size, config, "wavlm")
        self.wavlm_encoder.output_weights = nn.Parameter(torch.zeros(wavlm.num_hidden_layers + 1))
        self.wavlm_audio_proj = nn.Linear(dims["whisper_dim"] + dims["wavlm_dim"], hidden)
        self.audio_proj = nn.Linear(dims["whisper_dim"], hidden)
        bins = whisper.num_mel_bins
        self._extractor = WhisperFeatureExtractor(feature_size=bins, chunk_length=self.window / 16000)
        self.eval()

    @torch.no_grad()
    def whisper_hidden(self, wave: np.ndarray) -> list[torch.Tensor]:
        """Encoder rows of each part: (rows, d), of one part alone just those of its audio."""
        parts = [wave[at : at + self.window] for at in range(0, len(wave), self.window)]
        rows = [self._whisper(part) for part in parts]
        return [rows[0][: _halved(-(-len(wave) // 160))]] if len(rows) == 1 else rows

    @torch.no_grad()
    def whisper_out(self, wave: np.ndarray) -> torch.Tensor:
        return torch.cat([self.audio_encoder.head(rows) for rows in self.whisper_hidden(wave)])

    @torch.no_grad()
    def wavlm_hidden(self, wave: np.ndarray) -> torch.Tensor:
        """All hidden states: (layers + 1, rows, d)."""
        given = torch.from_numpy(wave)[None].to(self.audio_proj.weight.dtype)
        return torch.stack(self.wavlm_encoder.model(given, output_hidden_states=True).hidden_states)[:, 0]

    @torch.no_grad()
    def wavlm_out(self, wave: np.ndarray) -> torch.Tensor:
        shares = self.wavlm_encoder.output_weights.softmax(0)
        return self.wavlm_encoder.head(torch.einsum("l,ltd->td", shares, self.wavlm_hidden(wave)))

    @torch.no_grad()
    def forward(self, wave: np.ndarray) -> torch.Tensor:
        whisper, wavlm = self.whisper_out(wave), self.wavlm_out(wave)
        count = min(len(whisper), len(wavlm))
        return self.wavlm_audio_proj(torch.cat([whisper[:count], wavlm[:count]], dim=1))

    def _whisper(self, part: np.ndarray) -> torch.Tensor:
        padded = np.zeros(self.window, np.float32)
        padded[: len(part)] = part
        found = self._extractor(padded, sampling_rate=16000, padding="do_not_pad", return_tensors="pt")
        mel = found.input_features.to(self.audio_proj.weight.dtype)
        return self.audio_encoder.model(mel).last_hidden_state[0]


def random_tower(config: dict[str, Any] = CONFIG, seed: int = 0) -> TorchTower:
    """A tower in which every part counts."""
    torch.manual_seed(seed)
    tower = TorchTower(config)
    for name, weight in tower.named_parameters():
        if weight.ndim > 1 and "gru_rel_pos_const" not in name:
            weight.data.normal_(0, 1.5 * weight[0].numel() ** -0.5)
        elif name.endswith("rel_attn_embed.weight"):
            weight.data.normal_()
        else:
            weight.data.add_(torch.randn_like(weight), alpha=0.3)
    return tower


def save_tower(folder: Path, tower: TorchTower, *, old_norm: bool = False, wrapped: bool = False) -> None:
    """Write config.json and model.safetensors.

    Args:
        folder: which is made.
        tower: what is written.
        old_norm: name the weight norm as torch did before 2.1.
        wrapped: leave the wrappers of training in the names.
    """
    folder.mkdir()
    (folder / "config.json").write_text(json.dumps(tower.config), "utf-8")
    tensors = {name: tensor.contiguous() for name, tensor in tower.state_dict().items()}
    if old_norm:
        names = {
            "parametrizations.weight.original0": "weight_g",
            "parametrizations.weight.original1": "weight_v",
        }
        for new, old in names.items():
            tensors = {name.replace(new, old): tensor for name, tensor in tensors.items()}
    if wrapped:
        tensors = {
            name.replace("layers.1.", "layers.1._checkpoint_wrapped_module."): tensor
            for name, tensor in tensors.items()
        }
    save_file(tensors, folder / "model.safetensors")


def _encoder(kind: Any, config: Any) -> nn.Module:
    config._attn_implementation = "eager"
    model: nn.Module = kind(config)
    return model


def _halved(frames: int) -> int:
    return (frames - 1) // 2 + 1
