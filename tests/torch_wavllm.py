"""WavLLM in torch, straight from its definition, and a recording of it in the form of `check --golden`.

The state dict of `TorchWavLLM` has the names of a converted checkpoint. LLaMA turns pairs of neighbours, the
strength of LoRA comes from the prompt, and each step runs the whole sequence again.
"""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import save_file
from torch import nn

from torch_tower import CONFIG as TOWER
from torch_tower import TorchTower, save_tower

TEXT = {
    "model_type": "llama",
    "hidden_size": 32,
    "num_hidden_layers": 3,
    "num_attention_heads": 2,
    "num_key_value_heads": 2,
    "head_dim": 16,
    "intermediate_size": 48,
    "vocab_size": 400,
    "rms_norm_eps": 1e-6,
    "rope_theta": 10000.0,
    "rope_interleaved": True,
    "max_position_embeddings": 300,
    "hidden_act": "silu",
    "attention_bias": False,
    "tie_word_embeddings": False,
}
SEVEN_BILLION: dict[str, dict[str, Any]] = {
    "whisper_config": {
        "d_model": 1280,
        "encoder_layers": 32,
        "encoder_attention_heads": 20,
        "encoder_ffn_dim": 5120,
        "num_mel_bins": 80,
        "max_source_positions": 1500,
    },
    "wavlm_config": {
        "hidden_size": 768,
        "num_hidden_layers": 12,
        "num_attention_heads": 12,
        "intermediate_size": 3072,
        "conv_dim": [512] * 7,
        "num_conv_pos_embeddings": 128,
        "num_conv_pos_embedding_groups": 16,
        "num_buckets": 320,
        "max_bucket_distance": 800,
    },
    "subsample": {
        "whisper_mid_channels": 1280,
        "whisper_out_channels": 1024,
        "wavlm_mid_channels": 512,
        "wavlm_out_channels": 1024,
    },
    "adapter": {"whisper_hidden_size": 512, "wavlm_hidden_size": 512},
    "projector": {"whisper_dim": 2048, "wavlm_dim": 2048},
    "text_config": {
        "hidden_size": 4096,
        "num_hidden_layers": 32,
        "num_attention_heads": 32,
        "num_key_value_heads": 32,
        "head_dim": 128,
        "intermediate_size": 11008,
        "vocab_size": 32000,
    },
    "lora_config": {"r": 32},
    "prompt_adapter": {"hidden_size": 1024},
}
"""Sizes of the released model."""
SYSTEM = "to the user"
CONFIG: dict[str, Any] = {
    **TOWER,
    "chunk_samples": 320 * TOWER["whisper_config"]["max_source_positions"],
    "bos_token_id": 1,
    "eos_token_id": 2,
    "pad_token_id": 0,
    "audio_rows_between": ["left", "right"],
    "text_config": TEXT,
    "lora_config": {"r": 6, "target_modules": ["wq", "wk", "wv", "wo"], "scaling": "prompt_adapter"},
    "prompt_adapter": {"hidden_size": 12, "activation": "gelu", "clamp_min": 0.0, "clamp_max": 3.0},
    "prompt_template": {
        "left_text": f"[{SYSTEM}] ",
        "left_add_bos": True,
        "right_text": " the {prompt}!",
        "right_first_token_replaced_by_bos": True,
        "adapter_text": '"{prompt}"',
        "system_text": SYSTEM,
    },
    "generation": {
        "do_sample": True,
        "temperature": 0.5,
        "num_beams": 1,
        "max_new_tokens_including_right_prompt": 512,
        "suppress_tokens": [0],
        "suppress_eos_at_first_token": True,
    },
}
PROMPTS = {
    "0": {"left_ids": [1, 50, 61, 72], "right_ids": [80, 91, 102, 13], "adapter_ids": [7, 91, 102, 9]},
    "1": {"left_ids": [1, 50, 61, 72], "right_ids": [80, 144, 15, 16, 17], "adapter_ids": [144, 15, 16]},
}
WAVES = {"a": 9000, "b": 20161, "c": 45000}  # samples: a part of a window, a sample of a second, three
TOKENS = 5
BANNED, FIRST_BANNED = [0], [2]


def seven_billion_shapes() -> dict[str, tuple[int, ...]]:
    """Of every tensor of the released model, by the names of a converted checkpoint; nothing is allocated."""
    config = copy.deepcopy(CONFIG)
    for section, values in SEVEN_BILLION.items():
        config[section].update(values)
    with torch.device("meta"):
        tower, llama = TorchTower({**config, "chunk_samples": 480000}), Llama(config)
    own = {f"gpt_model.model_llama.{name}": each for name, each in llama.state_dict().items()}
    return {name: tuple(each.shape) for name, each in {**tower.state_dict(), **own}.items()}


