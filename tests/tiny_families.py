"""A tiny random checkpoint of every family that transformers has, and its inputs as its processor makes them.

Each folder holds what a real one does: config, weights, front end and tokenizer. Windows are 2 s.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import transformers
from safetensors.torch import load_file, save_file

import chunk_checkpoints as chunks
from clip_checkpoints import SAVE, clip_inputs
from conftest import save_tiny_checkpoint, tiny_tokenizer
from fastadasp.export.model.families.qwen2_audio import encode_window
from parity.models import roughen
from tokenizer_checkpoints import save_vibevoice_asr, vibevoice_asr_inputs

RATE = 16000
WINDOW = 2 * RATE
TEXT = {
    "hidden_size": 64,
    "intermediate_size": 128,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 1024,
}
ENCODER = {
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "num_mel_bins": 128,
    "max_source_positions": 100,
}
TEMPLATE = (
    "{% for m in messages %}<|im_start|>{{ m['role'] }}\n{% if m['content'] is string %}{{ m['content'] }}"
    "{% else %}{% for part in m['content'] %}{% if part['type'] == 'audio' %}MARK{% else %}"
    "{{ part['text'] }}{% endif %}{% endfor %}{% endif %}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
"""MARK is where the audio stands."""
TEXT_AROUND = "<|im_start|>user\nMARKPROMPT<|im_end|>\n<|im_start|>assistant\n"
"""What it makes of a question."""

Inputs = Mapping[str, Any]


@dataclass(frozen=True)
class TinyFamily:
    """How one is written, and how transformers asks it."""

    save: Callable[[Path], None]
    inputs: Callable[[Any, Path, np.ndarray, str], Inputs]
    """The model, its folder, samples and the text of a request -> what `generate` takes."""

    in_windows: bool = True  # whether the encoder hears longer clips in parts


def extractor() -> Any:
    """The Whisper front end for windows of 2 s."""
    return transformers.WhisperFeatureExtractor(feature_size=128, chunk_length=2, return_attention_mask=True)


def save_model(name: str, config: Mapping[str, Any], folder: Path) -> None:
    """Random weights that all matter."""
    torch.manual_seed(0)
    settings = getattr(transformers, f"{name}Config")(**config)
    model = getattr(transformers, f"{name}ForConditionalGeneration")(settings).eval()
    roughen(model)
    model.save_pretrained(folder)


def save_voxtral(folder: Path) -> None:
    """With tekken.json alone, as a real folder."""
    control = {1: "<s>", 2: "</s>", 3: "[INST]", 4: "[/INST]", 11: "<pad>", 17: "[SYSTEM_PROMPT]"}
    control |= {18: "[/SYSTEM_PROMPT]", 24: "[AUDIO]", 25: "[BEGIN_AUDIO]", 34: "[TRANSCRIBE]"}
    config = {
        "pattern": r" ?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+|\s+",
        "default_vocab_size": 296,
        "default_num_special_tokens": 40,
        "version": "v7",
    }
    content = {
        "config": config,
        "vocab": [
            {"rank": i, "token_bytes": base64.b64encode(bytes([i])).decode(), "token_str": None}
            for i in range(256)
        ],
        "special_tokens": [
            {"rank": i, "token_str": control.get(i, f"<SPECIAL_{i}>"), "is_control": True} for i in range(40)
        ],
    }
    text = {"model_type": "llama", "vocab_size": 296, "head_dim": 16, "rope_theta": 1e8, **TEXT}
    text |= {"pad_token_id": 11, "bos_token_id": 1, "eos_token_id": 2}
    audio = {**ENCODER, "intermediate_size": 128}
    save_model("Voxtral", {"audio_config": audio, "text_config": text, "audio_token_id": 24}, folder)
    (folder / "tekken.json").write_text(json.dumps(content))
    extractor().save_pretrained(folder)


def voxtral_inputs(model: Any, folder: Path, samples: np.ndarray, prompt: str) -> Inputs:
    """As its processor, whose numbers are those of windows of 30 s, has mistral-common make them."""
    features = transformers.WhisperFeatureExtractor.from_pretrained(folder)(
        samples,
        sampling_rate=RATE,
        truncation=False,
        padding=True,
        pad_to_multiple_of=WINDOW,
        return_tensors="pt",
    )["input_features"]
    windows = features.reshape(128, -1, 200).transpose(0, 1)
    text = [40 + byte for byte in prompt.encode()]
    ids = [1, 3, 25, *[24] * (25 * len(windows)), *text, 4]
    return {
        "input_ids": torch.tensor([ids]),
        "attention_mask": torch.ones(1, len(ids), dtype=torch.long),
        "input_features": windows,
    }


def save_audioflamingo3(folder: Path) -> None:
    """With its processor, which keeps the template; at most 6 s are heard."""
    tokenizer = tiny_tokenizer()
    tokenizer.add_special_tokens({"additional_special_tokens": ["<sound>"]})
    text = {"model_type": "qwen2", "vocab_size": len(tokenizer), **TEXT}
    text |= {"pad_token_id": tokenizer.pad_token_id, "eos_token_id": tokenizer.eos_token_id}
    token = tokenizer.convert_tokens_to_ids("<sound>")
    audio = {**ENCODER, "intermediate_size": 64}
    save_model(
        "AudioFlamingo3", {"audio_config": audio, "text_config": text, "audio_token_id": token}, folder
    )
    transformers.AudioFlamingo3Processor(
        extractor(), tokenizer, chat_template=TEMPLATE.replace("MARK", "<sound>"), max_audio_len=6
    ).save_pretrained(folder)


def audioflamingo3_inputs(model: Any, folder: Path, samples: np.ndarray, prompt: str) -> Inputs:
    """Those of its processor."""
    processor = transformers.AudioFlamingo3Processor.from_pretrained(folder)
    heard = [{"type": "audio", "audio": "clip.wav"}, {"type": "text", "text": prompt}]
    text = processor.apply_chat_template(
        [{"role": "user", "content": heard}], add_generation_prompt=True, tokenize=False
    )
    found: Inputs = processor(text=[text], audio=[samples], sampling_rate=RATE)
    return {name: value for name, value in found.items() if name != "num_audio_tokens"}


def save_aero(folder: Path) -> None:
    """A Qwen2-Audio whose projector has another name."""
    save_tiny_checkpoint(folder)
    model = transformers.Qwen2AudioForConditionalGeneration.from_pretrained(folder)
    roughen(model)
    model.save_pretrained(folder)
    tensors = load_file(folder / "model.safetensors")
    save_file(
        {name.replace("multi_modal", "audio_modal"): each for name, each in tensors.items()},
        folder / "model.safetensors",
    )
    config = json.loads((folder / "config.json").read_text())
    config |= {"model_type": "aero", "architectures": ["AeroForConditionalGeneration"]}
    (folder / "config.json").write_text(json.dumps(config))
    (folder / "chat_template.jinja").write_text(TEMPLATE.replace("MARK", "<|AUDIO|>"))


def aero_inputs(model: Any, folder: Path, samples: np.ndarray, prompt: str) -> Inputs:
    """Windows of 2 s, each by itself, and a placeholder for each of their tokens."""
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    pieces = [samples[at : at + WINDOW] for at in range(0, len(samples), WINDOW)]
    features = extractor()(
        pieces, sampling_rate=RATE, padding="max_length", return_attention_mask=True, return_tensors="pt"
    )
    frames = features["attention_mask"].sum(-1)
    tokens = int((((frames - 1) // 2 + 1 - 2) // 2 + 1).sum())
    before, after = TEXT_AROUND.split("MARK")
    ids = [
        *tokenizer.encode(before, add_special_tokens=False),
        *[tokenizer.convert_tokens_to_ids("<|AUDIO|>")] * tokens,
        *tokenizer.encode(after.replace("PROMPT", prompt), add_special_tokens=False),
    ]
    return {
        "input_ids": torch.tensor([ids]),
        "attention_mask": torch.ones(1, len(ids), dtype=torch.long),
        "input_features": features["input_features"],
        "feature_attention_mask": features["attention_mask"],
    }


def embedded(model: Any, inputs: Inputs) -> Inputs:
    """The same inputs as rows. `generate` mixes the windows of a clip up where it has several beams."""
    heard = {name: value for name, value in inputs.items() if name not in ("input_ids", "attention_mask")}
    with torch.no_grad():
        rows = model.get_input_embeddings()(inputs["input_ids"]).clone()
        places = inputs["input_ids"] == model.config.audio_token_id
        rows[places] = _audio_rows(model, heard)
    return {"inputs_embeds": rows, "attention_mask": inputs["attention_mask"]}


def _audio_rows(model: Any, heard: Inputs) -> torch.Tensor:
    if hasattr(model, "get_audio_features"):
        rows: torch.Tensor = model.get_audio_features(**heard).pooler_output
        return rows
    windows = zip(heard["input_features"], heard["feature_attention_mask"], strict=True)
    return torch.cat(
        [torch.from_numpy(encode_window(model, mel.numpy(), int(mask.sum()))) for mel, mask in windows]
    )


TINY: Mapping[str, TinyFamily] = {
    "voxtral": TinyFamily(save_voxtral, voxtral_inputs),
    "audioflamingo3": TinyFamily(save_audioflamingo3, audioflamingo3_inputs),
    "aero": TinyFamily(save_aero, aero_inputs),
    "qwen2_5_omni": TinyFamily(chunks.save_omni, chunks.omni_inputs),
    "qwen3_asr": TinyFamily(chunks.save_qwen3_asr, chunks.qwen3_asr_inputs),
    "glmasr": TinyFamily(chunks.save_glmasr, chunks.glmasr_inputs),
    "vibevoice_asr": TinyFamily(save_vibevoice_asr, vibevoice_asr_inputs, in_windows=False),
    **{name: TinyFamily(save, clip_inputs, in_windows=False) for name, save in SAVE.items()},
}
"""By family."""