class TorchWavLLM(nn.Module):
    """Tower and decoder."""

    def __init__(self, config: dict[str, Any] = CONFIG, seed: int = 0) -> None:
        super().__init__()
        torch.manual_seed(seed)
        self.config = config
        self.tower, self.llama = TorchTower(config), Llama(config)
        for name, weight in self.named_parameters():
            _draw(name, weight.data)

    def tensors(self) -> dict[str, torch.Tensor]:
        """By the names of a converted checkpoint."""
        llama = {f"gpt_model.model_llama.{name}": each for name, each in self.llama.state_dict().items()}
        return {**self.tower.state_dict(), **llama}

    def save(self, folder: Path, *, old_norm: bool = False) -> None:
        """Write config.json and model.safetensors."""
        save_tower(folder, self.tower, old_norm=old_norm)
        path = folder / "model.safetensors"
        from safetensors.torch import load_file

        llama = {f"gpt_model.model_llama.{name}": each for name, each in self.llama.state_dict().items()}
        save_file({**load_file(path), **llama}, path)
        (folder / "config.json").write_text(json.dumps(self.config, indent=1), "utf-8")


def _draw(name: str, weight: torch.Tensor) -> None:
    """Every part counts: attention is sharp, and a third of the strengths meets a bound."""
    if "gru_rel_pos_const" in name or weight.ndim == 1:
        weight.add_(torch.randn_like(weight), alpha=0.3)
    elif name.endswith("rel_attn_embed.weight"):
        weight.normal_()
    elif name.endswith("scale_fc_2.weight"):
        weight.normal_(0, 0.9)
    elif name.endswith("tok_embeddings.weight"):
        weight.normal_(0, 0.02)  # so small that the epsilon of the first norm shows
    elif name.endswith("_lora_B") or name.endswith("_lora_A"):
        weight.normal_(0, 0.2)
    else:
        weight.normal_(0, (1.2 if "attention" in name or "feed" in name else 1) * weight[0].numel() ** -0.5)


class Llama(nn.Module):
    """LLaMA in Meta's layout with a prompt adapter."""

    def __init__(self, config: dict[str, Any]) -> None:
        super().__init__()
        text, width = config["text_config"], config["prompt_adapter"]["hidden_size"]
        d, vocabulary = text["hidden_size"], text["vocab_size"]
        self.tok_embeddings, self.output = nn.Embedding(vocabulary, d), nn.Linear(d, vocabulary, bias=False)
        layers = [Layer(text, config["lora_config"]["r"]) for _ in range(text["num_hidden_layers"])]
        self.layers, self.norm = nn.ModuleList(layers), Norm(d)
        self.scale_fc_1, self.scale_fc_2 = nn.Linear(d, width), nn.Linear(width, d)
        self.scale_weight_attention = nn.Linear(d, 1)

    @torch.no_grad()
    def strength(self, ids: list[int]) -> torch.Tensor:
        """What scales LoRA under a prompt: (hidden_size,)."""
        x = self.tok_embeddings(torch.tensor(ids))
        for layer in self.layers:
            x = layer(x, None)
        values = self.scale_fc_2(nn.functional.gelu(self.scale_fc_1(x)))
        shares = self.scale_weight_attention(values).softmax(0)
        return (shares * values).sum(0).relu().clamp(max=3)

    @torch.no_grad()
    def logits(
        self, left: list[int], rows: torch.Tensor, right: list[int], strength: torch.Tensor
    ) -> torch.Tensor:
        """Of every row of a sequence: (rows, vocabulary)."""
        x = torch.cat(
            [self.tok_embeddings(torch.tensor(left)), rows, self.tok_embeddings(torch.tensor(right))]
        )
        for layer in self.layers:
            x = layer(x, strength)
        return self.output(self.norm(x))


class Norm(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(width))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x * (x.square().mean(-1, keepdim=True) + 1e-6).rsqrt() * self.weight


class Layer(nn.Module):
    def __init__(self, text: dict[str, Any], rank: int) -> None:
        super().__init__()
        d, m = text["hidden_size"], text["intermediate_size"]
        self.attention, self.feed_forward = Attention(text, rank), nn.Module()
        for name, shape in {"w1": (d, m), "w3": (d, m), "w2": (m, d)}.items():
            setattr(self.feed_forward, name, nn.Linear(*shape, bias=False))
        self.attention_norm, self.ffn_norm = Norm(d), Norm(d)

    def forward(self, x: torch.Tensor, strength: torch.Tensor | None) -> torch.Tensor:
        x = x + self.attention(self.attention_norm(x), strength)
        y, mlp = self.ffn_norm(x), self.feed_forward
        return x + mlp.w2(nn.functional.silu(mlp.w1(y)) * mlp.w3(y))


class Attention(nn.Module):
    def __init__(self, text: dict[str, Any], rank: int) -> None:
        super().__init__()
        self.heads, d = text["num_attention_heads"], text["hidden_size"]
        for name in ("wq", "wk", "wv", "wo"):
            setattr(self, name, nn.Linear(d, d, bias=False))
            setattr(self, f"{name}_lora_A", nn.Parameter(torch.zeros(d, rank)))
            setattr(self, f"{name}_lora_B", nn.Parameter(torch.zeros(rank, d)))

    def project(self, name: str, x: torch.Tensor, strength: torch.Tensor | None) -> torch.Tensor:
        y = getattr(self, name)(x)
        if strength is None:
            return y
        return y + (x @ getattr(self, f"{name}_lora_A") @ getattr(self, f"{name}_lora_B")) * strength

    def forward(self, x: torch.Tensor, strength: torch.Tensor | None) -> torch.Tensor:
        q, k, v = (
            self.project(name, x, strength).unflatten(1, (self.heads, -1)).transpose(0, 1)
            for name in ("wq", "wk", "wv")
        )
        later = torch.full((len(x), len(x)), -torch.inf, dtype=x.dtype).triu(1)
        shares = (turned(q) @ turned(k).mT * q.shape[-1] ** -0.5 + later).softmax(-1)
        return self.project("wo", (shares @ v).transpose(0, 1).flatten(1), strength)


def turned(x: torch.Tensor) -> torch.Tensor:
    """Heads (heads, rows, head_dim), row i turned by its position: neighbours are complex numbers."""
    frequencies = 10000.0 ** (-torch.arange(0, x.shape[-1], 2, dtype=torch.float64) / x.shape[-1])
    angles = torch.outer(torch.arange(x.shape[1], dtype=torch.float64), frequencies)
    numbers = torch.view_as_complex(x.double().unflatten(-1, (-1, 2)).contiguous())
    return torch.view_as_real(numbers * torch.polar(torch.ones_like(angles), angles)).flatten(-2).to(x.dtype)


def write_recording(folder: Path, seed: int = 0, *, old_norm: bool = False) -> None:
    """A random model, and what it does in float64."""
    model = TorchWavLLM(seed=seed)
    model.save(folder, old_norm=old_norm)
    model.double()
    rng = np.random.default_rng(seed)
    waves = {name: (0.1 * rng.standard_normal(size)).astype(np.float32) for name, size in WAVES.items()}
    rows = {name: model.tower(wave) for name, wave in waves.items()}
    strengths = {name: model.llama.strength(prompt["adapter_ids"]) for name, prompt in PROMPTS.items()}
    arrays = {f"wave/{name}": torch.from_numpy(wave) for name, wave in waves.items()}
    arrays |= {f"f64/audio_embeds/{name}": each for name, each in rows.items()}
    arrays |= {f"f64/scale/{name}": each for name, each in strengths.items()}
    cases: dict[str, Any] = {}
    for wave in WAVES:
        for name, prompt in PROMPTS.items():
            case = cases[f"{wave}{name}"] = {"wave": wave, "prompt": int(name)}
            for variant, first in {"gen": prompt["left_ids"][0], "full": prompt["right_ids"][0]}.items():
                right = [first, *prompt["right_ids"][1:]]
                tokens, logits = _greedy(model.llama, prompt["left_ids"], rows[wave], right, strengths[name])
                before = len(right) - 1 if variant == "gen" else 0
                case[variant] = {"tokens": tokens}
                arrays[f"f64/logits_{variant}_tail/{wave}{name}"] = logits[len(right) - 1 - before :]
    save_file({name: each.contiguous() for name, each in arrays.items()}, folder / "golden.safetensors")
    content = {"waves": {name: {} for name in WAVES}, "prompts": PROMPTS, "cases": cases}
    (folder / "golden.json").write_text(json.dumps(content, indent=1), "utf-8")


def _greedy(
    llama: Llama, left: list[int], rows: torch.Tensor, right: list[int], strength: torch.Tensor
) -> tuple[list[int], torch.Tensor]:
    """Tokens, and the logits of the rows after the audio and of each token."""
    tokens: list[int] = []
    for step in range(TOKENS):
        last = llama.logits(left, rows, right + tokens, strength)[-1]
        last[BANNED + (FIRST_BANNED if step == 0 else [])] = -torch.inf
        tokens.append(int(last.argmax()))
    assert 2 not in tokens, "an answer that ends early shows less"
    return tokens, llama.logits(left, rows, right + tokens, strength)[len(left) + len(rows) :]
